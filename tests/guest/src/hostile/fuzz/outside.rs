// SPDX-License-Identifier: MIT OR Apache-2.0
//! Attacks on a hostile program from outside its engine: control groups, tracers, timers, slow
//! memory, children that inherit its pages, threads with tables of their own.

use std::os::fd::RawFd;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::attacks::{Attack, until_over};
use super::jail::{FIRST_GROUP_FILE, GROUP_FILES};
use super::owner;
use super::program::Life;
use crate::hostile::target::{scribble_ctrl, scribble_entry};
use crate::kit::uffd::Slow;
use crate::kit::{Random, clone, process, sys};

pub const ALL: [Attack; 6] = [
    Attack::new(groups),
    Attack::new(tracers),
    Attack::new(timers),
    Attack::new(slow_arguments),
    Attack::new(inherited),
    Attack::new(apart),
];

fn rest(random: &mut Random, most_us: u64) {
    std::thread::sleep(Duration::from_micros(random.below(most_us)));
}

/// Returns any thread of this process, syscall threads included.
fn any_thread(random: &mut Random) -> Option<i32> {
    let tasks = process::tasks(std::process::id() as i32);
    let at = random.below(tasks.len().max(1) as u64) as usize;
    tasks.get(at).map(|task| task.tid)
}

/// Moves the process, or one thread of it, to another control group.
fn groups(life: &Life<'_>, random: &mut Random) {
    until_over(life, || {
        let file = FIRST_GROUP_FILE + random.below(GROUP_FILES as u64) as RawFd;
        let who = match random.below(4) {
            0 => 0,
            1 => std::process::id() as i32,
            _ => any_thread(random).unwrap_or(0),
        };
        let text = who.to_string();
        plain!(SYS_write, file, text.as_ptr(), text.len());
        rest(random, 5_000);
    });
}

/// The code of a tracer, which makes only system calls.
fn trace(tids: &[i32], ways: &mut Random) {
    const SEIZE: i32 = 0x4206;
    const INTERRUPT: i32 = 0x4207;
    for &tid in tids {
        match ways.below(3) {
            0 => plain!(SYS_ptrace, libc::PTRACE_ATTACH, tid, 0, 0),
            _ => plain!(SYS_ptrace, SEIZE, tid, 0, ways.below(2)),
        };
    }
    for _ in 0..ways.below(24) {
        let tid = tids[ways.below(tids.len() as u64) as usize];
        let signal = [0, 0, libc::SIGUSR1, libc::SIGSTOP][ways.below(4) as usize];
        match ways.below(6) {
            0 => plain!(SYS_ptrace, INTERRUPT, tid, 0, 0),
            1 => plain!(SYS_ptrace, libc::PTRACE_CONT, tid, 0, signal),
            2 => plain!(SYS_ptrace, libc::PTRACE_SYSCALL, tid, 0, signal),
            3 => plain!(SYS_ptrace, libc::PTRACE_DETACH, tid, 0, signal),
            4 => plain!(SYS_wait4, -1, 0, libc::WNOHANG | libc::__WALL, 0),
            _ => plain!(SYS_sched_yield),
        };
    }
}

/// Starts a process of the same user that attaches to threads of this one.
fn tracers(life: &Life<'_>, random: &mut Random) {
    const ANYBODY: i64 = -1;
    plain!(SYS_prctl, libc::PR_SET_PTRACER, ANYBODY, 0, 0, 0);
    plain!(SYS_prctl, libc::PR_SET_DUMPABLE, 1, 0, 0, 0);
    let pid = std::process::id();
    until_over(life, || {
        let tasks = process::tasks(pid as i32);
        let ours = |name: &str| name.starts_with("flexsc");
        // Mostly attaches to syscall threads.
        let tids: Vec<i32> = tasks
            .iter()
            .filter(|task| ours(&task.name) || random.below(4) == 0)
            .map(|task| task.tid)
            .collect();
        let mut ways = random.split();
        if !tids.is_empty() {
            let child = plain!(SYS_fork);
            if child == 0 {
                trace(&tids, &mut ways);
                // The process may have been stopped as a whole.
                plain!(SYS_kill, pid, libc::SIGCONT);
                sys::exit_now(0);
            }
            if child > 0 {
                plain!(SYS_wait4, child, 0, 0, 0);
            }
        }
        rest(random, 20_000);
    });
}

/// Periodic timers that send signals to the process.
fn timers(life: &Life<'_>, random: &mut Random) {
    let mut ids = Vec::new();
    until_over(life, || {
        if ids.len() < 4 {
            let signal = [libc::SIGUSR1, libc::SIGALRM][random.below(2) as usize];
            let mut event = [0u64; 8];
            event[1] = signal as u64;
            let mut id = -1i32;
            let clock = [libc::CLOCK_MONOTONIC, libc::CLOCK_PROCESS_CPUTIME_ID];
            let clock = clock[random.below(2) as usize];
            if plain!(SYS_timer_create, clock, event.as_ptr(), &raw mut id) == 0 {
                ids.push(id);
            }
        }
        if let Some(&id) = ids.get(random.below(4) as usize) {
            let every = 200_000 + random.below(5_000_000) as i64;
            let times = [0, every, 0, every];
            plain!(SYS_timer_settime, id, 0, times.as_ptr(), 0);
        }
        rest(random, 10_000);
    });
    for id in ids {
        plain!(SYS_timer_delete, id);
    }
}

/// Makes part of the memory that arguments point to slow.
fn slow_arguments(life: &Life<'_>, random: &mut Random) {
    let (at, len) = life.program.values.slow_part();
    let Some(slow) = Slow::over(at, len) else {
        return;
    };
    while !life.over.load(Ordering::Relaxed) {
        slow.forget();
        let most = Duration::from_micros(100 + random.below(3_000));
        let end = std::time::Instant::now() + Duration::from_millis(random.below(30));
        slow.serve(random, most, || {
            life.over.load(Ordering::Relaxed) || std::time::Instant::now() > end
        });
    }
}

/// Lets children inherit the pages and write to them.
fn inherited(life: &Life<'_>, random: &mut Random) {
    until_over(life, || {
        life.with_target(|target| {
            let (base, len) = (target.base, target.len());
            plain!(SYS_madvise, base, len, libc::MADV_DOFORK);
            let mut own = random.split();
            let child = plain!(SYS_fork);
            if child == 0 {
                // If the kernel does not let the child inherit the pages, this access raises a
                // signal or finds zeros.
                for _ in 0..32 {
                    scribble_entry(target, &mut own);
                    scribble_ctrl(target, &mut own);
                }
                sys::exit_now(0);
            }
            if child > 0 {
                plain!(SYS_wait4, child, 0, 0, 0);
            }
            plain!(SYS_madvise, base, len, libc::MADV_DONTFORK);
        });
        rest(random, 30_000);
    });
}

/// Starts one more owner, with tables of its own, in which descriptors may refer to other files.
fn apart(life: &Life<'_>, random: &mut Random) {
    let shared = [0, libc::CLONE_FILES, libc::CLONE_FS, libc::CLONE_SYSVSEM];
    let shared = shared[random.below(4) as usize];
    until_over(life, || {
        let _ = clone::in_apart_thread(shared, || owner::own(life, random));
        rest(random, 5_000);
    });
}
