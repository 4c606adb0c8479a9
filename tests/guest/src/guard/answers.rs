// SPDX-License-Identifier: MIT OR Apache-2.0
//! seccomp: filters see the arguments of a posted call as they are used, and each call when it is
//! made.

use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, Ordering};

use super::{check_guarded, on_each_path};
use crate::check::Check;
use crate::kit::abi::{Param, REASON_GUARDED, REASON_NONE};
use crate::kit::child::in_child;
use crate::kit::clone::in_apart_thread;
use crate::kit::engine::Engine;
use crate::kit::files::pipe;
use crate::kit::limits::{many, slow_kernel};
use crate::kit::mode::Mode;
use crate::kit::ring::{Done, Ring, check_done};
use crate::kit::seccomp::{Action, FILTERED, Filter};
use crate::kit::{memory, rounds, sys, until};

tests! { "guard":
    arguments => "a filter on arguments decides by the arguments with which the call is made";
    arguments_change => "a program that changes an argument meanwhile gets an allowed call or none";
    long_filters => "two filters of 4096 steps each are run, with arguments and without";
    by_address => "filters that look at the address of a call allow no posted call";
    changed_in_flight => "filters installed with 10000 calls in flight: each is made or refused";
    parked_under_filter => "an allowed read of an empty pipe is parked, made once data arrives";
    parked_before => "a filter refuses a read parked before: the next reader gets the data";
    own_filter_each => "owners with different filters, one engine: each is subject to its own";
    ends_while_served => "filters of an owner that ends while threads serve it live long enough";
}

const ERRNO: Action = Action::Errno(FILTERED);

fn local_only() -> Filter {
    Filter::new()
        .rule_for(libc::SYS_socket, 0, libc::AF_UNIX as u32, Action::Allow)
        .rule(libc::SYS_socket, ERRNO)
        .otherwise(Action::Allow)
}

fn check_socket(done: Done) -> Check {
    check!(done.result > 2 && done.reason == REASON_NONE, "{done:?}");
    let fd = sys::own(done.result as i32);
    let (mut domain, mut len) = (0i32, 4u32);
    let (at, len_at) = (
        std::ptr::from_mut(&mut domain),
        std::ptr::from_mut(&mut len),
    );
    let (level, option) = (libc::SOL_SOCKET, libc::SO_DOMAIN);
    let got = plain!(SYS_getsockopt, &fd, level, option, at, len_at);
    check_ret!("SO_DOMAIN", got, 0);
    check_eq!("domain", domain, libc::AF_UNIX);
    Ok(())
}

fn arguments() -> Check {
    on_each_path(|path| {
        let (_engine, mut ring) = path.start()?;
        ok!("seccomp", local_only().hold());
        for kind in [libc::SOCK_STREAM, libc::SOCK_DGRAM] {
            let call = |domain| call!(SYS_socket, domain, kind | libc::SOCK_CLOEXEC, 0);
            for call in [call(libc::AF_UNIX), call(libc::AF_UNIX).asynchronous()] {
                for done in path.run(&mut ring, call)? {
                    check_socket(done)?;
                }
            }
            for domain in [libc::AF_INET, libc::AF_NETLINK] {
                check_guarded(&path.run(&mut ring, call(domain))?)?;
                check_ret!(
                    "plain",
                    sys::syscall(libc::SYS_socket, call(domain).args),
                    -FILTERED
                );
            }
        }
        Ok(())
    })
}

fn arguments_change() -> Check {
    on_each_path(|path| {
        let (_engine, mut ring) = path.start()?;
        ok!("seccomp", local_only().hold());
        let call = call!(SYS_socket, libc::AF_UNIX, libc::SOCK_DGRAM, 0);
        let slots = ring.post_all(&path.entries(call));
        for done in ring.finish(&slots)? {
            check_socket(done)?;
        }
        let words: Vec<_> = slots
            .iter()
            .map(|&at| memory::at(ring.entry(at), 0))
            .collect();
        let over = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let both = [libc::AF_UNIX as u64, libc::AF_INET as u64];
                for domain in both.into_iter().cycle() {
                    for word in &words {
                        word.args[0].store(domain, Ordering::Relaxed);
                    }
                    if over.load(Ordering::Relaxed) {
                        break;
                    }
                }
            });
            let mut outcome = Ok(());
            for _ in 0..rounds(if slow_kernel() { 40 } else { 1_000 }) {
                outcome = path.run(&mut ring, call).and_then(|done| {
                    let (made, refused): (Vec<Done>, Vec<Done>) =
                        done.iter().partition(|done| done.reason == REASON_NONE);
                    made.into_iter().try_for_each(check_socket)?;
                    // Behind a refused one in a chain, or refused itself.
                    refused.iter().try_for_each(|done| {
                        check!(done.result < 0, "{done:?}");
                        Ok(())
                    })
                });
                if outcome.is_err() {
                    break;
                }
            }
            over.store(true, Ordering::Relaxed);
            outcome
        })
    })
}

fn long_filters() -> Check {
    on_each_path(|path| {
        let (_engine, mut ring) = path.start()?;
        let parent = plain!(SYS_getppid);
        let filters = [
            Filter::new().rule(libc::SYS_getpgrp, ERRNO).lengthened(),
            Filter::new().asks_for_argument().lengthened(),
        ];
        for filter in filters {
            ok!("seccomp", filter.otherwise(Action::Allow).hold());
            for _ in 0..3 {
                for done in path.run(&mut ring, call!(SYS_getppid))? {
                    check_done("getppid", done, parent, REASON_NONE)?;
                }
                check_guarded(&path.run(&mut ring, call!(SYS_getpgrp))?)?;
            }
        }
        Ok(())
    })
}

fn by_address() -> Check {
    on_each_path(|path| {
        let (_engine, mut ring) = path.start()?;
        let parent = plain!(SYS_getppid);
        let filters = [
            Filter::new(),
            Filter::new().asks_for_address(),
            // The filter before this one decides.
            Filter::new(),
        ];
        for (place, filter) in filters.into_iter().enumerate() {
            ok!("seccomp", filter.otherwise(Action::Allow).hold());
            let done = path.run(&mut ring, call!(SYS_getppid))?;
            if place == 0 {
                check_done("getppid", done[0], parent, REASON_NONE)?;
            } else {
                check_guarded(&done)?;
            }
            check_ret!("plain getppid", plain!(SYS_getppid), parent);
        }
        Ok(())
    })
}

fn eventfd() -> Check<OwnedFd> {
    let fd = plain!(SYS_eventfd2, 0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK);
    check!(fd >= 0, "eventfd2: {fd}");
    Ok(sys::own(fd as i32))
}

/// Has `rings` full of writes of 1 to an eventfd executed while `install` runs in another thread.
/// Returns how many were made.
fn write_all(rings: &mut [Ring], counter: &OwnedFd, install: impl FnOnce() + Send) -> Check<u64> {
    let one = 1u64;
    let write = call!(SYS_write, counter, std::ptr::from_ref(&one), 8);
    let mut slots = Vec::new();
    for ring in &mut *rings {
        slots.push(ring.post_all(&vec![write; ring.capacity()]));
    }
    let other = std::thread::scope(|scope| -> Check<Vec<Vec<Done>>> {
        let other = scope.spawn(install);
        for ring in rings.iter().filter(|ring| ring.mode == Mode::Kick) {
            ring.kicked()?;
        }
        let all = rings.iter_mut().zip(&slots);
        let done = all.map(|(ring, slots)| ring.finish(slots)).collect();
        other.join().expect("no panic");
        done
    })?;
    let mut made = 0;
    for done in other.into_iter().flatten() {
        if done.reason == REASON_NONE {
            check_ret!("write", done.result, 8);
            made += 1;
        } else {
            check_guarded(&[done])?;
        }
    }
    let mut count = 0u64;
    plain!(SYS_read, counter, std::ptr::from_mut(&mut count), 8);
    check_eq!("writes that were made", count, made);
    Ok(made)
}

fn changed_in_flight() -> Check {
    for mode in [Mode::Inline, Mode::Async, Mode::Kick] {
        in_child(|| {
            let engine = Engine::open()?;
            let mut rings = Vec::new();
            // 10 registrations of 16 pages: 10,240 entries.
            for _ in 0..many(10) {
                let mut ring = engine.ring(16)?;
                ring.mode = mode;
                rings.push(ring);
            }
            let all: u64 = rings.iter().map(|ring| ring.capacity() as u64).sum();
            let counter = eventfd()?;
            let allow = Filter::new().asks_for_argument().otherwise(Action::Allow);
            for round in 0..rounds(4) {
                let made = write_all(&mut rings, &counter, || {
                    for _ in 0..round {
                        let _ = allow.hold_for_all();
                    }
                })?;
                check_eq!("made under filters that allow all", made, all);
            }
            let refuse = Filter::new().rule(libc::SYS_write, ERRNO);
            let refuse = refuse.otherwise(Action::Allow);
            write_all(&mut rings, &counter, || {
                let _ = refuse.hold_for_all();
            })?;
            let made = write_all(&mut rings, &counter, || ())?;
            check_eq!("made under a filter that refuses", made, 0);
            Ok(())
        })
        .map_err(|failure| failure.within(format_args!("mode {mode:?}")))?;
    }
    Ok(())
}

/// Posts a read of one byte, and waits until it is parked.
fn park_read(engine: &Engine, ring: &mut Ring, from: &OwnedFd, to: *mut u8) -> Check<usize> {
    let before = engine.stats()?.parked;
    let slot = ring.post(call!(SYS_read, from, to, 1));
    ok!("WAIT", ring.wait(crate::kit::abi::Policy::None));
    check_eq!(ring.show(slot), engine.stats()?.parked - before, 1);
    Ok(slot)
}

fn parked_under_filter() -> Check {
    in_child(|| {
        let (engine, mut ring) = Mode::Inline.start(1)?;
        let (from, to) = pipe()?;
        let mut byte = 0u8;
        let filters = [
            Filter::new().rule(libc::SYS_getpgrp, ERRNO),
            // Run again after each wake-up.
            Filter::new().asks_for_argument(),
        ];
        for filter in filters {
            let at = std::ptr::from_mut(&mut byte);
            ok!("seccomp", filter.otherwise(Action::Allow).hold());
            let slot = park_read(&engine, &mut ring, &from, at)?;
            check_ret!("write", plain!(SYS_write, &to, b"a".as_ptr(), 1), 1);
            check_done("read", ring.finish(&[slot])?[0], 1, REASON_NONE)?;
        }
        let refuse = Filter::new().rule(libc::SYS_read, ERRNO);
        ok!("seccomp", refuse.otherwise(Action::Allow).hold());
        let before = engine.stats()?.parked;
        let at = std::ptr::from_mut(&mut byte);
        let done = ring.run(call!(SYS_read, &from, at, 1))?;
        check_guarded(&[done])?;
        check_eq!("parked", engine.stats()?.parked, before);
        Ok(())
    })
}

fn parked_before() -> Check {
    in_child(|| {
        let (engine, mut ring) = Mode::Inline.start(1)?;
        let (from, to) = pipe()?;
        let (parked, told) = (AtomicBool::new(false), AtomicBool::new(false));
        let (mut first, mut second) = (0u8, 0u8);
        let mut outcome = Ok(());
        std::thread::scope(|scope| {
            let other = scope.spawn(|| -> Check<Done> {
                until("the first reader", || parked.load(Ordering::Acquire))?;
                let mut ring = engine.ring(1)?;
                let at = std::ptr::from_mut(&mut second);
                let slot = park_read(&engine, &mut ring, &from, at)?;
                told.store(true, Ordering::Release);
                Ok(ring.finish(&[slot])?[0])
            });
            outcome = (|| {
                let at = std::ptr::from_mut(&mut first);
                let slot = park_read(&engine, &mut ring, &from, at)?;
                parked.store(true, Ordering::Release);
                until("the second reader", || told.load(Ordering::Acquire))?;
                let refuse = Filter::new().rule(libc::SYS_read, ERRNO);
                ok!("seccomp", refuse.otherwise(Action::Allow).hold());
                check_ret!("write", plain!(SYS_write, &to, b"a".as_ptr(), 1), 1);
                check_guarded(&ring.finish(&[slot])?)
            })();
            // The other read gets the wake-up and the byte.
            let done = other.join().expect("no panic")?;
            check_done("read", done, 1, REASON_NONE)
        })?;
        outcome?;
        check_eq!("bytes", (first, second), (0, b'a'));
        Ok(())
    })
}

fn own_filter_each() -> Check {
    for mode in Mode::ALL {
        in_child(|| {
            let (engine, mut ring) = mode.start(1)?;
            let calls = [call!(SYS_getppid), call!(SYS_getpgrp), call!(SYS_getuid)];
            let results = [plain!(SYS_getppid), plain!(SYS_getpgrp), plain!(SYS_getuid)];
            let post = |ring: &mut Ring, refused: Option<usize>| -> Check {
                for _ in 0..rounds(if slow_kernel() { 30 } else { 300 }) {
                    let all = ring.run_all(&[calls, calls, calls].concat())?;
                    for (at, done) in all.into_iter().enumerate() {
                        if Some(at % 3) == refused {
                            check_eq!("reason", done.reason, REASON_GUARDED);
                        } else {
                            check_done("call", done, results[at % 3], REASON_NONE)?;
                        }
                    }
                }
                Ok(())
            };
            std::thread::scope(|scope| {
                let owners: Vec<_> = (0..3)
                    .map(|at| {
                        let (engine, post) = (&engine, &post);
                        scope.spawn(move || -> Check {
                            let filter = Filter::new().rule(i64::from(calls[at].nr), ERRNO);
                            ok!("seccomp", filter.otherwise(Action::Allow).hold());
                            let mut ring = engine.ring(1)?;
                            ring.mode = mode;
                            post(&mut ring, Some(at))
                        })
                    })
                    .collect();
                post(&mut ring, None)?;
                owners
                    .into_iter()
                    .try_for_each(|owner| owner.join().expect("no panic"))
            })
        })
        .map_err(|failure| failure.within(format_args!("mode {mode:?}")))?;
    }
    Ok(())
}

fn ends_while_served() -> Check {
    in_child(|| {
        let engine = Engine::open()?;
        engine.set(Param::MaxThreads, 8)?;
        let (from, to) = pipe()?;
        let filters = [
            Filter::new().asks_for_argument(),
            Filter::new().rule(libc::SYS_getpgrp, ERRNO),
        ];
        let filters = filters.map(|filter| filter.otherwise(Action::Allow));
        for round in 0..rounds(if slow_kernel() { 20 } else { 200 }) {
            let mut outcome = Ok(());
            in_apart_thread(
                libc::CLONE_FILES | libc::CLONE_FS | libc::CLONE_SYSVSEM,
                || {
                    outcome = (|| {
                        ok!("seccomp", filters[round as usize % 2].hold());
                        let mut ring = engine.ring(1)?;
                        // When their owner ends, some calls sleep in a thread, and others have not
                        // begun.
                        let mut bytes = [0u8; 4];
                        let read = call!(SYS_read, &from, bytes.as_mut_ptr(), 1).asynchronous();
                        let ask = call!(SYS_getppid).asynchronous();
                        ring.post_all(&[read, read, ask, ask, ask, ask]);
                        ring.kicked()?;
                        if round % 3 == 0 {
                            sys::yield_now();
                        }
                        Ok(())
                    })();
                },
            )?;
            outcome?;
        }
        // Nothing was written, and no call reads any more.
        drop(to);
        engine.until_pool(0, "the end of all calls", |pool| {
            pool.running + pool.blocked + pool.queued == 0
        })?;
        Ok(())
    })
}
