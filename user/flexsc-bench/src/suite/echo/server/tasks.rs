// SPDX-License-Identifier: MIT OR Apache-2.0
//! The server with a task for each connection, on the crate's executor. As in the other
//! servers, a send and the next recv are in flight at the same time.

use std::future::Future;
use std::io;
use std::os::fd::OwnedFd;
use std::pin::pin;
use std::task::Poll;

use flexsc::futures::{Executor, Reactor};
use flexsc::ops::{Recv, Send};
use flexsc::{Engine, Fd, Ring};

use super::{Counted, ROOM, whole};
use crate::backend::flexsc::failed;

/// Entries of a syscall page.
const ENTRIES: usize = flexsc::abi::FLEXSC_PAGE_ENTRIES as usize;

/// Serves all connections.
pub fn serve(connections: Vec<OwnedFd>) -> io::Result<Counted> {
    let engine = Engine::open().map_err(failed)?;
    // One entry more for the executor's own.
    let pages = (2 * connections.len() + 1).div_ceil(ENTRIES) as u32;
    let pages = engine.register(pages).map_err(failed)?;
    let ring = Ring::new(pages).map_err(|(_, error)| failed(error))?;
    let executor = Executor::new(ring).map_err(failed)?;
    let tasks: Vec<_> = connections
        .into_iter()
        .map(|fd| executor.spawn(echo(executor.reactor().clone(), fd.into())))
        .collect();
    let served = executor.block_on(async {
        let mut served = 0;
        for task in tasks {
            let ended = task.await;
            served += ended.unwrap_or_else(|| Err(io::Error::other("a task was cancelled")))?;
        }
        io::Result::Ok(served)
    });
    let served = served.map_err(failed)??;
    if executor.reactor().plain_calls() != 0 {
        return Err(io::Error::other("the kernel has refused calls"));
    }
    let traps = engine.stats().map_err(failed)?.waits;
    Ok(Counted { traps, served })
}

/// Echoes until the connection ends. Returns the number of requests.
async fn echo(reactor: Reactor, fd: Fd) -> io::Result<u64> {
    let buf = || Vec::with_capacity(ROOM);
    let (mut received, mut spare) = (reactor.submit(Recv::new(&fd, buf())).await, buf());
    let mut served = 0;
    loop {
        let (count, bytes) = received;
        let count = count?;
        if count == 0 {
            return Ok(served);
        }
        served += 1;
        let send = Send::new(&fd, bytes).flags(libc::MSG_NOSIGNAL);
        spare.clear();
        let recv = Recv::new(&fd, spare);
        let (sent, next) = both(reactor.submit(send), reactor.submit(recv)).await;
        whole(sent.0?, count)?;
        (received, spare) = (next, sent.1);
    }
}

/// The outputs of two futures.
async fn both<A: Future, B: Future>(a: A, b: B) -> (A::Output, B::Output) {
    let (mut a, mut b) = (pin!(a), pin!(b));
    let (mut of_a, mut of_b) = (None, None);
    std::future::poll_fn(move |cx| {
        if of_a.is_none() {
            if let Poll::Ready(output) = a.as_mut().poll(cx) {
                of_a = Some(output);
            }
        }
        if of_b.is_none() {
            if let Poll::Ready(output) = b.as_mut().poll(cx) {
                of_b = Some(output);
            }
        }
        match (of_a.take(), of_b.take()) {
            (Some(a), Some(b)) => Poll::Ready((a, b)),
            (a, b) => {
                (of_a, of_b) = (a, b);
                Poll::Pending
            }
        }
    })
    .await
}
