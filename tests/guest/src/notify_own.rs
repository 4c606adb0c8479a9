// SPDX-License-Identifier: MIT OR Apache-2.0
//! poll() and eventfds report the results of one registration or of all.

use std::os::fd::{AsRawFd, OwnedFd};
use std::time::Duration;

use nix::errno::Errno;

use crate::check::Check;
use crate::kit::abi::{Eventfd, IOC_EVENTFD, Policy};
use crate::kit::engine::Engine;
use crate::kit::files::{pipe, write_all};
use crate::kit::mode::in_modes;
use crate::kit::ring::{Ring, linked};
use crate::kit::{patience, rounds, sys};
use crate::notify::{events, new_eventfd, take_count};

tests! { "notify":
    poll_of_own => "poll tells a thread of its own results, or of all if the thread has no pages";
    poll_of_returned => "poll() tells an owner, and nobody else, of a call that waits for it";
    eventfd_of_own => "a registration's eventfd is signalled for its results only, in every mode";
    eventfd_of_own_bad => "EVENTFD with a wrong size, flag, registration or descriptor is an error";
}

fn try_set(engine: &Engine, id: u32, fd: i32) -> Result<u64, Errno> {
    let mut arg = Eventfd {
        size: size_of::<Eventfd>() as u32,
        id,
        fd,
        flags: 0,
    };
    sys::ioctl_with(engine.fd(), IOC_EVENTFD, &mut arg)
}

fn set(engine: &Engine, ring: &Ring, fd: &OwnedFd) -> Check {
    let ret = try_set(engine, ring.id, fd.as_raw_fd());
    check_eq!("EVENTFD", ret, Ok(0));
    Ok(())
}

/// Makes a result that stays: a getpid, executed and not reaped.
fn leave_result(ring: &mut Ring) -> Check<usize> {
    let slot = ring.post(call!(SYS_getpid));
    check_eq!("WAIT", ring.wait(Policy::All), Ok(1));
    Ok(slot)
}

/// Runs `f` in a thread of this process.
fn in_thread<T: Send>(f: impl FnOnce() -> Check<T> + Send) -> Check<T> {
    std::thread::scope(|scope| scope.spawn(f).join().expect("no panic"))
}

fn poll_of_own() -> Check {
    let engine = Engine::open()?;
    let now = || events(engine.fd(), Duration::ZERO);
    let mut ring = engine.ring(1)?;
    let slot = leave_result(&mut ring)?;
    check_eq!("events for the owner", now()?, libc::POLLIN);
    let without = in_thread(now)?;
    check_eq!("events for a thread without pages", without, libc::POLLIN);
    in_thread(|| {
        let mut other = engine.ring(1)?;
        check_eq!("events for a thread with other pages", now()?, 0);
        let slot = leave_result(&mut other)?;
        check_eq!("events for its own result", now()?, libc::POLLIN);
        other.reap(slot);
        check_eq!("events afterwards", now()?, 0);
        check_eq!("UNREGISTER", other.unregister(), Ok(0));
        check_eq!("events without pages", now()?, libc::POLLIN);
        Ok(())
    })?;
    ring.reap(slot);
    check_eq!("events of reaped results", now()?, 0);
    Ok(())
}

fn poll_of_returned() -> Check {
    for _ in 0..rounds(10) {
        let engine = Engine::open()?;
        let now = || events(engine.fd(), Duration::ZERO);
        let mut ring = engine.ring(1)?;
        let (from, to) = pipe()?;
        let mut byte = 0u8;
        let read = call!(SYS_read, &from, std::ptr::from_mut(&mut byte), 1);
        // A thread goes on with the chain, but cannot make its second call.
        let slots = ring.post_all(&[linked(read), call!(SYS_gettid)]);
        check_eq!("NONE", ring.wait(Policy::None), Ok(0));
        check_eq!("events while the read waits", now()?, 0);
        write_all(&to, b"x")?;
        let events = events(engine.fd(), patience())?;
        check_eq!("events for the owner", events, libc::POLLIN);
        check!(!ring.is_done(slots[1]), "another thread has made the call");
        check_eq!("events for others", in_thread(now)?, 0);
        check_eq!("ANY", ring.wait(Policy::Any), Ok(2));
        check_ret!("read", ring.reap(slots[0]).result, 1);
        check_ret!("gettid", ring.reap(slots[1]).result, sys::gettid());
        check_eq!("events afterwards", now()?, 0);
    }
    Ok(())
}

fn eventfd_of_own() -> Check {
    in_modes(1, |engine, ring| {
        let (one, two) = (new_eventfd(), new_eventfd());
        let mut other = engine.ring(1)?;
        other.mode = ring.mode;
        set(engine, ring, &one)?;
        set(engine, &other, &two)?;
        for _ in 0..rounds(20) {
            // A single call has a single signal, which cannot come later than this round.
            ring.run(call!(SYS_getpid))?;
            let seen = events(one.as_raw_fd(), patience())?;
            check_eq!("events of its eventfd", seen, libc::POLLIN);
            let count = take_count(&one);
            check!(count >= 1, "count: {}", crate::check::Ret(count));
            check_ret!("the other's count", take_count(&two), -libc::EAGAIN);
            other.run(call!(SYS_getpid))?;
            let seen = events(two.as_raw_fd(), patience())?;
            check_eq!("events of the other's eventfd", seen, libc::POLLIN);
            take_count(&two);
        }
        check_eq!("EVENTFD of none", try_set(engine, ring.id, -1), Ok(0));
        ring.run_all(&[call!(SYS_getpid); 4])?;
        check_ret!("count without the engine", take_count(&one), -libc::EAGAIN);
        Ok(())
    })
}

fn eventfd_of_own_bad() -> Check {
    let engine = Engine::open()?;
    let ring = engine.ring(1)?;
    let eventfd = new_eventfd();
    let fd = eventfd.as_raw_fd();
    let good = Eventfd {
        size: size_of::<Eventfd>() as u32,
        id: ring.id,
        fd,
        flags: 0,
    };
    for mut bad in [
        Eventfd { size: 12, ..good },
        Eventfd { flags: 1, ..good },
        Eventfd { fd: 0, ..good },
        Eventfd {
            fd: engine.fd(),
            ..good
        },
    ] {
        let ret = sys::ioctl_with(engine.fd(), IOC_EVENTFD, &mut bad);
        check_eq!("EVENTFD", ret, Err(Errno::EINVAL));
    }
    check_eq!("unknown", try_set(&engine, 77, fd), Err(Errno::ENOENT));
    check_eq!(
        "closed",
        try_set(&engine, ring.id, 100_000),
        Err(Errno::EBADF)
    );
    Ok(())
}
