// SPDX-License-Identifier: MIT OR Apache-2.0
//! Each wait policy, in each form of WAIT, with signals, stops, time limits and other threads.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use nix::errno::Errno;

use super::interrupted::{OFTEN, under_signals};
use crate::check::Check;
use crate::kit::abi::{Policy, Wait};
use crate::kit::child::spawn;
use crate::kit::engine::Engine;
use crate::kit::files::{BlockedReads, pipe};
use crate::kit::memory::Shared;
use crate::kit::ring::Ring;
use crate::kit::{in_some_try, patience, signals, sys, until};
use crate::life::stopped::stop;

tests! { "wait":
    each_policy_satisfied => "every policy returns, in every form of WAIT, when it is satisfied";
    each_policy_interrupted => "a handler without SA_RESTART ends a WAIT of any policy with EINTR";
    each_policy_restarted => "with SA_RESTART no WAIT ends before its policy is satisfied";
    none_ignores_signals => "NONE returns the number of results although a signal is pending";
    restarted_limit => "the time limit is absolute: a WAIT that is restarted often keeps its limit";
    stopped => "SIGSTOP and SIGCONT do not end a WAIT";
    stopped_beyond_limit => "after a stop that lasts beyond the time limit, WAIT ends with ETIME";
    linger_under_signals => "a signal does not restart the linger time";
    own_pages_only => "results of other threads' pages do not end a WAIT";
}

/// The forms of a WAIT without time limits.
#[derive(Clone, Copy, Debug)]
enum Way {
    Ioctl,
    Fast,
    Call,
}

const WAYS: [Way; 3] = [Way::Ioctl, Way::Fast, Way::Call];

/// The policies that sleep, their `min`, and the fewest of three results with which they return.
const SLEEPING: [(Policy, u32, u64); 4] = [
    (Policy::Any, 0, 1),
    (Policy::Some, 2, 2),
    (Policy::All, 0, 3),
    (Policy::Adaptive, 0, 1),
];

fn wait(way: Way, ring: &Ring, policy: Policy, min: u32) -> Result<u64, Errno> {
    match way {
        Way::Ioctl => {
            let mut arg = Wait::new(ring.id, policy);
            arg.min = min;
            ring.wait_raw(&mut arg)
        }
        Way::Fast => ring.wait_fast(policy, min),
        Way::Call => ring.wait_call(policy, min),
    }
}

/// Runs a test for each sleeping policy and way, with three blocked reads.
fn with_three_reads(
    test: impl Fn(&Ring, &dyn Fn() -> Result<u64, Errno>, &dyn Fn() -> Check) -> Check,
) -> Check {
    for way in WAYS {
        for (policy, min, _) in SLEEPING {
            let engine = Engine::open()?;
            let mut ring = engine.ring(1)?;
            let (from, to) = pipe()?;
            let reads = BlockedReads::new(&from, 3);
            let slots = ring.post_blocked(&reads.calls())?;
            let sleep = || wait(way, &ring, policy, min);
            test(&ring, &sleep, &|| reads.release(&to))
                .map_err(|failure| failure.within(format_args!("{way:?}, {policy:?}")))?;
            for done in ring.finish(&slots)? {
                check_ret!("read", done.result, 2);
            }
            reads.check()?;
        }
    }
    Ok(())
}

/// Runs `work` in another thread, after this thread has had time to fall asleep.
fn meanwhile<T>(work: impl FnOnce() -> Check + Send, sleep: impl FnOnce() -> T) -> Check<T> {
    std::thread::scope(|scope| {
        let other = scope.spawn(work);
        let result = sleep();
        other.join().expect("no panic").map(|()| result)
    })
}

fn each_policy_satisfied() -> Check {
    for way in WAYS {
        for (policy, min, enough) in SLEEPING {
            let engine = Engine::open()?;
            let mut ring = engine.ring(1)?;
            let (from, to) = pipe()?;
            let reads = BlockedReads::new(&from, 3);
            let slots = ring.post_blocked(&reads.calls())?;
            let release = || {
                std::thread::sleep(Duration::from_millis(3));
                reads.release(&to)
            };
            let got = meanwhile(release, || wait(way, &ring, policy, min))?;
            check!(
                got.is_ok_and(|count| (enough..=3).contains(&count)),
                "{way:?}, {policy:?}: {got:?}"
            );
            ring.finish(&slots)?;
        }
        let engine = Engine::open()?;
        let mut ring = engine.ring(1)?;
        ring.post_all(&[call!(SYS_getpid); 5]);
        check_eq!(
            format!("{way:?}, NONE"),
            wait(way, &ring, Policy::None, 0),
            Ok(5)
        );
    }
    Ok(())
}

fn each_policy_interrupted() -> Check {
    with_three_reads(|ring, sleep, release| {
        signals::count_signal(libc::SIGUSR1, 0)?;
        let got = under_signals(libc::SIGUSR1, OFTEN, sleep);
        check_eq!("WAIT under signals", got, Err(Errno::EINTR));
        check!(signals::counted() >= 1, "the handler did not run");
        check_eq!("results", ring.wait(Policy::None), Ok(0));
        release()
    })
}

fn each_policy_restarted() -> Check {
    for way in WAYS {
        for (policy, min, enough) in SLEEPING {
            let engine = Engine::open()?;
            let mut ring = engine.ring(1)?;
            let (from, to) = pipe()?;
            let reads = BlockedReads::new(&from, 3);
            let slots = ring.post_blocked(&reads.calls())?;
            signals::count_signal(libc::SIGUSR1, libc::SA_RESTART)?;
            let me = sys::gettid();
            let release = || {
                until("five signals", || {
                    signals::send(me, libc::SIGUSR1);
                    signals::counted() >= 5
                })?;
                reads.release(&to)
            };
            let got = meanwhile(release, || wait(way, &ring, policy, min))?;
            check!(
                got.is_ok_and(|count| (enough..=3).contains(&count)),
                "{way:?}, {policy:?}: {got:?} after {} signals",
                signals::counted()
            );
            ring.finish(&slots)?;
        }
    }
    Ok(())
}

fn none_ignores_signals() -> Check {
    let engine = Engine::open()?;
    let mut ring = engine.ring(1)?;
    for way in WAYS {
        signals::count_signal(libc::SIGUSR1, 0)?;
        under_signals(libc::SIGUSR1, Duration::from_micros(300), || {
            until("ten signals", || signals::counted() >= 10)?;
            for _ in 0..200 {
                let slots = ring.post_all(&[call!(SYS_close, -1); 4]);
                let got = wait(way, &ring, Policy::None, 0);
                check!(got.is_ok(), "{way:?}, NONE: {got:?}");
                ring.finish(&slots)?;
            }
            Ok(())
        })?;
    }
    Ok(())
}

fn restarted_limit() -> Check {
    with_three_reads(|ring, _, release| {
        signals::count_signal(libc::SIGUSR1, libc::SA_RESTART)?;
        in_some_try("signals before the limit", |factor| {
            let (limit, before) = (Duration::from_millis(60) * factor, signals::counted());
            let begin = Instant::now();
            let got = under_signals(libc::SIGUSR1, OFTEN, || {
                ring.wait_for(Policy::All, 0, limit)
            });
            let took = begin.elapsed();
            check_eq!("ALL under signals", got, Err(Errno::ETIME));
            check!(took >= limit, "ETIME after {took:?}, not {limit:?}");
            check!(
                took < limit + patience(),
                "ETIME after {took:?}, not {limit:?}"
            );
            Ok(signals::counted() > before)
        })?;
        release()
    })
}

#[derive(Default)]
struct Report {
    asleep: AtomicBool,
    took_ns: AtomicU64,
}

/// Stops a child that sleeps in WAIT for a while, and then tells it to release its read.
fn stop_a_sleeper(limit: Duration, pause: Duration, want: Result<u64, Errno>) -> Check<Duration> {
    let report = Shared::<Report>::new()?;
    for way in WAYS {
        // Only the ioctl has a time limit.
        if !matches!(way, Way::Ioctl) && want.is_err() {
            continue;
        }
        let mut child = spawn(|link| {
            let engine = Engine::open()?;
            let mut ring = engine.ring(1)?;
            let (from, to) = pipe()?;
            let reads = BlockedReads::new(&from, 1);
            let slots = ring.post_blocked(&reads.calls())?;
            let release = || {
                report.asleep.store(true, Ordering::Relaxed);
                link.ready();
                link.wait_go()?;
                // If WAIT ends for another reason, the reads are released later.
                if want.is_ok() {
                    reads.release(&to)?;
                }
                Ok(())
            };
            let begin = Instant::now();
            let got = meanwhile(release, || match way {
                Way::Ioctl => ring.wait_for(Policy::Any, 0, limit),
                _ => wait(way, &ring, Policy::Any, 0),
            })?;
            report
                .took_ns
                .store(begin.elapsed().as_nanos() as u64, Ordering::Relaxed);
            check_eq!(format!("{way:?} after a stop"), got, want);
            if want.is_err() {
                reads.release(&to)?;
            }
            check_ret!("read", ring.finish(&slots)?[0].result, 2);
            Ok(())
        })?;
        child.wait_ready()?;
        for _ in 0..3 {
            stop(&child)?;
            std::thread::sleep(pause);
            child.signal(libc::SIGCONT);
        }
        child.go();
        child.join()?;
    }
    Ok(Duration::from_nanos(report.took_ns.load(Ordering::Relaxed)))
}

fn stopped() -> Check {
    stop_a_sleeper(patience(), Duration::ZERO, Ok(1)).map(|_| ())
}

fn stopped_beyond_limit() -> Check {
    let limit = Duration::from_millis(20);
    let took = stop_a_sleeper(limit, Duration::from_millis(15), Err(Errno::ETIME))?;
    check!(took >= limit, "ETIME after {took:?}, not {limit:?}");
    check!(took < patience(), "ETIME only after {took:?}");
    Ok(())
}

fn linger_under_signals() -> Check {
    let engine = Engine::open()?;
    let mut ring = engine.ring(1)?;
    let (from, to) = pipe()?;
    let reads = BlockedReads::new(&from, 2);
    let slots = ring.post_blocked(&reads.calls())?;
    let slot = ring.post(call!(SYS_getpid));
    let (linger, limit) = (Duration::from_millis(100), patience() / 2);
    signals::count_signal(libc::SIGUSR1, libc::SA_RESTART)?;
    let begin = Instant::now();
    let got = under_signals(libc::SIGUSR1, OFTEN, || {
        loop {
            let mut arg = Wait::new(ring.id, Policy::Some);
            arg.min = 3;
            arg.linger_ns = linger.as_nanos() as u64;
            arg.timeout_ns = sys::monotonic_ns() + limit.as_nanos() as u64;
            match ring.wait_raw(&mut arg) {
                // A relative time cannot continue after a signal: the program decides.
                Err(Errno::EINTR) if begin.elapsed() < linger => {}
                other => return other,
            }
        }
    });
    let took = begin.elapsed();
    check!(
        matches!(got, Ok(1) | Err(Errno::EINTR)) && took < limit,
        "SOME with linger {linger:?} under signals: {got:?} after {took:?}"
    );
    ring.reap(slot);
    reads.release(&to)?;
    for done in ring.finish(&slots)? {
        check_ret!("read", done.result, 2);
    }
    Ok(())
}

fn own_pages_only() -> Check {
    let engine = Engine::open()?;
    let mut ring = engine.ring(1)?;
    let (from, to) = pipe()?;
    let reads = BlockedReads::new(&from, 3);
    let slots = ring.post_blocked(&reads.calls())?;
    for way in WAYS {
        let released = AtomicBool::new(false);
        let others = || {
            let mut ring = engine.ring(1)?;
            for _ in 0..20 {
                ring.run_all(&[call!(SYS_close, -1).asynchronous(); 20])?;
            }
            check_eq!("UNREGISTER", ring.unregister(), Ok(0));
            released.store(true, Ordering::SeqCst);
            crate::kit::files::write_all(&to, &[1, 0])
        };
        let got = meanwhile(others, || {
            let got = wait(way, &ring, Policy::Any, 0);
            (got, released.load(Ordering::SeqCst))
        })?;
        check_eq!(
            format!("{way:?}, ANY: result, after the others"),
            got,
            (Ok(1), true)
        );
        let slot = ring.poll().expect("a result").slot;
        check!(slots.contains(&slot), "a result in slot {slot}");
    }
    check_eq!("ALL", ring.wait_call(Policy::All, 0), Ok(0));
    Ok(())
}
