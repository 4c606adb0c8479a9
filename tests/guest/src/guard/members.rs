// SPDX-License-Identifier: MIT OR Apache-2.0
//! Syscall threads are threads of the process, not of the program: calls that query or change all
//! threads of a program leave syscall threads out, and these do not inherit the attributes of their
//! creator.

use std::os::fd::{OwnedFd, RawFd};

use crate::check::{Check, Ret};
use crate::kit::abi::{Policy, REASON_NONE};
use crate::kit::child::{End, exit_code, in_child, reap, spawn};
use crate::kit::engine::{DEVICE, Engine};
use crate::kit::files::{BlockedReads, pipe, write_all};
use crate::kit::limits::{NOBODY, drop_rights, need_root, need_two_cpus, set_limit};
use crate::kit::mode::Mode;
use crate::kit::ring::Ring;
use crate::kit::seccomp::{Action, install};
use crate::kit::{cpu, process, signals, sys, until};

tests! { "guard":
    priority_of_group => "priorities of a group and of a user are the program's, after setuid too";
    nice_followed => "threads run with their owner's present nice value";
    attributes_followed => "timer slack and I/O priority are the owner's present ones";
    normal_class => "owners of real-time and deadline classes get threads of the normal class";
    affinity_of_program => "threads made after taskset -a stay on the CPUs that it leaves";
    affinity_of_opener => "an engine that a posted call opens has the CPUs of the call's owner";
    limit_of_new_user => "after setuid threads are made within the new user's RLIMIT_NPROC";
    filter_of_maker => "threads made by a filtered thread serve others, and TSYNC ignores them";
    orphans => "a child is told of its parent's end once, whatever happens to syscall threads";
    traced_thread => "a debugger cannot make a syscall thread lose calls";
}

/// The IDs of this process's syscall threads.
pub fn threads() -> Vec<i32> {
    threads_of(std::process::id() as i32)
}

fn threads_of(pid: i32) -> Vec<i32> {
    let tasks = process::tasks(pid).into_iter();
    tasks
        .filter(|task| task.name.starts_with("flexsc-"))
        .map(|task| task.tid)
        .collect()
}

fn in_each_mode(test: impl Fn(Mode) -> Check) -> Check {
    for mode in Mode::ALL {
        in_child(|| test(mode)).map_err(|failure| failure.within(format_args!("mode {mode:?}")))?;
    }
    Ok(())
}

/// `IOPRIO_WHO_*`, and best effort, level 6.
const WHO_PROCESS: i32 = 1;
const WHO_GROUP: i32 = 2;
const WHO_USER: i32 = 3;
const BEST_EFFORT_6: i32 = (2 << 13) | 6;

fn priority_of_group() -> Check {
    need_root()?;
    in_each_mode(|mode| {
        check_ret!("setpgid", plain!(SYS_setpgid, 0, 0), 0);
        let (_engine, mut ring) = mode.start(1)?;
        ring.run(call!(SYS_getppid).asynchronous())?;
        ok!("dropping rights", drop_rights());
        for (what, who, id) in [
            (libc::PRIO_PGRP, WHO_GROUP, 0),
            (libc::PRIO_USER, WHO_USER, NOBODY),
        ] {
            let nice = 5 + who;
            let set = plain!(SYS_setpriority, what, id, nice);
            check_ret!(format!("setpriority {what}"), set, 0);
            let got = plain!(SYS_getpriority, what, id);
            check_ret!(format!("getpriority {what}"), got, 20 - nice);
            let posted = ring.result(call!(SYS_getpriority, what, id))?;
            check_ret!(format!("posted getpriority {what}"), posted, 20 - nice);
            let set = plain!(SYS_ioprio_set, who, id, BEST_EFFORT_6);
            check_ret!(format!("ioprio_set {who}"), set, 0);
            let got = plain!(SYS_ioprio_get, who, id);
            check_ret!(format!("ioprio_get {who}"), got, BEST_EFFORT_6);
        }
        Ok(())
    })
}

fn nice_followed() -> Check {
    in_each_mode(|mode| {
        let (engine, mut ring) = mode.start(1)?;
        engine.keep_threads()?;
        ring.run(call!(SYS_getppid).asynchronous())?;
        for nice in [7, 9] {
            let set = plain!(SYS_setpriority, libc::PRIO_PROCESS, 0, nice);
            check_ret!("setpriority", set, 0);
            ring.run(call!(SYS_getppid).asynchronous())?;
            let values: Vec<_> = threads().into_iter().map(cpu::nice).collect();
            let executed = values.contains(&Some(nice));
            check!(executed, "nice values {values:?}, none is {nice}");
        }
        Ok(())
    })
}

fn attributes_followed() -> Check {
    need_root()?;
    in_each_mode(|mode| {
        let (engine, mut ring) = mode.start(1)?;
        engine.keep_threads()?;
        ring.run(call!(SYS_getppid).asynchronous())?;
        plain!(SYS_prctl, libc::PR_SET_TIMERSLACK, 77_000);
        let set = plain!(SYS_ioprio_set, WHO_PROCESS, 0, BEST_EFFORT_6);
        check_ret!("ioprio_set", set, 0);
        ring.run(call!(SYS_getppid).asynchronous())?;
        let seen: Vec<_> = threads()
            .into_iter()
            .map(|tid| {
                let slack = std::fs::read_to_string(format!("/proc/{tid}/timerslack_ns"));
                let priority = plain!(SYS_ioprio_get, WHO_PROCESS, tid);
                (slack.unwrap_or_default().trim().to_owned(), priority)
            })
            .collect();
        let wanted = ("77000".to_owned(), i64::from(BEST_EFFORT_6));
        check!(seen.contains(&wanted), "no thread follows: {seen:?}");
        Ok(())
    })
}

/// `struct sched_attr` of SCHED_DEADLINE: 1 of 100 ms.
const DEADLINE: [u64; 6] = [48 | (6 << 32), 0, 0, 1_000_000, 100_000_000, 100_000_000];

fn set_class(class: i32) -> Check {
    if class == 6 {
        let set = plain!(SYS_sched_setattr, 0, DEADLINE.as_ptr(), 0);
        check_ret!("sched_setattr", set, 0);
    } else {
        let param = 10i32;
        let set = plain!(SYS_sched_setscheduler, 0, class, std::ptr::from_ref(&param));
        check_ret!(format!("sched_setscheduler {class}"), set, 0);
    }
    Ok(())
}

fn normal_class() -> Check {
    need_root()?;
    for class in [libc::SCHED_RR, libc::SCHED_FIFO, 6] {
        in_child(|| {
            set_class(class)?;
            ok!("RLIMIT_RTTIME", set_limit(libc::RLIMIT_RTTIME, 10_000_000));
            let engine = Engine::open()?;
            engine.keep_threads()?;
            let mut ring = engine.ring(1)?;
            ring.run_all(&[call!(SYS_getppid).asynchronous(); 4])?;
            let threads = threads();
            check!(!threads.is_empty(), "there is no syscall thread");
            for tid in threads {
                let got = plain!(SYS_sched_getscheduler, tid);
                check_ret!("class of a thread", got, libc::SCHED_OTHER);
            }
            check_ret!("own class", plain!(SYS_sched_getscheduler, 0), class);
            Ok(())
        })
        .map_err(|failure| failure.within(format_args!("class {class}")))?;
    }
    Ok(())
}

fn affinity_of_program() -> Check {
    need_two_cpus()?;
    in_child(|| {
        let engine = Engine::open()?;
        engine.keep_threads()?;
        let mut ring = engine.ring(1)?;
        ring.run(call!(SYS_getppid).asynchronous())?;
        let first = 1u64;
        for task in process::tasks(std::process::id() as i32) {
            let set = plain!(
                SYS_sched_setaffinity,
                task.tid,
                8,
                std::ptr::from_ref(&first)
            );
            check_ret!("sched_setaffinity", set, 0);
        }
        let before = threads();
        let (from, to) = pipe()?;
        let reads = BlockedReads::new(&from, 8);
        let slots = ring.post_blocked(&reads.calls())?;
        engine.until_stats("blocked reads", |stats| stats.peak_blocked >= 8)?;
        // Makes a spare too, which has its settings once it is idle.
        ring.run(call!(SYS_getppid).asynchronous())?;
        for tid in threads() {
            let new = if before.contains(&tid) { "old" } else { "new" };
            until("a thread within the CPUs", || {
                cpu::allowed(tid) == Some(first)
            })
            .map_err(|failure| {
                failure.within(format_args!("{new} thread: {:?}", cpu::allowed(tid)))
            })?;
        }
        reads.release(&to)?;
        ring.finish(&slots)?;
        Ok(())
    })
}

fn affinity_of_opener() -> Check {
    need_two_cpus()?;
    in_child(|| {
        // The thread that makes the call may use all CPUs, as may another thread of the program.
        let (_engine, mut ring) = Mode::Async.start(1)?;
        ring.run(call!(SYS_getppid))?;
        std::thread::spawn(|| {
            loop {
                std::thread::park();
            }
        });
        let first = 1u64;
        let set = plain!(SYS_sched_setaffinity, 0, 8, std::ptr::from_ref(&first));
        check_ret!("sched_setaffinity", set, 0);
        let flags = libc::O_RDWR | libc::O_CLOEXEC;
        let fd = ring.result(call!(SYS_openat, libc::AT_FDCWD, DEVICE.as_ptr(), flags))?;
        check!(fd > 2, "open: {}", Ret(fd));
        let old = threads();
        let opened = Engine::from_fd(sys::own(fd as i32));
        opened.keep_threads()?;
        let mut its = opened.ring(1)?;
        its.run(call!(SYS_getppid).asynchronous())?;
        // An idle thread has applied its engine's settings.
        opened.until_stats("idle threads", |stats| stats.threads == stats.threads_idle)?;
        let new: Vec<_> = threads().into_iter().filter(|t| !old.contains(t)).collect();
        check!(!new.is_empty(), "there is no new syscall thread");
        for tid in new {
            check_eq!("CPUs of a thread", cpu::allowed(tid), Some(first));
        }
        Ok(())
    })
}

fn limit_of_new_user() -> Check {
    need_root()?;
    const MOST: usize = 6;
    in_child(|| {
        let engine = Engine::open()?;
        let mut ring = engine.ring(1)?;
        ok!("RLIMIT_NPROC", set_limit(libc::RLIMIT_NPROC, MOST as u64));
        ok!("dropping rights", drop_rights());
        let (from, to) = pipe()?;
        let reads = BlockedReads::new(&from, 4 * MOST);
        let slots = ring.post_all(&reads.calls());
        ring.kicked()?;
        engine.until_stats("blocked reads", |stats| stats.peak_blocked >= 2)?;
        // Results of reads that no thread can execute: no more threads can be created.
        let waited = ring.wait_for(Policy::Any, 0, std::time::Duration::from_secs(2));
        let count = threads().len();
        check!(
            count <= MOST,
            "{count} threads of a user who may have {MOST} processes; WAIT {waited:?}"
        );
        reads.release(&to)?;
        ring.finish(&slots)?;
        Ok(())
    })
}

fn filter_of_maker() -> Check {
    in_each_mode(|mode| {
        let engine = Engine::open()?;
        let ended = std::thread::scope(|scope| {
            let maker = scope.spawn(|| {
                ok!(
                    "filter of a thread",
                    install(libc::SYS_mkdirat, Action::Allow, false)
                );
                // The engine's first thread.
                ok!("REGISTER", engine.register(1));
                Ok(())
            });
            maker.join().expect("no panic")
        });
        ended?;
        check!(!threads().is_empty(), "there is no syscall thread");
        let mut ring: Ring = engine.ring(1)?;
        ring.mode = mode;
        let done = ring.run(call!(SYS_getppid).asynchronous())?;
        check_eq!("reason, without a filter", done.reason, REASON_NONE);
        match install(libc::SYS_mkdirat, Action::Allow, true) {
            Ok(_) => Ok(()),
            Err(error) => fail!("a filter for all threads: {error:?}"),
        }
    })
}

/// A child that waits for a byte and then ends with the number of death signals that it has
/// received. The child closes the descriptor `engine`.
fn mourner(engine: RawFd) -> Check<(i32, OwnedFd)> {
    let (from, to) = pipe()?;
    let (ready, announce) = pipe()?;
    let pid = plain!(SYS_fork) as i32;
    if pid == 0 {
        plain!(SYS_close, engine);
        plain!(SYS_prctl, libc::PR_SET_PDEATHSIG, libc::SIGUSR1, 0, 0, 0);
        plain!(SYS_write, &announce, b"x".as_ptr(), 1);
        let mut byte = 0u8;
        while plain!(SYS_read, &from, std::ptr::from_mut(&mut byte), 1) == -i64::from(libc::EINTR) {
        }
        sys::exit_now(signals::counted() as i32);
    }
    check!(pid > 0, "fork: {}", Ret(pid.into()));
    // The parent may end only after the child has asked for the signal.
    drop(announce);
    let mut byte = 0u8;
    let told = plain!(SYS_read, &ready, std::ptr::from_mut(&mut byte), 1);
    check_ret!("the child's announcement", told, 1);
    Ok((pid, to))
}

/// Outlives the first thread. Then another thread starts a child and ends, then the engine ends.
fn heir(engine: Engine, pages: (usize, usize)) -> Check {
    let main = std::process::id() as i32;
    until("the end of the main thread", || {
        let mut tasks = process::tasks(main).into_iter();
        tasks.any(|task| task.tid == main && task.state == 'Z')
    })?;
    let fd = engine.fd();
    let born = std::thread::spawn(move || mourner(fd))
        .join()
        .expect("no panic")?;
    until("the end of the child's parent", || {
        process::tasks(main).len() == 2 + threads().len()
    })?;
    // Now only the syscall threads end.
    ok!("munmap", sys::munmap(pages.0 as *mut u8, pages.1));
    drop(engine);
    until("no syscall threads", || threads().is_empty())?;
    write_all(&born.1, b"x")?;
    let mut end = None;
    until("the child's end", || {
        end = reap(born.0, 0);
        end.is_some()
    })?;
    check_eq!("death signals", end, Some(End::Exit(1)));
    Ok(())
}

fn orphans() -> Check {
    signals::count_signal(libc::SIGUSR1, 0)?;
    let mut child = spawn(|link| {
        // The engine's threads come right after the first thread in the process's list of threads.
        let (engine, mut ring) = Mode::Async.start(1)?;
        ring.run(call!(SYS_getppid))?;
        let (at, len) = ring.leak();
        let pages = (at as usize, len);
        std::thread::spawn(move || sys::exit_now(exit_code(heir(engine, pages))));
        link.ready();
        sys::exit_thread(0);
    })?;
    child.wait_ready()?;
    child.join()
}

/// Attaches to a thread and lets it go on with a signal.
fn inject(tid: i32, signal: i32) -> Check {
    let attached = plain!(SYS_ptrace, libc::PTRACE_ATTACH, tid, 0, 0);
    check_ret!("PTRACE_ATTACH", attached, 0);
    let mut end = None;
    until("a thread that stops", || {
        end = reap(tid, libc::__WALL);
        end.is_some()
    })?;
    check_eq!("stop", end, Some(End::Stopped(libc::SIGSTOP)));
    let detached = plain!(SYS_ptrace, libc::PTRACE_DETACH, tid, 0, signal);
    check_ret!("PTRACE_DETACH", detached, 0);
    Ok(())
}

fn traced_thread() -> Check {
    for signal in [
        0,
        libc::SIGTERM,
        libc::SIGSEGV,
        libc::SIGUSR1,
        libc::SIGKILL,
    ] {
        let mut child = spawn(|link| {
            let (engine, mut ring) = Mode::Async.start(1)?;
            engine.keep_threads()?;
            let (from, to) = pipe()?;
            let reads = BlockedReads::new(&from, 2);
            let slots = ring.post_blocked(&reads.calls())?;
            engine.until_stats("blocked reads", |stats| stats.peak_blocked >= 2)?;
            link.ready();
            link.wait_go()?;
            reads.release(&to)?;
            ring.finish(&slots)?;
            reads.check()
        })?;
        child.wait_ready()?;
        let targets = threads_of(child.pid);
        check!(targets.len() >= 2, "{} syscall threads", targets.len());
        let wanted = if signal == libc::SIGKILL {
            inject(targets[0], signal)?;
            End::Signal {
                signal,
                core: false,
            }
        } else {
            for &tid in &targets {
                inject(tid, signal)?;
            }
            child.go();
            End::Exit(0)
        };
        check_eq!(format!("end, signal {signal}"), child.end()?, wanted);
    }
    Ok(())
}
