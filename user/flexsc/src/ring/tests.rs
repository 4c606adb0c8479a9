// SPDX-License-Identifier: MIT OR Apache-2.0
//! Rings without an engine, and on pages with a simulated kernel.

use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use super::*;
use crate::memory::Answer;
use crate::ops::{Fsync, Read, Write};
use crate::sys::abi;
use crate::sys::guard::tests::in_child_of;
use crate::sys::poll::Readiness;
use crate::{Fd, Wait};

mod results;

const PATIENCE: Duration = Duration::from_secs(60);
const SHORT: Duration = Duration::from_millis(30);

fn plain() -> Ring {
    Ring::plain(1).unwrap()
}

fn pair() -> (UnixStream, UnixStream) {
    UnixStream::pair().unwrap()
}

fn submit(ring: &mut Ring, operation: impl Operation + std::fmt::Debug, token: u64) {
    ring.submit(operation, token).unwrap();
}

fn next(ring: &mut Ring) -> Done {
    ring.next_or_wait().unwrap().unwrap()
}

/// Waits with `next` alone.
fn next_without_wait(ring: &mut Ring) -> Done {
    let end = Instant::now() + PATIENCE;
    loop {
        if let Some(done) = ring.next() {
            return done;
        }
        assert!(Instant::now() < end, "no result");
        std::thread::yield_now();
    }
}

fn is_readable(ring: &Ring) -> bool {
    let fd = ring.as_fd().as_raw_fd();
    let mut fds = [poll::wanted(fd, Readiness::Readable)];
    poll::poll(&mut fds, Some(Duration::ZERO)).unwrap() == 1
}

fn is_open(fd: RawFd) -> bool {
    std::fs::exists(format!("/proc/self/fd/{fd}")).unwrap()
}

#[test]
fn a_call_that_blocks_holds_up_no_other() {
    // All reads depend on a write that is submitted last.
    let (near, far) = pair();
    let (near, far) = (Fd::from(near), Fd::from(far));
    let mut ring = plain();
    for token in 0..20 {
        submit(&mut ring, Read::new(&far, vec![0; 1]), token);
    }
    submit(&mut ring, Write::new(&near, vec![7; 20]), 20);
    assert_eq!(ring.wait(Wait::all().timeout(PATIENCE)), Ok(21));
    for _ in 0..21 {
        let done = ring.next().unwrap();
        let len = if done.token == 20 { 20 } else { 1 };
        assert_eq!((done.result.unwrap(), done.buf), (len, vec![7; len]));
    }
    assert_eq!((ring.plain_calls(), ring.is_plain()), (21, true));
    assert!(ring.next_or_wait().unwrap().is_none());
}

#[test]
fn a_call_larger_than_its_pipe_holds_up_no_other() {
    let (near, far) = pair();
    let mut ring = plain();
    let large = 4 << 20;
    submit(&mut ring, Write::new(near, vec![7; large]), 1);
    let far = Fd::from(far);
    let mut read = 0;
    submit(&mut ring, Read::new(&far, vec![0; 65536]), 0);
    while read < large {
        let done = next(&mut ring);
        let len = done.result.unwrap();
        if done.token == 0 {
            read += len;
            submit(&mut ring, Read::new(&far, done.buf), 0);
        } else {
            assert_eq!(len, large);
        }
    }
}

#[test]
fn timeouts_are_kept() {
    let (_near, far) = pair();
    let mut ring = plain();
    submit(&mut ring, Read::new(far, vec![0; 1]), 0);
    let begin = Instant::now();
    assert_eq!(ring.wait(Wait::any().timeout(SHORT)), Err(Error::TimedOut));
    assert!(begin.elapsed() >= SHORT);
    assert_eq!(ring.wait(Wait::none()), Ok(0));
    assert_eq!(ring.wait(Wait::some(2)), Err(Error::NothingToWaitFor));
    assert!(begin.elapsed() < PATIENCE);
}

#[test]
fn policies_count_what_is_there() {
    let (_near, far) = pair();
    let null: Fd = File::open("/dev/null").unwrap().into();
    let mut ring = plain();
    assert_eq!(ring.wait(Wait::any()), Err(Error::NothingToWaitFor));
    assert_eq!(ring.wait(Wait::all()), Ok(0));
    submit(&mut ring, Read::new(far, vec![0; 1]), 0);
    submit(&mut ring, Read::new(&null, vec![0; 1]), 1);
    submit(&mut ring, Read::new(&null, vec![0; 1]), 2);
    assert_eq!(ring.wait(Wait::some(2).timeout(PATIENCE)), Ok(2));
    let begin = Instant::now();
    let lingering = Wait::some(3).linger(SHORT).timeout(PATIENCE);
    assert_eq!(ring.wait(lingering), Ok(2));
    assert!((SHORT..PATIENCE).contains(&begin.elapsed()));
}

#[test]
fn dropping_it_ends_what_is_in_flight() {
    let (near, far) = pair();
    let number = far.as_raw_fd();
    let mut ring = plain();
    submit(&mut ring, Read::new(far, vec![0; 1]), 0);
    ring.ring();
    let begin = Instant::now();
    drop(ring);
    assert!(begin.elapsed() < PATIENCE);
    // The descriptor was not leaked either.
    assert!(!is_open(number));
    drop(near);
}

#[test]
fn what_was_not_begun_is_not_done_by_a_drop() {
    let (mut near, far) = pair();
    let mut ring = plain();
    submit(&mut ring, Write::new(far, b"no".to_vec()), 0);
    drop(ring);
    assert_eq!(near.read(&mut [0; 2]).unwrap(), 0);
}

#[test]
fn operations_are_cancelled_wherever_they_are() {
    let (mut near, far) = pair();
    let far = Fd::from(far);
    let mut ring = plain();
    submit(&mut ring, Read::new(&far, vec![0; 1]), 1);
    assert_eq!(ring.cancel(1), Ok(true));
    let done = next(&mut ring);
    assert_eq!(done.reason, Reason::Cancelled);
    assert_eq!(
        done.result.unwrap_err().raw_os_error(),
        Some(libc::ECANCELED)
    );
    submit(&mut ring, Read::new(&far, vec![0; 1]), 2);
    submit(&mut ring, Read::new(&far, vec![0; 1]), 3);
    assert_eq!(ring.wait(Wait::any().timeout(SHORT)), Err(Error::TimedOut));
    assert_eq!(ring.cancel(2), Ok(true));
    let done = next(&mut ring);
    assert_eq!((done.token, done.reason), (2, Reason::None));
    assert_eq!(done.result.unwrap_err().raw_os_error(), Some(libc::EINTR));
    assert_eq!(ring.cancel(2), Ok(false));
    // The other one continues.
    near.write_all(b"x").unwrap();
    let done = next(&mut ring);
    assert_eq!(
        (done.token, done.result.unwrap(), done.buf),
        (3, 1, b"x".to_vec())
    );
}

#[test]
fn page_counts_are_checked_whatever_the_machine_has() {
    for pages in [0, 65, 1 << 26, u32::MAX] {
        assert_eq!(Ring::open(pages).unwrap_err(), Error::PageCount(pages));
        assert_eq!(Ring::plain(pages).unwrap_err(), Error::PageCount(pages));
    }
    assert_eq!(Ring::plain(64).unwrap().free(), 4096);
}

#[test]
fn a_buffer_with_capacity_is_filled() {
    let zero: Fd = File::open("/dev/zero").unwrap().into();
    let mut ring = plain();
    let empty = Vec::with_capacity(100);
    let capacity = empty.capacity();
    submit(&mut ring, Read::new(&zero, empty), 0);
    let done = next(&mut ring);
    assert_eq!((done.result.unwrap(), done.buf.len()), (capacity, capacity));
    // A buffer with a length keeps it, and no more than that is written.
    let mut buf = Vec::with_capacity(100);
    buf.push(1);
    submit(&mut ring, Read::new(&zero, buf), 0);
    let done = next(&mut ring);
    assert_eq!((done.result.unwrap(), done.buf), (1, vec![0]));
}

#[test]
fn what_does_not_block_by_itself_does_not() {
    let (_near, far) = pair();
    far.set_nonblocking(true).unwrap();
    let (_other, timed) = pair();
    timed.set_read_timeout(Some(SHORT)).unwrap();
    let mut ring = plain();
    for stream in [far, timed] {
        submit(&mut ring, Read::new(stream, vec![0; 1]), 0);
        assert_eq!(ring.wait(Wait::all().timeout(PATIENCE)), Ok(1));
        let error = ring.next().unwrap().result.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
    }
}

/// A terminal: its user types into the first file, programs use the second.
fn terminal() -> (OwnedFd, OwnedFd) {
    let (mut user, mut program) = (0, 0);
    let none = std::ptr::null_mut();
    // SAFETY: writes two numbers; the name and the settings are optional.
    let made = unsafe {
        libc::openpty(
            &raw mut user,
            &raw mut program,
            none,
            none.cast(),
            none.cast(),
        )
    };
    assert_eq!(made, 0);
    let own = |fd| {
        // SAFETY: just made, and owned by nothing else.
        unsafe { OwnedFd::from_raw_fd(fd) }
    };
    (own(user), own(program))
}

#[test]
fn a_read_of_a_terminal_is_cancelled_too() {
    let (user, program) = terminal();
    let (mut user, program) = (File::from(user), Fd::from(program));
    let mut ring = plain();
    submit(&mut ring, Read::new(&program, vec![0; 8]), 1);
    assert_eq!(ring.wait(Wait::any().timeout(SHORT)), Err(Error::TimedOut));
    assert_eq!(ring.cancel(1), Ok(true));
    assert_eq!(ring.wait(Wait::any().timeout(PATIENCE)), Ok(1));
    let error = ring.next().unwrap().result.unwrap_err();
    assert_eq!(error.raw_os_error(), Some(libc::EINTR));
    // A line that is typed is read.
    submit(&mut ring, Read::new(&program, vec![0; 8]), 2);
    ring.ring();
    user.write_all(b"line\n").unwrap();
    assert_eq!(ring.wait(Wait::any().timeout(PATIENCE)), Ok(1));
    assert_eq!(ring.next().unwrap().result.unwrap(), 5);
}

#[test]
fn a_terminal_that_does_not_wait_is_not_waited_for() {
    let (_user, program) = terminal();
    // SAFETY: a termios is plain memory.
    let mut settings: libc::termios = unsafe { std::mem::zeroed() };
    // SAFETY: `settings` is valid.
    unsafe { libc::tcgetattr(program.as_raw_fd(), &raw mut settings) };
    settings.c_lflag &= !libc::ICANON;
    (settings.c_cc[libc::VMIN], settings.c_cc[libc::VTIME]) = (0, 0);
    // SAFETY: as above.
    unsafe { libc::tcsetattr(program.as_raw_fd(), libc::TCSANOW, &raw const settings) };
    let mut ring = plain();
    submit(&mut ring, Read::new(program, vec![0; 8]), 1);
    assert_eq!(ring.wait(Wait::any().timeout(PATIENCE)), Ok(1));
    assert_eq!(ring.next().unwrap().result.unwrap(), 0);
}

#[test]
fn forgetting_it_keeps_the_descriptor_open() {
    let (near, far) = pair();
    let number = far.as_raw_fd();
    let mut ring = plain();
    submit(&mut ring, Read::new(far, vec![0; 1]), 0);
    ring.ring();
    std::mem::forget(ring);
    assert!(is_open(number));
    drop(near);
}

#[test]
fn a_child_has_no_ring() {
    let (mut near, far) = pair();
    let far = Fd::from(far);
    let mut ring = plain();
    submit(&mut ring, Read::new(&far, vec![0; 1]), 0);
    ring.ring();
    submit(&mut ring, Read::new(&far, vec![0; 1]), 1);
    let harmless = in_child_of(0, || {
        ring.ring();
        let full = ring.submit(Read::new(&far, vec![0; 1]), 2).is_err();
        let right = full
            && ring.free() == 0
            && ring.next().is_none()
            && ring.wait(Wait::all()) == Err(Error::NotTheOwner)
            && ring.next_or_wait().is_err()
            && ring.cancel(0) == Err(Error::NotTheOwner);
        // Only this process's copy is dropped.
        // SAFETY: `ring` is not used again in this process.
        drop(unsafe { std::ptr::read(&raw const ring) });
        right
    });
    assert_eq!(harmless, Some(true));
    near.write_all(b"ab").unwrap();
    assert_eq!(ring.wait(Wait::all().timeout(PATIENCE)), Ok(2));
}

#[test]
fn its_descriptor_tells_of_results() {
    let (mut near, far) = pair();
    let mut ring = plain();
    submit(&mut ring, Read::new(far, vec![0; 1]), 0);
    ring.ring();
    assert!(!is_readable(&ring));
    near.write_all(b"x").unwrap();
    let fd = ring.as_fd().as_raw_fd();
    let mut fds = [poll::wanted(fd, Readiness::Readable)];
    assert_eq!(poll::poll(&mut fds, Some(PATIENCE)), Ok(1));
    // It is still readable after a wait that has seen the result.
    assert_eq!(ring.wait(Wait::all()), Ok(1));
    assert!(is_readable(&ring));
    assert!(ring.next().is_some() && ring.next().is_none());
    assert!(!is_readable(&ring));
}

#[test]
fn next_alone_ends_what_was_begun() {
    let null: Fd = File::open("/dev/null").unwrap().into();
    let mut ring = plain();
    submit(&mut ring, Read::new(&null, vec![0; 1]), 7);
    assert!(ring.next().is_none());
    ring.ring();
    assert_eq!(next_without_wait(&mut ring).token, 7);
}

#[test]
fn a_synced_write_is_one_operation() {
    let path = std::env::temp_dir().join(format!("flexsc-synced-{}", std::process::id()));
    let file: Fd = File::create_new(&path).unwrap().into();
    let mut ring = plain();
    submit(&mut ring, Write::new(&file, b"first".to_vec()).synced(), 0);
    assert_eq!(next(&mut ring).result.unwrap(), 5);
    submit(
        &mut ring,
        Write::new(&file, b"F".to_vec()).at(0).synced(),
        1,
    );
    assert_eq!(next(&mut ring).result.unwrap(), 1);
    for offset in [-1, -2] {
        let write = Write::new(&file, b"x".to_vec()).at(offset).synced();
        submit(&mut ring, write, 2);
        assert_eq!(
            next(&mut ring).result.unwrap_err().raw_os_error(),
            Some(libc::EINVAL)
        );
    }
    submit(&mut ring, Fsync::new(&file), 3);
    assert_eq!(next(&mut ring).result.unwrap(), 0);
    assert_eq!(std::fs::read(&path).unwrap(), b"First");
    std::fs::remove_file(&path).unwrap();
}

#[test]
fn a_full_ring_hands_the_operation_back() {
    let null: Fd = File::open("/dev/null").unwrap().into();
    let mut ring = plain();
    for token in 0..64 {
        submit(&mut ring, Read::new(&null, vec![0; 8]).at(0), token);
    }
    assert!(ring.submit(Fsync::new(&null), 64).is_err());
    assert_eq!(ring.wait(Wait::all()), Ok(64));
    assert!(ring.submit(Fsync::new(&null), 64).is_err());
    assert_eq!(ring.next().unwrap().result.unwrap(), 0);
    assert_eq!(ring.free(), 1);
}

#[test]
fn errors_are_the_calls_own() {
    let null: Fd = File::open("/dev/null").unwrap().into();
    let mut ring = plain();
    submit(&mut ring, Write::new(null, vec![1]), 0);
    let error = next(&mut ring).result.unwrap_err();
    assert_eq!(error.raw_os_error(), Some(libc::EBADF));
}

#[test]
fn without_helpers_the_owner_makes_the_calls_when_it_waits() {
    let right = in_child_of(0, || {
        let (near, far) = pair();
        let (near, far) = (Fd::from(near), Fd::from(far));
        let mut ring = plain();
        submit(&mut ring, Read::new(&far, vec![0; 1]), 0);
        submit(&mut ring, Write::new(&near, vec![7; 1]), 1);
        refuse_threads();
        let all = ring.wait(Wait::all().timeout(PATIENCE));
        let begin = Instant::now();
        submit(&mut ring, Read::new(&far, Vec::new()), 2);
        submit(&mut ring, Read::new(&far, vec![0; 1]), 3);
        let late = ring.wait(Wait::some(4).timeout(SHORT));
        all == Ok(2) && late == Err(Error::TimedOut) && begin.elapsed() >= SHORT
    });
    assert_eq!(right, Some(true));
}

/// Lets this process, which has one thread, create no more: with the limit 0, and as another
/// user than root, to whom the limit applies.
fn refuse_threads() {
    let none = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: the limit is valid.
    unsafe { libc::setrlimit(libc::RLIMIT_NPROC, &raw const none) };
    // SAFETY: takes a number, and there is one thread.
    unsafe { libc::setuid(65534) };
    assert!(std::thread::Builder::new().spawn(|| ()).is_err());
}

/// A ring on pages that no kernel serves.
fn played() -> Ring {
    // Any device that can be polled will do.
    let engine = Engine::open_path(Path::new("/dev/random")).unwrap();
    Ring::new(engine.register_nowhere(1)).unwrap()
}

/// Simulates the kernel: answers all posted calls.
fn answer(ring: &Ring, result: i32, reason: u32) {
    let region = ring.pages.as_ref().unwrap().region();
    for flight in ring.flights.iter().flatten() {
        if let At::Posted(slots) = flight.at {
            region.finish(
                slots.first().index(),
                Answer {
                    result: result.into(),
                    reason: reason as u8,
                },
            );
        }
    }
}

#[test]
fn what_the_kernel_refuses_is_done_plainly_and_blocks_nobody() {
    for reason in [abi::FLEXSC_REASON_GUARDED, abi::FLEXSC_REASON_THREAD] {
        let (near, far) = pair();
        let mut ring = played();
        submit(&mut ring, Read::new(far, vec![0; 1]), 0);
        submit(&mut ring, Write::new(near, vec![7]), 1);
        ring.ring();
        assert!(ring.next().is_none() && !ring.is_plain());
        answer(&ring, -libc::EOPNOTSUPP, reason);
        for _ in 0..2 {
            let done = next_without_wait(&mut ring);
            assert_eq!(done.result.unwrap(), 1);
            assert_eq!(done.reason, Reason::from_raw(reason as u8));
        }
        assert_eq!((ring.plain_calls(), ring.is_plain()), (2, true));
        // The kernel executes calls again, for example because the tracer has left.
        submit(&mut ring, Fsync::new(File::open("/").unwrap()), 2);
        ring.ring();
        answer(&ring, 0, abi::FLEXSC_REASON_NONE);
        assert_eq!(next_without_wait(&mut ring).result.unwrap(), 0);
        assert_eq!((ring.plain_calls(), ring.is_plain()), (2, false));
        assert!(ring.into_pages().unwrap().is_some());
    }
}

#[test]
fn pages_come_back_only_when_nothing_is_in_flight() {
    let mut ring = played();
    submit(&mut ring, Fsync::new(File::open("/").unwrap()), 0);
    ring = ring.into_pages().unwrap_err();
    assert_eq!(ring.cancel(0), Ok(true));
    ring = ring.into_pages().unwrap_err();
    assert!(ring.next().is_some());
    assert!(ring.into_pages().unwrap().is_some());
    assert!(plain().into_pages().unwrap().is_none());
}
