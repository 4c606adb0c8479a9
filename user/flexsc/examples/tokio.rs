// SPDX-License-Identifier: MIT OR Apache-2.0
//! Runs operations in tasks of tokio, whose runtime waits for the reactor's descriptor.

use std::future::poll_fn;
use std::io;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use flexsc::Fd;
use flexsc::futures::Reactor;
use flexsc::ops::{OFlag, OpenAt, Read};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Turns the reactor forever, as a task of the thread that owns the reactor.
pub async fn drive(reactor: Reactor) -> io::Error {
    // SAFETY: the reactor keeps its descriptor open as long as it exists, and the value owns a
    // clone.
    let fd = unsafe { AsyncFd::register_with_interest(reactor.clone(), Interest::READABLE) };
    let fd = match fd {
        Ok(fd) => fd,
        Err(error) => return error.into(),
    };
    let turn = |cx: &mut Context<'_>| loop {
        if let Err(error) = reactor.poll_turn(cx) {
            return Poll::Ready(error.into());
        }
        match ready!(fd.poll_read_ready(cx)) {
            // Cleared before the next turn takes the results, so that later results show again.
            Ok(mut guard) => guard.clear_ready(),
            Err(error) => return Poll::Ready(error),
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
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let tasks = tokio::task::LocalSet::new();
    let reactor = Reactor::open(1)?;
    tasks.spawn_local(drive(reactor.clone()));
    let read = async {
        let paths = [c"/proc/self/comm", c"/proc/version", c"/proc/loadavg"];
        let heads = paths.map(|path| tokio::task::spawn_local(head(reactor.clone(), path)));
        for head in heads {
            // Dropping the future after this time would cancel its operation.
            let head = tokio::time::timeout(Duration::from_secs(10), head).await??;
            println!("{}", String::from_utf8_lossy(&head?).trim_end());
        }
        Ok(())
    };
    tasks.block_on(&runtime, read)
}
