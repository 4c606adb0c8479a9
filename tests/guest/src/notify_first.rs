// SPDX-License-Identifier: MIT OR Apache-2.0
//! The first program that waits for an engine's results is told of results that come at that
//! moment.

use std::sync::atomic::{AtomicI32, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use crate::check::Check;
use crate::kit::abi::Policy;
use crate::kit::engine::Engine;
use crate::kit::limits::need_two_cpus;
use crate::kit::{Random, chances, patience, sys};
use crate::notify::events;

tests! { "notify":
    first_poll => "the first poll of an engine learns of a result that comes at that moment";
}

/// Lets two threads start each round at nearly the same time.
struct Turn {
    round: AtomicU32,
    over: AtomicU32,
    /// The descriptor of the round's engine.
    fd: AtomicI32,
}

/// The round of a thread that has failed.
const FAILED: u32 = u32::MAX;

/// Waits without a system call. Returns false if the other thread has failed.
fn is_reached(word: &AtomicU32, round: u32) -> bool {
    loop {
        match word.load(Ordering::Acquire) {
            FAILED => return false,
            now if now >= round => return true,
            _ => {}
        }
    }
}

/// Lets a random time pass without a system call: a few emulated instructions, but no pause
/// instruction, after which the emulator would look for other work.
fn pause(random: &mut Random) {
    let (begin, time) = (Instant::now(), Duration::from_nanos(random.below(20_000)));
    while begin.elapsed() < time {}
}

/// The program that polls. It has no pages, so results of all registrations count.
fn poll_each(turn: &Turn, rounds: u32, mut random: Random) -> Check {
    ok!("sched_setaffinity", sys::pin(1));
    for round in 1..=rounds {
        if !is_reached(&turn.round, round) {
            break;
        }
        pause(&mut random);
        let begin = sys::monotonic_ns();
        let seen = events(turn.fd.load(Ordering::Relaxed), patience())?;
        let took = u128::from(sys::monotonic_ns() - begin);
        // A poll that was not woken looks once more when its time is over.
        check!(
            seen == libc::POLLIN && took < patience().as_nanos(),
            "round {round}: events {seen} after {} ms",
            took / 1_000_000
        );
        turn.over.store(round, Ordering::Release);
    }
    Ok(())
}

/// Opens an engine, whose first result is published at about the time of its first poll: by the
/// owner, or by a syscall thread.
fn publish(turn: &Turn, round: u32, random: &mut Random) -> Check {
    let engine = Engine::open()?;
    let mut ring = engine.ring(1)?;
    let by_thread = round % 4 == 0;
    let call = call!(SYS_getpid);
    let slot = ring.post(if by_thread { call.asynchronous() } else { call });
    turn.fd.store(engine.fd(), Ordering::Relaxed);
    turn.round.store(round, Ordering::Release);
    pause(random);
    if by_thread {
        ring.kicked()?;
        ring.poll_until_done(&[slot])?;
    } else {
        check_eq!("NONE", ring.wait(Policy::None), Ok(1));
    }
    if !is_reached(&turn.over, round) {
        return Ok(());
    }
    check_ret!("getpid", ring.reap(slot).result, std::process::id());
    Ok(())
}

fn first_poll() -> Check {
    need_two_cpus()?;
    let turn = Turn {
        round: AtomicU32::new(0),
        over: AtomicU32::new(0),
        fd: AtomicI32::new(-1),
    };
    let rounds = chances(300);
    let mut random = Random::new();
    let other = random.split();
    std::thread::scope(|scope| {
        let poller = scope.spawn(|| {
            let outcome = poll_each(&turn, rounds, other);
            if outcome.is_err() {
                turn.over.store(FAILED, Ordering::Release);
            }
            outcome
        });
        let pinned = sys::pin(0);
        let published = (1..=rounds).try_for_each(|round| publish(&turn, round, &mut random));
        if published.is_err() {
            turn.round.store(FAILED, Ordering::Release);
        }
        let polled = poller.join().expect("no panic");
        ok!("sched_setaffinity", pinned);
        polled.and(published)
    })
}
