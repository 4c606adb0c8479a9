// SPDX-License-Identifier: MIT OR Apache-2.0
//! Security modules: Landlock, whose domains live in credentials, and Yama.

use std::os::fd::OwnedFd;
use std::sync::Barrier;

use nix::errno::Errno;

use super::on_each_path;
use crate::check::{Check, Ret, skip};
use crate::kit::abi;
use crate::kit::child::{in_child, spawn};
use crate::kit::engine::Engine;
use crate::kit::files::TempDir;
use crate::kit::limits::drop_rights;
use crate::kit::ring::{Call, Done};
use crate::kit::{rounds, sys};

tests! { "guard":
    landlock_after => "a Landlock domain entered after REGISTER holds for entries on every path";
    landlock_before => "a Landlock domain entered before the device is opened holds as well";
    landlock_of_thread => "a Landlock domain of one thread holds for its entries only";
    landlock_posted => "a domain entered through an entry holds for the owner, or is refused";
    landlock_wait => "a domain without device ioctls forbids flexsc_wait(2) as it forbids WAIT";
    foreign_memory => "entries may not read another process's memory if plain calls may not";
}

/// `LANDLOCK_ACCESS_FS_MAKE_DIR`
const MAKE_DIR: u64 = 1 << 7;
/// `LANDLOCK_ACCESS_FS_IOCTL_DEV`
const IOCTL_DEV: u64 = 1 << 15;

/// A set of rules that does not allow directories to be made.
fn rules() -> Check<OwnedFd> {
    rules_for(MAKE_DIR)
}

/// A set of rules that allows none of these accesses.
fn rules_for(handled: u64) -> Check<OwnedFd> {
    let handled = [handled];
    let fd = plain!(SYS_landlock_create_ruleset, handled.as_ptr(), 8, 0);
    if fd == -i64::from(libc::EOPNOTSUPP) || fd == -i64::from(libc::ENOSYS) {
        return skip("needs Landlock");
    }
    check!(fd >= 0, "landlock_create_ruleset: {}", Ret(fd));
    Ok(sys::own(fd as i32))
}

fn enter() -> Check {
    enter_with(rules()?)
}

fn enter_with(rules: OwnedFd) -> Check {
    plain!(SYS_prctl, libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
    let entered = plain!(SYS_landlock_restrict_self, &rules, 0);
    check_ret!("landlock_restrict_self", entered, 0);
    Ok(())
}

fn mkdir(path: &std::ffi::CStr) -> Call {
    call!(SYS_mkdirat, libc::AT_FDCWD, path, 0o700)
}

fn check_denied(done: &[Done]) -> Check {
    check_ret!("mkdirat in the domain", done[0].result, -libc::EACCES);
    Ok(())
}

fn landlock_after() -> Check {
    let dir = TempDir::new()?;
    let name = dir.join("denied");
    on_each_path(|path| {
        let (_engine, mut ring) = path.start()?;
        let before = dir.join(format!("before {path:?}"));
        let made = path.run(&mut ring, mkdir(&before))?[0].result;
        check_ret!("mkdirat before", made, 0);
        enter()?;
        for _ in 0..10 {
            check_denied(&path.run(&mut ring, mkdir(&name))?)?;
        }
        check!(
            !dir.path().join("denied").exists(),
            "a denied call has made the directory"
        );
        Ok(())
    })
}

fn landlock_wait() -> Check {
    in_child(|| {
        enter_with(rules_for(IOCTL_DEV)?)?;
        let engine = Engine::open()?;
        let arg = abi::wait_fast_arg(0, abi::Policy::None as u32, 0);
        let waited = sys::ioctl(engine.fd(), abi::IOC_WAIT_FAST, arg);
        check_eq!("WAIT", waited, Err(Errno::EACCES));
        let waited = sys::flexsc_wait(engine.fd(), arg);
        check_eq!("flexsc_wait", waited, Err(Errno::EACCES));
        Ok(())
    })
}

fn landlock_before() -> Check {
    let dir = TempDir::new()?;
    let name = dir.join("denied");
    on_each_path(|path| {
        enter()?;
        let (_engine, mut ring) = path.start()?;
        check_denied(&path.run(&mut ring, mkdir(&name))?)
    })
}

fn landlock_of_thread() -> Check {
    let dir = TempDir::new()?;
    let name = dir.join("denied");
    on_each_path(|path| {
        let (engine, mut ring) = path.start()?;
        let turn = Barrier::new(2);
        let allowed = dir.join(format!("allowed {path:?}"));
        std::thread::scope(|scope| {
            let other = scope.spawn(|| -> Check {
                let mut ring = engine.ring(1)?;
                ring.mode = path.mode();
                let entered = enter();
                turn.wait();
                entered?;
                for _ in 0..rounds(20) {
                    check_denied(&path.run(&mut ring, mkdir(&name))?)?;
                }
                Ok(())
            });
            turn.wait();
            for _ in 0..rounds(20) {
                let made = path.run(&mut ring, mkdir(&allowed))?[0].result;
                check_ret!("mkdirat outside of the domain", made, 0);
                plain!(SYS_rmdir, allowed.as_c_str());
            }
            other.join().expect("no panic")
        })
    })
}

fn landlock_posted() -> Check {
    let dir = TempDir::new()?;
    on_each_path(|path| {
        let (_engine, mut ring) = path.start()?;
        let rules = rules()?;
        plain!(SYS_prctl, libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
        let done = path.run(&mut ring, call!(SYS_landlock_restrict_self, &rules, 0))?;
        let name = dir.join(format!("{path:?}"));
        let plain = sys::syscall(libc::SYS_mkdirat, mkdir(&name).args);
        let want = if done[0].result == 0 {
            -libc::EACCES
        } else {
            0
        };
        check_ret!("plain mkdirat afterwards", plain, want);
        plain!(SYS_rmdir, name.as_c_str());
        let made = path.run(&mut ring, mkdir(&name))?[0].result;
        check_ret!("posted mkdirat afterwards", made, want);
        Ok(())
    })
}

fn foreign_memory() -> Check {
    crate::kit::limits::need_root()?;
    let mut other = spawn(|link| {
        link.ready();
        link.wait_go()
    })?;
    other.wait_ready()?;
    let secret = [0x5eu8; 64];
    on_each_path(|path| {
        let (_engine, mut ring) = path.start()?;
        let mut got = [0u8; 64];
        let to = [got.as_mut_ptr() as u64, 64];
        let from = [secret.as_ptr() as u64, 64];
        let (to, from) = (to.as_ptr(), from.as_ptr());
        let read = call!(SYS_process_vm_readv, other.pid, to, 1, from, 1, 0);
        check_ret!("as root", path.run(&mut ring, read)?[0].result, 64);
        got.fill(0);
        ok!("dropping rights", drop_rights());
        check_ret!(
            "plainly",
            sys::syscall(read.nr.into(), read.args),
            -libc::EPERM
        );
        let result = path.run(&mut ring, read)?[0].result;
        check_ret!("without rights", result, -libc::EPERM);
        check_eq!("bytes", got, [0; 64]);
        Ok(())
    })?;
    other.go();
    other.join()
}
