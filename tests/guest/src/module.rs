// SPDX-License-Identifier: MIT OR Apache-2.0
//! Loading, unloading, the off switch, the device's mode.

use std::ffi::{CString, OsString};
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::Path;

use nix::errno::Errno;

use crate::check::{Check, Ret, skip};
use crate::kit::child::{in_child, spawn};
use crate::kit::engine::{DEVICE, Engine, try_open};
use crate::kit::limits::{NOBODY, drop_rights, need_root};
use crate::kit::mode::Mode;
use crate::kit::{process, rounds, sys, until};
use crate::life::Busy;

tests! { "module":
    remove_busy => "rmmod fails (EWOULDBLOCK) while an engine is open, mapped or in use";
    remove_and_load => "rmmod of the unused module works, insmod brings it back";
    remove_after_kill => "rmmod works as early as possible after kill -9 with calls in flight";
    off_switch => "parameter enable: 2 lets nobody open, 1 only CAP_SYS_ADMIN, 0 everybody";
    off_switch_values => "parameter enable: other values than 0, 1, 2 are refused, nothing changes";
    off_switch_while_open => "the off switch does not touch engines that are open";
    device_group => "device mode 0660: only root and the group may open";
}

const PARAMETERS: &str = "/sys/module/flexsc/parameters";

fn remove() -> Result<u64, Errno> {
    sys::result(plain!(SYS_delete_module, c"flexsc", libc::O_NONBLOCK))
}

/// The file and parameters with which to load the module again as it is loaded now.
pub struct Module {
    path: OsString,
    params: CString,
}

impl Module {
    pub fn get() -> Check<Module> {
        need_root()?;
        let path = std::env::var_os("KT_MODULE").unwrap_or("/lib/modules/flexsc.ko".into());
        if !Path::new(&path).exists() {
            return skip(format!("needs the module's file ({path:?})"));
        }
        if process::refcnt() != Some(0) {
            return skip("needs the module for itself");
        }
        let mut params = String::new();
        for param in fs::read_dir(PARAMETERS).into_iter().flatten().flatten() {
            let name = param.file_name();
            let value = fs::read_to_string(param.path()).unwrap_or_default();
            params += &format!("{}={} ", name.to_string_lossy(), value.trim());
        }
        let params = CString::new(params).expect("no zero byte");
        Ok(Module { path, params })
    }

    /// Loads the module, and returns the result of finit_module(2).
    fn try_load(&self) -> Check<i64> {
        let path = CString::new(self.path.as_encoded_bytes()).expect("no zero byte");
        let file = ok!(
            "open the module's file",
            sys::open(&path, libc::O_RDONLY, 0)
        );
        Ok(plain!(SYS_finit_module, &file, self.params.as_c_str(), 0))
    }

    pub fn load(&self) -> Check {
        let ret = self.try_load()?;
        check!(
            ret == 0,
            "finit_module with {:?}: {}",
            self.params,
            Ret(ret)
        );
        Ok(())
    }
}

impl Drop for Module {
    fn drop(&mut self) {
        if !Path::new(PARAMETERS).exists() {
            let _ = self.load();
        }
    }
}

fn remove_busy() -> Check {
    let _module = Module::get()?;
    let busy_error = Err(Errno::EWOULDBLOCK);
    let engine = Engine::open()?;
    check_eq!("rmmod while open", remove(), busy_error);
    let ring = engine.ring(1)?;
    drop(engine);
    check_eq!("rmmod while mapped", remove(), busy_error);
    drop(ring);
    process::until_refcnt(Some(0))?;
    for mode in Mode::ALL {
        let mut busy = Busy::start(mode)?;
        for _ in 0..10 {
            check_eq!("rmmod with calls in flight", remove(), busy_error);
            busy.call()?;
        }
        busy.end()?;
        process::until_refcnt(Some(0))?;
    }
    Ok(())
}

fn remove_and_load() -> Check {
    let module = Module::get()?;
    for _ in 0..rounds(3) {
        check_eq!("rmmod", remove(), Ok(0));
        check_eq!(
            "open without the module",
            try_open().map(|_| ()),
            Err(Errno::ENOENT)
        );
        check_eq!("second rmmod", remove(), Err(Errno::ENOENT));
        module.load()?;
        let (engine, mut ring) = Mode::Inline.start(1)?;
        check_ret!(
            "getpid",
            ring.result(call!(SYS_getpid))?,
            std::process::id()
        );
        drop(ring);
        drop(engine);
        process::until_refcnt(Some(0))?;
    }
    Ok(())
}

fn remove_after_kill() -> Check {
    let module = Module::get()?;
    for mode in Mode::ALL {
        let mut child = spawn(|link| {
            let mut busy = Busy::start(mode)?;
            busy.call()?;
            link.ready();
            loop {
                busy.call()?;
            }
        })?;
        child.wait_ready()?;
        check_eq!(
            "rmmod with calls in flight",
            remove(),
            Err(Errno::EWOULDBLOCK)
        );
        child.kill()?;
        // Succeeds at the very moment when the last thread leaves the module.
        until("rmmod", || remove() == Ok(0))?;
        module.load()?;
    }
    Ok(())
}

/// The parameter `enable`, restored when this is dropped.
struct Enable(String);

impl Enable {
    fn get() -> Check<Enable> {
        need_root()?;
        let old = ok!(
            "parameter",
            fs::read_to_string(format!("{PARAMETERS}/enable"))
        );
        Ok(Enable(old))
    }

    fn set(&self, value: u32) -> Check {
        let path = format!("{PARAMETERS}/enable");
        ok!("writing the parameter", fs::write(path, value.to_string()));
        Ok(())
    }
}

impl Drop for Enable {
    fn drop(&mut self) {
        let _ = fs::write(format!("{PARAMETERS}/enable"), &self.0);
    }
}

fn open_as_nobody() -> Check<Result<(), Errno>> {
    let outcome = crate::kit::memory::Shared::<std::sync::atomic::AtomicI32>::new()?;
    in_child(|| {
        ok!("dropping rights", drop_rights());
        let error = try_open().err().map_or(0, |error| error as i32);
        outcome.store(error, std::sync::atomic::Ordering::Relaxed);
        Ok(())
    })?;
    match outcome.load(std::sync::atomic::Ordering::Relaxed) {
        0 => Ok(Ok(())),
        error => Ok(Err(Errno::from_raw(error))),
    }
}

fn open() -> Result<(), Errno> {
    try_open().map(|_| ())
}

fn device_mode() -> Check<DeviceMode> {
    let path = DEVICE.to_str().expect("ASCII");
    let old = ok!("stat of the device", fs::metadata(path));
    Ok(DeviceMode { path, old })
}

/// The device's mode and owner, restored when this is dropped.
struct DeviceMode {
    path: &'static str,
    old: fs::Metadata,
}

impl DeviceMode {
    fn set(&self, mode: u32, group: u32) -> Check {
        ok!("chown", chown(self.path, Some(0), Some(group)));
        ok!(
            "chmod",
            fs::set_permissions(self.path, fs::Permissions::from_mode(mode))
        );
        Ok(())
    }
}

impl Drop for DeviceMode {
    fn drop(&mut self) {
        let _ = chown(self.path, Some(self.old.uid()), Some(self.old.gid()));
        let _ = fs::set_permissions(self.path, self.old.permissions());
    }
}

fn off_switch() -> Check {
    let enable = Enable::get()?;
    let device = device_mode()?;
    device.set(0o666, 0)?;
    enable.set(2)?;
    check_eq!("open by root, nobody may", open(), Err(Errno::EPERM));
    check_eq!(
        "open by nobody, nobody may",
        open_as_nobody()?,
        Err(Errno::EPERM)
    );
    enable.set(1)?;
    check_eq!("open by root, only root may", open(), Ok(()));
    check_eq!(
        "open by nobody, only root may",
        open_as_nobody()?,
        Err(Errno::EPERM)
    );
    enable.set(0)?;
    check_eq!("open by root, everybody may", open(), Ok(()));
    check_eq!("open by nobody, everybody may", open_as_nobody()?, Ok(()));
    Ok(())
}

fn off_switch_values() -> Check {
    let enable = Enable::get()?;
    let path = format!("{PARAMETERS}/enable");
    enable.set(1)?;
    for value in ["3", "7", "-1", "4294967296", "4294967297", "yes", ""] {
        let error = fs::write(&path, format!("{value}\n")).err();
        let error = error.and_then(|error| error.raw_os_error());
        let wanted = [Some(libc::EINVAL), Some(libc::ERANGE)];
        check!(wanted.contains(&error), "{value:?}: {error:?}");
        let now = ok!("parameter", fs::read_to_string(&path));
        check_eq!(format!("after {value:?}"), now.trim(), "1");
    }
    enable.set(2)?;
    check_eq!("open, nobody may", open(), Err(Errno::EPERM));
    let module = Module::get()?;
    check_eq!("rmmod", remove(), Ok(0));
    let bad = Module {
        path: module.path.clone(),
        params: c"enable=7".into(),
    };
    check_ret!("insmod with enable=7", bad.try_load()?, -libc::EINVAL);
    module.load()
}

fn off_switch_while_open() -> Check {
    let enable = Enable::get()?;
    let mut busy = Busy::start(Mode::Inline)?;
    enable.set(2)?;
    check_eq!("open", open(), Err(Errno::EPERM));
    busy.call()?;
    let mut ring = busy.engine.ring(1)?;
    check_ret!(
        "getpid",
        ring.result(call!(SYS_getpid))?,
        std::process::id()
    );
    busy.end()
}

fn device_group() -> Check {
    let _enable = Enable::get()?;
    let device = device_mode()?;
    device.set(0o660, 4242)?;
    check_eq!("open by root", open(), Ok(()));
    check_eq!("open by nobody", open_as_nobody()?, Err(Errno::EACCES));
    device.set(0o660, NOBODY)?;
    check_eq!("open by a member of the group", open_as_nobody()?, Ok(()));
    device.set(0o600, NOBODY)?;
    check_eq!(
        "open by a member, mode 0600",
        open_as_nobody()?,
        Err(Errno::EACCES)
    );
    Ok(())
}
