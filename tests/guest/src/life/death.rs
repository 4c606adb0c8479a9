// SPDX-License-Identifier: MIT OR Apache-2.0
//! The process ends with calls in flight.

use std::os::fd::AsRawFd;
use std::time::Duration;

use nix::errno::Errno;

use crate::check::Check;
use crate::kit::abi::Policy;
use crate::kit::child::{Child, End, Link, reap, spawn};
use crate::kit::engine::Engine;
use crate::kit::files::{BlockedReads, TempDir, memory_file, pipe, socket_pair};
use crate::kit::mode::Mode;
use crate::kit::scm::send_fd;
use crate::kit::{chances, limits, memory, process, rounds, signals, sys, until};

use super::Busy;

tests! { "life":
    kill_blocked => "kill -9 with 60 blocked calls, in every mode";
    kill_running => "kill -9 while batches are executed, at any moment, in every mode";
    kill_young => "kill -9 right after the start";
    exit_in_flight => "exit with calls in flight";
    exit_group_other_thread => "exit_group by another thread while the owner waits";
    owner_thread_ends => "the owner ends with calls in flight; the process goes on";
    thread_after_thread => "many threads register, post, and end without tidying up";
    abort_in_flight => "abort with a core dump while calls are in flight";
    segfault_in_flight => "SIGSEGV while calls are in flight";
    released_by_last_thread => "the syscall thread that exits last releases the engine as it exits";
    fatal_signal_in_wait => "SIGTERM ends a process that sleeps in WAIT";
}

/// Runs work in a child until the child is ready, then `end`. Nothing may be left.
pub fn die(work: impl Fn(&Link) -> Check, end: impl Fn(Child) -> Check) -> Check {
    let base = process::refcnt();
    let mut child = spawn(work)?;
    child.wait_ready()?;
    end(child)?;
    process::until_refcnt(base)
}

fn kill_blocked() -> Check {
    for mode in Mode::ALL {
        for _ in 0..rounds(3) {
            let work = |link: &Link| {
                let mut busy = Busy::start(mode)?;
                busy.call()?;
                link.ready();
                link.wait_go()
            };
            die(work, Child::kill).map_err(|failure| failure.within(format_args!("{mode:?}")))?;
        }
    }
    Ok(())
}

fn kill_running() -> Check {
    for mode in Mode::ALL {
        for round in 0..rounds(4) {
            let work = |link: &Link| {
                let mut busy = Busy::start(mode)?;
                let (engine, mut ring) = mode.start(2)?;
                link.ready();
                loop {
                    busy.call()?;
                    ring.run_all(&[call!(SYS_getppid); 128])?;
                    if engine.stats()?.pages == 0 {
                        return Ok(());
                    }
                }
            };
            let kill = |child: Child| {
                std::thread::sleep(Duration::from_micros(u64::from(round) * 700));
                child.kill()
            };
            die(work, kill).map_err(|failure| failure.within(format_args!("{mode:?}")))?;
        }
    }
    Ok(())
}

fn kill_young() -> Check {
    let base = process::refcnt();
    for round in 0..rounds(30) {
        let child = spawn(|_| {
            loop {
                let mode = Mode::ALL[round as usize % 4];
                let (_engine, mut ring) = mode.start(1)?;
                ring.run_all(&[call!(SYS_getpid).asynchronous(); 8])?;
            }
        })?;
        std::thread::sleep(Duration::from_micros(u64::from(round) * 200));
        child.kill()?;
    }
    process::until_refcnt(base)
}

fn exit_in_flight() -> Check {
    for mode in Mode::ALL {
        for _ in 0..rounds(3) {
            let work = |link: &Link| {
                let mut busy = Busy::start(mode)?;
                busy.call()?;
                link.ready();
                sys::exit_now(23);
            };
            die(work, |mut child| {
                check_eq!(format!("end, mode {mode:?}"), child.end()?, End::Exit(23));
                Ok(())
            })?;
        }
    }
    Ok(())
}

fn exit_group_other_thread() -> Check {
    for _ in 0..rounds(5) {
        let work = |link: &Link| {
            let busy = Busy::start(Mode::Inline)?;
            std::thread::scope(|scope| {
                scope.spawn(|| {
                    link.ready();
                    // Mostly lets the owner fall asleep in WAIT first.
                    std::thread::sleep(Duration::from_millis(5));
                    sys::exit_now(24);
                });
                let ret = busy.ring.wait(Policy::Any);
                fail!("WAIT gave {ret:?} in a process that ends");
            })
        };
        die(work, |mut child| {
            check_eq!("end", child.end()?, End::Exit(24));
            Ok(())
        })?;
    }
    Ok(())
}

fn owner_thread_ends() -> Check {
    for _ in 0..rounds(3) {
        let engine = Engine::open()?;
        let (from, to) = pipe()?;
        let reads = BlockedReads::new(&from, 20);
        let id = std::thread::scope(|scope| {
            let owner = scope.spawn(|| -> Check<u32> {
                let mut ring = engine.ring(1)?;
                ring.post_blocked(&reads.calls())?;
                // Waits for all: calls that have not begun when their owner ends are not made.
                engine.until_stats("20 blocked reads", |s| s.peak_blocked >= 20)?;
                ring.post(call!(SYS_getpid));
                Ok(ring.id)
            });
            owner.join().expect("no panic")
        })?;
        let ret = engine.unregister(id);
        let busy = [Err(Errno::EBUSY), Err(Errno::EPERM)];
        check!(
            busy.contains(&ret),
            "UNREGISTER with calls in flight: {ret:?}"
        );
        reads.release(&to)?;
        until("UNREGISTER after the owner's end", || {
            engine.unregister(id) == Ok(0)
        })?;
        reads.check()?;
        // Another thread's calls are not disturbed.
        let mut ring = engine.ring(1)?;
        check_ret!(
            "getpid",
            ring.result(call!(SYS_getpid))?,
            std::process::id()
        );
        check_eq!("UNREGISTER", ring.unregister(), Ok(0));
        drop(engine);
        drop(ring);
        process::until_tasks(1)?;
    }
    Ok(())
}

fn thread_after_thread() -> Check {
    let engine = Engine::open()?;
    for round in 0..chances(40) {
        std::thread::scope(|scope| {
            let owner = scope.spawn(|| -> Check {
                let mut ring = engine.ring(1)?;
                let calls = [call!(SYS_getpid).asynchronous(); 30];
                let slots = ring.post_all(&calls);
                if round % 2 == 0 {
                    ring.kicked()?;
                }
                if round % 3 == 0 {
                    ring.finish(&slots)?;
                }
                Ok(())
            });
            owner.join().expect("no panic")
        })?;
    }
    drop(engine);
    process::until_tasks(1)
}

fn abort_in_flight() -> Check {
    let dir = TempDir::new()?;
    for mode in Mode::ALL {
        let work = |link: &Link| {
            ok!("chdir", std::env::set_current_dir(dir.path()));
            ok!("RLIMIT_CORE", limits::set_limit(libc::RLIMIT_CORE, 1 << 30));
            signals::default_action(libc::SIGABRT)?;
            let mut busy = Busy::start(mode)?;
            busy.call()?;
            link.ready();
            loop {
                busy.call()?;
                signals::send(sys::gettid(), libc::SIGABRT);
            }
        };
        die(work, |mut child| match child.end()? {
            End::Signal { signal, core } if signal == libc::SIGABRT => {
                println!("# mode {mode:?}: core dumped: {core}");
                Ok(())
            }
            end => fail!("mode {mode:?}: {end:?}, expected SIGABRT"),
        })?;
    }
    Ok(())
}

fn segfault_in_flight() -> Check {
    let dir = TempDir::new()?;
    let work = |link: &Link| {
        ok!("chdir", std::env::set_current_dir(dir.path()));
        signals::default_action(libc::SIGSEGV)?;
        let mut busy = Busy::start(Mode::Kick)?;
        busy.call()?;
        link.ready();
        memory::peek(8 as *const u8);
        Ok(())
    };
    die(work, |mut child| match child.end()? {
        End::Signal {
            signal: libc::SIGSEGV,
            ..
        } => Ok(()),
        end => fail!("{end:?}, expected SIGSEGV"),
    })
}

/// Waits for a stop or the end of a traced thread.
fn traced(tid: i32, what: &str) -> Check<Option<End>> {
    let mut end = None;
    until(what, || {
        end = reap(tid, libc::__WALL);
        end.is_some()
    })?;
    Ok(end)
}

fn released_by_last_thread() -> Check {
    for _ in 0..rounds(3) {
        let base = process::refcnt();
        let mut child = spawn(|link| {
            let (engine, mut ring) = Mode::Async.start(1)?;
            let (from, _to) = pipe()?;
            let reads = BlockedReads::new(&from, 2);
            ring.post_blocked(&reads.calls())?;
            engine.until_stats("blocked reads", |stats| stats.peak_blocked >= 2)?;
            // Descriptors are closed in order, and the work of an exit begins with the file closed
            // last: the socket is released before the engine, and leaves the file in its queue to
            // be closed.
            let (a, b) = socket_pair()?;
            check!(
                b.as_raw_fd() > engine.fd(),
                "the socket is opened after the engine"
            );
            send_fd(&a, memory_file()?.as_raw_fd())?;
            link.ready();
            link.wait_go()?;
            // Nothing is closed before the exit.
            sys::exit_now(3);
        })?;
        child.wait_ready()?;
        let mut threads: Vec<i32> = process::tasks(child.pid)
            .iter()
            .filter(|task| task.tid != child.pid)
            .map(|task| task.tid)
            .collect();
        check!(threads.len() >= 2, "{} syscall threads", threads.len());
        for &tid in &threads {
            let seize = plain!(
                SYS_ptrace,
                libc::PTRACE_SEIZE,
                tid,
                0,
                libc::PTRACE_O_TRACEEXIT
            );
            check_ret!("PTRACE_SEIZE", seize, 0);
        }
        child.go();
        for &tid in &threads {
            let stopped = traced(tid, "a thread that is about to exit")?;
            check_eq!("stop", stopped, Some(End::Stopped(libc::SIGTRAP)));
        }
        // The first thread has given up the table of descriptors.
        until("the end of the first thread", || {
            let mut tasks = process::tasks(child.pid).into_iter();
            tasks.any(|task| task.tid == child.pid && task.state == 'Z')
        })?;
        let last = threads.pop().expect("two threads");
        for tid in threads {
            check_ret!(
                "PTRACE_CONT",
                plain!(SYS_ptrace, libc::PTRACE_CONT, tid, 0, 0),
                0
            );
            traced(tid, "the end of a thread")?;
        }
        check!(process::refcnt() > base, "the engine is gone already");
        check_ret!(
            "PTRACE_CONT",
            plain!(SYS_ptrace, libc::PTRACE_CONT, last, 0, 0),
            0
        );
        traced(last, "the end of the last thread")?;
        check_eq!("end", child.end()?, End::Exit(3));
        process::until_refcnt(base)?;
    }
    Ok(())
}

fn fatal_signal_in_wait() -> Check {
    for _ in 0..rounds(5) {
        let work = |link: &Link| {
            let busy = Busy::start(Mode::Inline)?;
            link.ready();
            let ret = busy.ring.wait_fast(Policy::Any, 0);
            fail!("WAIT gave {ret:?}, expected to die");
        };
        die(work, |mut child| {
            until("a sleeping child", || {
                process::tasks(child.pid)
                    .iter()
                    .any(|t| t.tid == child.pid && t.state == 'S')
            })?;
            child.signal(libc::SIGTERM);
            let want = End::Signal {
                signal: libc::SIGTERM,
                core: false,
            };
            check_eq!("end", child.end()?, want);
            Ok(())
        })?;
    }
    Ok(())
}
