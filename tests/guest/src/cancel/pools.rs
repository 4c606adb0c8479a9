// SPDX-License-Identifier: MIT OR Apache-2.0
//! CANCEL of entries for a separate pool.

use super::{
    cancel, cancel_some, check_empty, check_interrupted, check_never_begun, finish_others, write_to,
};
use crate::check::Check;
use crate::kit::abi::Param;
use crate::kit::engine::Engine;
use crate::kit::files::{BlockedReads, pipe};
use crate::kit::latency::Latency;
use crate::kit::ring::Call;
use crate::kit::{STARVING, in_some_try, in_time, rounds};

tests! { "cancel":
    pool_posted => "an entry for a pool that no thread has taken is ECANCELED and not executed";
    pool_queued => "an entry that waits for its pool's thread is ECANCELED at once, unlike others";
    pool_blocked => "blocked calls in two pools are cancelled one by one; the others stay blocked";
}

const POOL: u8 = 3;

/// An engine with this pool, which has one thread and gets no other.
fn engine() -> Check<Engine> {
    let engine = Engine::open()?;
    engine.set(Param::MaxThreads, 2)?;
    engine.set_pool(POOL.into(), Param::PoolConcurrency, 1)?;
    Ok(engine)
}

fn pool_posted() -> Check {
    let engine = engine()?;
    let mut ring = engine.ring(1)?;
    let (from, to) = pipe()?;
    for slot in [0, 31, 63] {
        ring.post_at(slot, &write_to(&to).in_pool(POOL));
        check_eq!("CANCEL", ring.cancel(slot), Ok(0));
        check!(ring.is_done(slot), "not done: {}", ring.show(slot));
        check_never_begun(ring.reap(slot))?;
    }
    check_empty(&from)?;
    check_ret!("write", ring.result(write_to(&to).in_pool(POOL))?, 1);
    Ok(())
}

fn pool_queued() -> Check {
    let mut latency = Latency::default();
    for _ in 0..rounds(3) {
        in_some_try("CANCEL before entries are STARVED", |_| {
            in_time(STARVING, || cancel_queued(&mut latency))
        })?;
    }
    latency.check("CANCEL")
}

fn cancel_queued(latency: &mut Latency) -> Check {
    let engine = engine()?;
    let mut ring = engine.ring(1)?;
    let (from, to) = pipe()?;
    let (sink, into) = pipe()?;
    let reads = BlockedReads::new(&from, 8);
    let reading: Vec<Call> = reads.calls().iter().map(|c| c.in_pool(POOL)).collect();
    let blocked = ring.post_blocked(&reading)?;
    engine.until_pool(POOL.into(), "a pool whose threads are all blocked", |s| {
        s.blocked > 0 && s.blocked == s.threads
    })?;
    let writes = ring.post_all(&[write_to(&into).in_pool(POOL); 12]);
    cancel_some(&mut ring, latency, &writes)?;
    check_empty(&sink)?;
    reads.release(&to)?;
    finish_others(&mut ring, &blocked, &writes, &sink)
}

fn pool_blocked() -> Check {
    let engine = Engine::open()?;
    let mut ring = engine.ring(1)?;
    for pool in [1, 2] {
        engine.set_pool(pool, Param::PoolConcurrency, 1)?;
    }
    let mut latency = Latency::default();
    for _ in 0..rounds(3) {
        let (from, to) = pipe()?;
        let reads = BlockedReads::new(&from, 24);
        let numbered = reads.calls().into_iter().enumerate();
        let reading: Vec<Call> = numbered.map(|(n, c)| c.in_pool(1 + n as u8 % 2)).collect();
        let slots = ring.post_blocked(&reading)?;
        for pool in [1, 2] {
            engine.until_pool(pool, "12 blocked threads", |s| s.blocked == 12)?;
        }
        for &slot in slots.iter().step_by(3) {
            check_interrupted("read", cancel(&mut ring, &mut latency, slot)?)?;
        }
        reads.release(&to)?;
        for (number, &slot) in slots.iter().enumerate() {
            if number % 3 != 0 {
                check_ret!("read beside", ring.finish(&[slot])?[0].result, 2);
            }
        }
    }
    latency.check("CANCEL")
}
