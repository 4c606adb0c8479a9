// SPDX-License-Identifier: MIT OR Apache-2.0
//! Engines with many registrations.

use std::time::{Duration, Instant};

use crate::check::Check;
use crate::kit::abi::Param;
use crate::kit::engine::Engine;
use crate::kit::limits;
use crate::kit::ring::{Call, Ring};
use crate::life::quota::Parameter;
use crate::notify::events;

tests! { "pools":
    few_after_many => "an engine that once had many registrations takes no longer for that in poll()";
    many_queued => "a pool's queue has room for all registrations, also for those that come while it is full";
}

/// Registrations for which an engine makes room at a time.
const ROOM: usize = 256;
const FIRST: usize = ROOM - 6;
const MORE: usize = ROOM + 20;

/// Bytes for which getrandom keeps a CPU busy for a while.
const BUSY: usize = 32 << 20;

/// Registers, and has one call executed in `pool` some time later.
fn queue(engine: &Engine, count: usize, pool: u8) -> Check<Vec<Ring>> {
    let mut rings = Vec::with_capacity(count);
    for _ in 0..count {
        let mut ring = engine.ring(1)?;
        ring.post_at(0, &call!(SYS_getpid).in_pool(pool));
        ring.kicked()?;
        rings.push(ring);
    }
    Ok(rings)
}

/// Allows this many pages until the result is dropped.
fn allow_pages(count: u32) -> Check<[Parameter; 2]> {
    let limits = [
        Parameter::get("max_pages")?,
        Parameter::get("max_user_pages")?,
    ];
    for limit in &limits {
        limit.set(count)?;
    }
    Ok(limits)
}

fn many_queued() -> Check {
    let _limits = allow_pages(4096)?;
    let engine = Engine::open()?;
    engine.set_pool(1, Param::PoolConcurrency, 1)?;
    // One page keeps the pool's only running thread busy until CANCEL.
    let mut held = engine.ring(1)?;
    // Written, so that no call sleeps in a page fault.
    let mut bytes = vec![1u8; BUSY];
    let busy = call!(SYS_getrandom, bytes.as_mut_ptr(), BUSY, 0).in_pool(1);
    let calls: Vec<Call> = vec![busy; 64];
    let slots = held.post_all(&calls);
    held.kicked()?;
    engine.until_pool(1, "the thread is busy", |s| s.running == 1 && s.queued == 0)?;
    let mut rings = queue(&engine, FIRST, 1)?;
    // A pool that exists before the engine makes more room, and one that comes later.
    engine.set_pool(2, Param::PoolConcurrency, 1)?;
    rings.append(&mut queue(&engine, MORE, 1)?);
    engine.set_pool(3, Param::PoolConcurrency, 1)?;
    let queued = engine.pool(1)?.queued;
    check!(
        queued as usize > ROOM,
        "{queued} registrations of {} are queued",
        rings.len()
    );
    for &slot in &slots {
        // Those that are done are not found.
        let _ = held.cancel(slot);
    }
    held.finish(&slots)?;
    for pool in [1, 2, 3] {
        for ring in &mut rings {
            if pool != 1 {
                ring.post_at(0, &call!(SYS_getpid).in_pool(pool));
                ring.kicked()?;
            }
        }
        for ring in &mut rings {
            let done = ring.finish(&[0])?[0];
            check_ret!("getpid", done.result, std::process::id());
        }
    }
    Ok(())
}

/// The time that poll() takes at least.
fn poll_time(engine: &Engine) -> Check<Duration> {
    let mut least = Duration::MAX;
    for _ in 0..200 {
        let begin = Instant::now();
        check_eq!("events", events(engine.fd(), Duration::ZERO)?, 0);
        least = least.min(begin.elapsed());
    }
    Ok(least)
}

fn few_after_many() -> Check {
    let _limits = allow_pages(4096)?;
    let engine = Engine::open()?;
    let _ring = engine.ring(1)?;
    let before = poll_time(&engine)?;
    let mut ids = Vec::new();
    for _ in 0..limits::many(1500) {
        ids.push(ok!("REGISTER", engine.register(1)).id);
    }
    let among_many = poll_time(&engine)?;
    for id in ids {
        ok!("UNREGISTER", engine.unregister(id));
    }
    let after = poll_time(&engine)?;
    println!("# before {before:?}, among many {among_many:?}, after {after:?}");
    check!(
        after < 4 * before,
        "poll() takes {after:?}, and took {before:?}"
    );
    Ok(())
}
