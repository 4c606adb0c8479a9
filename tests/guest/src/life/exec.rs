// SPDX-License-Identifier: MIT OR Apache-2.0
//! execve with calls in flight.

use std::ffi::CString;
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::sync::atomic::Ordering;

use nix::errno::Errno;

use super::Busy;
use crate::check::{Check, Ret};
use crate::kit::abi::{self, REASON_NONE};
use crate::kit::child::{Child, Link, in_child, spawn};
use crate::kit::engine::{self, Engine};
use crate::kit::files::TempDir;
use crate::kit::mode::Mode;
use crate::kit::ring::check_done;
use crate::kit::{process, rounds, sys, until};

tests! { "life":
    exec_in_flight => "execve with calls in flight, in every mode: the new program has one thread";
    exec_other_thread => "execve by another thread while the owner waits";
    exec_fails => "a failing execve leaves the engine as it was";
    exec_under_way => "no thread executes a call of an owner that is inside execve";
}

/// The command of this program that the tests here execute.
pub const COMMAND: &str = "after-exec";

/// The command that does nothing.
pub const STAY: &str = "stay-after-exec";

/// The checks of the new program: it cannot use the old engine, and nothing of the old program is
/// left.
pub fn after_exec(fd: i32) -> Check {
    process::until_tasks(1)?;
    check_eq!(
        "QUERY on the old engine",
        engine::query(fd).map(|_| ()),
        Err(Errno::EPERM)
    );
    check_eq!(
        "REGISTER",
        engine::register(fd, 1).map(|_| ()),
        Err(Errno::EPERM)
    );
    check_ret!("close", plain!(SYS_close, fd), 0);
    let engine = Engine::open()?;
    let mut ring = engine.ring(1)?;
    check_ret!(
        "getpid",
        ring.result(call!(SYS_getpid))?,
        std::process::id()
    );
    Ok(())
}

/// Executes this program again, for the checks above; the engine's descriptor stays open.
pub fn execute(fd: i32) -> Check {
    execute_command(COMMAND, fd)
}

/// Executes a command of this program; the engine's descriptor stays open.
pub fn execute_command(command: &str, fd: i32) -> Check {
    check_ret!("F_SETFD", plain!(SYS_fcntl, fd, libc::F_SETFD, 0), 0);
    let words = [
        "flexsc-tests".to_owned(),
        command.to_owned(),
        fd.to_string(),
    ];
    let words = words.map(|word| CString::new(word).expect("no zero byte"));
    let mut argv: Vec<*const libc::c_char> = words.iter().map(|word| word.as_ptr()).collect();
    argv.push(std::ptr::null());
    let ret = plain!(
        SYS_execve,
        c"/proc/self/exe",
        argv.as_ptr(),
        argv[3..].as_ptr()
    );
    fail!("execve: {}", Ret(ret));
}

fn until_success(work: impl FnOnce(&Link) -> Check) -> Check {
    let base = process::refcnt();
    let mut child: Child = spawn(work)?;
    child.wait_ready()?;
    child.join()?;
    process::until_refcnt(base)
}

fn exec_in_flight() -> Check {
    for mode in Mode::ALL {
        for _ in 0..rounds(2) {
            until_success(|link| {
                let mut busy = Busy::start(mode)?;
                busy.call()?;
                link.ready();
                execute(busy.engine.fd())
            })
            .map_err(|failure| failure.within(format_args!("mode {mode:?}")))?;
        }
    }
    Ok(())
}

fn exec_other_thread() -> Check {
    for mode in [Mode::Inline, Mode::Poller] {
        for _ in 0..rounds(2) {
            until_success(|link| {
                let mut busy = Busy::start(mode)?;
                let fd = busy.engine.fd();
                link.ready();
                std::thread::scope(|scope| {
                    let other = scope.spawn(move || {
                        sys::yield_now();
                        execute(fd)
                    });
                    while !other.is_finished() {
                        busy.call()?;
                    }
                    other.join().expect("no panic")
                })
            })?;
        }
    }
    Ok(())
}

fn exec_fails() -> Check {
    let busy = Busy::start(Mode::Inline)?;
    let argv = [std::ptr::null::<u8>()];
    let ret = plain!(SYS_execve, c"/nowhere", argv.as_ptr(), argv.as_ptr());
    check_ret!("execve", ret, -libc::ENOENT);
    busy.end()
}

/// A script whose interpreter cannot be opened as long as there is a lease on it.
struct Leased {
    dir: TempDir,
    lease: OwnedFd,
}

impl Leased {
    fn new() -> Check<Leased> {
        let dir = TempDir::new()?;
        let interpreter = dir.file("interpreter", b"")?;
        let script = dir.path().join("script");
        let head = format!("#!{}\n", interpreter.to_string_lossy());
        ok!("script", std::fs::write(&script, head));
        for file in [script, dir.path().join("interpreter")] {
            let mode = std::fs::Permissions::from_mode(0o700);
            ok!("chmod", std::fs::set_permissions(file, mode));
        }
        let lease = ok!("open", sys::open(&interpreter, libc::O_RDONLY, 0));
        // The signal that asks for the lease back.
        let set = 1u64 << (libc::SIGIO - 1);
        let set = std::ptr::from_ref(&set);
        plain!(SYS_rt_sigprocmask, libc::SIG_BLOCK, set, 0, 8);
        let taken = plain!(SYS_fcntl, &lease, libc::F_SETLEASE, libc::F_WRLCK);
        check_ret!("F_SETLEASE", taken, 0);
        Ok(Leased { dir, lease })
    }

    fn give_back(&self) -> Check {
        let given = plain!(SYS_fcntl, &self.lease, libc::F_SETLEASE, libc::F_UNLCK);
        check_ret!("F_UNLCK", given, 0);
        Ok(())
    }
}

fn exec_under_way() -> Check {
    in_child(|| {
        let leased = Leased::new()?;
        let (engine, mut ring) = Mode::Kick.start(1)?;
        let (owner, fd, id) = (sys::gettid(), engine.fd(), u64::from(ring.id));
        let slot = ring.post(call!(SYS_getppid).asynchronous());
        let done = &ring.ctrl(0).done;
        std::thread::scope(|scope| {
            let other = scope.spawn(|| -> Check {
                // Shows the number of the call in which the owner sleeps.
                let path = format!("/proc/self/task/{owner}/syscall");
                let call = || std::fs::read_to_string(&path).unwrap_or_default();
                let asleep = || call().starts_with("59 ");
                let seen = until("an owner that sleeps in execve", asleep)
                    .and_then(|()| Ok(ok!("KICK", sys::ioctl(fd, abi::IOC_KICK, id))))
                    .and_then(|_| until("an end of the call", || done.load(Ordering::Acquire) != 0))
                    // It may be awake for a moment. An owner that has left execve does not come back.
                    .and_then(|()| until("an owner that still sleeps in execve", asleep));
                leased.give_back()?;
                seen
            });
            let script = leased.dir.join("script");
            let argv = [script.as_ptr(), std::ptr::null()];
            let ret = plain!(
                SYS_execve,
                script.as_c_str(),
                argv.as_ptr(),
                argv[1..].as_ptr()
            );
            check_ret!("execve", ret, -libc::ENOEXEC);
            other.join().expect("no panic")
        })?;
        let refused = ring.reap(slot);
        check_done(
            "a call in execve",
            refused,
            -i64::from(libc::ECANCELED),
            REASON_NONE,
        )?;
        let parent = plain!(SYS_getppid);
        let again = ring.run(call!(SYS_getppid).asynchronous())?;
        check_done("getppid", again, parent, REASON_NONE)
    })
}
