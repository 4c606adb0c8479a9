// SPDX-License-Identifier: MIT OR Apache-2.0
//! Calls that only their owner can execute, behind a call that happens to block the owner.

use std::os::fd::AsRawFd;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use crate::check::Check;
use crate::kit::abi::{
    ENTRY_ASYNC, Eventfd, IOC_EVENTFD, Policy, REASON_CANCELLED, REASON_NONE, REASON_THREAD,
    Register,
};
use crate::kit::engine::{self, Engine};
use crate::kit::files::{Leased, TempDir};
use crate::kit::ring::{Call, Ring, check_done, linked};
use crate::kit::{in_some_try, patience, rounds, signals, sys};
use crate::notify::{events, new_eventfd, take_count};

tests! { "blocking":
    own_calls_come_back => "owners make calls that only they can make, behind one that blocks them";
    own_calls_in_chains => "owners make such calls also in a chain that a thread has continued";
    own_calls_asynchronous => "a call for its owner only is refused with THREAD if it has ASYNC";
    own_calls_readable => "poll() and the eventfd tell an owner not in WAIT that calls wait for it";
    own_calls_of_ended => "a call that waits for its owner ends with it, without poll() or WAIT";
    own_calls_cancelled => "CANCEL finds a call that waits for its owner";
}

/// Asks for the ID of the calling thread: only the owner's is right.
fn own_call() -> Call {
    call!(SYS_gettid)
}

fn tid() -> i64 {
    plain!(SYS_gettid)
}

/// Posts `calls` behind an open that blocks, and waits for all. When the owner is blocked,
/// another thread calls `meanwhile` and lets the open return. Returns the slots of `calls`.
fn behind_a_block(
    engine: &Engine,
    ring: &mut Ring,
    calls: &[Call],
    meanwhile: impl Fn(&[usize]) -> Check + Sync,
) -> Check<Vec<usize>> {
    let dir = TempDir::new()?;
    let leased = Leased::at(dir.join("leased"))?;
    let mut all = vec![leased.open()];
    all.extend(calls);
    let slots = ring.post_all(&all);
    std::thread::scope(|scope| {
        let other = scope.spawn(|| -> Check {
            engine.until_stats("the blocked owner", |stats| stats.peak_blocked >= 1)?;
            let done = meanwhile(&slots);
            leased.release().and(done)
        });
        let got = ring.wait(Policy::All);
        other.join().expect("no panic")?;
        check_eq!("ALL", got, Ok(slots.len() as u64));
        Ok(())
    })?;
    let done = ring.reap(slots[0]);
    check!(done.result > 2, "open of a leased file: {done:?}");
    drop(sys::own(done.result as i32));
    Ok(slots[1..].to_vec())
}

fn own_calls_come_back() -> Check {
    for _ in 0..rounds(10) {
        let engine = Engine::open()?;
        let mut ring = engine.ring(2)?;
        // Some of the calls are on the second page.
        let calls = vec![own_call(); 100];
        let slots = behind_a_block(&engine, &mut ring, &calls, |_| Ok(()))?;
        for slot in slots {
            check_done("gettid", ring.reap(slot), tid(), REASON_NONE)?;
        }
        check_eq!("refused", engine.stats()?.refused, 0);
    }
    Ok(())
}

fn own_calls_in_chains() -> Check {
    let pid = i64::from(std::process::id());
    let time = [0u64, 1_000_000];
    for _ in 0..rounds(10) {
        let engine = Engine::open()?;
        let mut ring = engine.ring(1)?;
        let sleep = linked(call!(SYS_nanosleep, time.as_ptr(), 0));
        let chain = [
            linked(call!(SYS_getpid)),
            sleep,
            linked(own_call()),
            linked(call!(SYS_getpid)),
            sleep,
            own_call(),
        ];
        let want = [pid, 0, tid(), pid, 0, tid()];
        // The results are the same if the owner happens to block and, with no such call before, by
        // rule.
        let slots = behind_a_block(&engine, &mut ring, &chain.repeat(3), |_| Ok(()))?;
        for (slot, want) in slots.into_iter().zip(want.repeat(3)) {
            check_done("chain behind a block", ring.reap(slot), want, REASON_NONE)?;
        }
        for (done, want) in ring.run_all(&chain)?.iter().zip(want) {
            check_done("chain", *done, want, REASON_NONE)?;
        }
    }
    Ok(())
}

fn own_calls_asynchronous() -> Check {
    let refused = -i64::from(libc::EOPNOTSUPP);
    let engine = Engine::open()?;
    let mut ring = engine.ring(1)?;
    let call = Call {
        flags: ENTRY_ASYNC,
        ..own_call()
    };
    let slots = behind_a_block(&engine, &mut ring, &[call; 4], |_| Ok(()))?;
    for slot in slots {
        check_done("behind a block", ring.reap(slot), refused, REASON_THREAD)?;
    }
    check_done("alone", ring.run(call)?, refused, REASON_THREAD)
}

/// While the owner is blocked in an open, a thread begins a chain that sleeps and then reaches a
/// call that only the owner can make. By then the owner has left WAIT, and polls. Returns false if
/// the owner came back before that.
fn returned_after_wait(engine: &Engine, ring: &mut Ring, sleep_ms: u64) -> Check<bool> {
    let own = new_eventfd();
    let mut arg = Eventfd {
        size: size_of::<Eventfd>() as u32,
        id: ring.id,
        fd: own.as_raw_fd(),
        flags: 0,
    };
    let set = sys::ioctl_with(engine.fd(), IOC_EVENTFD, &mut arg);
    check_eq!("EVENTFD", set, Ok(0));
    let dir = TempDir::new()?;
    let leased = Leased::at(dir.join("leased"))?;
    let time = [sleep_ms / 1000, sleep_ms % 1000 * 1_000_000];
    let sleep = linked(call!(SYS_nanosleep, time.as_ptr(), 0));
    let blocked = engine.stats()?.handoffs;
    let slots = ring.post_all(&[leased.open(), sleep, own_call()]);
    std::thread::scope(|scope| {
        let other = scope.spawn(|| {
            engine.until_stats("the blocked owner", |stats| stats.handoffs > blocked)?;
            leased.release()
        });
        let waited = ring.wait(Policy::Any);
        other.join().expect("no panic")?;
        check!(waited.is_ok(), "ANY: {waited:?}");
        Ok(())
    })?;
    let opened = ring.reap(slots[0]);
    check!(opened.result > 2, "open of a leased file: {opened:?}");
    drop(sys::own(opened.result as i32));
    let in_time = !ring.is_done(slots[2]);
    if in_time {
        take_count(&own);
        let seen = events(engine.fd(), patience())?;
        check_eq!("events", seen, libc::POLLIN);
        let seen = events(own.as_raw_fd(), patience())?;
        check_eq!("events of the eventfd", seen, libc::POLLIN);
        // The poll does not report a result: there is none.
        check!(!ring.is_done(slots[1]), "the chain has ended");
    }
    check_eq!("ALL", ring.wait(Policy::All), Ok(2));
    check_done("nanosleep", ring.reap(slots[1]), 0, REASON_NONE)?;
    check_done("gettid", ring.reap(slots[2]), tid(), REASON_NONE)?;
    check_eq!("events afterwards", events(engine.fd(), Duration::ZERO)?, 0);
    Ok(in_time)
}

fn own_calls_readable() -> Check {
    let engine = Engine::open()?;
    let mut ring = engine.ring(1)?;
    // A busy machine may take longer than the chain sleeps.
    for sleep_ms in [100, 400, 1_600, 6_400] {
        if returned_after_wait(&engine, &mut ring, sleep_ms)? {
            return Ok(());
        }
    }
    fail!("each time, the calls came back before the owner had left WAIT");
}

/// Waits in WAIT for a blocked open, with a call that only the owner can make behind the open.
fn wait_behind_block(engine: &Engine, registered: &Register, open: Call) -> Check {
    let mut ring = Ring::map(engine.fd(), registered)?;
    ring.post_all(&[open, own_call()]);
    let got = ring.wait(Policy::All);
    fail!("WAIT of a thread that was to end: {got:?}");
}

fn own_calls_of_ended() -> Check {
    signals::exit_thread_on(libc::SIGUSR1)?;
    for _ in 0..rounds(3) {
        in_some_try("an owner that ends before it makes its call", |_| {
            end_before_call()
        })?;
    }
    Ok(())
}

/// Ends an owner for which a call waits. Returns false if the owner has made the call itself before
/// it ended.
fn end_before_call() -> Check<bool> {
    // Another thread uses the engine and the file for as long as the process lives.
    let engine: &'static Engine = Box::leak(Box::new(Engine::open()?));
    let dir = TempDir::new()?;
    let leased: &'static Leased = Box::leak(Box::new(Leased::at(dir.join("leased"))?));
    let eventfd = new_eventfd();
    engine.set_eventfd(&eventfd)?;
    let (send, receive) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let begun = engine.register(1).map(|registered| {
            let _ = send.send((sys::gettid(), registered));
            wait_behind_block(engine, &registered, leased.open())
        });
        println!("# the owner: {begun:?}");
    });
    let (owner, registered) = match receive.recv() {
        Ok(begun) => begun,
        Err(_) => fail!("the owner has failed"),
    };
    let ring = Ring::map(engine.fd(), &registered)?;
    // A thread has given the call back to the owner, who has to come.
    check_eq!(
        "eventfd",
        events(eventfd.as_raw_fd(), patience())?,
        libc::POLLIN
    );
    signals::send(owner, libc::SIGUSR1);
    let end = Instant::now() + patience();
    while !ring.is_done(1) {
        take_count(&eventfd);
        if !ring.is_done(1) {
            check_eq!(
                "eventfd",
                events(eventfd.as_raw_fd(), patience())?,
                libc::POLLIN
            );
            check!(Instant::now() < end, "no end: {}", ring.show(1));
        }
    }
    let result = ring.entry(1).result.load(Ordering::Relaxed);
    if result == i64::from(owner) {
        return Ok(false);
    }
    check_ret!("result", result, -libc::ECANCELED);
    let reason = ring.entry(1).reason.load(Ordering::Relaxed);
    check_eq!("reason", reason, REASON_NONE);
    Ok(true)
}

fn own_calls_cancelled() -> Check {
    let engine = Engine::open()?;
    let mut ring = engine.ring(1)?;
    let (fd, id) = (engine.fd(), ring.id);
    let calls = [own_call(), own_call(), call!(SYS_getpid)];
    let slots = behind_a_block(&engine, &mut ring, &calls, |slots| {
        // A thread has looked at the first two entries before it reaches the third.
        engine.until_stats("a call by a thread", |stats| stats.thread_done >= 1)?;
        check_eq!("CANCEL", engine::cancel(fd, id, slots[2]), Ok(0));
        Ok(())
    })?;
    let cancelled = -i64::from(libc::ECANCELED);
    let pid = i64::from(std::process::id());
    check_done("gettid", ring.reap(slots[0]), tid(), REASON_NONE)?;
    check_done(
        "cancelled",
        ring.reap(slots[1]),
        cancelled,
        REASON_CANCELLED,
    )?;
    check_done("getpid", ring.reap(slots[2]), pid, REASON_NONE)
}
