// SPDX-License-Identifier: MIT OR Apache-2.0
//! Operations as futures. On a machine with the module the kernel executes them, elsewhere the
//! ring makes plain calls; the results must be the same.

use std::cell::{Cell, RefCell};
use std::future::{Future, poll_fn};
use std::net::Shutdown;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::thread;
use std::time::{Duration, Instant};

use flexsc::futures::{Executor, Reactor};
use flexsc::ops::{Accept4, Close, Fstat, IoBuf, IoBufMut, OFlag, OpenAt, Read, Send, Sleep};
use flexsc::{Engine, Fd, Ring, Wait};

mod dropped;
mod tasks;

/// No test takes that long.
const PATIENCE: Duration = Duration::from_secs(60);

fn executor() -> Executor {
    Executor::open(1).unwrap()
}

fn reactor() -> Reactor {
    Reactor::open(1).unwrap()
}

/// Polls a future once.
fn poll<F: Future + Unpin>(future: &mut F) -> Poll<F::Output> {
    Pin::new(future).poll(&mut Context::from_waker(Waker::noop()))
}

/// Turns the reactor until the future has finished.
fn finish<F: Future + Unpin>(reactor: &Reactor, mut future: F) -> F::Output {
    loop {
        if let Poll::Ready(output) = poll(&mut future) {
            return output;
        }
        reactor.wait(Wait::any().timeout(PATIENCE)).unwrap();
    }
}

/// The output of whichever future finishes first; the other one is dropped.
async fn race<A: Future, B: Future>(first: A, second: B) -> Result<A::Output, B::Output> {
    let (mut first, mut second) = (pin!(first), pin!(second));
    poll_fn(|cx| {
        if let Poll::Ready(output) = first.as_mut().poll(cx) {
            return Poll::Ready(Ok(output));
        }
        second.as_mut().poll(cx).map(Err)
    })
    .await
}

fn pair() -> (Fd, UnixStream) {
    let (near, far) = UnixStream::pair().unwrap();
    (near.into(), far)
}

fn until(what: &str, mut is: impl FnMut() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !is() {
        assert!(Instant::now() < end, "{what}");
        thread::yield_now();
    }
}

/// A buffer that says when it is dropped.
struct Watched {
    content: Box<[u8; 16]>,
    alive: Arc<AtomicBool>,
}

impl Watched {
    fn new() -> (Self, Arc<AtomicBool>) {
        let alive = Arc::new(AtomicBool::new(true));
        let buf = Watched {
            content: Box::new([0; 16]),
            alive: Arc::clone(&alive),
        };
        (buf, alive)
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        self.alive.store(false, Ordering::Relaxed);
    }
}

// SAFETY: the memory is that of a `Box`, which nothing else uses.
unsafe impl IoBuf for Watched {
    fn as_ptr(&self) -> *const u8 {
        self.content.as_ptr()
    }

    fn len(&self) -> usize {
        self.content.len()
    }
}

// SAFETY: as above.
unsafe impl IoBufMut for Watched {
    fn as_mut_ptr(&mut self) -> *mut u8 {
        self.content.as_mut_ptr()
    }

    fn room(&self) -> usize {
        self.content.len()
    }

    unsafe fn set_filled(&mut self, _count: usize) {}
}

#[test]
fn outputs_are_those_of_the_operations() {
    let reactor = reactor();
    assert_eq!(reactor.is_plain(), Engine::open().is_err());
    let open = OpenAt::new(Fd::cwd(), c"/proc/self/comm", OFlag::O_RDONLY);
    let (file, path) = finish(&reactor, reactor.submit(open));
    assert_eq!(path.as_c_str(), c"/proc/self/comm");
    let file = Fd::from(file.unwrap());
    let (count, buf) = finish(
        &reactor,
        reactor.submit(Read::new(&file, Vec::with_capacity(64))),
    );
    assert_eq!(count.unwrap(), buf.len());
    assert_eq!(buf, std::fs::read("/proc/self/comm").unwrap());
    let file: OwnedFd = file.into_owned().unwrap();
    finish(&reactor, reactor.submit(Close::new(file))).unwrap();
    assert_eq!(reactor.in_flight(), 0);
    assert_eq!(reactor.plain_calls() > 0, reactor.is_plain());
}

#[test]
fn an_output_that_nobody_has_taken_takes_no_room() {
    let reactor = reactor();
    let zero: Fd = std::fs::File::open("/dev/zero").unwrap().into();
    let read = |len: usize| reactor.submit(Read::new(&zero, vec![7; len]));
    for round in 1..=3 {
        // The ring is full, all have ended, and the next ones start nonetheless.
        let mut futures: Vec<_> = (1..=64).map(|len| read(len * round)).collect();
        assert!(futures.iter_mut().all(|future| poll(future).is_pending()));
        until("the results", || {
            reactor.wait(Wait::any().timeout(PATIENCE)).unwrap();
            reactor.in_flight() == 0
        });
        let (count, _) = finish(&reactor, read(1));
        assert_eq!(count.unwrap(), 1);
        // A dropped one is not taken.
        drop(futures.remove(0));
        for (future, len) in futures.into_iter().zip(2..) {
            let (count, buf) = finish(&reactor, future);
            assert_eq!((count.unwrap(), buf), (len * round, vec![0; len * round]));
        }
    }
}

#[test]
fn a_future_that_was_not_polled_has_submitted_nothing() {
    let reactor = reactor();
    let (buf, alive) = Watched::new();
    let (near, _far) = pair();
    let read = reactor.submit(Read::new(near, buf));
    assert_eq!(reactor.in_flight(), 0);
    drop(read);
    assert!(!alive.load(Ordering::Relaxed));
}

#[test]
fn a_turn_never_blocks_and_hears_of_submissions() {
    struct Count(Mutex<u32>);
    impl std::task::Wake for Count {
        fn wake(self: Arc<Self>) {
            *self.0.lock().unwrap() += 1;
        }
    }
    let reactor = reactor();
    let count = Arc::new(Count(Mutex::new(0)));
    let waker = Waker::from(Arc::clone(&count));
    let mut cx = Context::from_waker(&waker);
    let (near, far) = pair();
    let mut read = reactor.submit(Read::new(near, vec![0; 8]));
    assert_eq!(reactor.poll_turn(&mut cx), Ok(0));
    assert_eq!(*count.0.lock().unwrap(), 0);
    assert!(poll(&mut read).is_pending());
    assert_eq!(*count.0.lock().unwrap(), 1);
    assert_eq!(reactor.poll_turn(&mut cx), Ok(0));
    assert!(poll(&mut read).is_pending());
    std::io::Write::write_all(&mut &far, b"x").unwrap();
    until("a result", || reactor.poll_turn(&mut cx).unwrap() > 0);
    match poll(&mut read) {
        Poll::Ready((result, buf)) => assert_eq!((result.unwrap(), buf[0]), (1, b'x')),
        Poll::Pending => panic!("the turn has found a result"),
    }
}

#[test]
fn a_reactor_can_be_polled() {
    for shared in [false, true] {
        let reactor = reactor();
        if shared {
            reactor.share_descriptor().unwrap();
        }
        let mut cx = Context::from_waker(Waker::noop());
        let (near, far) = pair();
        for round in 0..3_u8 {
            let mut read = reactor.submit(Read::new(&near, vec![0; 8]));
            assert!(poll(&mut read).is_pending());
            reactor.poll_turn(&mut cx).unwrap();
            let writer = {
                let far = far.try_clone().unwrap();
                thread::spawn(move || std::io::Write::write_all(&mut &far, &[round]).unwrap())
            };
            let end = Instant::now() + PATIENCE;
            while poll(&mut read).is_pending() {
                assert!(Instant::now() < end);
                let mut fd = libc::pollfd {
                    fd: std::os::fd::AsRawFd::as_raw_fd(&reactor),
                    events: libc::POLLIN,
                    revents: 0,
                };
                // SAFETY: it is one pollfd.
                let ready = unsafe { libc::poll(&raw mut fd, 1, 60_000) };
                assert_eq!(ready, 1, "shared: {shared}, round {round}");
                reactor.poll_turn(&mut cx).unwrap();
            }
            writer.join().unwrap();
        }
    }
}

#[test]
#[should_panic(expected = "has returned its output")]
fn an_output_comes_once() {
    let reactor = reactor();
    let mut stat = reactor.submit(Fstat::new(Fd::cwd()));
    while poll(&mut stat).is_pending() {
        reactor.wait(Wait::any()).unwrap();
    }
    let _ = poll(&mut stat);
}
