// SPDX-License-Identifier: MIT OR Apache-2.0
//! Pollers: syscall threads that poll the doorbells.

use std::time::{Duration, Instant};

use crate::check::Check;
use crate::entries::states::{check_echoes, echo};
use crate::kit::abi::{MAX_IDLE_NS, Param, Policy};
use crate::kit::engine::Engine;
use crate::kit::files::{BlockedReads, memory_file, pipe};
use crate::kit::limits::{self, need_two_cpus, poller_cpu};
use crate::kit::mode::Mode;
use crate::kit::ring::{Call, Ring};
use crate::kit::{chances, patience, process, rounds, speed, sys, trace, until};

tests! { "poller":
    no_device_call => "results appear without any call to the device";
    without_traps => "a million calls, posted and reaped by the owner, cause no trap";
    many_batches => "hundreds of batches have no lost or wrong result";
    sleeps_and_wakes => "a poller idle for IDLE_NS sets NEED_WAKEUP and sleeps until KICK or WAIT";
    never_lost => "calls posted as the poller falls asleep are never lost";
    idle_zero => "with IDLE_NS 0 calls are done after a kick";
    blocked_call => "a call that blocks a poller does not stop the others";
    waiting_owner => "WAIT works while a poller is awake";
    two_cpus => "two pollers execute calls, one of them on the owner's CPU";
    several_registrations => "one poller serves several registrations, including new ones";
    stop => "POLL_CPUS 0 ends polling: the owner executes calls again, none is lost";
    start_stop_under_load => "polling is switched on and off while calls are in flight";
    shared_cpu => "a poller yields to the program on the same CPU";
    ends_with_engine => "closing the engine ends its pollers";
}

fn start(pages: u32) -> Check<(Engine, Ring)> {
    Mode::Poller.start(pages)
}

fn no_device_call() -> Check {
    need_two_cpus()?;
    let (engine, mut ring) = start(1)?;
    engine.set(Param::IdleNs, MAX_IDLE_NS)?;
    until("a poller that is awake", || !ring.needs_kick())?;
    for _ in 0..rounds(50) {
        let slots = ring.post_all(&[call!(SYS_getppid); 64]);
        ring.poll_until_done(&slots)?;
        for slot in slots {
            check_ret!("getppid", ring.reap(slot).result, plain!(SYS_getppid));
        }
    }
    let stats = engine.stats()?;
    check_eq!("kicks and waits", (stats.kicks, stats.waits), (0, 0));
    check_eq!("executed inline", stats.inline_done, 0);
    check_eq!(
        "executed by threads",
        stats.thread_done,
        u64::from(rounds(50)) * 64
    );
    Ok(())
}

/// Calls in a batch of [`post_and_reap`]. If other machines use the host's CPUs, each batch takes
/// two of the host's time slices. A few large batches soon end all the same.
const LARGE: u32 = 512;

/// Posts and reaps `batches` batches by memory accesses only.
fn post_and_reap(ring: &mut Ring, batches: u32, want: i64) -> Check {
    let calls = [call!(SYS_getppid); LARGE as usize];
    let mut wrong = 0;
    for _ in 0..batches {
        for slot in ring.post_all(&calls) {
            // Reads no clock: if the kernel does not trust the TSC, reading the clock takes a trap.
            let mut left = 2_000_000_000u64;
            while !ring.is_done(slot) {
                left -= 1;
                check!(left != 0, "no result: {}", ring.show(slot));
                std::hint::spin_loop();
            }
            wrong += u32::from(ring.reap(slot).result != want);
        }
    }
    check_eq!("wrong results", wrong, 0);
    Ok(())
}

fn without_traps() -> Check {
    need_two_cpus()?;
    let (engine, mut ring) = start(LARGE / 64)?;
    engine.set(Param::IdleNs, MAX_IDLE_NS)?;
    until("a poller that is awake", || !ring.needs_kick())?;
    let parent = plain!(SYS_getppid);
    let batches = rounds(if limits::slow_kernel() { 25 } else { 1_954 });
    // Both counts include the few traps of the counting itself.
    let (none, some) = (
        trace::traps(|| post_and_reap(&mut ring, 0, parent))?,
        trace::traps(|| post_and_reap(&mut ring, batches, parent))?,
    );
    println!(
        "# {} calls, {some} traps, as many as without calls",
        batches * LARGE
    );
    check_eq!("traps with and without calls", some, none);
    let stats = engine.stats()?;
    check_eq!("kicks and waits", (stats.kicks, stats.waits), (0, 0));
    check_eq!("executed", stats.thread_done, u64::from(batches * LARGE));
    Ok(())
}

fn many_batches() -> Check {
    let (_engine, mut ring) = start(2)?;
    let file = memory_file()?;
    for round in 0..u64::from(rounds(300)) {
        let size = 1 + round * 7 % 128;
        let calls: Vec<Call> = (0..size)
            .map(|n| echo(&file, round * 128 + n + 1))
            .collect();
        check_echoes(&ring.run_all(&calls)?, |n| round * 128 + n as u64 + 1)?;
    }
    Ok(())
}

fn sleeps_and_wakes() -> Check {
    let (engine, mut ring) = start(1)?;
    engine.set(Param::IdleNs, 1_000_000)?;
    for round in 0..10 {
        until("NEED_WAKEUP", || ring.needs_kick())?;
        let slot = ring.post(call!(SYS_getpid));
        if round % 2 == 0 {
            ring.kicked()?;
            ring.poll_until_done(&[slot])?;
        } else {
            check_eq!("WAIT", ring.wait(Policy::Any), Ok(1));
        }
        check_ret!("getpid", ring.reap(slot).result, std::process::id());
    }
    check!(engine.stats()?.poller_sleeps >= 1, "the poller never slept");
    Ok(())
}

fn never_lost() -> Check {
    let (engine, mut ring) = start(1)?;
    engine.set(Param::IdleNs, 20_000)?;
    let mut kicks = 0;
    for round in 0..chances(1500) {
        let slot = ring.post(call!(SYS_getpid));
        if ring.needs_kick() {
            ring.kicked()?;
            kicks += 1;
        }
        ring.poll_until_done(&[slot])?;
        check_ret!("getpid", ring.reap(slot).result, std::process::id());
        // Posts again at all possible moments of the poller's idle time.
        let begin = Instant::now();
        while begin.elapsed().as_nanos() < u128::from(round % 100) * 400 {
            std::hint::spin_loop();
        }
    }
    println!("# {kicks} kicks");
    Ok(())
}

fn idle_zero() -> Check {
    let (engine, mut ring) = start(1)?;
    engine.set(Param::IdleNs, 0)?;
    for _ in 0..100 {
        let done = ring.run(call!(SYS_getpid))?;
        check_ret!("getpid", done.result, std::process::id());
    }
    Ok(())
}

fn blocked_call() -> Check {
    let (_engine, mut ring) = start(2)?;
    let (from, to) = pipe()?;
    for count in [1, 2, 30] {
        let reads = BlockedReads::new(&from, count);
        let slots = ring.post_all(&reads.calls());
        for _ in 0..10 {
            for done in ring.run_all(&[call!(SYS_getpid); 64])? {
                check_ret!(
                    "getpid beside blocked calls",
                    done.result,
                    std::process::id()
                );
            }
        }
        check!(
            slots.iter().all(|&slot| !ring.is_done(slot)),
            "a read is done"
        );
        reads.release(&to)?;
        for done in ring.finish(&slots)? {
            check_ret!("read", done.result, 2);
        }
        reads.check()?;
    }
    Ok(())
}

fn waiting_owner() -> Check {
    let (_engine, mut ring) = start(1)?;
    let (from, to) = pipe()?;
    for _ in 0..rounds(30) {
        let reads = BlockedReads::new(&from, 4);
        let mut calls = reads.calls();
        calls.extend([call!(SYS_getpid); 40]);
        calls.push(call!(SYS_getpid).asynchronous());
        let slots = ring.post_all(&calls);
        check_eq!(
            "SOME(41)",
            ring.wait_for(Policy::Some, 41, patience()),
            Ok(41)
        );
        reads.release(&to)?;
        check_eq!("ALL", ring.wait(Policy::All), Ok(45));
        for slot in slots {
            ring.reap(slot);
        }
        reads.check()?;
    }
    Ok(())
}

fn two_cpus() -> Check {
    need_two_cpus()?;
    let (engine, mut ring) = start(2)?;
    let file = memory_file()?;
    engine.set(Param::PollCpus, 0b11)?;
    check_eq!("POLL_CPUS", engine.get(Param::PollCpus)?, 0b11);
    for round in 0..u64::from(rounds(60)) {
        let calls: Vec<Call> = (0..128).map(|n| echo(&file, round + n + 1)).collect();
        check_echoes(&ring.run_all(&calls)?, |n| round + n as u64 + 1)?;
    }
    Ok(())
}

fn several_registrations() -> Check {
    let (engine, first) = start(1)?;
    let file = memory_file()?;
    let mut rings = vec![first];
    for round in 1..6 {
        let mut ring = engine.ring(round)?;
        ring.mode = Mode::Poller;
        rings.push(ring);
        for _ in 0..10 {
            for ring in &mut rings {
                let calls: Vec<Call> = (0..20).map(|n| echo(&file, n + 1)).collect();
                check_echoes(&ring.run_all(&calls)?, |n| n as u64 + 1)?;
            }
        }
        if round % 2 == 0 {
            let ring = rings.remove(0);
            check_eq!("UNREGISTER", ring.unregister(), Ok(0));
        }
    }
    Ok(())
}

/// Batches after the poller has stopped.
const BATCHES: u32 = 64;

fn stop() -> Check {
    let (engine, mut ring) = start(1)?;
    let (from, to) = pipe()?;
    ring.run_all(&[call!(SYS_getpid); 64])?;
    let reads = BlockedReads::new(&from, 3);
    let mut slots = ring.post_all(&reads.calls());
    slots.extend(ring.post_all(&[call!(SYS_getpid); 20]));
    engine.set(Param::PollCpus, 0)?;
    check_eq!("POLL_CPUS", engine.get(Param::PollCpus)?, 0);
    until("NEED_WAKEUP", || ring.needs_kick())?;
    ring.mode = Mode::Inline;
    reads.release(&to)?;
    for (index, done) in ring.finish(&slots)?.iter().enumerate() {
        let want = if index < 3 { 2 } else { std::process::id() };
        check_ret!("result", done.result, want);
    }
    reads.check()?;
    // The poller has stopped. It looks twice more for calls of owners that believed it to be
    // polling: after POLL_CPUS was set, and when it ended.
    engine.until_stats("no poller", |stats| stats.polled_cpus == 0)?;
    let mut by_others = 0;
    for _ in 0..BATCHES {
        let before = engine.stats()?.inline_done;
        for done in ring.run_all(&[call!(SYS_getpid); 64])? {
            check_ret!("getpid", done.result, std::process::id());
        }
        by_others += u32::from(engine.stats()?.inline_done - before != 64);
    }
    check!(
        by_others <= 2,
        "{by_others} of {BATCHES} batches were not executed by their owner alone"
    );
    Ok(())
}

fn start_stop_under_load() -> Check {
    let (engine, mut ring) = start(1)?;
    let file = memory_file()?;
    let cpu = 1 << poller_cpu();
    ring.mode = Mode::Inline;
    for round in 0..u64::from(rounds(60)) {
        let calls: Vec<Call> = (0..40).map(|n| echo(&file, round + n + 1)).collect();
        let slots = ring.post_all(&calls);
        engine.set(Param::PollCpus, if round % 2 == 0 { 0 } else { cpu })?;
        check_echoes(&ring.finish(&slots)?, |n| round + n as u64 + 1)?;
    }
    Ok(())
}

fn shared_cpu() -> Check {
    let (_engine, mut ring) = start(1)?;
    ok!("sched_setaffinity", sys::pin(poller_cpu()));
    let begin = Instant::now();
    for _ in 0..rounds(30) {
        for done in ring.run_all(&[call!(SYS_getpid); 64])? {
            check_ret!("getpid", done.result, std::process::id());
        }
    }
    let took = begin.elapsed();
    let most = if limits::slow_kernel() { 40 } else { 10 };
    check!(
        speed::is_within(took, Duration::from_secs(most) * rounds(1)),
        "30 batches on one CPU took {took:?}"
    );
    Ok(())
}

fn ends_with_engine() -> Check {
    let base = process::refcnt();
    for _ in 0..rounds(10) {
        let (engine, mut ring) = start(1)?;
        ring.run_all(&[call!(SYS_getpid); 10])?;
        drop(ring);
        drop(engine);
        process::until_tasks(1)?;
        process::until_refcnt(base)?;
    }
    Ok(())
}
