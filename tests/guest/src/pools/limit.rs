// SPDX-License-Identifier: MIT OR Apache-2.0
//! How many threads of a pool run at once, as seen from outside the module.

use crate::check::Check;
use crate::kit::abi::{MAX_IDLE_NS, PAGE_ENTRIES, Param};
use crate::kit::engine::Engine;
use crate::kit::files::{BlockedReads, memory_file, pipe};
use crate::kit::limits::{self, many, need_two_cpus};
use crate::kit::ring::{Call, Ring};
use crate::kit::trace::{Trace, most_running};
use crate::kit::{in_some_try, rounds, sys};

tests! { "pools":
    limit_by_trace => "the event log shows as many running threads as allowed, and no more";
    limit_of_each => "two pools with one running thread each: two run at once, never two of one";
    limit_after_block => "threads that come back by the hundred finish, and go on one by one";
    limit_raised => "raising POOL_CONCURRENCY lets waiting registrations go on at once";
    limit_of_pollers => "a poller counts as running";
    counters_add_up => "running, blocked, queued and idle are right when nothing is left to do";
}

const EVENTS: [&str; 3] = ["flexsc_invoke", "flexsc_block", "flexsc_complete"];

/// Calls that keep a CPU busy without sleeping.
fn busy(buffer: &mut [u8], pool: u8, count: usize) -> Vec<Call> {
    vec![call!(SYS_getrandom, buffer.as_mut_ptr(), buffer.len(), 0).in_pool(pool); count]
}

/// Registrations, each of which one thread can serve.
fn rings(engine: &Engine, count: usize) -> Check<Vec<Ring>> {
    (0..count).map(|_| engine.ring(1)).collect()
}

/// Has the calls of all rings executed at once: `calls(n)` in the n-th.
fn together(rings: &mut [Ring], mut calls: impl FnMut(usize) -> Vec<Call>) -> Check {
    let mut slots = Vec::new();
    for (n, ring) in rings.iter_mut().enumerate() {
        slots.push(ring.post_all(&calls(n)));
        ring.kicked()?;
    }
    for (ring, slots) in rings.iter_mut().zip(slots) {
        for done in ring.finish(&slots)? {
            check!(done.result >= 0, "{done:?}");
        }
    }
    Ok(())
}

fn limit_by_trace() -> Check {
    need_two_cpus()?;
    for limit in [1, 2] {
        in_some_try("as many running threads as allowed", |_| run_at(limit))?;
    }
    Ok(())
}

/// Returns false if no more than one thread had a CPU at a time, and more were allowed.
fn run_at(limit: usize) -> Check<bool> {
    let mut buffer = vec![0u8; 4000];
    let trace = Trace::start(&EVENTS)?;
    let engine = Engine::open()?;
    engine.set_pool(1, Param::PoolConcurrency, limit as i64)?;
    let mut rings = rings(&engine, 6)?;
    let (from, to) = pipe()?;
    for _ in 0..rounds(5) {
        let reads = BlockedReads::new(&from, 12);
        let reading = reads.calls();
        reads.release(&to)?;
        together(&mut rings, |n| {
            let mut calls = busy(&mut buffer, 1, 30);
            // Some calls that may block, or not.
            calls.push(reading[2 * n].in_pool(1));
            calls.push(reading[2 * n + 1].in_pool(1));
            calls
        })?;
        reads.check()?;
    }
    let most = most_running(&trace.events()?, &[sys::gettid()]);
    let counted = engine.pool(1)?.peak_running as usize;
    check!(
        most <= limit && counted <= limit,
        "{most} running threads in the log, {counted} by the module's count, {limit} allowed"
    );
    Ok([most, counted] == [limit; 2])
}

fn limit_of_each() -> Check {
    need_two_cpus()?;
    in_some_try("a running thread of each pool", |_| run_in_two())
}

/// Returns false if the threads of the two pools never ran at the same time.
fn run_in_two() -> Check<bool> {
    let trace = Trace::start(&EVENTS)?;
    let engine = Engine::open()?;
    for pool in [1, 2] {
        engine.set_pool(pool, Param::PoolConcurrency, 1)?;
    }
    let mut buffers = [vec![0u8; 4000], vec![0u8; 4000]];
    let mut rings = rings(&engine, 4)?;
    for _ in 0..rounds(5) {
        together(&mut rings, |n| {
            busy(&mut buffers[n % 2], 1 + n as u8 % 2, 40)
        })?;
    }
    for pool in [1, 2] {
        check_eq!("most running of one", engine.pool(pool)?.peak_running, 1);
    }
    let most = most_running(&trace.events()?, &[sys::gettid()]);
    let counted = engine.stats()?.peak_running;
    check!(
        most <= 2 && counted <= 2,
        "{most} in the log, {counted} counted"
    );
    Ok(most == 2 && counted == 2)
}

/// Many blocked calls become ready at once; each thread then finds other entries to execute.
fn limit_after_block() -> Check {
    let trace = Trace::start(&EVENTS)?;
    let engine = Engine::open()?;
    engine.set_pool(1, Param::PoolConcurrency, 1)?;
    let mut buffer = vec![0u8; 2000];
    let mut rings = rings(&engine, 4)?;
    let (from, to) = pipe()?;
    let count = many(60);
    for _ in 0..rounds(3) {
        let reads = BlockedReads::new(&from, count);
        let reading: Vec<Call> = reads.calls().iter().map(|c| c.in_pool(1)).collect();
        let blocked = rings[0].post_blocked(&reading)?;
        engine.until_pool(1, "all threads blocked", |s| s.blocked == count as u64)?;
        let mut slots = Vec::new();
        for ring in &mut rings[1..] {
            slots.push(ring.post_all(&busy(&mut buffer, 1, 40)));
            ring.kicked()?;
        }
        reads.release(&to)?;
        for done in rings[0].finish(&blocked)? {
            check_ret!("read", done.result, 2);
        }
        for (ring, slots) in rings[1..].iter_mut().zip(slots) {
            for done in ring.finish(&slots)? {
                check_ret!("getrandom", done.result, 2000);
            }
        }
        reads.check()?;
    }
    let most = most_running(&trace.events()?, &[sys::gettid()]);
    check_eq!("most running threads in the log", most, 1);
    let stats = engine.pool(1)?;
    check_eq!("most running by the module's count", stats.peak_running, 1);
    check!(stats.peak_blocked >= count as u64, "{stats:?}");
    Ok(())
}

fn limit_raised() -> Check {
    need_two_cpus()?;
    in_some_try("two running threads", |_| raise_limit())
}

/// Returns false if the calls of one thread were over before another one had a CPU.
fn raise_limit() -> Check<bool> {
    let engine = Engine::open()?;
    engine.set_pool(1, Param::PoolConcurrency, 1)?;
    // Calls that take their time without sleeping, in two registrations: one of these waits for the
    // thread that executes the other. The thread does not step aside, as it would in a loop.
    let mut rings = rings(&engine, 2)?;
    let mut bytes = vec![0u8; 1 << 20];
    let random = call!(SYS_getrandom, bytes.as_mut_ptr(), bytes.len(), 0).in_pool(1);
    let mut slots = Vec::new();
    for ring in &mut rings {
        slots.push(ring.post_all(&[random; PAGE_ENTRIES]));
        ring.kicked()?;
    }
    engine.until_pool(1, "a running thread", |s| s.peak_running == 1)?;
    engine.set_pool(1, Param::PoolConcurrency, 2)?;
    let seen = engine.until_pool(1, "two running threads", |s| {
        s.peak_running == 2 || s.running == 0 && s.queued == 0
    })?;
    for (ring, slots) in rings.iter_mut().zip(slots) {
        for &slot in &slots {
            // Some of the calls have ended.
            let _ = ring.cancel(slot);
        }
        ring.poll_until_done(&slots)?;
    }
    Ok(seen.peak_running == 2)
}

fn limit_of_pollers() -> Check {
    need_two_cpus()?;
    let engine = Engine::open()?;
    engine.set(Param::IdleNs, MAX_IDLE_NS)?;
    let mut ring = engine.ring(1)?;
    engine.set(Param::PollCpus, 1 << limits::poller_cpu())?;
    crate::kit::until("a poller that is awake", || !ring.needs_kick())?;
    check_eq!("running", engine.pool(0)?.running, 1);
    check_eq!(
        "polled CPUs",
        engine.stats()?.polled_cpus,
        1 << limits::poller_cpu()
    );
    let slots = ring.post_all(&[call!(SYS_getpid); 64]);
    ring.poll_until_done(&slots)?;
    engine.set(Param::IdleNs, 0)?;
    engine.until_pool(0, "no running thread when the poller sleeps", |s| {
        s.running == 0
    })?;
    check_eq!("most running", engine.pool(0)?.peak_running, 1);
    Ok(())
}

fn counters_add_up() -> Check {
    let engine = Engine::open()?;
    let file = memory_file()?;
    let mut rings = rings(&engine, 3)?;
    for pool in 1..3 {
        engine.set_pool(pool, Param::PoolConcurrency, 0)?;
    }
    let (from, to) = pipe()?;
    for _ in 0..rounds(5) {
        let reads = BlockedReads::new(&from, 30);
        let reading = reads.calls();
        let mut slots = Vec::new();
        for (n, ring) in rings.iter_mut().enumerate() {
            let mut calls: Vec<Call> = reading[10 * n..10 * n + 10].to_vec();
            calls.extend([call!(SYS_lseek, &file, 7, libc::SEEK_SET); 20]);
            let calls: Vec<Call> = (0..).zip(calls).map(|(k, c)| c.in_pool(k % 3)).collect();
            slots.push(ring.post_all(&calls));
            ring.kicked()?;
        }
        engine.until_stats("30 blocked", |_| {
            let blocked = |pool| engine.try_pool(pool).map_or(0, |s| s.blocked);
            (0..3).map(blocked).sum::<u64>() == 30
        })?;
        reads.release(&to)?;
        for (ring, slots) in rings.iter_mut().zip(slots) {
            ring.finish(&slots)?;
        }
        reads.check()?;
    }
    let mut sum = 0;
    for pool in 0..3 {
        let s = engine.until_pool(pool, "a pool at rest", |s| {
            s.running == 0 && s.blocked == 0 && s.queued == 0 && s.threads == s.threads_idle
        })?;
        check_eq!(
            "created - retired",
            s.threads_created - s.threads_retired,
            s.threads
        );
        check!(s.peak_running <= s.concurrency, "{s:?}");
        sum += s.executed;
    }
    let stats = engine.stats()?;
    check_eq!("executed by all pools", sum, stats.thread_done);
    Ok(())
}
