// SPDX-License-Identifier: MIT OR Apache-2.0
//! A call that sleeps for a lock with priority inheritance, which has a way into the scheduler of its
//! own, is like any other call that sleeps.

use std::os::fd::OwnedFd;

use crate::check::{Check, skip};
use crate::kit::abi::{Param, Policy, REASON_NONE};
use crate::kit::engine::Engine;
use crate::kit::limits::need_root;
use crate::kit::ring::check_done;
use crate::kit::{sys, until};

tests! { "blocking":
    rt_mutex_inline => "an owner that sleeps for a lock with priority inheritance hands the rest off";
    rt_mutex_in_thread => "a thread that sleeps for one makes room for another";
}

/// A file of the debug kernel: a read waits for a lock, and a write of "1" holds it until "0" is
/// written. All calls name the place, so that none waits for another one's.
fn lock_file() -> Check<OwnedFd> {
    need_root()?;
    match sys::open(c"/sys/kernel/debug/flexsc/rt_mutex", libc::O_RDWR, 0) {
        Ok(file) => Ok(file),
        Err(_) => skip("needs the debug kernel's lock"),
    }
}

fn write(file: &OwnedFd, text: &std::ffi::CStr) -> i64 {
    plain!(SYS_pwrite64, file, text.as_ptr(), 1, 0)
}

/// Does the work while another thread holds the lock. The work ends the holding itself, or fails.
fn while_held(file: &OwnedFd, work: impl FnOnce() -> Check) -> Check {
    std::thread::scope(|scope| {
        let holder = scope.spawn(|| write(file, c"1"));
        let mut byte = 0u8;
        let done = until("the holder of the lock", || {
            // 1 if it is held. Does not wait.
            plain!(SYS_pread64, file, std::ptr::from_mut(&mut byte), 1, 1) == 1
        })
        .and_then(|()| work());
        write(file, c"0");
        check_ret!("the holder", holder.join().expect("no panic"), 1);
        done
    })
}

fn rt_mutex_inline() -> Check {
    let file = lock_file()?;
    let engine = Engine::open()?;
    let mut ring = engine.ring(1)?;
    let mut byte = 0u8;
    let before = engine.stats()?;
    while_held(&file, || {
        let read = call!(SYS_pread64, &file, std::ptr::from_mut(&mut byte), 1, 0);
        let slots = ring.post_all(&[read, call!(SYS_getpid)]);
        std::thread::scope(|scope| {
            let other = scope.spawn(|| {
                let seen = engine.until_stats("a call of a thread", |stats| {
                    stats.thread_done > before.thread_done
                });
                write(&file, c"0");
                seen
            });
            ok!("ALL", ring.wait(Policy::All));
            other.join().expect("no panic")
        })?;
        check_done("read", ring.reap(slots[0]), 0, REASON_NONE)?;
        let pid = std::process::id().into();
        check_done("getpid", ring.reap(slots[1]), pid, REASON_NONE)
    })?;
    check!(engine.stats()?.handoffs > before.handoffs, "no hand-off");
    Ok(())
}

fn rt_mutex_in_thread() -> Check {
    let file = lock_file()?;
    let engine = Engine::open()?;
    engine.set_pool(0, Param::PoolConcurrency, 1)?;
    let mut ring = engine.ring(1)?;
    let mut byte = 0u8;
    while_held(&file, || {
        let read = call!(SYS_pread64, &file, std::ptr::from_mut(&mut byte), 1, 0);
        let slots = ring.post_all(&[read.asynchronous(), call!(SYS_getpid).asynchronous()]);
        ok!("ANY", ring.wait(Policy::Any));
        check!(!ring.is_done(slots[0]), "the read has not waited");
        engine.until_pool(0, "a thread that sleeps for the lock", |pool| {
            pool.blocked == 1
        })?;
        // It stays asleep.
        for _ in 0..100 {
            check_eq!("blocked threads", engine.pool(0)?.blocked, 1);
            sys::yield_now();
        }
        write(&file, c"0");
        let dones = ring.finish(&slots)?;
        check_done("read", dones[0], 0, REASON_NONE)
    })
}
