// SPDX-License-Identifier: MIT OR Apache-2.0
//! seccomp: a filter that kills for a posted call does so at once, and as for a plain call.

use std::os::fd::AsRawFd;

use super::check_guarded;
use crate::check::Check;
use crate::kit::child::{End, spawn};
use crate::kit::files::{TempDir, pipe};
use crate::kit::limits::set_limit;
use crate::kit::mode::Mode;
use crate::kit::ring::linked;
use crate::kit::seccomp::{Action, Filter};

tests! { "guard":
    kill_ends_the_row => "nothing is executed behind a call that kills its poster, though filters allow it";
    kill_of_the_only_thread => "KILL_THREAD of a program's only thread dumps core, with syscall threads as without";
}

fn kill_ends_the_row() -> Check {
    for action in [Action::KillThread, Action::KillProcess] {
        for chained in [false, true] {
            let (from, to) = pipe()?;
            let nonblocking = plain!(SYS_fcntl, &from, libc::F_SETFL, libc::O_NONBLOCK);
            check_ret!("O_NONBLOCK", nonblocking, 0);
            let mut child = spawn(|_| {
                let (_engine, mut ring) = Mode::Inline.start(1)?;
                let kill = Filter::new().rule(libc::SYS_getpgrp, action);
                ok!("seccomp", kill.otherwise(Action::Allow).hold());
                let write = call!(SYS_write, &to, b"a".as_ptr(), 1);
                let mut calls = vec![call!(SYS_getpgrp)];
                calls.extend([if chained { linked(write) } else { write }; 8]);
                calls.push(call!(SYS_getppid));
                check_guarded(&ring.run_all(&calls)?[..1])
            })?;
            let end = child.end()?;
            let name = format!("{action:?}, chained {chained}: {end:?}");
            let killed = matches!(
                end,
                End::Signal {
                    signal: libc::SIGSYS,
                    ..
                }
            );
            check!(killed, "{name}");
            let mut byte = 0u8;
            let read = plain!(SYS_read, from.as_raw_fd(), std::ptr::from_mut(&mut byte), 1);
            check_ret!(name, read, -libc::EAGAIN);
        }
    }
    Ok(())
}

/// The end of a process with one thread whose call a filter kills. It has an engine with an idle
/// thread, or none.
fn end_of_killed(dir: &TempDir, engine: bool, posted: bool) -> Check<End> {
    let at = dir.join("");
    let mut child = spawn(|_| {
        check_ret!("chdir", plain!(SYS_chdir, at.as_c_str()), 0);
        ok!("RLIMIT_CORE", set_limit(libc::RLIMIT_CORE, 1 << 30));
        let mut kept = None;
        if engine {
            let (engine, mut ring) = Mode::Inline.start(1)?;
            ring.result(call!(SYS_getppid).asynchronous())?;
            kept = Some((engine, ring));
        }
        let kill = Filter::new().rule(libc::SYS_getpgrp, Action::KillThread);
        ok!("seccomp", kill.otherwise(Action::Allow).hold());
        match kept {
            Some((_, ref mut ring)) if posted => {
                ring.run(call!(SYS_getpgrp))?;
            }
            _ => {
                plain!(SYS_getpgrp);
            }
        }
        fail!("the filter has not killed")
    })?;
    child.end()
}

fn kill_of_the_only_thread() -> Check {
    let dir = TempDir::new()?;
    let alone = end_of_killed(&dir, false, false)?;
    let dumped = End::Signal {
        signal: libc::SIGSYS,
        core: true,
    };
    check_eq!("without an engine", alone, dumped);
    let plain = end_of_killed(&dir, true, false)?;
    check_eq!("a plain call beside a syscall thread", plain, dumped);
    check_eq!("a posted call", end_of_killed(&dir, true, true)?, dumped);
    Ok(())
}
