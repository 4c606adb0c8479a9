// SPDX-License-Identifier: MIT OR Apache-2.0
//! Idle syscall threads follow their owner's credentials and nice value at once, not when they are
//! next needed. The tests post nothing once the threads are idle.

use std::fs;

use super::late::Single;
use super::members::threads;
use crate::check::{Check, Ret};
use crate::kit::abi::{MAX_IDLE_NS, Param};
use crate::kit::child::in_child;
use crate::kit::limits::{NOBODY, drop_rights, need_root, need_two_cpus, set_limit};
use crate::kit::mode::Mode;
use crate::kit::{process, rounds, sys, until};

tests! { "guard":
    idle_credentials => "idle threads take over their owner's new credentials";
    idle_poller => "a poller that sleeps takes over its owner's new credentials";
    idle_poller_spins => "a poller that spins in vain takes over its owner's new credentials";
    idle_of_ended => "idle threads whose owner has ended follow the first thread of the process";
    idle_limit => "after setuid idle threads count as processes of the new user";
    idle_nice => "idle threads take over their owner's new nice value, whichever call sets it";
    idle_left_alone => "setpriority() by a user who may not renice a process wakes none of its idle threads";
    idle_raced => "threads that fall idle while credentials change take over the new ones";
}

/// The line of /proc/TID/status with this name.
fn status(tid: i32, name: &str) -> String {
    let path = format!("/proc/self/task/{tid}/status");
    let text = fs::read_to_string(path).unwrap_or_default();
    let mut lines = text.lines();
    let line = lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    line.unwrap_or_default().trim().replace('\t', " ")
}

/// Waits until all syscall threads have this user.
fn until_user(user: u32) -> Check {
    let wanted = format!("{user} {user} {user} {user}");
    let seen = until(&format!("threads of the user {user}"), || {
        let threads = threads();
        !threads.is_empty() && threads.iter().all(|&tid| status(tid, "Uid") == wanted)
    });
    if seen.is_err() {
        for tid in threads() {
            println!("# {tid} {} {}", status(tid, "Name"), status(tid, "Uid"));
        }
        process::print_threads(std::process::id() as i32);
    }
    seen
}

fn become_user(user: u32) -> Check {
    let set = plain!(SYS_setresuid, user, user, user);
    check_ret!("setresuid", set, 0);
    Ok(())
}

fn idle_credentials() -> Check {
    need_root()?;
    in_child(|| {
        let mut single = Single::new()?;
        single.serve()?;
        // Keeps the capability to change the user again.
        check_ret!("PR_SET_KEEPCAPS", plain!(SYS_prctl, 8, 1, 0, 0, 0), 0);
        become_user(1000)?;
        until_user(1000)?;
        check_ret!("setgroups", plain!(SYS_setgroups, 0, 0), -libc::EPERM);
        let own = plain!(SYS_gettid) as i32;
        let name = "CapEff";
        check_eq!(name, status(single.tid, name), status(own, name));
        Ok(())
    })
}

fn idle_poller() -> Check {
    need_root()?;
    need_two_cpus()?;
    in_child(|| {
        let (engine, mut ring) = Mode::Poller.start(1)?;
        engine.set(Param::IdleNs, 0)?;
        ring.run(call!(SYS_getppid))?;
        until("a poller that sleeps", || ring.needs_kick())?;
        become_user(1000)?;
        until_user(1000)
    })
}

fn idle_poller_spins() -> Check {
    need_root()?;
    need_two_cpus()?;
    in_child(|| {
        let (engine, mut ring) = Mode::Poller.start(1)?;
        // The poller does not fall asleep.
        engine.set(Param::IdleNs, MAX_IDLE_NS)?;
        ring.run(call!(SYS_getppid))?;
        check!(!ring.needs_kick(), "the poller sleeps");
        become_user(1000)?;
        until_user(1000)?;
        check!(!ring.needs_kick(), "the poller has slept");
        Ok(())
    })
}

fn idle_of_ended() -> Check {
    need_root()?;
    in_child(|| {
        let single = Single::new()?;
        let engine = single.engine();
        std::thread::scope(|scope| {
            let served = scope.spawn(|| -> Check {
                let mut ring = engine.ring(1)?;
                ring.run(call!(SYS_getppid).asynchronous())?;
                Ok(())
            });
            served.join().expect("no panic")
        })?;
        become_user(1000)?;
        until_user(1000)
    })
}

/// fork(2) under a limit on processes. The child ends at once.
fn fork_within(limit: usize) -> Check<i64> {
    ok!("RLIMIT_NPROC", set_limit_now(limit as u64));
    let pid = plain!(SYS_fork);
    if pid == 0 {
        sys::exit_now(0);
    }
    if pid > 0 {
        plain!(SYS_wait4, pid, 0, 0, 0);
    }
    Ok(pid)
}

/// Sets the soft limit.
fn set_limit_now(value: u64) -> Result<u64, nix::errno::Errno> {
    let limit = [value, 1_000_000];
    let limit = limit.as_ptr();
    sys::result(plain!(SYS_prlimit64, 0, libc::RLIMIT_NPROC, limit, 0))
}

fn idle_limit() -> Check {
    need_root()?;
    in_child(|| {
        let mut single = Single::new()?;
        single.serve()?;
        ok!("RLIMIT_NPROC", set_limit(libc::RLIMIT_NPROC, 1_000_000));
        ok!("dropping rights", drop_rights());
        until_user(NOBODY)?;
        // All threads of this process count, and no others.
        let count = process::tasks(std::process::id() as i32).len();
        check_ret!("fork at the limit", fork_within(count)?, -libc::EAGAIN);
        let pid = fork_within(count + 1)?;
        check!(pid > 0, "fork below the limit: {}", Ret(pid));
        Ok(())
    })
}

fn nice(tid: i32) -> i64 {
    20 - plain!(SYS_getpriority, libc::PRIO_PROCESS, tid)
}

fn until_nice(wanted: i64) -> Check {
    until(&format!("threads with nice value {wanted}"), || {
        threads().iter().all(|&tid| nice(tid) == wanted)
    })
}

fn idle_nice() -> Check {
    in_child(|| {
        let mut single = Single::new()?;
        single.serve()?;
        let set = plain!(SYS_setpriority, libc::PRIO_PROCESS, 0, 3);
        check_ret!("setpriority", set, 0);
        until_nice(3)?;
        let own = plain!(SYS_gettid);
        // From another thread, by the owner's thread ID.
        std::thread::scope(|scope| {
            let set = scope.spawn(|| plain!(SYS_setpriority, libc::PRIO_PROCESS, own, 5));
            check_ret!("setpriority", set.join().expect("no panic"), 0);
            until_nice(5)
        })?;
        // struct sched_attr: size, policy, flags, nice value, and fields that are not needed.
        let attr: [u32; 12] = [48, 0, 0, 0, 9, 0, 0, 0, 0, 0, 0, 0];
        let set = plain!(SYS_sched_setattr, 0, attr.as_ptr(), 0);
        check_ret!("sched_setattr", set, 0);
        until_nice(9)?;
        single.serve()
    })
}

fn idle_left_alone() -> Check {
    need_root()?;
    let mut single = Single::new()?;
    // Unlike the owner's, so that a note of any change would wake the thread.
    single.engine().set_pool(0, Param::PoolNice, 5)?;
    // On one CPU each wake-up is a sleep of its own.
    single.engine().set(Param::PoolCpus, 1)?;
    single.serve()?;
    until_nice(5)?;
    let tid = single.tid;
    let sleeps = || -> Check<u64> {
        let count = status(tid, "voluntary_ctxt_switches");
        Ok(ok!("sleeps of the thread", count.parse()))
    };
    let before = sleeps()?;
    let owner = std::process::id();
    in_child(|| {
        ok!("sched_setaffinity", sys::pin(0));
        ok!("dropping rights", drop_rights());
        for _ in 0..1000 {
            let set = plain!(SYS_setpriority, libc::PRIO_PROCESS, owner, 7);
            check_ret!("setpriority", set, -libc::EPERM);
            sys::yield_now();
        }
        Ok(())
    })?;
    let slept = sleeps()? - before;
    check!(slept < 50, "the thread was woken {slept} times");
    Ok(())
}

fn idle_raced() -> Check {
    need_root()?;
    in_child(|| {
        let mut single = Single::new()?;
        for round in 0..rounds(300) {
            // The thread finishes this call while the credentials change.
            single.serve()?;
            let user = 1000 + round % 7;
            check_ret!("setresuid", plain!(SYS_setresuid, -1, user, -1), 0);
            let wanted = format!("0 {user} 0 {user}");
            let follows = || status(single.tid, "Uid") == wanted;
            if !(0..1000).any(|_| follows()) {
                until("the thread follows", follows)?;
            }
            check_ret!("setresuid", plain!(SYS_setresuid, -1, 0, -1), 0);
        }
        Ok(())
    })
}
