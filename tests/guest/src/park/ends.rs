// SPDX-License-Identifier: MIT OR Apache-2.0
//! How parked calls end, and that they leave nothing behind.

use std::os::fd::{AsRawFd, OwnedFd};
use std::time::{Duration, Instant};

use nix::errno::Errno;

use super::{Words, park, send};
use crate::check::Check;
use crate::kit::abi::{MAX_PAGES, Policy, REASON_NONE};
use crate::kit::child::{Child, Link, spawn};
use crate::kit::engine::{self, Engine};
use crate::kit::files::{pipe, readable, socket_pair};
use crate::kit::mode::Mode;
use crate::kit::net::unix_pair;
use crate::kit::ring::{Ring, check_done};
use crate::kit::{in_some_try, limits, patience, process, rounds, scm, speed, sys, until};
use crate::life::exec;

tests! { "park":
    cancelled => "CANCEL ends a parked call with EINTR, and only that one";
    cancelled_when_ready => "after CANCEL of a call whose file is ready, WAIT sleeps as before";
    unregister_is_busy => "UNREGISTER of a registration with a parked call is EBUSY";
    closed => "close and munmap of the engine give back the files of parked calls";
    unmapped => "munmap alone ends nothing";
    owner_ends => "once its owner has ended, a parked call fails and leaves the data to others";
    killed => "the files of a killed process's ten thousand parked calls are soon given back";
    exits => "the files of a process that exits are given back";
    executes => "the files of a program that executes another one are soon given back";
    holds_its_engine => "a process that is killed while a message holds its engine leaves nothing";
}

/// Parks calls in all entries of `pages` pages on one socket and closes its descriptor: the calls
/// hold the file.
fn park_and_close(pages: u32, socket: OwnedFd) -> Check<(Engine, Vec<Ring>, Words)> {
    let engine = Engine::open()?;
    let words = Words::new(1);
    let mut rings = Vec::new();
    for first in (0..pages).step_by(MAX_PAGES as usize) {
        let mut ring = engine.ring((pages - first).min(MAX_PAGES))?;
        let calls = vec![words.receive(0, &socket); ring.capacity()];
        park(&engine, &mut ring, &calls)?;
        rings.push(ring);
    }
    drop(socket);
    Ok((engine, rings, words))
}

/// Waits for the end of a connection, which comes when the last reference to the peer is gone.
fn until_hung_up(socket: &OwnedFd) -> Check<Duration> {
    let begin = Instant::now();
    check!(readable(socket, patience()), "the peer is kept");
    let mut byte = 0u8;
    let got = plain!(
        SYS_recvfrom,
        socket,
        std::ptr::from_mut(&mut byte),
        1,
        libc::MSG_DONTWAIT,
        0,
        0
    );
    check_ret!("recvfrom", got, 0);
    Ok(begin.elapsed())
}

fn cancelled() -> Check {
    let (engine, mut ring) = Mode::Inline.start(1)?;
    for (from, to) in [socket_pair()?, unix_pair(libc::SOCK_DGRAM)?, pipe()?] {
        let words = Words::new(3);
        let calls = [0, 1, 2].map(|at| words.read(at, &from, 4));
        let slots = park(&engine, &mut ring, &calls)?;
        let before = engine.stats()?;
        check_eq!("CANCEL", ring.cancel(slots[1]), Ok(0));
        let after = engine.stats()?;
        check_eq!("by the owner", after.inline_done, before.inline_done + 1);
        check_eq!("by threads", after.thread_done, before.thread_done);
        check!(ring.is_done(slots[1]), "{}", ring.show(slots[1]));
        check_eq!("second CANCEL", ring.cancel(slots[1]), Err(Errno::ENOENT));
        check_done(
            "the cancelled call",
            ring.reap(slots[1]),
            -i64::from(libc::EINTR),
            REASON_NONE,
        )?;
        for count in 1..=2 {
            send(&to, b"word")?;
            let ready = ring.wait_for(Policy::Some, count, patience());
            check_eq!("results that are ready", ready, Ok(u64::from(count)));
        }
        for slot in [slots[0], slots[2]] {
            check_ret!("read", ring.reap(slot).result, 4);
        }
        // The cancelled call's slot can be used like any other.
        check_ret!(
            "getpid",
            ring.result(call!(SYS_getpid))?,
            std::process::id()
        );
    }
    Ok(())
}

fn cancelled_when_ready() -> Check {
    let (engine, mut ring) = Mode::Inline.start(1)?;
    for _ in 0..rounds(20) {
        let (ready, to) = socket_pair()?;
        let (silent, _peer) = socket_pair()?;
        let words = Words::new(2);
        let calls = [words.receive(0, &ready), words.receive(1, &silent)];
        let slots = park(&engine, &mut ring, &calls)?;
        // The owner is not in WAIT: the call is ready for a while, unless a thread is faster.
        send(&to, b"word")?;
        let _ = ring.cancel(slots[0]);
        until("the first result", || ring.is_done(slots[0]))?;
        ring.reap(slots[0]);
        let before = engine.stats()?;
        let (fd, id, silent) = (engine.fd(), ring.id, slots[1]);
        let waited = std::thread::scope(|scope| {
            let other = scope.spawn(|| {
                engine.until_stats("the owner sleeps", |s| s.sleeps > before.sleeps)?;
                check_eq!("CANCEL", engine::cancel(fd, id, silent), Ok(0));
                Check::Ok(())
            });
            let waited = ring.wait(Policy::Any);
            other.join().expect("no panic").map(|()| waited)
        })?;
        check_eq!("WAIT", waited, Ok(1));
        check_eq!("sleeps", engine.stats()?.sleeps, before.sleeps + 1);
        ring.reap(silent);
    }
    Ok(())
}

fn unregister_is_busy() -> Check {
    let (engine, mut ring) = Mode::Inline.start(1)?;
    let (from, _to) = socket_pair()?;
    let words = Words::new(1);
    let slots = park(&engine, &mut ring, &[words.receive(0, &from)])?;
    check_eq!("UNREGISTER", ring.unregister(), Err(Errno::EBUSY));
    check_eq!("CANCEL", ring.cancel(slots[0]), Ok(0));
    ring.reap(slots[0]);
    check_eq!("UNREGISTER", ring.unregister(), Ok(0));
    Ok(())
}

fn closed() -> Check {
    let (from, to) = socket_pair()?;
    let (engine, rings, _words) = park_and_close(1, from)?;
    check!(!readable(&to, Duration::ZERO), "the file is not kept");
    drop(engine);
    check!(
        !readable(&to, Duration::from_millis(10)),
        "the mapping does not count"
    );
    drop(rings);
    until_hung_up(&to)?;
    process::until_tasks(1)
}

fn unmapped() -> Check {
    let (from, to) = socket_pair()?;
    let (engine, mut ring) = Mode::Inline.start(1)?;
    let words = Words::new(1);
    park(&engine, &mut ring, &[words.receive(0, &from)])?;
    drop(from);
    ok!("munmap", ring.unmap());
    check!(
        !readable(&to, Duration::from_millis(10)),
        "the file is not kept"
    );
    send(&to, b"word")?;
    until("the bytes", || &words.bytes(0)[..4] == b"word")?;
    until_hung_up(&to).map(|_| ())
}

fn owner_ends() -> Check {
    let engine = Engine::open()?;
    let (from, to) = socket_pair()?;
    let words = Words::new(1);
    let at = words.at(0) as u64;
    let call = call!(SYS_recvfrom, &from, at, 8, 0, 0, 0);
    let left = std::thread::scope(|scope| {
        let owner = scope.spawn(|| -> Check<_> {
            let mut ring = engine.ring(1)?;
            let slots = park(&engine, &mut ring, &[call])?;
            let (id, (at, len)) = (ring.id, ring.leak());
            Ok((id, slots[0], at as usize, len))
        });
        owner.join().expect("no panic")
    })?;
    let (id, slot, mapping, len) = left;
    let before = engine.stats()?;
    process::until_tasks(2)?;
    send(&to, b"word")?;
    // No thread executes the call any more, and a CANCEL of its slot finds nothing.
    until("the end of the call", || {
        engine::cancel(engine.fd(), id, slot) == Err(Errno::ENOENT)
    })?;
    check!(
        engine.stats()?.posted >= before.posted,
        "the number of posted entries has decreased"
    );
    let mut word = 0u64;
    let got = plain!(
        SYS_recvfrom,
        &from,
        std::ptr::from_mut(&mut word),
        8,
        libc::MSG_DONTWAIT,
        0,
        0
    );
    check_ret!("the data", got, 4);
    check_eq!("UNREGISTER", engine.unregister(id), Ok(0));
    ok!("munmap", sys::munmap(mapping as *mut u8, len));
    Ok(())
}

/// Runs `work` in a child with one end of a connection, and returns the other end.
fn with_peer(work: impl FnOnce(&Link, OwnedFd) -> Check) -> Check<(Child, OwnedFd)> {
    let (here, there) = socket_pair()?;
    let (here_fd, there_fd) = (here.as_raw_fd(), there.as_raw_fd());
    let mut child = spawn(|link| {
        plain!(SYS_close, here_fd);
        work(link, sys::own(there_fd))
    })?;
    drop(there);
    child.wait_ready()?;
    Ok((child, here))
}

/// Pages with ten thousand entries.
fn many_pages() -> u32 {
    limits::many(10_000).div_ceil(64) as u32
}

/// The aim is 100 ms on a machine by itself.
fn is_soon(took: Duration) -> bool {
    println!("# given back after {took:?}");
    let usual = if limits::slow_kernel() { 5000 } else { 500 };
    took < speed::scaled(Duration::from_millis(usual))
}

fn killed() -> Check {
    in_some_try("files that are given back soon", |_| kill_parked())
}

fn kill_parked() -> Check<bool> {
    let base = process::refcnt();
    let (child, here) = with_peer(|link, there| {
        let parked = park_and_close(many_pages(), there)?;
        link.ready();
        loop {
            sys::yield_now();
            std::hint::black_box(&parked);
        }
    })?;
    check!(!readable(&here, Duration::ZERO), "the file is not kept");
    child.signal(libc::SIGKILL);
    let took = until_hung_up(&here)?;
    child.kill()?;
    process::until_refcnt(base)?;
    Ok(is_soon(took))
}

fn exits() -> Check {
    let base = process::refcnt();
    let (child, here) = with_peer(|link, there| {
        let parked = park_and_close(1, there)?;
        link.ready();
        link.wait_go()?;
        // Without closing anything.
        std::mem::forget(parked);
        Ok(())
    })?;
    child.go();
    until_hung_up(&here)?;
    child.join()?;
    process::until_refcnt(base)
}

fn executes() -> Check {
    in_some_try("files that are given back soon", |_| execute_parked())
}

fn execute_parked() -> Check<bool> {
    let base = process::refcnt();
    let (child, here) = with_peer(|link, there| {
        let parked = park_and_close(many_pages(), there)?;
        link.ready();
        link.wait_go()?;
        exec::execute_command(exec::STAY, parked.0.fd())
    })?;
    child.go();
    // The new program waits, and the engine's descriptor is open in it.
    let took = until_hung_up(&here)?;
    child.kill()?;
    process::until_refcnt(base)?;
    Ok(is_soon(took))
}

fn holds_its_engine() -> Check {
    let base = process::refcnt();
    let (child, here) = with_peer(|link, there| {
        let (one, two) = socket_pair()?;
        let (engine, mut ring) = Mode::Inline.start(1)?;
        let words = Words::new(2);
        let calls = [words.receive(0, &there), words.receive(1, &one)];
        let slots = park(&engine, &mut ring, &calls)?;
        // The engine's descriptor is in the queue of a file that the engine holds.
        scm::send_fd(&two, engine.fd())?;
        drop((there, one));
        std::mem::forget(slots);
        link.ready();
        loop {
            sys::yield_now();
            std::hint::black_box((&engine, &ring));
        }
    })?;
    child.signal(libc::SIGKILL);
    until_hung_up(&here)?;
    child.kill()?;
    process::until_refcnt(base)
}
