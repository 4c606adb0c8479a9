// SPDX-License-Identifier: MIT OR Apache-2.0
//! Settings that an owner changes after REGISTER: existing syscall threads follow.

use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::check::{Check, Ret, skip};
use crate::kit::abi::{Param, REASON_NONE};
use crate::kit::child::in_child;
use crate::kit::clone::in_apart_thread;
use crate::kit::engine::Engine;
use crate::kit::files::memory_file;
use crate::kit::limits::{need_root, need_two_cpus};
use crate::kit::mode::Mode;
use crate::kit::ring::{Ring, check_done, linked};
use crate::kit::{memory, process, rounds};

tests! { "guard":
    io_flusher_followed => "PR_SET_IO_FLUSHER holds for existing threads until it is undone";
    speculation_followed => "PR_SET_SPECULATION_CTRL holds for existing threads until it is undone";
    login_followed => "audit's login and session are the owner's present ones, however late set";
    io_context_raced => "I/O priorities that others set on a thread while it serves owners in turn";
    rseq_between_entries => "rseq(2)'s CPU number is right between two inline entries";
    core_cookie_followed => "PR_SCHED_CORE of the owner alone gives its cookie to existing threads";
}

// From linux/prctl.h.
const PR_SET_SPECULATION_CTRL: u32 = 53;
const STORE_BYPASS: u32 = 0;
const ENABLE: u32 = 1 << 1;
const DISABLE: u32 = 1 << 2;
const FORCE_DISABLE: u32 = 1 << 3;
const DISABLE_NOEXEC: u32 = 1 << 4;
const PR_SET_IO_FLUSHER: u32 = 57;
const PR_SCHED_CORE: u32 = 62;
const GET: u32 = 0;
const CREATE: u32 = 1;

/// An engine with one syscall thread, and the ID of that thread.
pub struct Single {
    engine: Engine,
    ring: Ring,
    pub tid: i32,
}

impl Single {
    pub fn new() -> Check<Single> {
        let engine = Engine::open()?;
        engine.set(Param::MaxThreads, 1)?;
        let ring = engine.ring(1)?;
        let tasks = process::tasks(std::process::id() as i32).into_iter();
        let threads: Vec<i32> = tasks
            .filter(|task| task.name.starts_with("flexsc-"))
            .map(|task| task.tid)
            .collect();
        check_eq!("syscall threads", threads.len(), 1);
        Ok(Single {
            engine,
            ring,
            tid: threads[0],
        })
    }

    pub fn engine(&self) -> &Engine {
        &self.engine
    }

    /// Makes the thread take over the owner's settings.
    pub fn serve(&mut self) -> Check {
        let done = self.ring.run(call!(SYS_getppid).asynchronous())?;
        check_eq!("reason", done.reason, REASON_NONE);
        Ok(())
    }
}

/// The flags in /proc/TID/stat.
fn flags(tid: i32) -> Check<u64> {
    let stat = ok!("stat", fs::read_to_string(format!("/proc/{tid}/stat")));
    let rest = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
    match rest.split_whitespace().nth(6).and_then(|f| f.parse().ok()) {
        Some(flags) => Ok(flags),
        None => fail!("no flags in {stat:?}"),
    }
}

fn io_flusher_followed() -> Check {
    need_root()?;
    in_child(|| {
        let own = plain!(SYS_gettid) as i32;
        let mut single = Single::new()?;
        single.serve()?;
        let set = |on: u32| plain!(SYS_prctl, PR_SET_IO_FLUSHER, on, 0, 0, 0);
        // Sets it once before, because using the capability sets a flag too.
        check_ret!("PR_SET_IO_FLUSHER", set(0), 0);
        let before = flags(own)?;
        check_ret!("PR_SET_IO_FLUSHER", set(1), 0);
        let bits = flags(own)? & !before;
        check_eq!("flags of an I/O flusher", bits.count_ones(), 2);
        for (on, wanted) in [(1, bits), (0, 0), (1, bits), (0, 0)] {
            check_ret!("PR_SET_IO_FLUSHER", set(on), 0);
            single.serve()?;
            check_eq!("flags of the thread", flags(single.tid)? & bits, wanted);
        }
        Ok(())
    })
}

/// The line on speculation in /proc/TID/status.
fn speculation(tid: i32) -> String {
    let status = fs::read_to_string(format!("/proc/{tid}/status")).unwrap_or_default();
    let line = status
        .lines()
        .find(|line| line.starts_with("Speculation_Store_Bypass"));
    line.unwrap_or_default().to_owned()
}

fn speculation_followed() -> Check {
    in_child(|| {
        let own = plain!(SYS_gettid) as i32;
        let mut single = Single::new()?;
        single.serve()?;
        let set = |how: u32| {
            let what = PR_SET_SPECULATION_CTRL;
            plain!(SYS_prctl, what, STORE_BYPASS, how, 0, 0)
        };
        let first = set(DISABLE);
        if first != 0 {
            return skip(format!("needs speculation control: {}", Ret(first)));
        }
        for how in [DISABLE, ENABLE, DISABLE_NOEXEC, ENABLE, FORCE_DISABLE] {
            check_ret!("PR_SET_SPECULATION_CTRL", set(how), 0);
            single.serve()?;
            check_eq!(
                "state of the thread",
                speculation(single.tid),
                speculation(own)
            );
        }
        Ok(())
    })
}

fn cookie(tid: i32) -> Check<u64> {
    let mut cookie = 0u64;
    let at = std::ptr::from_mut(&mut cookie);
    let got = plain!(SYS_prctl, PR_SCHED_CORE, GET, tid, 0, at);
    check_ret!("PR_SCHED_CORE_GET", got, 0);
    Ok(cookie)
}

fn core_cookie_followed() -> Check {
    in_child(|| {
        let own = plain!(SYS_gettid) as i32;
        let mut single = Single::new()?;
        single.serve()?;
        let mut last = 0;
        for _ in 0..3 {
            let made = plain!(SYS_prctl, PR_SCHED_CORE, CREATE, 0, 0, 0);
            if made == -i64::from(libc::ENODEV) || made == -i64::from(libc::EINVAL) {
                return skip(format!(
                    "needs core scheduling and threads of a core: {}",
                    Ret(made)
                ));
            }
            check_ret!("PR_SCHED_CORE_CREATE", made, 0);
            let cookie_of_owner = cookie(own)?;
            check!(
                cookie_of_owner != 0 && cookie_of_owner != last,
                "no new cookie"
            );
            last = cookie_of_owner;
            single.serve()?;
            check_eq!("cookie of the thread", cookie(single.tid)?, cookie_of_owner);
        }
        Ok(())
    })
}

fn login(tid: i32) -> [String; 2] {
    ["loginuid", "sessionid"]
        .map(|name| fs::read_to_string(format!("/proc/self/task/{tid}/{name}")).unwrap_or_default())
}

fn login_followed() -> Check {
    need_root()?;
    in_child(|| {
        let own = plain!(SYS_gettid) as i32;
        let mut single = Single::new()?;
        let path = format!("/proc/self/task/{own}/loginuid");
        if fs::metadata(&path).is_err() {
            return skip("needs CONFIG_AUDIT");
        }
        for id in 1..rounds(100) {
            // The thread takes over the owner's settings while this thread changes its login.
            let slots = single
                .ring
                .post_all(&[call!(SYS_getppid).asynchronous(); 32]);
            single.ring.kicked()?;
            ok!("loginuid", fs::write(&path, id.to_string()));
            single.ring.finish(&slots)?;
            single.serve()?;
            check_eq!("loginuid", login(own)[0], id.to_string());
            check_eq!("login of the thread", login(single.tid), login(own));
        }
        Ok(())
    })
}

/// `IOPRIO_WHO_PROCESS`, and best effort of a level.
const WHO_PROCESS: i32 = 1;

fn best_effort(level: i32) -> i32 {
    (2 << 13) | level
}

fn set_io_priority(tid: i32, level: i32) -> Check {
    let set = plain!(SYS_ioprio_set, WHO_PROCESS, tid, best_effort(level));
    check_ret!("ioprio_set", set, 0);
    Ok(())
}

fn io_context_raced() -> Check {
    need_root()?;
    in_child(|| {
        // The thread has no I/O context yet: the first owner gives it one.
        let single = Single::new()?;
        let (engine, tid) = (&single.engine, single.tid);
        let over = AtomicBool::new(false);
        let owner = |level: i32| -> Check {
            let mut ring = engine.ring(1)?;
            for round in 0..rounds(300) {
                if round % 10 == 0 {
                    set_io_priority(0, level)?;
                }
                ring.run(call!(SYS_getppid).asynchronous())?;
            }
            Ok(())
        };
        std::thread::scope(|scope| {
            let setter = scope.spawn(|| -> Check {
                while !over.load(Ordering::Relaxed) {
                    set_io_priority(tid, 7)?;
                }
                Ok(())
            });
            let owners = [3, 5].map(|level| scope.spawn(move || owner(level)));
            let done = owners.map(|owner| owner.join().expect("no panic"));
            over.store(true, Ordering::Relaxed);
            setter.join().expect("no panic")?;
            done.into_iter().collect::<Check>()
        })?;
        // The thread must not have the priority of another owner with which it has shared a
        // context, but that of this one.
        set_io_priority(0, 1)?;
        let mut single = single;
        single.serve()?;
        let got = plain!(SYS_ioprio_get, WHO_PROCESS, single.tid);
        check_ret!("priority of the thread", got, best_effort(1));
        Ok(())
    })
}

/// The flags of all tables that a new thread usually shares with its creator.
const ALL_TABLES: i32 = libc::CLONE_FILES | libc::CLONE_FS | libc::CLONE_SYSVSEM;
/// Size of `struct rseq`, offset of its `cpu_id`, and the signature before abort handlers.
const RSEQ: usize = 32;
const CPU_ID: usize = 4;
const SIGNATURE: u32 = 0x5305_3053;

fn see_moves(area: *mut u8) -> Check {
    let (_engine, mut ring) = Mode::Inline.start(1)?;
    let file = memory_file()?;
    for round in 0..rounds(200) {
        let cpu = u64::from(round % 2);
        let mask = 1u64 << cpu;
        // In a chain, because the first call may wait until the thread is moved.
        let done = ring.run_all(&[
            linked(call!(
                SYS_sched_setaffinity,
                0,
                8,
                std::ptr::from_ref(&mask)
            )),
            call!(SYS_pwrite64, &file, area.wrapping_add(CPU_ID), 4, 0),
        ])?;
        check_done("sched_setaffinity", done[0], 0, REASON_NONE)?;
        check_done("pwrite64", done[1], 4, REASON_NONE)?;
        let mut bytes = [0u8; 4];
        let read = plain!(SYS_pread64, &file, bytes.as_mut_ptr(), 4, 0);
        check_ret!("pread64", read, 4);
        let seen = u64::from(u32::from_ne_bytes(bytes));
        check_eq!(format!("cpu_id in round {round}"), seen, cpu);
    }
    Ok(())
}

fn rseq_between_entries() -> Check {
    need_two_cpus()?;
    in_child(|| {
        let area = memory::pages(4096)?;
        let mut outcome = Ok(());
        // A thread for which the C library has not registered anything.
        in_apart_thread(ALL_TABLES, || {
            let rseq = |flags: u32| plain!(SYS_rseq, area, RSEQ, flags, SIGNATURE);
            outcome = match rseq(0) {
                0 => see_moves(area),
                error => skip(format!("needs rseq: {}", Ret(error))),
            };
            rseq(1);
        })?;
        outcome
    })
}
