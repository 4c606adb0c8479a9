// SPDX-License-Identifier: MIT OR Apache-2.0
//! Time limits of single operations.

use std::io::{self, Write as _};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use flexsc::futures::Executor;
use flexsc::ops::{OFlag, OpenAt, Operation, Read, Recv, Sleep, WithFile, Within};
use flexsc::{Done, Fd, Reason, Ring, Wait};

use super::{PATIENCE, assert_errno, ring, run};

const SHORT: Duration = Duration::from_millis(30);

fn pair() -> (Fd, UnixStream) {
    let (near, far) = UnixStream::pair().unwrap();
    (near.into(), far)
}

fn recv(fd: &Fd) -> Recv {
    Recv::new(fd, Vec::with_capacity(16))
}

fn next(ring: &mut Ring) -> Done {
    ring.next_or_wait().unwrap().unwrap()
}

#[test]
fn an_operation_ends_when_its_time_is_over_and_others_do_not() {
    let mut ring = ring();
    let (near, mut far) = pair();
    let begun = Instant::now();
    ring.submit(recv(&near).within(SHORT), 0).unwrap();
    ring.submit(recv(&near), 1).unwrap();
    ring.submit(recv(&near).within(PATIENCE), 2).unwrap();
    let done = next(&mut ring);
    assert_eq!(done.token, 0);
    assert!(begun.elapsed() >= SHORT);
    let (count, buf) = done.output::<Within<Recv>>();
    assert_errno(count, libc::ETIMEDOUT);
    assert!(buf.is_empty() && buf.capacity() >= 16);
    assert_eq!(ring.in_flight(), 2);
    far.write_all(b"one").unwrap();
    next(&mut ring);
    far.write_all(b"two").unwrap();
    next(&mut ring);
}

#[test]
fn an_operation_that_ends_in_time_has_its_own_result() {
    let mut ring = ring();
    let (near, mut far) = pair();
    far.write_all(b"there").unwrap();
    let (count, buf) = run(&mut ring, recv(&near).within(PATIENCE));
    assert_eq!((count.unwrap(), &buf[..]), (5, &b"there"[..]));
    // Its limit is gone with it: the next one in the same place has none.
    run(&mut ring, Sleep::new(Duration::ZERO).within(SHORT)).unwrap();
    run(&mut ring, Sleep::new(2 * SHORT)).unwrap();
    // A wait for all ends with the operation.
    let begun = Instant::now();
    ring.submit(Sleep::new(SHORT).within(PATIENCE), 0).unwrap();
    ring.wait(Wait::all()).unwrap();
    assert!(begun.elapsed() < PATIENCE);
    next(&mut ring).output::<Within<Sleep>>().unwrap();
}

#[test]
fn a_wait_for_all_lets_times_run_out() {
    let mut ring = ring();
    let (near, _far) = pair();
    for token in 0..8 {
        let time = SHORT * (token as u32 % 3);
        ring.submit(recv(&near).within(time), token).unwrap();
    }
    assert_eq!(ring.wait(Wait::all().timeout(PATIENCE)).unwrap(), 8);
    while let Some(done) = ring.next() {
        assert_errno(done.output::<Within<Recv>>().0, libc::ETIMEDOUT);
    }
}

#[test]
fn an_operation_without_time_does_not_start() {
    let mut ring = ring();
    let (near, mut far) = pair();
    far.write_all(b"untouched").unwrap();
    ring.submit(recv(&near).within(Duration::ZERO), 0).unwrap();
    let done = ring.next().expect("no wait is needed");
    assert_eq!(done.reason, Reason::Cancelled);
    assert_errno(done.output::<Within<Recv>>().0, libc::ETIMEDOUT);
    let (count, _) = run(&mut ring, recv(&near));
    assert_eq!(count.unwrap(), 9);
}

#[test]
fn a_time_beyond_all_times_is_no_limit() {
    let mut ring = ring();
    run(&mut ring, Sleep::new(Duration::ZERO).within(Duration::MAX)).unwrap();
}

#[test]
fn a_whole_chain_has_a_limit() {
    let mut ring = ring();
    let comm = OpenAt::new(Fd::cwd(), c"/proc/self/comm", OFlag::O_RDONLY)
        .then(Read::new(Fd::opened(), Vec::with_capacity(64)));
    ring.submit(comm.within(PATIENCE), 0).unwrap();
    let done = next(&mut ring);
    let (file, _, (count, text)) = done.output::<Within<WithFile<Read>>>();
    file.unwrap();
    assert_eq!(count.unwrap(), text.len());
    let comm = OpenAt::new(Fd::cwd(), c"/proc/self/comm", OFlag::O_RDONLY)
        .then(Read::new(Fd::opened(), Vec::with_capacity(64)));
    ring.submit(comm.within(Duration::ZERO), 0).unwrap();
    let done = next(&mut ring);
    let (file, _, (count, _)) = done.output::<Within<WithFile<Read>>>();
    assert_errno(file, libc::ETIMEDOUT);
    assert_errno(count, libc::ECANCELED);
}

#[test]
fn the_descriptor_of_the_ring_tells_of_a_time_that_is_over() {
    for plain in [false, true] {
        let mut ring = if plain {
            Ring::plain(1).unwrap()
        } else {
            ring()
        };
        let (near, _far) = pair();
        ring.submit(recv(&near).within(2 * SHORT), 0).unwrap();
        ring.ring();
        let fd = ring.as_fd().as_raw_fd();
        // An earlier one follows when the first one is already known.
        ring.submit(recv(&near).within(SHORT), 1).unwrap();
        let begun = Instant::now();
        let mut tokens = Vec::new();
        while tokens.len() < 2 {
            while let Some(done) = ring.next() {
                tokens.push(done.token);
                assert_errno(done.output::<Within<Recv>>().0, libc::ETIMEDOUT);
            }
            if tokens.len() == 2 {
                break;
            }
            ring.ring();
            let mut poll = libc::pollfd {
                fd,
                events: libc::POLLIN,
                revents: 0,
            };
            let most = PATIENCE.as_millis() as libc::c_int;
            // SAFETY: `poll` is one pollfd.
            let ready = unsafe { libc::poll(&raw mut poll, 1, most) };
            assert_eq!(ready, 1, "nothing was signalled");
        }
        assert_eq!(tokens, [1, 0]);
        assert!(begun.elapsed() >= SHORT);
        assert_eq!(ring.in_flight(), 0);
    }
}

#[test]
fn a_future_has_a_limit() {
    let executor = Executor::new(ring()).unwrap();
    let (near, _far) = pair();
    let reactor = executor.reactor().clone();
    let ended = executor.block_on(async {
        let quick = reactor.submit(Sleep::new(Duration::ZERO).within(PATIENCE));
        quick.await?;
        let (count, _) = reactor.submit(recv(&near).within(SHORT)).await;
        io::Result::Ok(count)
    });
    assert_errno(ended.unwrap().unwrap(), libc::ETIMEDOUT);
}
