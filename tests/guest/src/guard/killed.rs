// SPDX-License-Identifier: MIT OR Apache-2.0
//! seccomp: a filter that kills for a posted call does so at once, and as for a plain call.

use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicBool, Ordering};

use super::check_guarded;
use crate::check::Check;
use crate::kit::abi::{DONE, Param};
use crate::kit::cgroup::Cgroup;
use crate::kit::child::{Child, End, Link, spawn};
use crate::kit::files::{TempDir, pipe, write_all};
use crate::kit::limits::{need_two_cpus, set_limit};
use crate::kit::mode::Mode;
use crate::kit::ring::linked;
use crate::kit::seccomp::{Action, Filter};
use crate::kit::{cpu, process, sys, until};
use crate::life::stopped::{freeze, stop};

tests! { "guard":
    kill_ends_the_row => "nothing is executed behind a call that kills its poster, though filters allow it";
    kill_while_still => "KILL_THREAD of a thread that is frozen or stopped: the others freeze as before";
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

/// A process whose first thread has posted a call that kills it, behind a read of `from`. This thread
/// runs on CPU 0. Another thread runs on CPU 1 like the syscall thread, and tells when the filter has
/// answered.
fn waits_to_be_killed(link: &Link, group: &Cgroup, from: i32) -> Check {
    group.enter()?;
    let (engine, mut ring) = Mode::Kick.start(1)?;
    engine.set(Param::MaxThreads, 1)?;
    engine.set(Param::PoolCpus, 1 << 1)?;
    let kill = Filter::new().rule(libc::SYS_getpgrp, Action::KillThread);
    ok!("seccomp", kill.otherwise(Action::Allow).hold());
    let mut byte = 0u8;
    let read = call!(SYS_read, from, std::ptr::from_mut(&mut byte), 1);
    let slots = ring.post_blocked(&[linked(read), call!(SYS_getpgrp)])?;
    engine.until_pool(0, "a blocked thread", |pool| pool.blocked == 1)?;
    let (answer, watched) = (ring.entry(slots[1]), AtomicBool::new(false));
    std::thread::scope(|scope| {
        let other = scope.spawn(|| -> Check {
            ok!("sched_setaffinity", sys::pin(1));
            watched.store(true, Ordering::Release);
            while answer.status.load(Ordering::Acquire) != DONE {
                sys::yield_now();
            }
            link.ready();
            loop {
                std::thread::park();
            }
        });
        until("a thread that watches", || {
            watched.load(Ordering::Acquire) || other.is_finished()
        })?;
        ok!("sched_setaffinity", sys::pin(0));
        link.ready();
        link.wait_go()
    })
}

/// The syscall thread goes on first, and makes the call that kills while the owner still is where
/// `hold` has put it: `release` lets both go on, but the owner's CPU is busy.
fn killed_while_still(
    group: &Cgroup,
    hold: impl FnOnce(&Child) -> Check,
    release: impl FnOnce(&Child) -> Check,
) -> Check {
    let (from, to) = pipe()?;
    let mut child = spawn(|link| waits_to_be_killed(link, group, from.as_raw_fd()))?;
    child.wait_ready()?;
    hold(&child)?;
    write_all(&to, b"a")?;
    cpu::without(0, || {
        release(&child)?;
        child.wait_ready()
    })?;
    let is_owner = |task: &process::Task| task.tid == child.pid && task.state == 'Z';
    until("the end of the owner", || {
        process::tasks(child.pid).iter().any(is_owner)
    })?;
    // If the owner still counts as frozen, the kernel never sees as many frozen tasks as there are.
    freeze(group)?;
    group.write("cgroup.freeze", 0)?;
    child.kill()
}

fn kill_while_still() -> Check {
    need_two_cpus()?;
    let group = Cgroup::new(None)?;
    ok!("sched_setaffinity", sys::pin(1));
    killed_while_still(
        &group,
        |_| freeze(&group),
        |_| group.write("cgroup.freeze", 0),
    )
    .map_err(|failure| failure.within("frozen"))?;
    killed_while_still(&group, stop, |child| {
        child.signal(libc::SIGCONT);
        Ok(())
    })
    .map_err(|failure| failure.within("stopped"))
}
