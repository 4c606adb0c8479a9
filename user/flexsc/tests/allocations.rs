// SPDX-License-Identifier: MIT OR Apache-2.0
//! Checks that after a warm-up neither a ring nor an executor allocates for a call. With
//! plain calls they start threads, so this test needs an engine.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::os::unix::net::UnixStream;

use flexsc::futures::Executor;
use flexsc::ops::{Fsync, Read, Recv, Send, Slice, Write};
use flexsc::{Engine, Fd, Ring, Wait};

/// Counts the allocations of each thread.
struct Counting;

thread_local! {
    static COUNT: Cell<u64> = const { Cell::new(0) };
}

// SAFETY: passes everything on.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        COUNT.set(COUNT.get() + 1);
        // SAFETY: the caller's promise.
        unsafe { System.alloc(layout) }
    }

    unsafe fn realloc(&self, at: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        COUNT.set(COUNT.get() + 1);
        // SAFETY: the caller's promise.
        unsafe { System.realloc(at, layout, size) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise.
        unsafe { System.dealloc(at, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Returns true if there is an engine, and reports it if not.
fn engine() -> bool {
    let there = Engine::open().is_ok();
    if !there {
        eprintln!("skipped: there is no engine");
    }
    there
}

/// Returns how many allocations this function makes in this thread.
fn allocations(act: impl FnOnce()) -> u64 {
    let before = COUNT.get();
    act();
    COUNT.get() - before
}

fn pair() -> (Fd, Fd) {
    let (near, far) = UnixStream::pair().unwrap();
    (near.into(), far.into())
}

#[test]
fn allocations_are_counted() {
    let one = allocations(|| drop(std::hint::black_box(Box::new(1))));
    assert_eq!(one, 1);
    assert_eq!(allocations(|| ()), 0);
}

/// A buffer of bytes to send, and one that is received to.
type Bufs = (Vec<u8>, Vec<u8>);

/// Sends and receives some messages, each by two operations in flight together.
fn rounds(ring: &mut Ring, near: &Fd, far: &Fd, (mut to_send, mut to_recv): Bufs) -> Bufs {
    for round in 0..100 {
        let sync = Fsync::new(near);
        if round % 2 == 0 {
            ring.submit(Read::new(far, to_recv), 0).unwrap();
            ring.submit(Write::new(near, to_send), 1).unwrap();
        } else {
            ring.submit(Recv::new(far, to_recv), 0).unwrap();
            ring.submit(Send::new(near, to_send), 1).unwrap();
        }
        ring.submit(sync, 2).unwrap();
        ring.wait(Wait::all()).unwrap();
        (to_send, to_recv) = (Vec::new(), Vec::new());
        while let Some(mut done) = ring.next() {
            match done.token {
                0 => to_recv = std::mem::take(&mut done.buf),
                1 => to_send = std::mem::take(&mut done.buf),
                _ => assert!(done.output::<Fsync>().is_err()),
            }
        }
        assert_eq!((to_send.len(), to_recv.len()), (16, 16));
    }
    (to_send, to_recv)
}

#[test]
fn a_ring_allocates_nothing_for_a_call() {
    if !engine() {
        return;
    }
    let mut ring = Ring::open(1).unwrap();
    let (near, far) = pair();
    let mut bufs = (vec![7; 16], vec![0; 16]);
    bufs = rounds(&mut ring, &near, &far, bufs);
    let count = allocations(|| std::mem::forget(rounds(&mut ring, &near, &far, bufs)));
    assert_eq!(ring.plain_calls(), 0);
    assert_eq!(count, 0);
}

/// Sends back all received bytes.
async fn echo(executor: Executor, fd: Fd) {
    let mut buf = Vec::with_capacity(16);
    loop {
        let (count, received) = executor.reactor().submit(Recv::new(&fd, buf)).await;
        if count.unwrap() == 0 {
            return;
        }
        let (sent, back) = executor.reactor().submit(Send::new(&fd, received)).await;
        assert_eq!(sent.unwrap(), 16);
        buf = back;
        buf.clear();
    }
}

#[test]
fn an_executor_allocates_nothing_for_a_call() {
    if !engine() {
        return;
    }
    let executor = Executor::open(1).unwrap();
    let peers: Vec<_> = (0..8).map(|_| pair()).collect();
    let mut counts = Vec::with_capacity(100);
    executor
        .block_on(async {
            for (near, _) in &peers {
                executor.spawn(echo(executor.clone(), near.clone()));
            }
            let mut bufs = Some((vec![7; 16], vec![0; 16]));
            for round in 0..100 {
                let before = COUNT.get();
                for (_, far) in &peers {
                    let (to_send, to_recv) = bufs.take().unwrap();
                    let send = Send::new(far, to_send);
                    let (sent, to_send) = executor.reactor().submit(send).await;
                    let recv: Recv<Slice<Vec<u8>>> =
                        Recv::new(far, flexsc::ops::IoBuf::slice(to_recv, ..16));
                    let (count, part) = executor.reactor().submit(recv).await;
                    assert_eq!((sent.unwrap(), count.unwrap()), (16, 16));
                    bufs = Some((to_send, part.into_inner()));
                }
                if round >= 10 {
                    counts.push(COUNT.get() - before);
                }
            }
        })
        .unwrap();
    assert_eq!(executor.reactor().plain_calls(), 0);
    assert!(counts.iter().all(|&count| count == 0), "{counts:?}");
}
