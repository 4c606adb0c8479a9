// SPDX-License-Identifier: MIT OR Apache-2.0
//! poll(), epoll and eventfds report that there are results.

use std::os::fd::{AsRawFd, OwnedFd};
use std::time::Duration;

use nix::errno::Errno;

use crate::check::Check;
use crate::kit::abi::Policy;
use crate::kit::child::{in_child, spawn};
use crate::kit::engine::Engine;
use crate::kit::files::{BlockedReads, pipe};
use crate::kit::memory;
use crate::kit::mode::{Mode, in_modes};
use crate::kit::ring::Ring;
use crate::kit::{chances, patience, process, rounds, sys};

tests! { "notify":
    poll_levels => "the device is readable while there are results that were not reaped";
    poll_wakes => "poll sleeps until a result is there, in every mode";
    poll_in_child => "poll by a forked child reports an error, never the parent's results";
    epoll_edges => "edge-triggered epoll reports a new event for new results";
    poll_in_entry => "an entry that polls its own engine is woken by another entry's result";
    eventfd_counts => "an eventfd is signalled for results, in every mode, until it is taken off";
    eventfd_bad => "SET EVENTFD with a bad descriptor is EBADF, with another file EINVAL";
    eventfd_outlives_descriptor => "closing the eventfd's descriptor does no harm";
    never_lost => "results that come as the program falls asleep are never lost";
    die_while_polled => "kill -9 while other threads sleep in poll and epoll on the device";
}

/// The events of a descriptor.
pub fn events(fd: i32, limit: Duration) -> Check<i16> {
    let mut poll = libc::pollfd {
        fd,
        events: libc::POLLIN,
        revents: 0,
    };
    let at = std::ptr::from_mut(&mut poll);
    let ret = plain!(SYS_poll, at, 1, limit.as_millis() as i32);
    check!((0..=1).contains(&ret), "poll: {}", crate::check::Ret(ret));
    let low = memory::peek(at.wrapping_byte_add(6).cast());
    Ok(i16::from(low))
}

pub fn new_eventfd() -> OwnedFd {
    let flags = libc::EFD_CLOEXEC | libc::EFD_NONBLOCK;
    sys::own(plain!(SYS_eventfd2, 0, flags) as i32)
}

pub fn take_count(eventfd: &OwnedFd) -> i64 {
    let mut count = 0u64;
    let at = std::ptr::from_mut(&mut count);
    match plain!(SYS_read, eventfd, at, 8) {
        8 => i64::from(memory::peek(at.cast())),
        error => error,
    }
}

fn poll_levels() -> Check {
    let engine = Engine::open()?;
    let mut ring = engine.ring(1)?;
    let now = || events(engine.fd(), Duration::ZERO);
    check_eq!("events of a new engine", now()?, 0);
    let slots = ring.post_all(&[call!(SYS_getpid); 3]);
    check_eq!("events of posted calls", now()?, 0);
    check_eq!("WAIT", ring.wait(Policy::All), Ok(3));
    for slot in slots {
        check_eq!("events of results", now()?, libc::POLLIN);
        ring.reap(slot);
    }
    check_eq!("events of reaped results", now()?, 0);
    Ok(())
}

/// Ensures that posted calls are executed without the owner.
fn start(ring: &Ring) -> Check {
    if ring.mode != Mode::Poller || ring.needs_kick() {
        ring.kicked()?;
    }
    Ok(())
}

fn poll_wakes() -> Check {
    in_modes(1, |engine, ring| {
        let (from, to) = pipe()?;
        for _ in 0..rounds(10) {
            let reads = BlockedReads::new(&from, 2);
            let slots = ring.post_blocked(&reads.calls())?;
            check_eq!("events", events(engine.fd(), Duration::ZERO)?, 0);
            let seen = std::thread::scope(|scope| {
                scope.spawn(|| reads.release(&to));
                events(engine.fd(), patience())
            })?;
            check_eq!("events of results", seen, libc::POLLIN);
            ring.poll_until_done(&slots)?;
            for slot in slots {
                check_ret!("read", ring.reap(slot).result, 2);
            }
        }
        Ok(())
    })
}

fn poll_in_child() -> Check {
    let engine = Engine::open()?;
    let mut ring = engine.ring(1)?;
    let slot = ring.post(call!(SYS_getpid));
    check_eq!("WAIT", ring.wait(Policy::All), Ok(1));
    in_child(|| {
        let seen = events(engine.fd(), Duration::ZERO)?;
        check_eq!("events in a child", seen, libc::POLLERR);
        Ok(())
    })?;
    check_eq!("events", events(engine.fd(), Duration::ZERO)?, libc::POLLIN);
    check_ret!("getpid", ring.reap(slot).result, std::process::id());
    Ok(())
}

fn watch(engine: &Engine, flags: i32) -> Check<OwnedFd> {
    let poll = sys::own(plain!(SYS_epoll_create1, libc::EPOLL_CLOEXEC) as i32);
    let mut event = libc::epoll_event {
        events: flags as u32,
        u64: 5,
    };
    let at = std::ptr::from_mut(&mut event);
    let ret = plain!(SYS_epoll_ctl, &poll, libc::EPOLL_CTL_ADD, engine.fd(), at);
    check_ret!("epoll_ctl", ret, 0);
    Ok(poll)
}

fn epoll_edges() -> Check {
    in_modes(1, |engine, ring| {
        let poll = watch(engine, libc::EPOLLIN | libc::EPOLLET)?;
        let mut event = libc::epoll_event { events: 0, u64: 0 };
        let at = std::ptr::from_mut(&mut event);
        let limit = patience().as_millis() as i32;
        let mut slots = Vec::new();
        for _ in 0..5 {
            slots.push(ring.post(call!(SYS_getpid).asynchronous()));
            start(ring)?;
            check_ret!("epoll_wait", plain!(SYS_epoll_wait, &poll, at, 1, limit), 1);
            // No result has come since, and none was reaped.
            ring.poll_until_done(&slots)?;
        }
        for slot in slots {
            check_ret!("getpid", ring.reap(slot).result, std::process::id());
        }
        Ok(())
    })
}

fn poll_in_entry() -> Check {
    in_modes(1, |engine, ring| {
        let mut poll = libc::pollfd {
            fd: engine.fd(),
            events: libc::POLLIN,
            revents: 0,
        };
        let at = std::ptr::from_mut(&mut poll);
        let slot = ring.post_blocked(&[call!(SYS_poll, at, 1, -1)])?[0];
        check!(!ring.is_done(slot), "poll is done: {}", ring.show(slot));
        let other = ring.post(call!(SYS_getpid));
        for done in ring.finish(&[other, slot])? {
            let want = if done.slot == slot {
                1
            } else {
                std::process::id()
            };
            check_ret!("result", done.result, want);
        }
        Ok(())
    })
}

fn eventfd_counts() -> Check {
    in_modes(1, |engine, ring| {
        let eventfd = new_eventfd();
        engine.set_eventfd(&eventfd)?;
        for _ in 0..rounds(20) {
            // A single call has a single signal, which cannot come later than this round.
            let slots = ring.post_all(&[call!(SYS_getpid).asynchronous()]);
            start(ring)?;
            check_eq!(
                "events",
                events(eventfd.as_raw_fd(), patience())?,
                libc::POLLIN
            );
            ring.poll_until_done(&slots)?;
            let count = take_count(&eventfd);
            check!(count >= 1, "count: {}", crate::check::Ret(count));
            for slot in slots {
                ring.reap(slot);
            }
        }
        check_eq!("EVENTFD of none", engine.try_set_eventfd(-1), Ok(0));
        take_count(&eventfd);
        ring.run_all(&[call!(SYS_getpid); 8])?;
        check_ret!(
            "count without the engine",
            take_count(&eventfd),
            -libc::EAGAIN
        );
        Ok(())
    })
}

fn eventfd_bad() -> Check {
    let engine = Engine::open()?;
    let (from, _to) = pipe()?;
    let set = |fd| engine.try_set_eventfd(fd);
    check_eq!(
        "SET to a closed descriptor",
        set(100_000),
        Err(Errno::EBADF)
    );
    check_eq!("SET to a pipe", set(from.as_raw_fd()), Err(Errno::EINVAL));
    check_eq!("SET to the device", set(engine.fd()), Err(Errno::EINVAL));
    check_eq!("SET to none", set(-1), Ok(0));
    let mut ring = engine.ring(1)?;
    check_ret!(
        "getpid",
        ring.result(call!(SYS_getpid))?,
        std::process::id()
    );
    Ok(())
}

fn eventfd_outlives_descriptor() -> Check {
    let base = process::refcnt();
    in_modes(1, |engine, ring| {
        for _ in 0..10 {
            let eventfd = new_eventfd();
            engine.set_eventfd(&eventfd)?;
            drop(eventfd);
            ring.run_all(&[call!(SYS_getpid); 8])?;
        }
        Ok(())
    })?;
    process::until_tasks(1)?;
    process::until_refcnt(base)
}

fn never_lost() -> Check {
    let (engine, mut ring) = Mode::Kick.start(1)?;
    for _ in 0..chances(500) {
        let slot = ring.post(call!(SYS_getpid));
        ring.kicked()?;
        check_eq!("events", events(engine.fd(), patience())?, libc::POLLIN);
        check_ret!("getpid", ring.reap(slot).result, std::process::id());
    }
    Ok(())
}

fn die_while_polled() -> Check {
    let base = process::refcnt();
    for mode in Mode::ALL {
        let mut child = spawn(|link| {
            let busy = crate::life::Busy::start(mode)?;
            let eventfd = new_eventfd();
            busy.engine.set_eventfd(&eventfd)?;
            let poll = watch(&busy.engine, libc::EPOLLIN)?;
            let fd = busy.engine.fd();
            std::thread::scope(|scope| {
                scope.spawn(|| events(fd, patience()));
                scope.spawn(|| {
                    let mut event = libc::epoll_event { events: 0, u64: 0 };
                    let at = std::ptr::from_mut(&mut event);
                    plain!(SYS_epoll_wait, &poll, at, 1, -1)
                });
                link.ready();
                link.wait_go()
            })
        })?;
        child.wait_ready()?;
        child.kill()?;
        process::until_refcnt(base)?;
    }
    Ok(())
}
