// SPDX-License-Identifier: MIT OR Apache-2.0
//! Runs operations in tasks of smol (its parts async-executor and async-io), whose reactor
//! waits for the descriptor of ours.

use std::future::poll_fn;
use std::io;
use std::task::{Context, Poll, ready};

use async_executor::LocalExecutor;
use async_io::Async;
use flexsc::Fd;
use flexsc::futures::Reactor;
use flexsc::ops::{OFlag, OpenAt, Read};

/// Turns the reactor forever, as a task of the thread that owns the reactor.
pub async fn drive(reactor: Reactor) -> io::Error {
    // Any thread of the program may poll for smol.
    if let Err(error) = reactor.share_descriptor() {
        return error.into();
    }
    let fd = match Async::new(reactor.clone()) {
        Ok(fd) => fd,
        Err(error) => return error,
    };
    let turn = |cx: &mut Context<'_>| loop {
        if let Err(error) = reactor.poll_turn(cx) {
            return Poll::Ready(error.into());
        }
        if let Err(error) = ready!(fd.poll_readable(cx)) {
            return Poll::Ready(error);
        }
    };
    poll_fn(turn).await
}

/// Reads the start of a file.
async fn head(reactor: Reactor, path: &'static std::ffi::CStr) -> io::Result<Vec<u8>> {
    let open = OpenAt::new(Fd::cwd(), path, OFlag::O_RDONLY | OFlag::O_CLOEXEC);
    let file = reactor.submit(open).await.0?;
    let (count, buf) = reactor
        .submit(Read::new(file, Vec::with_capacity(64)))
        .await;
    count.map(|_| buf)
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let reactor = Reactor::open(1)?;
    let executor = LocalExecutor::new();
    executor.spawn(drive(reactor.clone())).detach();
    let read = async {
        let paths = [c"/proc/self/comm", c"/proc/version", c"/proc/loadavg"];
        let heads = paths.map(|path| executor.spawn(head(reactor.clone(), path)));
        for head in heads {
            println!("{}", String::from_utf8_lossy(&head.await?).trim_end());
        }
        Ok(())
    };
    async_io::block_on(executor.run(read))
}
