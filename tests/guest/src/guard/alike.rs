// SPDX-License-Identifier: MIT OR Apache-2.0
//! Owners that do not share tables or control groups use one engine: which of them its threads
//! serve does not depend on chance.

use std::ffi::CStr;
use std::sync::atomic::{AtomicBool, Ordering};

use nix::errno::Errno;

use crate::check::{Check, Ret};
use crate::kit::abi::{Param, Policy, REASON_CONTEXT, REASON_NONE};
use crate::kit::cgroup::Cgroup;
use crate::kit::child::in_child;
use crate::kit::clone::in_apart_thread;
use crate::kit::engine::Engine;
use crate::kit::files::{Leased, TempDir, memory_file};
use crate::kit::limits::{need_root, slow_kernel};
use crate::kit::mode::Mode;
use crate::kit::ring::{Ring, check_done, linked};
use crate::kit::{rounds, sys, until};

tests! { "guard":
    apart_beside_others => "an owner with its own tables beside others: each gets the same answers";
    apart_is_first => "the engine's first thread decides which owners all its threads serve";
    apart_by_group => "the same holds for an owner that was moved alone to another control group";
    apart_in_a_chain => "such an owner itself continues a chain that it has left, whatever the flags behind its head";
    apart_behind_a_block => "such an owner itself executes the calls that it leaves to threads";
}

/// Asynchronous calls of one owner, in the first pool and in another one: all have this reason.
fn check_reason(ring: &mut Ring, round: u32, pool: u8, reason: u8) -> Check {
    let call = call!(SYS_getppid).asynchronous();
    for done in ring.run_all(&[call, call.in_pool(pool)])? {
        check!(
            done.reason == reason,
            "round {round}: {} reason {}, expected reason {reason}",
            Ret(done.result),
            done.reason
        );
    }
    Ok(())
}

/// Pools that an owner tries to make, each of which needs a thread.
const POOLS: u32 = 7;

/// One owner's rounds. Now and then it tries to make a pool: only a served owner can.
fn post(engine: &Engine, ring: &mut Ring, served: bool) -> Check {
    let all = rounds(if slow_kernel() { 300 } else { 1_500 });
    let (reason, wanted) = if served {
        (REASON_NONE, Ok(0))
    } else {
        (REASON_CONTEXT, Err(Errno::EXDEV))
    };
    let mut pool = 0;
    for round in 0..all {
        if round % (all / POOLS + 1) == 0 {
            let number = 1 + round * POOLS / all + if served { 0 } else { POOLS };
            let set = engine.try_set_pool(number, Param::PoolConcurrency, 1);
            check_eq!(format!("SET of pool {number}"), set, wanted);
            if served {
                pool = number as u8;
            }
        }
        check_reason(ring, round, pool, reason)?;
    }
    Ok(())
}

/// Two owners at a time: a thread like the caller, and one with tables of its own. The one that is
/// served registers first.
fn post_both(apart_is_first: bool) -> Check {
    let engine = Engine::open()?;
    // Idle threads stay, whichever task has made them.
    engine.keep_threads()?;
    let registered = AtomicBool::new(false);
    let owner = |first: bool| -> Check {
        if !first {
            until("the first owner", || registered.load(Ordering::Acquire))?;
        }
        let mut ring = engine.ring(1)?;
        registered.store(true, Ordering::Release);
        post(&engine, &mut ring, first)
    };
    std::thread::scope(|scope| {
        let other = scope.spawn(|| owner(!apart_is_first));
        let mut outcome = Ok(());
        in_apart_thread(0, || outcome = owner(apart_is_first))?;
        outcome.map_err(|failure| failure.within("apart"))?;
        other.join().expect("no panic")
    })
}

fn apart_beside_others() -> Check {
    in_child(|| post_both(false))
}

fn apart_is_first() -> Check {
    in_child(|| post_both(true))
}

fn apart_by_group() -> Check {
    need_root()?;
    let group = Cgroup::new(None)?;
    group.write("cgroup.type", "threaded")?;
    in_child(|| {
        let engine = Engine::open()?;
        engine.keep_threads()?;
        let mut first = engine.ring(1)?;
        check_reason(&mut first, 0, 0, REASON_NONE)?;
        std::thread::scope(|scope| {
            let moved = scope.spawn(|| -> Check {
                group.write("cgroup.threads", sys::gettid())?;
                post(&engine, &mut engine.ring(1)?, false)
            });
            let outcome = post(&engine, &mut first, true);
            moved
                .join()
                .expect("no panic")
                .map_err(|failure| failure.within("moved"))?;
            outcome
        })
    })
}

/// An inline call that blocks, then one on a file that only the owner has.
fn behind_a_block(engine: &Engine, ring: &mut Ring, leased: &Leased) -> Check {
    let file = memory_file()?;
    check_ret!("write", plain!(SYS_write, &file, c"abc", 3), 3);
    check_ret!("lseek", plain!(SYS_lseek, &file, 0, libc::SEEK_SET), 0);
    let mut bytes = [0u8; 8];
    let open = leased.open();
    let read = call!(SYS_read, &file, bytes.as_mut_ptr(), 8);
    let slots = ring.post_all(&[open, call!(SYS_getppid), read, read.asynchronous()]);
    check_eq!("ALL", ring.wait(Policy::All), Ok(4));
    let opened = ring.reap(slots[0]);
    check!(opened.result > 2, "open of a leased file: {opened:?}");
    drop(sys::own(opened.result as i32));
    let parent = plain!(SYS_getppid);
    check_done("getppid", ring.reap(slots[1]), parent, REASON_NONE)?;
    check_done("read", ring.reap(slots[2]), 3, REASON_NONE)?;
    let refused = -i64::from(libc::EOPNOTSUPP);
    check_done(
        "read for a thread",
        ring.reap(slots[3]),
        refused,
        REASON_CONTEXT,
    )?;
    check!(
        engine.stats()?.peak_blocked >= 1,
        "the open has not blocked"
    );
    Ok(())
}

fn apart_behind_a_block() -> Check {
    in_child(|| {
        let (engine, mut first) = Mode::Async.start(1)?;
        check_reason(&mut first, 0, 0, REASON_NONE)?;
        let dir = TempDir::new()?;
        let leased = Leased::at(dir.join("leased"))?;
        for _ in 0..rounds(5) {
            let over = AtomicBool::new(false);
            let before = engine.stats()?.handoffs;
            std::thread::scope(|scope| {
                let other = scope.spawn(|| -> Check {
                    until("the blocked owner", || {
                        let handoffs = engine.stats().map_or(0, |stats| stats.handoffs);
                        handoffs > before || over.load(Ordering::Relaxed)
                    })?;
                    leased.release()
                });
                let mut outcome = Ok(());
                in_apart_thread(0, || {
                    outcome = engine
                        .ring(1)
                        .and_then(|mut ring| behind_a_block(&engine, &mut ring, &leased));
                    over.store(true, Ordering::Relaxed);
                })?;
                outcome?;
                other.join().expect("no panic")
            })?;
            leased.renew()?;
        }
        Ok(())
    })
}

/// A chain whose second call waits for the peer of a FIFO, so that its owner leaves it to a thread.
fn left_in_a_chain(engine: &Engine, fifo: &CStr) -> Check {
    let mut ring = engine.ring(1)?;
    let open = call!(SYS_open, fifo.as_ptr(), libc::O_RDONLY | libc::O_CLOEXEC);
    let calls = [
        linked(call!(SYS_getppid)),
        linked(open.asynchronous()),
        call!(SYS_gettid).asynchronous(),
    ];
    let dones = ring.run_all(&calls)?;
    let parent = plain!(SYS_getppid);
    check_done("getppid", dones[0], parent, REASON_NONE)?;
    check!(
        dones[1].result > 2 && dones[1].reason == REASON_NONE,
        "open of a FIFO: {:?}",
        dones[1]
    );
    drop(sys::own(dones[1].result as i32));
    // Only the owner can make this one.
    check_done("gettid", dones[2], plain!(SYS_gettid), REASON_NONE)
}

fn apart_in_a_chain() -> Check {
    in_child(|| {
        let (engine, mut first) = Mode::Async.start(1)?;
        check_reason(&mut first, 0, 0, REASON_NONE)?;
        let dir = TempDir::new()?;
        let fifo = dir.join("fifo");
        let made = plain!(SYS_mknod, fifo.as_c_str(), libc::S_IFIFO | 0o600, 0);
        check_ret!("mknod", made, 0);
        let over = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let other = scope.spawn(|| {
                until("a reader of the FIFO", || {
                    // Without a reader this fails.
                    let flags = libc::O_WRONLY | libc::O_NONBLOCK;
                    sys::open(&fifo, flags, 0).is_ok() || over.load(Ordering::Relaxed)
                })
            });
            let mut outcome = Ok(());
            in_apart_thread(0, || {
                outcome = left_in_a_chain(&engine, &fifo);
                over.store(true, Ordering::Relaxed);
            })?;
            outcome?;
            other.join().expect("no panic")
        })
    })
}
