// SPDX-License-Identifier: MIT OR Apache-2.0
//! The crate's futures under tokio and smol, driven as the examples do it.

use std::os::unix::net::UnixStream;
use std::thread;
use std::time::Duration;

use flexsc::Fd;
use flexsc::futures::Reactor;
use flexsc::ops::{Fstat, Recv, Send, Sleep};

#[expect(dead_code, reason = "its main is not called")]
#[path = "../examples/smol.rs"]
mod with_smol;
#[expect(dead_code, reason = "its main is not called")]
#[path = "../examples/tokio.rs"]
mod with_tokio;

/// No test takes that long.
const PATIENCE: Duration = Duration::from_secs(60);

const ROUNDS: u8 = 50;

/// One end of a conversation.
async fn talk(reactor: Reactor, fd: Fd, first: bool) {
    for round in 0..ROUNDS {
        if first || round > 0 {
            let sent = reactor.submit(Send::new(&fd, vec![round; 4])).await;
            assert_eq!(sent.0.unwrap(), 4);
        }
        let (count, buf) = reactor.submit(Recv::new(&fd, Vec::with_capacity(8))).await;
        assert_eq!((count.unwrap(), buf.len()), (4, 4));
        // An operation that is ready at once, and one that takes time.
        reactor.submit(Fstat::new(Fd::cwd())).await.unwrap_err();
        if round % 10 == 0 {
            let moment = Duration::from_micros(100);
            reactor.submit(Sleep::new(moment)).await.unwrap();
        }
    }
    if !first {
        let sent = reactor.submit(Send::new(&fd, vec![0; 4])).await;
        assert_eq!(sent.0.unwrap(), 4);
    }
}

fn pair() -> (Fd, Fd) {
    let (near, far) = UnixStream::pair().unwrap();
    (near.into(), far.into())
}

/// Runs a future on a runtime of tokio with a driven reactor.
fn on_tokio<F: Future<Output = ()>>(run: impl FnOnce(Reactor) -> F) {
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = runtime.enable_all().build().unwrap();
    let tasks = tokio::task::LocalSet::new();
    let reactor = Reactor::open(1).unwrap();
    let driver = tasks.spawn_local(with_tokio::drive(reactor.clone()));
    let run = async { tokio::time::timeout(PATIENCE, run(reactor)).await };
    tasks.block_on(&runtime, run).unwrap();
    assert!(!driver.is_finished());
}

fn on_smol<F: Future<Output = ()>>(run: impl FnOnce(Reactor) -> F) {
    let reactor = Reactor::open(1).unwrap();
    let executor = async_executor::LocalExecutor::new();
    let driver = executor.spawn(with_smol::drive(reactor.clone()));
    async_io::block_on(executor.run(run(reactor)));
    assert!(!driver.is_finished());
}

#[test]
fn tasks_of_tokio_talk() {
    on_tokio(|reactor| async move {
        let ends: Vec<_> = (0..8)
            .flat_map(|_| {
                let (near, far) = pair();
                [
                    talk(reactor.clone(), near, true),
                    talk(reactor.clone(), far, false),
                ]
            })
            .map(tokio::task::spawn_local)
            .collect();
        for end in ends {
            end.await.unwrap();
        }
    });
}

#[test]
fn a_timeout_of_tokio_cancels_an_operation() {
    on_tokio(|reactor| async move {
        let (near, _far) = pair();
        let recv = reactor.submit(Recv::new(&near, vec![0; 8]));
        let late = tokio::time::timeout(Duration::from_millis(5), recv).await;
        assert!(late.is_err());
        while reactor.in_flight() > 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    });
}

#[test]
fn two_threads_with_tasks_of_smol_talk() {
    let (near, far) = pair();
    // Each thread has pages of its own, and each may poll for the other.
    let threads = [(near, true), (far, false)]
        .map(|(fd, first)| thread::spawn(move || on_smol(|reactor| talk(reactor, fd, first))));
    for thread in threads {
        thread.join().unwrap();
    }
}
