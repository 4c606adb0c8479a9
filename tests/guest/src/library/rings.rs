// SPDX-License-Identifier: MIT OR Apache-2.0
//! `flexsc::Ring` on the real device: it does the same with the module, under a seccomp filter,
//! when traced and when short of threads.
#![expect(unsafe_code, reason = "one test posts a raw call")]

use std::os::fd::{AsFd, AsRawFd};
use std::time::{Duration, Instant};

use flexsc::ops::{Raw, Read, Write};
use flexsc::{Call, Done, Engine, Error, Fd, Param, Reason, Ring, Wait, abi};

use super::{open, register};
use crate::check::Check;
use crate::kit::child::{in_child, spawn};
use crate::kit::files::{pipe, readable, socket_pair, write_all};
use crate::kit::uffd::Slow;
use crate::kit::{memory, net, patience, process, rounds, seccomp, speed, sys, until};

tests! { "library":
    ring => "reads that block hold up no write; timeouts and next() without a wait work";
    ring_drop => "dropping a ring with a read in flight ends the read and leaves nothing behind";
    ring_drop_bound => "a call that no CANCEL ends holds up a drop for two seconds, not longer";
    ring_descriptor => "a ring's descriptor is readable as long as there are results";
    ring_filtered => "under a filter a ring makes plain calls, which do not block the caller";
    ring_no_ioctl => "under a filter that refuses the device's calls there is no engine";
    ring_closed => "a ring goes on with plain calls when a filter takes the device away";
    ring_traced => "a traced owner's ring makes plain calls, and posts again later";
    ring_starved => "calls for which there is no syscall thread are made plainly";
}

const SHORT: Duration = Duration::from_millis(40);

fn ring_on(engine: &Engine) -> Check<Ring> {
    let pages = register(engine, 1)?;
    Ok(ok!(
        "Ring::new",
        Ring::new(pages).map_err(|failed| failed.1)
    ))
}

/// A pipe for operations.
fn pipe_of_ring() -> Check<(Fd, Fd)> {
    let (from, to) = pipe()?;
    Ok((from.into(), to.into()))
}

fn submit_read(ring: &mut Ring, fd: &Fd, token: u64) -> Check {
    let full = ring.submit(Read::new(fd, vec![0; 1]), token).is_err();
    check!(!full, "no room for read {token}");
    Ok(())
}

fn submit_write(ring: &mut Ring, fd: &Fd, len: usize, token: u64) -> Check {
    let full = ring.submit(Write::new(fd, vec![7; len]), token).is_err();
    check!(!full, "no room for write {token}");
    Ok(())
}

/// Ten reads, a wait that times out, and then the write that the reads wait for. Returns the
/// reasons.
fn pass_bytes(ring: &mut Ring) -> Check<Vec<Reason>> {
    pass_bytes_through(ring, pipe_of_ring()?)
}

fn pass_bytes_through(ring: &mut Ring, (from, to): (Fd, Fd)) -> Check<Vec<Reason>> {
    for token in 0..10 {
        submit_read(ring, &from, token)?;
    }
    let begin = Instant::now();
    let early = ring.wait(Wait::any().timeout(SHORT));
    check_eq!("nothing there", early, Err(Error::TimedOut));
    check!(begin.elapsed() >= SHORT, "after {:?}", begin.elapsed());
    submit_write(ring, &to, 10, 10)?;
    check_eq!("all", ring.wait(Wait::all().timeout(patience())), Ok(11));
    let done: Vec<Done> = std::iter::from_fn(|| ring.next()).collect();
    check_eq!("results", done.len(), 11);
    for done in &done {
        let len = if done.token == 10 { 10 } else { 1 };
        check_eq!("length", done.result.as_ref().ok(), Some(&len));
        check_eq!("bytes", done.buf, vec![7; len]);
    }
    Ok(done.into_iter().map(|done| done.reason).collect())
}

fn all_are(reasons: &[Reason], wanted: Reason) -> Check {
    let right = reasons.iter().all(|&reason| reason == wanted);
    check!(right, "reasons: {reasons:?}");
    Ok(())
}

fn next_without_wait(ring: &mut Ring) -> Check<Done> {
    let end = Instant::now() + patience();
    loop {
        if let Some(done) = ring.next() {
            return Ok(done);
        }
        check!(Instant::now() < end, "no result by next alone");
        sys::yield_now();
    }
}

fn ring() -> Check {
    let engine = open()?;
    let mut ring = ring_on(&engine)?;
    all_are(&pass_bytes(&mut ring)?, Reason::None)?;
    let (from, to) = pipe_of_ring()?;
    submit_read(&mut ring, &from, 1)?;
    submit_write(&mut ring, &to, 1, 2)?;
    ring.ring();
    next_without_wait(&mut ring)?;
    next_without_wait(&mut ring)?;
    check_eq!(
        "plain calls",
        (ring.plain_calls(), ring.is_plain()),
        (0, false)
    );
    let pages = ring.into_pages().map_err(|ring| ring.in_flight());
    check!(matches!(pages, Ok(Some(_))), "pages do not come back");
    Ok(())
}

fn ring_drop() -> Check {
    let base = process::refcnt();
    let (from, _to) = pipe()?;
    let number = from.as_raw_fd();
    let from = Fd::from(from);
    let engine = open()?;
    let mut ring = ring_on(&engine)?;
    for token in 0..5 {
        submit_read(&mut ring, &from, token)?;
    }
    drop(from);
    check_eq!("none", ring.wait(Wait::none()), Ok(0));
    let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(move || {
        let _ring = ring;
        std::panic::resume_unwind(Box::new(()));
    }));
    check!(panicked.is_err(), "no panic");
    check_eq!("cancels", ok!("stats", engine.stats()).cancels, 5);
    check_ret!(
        "the descriptor",
        plain!(SYS_fcntl, number, libc::F_GETFD),
        -libc::EBADF
    );
    drop(engine);
    process::until_refcnt(base)
}

fn ring_drop_bound() -> Check {
    let base = process::refcnt();
    let engine = open()?;
    for _ in 0..rounds(1) {
        let page = Slow::page()?;
        let (from, _to) = pipe()?;
        let number = from.as_raw_fd();
        let mut ring = ring_on(&engine)?;
        let uname = Call::new(libc::SYS_uname, [page.at as u64, 0, 0, 0, 0, 0]);
        // SAFETY: the page stays mapped until the process ends.
        let operation = unsafe { Raw::new(uname.asynchronous(), from) };
        check!(ring.submit(operation, 1).is_ok(), "no room for uname");
        check_eq!("none", ring.wait(Wait::none()), Ok(0));
        check!(page.is_wanted(patience()), "nobody waits for the page");
        let begin = Instant::now();
        drop(ring);
        let took = begin.elapsed();
        println!("# dropped after {took:?}");
        let most = speed::scaled(Duration::from_secs(10));
        check!(
            took >= Duration::from_secs(2) && took < most,
            "the drop took {took:?}"
        );
        let held = || plain!(SYS_fcntl, number, libc::F_GETFD);
        check_ret!("the descriptor", held(), libc::FD_CLOEXEC);
        page.provide()?;
        // The call writes to memory that is still there.
        until("the late result", || {
            memory::peek(page.at as *const u8) == b'L'
        })?;
        check_ret!("the descriptor afterwards", held(), libc::FD_CLOEXEC);
        all_are(&pass_bytes(&mut ring_on(&engine)?)?, Reason::None)?;
    }
    drop(engine);
    process::until_refcnt(base)
}

fn ring_descriptor() -> Check {
    let engine = open()?;
    let mut ring = ring_on(&engine)?;
    let (from, to) = pipe()?;
    submit_read(&mut ring, &from.into(), 1)?;
    check_eq!("none", ring.wait(Wait::none()), Ok(0));
    let fd = ok!("dup", ring.as_fd().try_clone_to_owned());
    check!(
        !readable(&fd, Duration::ZERO),
        "readable, but there is no result"
    );
    write_all(&to, b"x")?;
    check!(readable(&fd, patience()), "not readable after the write");
    check_eq!("all", ring.wait(Wait::all()), Ok(1));
    check!(readable(&fd, Duration::ZERO), "not readable after a wait");
    check!(ring.next().is_some(), "no result");
    check!(ring.next().is_none(), "two results");
    check!(
        !readable(&fd, Duration::ZERO),
        "readable, but all results are taken"
    );
    Ok(())
}

fn ring_filtered() -> Check {
    in_child(|| {
        let engine = open()?;
        let mut ring = ring_on(&engine)?;
        all_are(&pass_bytes(&mut ring)?, Reason::None)?;
        check!(!ring.is_plain(), "plain without a filter");
        ok!("seccomp", seccomp::refuse(libc::SYS_mkdirat, false));
        all_are(&pass_bytes(&mut ring)?, Reason::None)?;
        check_eq!(
            "plain calls",
            (ring.plain_calls(), ring.is_plain()),
            (0, false)
        );
        // A filter that allows no posted call.
        let filter = seccomp::Filter::new().asks_for_address();
        ok!("seccomp", filter.otherwise(seccomp::Action::Allow).hold());
        all_are(&pass_bytes(&mut ring)?, Reason::Guarded)?;
        check_eq!(
            "plain calls",
            (ring.plain_calls(), ring.is_plain()),
            (11, true)
        );
        // The calls of helper threads are subject to the filter that the owner has by then.
        ok!("seccomp", seccomp::refuse(libc::SYS_write, false));
        let (_from, to) = pipe_of_ring()?;
        submit_write(&mut ring, &to, 1, 0)?;
        check_eq!("all", ring.wait(Wait::all().timeout(patience())), Ok(1));
        let done = ring.next().and_then(|done| done.result.err());
        let errno = done.and_then(|error| error.raw_os_error());
        check_eq!("write", errno, Some(seccomp::FILTERED));
        Ok(())
    })
}

fn ring_no_ioctl() -> Check {
    for errno in [libc::EPERM, libc::ENOSYS] {
        in_child(|| {
            ok!(
                "seccomp",
                seccomp::refuse_with(libc::SYS_ioctl, errno, false)
            );
            match open()?.register(1).map(drop) {
                Err(error @ Error::Filtered { .. }) => {
                    check!(error.is_absent(), "{error}: not absent");
                }
                other => fail!("register under a filter: {other:?}"),
            }
            let mut ring = ok!("Ring::open", Ring::open(1));
            check!(ring.is_plain(), "not plain");
            all_are(&pass_bytes(&mut ring)?, Reason::None)
        })?;
    }
    Ok(())
}

fn ring_closed() -> Check {
    in_child(|| {
        let engine = open()?;
        let mut ring = ring_on(&engine)?;
        all_are(&pass_bytes(&mut ring)?, Reason::None)?;
        for nr in [libc::SYS_ioctl, abi::FLEXSC_NR_WAIT.into()] {
            ok!("seccomp", seccomp::refuse_with(nr, libc::EPERM, false));
        }
        let (from, to) = pipe_of_ring()?;
        submit_write(&mut ring, &to, 1, 0)?;
        match ring.wait(Wait::all()) {
            Err(Error::Filtered { .. }) => {}
            other => fail!("wait under a filter: {other:?}"),
        }
        submit_write(&mut ring, &to, 1, 1)?;
        check_eq!("any", ring.wait(Wait::any().timeout(patience())), Ok(1));
        // Finds the result that is already there, though the first write will never end.
        check_eq!("any again", ring.wait(Wait::any()), Ok(1));
        check_eq!("token", ring.next().map(|done| done.token), Some(1));
        check!(ring.is_plain(), "not plain");
        drop(from);
        Ok(())
    })
}

fn ring_traced() -> Check {
    let child = spawn(|link| {
        let engine = open()?;
        let mut ring = ring_on(&engine)?;
        all_are(&pass_bytes(&mut ring)?, Reason::None)?;
        link.ready();
        link.wait_go()?;
        all_are(&pass_bytes(&mut ring)?, Reason::Guarded)?;
        check!(ring.is_plain(), "not plain while traced");
        // The thin layer does the same, unless it is told otherwise.
        let mut pages = register(&engine, 1)?;
        let done = super::one(&mut pages, flexsc::calls::getpid())?;
        check_ret!("getpid", done.result, std::process::id());
        check_eq!("reason", done.reason, Reason::Guarded);
        pages.set_fallback(false);
        let done = super::one(&mut pages, flexsc::calls::getpid())?;
        check_ret!("getpid", done.result, -libc::EOPNOTSUPP);
        Ok(())
    })?;
    child.join_traced()
}

fn ring_starved() -> Check {
    let engine = open()?;
    ok!("set", engine.set(Param::MaxThreads, 2));
    let mut ring = ring_on(&engine)?;
    let (from, to) = socket_pair()?;
    // With this low-water mark each read holds a thread.
    let mark = net::set(&from, libc::SOL_SOCKET, libc::SO_RCVLOWAT, &2i32);
    check_ret!("SO_RCVLOWAT", mark, 0);
    let reasons = pass_bytes_through(&mut ring, (from.into(), to.into()))?;
    let starved = reasons.iter().filter(|&&reason| reason == Reason::Starved);
    check_eq!("plain calls", ring.plain_calls(), starved.count() as u64);
    check!(ring.plain_calls() > 0, "nothing was starved: {reasons:?}");
    Ok(())
}
