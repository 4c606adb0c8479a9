// SPDX-License-Identifier: MIT OR Apache-2.0
//! Signals that arrive while calls are in flight.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use nix::errno::Errno;

use crate::check::Check;
use crate::kit::abi::Policy;
use crate::kit::engine::Engine;
use crate::kit::files::{BlockedReads, pipe};
use crate::kit::mode::Mode;
use crate::kit::{rounds, signals, sys};

tests! { "signals":
    wait_interrupted => "a handler interrupts WAIT: EINTR; the call goes on and ends well";
    wait_restarted => "with SA_RESTART the handler runs, and WAIT ends with EINTR or a result";
    ignored_signal => "an ignored signal does not interrupt WAIT";
    call_not_interrupted => "a call on a syscall thread does not see the process's signals";
    sleep_not_shortened => "a sleep on a syscall thread is not cut short by signals";
    pending_signal => "WAIT with a signal pending still executes what is posted";
    register_restarted => "REGISTER under a rain of signals is restarted, with SA_RESTART";
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
    let limit = Duration::from_millis(200);
    let begin = sys::monotonic_ns();
    let ret = under_signals(libc::SIGUSR1, OFTEN, || {
        ring.wait_for(Policy::Any, 0, limit)
    });
    let took = Duration::from_nanos(sys::monotonic_ns() - begin);
    check!(signals::counted() >= 1, "the handler did not run");
    match ret {
        Err(Errno::EINTR) => {}
        Err(Errno::ETIME) => check!(took >= limit, "ETIME after {took:?}, not {limit:?}"),
        other => fail!("WAIT gave {other:?} while the read is blocked"),
    }
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
    // SIGPIPE is ignored by the run time, SIGCHLD by default.
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
            crate::kit::until("ten signals", || signals::counted() >= 10)
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
                    // ERESTARTSYS and its like are 512 to 516.
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
    })?;
    check!(signals::counted() >= 1, "the handler did not run");
    Ok(())
}
