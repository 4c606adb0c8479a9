// SPDX-License-Identifier: MIT OR Apache-2.0
//! Threads that retire while owners post entries for them: other threads execute these, or the
//! owners learn that no thread can.

use std::sync::Barrier;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use crate::check::Check;
use crate::kit::abi::{Param, Policy, REASON_STARVED};
use crate::kit::cgroup::Cgroup;
use crate::kit::child::in_child;
use crate::kit::engine::Engine;
use crate::kit::limits::need_two_cpus;
use crate::kit::{Random, rounds};

tests! { "starving":
    retires_before_work => "entries that come while a thread retires are executed by another one";
    retires_at_limit => "the same if no thread can be created: each entry is done or STARVED";
}

/// How entries have ended.
#[derive(Default)]
struct Ends {
    made: AtomicU32,
    starved: AtomicU32,
}

/// The time of the kernel's last tick, at which the timers of idle threads expire.
struct Tick {
    coarse: [i64; 2],
    at: Instant,
}

impl Tick {
    fn new() -> Self {
        Tick {
            coarse: [0; 2],
            at: Instant::now(),
        }
    }

    /// Returns true if there was a tick since the last look.
    fn is_new(&mut self) -> bool {
        let mut now = [0i64; 2];
        let clock = libc::CLOCK_MONOTONIC_COARSE;
        plain!(SYS_clock_gettime, clock, now.as_mut_ptr());
        let new = now != self.coarse;
        if new {
            (self.coarse, self.at) = (now, Instant::now());
        }
        new
    }
}

/// Measures how long after the tick a thread retires, if one does so soon.
fn see_retiring(engine: &Engine, tick: &mut Tick) -> Check<Option<Duration>> {
    let (begin, before) = (Instant::now(), engine.stats()?.threads_retired);
    while begin.elapsed() < Duration::from_millis(10) {
        tick.is_new();
        if engine.stats()?.threads_retired != before {
            return Ok(Some(tick.at.elapsed()));
        }
    }
    Ok(None)
}

/// Posts calls for threads again and again, and waits for each. Each owner calls this; when all
/// have pages, `limit` is called.
fn post_in_loop(
    engine: &Engine,
    rounds: u32,
    ends: &Ends,
    all: &Barrier,
    limit: impl Fn() -> Check,
) -> Check {
    let ring = engine.ring(1);
    all.wait();
    let limited = limit();
    all.wait();
    let (mut ring, mut random) = (ring?, Random::new());
    limited?;
    let (mut tick, mut after_tick) = (Tick::new(), Duration::ZERO);
    for round in 0..rounds {
        let slot = ring.post(call!(SYS_getpid).asynchronous());
        let waited = ring.wait(Policy::Any);
        check!(
            waited == Ok(1),
            "round {round}: WAIT: {waited:?}; {:?}",
            engine.pool(0)
        );
        let done = ring.reap(slot);
        if done.result == i64::from(std::process::id()) {
            ends.made.fetch_add(1, Ordering::Relaxed);
        } else {
            check_ret!("getpid", done.result, -libc::EAGAIN);
            check_eq!("reason", done.reason, REASON_STARVED);
            ends.starved.fetch_add(1, Ordering::Relaxed);
        }
        // The next call comes as a thread retires, or a little before.
        if round % 2 == 0 {
            after_tick = see_retiring(engine, &mut tick)?.unwrap_or(after_tick);
        } else {
            while !tick.is_new() {}
            let early = Duration::from_nanos(random.below(100_000));
            while tick.at.elapsed() + early < after_tick {}
        }
    }
    Ok(())
}

/// Owners post for one thread at a time, beside which there is a spare until the next tick or two.
/// Of two owners, one may help the other by chance; one alone depends on the pool.
fn while_retiring(owners: usize, limit: Option<&Cgroup>, retire_ms: u64) -> Check {
    let engine = Engine::open()?;
    engine.set(Param::RetireMs, retire_ms)?;
    engine.set_pool(0, Param::PoolConcurrency, 1)?;
    let (ends, all) = (Ends::default(), Barrier::new(owners));
    // Only the pool helps an owner that is alone.
    let rounds = rounds(if owners == 1 { 350 } else { 70 });
    std::thread::scope(|scope| {
        let other = || post_in_loop(&engine, rounds, &ends, &all, || Ok(()));
        let others: Vec<_> = (1..owners).map(|_| scope.spawn(other)).collect();
        let ran = post_in_loop(&engine, rounds, &ends, &all, || match limit {
            // Two syscall threads besides: one that retires counts for a while.
            Some(group) => group.write("pids.max", owners + 2),
            None => Ok(()),
        });
        others
            .into_iter()
            .fold(ran, |ran, other| ran.and(other.join().expect("no panic")))
    })?;
    let stats = engine.stats()?;
    println!(
        "# {owners} owners, RETIRE_MS {retire_ms}: {} made, {} STARVED, {} threads retired, {} not made",
        ends.made.load(Ordering::Relaxed),
        ends.starved.load(Ordering::Relaxed),
        stats.threads_retired,
        stats.create_failed
    );
    check!(stats.threads_retired > 0, "no thread has retired");
    check!(ends.made.load(Ordering::Relaxed) > 0, "no call was made");
    Ok(())
}

/// Numbers of owners, and RETIRE_MS.
const KINDS: [(usize, u64); 3] = [(1, 0), (2, 0), (2, 1)];

fn retires_before_work() -> Check {
    need_two_cpus()?;
    KINDS
        .into_iter()
        .try_for_each(|(owners, ms)| in_child(|| while_retiring(owners, None, ms)))
}

fn retires_at_limit() -> Check {
    need_two_cpus()?;
    let group = Cgroup::new(Some("pids"))?;
    for (owners, ms) in KINDS {
        in_child(|| {
            group.write("pids.max", "max")?;
            group.enter()?;
            while_retiring(owners, Some(&group), ms)
        })?;
    }
    Ok(())
}
