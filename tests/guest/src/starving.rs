// SPDX-License-Identifier: MIT OR Apache-2.0
//! Entries for which there is no thread: a program learns of their results whichever way it waits.

use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

use crate::chains::flagged;
use crate::check::Check;
use crate::kit::abi::{ENTRY_LOOP, MAX_IDLE_NS, MAX_ROUNDS, Param, Policy, REASON_STARVED};
use crate::kit::cgroup::Cgroup;
use crate::kit::child::in_child;
use crate::kit::engine::Engine;
use crate::kit::files::{BlockedReads, pipe};
use crate::kit::limits::{need_two_cpus, poller_cpu};
use crate::kit::mode::Mode;
use crate::kit::ring::{Done, Ring};
use crate::kit::{STARVING, chances, in_some_try, patience, rounds, sys, trace, until};
use crate::notify::{events, new_eventfd};

tests! { "starving":
    every_way => "at MAX_THREADS poll, an eventfd, the done words and WAIT NONE see STARVED";
    not_for_long => "an entry that waits only briefly for a thread is not STARVED";
    behind_loops => "entries behind an endless loop in the only thread are STARVED";
    other_poller => "a poller that blocks without a spare wakes one that sleeps";
    poller_blocks => "poll reports entries posted for the last poller if that blocks";
    failed_creation => "entries of owners that wait for a thread whose creation fails are STARVED";
    kworker_pauses => "a poller that blocks again and again keeps no kworker busy";
    spare_sleeps => "with RETIRE_MS 0 the spare sleeps";
}

fn check_starved(done: Done) -> Check {
    check!(
        done.result == -i64::from(libc::EAGAIN) && done.reason == REASON_STARVED,
        "not STARVED: {done:?}"
    );
    Ok(())
}

/// Each way to wait for a result that does not itself ask for a thread.
const WAYS: [&str; 4] = ["poll", "eventfd", "done words", "WAIT NONE"];

fn wait_by(way: &str, engine: &Engine, ring: &Ring, eventfd: i32) -> Check {
    match way {
        "poll" => check_eq!(way, events(engine.fd(), patience())?, libc::POLLIN),
        "eventfd" => check_eq!(way, events(eventfd, patience())?, libc::POLLIN),
        "done words" => {}
        _ => until(way, || matches!(ring.wait(Policy::None), Ok(1..)))?,
    }
    Ok(())
}

fn every_way() -> Check {
    for way in WAYS {
        let engine = Engine::open()?;
        engine.set(Param::MaxThreads, 2)?;
        let mut ring = engine.ring(1)?;
        let eventfd = new_eventfd();
        engine.set_eventfd(&eventfd)?;
        let (from, to) = pipe()?;
        let reads = BlockedReads::new(&from, 3);
        let mut calls: Vec<_> = reads.calls().iter().map(|c| c.asynchronous()).collect();
        let words = [0u16, 1];
        // The write that would release the reads comes last.
        calls.push(call!(SYS_write, &to, words.as_ptr(), 4).asynchronous());
        let slots = ring.post_all(&calls);
        match way {
            "WAIT NONE" => check!(ring.wait(Policy::None).is_ok(), "WAIT failed"),
            _ => ring.kicked()?,
        }
        wait_by(way, &engine, &ring, eventfd.as_raw_fd())?;
        ring.poll_until_done(&slots[2..])?;
        for &slot in &slots[2..] {
            check_starved(ring.reap(slot))?;
        }
        // The program makes the call itself.
        check_ret!("write", plain!(SYS_write, &to, words.as_ptr(), 4), 4);
        ring.poll_until_done(&slots[..2])?;
        for &slot in &slots[..2] {
            check_ret!("read", ring.reap(slot).result, 2);
        }
    }
    Ok(())
}

fn not_for_long() -> Check {
    let engine = Engine::open()?;
    engine.set(Param::MaxThreads, 2)?;
    let mut ring = engine.ring(1)?;
    let time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 5_000_000,
    };
    let at = std::ptr::from_ref(&time);
    in_some_try("threads that come back in time", |_| {
        // Two sleep at a time, each for less than the time that is granted.
        let slots = ring.post_all(&[call!(SYS_nanosleep, at, 0).asynchronous(); 40]);
        ring.kicked()?;
        let (mut last, mut longest, mut starved) = (Instant::now(), Duration::ZERO, 0);
        for slot in slots {
            ring.poll_until_done(&[slot])?;
            longest = longest.max(last.elapsed());
            last = Instant::now();
            let done = ring.reap(slot);
            if done.reason == REASON_STARVED {
                starved += 1;
            } else {
                check_ret!("nanosleep", done.result, 0);
            }
        }
        println!("# {starved} STARVED, {longest:?} between two results");
        // Unless no thread has come back for so long, none may be.
        check!(starved == 0 || longest > STARVING / 2, "STARVED too soon");
        Ok(starved == 0)
    })
}

fn behind_loops() -> Check {
    let engine = Engine::open()?;
    engine.set(Param::MaxThreads, 1)?;
    engine.set(Param::LoopMax, MAX_ROUNDS)?;
    let mut ring = engine.ring(1)?;
    let endless = ring.post(flagged(call!(SYS_getppid), ENTRY_LOOP));
    ring.kicked()?;
    ring.until_taken(&[endless])?;
    let slot = ring.post(call!(SYS_getpid));
    ring.kicked()?;
    check_eq!("poll", events(engine.fd(), patience())?, libc::POLLIN);
    check!(ring.is_done(slot), "not done: {}", ring.show(slot));
    check_starved(ring.reap(slot))?;
    ok!("CANCEL", ring.cancel(endless));
    ring.poll_until_done(&[endless])
}

/// Sets POLL_CPUS while MAX_THREADS is no larger than this takes: at first, a thread that is about
/// to be idle, or that was created as a spare, may be in the way.
pub fn set_pollers(engine: &Engine, cpus: u64) -> Check {
    until("threads for all pollers", || {
        engine.try_set(Param::PollCpus, cpus).is_ok()
    })
}

fn other_poller() -> Check {
    need_two_cpus()?;
    let (from, to) = pipe()?;
    for _ in 0..rounds(3) {
        let engine = Engine::open()?;
        engine.set(Param::MaxThreads, 2)?;
        engine.set(Param::IdleNs, 0)?;
        let mut ring = engine.ring(1)?;
        set_pollers(&engine, 0b11)?;
        engine.until_stats("two pollers", |s| s.polled_cpus == 0b11)?;
        until("NEED_WAKEUP", || ring.needs_kick())?;
        // Long enough for the other poller to fall asleep.
        let mut buffer = vec![0u8; 4 << 20];
        let reads = BlockedReads::new(&from, 1);
        let mut calls = vec![call!(SYS_getrandom, buffer.as_mut_ptr(), buffer.len(), 0)];
        calls.extend(reads.calls());
        calls.extend([call!(SYS_getpid); 3]);
        let slots = ring.post_all(&calls);
        ring.kicked()?;
        ring.until_taken(&slots)?;
        check_eq!("WAIT", ring.wait_for(Policy::Some, 4, patience()), Ok(4));
        for &slot in &slots[2..] {
            check_ret!("getpid", ring.reap(slot).result, std::process::id());
        }
        reads.release(&to)?;
        check_eq!("WAIT", ring.wait(Policy::All), Ok(2));
    }
    Ok(())
}

fn poller_blocks() -> Check {
    need_two_cpus()?;
    in_some_try(
        "an entry that comes while the poller is busy",
        post_for_poller,
    )
}

/// Posts an entry behind calls the last of which blocks the only poller. Returns false if that was
/// blocked before.
fn post_for_poller(factor: u32) -> Check<bool> {
    let engine = Engine::open()?;
    engine.set(Param::MaxThreads, 1)?;
    engine.set(Param::IdleNs, MAX_IDLE_NS)?;
    let mut ring = engine.ring(1)?;
    set_pollers(&engine, 1 << poller_cpu())?;
    until("a poller that is awake", || !ring.needs_kick())?;
    let mut buffer = vec![0u8; (8 << 20) * factor.min(16) as usize];
    let (from, to) = pipe()?;
    let reads = BlockedReads::new(&from, 1);
    let mut calls = vec![call!(SYS_getrandom, buffer.as_mut_ptr(), buffer.len(), 0)];
    calls.extend(reads.calls());
    let slots = ring.post_all(&calls);
    ring.until_taken(&slots)?;
    // The poller is busy, and NEED_WAKEUP is clear: no reason to kick.
    let late = ring.post(call!(SYS_getpid));
    if ring.needs_kick() {
        reads.release(&to)?;
        ring.kicked()?;
        ring.poll_until_done(&slots)?;
        ring.poll_until_done(&[late])?;
        return Ok(false);
    }
    check_eq!("poll", events(engine.fd(), patience())?, libc::POLLIN);
    ring.poll_until_done(&slots[..1])?;
    ring.reap(slots[0]);
    check_eq!("poll", events(engine.fd(), patience())?, libc::POLLIN);
    check_starved(ring.reap(late))?;
    check!(
        ring.needs_kick(),
        "no thread polls, and yet there is no NEED_WAKEUP"
    );
    reads.release(&to)?;
    ring.poll_until_done(&slots[1..])?;
    Ok(true)
}

/// Posts calls for threads that cannot be created, and waits for their end.
fn in_vain(engine: &Engine) -> Check {
    let mut ring = engine.ring(1)?;
    for _ in 0..chances(400) {
        let slot = ring.post(call!(SYS_getpid).asynchronous());
        check_eq!("WAIT", ring.wait(Policy::Any), Ok(1));
        check_starved(ring.reap(slot))?;
    }
    Ok(())
}

fn failed_creation() -> Check {
    need_two_cpus()?;
    let group = Cgroup::new(Some("pids"))?;
    in_child(|| {
        group.enter()?;
        let engine = Engine::open()?;
        let mut ring = engine.ring(1)?;
        let (from, to) = pipe()?;
        // While one owner looks, the other must not end: a syscall thread could take its place.
        let both = std::sync::Barrier::new(2);
        let ran = std::thread::scope(|scope| {
            let (go, wait) = std::sync::mpsc::channel::<()>();
            let (engine, both) = (&engine, &both);
            let other = scope.spawn(move || {
                let _ = wait.recv();
                let ran = in_vain(engine);
                both.wait();
                ran
            });
            // From here on no further thread can be created.
            group.write("pids.max", 4)?;
            let reads = BlockedReads::new(&from, 2);
            let calls: Vec<_> = reads.calls().iter().map(|c| c.asynchronous()).collect();
            let blocked = ring.post_blocked(&calls)?;
            engine.until_pool(0, "two blocked threads", |s| s.blocked == 2)?;
            drop(go);
            let ran = in_vain(engine);
            both.wait();
            let other = other.join().unwrap_or_else(|_| fail!("a panic"));
            reads.release(&to)?;
            ring.finish(&blocked)?;
            ran.and(other)
        });
        println!("# {} failures", engine.stats()?.create_failed);
        ran
    })
}

fn kworker_pauses() -> Check {
    need_two_cpus()?;
    let engine = Engine::open()?;
    engine.set(Param::MaxThreads, 1)?;
    engine.set(Param::IdleNs, MAX_IDLE_NS)?;
    let mut ring = engine.ring(1)?;
    ring.mode = Mode::Kick;
    set_pollers(&engine, 1 << poller_cpu())?;
    until("a poller that is awake", || !ring.needs_kick())?;
    let time = [0u64, 50_000];
    let calls = [call!(SYS_nanosleep, time.as_ptr(), 0); 64];
    let (begin, before) = (Instant::now(), engine.stats()?.handoffs);
    let runs = trace::kworker_runs("flexsc_deferred_work", || {
        for _ in 0..chances(10) {
            for done in ring.run_all(&calls)? {
                // Unless the machine stood still for a tenth of a second.
                check!(
                    done.result == 0 || done.reason == REASON_STARVED,
                    "nanosleep: {done:?}"
                );
            }
        }
        Ok(())
    })?;
    let took = begin.elapsed().as_millis() as u64;
    let blocked = engine.stats()?.handoffs - before;
    println!("# {runs} runs of a kworker, {blocked} hand-offs, {took} ms");
    check!(runs != 0, "no kworker looks after the programs");
    let most = 5 + took / 5;
    check!(runs <= most, "{runs} runs of a kworker in {took} ms");
    Ok(())
}

/// How often a thread of this process has gone to sleep.
fn sleeps(tid: i32) -> Option<u64> {
    let path = format!("/proc/self/task/{tid}/status");
    let text = std::fs::read_to_string(path).ok()?;
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"))?;
    line.trim().parse().ok()
}

fn spare_sleeps() -> Check {
    let engine = Engine::open()?;
    engine.set(Param::RetireMs, 0)?;
    let mut ring = engine.ring(1)?;
    for done in ring.run_all(&[call!(SYS_getpid).asynchronous(); 20])? {
        check_ret!("getpid", done.result, std::process::id());
    }
    engine.until_stats("one thread", |s| s.threads == 1 && s.threads_idle == 1)?;
    let me = sys::gettid();
    let threads = crate::kit::process::tasks(std::process::id() as i32);
    let Some(spare) = threads.iter().map(|task| task.tid).find(|&tid| tid != me) else {
        fail!("no syscall thread");
    };
    let count = || sleeps(spare).map_or_else(|| fail!("no status of thread {spare}"), Ok);
    let (begin, before) = (Instant::now(), count()?);
    std::thread::sleep(Duration::from_millis(500));
    let (took, slept) = (begin.elapsed().as_secs_f64(), count()? - before);
    println!("# {slept} sleeps in {took:.1} s");
    check!(
        slept < 10 + 4 * took as u64,
        "{slept} sleeps in {took:.1} s"
    );
    Ok(())
}
