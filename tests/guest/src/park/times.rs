// SPDX-License-Identifier: MIT OR Apache-2.0
//! Receiving calls that wait for a limited time, and reads of counters.

use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use super::{Words, check_no_thread, finish_asleep, park, send};
use crate::check::Check;
use crate::kit::abi::Policy;
use crate::kit::engine::Engine;
use crate::kit::files::socket_pair;
use crate::kit::mode::Mode;
use crate::kit::net::{self, tcp_pair, unix_pair};
use crate::kit::ring::Ring;
use crate::kit::uffd::Slow;
use crate::kit::{in_some_try, patience, sys, until};

tests! { "park":
    receive_timeout => "with SO_RCVTIMEO a call that receives nothing ends after its time";
    receive_in_time => "with SO_RCVTIMEO a call that receives something in time ends at once";
    time_and_backlog => "at its end a call receives what arrived while another call held the socket";
    one_time_for_all => "a call that is woken in vain does not restart its time";
    thread_parks_again => "a call that a thread tries in vain is parked again, without the thread";
    counters => "a read of an eventfd or a timerfd holds no thread";
}

const EVERY: Duration = Duration::from_millis(40);

fn start() -> Check<(Engine, Ring)> {
    Mode::Inline.start(1)
}

fn limit(socket: &OwnedFd, time: Duration) -> Check {
    let time = [time.as_secs() as i64, i64::from(time.subsec_micros())];
    let set = net::set(socket, libc::SOL_SOCKET, libc::SO_RCVTIMEO, &time);
    check_ret!("SO_RCVTIMEO", set, 0);
    Ok(())
}

fn check_time(what: &str, begin: Instant) -> Check {
    let took = begin.elapsed();
    check!(took >= EVERY && took < patience(), "{what}: {took:?}");
    Ok(())
}

fn receive_timeout() -> Check {
    net::loopback_up()?;
    let (engine, mut ring) = start()?;
    let before = engine.stats()?;
    let pairs = [
        unix_pair(libc::SOCK_STREAM)?,
        unix_pair(libc::SOCK_DGRAM)?,
        tcp_pair()?,
    ];
    for (from, _to) in &pairs {
        limit(from, EVERY)?;
        let words = Words::new(1);
        for call in [words.receive(0, from), words.read(0, from, 8)] {
            let begin = Instant::now();
            check_ret!("receive", ring.result(call)?, -libc::EAGAIN);
            check_time("receive", begin)?;
        }
    }
    for family in [libc::AF_UNIX, libc::AF_INET] {
        let listener = net::listener(family)?;
        limit(&listener, EVERY)?;
        let begin = Instant::now();
        let call = call!(SYS_accept, &listener, 0, 0);
        check_ret!("accept", ring.result(call)?, -libc::EAGAIN);
        check_time("accept", begin)?;
    }
    let after = engine.stats()?;
    check_eq!("parked", after.parked - before.parked, 8);
    check_eq!("timed out", after.timed_out - before.timed_out, 8);
    check_no_thread(&engine, &before)?;
    // The same while no thread is in WAIT.
    let (from, _to) = &pairs[0];
    let words = Words::new(1);
    let begin = Instant::now();
    let slots = park(&engine, &mut ring, &[words.receive(0, from)])?;
    ring.poll_until_done(&slots)?;
    check_ret!("receive", ring.reap(slots[0]).result, -libc::EAGAIN);
    check_time("receive", begin)
}

fn receive_in_time() -> Check {
    let (engine, mut ring) = start()?;
    let (from, to) = socket_pair()?;
    limit(&from, Duration::from_secs(1000))?;
    let words = Words::new(1);
    let before = engine.stats()?;
    let slots = park(&engine, &mut ring, &[words.receive(0, &from)])?;
    let done = finish_asleep(&engine, &mut ring, &slots, || send(&to, b"word"))?;
    check_ret!("receive", done[0].result, 4);
    check_no_thread(&engine, &before)?;
    check_eq!("timed out", engine.stats()?.timed_out, before.timed_out);
    let slots = park(&engine, &mut ring, &[words.receive(0, &from)])?;
    send(&to, b"by a thread")?;
    ring.poll_until_done(&slots)?;
    check_ret!("receive", ring.reap(slots[0]).result, 8);
    Ok(())
}

fn time_and_backlog() -> Check {
    net::loopback_up()?;
    let (engine, mut ring) = start()?;
    for reads in [false, true] {
        in_some_try("data that comes in time", |factor| {
            receive_from_backlog(&engine, &mut ring, reads, EVERY * factor)
        })?;
    }
    Ok(())
}

/// Returns false if the time was over before the data was sent.
fn receive_from_backlog(
    engine: &Engine,
    ring: &mut Ring,
    reads: bool,
    time: Duration,
) -> Check<bool> {
    let (from, to) = tcp_pair()?;
    limit(&from, time)?;
    let words = Words::new(1);
    let call = if reads {
        words.read(0, &from, 8)
    } else {
        words.receive(0, &from)
    };
    let before = engine.stats()?.timed_out;
    let slow = Slow::page()?;
    let slots = park(engine, ring, &[call])?;
    let done = std::thread::scope(|scope| {
        // It holds the socket until its memory is there.
        let sender = scope.spawn(|| plain!(SYS_sendto, &from, slow.at, 8, 0, 0, 0));
        check!(slow.is_wanted(patience()), "nobody reads the memory");
        send(&to, b"x")?;
        engine.until_stats("the time is over", |s| s.timed_out > before)?;
        until("the call is tried", || {
            ring.is_done(slots[0]) || engine.try_pool(0).is_ok_and(|s| s.blocked == 1)
        })?;
        slow.provide()?;
        check_ret!("send", sender.join().expect("no panic"), 8);
        ring.poll_until_done(&slots)?;
        Ok(ring.reap(slots[0]))
    })?;
    let mut sent = [0u8; 8];
    check_ret!(
        "the other end",
        plain!(SYS_recvfrom, &to, sent.as_mut_ptr(), 8, 0, 0, 0),
        8
    );
    if done.result == -i64::from(libc::EAGAIN) {
        return Ok(false);
    }
    check_ret!("receive", done.result, 1);
    Ok(true)
}

fn one_time_for_all() -> Check {
    let (engine, mut ring) = start()?;
    in_some_try("one time for both calls", |factor| {
        in_one_time(&engine, &mut ring, 10 * EVERY * factor)
    })
}

/// Two calls wait for this time, and bytes for one of them come when most of it is over. Returns
/// false if the bytes came too late, or the end of the other call.
fn in_one_time(engine: &Engine, ring: &mut Ring, time: Duration) -> Check<bool> {
    let (from, to) = socket_pair()?;
    limit(&from, time)?;
    let words = Words::new(2);
    let before = engine.stats()?;
    let begin = Instant::now();
    let calls = [words.receive(0, &from), words.receive(1, &from)];
    let slots = park(engine, ring, &calls)?;
    std::thread::sleep((time * 8 / 10).saturating_sub(begin.elapsed()));
    send(&to, b"one")?;
    ok!("WAIT", ring.wait(Policy::Any));
    let done = ring.finish(&slots)?;
    let took = begin.elapsed();
    let mut results: Vec<i64> = done.iter().map(|done| done.result).collect();
    results.sort_unstable();
    let after = engine.stats()?;
    let timed_out = after.timed_out - before.timed_out;
    println!("# {results:?}, {timed_out} of them by time, after {took:?} of {time:?}");
    if after.woken_in_vain != before.woken_in_vain {
        check!(took >= time, "{took:?}");
    }
    // A time that began again with the bytes would end later.
    let wanted = [-i64::from(libc::EAGAIN), 3];
    Ok(results == wanted && timed_out == 1 && took < time * 18 / 10)
}

fn thread_parks_again() -> Check {
    let (engine, mut ring) = start()?;
    let (from, to) = socket_pair()?;
    limit(&from, Duration::from_secs(1000))?;
    let words = Words::new(2);
    let calls = [words.receive(0, &from), words.receive(1, &from)];
    let before = engine.stats()?;
    let slots = park(&engine, &mut ring, &calls)?;
    send(&to, b"one")?;
    until("one result", || {
        slots.iter().any(|&slot| ring.is_done(slot))
    })?;
    engine.until_stats("the other one is parked again", |s| {
        s.parked - before.parked == 3
    })?;
    engine.until_pool(0, "no thread is blocked", |pool| pool.blocked == 0)?;
    check_eq!(
        "in vain",
        engine.stats()?.woken_in_vain - before.woken_in_vain,
        1
    );
    send(&to, b"two")?;
    ring.poll_until_done(&slots)?;
    for slot in slots {
        check_ret!("receive", ring.reap(slot).result, 3);
    }
    check_eq!(
        "by threads",
        engine.stats()?.thread_done - before.thread_done,
        2
    );
    Ok(())
}

fn counters() -> Check {
    let (engine, mut ring) = start()?;
    let event = sys::own(plain!(SYS_eventfd2, 0, libc::EFD_CLOEXEC) as i32);
    let clock = libc::CLOCK_MONOTONIC;
    let timer = sys::own(plain!(SYS_timerfd_create, clock, libc::TFD_CLOEXEC) as i32);
    let words = Words::new(2);
    let part = [words.at(0) as u64, 8];
    let add = || {
        let three = 3u64;
        let wrote = plain!(SYS_write, &event, std::ptr::from_ref(&three), 8);
        check_ret!("write", wrote, 8);
        Ok(())
    };
    let before = engine.stats()?;
    for call in [
        words.read(0, &event, 8),
        call!(SYS_readv, &event, part.as_ptr(), 1),
    ] {
        let slots = park(&engine, &mut ring, &[call])?;
        let done = finish_asleep(&engine, &mut ring, &slots, add)?;
        check_ret!("read", done[0].result, 8);
        check_eq!("count", words.0[0].get(), 3);
    }
    let slots = park(&engine, &mut ring, &[words.read(0, &timer, 8)])?;
    let set = || {
        let time = [0i64, 0, 0, 1_000_000];
        let set = plain!(SYS_timerfd_settime, &timer, 0, time.as_ptr(), 0);
        check_ret!("timerfd_settime", set, 0);
        Ok(())
    };
    let done = finish_asleep(&engine, &mut ring, &slots, set)?;
    check_ret!("read", done[0].result, 8);
    check_eq!("count", words.0[0].get(), 1);
    check_no_thread(&engine, &before)?;
    // Each addition wakes both; one of them waits again.
    let calls = [words.read(0, &event, 8), words.read(1, &event, 8)];
    let slots = park(&engine, &mut ring, &calls)?;
    add()?;
    check_eq!("WAIT", ring.wait(Policy::Any), Ok(1));
    add()?;
    for done in ring.finish(&slots)? {
        check_ret!("read", done.result, 8);
    }
    check_eq!(
        "most blocked",
        engine.stats()?.peak_blocked,
        before.peak_blocked
    );
    Ok(())
}
