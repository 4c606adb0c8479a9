// SPDX-License-Identifier: MIT OR Apache-2.0
//! The identity of a thread changes after the registration: entries follow it, or are refused.

use std::ffi::CStr;
use std::fs;
use std::os::unix::fs::MetadataExt;

use super::{Path, on_each_path, on_paths};
use crate::check::{Check, Ret};
use crate::kit::abi::{REASON_CHAIN, REASON_CONTEXT, REASON_NONE};
use crate::kit::cgroup::Cgroup;
use crate::kit::files::TempDir;
use crate::kit::limits::{NOBODY, need_root, set_limit, slow_kernel};
use crate::kit::mode::Mode;
use crate::kit::ring::{Call, Done, Ring};
use crate::kit::sys;

tests! { "guard":
    groups_followed => "setgroups, setresgid and setfsgid after REGISTER hold for entries";
    capabilities_followed => "a capability dropped after REGISTER is gone for entries";
    secure_bits_followed => "securebits set after REGISTER decide which capabilities setuid leaves";
    umask_and_limits_followed => "present umask, RLIMIT_FSIZE and RLIMIT_NOFILE hold for entries";
    root_followed => "chroot and chdir after REGISTER hold for entries";
    cgroup_followed => "after a move to another cgroup entries run in that cgroup";
    cgroup_alone => "an owner that is moved alone to a cgroup: its own answer, or CONTEXT";
    unshared => "unshare of any table or namespace: the owner's own answer, or CONTEXT";
}

fn plain(call: Call) -> i64 {
    sys::syscall(call.nr.into(), call.args)
}

fn first(path: Path, ring: &mut Ring, call: Call) -> Check<i64> {
    let done = path.run(ring, call)?;
    check_eq!(
        format!("reason of call {}", call.nr),
        done[0].reason,
        REASON_NONE
    );
    Ok(done[0].result)
}

/// An engine whose threads have the old identity.
fn start(path: Path) -> Check<(crate::kit::engine::Engine, Ring)> {
    need_root()?;
    let (engine, mut ring) = path.start()?;
    ring.run_all(&[call!(SYS_getuid).asynchronous(); 4])?;
    Ok((engine, ring))
}

fn groups_followed() -> Check {
    let dir = TempDir::new()?;
    on_each_path(|path| {
        let (_engine, mut ring) = start(path)?;
        for group in [100u32, 200, 300] {
            let groups = [group, group + 1];
            check_ret!("setgroups", plain!(SYS_setgroups, 2, groups.as_ptr()), 0);
            check_ret!("setresgid", plain!(SYS_setresgid, group, group + 2, 0), 0);
            let mut got = [0u32; 8];
            let count = first(path, &mut ring, call!(SYS_getgroups, 8, got.as_mut_ptr()))?;
            check_ret!("getgroups", count, 2);
            check_eq!("groups", &got[..2], &groups);
            check_ret!("getgid", first(path, &mut ring, call!(SYS_getgid))?, group);
            check_ret!(
                "getegid",
                first(path, &mut ring, call!(SYS_getegid))?,
                group + 2
            );
            plain!(SYS_setfsgid, group + 1);
            let name = dir.join(format!("{path:?} {group}"));
            let flags = libc::O_CREAT | libc::O_WRONLY;
            let fd = first(
                path,
                &mut ring,
                call!(SYS_open, name.as_c_str(), flags, 0o600),
            )?;
            check!(fd >= 0, "open: {}", Ret(fd));
            drop(sys::own(fd as i32));
            let file = ok!("stat", fs::metadata(name.to_str().unwrap_or_default()));
            check_eq!("group of the file", file.gid(), group + 1);
        }
        Ok(())
    })
}

/// A file of another user with mode 0, which takes CAP_DAC_OVERRIDE to open.
fn closed_file(dir: &TempDir) -> Check<std::ffi::CString> {
    let name = dir.join("closed");
    let path = name.to_str().unwrap_or_default();
    ok!("write", fs::write(path, "x"));
    ok!(
        "chown",
        std::os::unix::fs::chown(path, Some(NOBODY), Some(NOBODY))
    );
    let none = std::os::unix::fs::PermissionsExt::from_mode(0o0);
    ok!("chmod", fs::set_permissions(path, none));
    Ok(name)
}

fn open(name: &CStr) -> Call {
    call!(SYS_open, name, libc::O_RDWR | libc::O_CLOEXEC)
}

fn check_open(path: Path, ring: &mut Ring, name: &CStr, may: bool) -> Check {
    for _ in 0..4 {
        for done in path.run(ring, open(name))? {
            if done.result >= 0 {
                check!(may, "a file was opened without the capability");
                drop(sys::own(done.result as i32));
            } else if done.reason != REASON_CHAIN {
                check!(!may, "open: {}", Ret(done.result));
                check_ret!("open", done.result, -libc::EACCES);
            }
        }
    }
    Ok(())
}

fn capabilities_followed() -> Check {
    let dir = TempDir::new()?;
    let name = closed_file(&dir)?;
    on_each_path(|path| {
        let (_engine, mut ring) = start(path)?;
        check_open(path, &mut ring, &name, true)?;
        // CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH
        let header = [0x2008_0522u32, 0];
        let mut sets = [0u32; 6];
        plain!(SYS_capget, header.as_ptr(), sets.as_mut_ptr());
        let all = sets;
        sets[0] &= !6;
        check_ret!(
            "capset",
            plain!(SYS_capset, header.as_ptr(), sets.as_ptr()),
            0
        );
        check_open(path, &mut ring, &name, false)?;
        let mut got = [0u32; 6];
        let get = call!(SYS_capget, header.as_ptr(), got.as_mut_ptr());
        check_ret!("capget", first(path, &mut ring, get)?, 0);
        check_eq!("sets", got, sets);
        // Permitted capabilities can be made effective again.
        check_ret!(
            "capset",
            plain!(SYS_capset, header.as_ptr(), all.as_ptr()),
            0
        );
        check_open(path, &mut ring, &name, true)
    })
}

fn secure_bits_followed() -> Check {
    let dir = TempDir::new()?;
    let name = closed_file(&dir)?;
    on_each_path(|path| {
        let (_engine, mut ring) = start(path)?;
        // SECBIT_NO_SETUID_FIXUP: another user keeps the capabilities.
        check_ret!(
            "securebits",
            plain!(SYS_prctl, libc::PR_SET_SECUREBITS, 4),
            0
        );
        check_ret!("setresuid", plain!(SYS_setresuid, 77, 77, 0), 0);
        check_ret!("getuid", first(path, &mut ring, call!(SYS_getuid))?, 77);
        check_open(path, &mut ring, &name, true)?;
        check_ret!(
            "securebits",
            plain!(SYS_prctl, libc::PR_SET_SECUREBITS, 0),
            0
        );
        check_ret!("setresuid", plain!(SYS_setresuid, 0, 0, 0), 0);
        check_ret!("setresuid", plain!(SYS_setresuid, 77, 77, 0), 0);
        check_open(path, &mut ring, &name, false)
    })
}

fn umask_and_limits_followed() -> Check {
    let dir = TempDir::new()?;
    on_each_path(|path| {
        let (_engine, mut ring) = start(path)?;
        for mask in [0o077u32, 0o002, 0o027] {
            plain!(SYS_umask, mask);
            let name = dir.join(format!("{path:?} {mask:o}"));
            let made = first(path, &mut ring, call!(SYS_mkdir, name.as_c_str(), 0o777))?;
            check_ret!("mkdir", made, 0);
            let file = ok!("stat", fs::metadata(name.to_str().unwrap_or_default()));
            check_eq!("mode", file.mode() & 0o777, 0o777 & !mask);
        }
        ok!("limit", set_limit(libc::RLIMIT_FSIZE, 100));
        crate::kit::signals::count_signal(libc::SIGXFSZ, 0)?;
        let file = crate::kit::files::memory_file()?;
        let written = first(
            path,
            &mut ring,
            call!(SYS_pwrite64, &file, [0u8; 8].as_ptr(), 8, 200),
        )?;
        check_ret!("write beyond RLIMIT_FSIZE", written, -libc::EFBIG);
        check_eq!("SIGXFSZ", crate::kit::signals::counted() >= 1, true);
        let last = plain!(SYS_dup, &file);
        ok!("limit", set_limit(libc::RLIMIT_NOFILE, last as u64 + 1));
        let result = first(path, &mut ring, call!(SYS_dup, &file))?;
        check_ret!("dup at RLIMIT_NOFILE", result, -libc::EMFILE);
        Ok(())
    })
}

fn root_followed() -> Check {
    let dir = TempDir::new()?;
    ok!("mkdir", fs::create_dir(dir.path().join("inner")));
    ok!("write", fs::write(dir.path().join("inner/here"), "x"));
    let inner = dir.join("inner");
    on_each_path(|path| {
        let (_engine, mut ring) = start(path)?;
        let (relative, absolute) = (c"here", c"/here");
        check_ret!("chdir", plain!(SYS_chdir, inner.as_c_str()), 0);
        check_ret!(
            "access",
            first(path, &mut ring, call!(SYS_access, relative, 0))?,
            0
        );
        let access = call!(SYS_access, absolute, 0);
        check_ret!("access", first(path, &mut ring, access)?, -libc::ENOENT);
        check_ret!("chroot", plain!(SYS_chroot, inner.as_c_str()), 0);
        check_ret!("access", first(path, &mut ring, access)?, 0);
        let out = call!(SYS_access, c"/../tmp", 0);
        check_ret!(
            "access outside",
            first(path, &mut ring, out)?,
            -libc::ENOENT
        );
        Ok(())
    })
}

fn cgroup_alone() -> Check {
    need_root()?;
    let group = Cgroup::new(None)?;
    group.write("cgroup.type", "threaded")?;
    on_each_path(|path| {
        let (_engine, mut ring) = start(path)?;
        // The owner is in the same group as its threads, alone in another one, and back again.
        for alone in [false, true, false, true] {
            let file = if alone {
                group.file("cgroup.threads")
            } else {
                c"/sys/fs/cgroup/cgroup.threads".to_owned()
            };
            let file = ok!("cgroup.threads", sys::open(&file, libc::O_WRONLY, 0));
            check_ret!("move", plain!(SYS_write, &file, b"0".as_ptr(), 1), 1);
            for done in path.run(&mut ring, call!(SYS_getppid))? {
                let answered = done.reason == REASON_NONE;
                let good = match path {
                    Path::Mode(Mode::Inline) | Path::Chain(Mode::Inline) => answered,
                    _ if alone => [REASON_CONTEXT, REASON_CHAIN].contains(&done.reason),
                    _ => answered,
                };
                check!(good, "alone: {alone}, reason {}", done.reason);
            }
        }
        Ok(())
    })
}

fn cgroup_followed() -> Check {
    let group = Cgroup::new(None)?;
    on_each_path(|path| {
        let (_engine, mut ring) = start(path)?;
        group.enter()?;
        let own = ok!("cgroup", fs::read_to_string("/proc/self/cgroup"));
        // The file shows the cgroup of the thread that executes the call.
        let name = c"/proc/thread-self/cgroup";
        let fd = first(path, &mut ring, call!(SYS_open, name, libc::O_RDONLY))?;
        check!(fd >= 0, "open: {}", Ret(fd));
        let mut bytes = [0u8; 256];
        let len = plain!(SYS_read, fd, bytes.as_mut_ptr(), bytes.len());
        check!(len > 0, "read: {}", Ret(len));
        check_eq!(
            "cgroup",
            String::from_utf8_lossy(&bytes[..len as usize]),
            own
        );
        Ok(())
    })
}

/// Checks that a call is refused for the right reason, or has the answer of a plain call.
fn check_like_owner(done: &[Done], want: i64) -> Check<bool> {
    let first = done[0];
    if first.reason == REASON_CONTEXT {
        check_ret!("refused call", first.result, -libc::EOPNOTSUPP);
        return Ok(false);
    }
    check_eq!("reason", first.reason, REASON_NONE);
    check_ret!("call", first.result, want);
    Ok(true)
}

fn unshared() -> Check {
    let spaces = [
        ("files", libc::CLONE_FILES),
        ("fs", libc::CLONE_FS),
        ("semaphores", libc::CLONE_SYSVSEM),
        ("names", libc::CLONE_NEWUTS),
        ("mounts", libc::CLONE_NEWNS),
        ("ipc", libc::CLONE_NEWIPC),
        ("network", libc::CLONE_NEWNET),
        ("cgroups", libc::CLONE_NEWCGROUP),
        ("processes", libc::CLONE_NEWPID),
    ];
    for (number, (name, flag)) in spaces.into_iter().enumerate() {
        // On the debug kernel each path has half of the spaces, in each run the same.
        let wanted = |place: usize| !slow_kernel() || (place + number) % 2 == 0;
        on_paths(wanted, |path| {
            let (_engine, mut ring) = start(path)?;
            check_ret!("unshare", plain!(SYS_unshare, flag), 0);
            // Changes tables that only the owner has from now on.
            if flag == libc::CLONE_NEWUTS {
                plain!(SYS_sethostname, c"unshared", 8);
            }
            plain!(SYS_chdir, c"/dev");
            let fd = plain!(SYS_open, c"/dev/zero", libc::O_RDONLY);
            let mut names = [0u8; 390];
            plain!(SYS_uname, names.as_mut_ptr());
            for _ in 0..if slow_kernel() { 2 } else { 5 } {
                let mut got = [0u8; 390];
                let done = path.run(&mut ring, call!(SYS_uname, got.as_mut_ptr()))?;
                if check_like_owner(&done, 0)? {
                    check!(got == names, "uname gives another name");
                }
                let here = call!(SYS_access, c"null", 0);
                check_like_owner(&path.run(&mut ring, here)?, plain(here))?;
                let flags = call!(SYS_fcntl, fd, libc::F_GETFD);
                check_like_owner(&path.run(&mut ring, flags)?, plain(flags))?;
                let network = call!(SYS_access, c"/proc/thread-self/net/unix", 0);
                check_like_owner(&path.run(&mut ring, network)?, plain(network))?;
            }
            Ok(())
        })
        .map_err(|failure| failure.within(name))?;
    }
    Ok(())
}
