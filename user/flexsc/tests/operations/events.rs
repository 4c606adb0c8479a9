// SPDX-License-Identifier: MIT OR Apache-2.0
//! Times, events, and any other call.

use std::fs::File;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant, SystemTime};

use flexsc::ops::{EpollCtl, EpollWait, EventfdRead, EventfdWrite, Poll, Raw, Sleep, Write};
use flexsc::{Error, Fd, Wait, calls};

use super::{PATIENCE, assert_cancelled, assert_errno, ring, run};

const SHORT: Duration = Duration::from_millis(30);
const FOR_EVER: Duration = Duration::from_secs(1 << 40);

fn own(fd: i32) -> Fd {
    assert!(fd >= 0);
    // SAFETY: just made, and owned by nothing else.
    unsafe { OwnedFd::from_raw_fd(fd) }.into()
}

fn eventfd(counter: u32) -> Fd {
    // SAFETY: takes numbers, no memory.
    own(unsafe { libc::eventfd(counter, libc::EFD_CLOEXEC) })
}

fn epoll() -> Fd {
    // SAFETY: takes a number, no memory.
    own(unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) })
}

fn events(epoll: &Fd, room: usize) -> EpollWait {
    EpollWait::new(epoll, Vec::with_capacity(room))
}

#[test]
fn sleeps_take_their_time_and_hold_up_nothing() {
    let mut ring = ring();
    let begin = Instant::now();
    run(&mut ring, Sleep::new(SHORT)).unwrap();
    assert!(begin.elapsed() >= SHORT);
    let soon = SystemTime::now() + SHORT;
    run(&mut ring, Sleep::until(soon)).unwrap();
    assert!(SystemTime::now() >= soon);
    run(&mut ring, Sleep::until(SystemTime::UNIX_EPOCH)).unwrap();
    run(&mut ring, Sleep::new(Duration::ZERO)).unwrap();
    for token in 0..20 {
        let time = if token < 10 { FOR_EVER } else { SHORT };
        ring.submit(Sleep::new(time), token).unwrap();
    }
    assert_eq!(ring.wait(Wait::some(10).timeout(PATIENCE)), Ok(10));
    for _ in 0..10 {
        let done = ring.next().unwrap();
        assert!(done.token >= 10);
        done.output::<Sleep>().unwrap();
    }
    // The drop ends the others.
    let begin = Instant::now();
    drop(ring);
    assert!(begin.elapsed() < PATIENCE);
}

#[test]
fn sleeps_are_cancelled() {
    let mut ring = ring();
    ring.submit(Sleep::new(FOR_EVER), 7).unwrap();
    assert_eq!(ring.wait(Wait::any().timeout(SHORT)), Err(Error::TimedOut));
    assert_eq!(ring.cancel(7), Ok(true));
    assert_eq!(ring.wait(Wait::all().timeout(PATIENCE)), Ok(1));
    let done = ring.next().unwrap();
    assert_cancelled(done.output::<Sleep>());
}

#[test]
fn a_poll_waits_for_its_events_or_its_time() {
    let mut ring = ring();
    let (near, far) = UnixStream::pair().unwrap();
    // It does not matter to a poll that the file is non-blocking.
    far.set_nonblocking(true).unwrap();
    let (near, far) = (Fd::from(near), Fd::from(far));
    let begin = Instant::now();
    let late = run(&mut ring, Poll::new(&far, libc::POLLIN).timeout(SHORT));
    assert_eq!(late.unwrap(), 0);
    assert!(begin.elapsed() >= SHORT);
    let out = run(&mut ring, Poll::new(&far, libc::POLLIN | libc::POLLOUT));
    assert_eq!(out.unwrap(), libc::POLLOUT);
    ring.submit(Poll::new(&far, libc::POLLIN), 1).unwrap();
    assert_eq!(ring.wait(Wait::any().timeout(SHORT)), Err(Error::TimedOut));
    ring.submit(Write::new(&near, "x"), 2).unwrap();
    assert_eq!(ring.wait(Wait::all().timeout(PATIENCE)), Ok(2));
    let results = [ring.next().unwrap(), ring.next().unwrap()];
    for done in results {
        if done.is::<Poll>() {
            assert_eq!(done.output::<Poll>().unwrap(), libc::POLLIN);
        }
    }
    drop(near);
    let closed = run(&mut ring, Poll::new(&far, 0)).unwrap();
    assert_eq!(closed, libc::POLLHUP);
}

#[test]
fn an_epoll_instance_reports_what_it_watches() {
    let mut ring = ring();
    let (epoll, first, second) = (epoll(), eventfd(0), eventfd(0));
    run(&mut ring, EpollCtl::add(&epoll, &first, libc::EPOLLIN, 11)).unwrap();
    run(&mut ring, EpollCtl::add(&epoll, &second, libc::EPOLLIN, 12)).unwrap();
    let again = EpollCtl::add(&epoll, &second, libc::EPOLLIN, 12);
    assert_errno(run(&mut ring, again), libc::EEXIST);
    let begin = Instant::now();
    let (count, none) = run(&mut ring, events(&epoll, 8).timeout(SHORT));
    assert_eq!((count.unwrap(), none.len()), (0, 0));
    assert!(begin.elapsed() >= SHORT);

    ring.submit(events(&epoll, 8), 1).unwrap();
    ring.submit(EventfdWrite::new(&second, 5), 2).unwrap();
    assert_eq!(ring.wait(Wait::all().timeout(PATIENCE)), Ok(2));
    let results = [ring.next().unwrap(), ring.next().unwrap()];
    for done in results {
        if done.is::<EpollWait>() {
            let (count, found) = done.output::<EpollWait>();
            assert_eq!((count.unwrap(), found.len()), (1, 1));
            assert_eq!({ found[0].u64 }, 12);
        } else {
            done.output::<EventfdWrite>().unwrap();
        }
    }
    assert_eq!(run(&mut ring, EventfdRead::new(&second)).unwrap(), 5);
    run(&mut ring, EventfdWrite::new(&first, 1)).unwrap();
    run(
        &mut ring,
        EpollCtl::modify(&epoll, &first, libc::EPOLLIN, 13),
    )
    .unwrap();
    let (count, found) = run(&mut ring, events(&epoll, 8));
    assert_eq!((count.unwrap(), { found[0].u64 }), (1, 13));
    run(&mut ring, EpollCtl::delete(&epoll, &first)).unwrap();
    let (count, _) = run(
        &mut ring,
        EpollWait::new(&epoll, found).timeout(Duration::ZERO),
    );
    assert_eq!(count.unwrap(), 0);
    let no_room = EpollWait::new(&epoll, Vec::new()).timeout(Duration::ZERO);
    assert_errno(run(&mut ring, no_room).0, libc::EINVAL);
}

#[test]
fn one_event_ends_one_wait() {
    let mut ring = ring();
    let (epoll, fd) = (epoll(), eventfd(0));
    let once = libc::EPOLLIN | libc::EPOLLONESHOT;
    run(&mut ring, EpollCtl::add(&epoll, &fd, once, 1)).unwrap();
    for token in 0..4 {
        ring.submit(events(&epoll, 8), token).unwrap();
    }
    assert_eq!(ring.wait(Wait::any().timeout(SHORT)), Err(Error::TimedOut));
    ring.submit(EventfdWrite::new(&fd, 1), 4).unwrap();
    assert_eq!(ring.wait(Wait::some(2).timeout(PATIENCE)), Ok(2));
    let more = ring.wait(Wait::some(3).timeout(SHORT));
    assert_eq!(more, Err(Error::TimedOut));
    for token in 0..4 {
        ring.cancel(token).unwrap();
    }
    assert_eq!(ring.wait(Wait::all().timeout(PATIENCE)), Ok(5));
    let mut counts = Vec::new();
    while let Some(done) = ring.next() {
        if done.is::<EpollWait>() {
            counts.push(done.output::<EpollWait>().0.ok());
        }
    }
    counts.sort();
    assert_eq!(counts, [None, None, None, Some(1)]);
}

#[test]
fn a_counter_is_waited_for() {
    let mut ring = ring();
    let full = eventfd(0);
    run(&mut ring, EventfdWrite::new(&full, u64::MAX - 1)).unwrap();
    assert_errno(
        run(&mut ring, EventfdWrite::new(&full, u64::MAX)),
        libc::EINVAL,
    );
    ring.submit(EventfdWrite::new(&full, 3), 1).unwrap();
    assert_eq!(ring.wait(Wait::any().timeout(SHORT)), Err(Error::TimedOut));
    ring.submit(EventfdRead::new(&full), 2).unwrap();
    assert_eq!(ring.wait(Wait::all().timeout(PATIENCE)), Ok(2));
    while let Some(done) = ring.next() {
        match done.token {
            1 => done.output::<EventfdWrite>().unwrap(),
            _ => assert_eq!(done.output::<EventfdRead>().unwrap(), u64::MAX - 1),
        }
    }
    assert_eq!(run(&mut ring, EventfdRead::new(&full)).unwrap(), 3);
}

#[test]
fn any_call_can_be_made() {
    let mut ring = ring();
    let file = File::open("/dev/zero").unwrap();
    let mut buf = vec![9_u8; 4];
    let read = calls::read(file.as_raw_fd(), buf.as_mut_ptr().cast(), 3);
    // SAFETY: the value that is kept owns the descriptor and the memory.
    let raw = unsafe { Raw::new(read, (file, buf)) };
    let (result, (_, buf)) = run(&mut ring, raw);
    assert_eq!((result.unwrap(), buf), (3, vec![0, 0, 0, 9]));
    // SAFETY: takes a number that is no descriptor.
    let raw = unsafe { Raw::new(calls::fsync(-1), ()) };
    assert_errno(run(&mut ring, raw).0, libc::EBADF);
}
