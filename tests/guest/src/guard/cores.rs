// SPDX-License-Identifier: MIT OR Apache-2.0
//! Core dumps of processes with syscall threads: one core file, with the program's threads.

use std::fs;
use std::sync::Barrier;

use crate::check::Check;
use crate::ends::machine::Setting;
use crate::kit::child::{End, spawn};
use crate::kit::clone::in_vm_child;
use crate::kit::files::{BlockedReads, TempDir, pipe};
use crate::kit::limits::{need_root, set_limit};
use crate::kit::mode::Mode;
use crate::kit::ring::linked;
use crate::kit::seccomp::{Action, Filter};
use crate::kit::uring::Uring;
use crate::kit::{process, signals, sys};

tests! { "guard":
    core_of_owner => "a crash with threads in calls: one core, with the program's threads only";
    core_of_killed => "a filter's KILL_PROCESS has the owner dump core, and no worker of io_uring";
}

const PATTERN: &str = "/proc/sys/kernel/core_pattern";
const CALLS: usize = 3;

/// Returns, for each core file of a process, the ID of the thread that dumped it.
fn cores(dir: &TempDir, pid: i32) -> Check<Vec<String>> {
    let mut found = Vec::new();
    for entry in ok!("the directory", fs::read_dir(dir.path())) {
        let name = ok!("an entry", entry).file_name();
        let name = name.to_string_lossy();
        if let Some(tid) = name.strip_prefix(&format!("core.{pid}.")) {
            found.push(tid.to_owned());
        }
    }
    Ok(found)
}

fn number(bytes: &[u8], at: usize, len: usize) -> usize {
    let bytes = &bytes[at..at + len];
    bytes
        .iter()
        .rev()
        .fold(0, |n, &b| (n << 8) | usize::from(b))
}

/// The threads in a core file: the thread IDs in its NT_PRSTATUS notes.
fn threads_in(core: &[u8]) -> Vec<usize> {
    const PT_NOTE: usize = 4;
    const NT_PRSTATUS: usize = 1;
    let (first, size, count) = (
        number(core, 32, 8),
        number(core, 54, 2),
        number(core, 56, 2),
    );
    let mut threads = Vec::new();
    for header in (0..count).map(|i| first + i * size) {
        if number(core, header, 4) != PT_NOTE {
            continue;
        }
        let mut at = number(core, header + 8, 8);
        let end = at + number(core, header + 32, 8);
        while at + 12 <= end {
            let round = |n: usize| n.div_ceil(4) * 4;
            let data = at + 12 + round(number(core, at, 4));
            if number(core, at + 8, 4) == NT_PRSTATUS {
                // pr_pid of struct elf_prstatus.
                threads.push(number(core, data + 32, 4));
            }
            at = data + round(number(core, at + 4, 4));
        }
    }
    threads
}

fn core_of_owner() -> Check {
    const THREADS: usize = 3;
    need_root()?;
    let dir = TempDir::new()?;
    let pattern = format!("{}/core.%p.%i", dir.path().display());
    let _pattern = ok!("core_pattern", Setting::set(PATTERN, &pattern));
    let mut child = spawn(|link| {
        let all = Barrier::new(THREADS);
        std::thread::scope(|scope| {
            for _ in 1..THREADS {
                scope.spawn(|| {
                    all.wait();
                    loop {
                        std::thread::park();
                    }
                });
            }
            all.wait();
            ok!("RLIMIT_CORE", set_limit(libc::RLIMIT_CORE, 1 << 30));
            // Rust's runtime has installed a handler.
            signals::default_action(libc::SIGSEGV)?;
            let (engine, mut ring) = Mode::Async.start(1)?;
            let (from, _to) = pipe()?;
            let reads = BlockedReads::new(&from, CALLS);
            ring.post_blocked(&reads.calls())?;
            engine.until_stats("blocked reads", |stats| {
                stats.peak_blocked as usize >= CALLS
            })?;
            link.ready();
            signals::send(sys::gettid(), libc::SIGSEGV);
            link.wait_go()
        })
    })?;
    child.wait_ready()?;
    let wanted = End::Signal {
        signal: libc::SIGSEGV,
        core: true,
    };
    check_eq!("end", child.end()?, wanted);
    let pid = child.pid.to_string();
    check_eq!("cores", cores(&dir, child.pid)?, [pid.clone()]);
    let path = dir.path().join(format!("core.{pid}.{pid}"));
    let threads = threads_in(&ok!("the core", fs::read(path)));
    check_eq!("threads in the core", threads.len(), THREADS);
    check_eq!("the first of them", threads[0].to_string(), pid);
    Ok(())
}

/// The owner is in vfork(2), where only a fatal signal wakes it. A worker that took the verdict for
/// its own would act on it meanwhile.
fn core_of_killed() -> Check {
    need_root()?;
    let dir = TempDir::new()?;
    let pattern = format!("{}/core.%p.%i", dir.path().display());
    let _pattern = ok!("core_pattern", Setting::set(PATTERN, &pattern));
    let mut child = spawn(|_| {
        ok!("RLIMIT_CORE", set_limit(libc::RLIMIT_CORE, 1 << 30));
        let uring = Uring::with_worker()?;
        let (engine, mut ring) = Mode::Kick.start(1)?;
        let kill = Filter::new().rule(libc::SYS_getpgrp, Action::KillProcess);
        ok!("seccomp", kill.otherwise(Action::Allow).hold());
        let (from, to) = pipe()?;
        let mut byte = 0u8;
        let read = call!(SYS_read, &from, std::ptr::from_mut(&mut byte), 1);
        let slots = ring.post_blocked(&[linked(read), call!(SYS_getpgrp)])?;
        engine.until_pool(0, "a blocked thread", |pool| pool.blocked == 1)?;
        let pid = std::process::id() as i32;
        in_vm_child(|| {
            plain!(SYS_write, &to, b"a".as_ptr(), 1);
            let refused = ring.poll_until_done(&slots);
            // The worker does not act.
            for _ in 0..20 {
                let there = |task: &process::Task| task.tid == uring.worker;
                if !process::tasks(pid).iter().any(there) {
                    break;
                }
            }
            refused
        })??;
        fail!("the filter has not killed")
    })?;
    let wanted = End::Signal {
        signal: libc::SIGSYS,
        core: true,
    };
    check_eq!("end", child.end()?, wanted);
    let pid = child.pid.to_string();
    check_eq!("threads that dumped core", cores(&dir, child.pid)?, [pid]);
    Ok(())
}
