// SPDX-License-Identifier: MIT OR Apache-2.0
//! Owners that do not share tables or control groups have one engine: whom it serves does not
//! depend on chance.

use std::sync::atomic::{AtomicBool, Ordering};

use nix::errno::Errno;

use crate::check::{Check, Ret};
use crate::kit::abi::{Param, REASON_CONTEXT, REASON_NONE};
use crate::kit::cgroup::Cgroup;
use crate::kit::child::in_child;
use crate::kit::clone::in_apart_thread;
use crate::kit::engine::Engine;
use crate::kit::limits::{need_root, slow_kernel};
use crate::kit::ring::Ring;
use crate::kit::{rounds, sys, until};

tests! { "guard":
    apart_beside_others => "an owner with tables of its own beside others: each gets the same answers always";
    apart_is_first => "the engine's first thread decides whom all of them serve";
    apart_by_group => "so it is for an owner that was moved to another control group alone";
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

/// One owner's 10,000 rounds; now and then it makes a pool, if the engine's threads are like it.
fn post(engine: &Engine, ring: &mut Ring, served: bool) -> Check {
    let all = rounds(if slow_kernel() { 2_000 } else { 10_000 });
    let (reason, wanted) = if served {
        (REASON_NONE, Ok(0))
    } else {
        (REASON_CONTEXT, Err(Errno::EXDEV))
    };
    let mut pool = 0;
    for round in 0..all {
        if round % (all / POOLS + 1) == 0 {
            let number = 1 + round * POOLS / all + if served { 0 } else { POOLS };
            let set = engine.try_set_pool(number, Param::PoolActive, 1);
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
    // Idle threads stay, whoever has made them.
    engine.set(Param::RetireMs, 1 << 30)?;
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
        engine.set(Param::RetireMs, 1 << 30)?;
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
