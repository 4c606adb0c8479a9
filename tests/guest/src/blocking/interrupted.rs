// SPDX-License-Identifier: MIT OR Apache-2.0
//! Signals that arrive while calls are in flight.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use nix::errno::Errno;

use crate::check::Check;
use crate::kit::abi::{Policy, REASON_STARVED};
use crate::kit::cgroup::Cgroup;
use crate::kit::child::in_child;
use crate::kit::engine::Engine;
use crate::kit::files::{BlockedReads, pipe};
use crate::kit::limits::need_two_cpus;
use crate::kit::mode::Mode;
use crate::kit::{Random, STARVING, chances, in_some_try, patience, rounds, signals, sys, until};

tests! { "signals":
    wait_interrupted => "a handler interrupts WAIT with EINTR; the call goes on and succeeds";
    wait_restarted => "with SA_RESTART the handler runs, and WAIT ends with EINTR or a result";
    ignored_signal => "an ignored signal does not interrupt WAIT";
    call_not_interrupted => "a call on a syscall thread does not see the process's signals";
    sleep_not_shortened => "a sleep on a syscall thread is not cut short by signals";
    pending_signal => "WAIT with a signal pending still executes the posted calls";
    register_restarted => "REGISTER under a rain of signals is restarted, with SA_RESTART";
    creation_interrupted => "a signal as the only possible thread is created makes nothing STARVED";
    never_restart_codes => "no result is an internal restart code under a rain of signals";
}

/// Sends a signal to the calling thread every few milliseconds during `work`.
pub(super) fn under_signals<T>(signal: i32, every: Duration, work: impl FnOnce() -> T) -> T {
    let me = sys::gettid();
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                signals::send(me, signal);
                std::thread::sleep(every);
            }
        });
        let result = work();
        stop.store(true, Ordering::Relaxed);
        result
    })
}

pub(super) const OFTEN: Duration = Duration::from_millis(5);

fn wait_interrupted() -> Check {
    let engine = Engine::open()?;
    let mut ring = engine.ring(1)?;
    let (from, to) = pipe()?;
    let reads = BlockedReads::new(&from, 2);
    let slots = ring.post_blocked(&reads.calls())?;
    for policy in [Policy::Any, Policy::All] {
        for fast in [false, true] {
            signals::count_signal(libc::SIGUSR1, 0)?;
            let ret = under_signals(libc::SIGUSR1, OFTEN, || match fast {
                false => ring.wait(policy),
                true => ring.wait_fast(policy, 0),
            });
            check_eq!("WAIT under signals", ret, Err(Errno::EINTR));
            check!(signals::counted() >= 1, "the handler did not run");
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
    reads.check()
}

fn wait_restarted() -> Check {
    let engine = Engine::open()?;
    let mut ring = engine.ring(1)?;
    let (from, to) = pipe()?;
    let reads = BlockedReads::new(&from, 1);
    let slot = ring.post_blocked(&reads.calls())?[0];
    signals::count_signal(libc::SIGUSR1, libc::SA_RESTART)?;
    in_some_try("signals before the limit", |factor| {
        let limit = Duration::from_millis(200) * factor;
        let begin = sys::monotonic_ns();
        let ret = under_signals(libc::SIGUSR1, OFTEN, || {
            ring.wait_for(Policy::Any, 0, limit)
        });
        let took = Duration::from_nanos(sys::monotonic_ns() - begin);
        match ret {
            Err(Errno::EINTR) => {}
            Err(Errno::ETIME) => check!(took >= limit, "ETIME after {took:?}, not {limit:?}"),
            other => fail!("WAIT gave {other:?} while the read is blocked"),
        }
        Ok(signals::counted() >= 1)
    })?;
    reads.release(&to)?;
    check_ret!("read", ring.finish(&[slot])?[0].result, 2);
    reads.check()
}

fn ignored_signal() -> Check {
    let engine = Engine::open()?;
    let mut ring = engine.ring(1)?;
    let (from, to) = pipe()?;
    let reads = BlockedReads::new(&from, 1);
    let slot = ring.post_blocked(&reads.calls())?[0];
    // Rust's runtime ignores SIGPIPE, and SIGCHLD is ignored by default.
    for signal in [libc::SIGPIPE, libc::SIGCHLD] {
        let limit = Duration::from_millis(100);
        let ret = under_signals(signal, OFTEN, || ring.wait_for(Policy::Any, 0, limit));
        check_eq!("WAIT under ignored signals", ret, Err(Errno::ETIME));
    }
    reads.release(&to)?;
    check_ret!("read", ring.finish(&[slot])?[0].result, 2);
    Ok(())
}

fn call_not_interrupted() -> Check {
    for mode in [Mode::Async, Mode::Kick, Mode::Poller] {
        let (_engine, mut ring) = mode.start(1)?;
        let (from, to) = pipe()?;
        let reads = BlockedReads::new(&from, 20);
        let slots = ring.post_blocked(&reads.calls())?;
        signals::count_signal(libc::SIGUSR1, 0)?;
        let seen = under_signals(libc::SIGUSR1, OFTEN, || {
            until("ten signals", || signals::counted() >= 10)
        });
        seen?;
        for &slot in &slots {
            check!(!ring.is_done(slot), "mode {mode:?}: {}", ring.show(slot));
        }
        reads.release(&to)?;
        for done in ring.finish(&slots)? {
            check_ret!(format!("read, mode {mode:?}"), done.result, 2);
        }
        reads.check()?;
    }
    Ok(())
}

fn sleep_not_shortened() -> Check {
    let engine = Engine::open()?;
    let mut ring = engine.ring(1)?;
    let nap = [0i64, 100_000_000];
    signals::count_signal(libc::SIGUSR1, 0)?;
    let begin = sys::monotonic_ns();
    let result = under_signals(libc::SIGUSR1, OFTEN, || {
        ring.result(call!(SYS_nanosleep, nap.as_ptr(), 0).asynchronous())
    })?;
    check_ret!("nanosleep", result, 0);
    let took = sys::monotonic_ns() - begin;
    check!(took >= 100_000_000, "a sleep of 100 ms took {took} ns");
    Ok(())
}

fn pending_signal() -> Check {
    let engine = Engine::open()?;
    let mut ring = engine.ring(1)?;
    signals::count_signal(libc::SIGUSR1, 0)?;
    let mut done = 0;
    for _ in 0..rounds(200) {
        let slots = ring.post_all(&[call!(SYS_getpid); 8]);
        signals::send(sys::gettid(), libc::SIGUSR1);
        for finished in ring.finish(&slots)? {
            check_ret!("getpid", finished.result, std::process::id());
            done += 1;
        }
    }
    check_eq!("signals", signals::counted(), done / 8);
    Ok(())
}

fn never_restart_codes() -> Check {
    signals::count_signal(libc::SIGUSR1, 0)?;
    for mode in Mode::ALL {
        let (_engine, mut ring) = mode.start(1)?;
        let (from, to) = pipe()?;
        let nap = [0i64, 2_000_000];
        let mut poll = libc::pollfd {
            fd: -1,
            events: 0,
            revents: 0,
        };
        let at = std::ptr::from_mut(&mut poll);
        under_signals(libc::SIGUSR1, Duration::from_millis(1), || {
            for _ in 0..rounds(20) {
                let reads = BlockedReads::new(&from, 8);
                let mut calls = reads.calls();
                calls.extend([call!(SYS_nanosleep, nap.as_ptr(), 0); 4]);
                calls.extend([call!(SYS_poll, at, 1, 2); 4]);
                calls.extend([call!(SYS_getpid); 8]);
                let slots = ring.post_all(&calls);
                reads.release(&to)?;
                for done in ring.finish(&slots)? {
                    // ERESTARTSYS and the like are 512 to 516.
                    let code = -done.result;
                    let good = done.result >= 0 || code == i64::from(libc::EINTR);
                    check!(good, "mode {mode:?}: {done:?}");
                }
            }
            Ok(())
        })?;
    }
    Ok(())
}

fn register_restarted() -> Check {
    signals::count_signal(libc::SIGUSR1, libc::SA_RESTART)?;
    under_signals(libc::SIGUSR1, Duration::from_micros(200), || {
        // The signals begin when their sender gets a CPU.
        until("the first signal", || signals::counted() >= 1)?;
        for _ in 0..rounds(60) {
            let engine = Engine::open()?;
            let mut ring = engine.ring(1)?;
            check_ret!(
                "getpid",
                ring.result(call!(SYS_getpid))?,
                std::process::id()
            );
        }
        Ok(())
    })
}

/// Sends signals to a thread at random moments, as many as `wanted` says, until `over`.
fn rain(owner: i32, wanted: &AtomicU32, over: &AtomicBool, mut random: Random) {
    while !over.load(Ordering::Acquire) {
        let one_less = |wanted: u32| wanted.checked_sub(1);
        let asked = wanted.fetch_update(Ordering::AcqRel, Ordering::Acquire, one_less);
        if asked.is_err() {
            std::thread::sleep(Duration::from_micros(100));
            continue;
        }
        signals::send(owner, libc::SIGUSR1);
        let (begin, time) = (Instant::now(), Duration::from_nanos(random.below(10_000)));
        while begin.elapsed() < time {}
    }
}

/// The only thread of a pool is blocked, and another one can be created only while signals come.
/// Returns false if that took so long that the entry may be STARVED.
fn create_in_rain(group: &Cgroup, wanted: &AtomicU32) -> Check<bool> {
    let engine = Engine::open()?;
    let mut ring = engine.ring(1)?;
    engine.until_stats("an idle thread", |stats| {
        stats.threads_idle == stats.threads
    })?;
    let (from, to) = pipe()?;
    let threads = engine.stats()?.threads as usize;
    // Leaves room for this thread, the one that sends signals, and no further syscall thread.
    group.write("pids.max", 2 + threads)?;
    let reads = BlockedReads::new(&from, threads);
    let calls: Vec<_> = reads.calls().iter().map(|c| c.asynchronous()).collect();
    let blocked = ring.post_blocked(&calls)?;
    engine.until_pool(0, "all threads blocked", |pool| {
        pool.blocked == pool.threads && pool.threads == threads as u64
    })?;
    group.write("pids.max", "max")?;
    let before = signals::counted();
    wanted.store(200, Ordering::Release);
    let begin = Instant::now();
    while signals::counted() == before {
        check!(begin.elapsed() < patience(), "no signal");
    }
    let begin = Instant::now();
    let slot = ring.post(call!(SYS_getpid).asynchronous());
    while !ring.is_done(slot) {
        match ring.wait(Policy::Any) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(error) => fail!("WAIT: {error:?}"),
        }
    }
    let (done, took) = (ring.reap(slot), begin.elapsed());
    wanted.store(0, Ordering::Release);
    reads.release(&to)?;
    ring.mode = Mode::Kick;
    for done in ring.finish(&blocked)? {
        check_ret!("read", done.result, 2);
    }
    if done.reason == REASON_STARVED && took >= STARVING {
        return Ok(false);
    }
    check!(
        done.result == i64::from(std::process::id()),
        "after {took:?}: {done:?}"
    );
    Ok(true)
}

fn creation_interrupted() -> Check {
    need_two_cpus()?;
    let group = Cgroup::new(Some("pids"))?;
    in_child(|| {
        group.enter()?;
        signals::count_signal(libc::SIGUSR1, libc::SA_RESTART)?;
        let (owner, wanted, over) = (sys::gettid(), AtomicU32::new(0), AtomicBool::new(false));
        let random = Random::new();
        let outcome = std::thread::scope(|scope| {
            scope.spawn(|| rain(owner, &wanted, &over, random));
            let (mut good, mut outcome) = (0, Ok(()));
            let end = Instant::now() + patience() / 2;
            while outcome.is_ok() && good < chances(150) && Instant::now() < end {
                outcome = create_in_rain(&group, &wanted).map(|in_time| good += u32::from(in_time));
            }
            over.store(true, Ordering::Release);
            outcome.map(|()| good)
        });
        println!("# {} signals", signals::counted());
        let good = outcome?;
        check!(good >= 3, "{good} threads made in time");
        Ok(())
    })
}
