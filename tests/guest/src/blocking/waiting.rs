// SPDX-License-Identifier: MIT OR Apache-2.0
//! Wait policies and their time limits.

use std::time::{Duration, Instant};

use nix::errno::Errno;

use crate::check::Check;
use crate::kit::abi::{Policy, Wait};
use crate::kit::engine::Engine;
use crate::kit::files::{BlockedReads, pipe};
use crate::kit::ring::Ring;
use crate::kit::{speed, sys};

tests! { "wait":
    none_executes => "NONE executes the posted calls and returns the number of results";
    none_does_not_sleep => "NONE returns at once while a call is blocked";
    any_returns_early => "ANY returns with one result while others are blocked";
    any_sees_old_results => "ANY returns at once for a result that was not reaped";
    any_of_nothing => "ANY and SOME with nothing posted are EDEADLK";
    all_of_nothing => "ALL with nothing posted returns 0, even after everything was reaped";
    all_waits_for_all => "ALL returns when the last of the blocked calls is done";
    some_waits_for_min => "SOME(n) returns with n results, not before";
    some_impossible => "SOME for more results than there are calls posted and done is EDEADLK";
    some_lingers => "SOME with linger returns the results so far, some time after the first one";
    some_linger_needs_one => "the linger time does not begin before the first result";
    time_limit => "ANY, ALL and SOME end with ETIME at the given time, not before";
    time_limit_past => "a time limit in the past is ETIME at once, but results count first";
    time_limit_executes => "WAIT with a time limit in the past still executes the posted calls";
    fast => "WAIT_FAST follows the same policies";
    number_of_results => "WAIT returns the number of results that are not reaped";
}

struct Blocked {
    reads: BlockedReads,
    slots: Vec<usize>,
    to: std::os::fd::OwnedFd,
}

impl Blocked {
    /// Posts reads that block, each for a word of its own.
    fn new(ring: &mut Ring, count: usize) -> Check<Blocked> {
        let (from, to) = pipe()?;
        let reads = BlockedReads::new(&from, count);
        let slots = ring.post_blocked(&reads.calls())?;
        // The calls go on using the descriptor's number: keep it.
        std::mem::forget(from);
        Ok(Blocked { reads, slots, to })
    }

    /// Lets one of the reads finish.
    fn release_one(&self) -> Check {
        crate::kit::files::write_all(&self.to, &[1, 0])
    }

    /// Lets all reads finish, and waits for them.
    fn end(self, ring: &mut Ring) -> Check {
        self.reads.release(&self.to)?;
        for done in ring.finish(&self.slots)? {
            check_ret!("read", done.result, 2);
        }
        Ok(())
    }
}

/// An engine with one page; the engine is dropped after its ring.
fn start() -> Check<(Engine, Ring)> {
    let engine = Engine::open()?;
    let ring = engine.ring(1)?;
    Ok((engine, ring))
}

/// How much longer than its limit a WAIT may take on an emulated machine.
fn late() -> Duration {
    speed::scaled(Duration::from_secs(8))
}

fn check_time(what: &str, start: Instant, at_least: Duration) -> Check {
    let took = start.elapsed();
    check!(took >= at_least, "{what} took {took:?}, not {at_least:?}");
    check!(
        took < at_least + late(),
        "{what} took {took:?}, far more than {at_least:?}"
    );
    Ok(())
}

fn none_executes() -> Check {
    let (engine, mut ring) = start()?;
    check_eq!("WAIT for nothing", ring.wait(Policy::None), Ok(0));
    ring.post_all(&[call!(SYS_getpid); 10]);
    check_eq!("WAIT", ring.wait(Policy::None), Ok(10));
    check_eq!("executed inline", engine.stats()?.inline_done, 10);
    while let Some(done) = ring.poll() {
        check_ret!("getpid", done.result, std::process::id());
    }
    check_eq!("WAIT after reaping", ring.wait(Policy::None), Ok(0));
    Ok(())
}

fn none_does_not_sleep() -> Check {
    let (_engine, mut ring) = start()?;
    let blocked = Blocked::new(&mut ring, 3)?;
    let begin = Instant::now();
    check_eq!("WAIT", ring.wait(Policy::None), Ok(0));
    ring.post(call!(SYS_getpid));
    check_eq!("WAIT", ring.wait(Policy::None), Ok(1));
    check_time("WAIT", begin, Duration::ZERO)?;
    blocked.end(&mut ring)
}

fn any_returns_early() -> Check {
    let (_engine, mut ring) = start()?;
    let blocked = Blocked::new(&mut ring, 5)?;
    for _ in 0..20 {
        let slot = ring.post(call!(SYS_getpid));
        check_eq!("WAIT", ring.wait(Policy::Any), Ok(1));
        check_ret!("getpid", ring.reap(slot).result, std::process::id());
        let slot = ring.post(call!(SYS_getpid).asynchronous());
        check_eq!("WAIT", ring.wait(Policy::Any), Ok(1));
        check_ret!("getpid", ring.reap(slot).result, std::process::id());
    }
    blocked.end(&mut ring)
}

fn any_sees_old_results() -> Check {
    let (_engine, mut ring) = start()?;
    let slot = ring.post(call!(SYS_getpid));
    check_eq!("WAIT", ring.wait(Policy::None), Ok(1));
    let blocked = Blocked::new(&mut ring, 1)?;
    for _ in 0..5 {
        check_eq!("WAIT", ring.wait(Policy::Any), Ok(1));
    }
    ring.reap(slot);
    let limit = Duration::from_millis(20);
    check_eq!(
        "WAIT",
        ring.wait_for(Policy::Any, 0, limit),
        Err(Errno::ETIME)
    );
    blocked.end(&mut ring)
}

fn any_of_nothing() -> Check {
    let (_engine, mut ring) = start()?;
    for _ in 0..2 {
        check_eq!("ANY", ring.wait(Policy::Any), Err(Errno::EDEADLK));
        check_eq!(
            "SOME(1)",
            ring.wait_for(Policy::Some, 1, late()),
            Err(Errno::EDEADLK)
        );
        check_eq!(
            "SOME(64)",
            ring.wait_for(Policy::Some, 64, late()),
            Err(Errno::EDEADLK)
        );
        check_eq!(
            "WAIT_FAST ANY",
            ring.wait_fast(Policy::Any, 0),
            Err(Errno::EDEADLK)
        );
        ring.run_all(&[call!(SYS_getpid); 3])?;
    }
    Ok(())
}

fn all_of_nothing() -> Check {
    let (_engine, mut ring) = start()?;
    check_eq!("ALL", ring.wait(Policy::All), Ok(0));
    ring.run_all(&[call!(SYS_getpid); 3])?;
    check_eq!("ALL", ring.wait(Policy::All), Ok(0));
    check_eq!("WAIT_FAST ALL", ring.wait_fast(Policy::All, 0), Ok(0));
    Ok(())
}

fn all_waits_for_all() -> Check {
    let (_engine, mut ring) = start()?;
    let nap = [0i64, 50_000_000];
    let begin = Instant::now();
    let mut calls = vec![call!(SYS_getpid); 60];
    calls.extend([call!(SYS_nanosleep, nap.as_ptr(), 0); 4]);
    let slots = ring.post_all(&calls);
    check_eq!("WAIT", ring.wait(Policy::All), Ok(64));
    check_time("WAIT", begin, Duration::from_millis(50))?;
    for slot in slots {
        check!(
            ring.is_done(slot),
            "not done after ALL: {}",
            ring.show(slot)
        );
    }
    Ok(())
}

fn some_waits_for_min() -> Check {
    let (_engine, mut ring) = start()?;
    let blocked = Blocked::new(&mut ring, 6)?;
    let short = Duration::from_millis(30);
    for there in 0..4 {
        check_eq!(
            "SOME(4)",
            ring.wait_for(Policy::Some, 4, short),
            Err(Errno::ETIME)
        );
        blocked.release_one()?;
        check_eq!(
            "SOME",
            ring.wait_for(Policy::Some, there + 1, late()),
            Ok(u64::from(there) + 1)
        );
    }
    check_eq!("SOME(4)", ring.wait_for(Policy::Some, 4, late()), Ok(4));
    // Two reads are left; `end` writes words for all.
    blocked.end(&mut ring)
}

fn some_impossible() -> Check {
    let (_engine, mut ring) = start()?;
    let blocked = Blocked::new(&mut ring, 2)?;
    ring.post(call!(SYS_getpid));
    check_eq!("WAIT", ring.wait(Policy::None), Ok(1));
    check_eq!(
        "SOME(4) of 3",
        ring.wait_for(Policy::Some, 4, late()),
        Err(Errno::EDEADLK)
    );
    let short = Duration::from_millis(20);
    check_eq!(
        "SOME(3) of 3",
        ring.wait_for(Policy::Some, 3, short),
        Err(Errno::ETIME)
    );
    ring.poll();
    blocked.end(&mut ring)
}

fn some_with_linger(
    ring: &Ring,
    min: u32,
    linger: Duration,
    limit: Duration,
) -> Result<u64, Errno> {
    let mut arg = Wait::new(ring.id, Policy::Some);
    arg.min = min;
    arg.linger_ns = linger.as_nanos() as u64;
    arg.timeout_ns = sys::monotonic_ns() + limit.as_nanos() as u64;
    ring.wait_raw(&mut arg)
}

fn some_lingers() -> Check {
    let (_engine, mut ring) = start()?;
    let blocked = Blocked::new(&mut ring, 4)?;
    let linger = Duration::from_millis(60);
    ring.post_all(&[call!(SYS_getpid); 2]);
    let begin = Instant::now();
    check_eq!("SOME(5)", some_with_linger(&ring, 5, linger, late()), Ok(2));
    check_time("SOME(5) with linger", begin, linger)?;
    // There are enough results: no reason to linger.
    let long = Duration::from_secs(3600);
    check_eq!("SOME(2)", some_with_linger(&ring, 2, long, late()), Ok(2));
    ring.poll();
    ring.poll();
    blocked.end(&mut ring)
}

fn some_linger_needs_one() -> Check {
    let (_engine, mut ring) = start()?;
    let blocked = Blocked::new(&mut ring, 4)?;
    let begin = Instant::now();
    let (linger, limit) = (Duration::from_millis(1), Duration::from_millis(100));
    check_eq!(
        "SOME(3)",
        some_with_linger(&ring, 3, linger, limit),
        Err(Errno::ETIME)
    );
    check_time("SOME(3)", begin, limit)?;
    blocked.end(&mut ring)
}

fn time_limit() -> Check {
    let (_engine, mut ring) = start()?;
    let blocked = Blocked::new(&mut ring, 3)?;
    let limit = Duration::from_millis(150);
    for (policy, min) in [(Policy::Any, 0), (Policy::All, 0), (Policy::Some, 2)] {
        let begin = Instant::now();
        check_eq!(
            format!("{policy:?}"),
            ring.wait_for(policy, min, limit),
            Err(Errno::ETIME)
        );
        check_time("WAIT", begin, limit)?;
    }
    blocked.end(&mut ring)
}

fn time_limit_past() -> Check {
    let (_engine, mut ring) = start()?;
    let blocked = Blocked::new(&mut ring, 1)?;
    let mut arg = Wait::new(ring.id, Policy::Any);
    for past in [1, sys::monotonic_ns() - 1] {
        arg.timeout_ns = past;
        let begin = Instant::now();
        check_eq!(
            "WAIT until the past",
            ring.wait_raw(&mut arg),
            Err(Errno::ETIME)
        );
        check_time("WAIT", begin, Duration::ZERO)?;
    }
    let slot = ring.post(call!(SYS_getpid));
    check_eq!("WAIT", ring.wait(Policy::Any), Ok(1));
    check_eq!("WAIT until the past", ring.wait_raw(&mut arg), Ok(1));
    ring.reap(slot);
    blocked.end(&mut ring)
}

fn time_limit_executes() -> Check {
    let (_engine, mut ring) = start()?;
    let slots = ring.post_all(&[call!(SYS_getpid); 8]);
    let mut arg = Wait::new(ring.id, Policy::All);
    arg.timeout_ns = 1;
    check_eq!("WAIT until the past", ring.wait_raw(&mut arg), Ok(8));
    for slot in slots {
        check_ret!("getpid", ring.reap(slot).result, std::process::id());
    }
    Ok(())
}

fn fast() -> Check {
    let (_engine, mut ring) = start()?;
    let blocked = Blocked::new(&mut ring, 2)?;
    check_eq!("WAIT_FAST NONE", ring.wait_fast(Policy::None, 0), Ok(0));
    let slots = ring.post_all(&[call!(SYS_getpid); 5]);
    check_eq!("WAIT_FAST ANY", ring.wait_fast(Policy::Any, 0), Ok(5));
    check_eq!("WAIT_FAST SOME(5)", ring.wait_fast(Policy::Some, 5), Ok(5));
    check_eq!(
        "WAIT_FAST SOME(8)",
        ring.wait_fast(Policy::Some, 8),
        Err(Errno::EDEADLK)
    );
    for slot in slots {
        check_ret!("getpid", ring.reap(slot).result, std::process::id());
    }
    blocked.reads.release(&blocked.to)?;
    check_eq!("WAIT_FAST ALL", ring.wait_fast(Policy::All, 0), Ok(2));
    Ok(())
}

fn number_of_results() -> Check {
    let (_engine, mut ring) = start()?;
    for there in 1..=64 {
        ring.post(call!(SYS_getpid));
        check_eq!("WAIT", ring.wait(Policy::All), Ok(there));
    }
    for left in (0..64).rev() {
        ring.reap(left as usize);
        check_eq!("WAIT", ring.wait(Policy::None), Ok(left));
    }
    Ok(())
}
