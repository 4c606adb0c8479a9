// SPDX-License-Identifier: MIT OR Apache-2.0
//! execve with calls in flight.

use std::ffi::CString;

use nix::errno::Errno;

use super::Busy;
use crate::check::Check;
use crate::kit::child::{Child, Link, spawn};
use crate::kit::engine::{self, Engine};
use crate::kit::mode::Mode;
use crate::kit::{process, rounds, sys};

tests! { "life":
    exec_in_flight => "execve with calls in flight, in every mode: the new program has one thread";
    exec_other_thread => "execve by another thread while the owner waits";
    exec_fails => "a failing execve leaves the engine as it was";
}

/// The command of this program that the tests here execute.
pub const COMMAND: &str = "after-exec";

/// The command that does nothing.
pub const STAY: &str = "stay-after-exec";

/// The checks of the new program: it cannot use the old engine, and everything of the old program
/// has gone.
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
    fail!("execve: {}", crate::check::Ret(ret));
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
