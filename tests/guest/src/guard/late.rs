// SPDX-License-Identifier: MIT OR Apache-2.0
//! What an owner asks the kernel for late, by prctl(2): threads that exist follow.

use std::fs;

use crate::check::{Check, Ret, skip};
use crate::kit::abi::{Param, REASON_NONE};
use crate::kit::child::in_child;
use crate::kit::engine::Engine;
use crate::kit::limits::need_root;
use crate::kit::process;
use crate::kit::ring::Ring;

tests! { "guard":
    io_flusher_followed => "PR_SET_IO_FLUSHER holds for threads that exist, until it is taken back";
    speculation_followed => "PR_SET_SPECULATION_CTRL holds for threads that exist, until it is taken back";
    core_cookie_followed => "PR_SCHED_CORE of the owner alone gives its cookie to threads that exist";
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

/// An engine with one thread, which exists, and its number.
struct Single {
    _engine: Engine,
    ring: Ring,
    tid: i32,
}

impl Single {
    fn new() -> Check<Single> {
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
            _engine: engine,
            ring,
            tid: threads[0],
        })
    }

    /// Has the thread take over from the owner.
    fn serve(&mut self) -> Check {
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
        // Once before: to use the right for it sets a flag, too.
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
