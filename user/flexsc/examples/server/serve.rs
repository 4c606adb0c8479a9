// SPDX-License-Identifier: MIT OR Apache-2.0
//! Runs the same handlers with a thread for each connection, or all in one thread.

use std::cell::Cell;
use std::future::poll_fn;
use std::io;
use std::net::TcpListener;
use std::path::PathBuf;
use std::rc::Rc;
use std::task::{Poll, Waker};
use std::thread;

use flexsc::Fd;
use flexsc::futures::Executor;
use flexsc::ops::Accept4;

use super::connection::{Blocking, Connection, Posted, run};
use super::{echo, http, kv};

/// The service that a server provides on its connections.
#[derive(Clone)]
pub enum Service {
    Echo,
    /// Serves the files of this directory.
    Http(PathBuf),
    Kv(kv::Store),
}

impl Service {
    async fn handle(self, peer: impl Connection) {
        let handled = match self {
            Service::Echo => echo::serve(peer).await,
            Service::Http(root) => http::serve(peer, &root).await,
            Service::Kv(store) => kv::serve(peer, store).await,
        };
        if let Err(error) = handled {
            eprintln!("a connection has failed: {error}");
        }
    }
}

/// Serves each connection in a thread of its own.
pub fn with_threads(listener: &TcpListener, service: &Service) -> io::Result<()> {
    loop {
        let (stream, _) = listener.accept()?;
        stream.set_nodelay(true)?;
        let service = service.clone();
        thread::spawn(move || run(service.handle(Blocking(stream))));
    }
}

/// Syscall pages: a connection that waits for its peer has a call in flight.
const PAGES: u32 = 32;

/// Connections at once: this leaves as many calls in flight for the work.
const MOST: usize = PAGES as usize * 32;

/// Serves all connections in this thread.
pub fn with_futures(listener: TcpListener, service: &Service) -> io::Result<()> {
    let executor = Executor::open(PAGES)?;
    let reactor = executor.reactor();
    let listener = Fd::from(listener);
    let places = Rc::new(Places::default());
    executor.block_on(async {
        loop {
            let place = Places::take(&places).await;
            let (stream, _) = reactor.submit(Accept4::new(&listener)).await?;
            no_delay(&stream)?;
            let peer = Posted::new(reactor.clone(), stream);
            let service = service.clone();
            executor.spawn(async move {
                service.handle(peer).await;
                drop(place);
            });
        }
    })?
}

fn no_delay(stream: &std::os::fd::OwnedFd) -> io::Result<()> {
    std::net::TcpStream::from(stream.try_clone()?).set_nodelay(true)
}

/// Counts connections.
#[derive(Default)]
struct Places {
    taken: Cell<usize>,
    waiting: Cell<Option<Waker>>,
}

/// The place of one connection.
struct Place(Rc<Places>);

impl Places {
    /// Waits for a free place. One task at a time.
    async fn take(places: &Rc<Places>) -> Place {
        poll_fn(|cx| {
            if places.taken.get() < MOST {
                return Poll::Ready(());
            }
            places.waiting.set(Some(cx.waker().clone()));
            Poll::Pending
        })
        .await;
        places.taken.set(places.taken.get() + 1);
        Place(Rc::clone(places))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.taken.set(self.0.taken.get() - 1);
        if let Some(waiting) = self.0.waiting.take() {
            waiting.wake();
        }
    }
}
