// SPDX-License-Identifier: MIT OR Apache-2.0
//! Which CPUs are polled, and when.

use std::time::{Duration, Instant};

use nix::errno::Errno;

use crate::check::Check;
use crate::kit::abi::{Param, Policy};
use crate::kit::cgroup::Cgroup;
use crate::kit::child::in_child;
use crate::kit::cpu::Cpu1;
use crate::kit::engine::Engine;
use crate::kit::files::{BlockedReads, pipe};
use crate::kit::limits::{need_two_cpus, poller_cpu};
use crate::kit::mode::Mode;
use crate::kit::ring::Ring;
use crate::kit::{rounds, sys, until};

tests! { "specialise":
    sleeps_at_once => "with IDLE_NS 0 a poller sleeps after each round that finds nothing";
    stays_awake => "within IDLE_NS a poller does not sleep";
    outside_cpuset => "POLL_CPUS outside of the cpuset is EINVAL, within it the CPU is polled";
    cpuset_shrinks => "a CPU that leaves the cpuset is not polled until it returns";
    comes_back => "an unplugged CPU of POLL_CPUS is polled again by itself when it returns";
    comes_back_under_load => "unplugging and replugging the only polled CPU loses no call";
    one_of_two_goes => "if one of two polled CPUs is unplugged, the other one is still polled";
    back_while_away => "POLL_CPUS set to 0 while its CPU is unplugged: it is not polled afterwards";
    extra_off => "without EXTRA_POLLERS no poller is ever recruited";
    recruited => "a backlog recruits a poller, which executes it and is released when idle";
    never_the_last => "if the program has only one CPU, none is recruited";
    extra_ends => "EXTRA_POLLERS 0 gives recruited CPUs back";
}

/// A registration that a poller on `poller_cpu()` polls.
fn start(idle_ns: u64) -> Check<(Engine, Ring)> {
    need_two_cpus()?;
    let engine = Engine::open()?;
    engine.set(Param::IdleNs, idle_ns)?;
    let mut ring = engine.ring(1)?;
    ring.mode = Mode::Poller;
    engine.set(Param::PollCpus, 1 << poller_cpu())?;
    Ok((engine, ring))
}

fn check_getpid(ring: &mut Ring, count: usize) -> Check {
    for done in ring.run_all(&vec![call!(SYS_getpid); count])? {
        check_ret!("getpid", done.result, std::process::id());
    }
    Ok(())
}

fn sleeps_at_once() -> Check {
    let (engine, mut ring) = start(0)?;
    for _ in 0..rounds(50) {
        check_getpid(&mut ring, 5)?;
    }
    until("a poller that sleeps", || ring.needs_kick())?;
    let stats = engine.stats()?;
    check!(
        stats.idle_polls <= stats.poller_sleeps + 1,
        "{} rounds in vain for {} sleeps",
        stats.idle_polls,
        stats.poller_sleeps
    );
    check!(stats.poller_sleeps >= 1, "{stats:?}");
    Ok(())
}

fn stays_awake() -> Check {
    let (engine, mut ring) = start(3_600_000_000_000)?;
    until("a poller that is awake", || !ring.needs_kick())?;
    check_getpid(&mut ring, 64)?;
    let end = Instant::now() + Duration::from_millis(100);
    while Instant::now() < end {
        check!(!ring.needs_kick(), "the poller sleeps");
        sys::yield_now();
    }
    check_eq!("sleeps", engine.stats()?.poller_sleeps, 0);
    // The poller wakes up for this, and then sleeps.
    engine.set(Param::IdleNs, 0)?;
    until("a poller that sleeps", || ring.needs_kick())?;
    check!(engine.stats()?.idle_polls > 64, "the poller has not polled");
    Ok(())
}

fn outside_cpuset() -> Check {
    need_two_cpus()?;
    let group = Cgroup::new(Some("cpuset"))?;
    in_child(|| {
        group.write("cpuset.cpus", "0")?;
        group.enter()?;
        let engine = Engine::open()?;
        for mask in [0b10, 0b11] {
            let ret = engine.try_set(Param::PollCpus, mask);
            check_eq!(format!("SET POLL_CPUS {mask}"), ret, Err(Errno::EINVAL));
            check_eq!("POLL_CPUS", engine.get(Param::PollCpus)?, 0);
        }
        let mut ring = engine.ring(1)?;
        ring.mode = Mode::Poller;
        engine.set(Param::PollCpus, 0b01)?;
        engine.until_stats("a poller", |s| s.polled_cpus == 0b01)?;
        check_getpid(&mut ring, 64)
    })
}

fn cpuset_shrinks() -> Check {
    need_two_cpus()?;
    let group = Cgroup::new(Some("cpuset"))?;
    in_child(|| {
        group.write("cpuset.cpus", "0-1")?;
        group.enter()?;
        let (engine, mut ring) = start(1_000_000)?;
        engine.until_stats("a poller", |s| s.polled_cpus == 0b10)?;
        for _ in 0..rounds(3) {
            group.write("cpuset.cpus", "0")?;
            for _ in 0..20 {
                check_getpid(&mut ring, 20)?;
            }
            engine.until_stats("no poller", |s| s.polled_cpus == 0)?;
            check_getpid(&mut ring, 20)?;
            check_eq!("POLL_CPUS", engine.get(Param::PollCpus)?, 0b10);
            group.write("cpuset.cpus", "0-1")?;
            engine.until_stats("the poller again", |s| s.polled_cpus == 0b10)?;
            check_getpid(&mut ring, 20)?;
        }
        Ok(())
    })
}

fn comes_back() -> Check {
    let cpu = Cpu1::get()?;
    let (engine, mut ring) = start(1_000_000)?;
    check_eq!("POLL_CPUS", engine.get(Param::PollCpus)?, 0b10);
    for _ in 0..rounds(2) {
        engine.until_stats("a poller", |s| s.polled_cpus == 0b10)?;
        check_getpid(&mut ring, 20)?;
        cpu.set(false)?;
        check_getpid(&mut ring, 20)?;
        engine.until_stats("no poller", |s| s.polled_cpus == 0)?;
        check_eq!("POLL_CPUS", engine.get(Param::PollCpus)?, 0b10);
        check!(
            ring.needs_kick(),
            "no thread polls, and yet there is no NEED_WAKEUP"
        );
        check_getpid(&mut ring, 20)?;
        cpu.set(true)?;
        // Without any call to the device.
        engine.until_stats("the poller again", |s| s.polled_cpus == 0b10)?;
        check_getpid(&mut ring, 64)?;
    }
    Ok(())
}

fn comes_back_under_load() -> Check {
    let cpu = Cpu1::get()?;
    let (engine, mut ring) = start(50_000_000)?;
    let (from, to) = pipe()?;
    for round in 0..rounds(6) {
        let reads = BlockedReads::new(&from, 20);
        let mut slots = ring.post_all(&reads.calls());
        slots.extend(ring.post_all(&[call!(SYS_getpid); 20]));
        std::thread::scope(|scope| {
            let toggle = scope.spawn(|| cpu.set(round % 2 == 1));
            for _ in 0..40 {
                check_getpid(&mut ring, 20)?;
            }
            toggle.join().unwrap_or_else(|_| fail!("a panic"))
        })?;
        reads.release(&to)?;
        for (n, done) in ring.finish(&slots)?.iter().enumerate() {
            let want = if n < 20 { 2 } else { std::process::id() };
            check_ret!("result", done.result, want);
        }
        reads.check()?;
    }
    cpu.set(true)?;
    engine.until_stats("the poller again", |s| s.polled_cpus == 0b10)?;
    check_getpid(&mut ring, 64)
}

fn one_of_two_goes() -> Check {
    let cpu = Cpu1::get()?;
    let (engine, mut ring) = start(1_000_000)?;
    engine.set(Param::PollCpus, 0b11)?;
    engine.until_stats("two pollers", |s| s.polled_cpus == 0b11)?;
    cpu.set(false)?;
    for _ in 0..20 {
        check_getpid(&mut ring, 30)?;
    }
    engine.until_stats("one poller", |s| s.polled_cpus == 0b01)?;
    check_getpid(&mut ring, 30)?;
    cpu.set(true)?;
    engine.until_stats("two pollers again", |s| s.polled_cpus == 0b11)?;
    check_getpid(&mut ring, 30)
}

fn back_while_away() -> Check {
    let cpu = Cpu1::get()?;
    let (engine, mut ring) = start(1_000_000)?;
    engine.until_stats("a poller", |s| s.polled_cpus == 0b10)?;
    cpu.set(false)?;
    check_getpid(&mut ring, 10)?;
    engine.set(Param::PollCpus, 0)?;
    engine.until_stats("no poller", |s| s.polled_cpus == 0)?;
    let ret = engine.try_set(Param::PollCpus, 0b10);
    check_eq!("SET to a CPU that is away", ret, Err(Errno::EINVAL));
    cpu.set(true)?;
    ring.mode = Mode::Inline;
    for _ in 0..20 {
        check_getpid(&mut ring, 10)?;
    }
    check_eq!("pollers", engine.stats()?.pollers, 0);
    Ok(())
}

/// The owner of `ring` sleeps in WAIT while `other` has posted entries that no thread executes.
fn backlog(engine: &Engine, ring: &mut Ring, other: &mut Ring, looks: u32) -> Check<Vec<usize>> {
    let slots = other.post_all(&[call!(SYS_getpid); 20]);
    let nap = [0i64, 2_000_000];
    for _ in 0..looks {
        let nap = ring.post(call!(SYS_nanosleep, nap.as_ptr(), 0));
        check_eq!("WAIT", ring.wait(Policy::Any), Ok(1));
        check_ret!("nanosleep", ring.reap(nap).result, 0);
        if engine.stats()?.pollers_recruited != 0 {
            break;
        }
    }
    Ok(slots)
}

fn extra_off() -> Check {
    let engine = Engine::open()?;
    check_eq!("EXTRA_POLLERS", engine.get(Param::ExtraPollers)?, 0);
    let mut rings = [engine.ring(1)?, engine.ring(1)?];
    let [ring, other] = &mut rings;
    let slots = backlog(&engine, ring, other, 30)?;
    let stats = engine.stats()?;
    check_eq!("recruited", stats.pollers_recruited, 0);
    check_eq!("pollers", stats.pollers, 0);
    check!(
        !slots.iter().any(|&slot| other.is_done(slot)),
        "an entry was executed, though the kernel was not told of it"
    );
    Ok(())
}

fn recruited() -> Check {
    need_two_cpus()?;
    let engine = Engine::open()?;
    engine.set(Param::ExtraPollers, 5)?;
    check_eq!("EXTRA_POLLERS", engine.get(Param::ExtraPollers)?, 5);
    engine.set(Param::IdleNs, 5_000_000)?;
    let mut rings = [engine.ring(1)?, engine.ring(1)?];
    let [ring, other] = &mut rings;
    for round in 1..=u64::from(rounds(3)) {
        let slots = other.post_all(&[call!(SYS_getpid); 20]);
        let nap = [0i64, 2_000_000];
        until("a recruited poller", || {
            let nap = ring.post(call!(SYS_nanosleep, nap.as_ptr(), 0));
            let waited = ring.wait(Policy::Any) == Ok(1);
            ring.reap(nap);
            waited && engine.stats().is_ok_and(|s| s.pollers_recruited >= round)
        })?;
        // Posted without KICK or WAIT: only the poller can execute them.
        other.poll_until_done(&slots)?;
        for slot in slots {
            check_ret!("getpid", other.reap(slot).result, std::process::id());
        }
        let stats = engine.until_stats("no poller when there is nothing to do", |s| {
            s.pollers_released == s.pollers_recruited && s.polled_cpus == 0
        })?;
        check_eq!(
            "one CPU is left to the program",
            stats.pollers_recruited,
            round
        );
        until("NEED_WAKEUP", || ring.needs_kick() && other.needs_kick())?;
        check_getpid(ring, 20)?;
    }
    check_eq!("POLL_CPUS", engine.get(Param::PollCpus)?, 0);
    Ok(())
}

fn never_the_last() -> Check {
    ok!("sched_setaffinity", sys::pin(0));
    let engine = Engine::open()?;
    engine.set(Param::ExtraPollers, 5)?;
    let mut rings = [engine.ring(1)?, engine.ring(1)?];
    let [ring, other] = &mut rings;
    backlog(&engine, ring, other, 30)?;
    check_eq!("recruited", engine.stats()?.pollers_recruited, 0);
    Ok(())
}

fn extra_ends() -> Check {
    need_two_cpus()?;
    let engine = Engine::open()?;
    engine.set(Param::ExtraPollers, 1)?;
    engine.set(Param::IdleNs, 3_600_000_000_000)?;
    let mut rings = [engine.ring(1)?, engine.ring(1)?];
    let [ring, other] = &mut rings;
    let slots = backlog(&engine, ring, other, 100)?;
    check_eq!("recruited", engine.stats()?.pollers_recruited, 1);
    other.poll_until_done(&slots)?;
    engine.set(Param::ExtraPollers, 0)?;
    engine.until_stats("no poller", |s| {
        s.polled_cpus == 0 && s.pollers_released == 1
    })?;
    until("NEED_WAKEUP", || ring.needs_kick() && other.needs_kick())?;
    check_getpid(ring, 20)
}
