// SPDX-License-Identifier: MIT OR Apache-2.0
//! Files that wake one waiter at a time: parked calls are woken one by one, and pass on what they
//! do not use.

use std::cell::Cell;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicI32, Ordering};

use super::{Words, park, send};
use crate::check::Check;
use crate::kit::abi::{Param, Policy};
use crate::kit::cgroup::Cgroup;
use crate::kit::child::spawn;
use crate::kit::engine::Engine;
use crate::kit::files::{BlockedReads, pipe, read_byte};
use crate::kit::mode::Mode;
use crate::kit::net::{self, unix_pair};
use crate::kit::ring::{Call, Ring};
use crate::kit::{STARVING, in_some_try, in_time, patience, process, sys, until};
use crate::life::stopped;

tests! { "park":
    one_accept => "a connection wakes one of the accepts that wait for it";
    one_datagram => "a datagram wakes one of the calls that wait for it";
    one_read => "bytes in a pipe wake one of the reads, which wakes the next if it leaves some";
    leaves_others_some => "a parked read that leaves bytes in a pipe wakes a thread that waits";
    stopped_leaves_it => "a stopped or frozen process's parked accept leaves connections to others";
    nothing_read_passes_on => "a parked readv that reads nothing after all leaves the datagram to the next call";
    cancelled_passes_on => "a call that was woken and cancelled wakes the next one";
}

pub const COUNT: usize = 8;

/// Parks `COUNT` calls and makes one event after the other happen: each wakes one of the calls.
pub fn one_each(
    engine: &Engine,
    ring: &mut Ring,
    calls: &[Call],
    mut event: impl FnMut() -> Check,
    mut good: impl FnMut(i64) -> bool,
) -> Check {
    let slots = park(engine, ring, calls)?;
    for at in 1..=COUNT {
        let before = engine.stats()?;
        event()?;
        let ready = ring.wait_for(Policy::Some, at as u32, patience());
        check_eq!("results that are ready", ready, Ok(at as u64));
        let after = engine.stats()?;
        check_eq!("woken", after.woken - before.woken, 1);
        check_eq!("parked", after.parked, before.parked);
        let done = slots.iter().filter(|&&slot| ring.is_done(slot)).count();
        check_eq!("results", done, at);
    }
    for done in ring.finish(&slots)? {
        check!(good(done.result), "{done:?}");
    }
    Ok(())
}

fn one_accept() -> Check {
    net::loopback_up()?;
    let (engine, mut ring) = Mode::Inline.start(1)?;
    for family in [libc::AF_UNIX, libc::AF_INET] {
        let listener = net::listener(family)?;
        let mut clients: Vec<OwnedFd> = Vec::new();
        let connect = || {
            let client = net::socket(family, libc::SOCK_STREAM)?;
            net::connect(&client, &listener)?;
            clients.push(client);
            Ok(())
        };
        let calls = [call!(SYS_accept, &listener, 0, 0); COUNT];
        one_each(&engine, &mut ring, &calls, connect, |fd| {
            let good = fd > 2;
            if good {
                drop(sys::own(fd as i32));
            }
            good
        })?;
    }
    Ok(())
}

fn one_datagram() -> Check {
    net::loopback_up()?;
    let (engine, mut ring) = Mode::Inline.start(1)?;
    let udp = net::udp_pair().map(|(one, two)| (two, one))?;
    for (from, to) in [unix_pair(libc::SOCK_DGRAM)?, udp] {
        let words = Words::new(COUNT);
        let calls: Vec<Call> = (0..COUNT).map(|at| words.receive(at, &from)).collect();
        one_each(
            &engine,
            &mut ring,
            &calls,
            || send(&to, b"word"),
            |got| got == 4,
        )?;
    }
    Ok(())
}

fn one_read() -> Check {
    let (engine, mut ring) = Mode::Inline.start(1)?;
    let (from, to) = pipe()?;
    let words = Words::new(COUNT);
    let calls: Vec<Call> = (0..COUNT).map(|at| words.read(at, &from, 2)).collect();
    one_each(
        &engine,
        &mut ring,
        &calls,
        || send(&to, b"ab"),
        |got| got == 2,
    )?;
    // Bytes for all calls at once: the writer wakes one call.
    let slots = park(&engine, &mut ring, &calls)?;
    let before = engine.stats()?;
    send(&to, &[b'c'; 2 * COUNT])?;
    for done in ring.finish(&slots)? {
        check_ret!("read", done.result, 2);
    }
    let after = engine.stats()?;
    check_eq!(
        "passed on",
        after.passed_on - before.passed_on,
        COUNT as u64 - 1
    );
    Ok(())
}

fn nothing_read_passes_on() -> Check {
    let (engine, mut ring) = Mode::Inline.start(1)?;
    let (from, to) = unix_pair(libc::SOCK_DGRAM)?;
    let words = Words::new(2);
    // The program may change the array while the calls wait.
    let vectors: Vec<[Cell<usize>; 2]> = (0..2)
        .map(|at| [Cell::new(words.at(at) as usize), Cell::new(8)])
        .collect();
    let calls: Vec<Call> = vectors
        .iter()
        .map(|vector| call!(SYS_readv, &from, vector.as_ptr(), 1))
        .collect();
    let slots = park(&engine, &mut ring, &calls)?;
    vectors[0][1].set(0);
    let before = engine.stats()?;
    send(&to, b"word")?;
    let ready = ring.wait_for(Policy::Some, 2, patience());
    check_eq!("results that are ready", ready, Ok(2));
    check_ret!("readv of nothing", ring.reap(slots[0]).result, 0);
    check_ret!("readv", ring.reap(slots[1]).result, 4);
    let passed = engine.stats()?.passed_on - before.passed_on;
    check!(passed >= 1, "no wake-up was passed on");
    Ok(())
}

/// Waits until the thread whose ID appears in `tid` sleeps.
pub fn until_asleep(tid: &AtomicI32) -> Check {
    until("a thread that sleeps in its call", || {
        let tid = tid.load(Ordering::Relaxed);
        let tasks = process::tasks(std::process::id() as i32);
        tasks
            .iter()
            .any(|task| task.tid == tid && task.state == 'S')
    })
}

fn leaves_others_some() -> Check {
    let (engine, mut ring) = Mode::Inline.start(1)?;
    let (from, to) = pipe()?;
    let words = Words::new(1);
    let slots = park(&engine, &mut ring, &[words.read(0, &from, 1)])?;
    let tid = AtomicI32::new(0);
    std::thread::scope(|scope| {
        // This read waits behind the parked one.
        let other = scope.spawn(|| {
            tid.store(sys::gettid(), Ordering::Relaxed);
            read_byte(&from)
        });
        until_asleep(&tid)?;
        send(&to, b"xy")?;
        check_ret!("read", ring.finish(&slots)?[0].result, 1);
        check_eq!(
            "the other byte",
            other.join().expect("no panic"),
            Some(b'y')
        );
        Ok(())
    })
}

/// Both processes wait for a connection, the child with a parked call in front of this one.
fn others_accept(group: Option<&Cgroup>) -> Check {
    let listener = net::listener(libc::AF_UNIX)?;
    let mut child = spawn(|link| {
        if let Some(group) = group {
            group.enter()?;
        }
        let (engine, mut ring) = Mode::Inline.start(1)?;
        let slots = park(&engine, &mut ring, &[call!(SYS_accept, &listener, 0, 0)])?;
        link.ready();
        let fd = ring.finish(&slots)?[0].result;
        check!(fd > 2, "the child's accept: {fd}");
        // No wake-up while the child was stopped was for its call, so the call has passed none on.
        check_eq!("passed on", engine.stats()?.passed_on, 0);
        Ok(())
    })?;
    child.wait_ready()?;
    match group {
        Some(group) => stopped::freeze(group)?,
        None => stopped::stop(&child)?,
    }
    let time = [patience().as_secs() as i64, 0];
    let set = net::set(&listener, libc::SOL_SOCKET, libc::SO_RCVTIMEO, &time);
    check_ret!("SO_RCVTIMEO", set, 0);
    let tid = AtomicI32::new(0);
    let client = net::socket(libc::AF_UNIX, libc::SOCK_STREAM)?;
    std::thread::scope(|scope| {
        let other = scope.spawn(|| {
            tid.store(sys::gettid(), Ordering::Relaxed);
            plain!(SYS_accept, &listener, 0, 0)
        });
        until_asleep(&tid)?;
        net::connect(&client, &listener)?;
        let fd = other.join().expect("no panic");
        check!(fd > 2, "accept beside a process that stands still: {fd}");
        drop(sys::own(fd as i32));
        Check::Ok(())
    })?;
    match group {
        Some(group) => group.write("cgroup.freeze", 0)?,
        None => child.signal(libc::SIGCONT),
    }
    // The parked accept still waits, and the next connection is for it.
    let client = net::socket(libc::AF_UNIX, libc::SOCK_STREAM)?;
    net::connect(&client, &listener)?;
    child.join()
}

fn stopped_leaves_it() -> Check {
    others_accept(None)?;
    others_accept(Some(&Cgroup::new(None)?))
}

fn cancelled_passes_on() -> Check {
    for kind in [libc::SOCK_DGRAM, libc::SOCK_SEQPACKET] {
        in_some_try("CANCEL before the call is STARVED", |_| {
            in_time(STARVING, || cancel_woken(kind))
        })?;
    }
    Ok(())
}

/// With all threads blocked, a call that is woken while its owner is not in WAIT is stuck for the
/// time [`STARVING`].
fn cancel_woken(kind: i32) -> Check {
    let (engine, mut ring) = Mode::Inline.start(1)?;
    engine.set(Param::MaxThreads, 2)?;
    let (blocker, release) = pipe()?;
    let reads = BlockedReads::new(&blocker, 2);
    let blocked = ring.post_blocked(&reads.calls())?;
    engine.until_stats("two blocked threads", |stats| stats.peak_blocked >= 2)?;
    let (from, to) = unix_pair(kind)?;
    let words = Words::new(2);
    let before = engine.stats()?;
    let calls = [words.receive(0, &from), words.receive(1, &from)];
    let mut slots = ring.post_all(&calls[..1]);
    ok!("NONE", ring.wait(Policy::None));
    slots.extend(ring.post_all(&calls[1..]));
    ok!("NONE", ring.wait(Policy::None));
    check_eq!("parked", engine.stats()?.parked - before.parked, 2);
    send(&to, b"word")?;
    check_eq!("woken", engine.stats()?.woken - before.woken, 1);
    check_eq!("CANCEL", ring.cancel(slots[0]), Ok(0));
    until("the cancelled call", || ring.is_done(slots[0]))?;
    check!(ring.reap(slots[0]).result < 0, "the call was not cancelled");
    let after = engine.stats()?;
    check_eq!("passed on", after.passed_on - before.passed_on, 1);
    check_eq!("woken", after.woken - before.woken, 2);
    check_ret!("recvfrom", ring.finish(&slots[1..])?[0].result, 4);
    reads.release(&release)?;
    ring.finish(&blocked)?;
    Ok(())
}
