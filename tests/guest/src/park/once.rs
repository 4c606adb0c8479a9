// SPDX-License-Identifier: MIT OR Apache-2.0
//! What ends a send that has begun writes its result once: a program that watches the entry takes what
//! it sees first, and would send the beginning again after "not executed".

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;

use super::post_and_look;
use crate::check::Check;
use crate::kit::abi::{DONE, Entry, REASON_NONE};
use crate::kit::engine::Engine;
use crate::kit::limits::need_two_cpus;
use crate::kit::mode::Mode;
use crate::kit::only_thread::OnlyThread;
use crate::kit::ring::Ring;
use crate::kit::stream::{Kind, Stream, Way};
use crate::kit::{chances, patience};
use crate::notify::events;

tests! { "park":
    once_cancelled => "CANCEL of a send that has begun shows the number of bytes, and nothing before";
    once_after_end => "the same for a send whose owner ends";
}

/// More than a pipe holds.
const LONG: usize = 100_000;

/// Returns result and reason of an entry as they are when its status says that it is done. `end` has
/// it end.
fn first_seen(entry: &Entry, end: impl FnOnce() -> Check) -> Check<(i64, u8)> {
    let (watches, over) = (AtomicBool::new(false), AtomicBool::new(false));
    std::thread::scope(|scope| {
        let watcher = scope.spawn(|| {
            watches.store(true, Ordering::Release);
            while entry.status.load(Ordering::Acquire) != DONE {
                if over.load(Ordering::Relaxed) {
                    break;
                }
            }
            let result = entry.result.load(Ordering::Relaxed);
            (result, entry.reason.load(Ordering::Relaxed))
        });
        while !watches.load(Ordering::Acquire) {
            std::thread::yield_now();
        }
        let ended = end();
        over.store(true, Ordering::Relaxed);
        let seen = watcher.join().expect("no panic");
        ended.map(|()| seen)
    })
}

/// Posts a write to a pipe and lets it begin: it is parked, then woken by room for one more page.
/// There is no thread for it, so that it waits for its owner.
fn begin(engine: &Engine, ring: &mut Ring, stream: &Stream) -> Check<usize> {
    let before = engine.stats()?.parked;
    let message = stream.message(LONG);
    let slots = post_and_look(ring, &[message.call(Way::Write, stream.fd())])?;
    check_eq!("parked", engine.stats()?.parked - before, 1);
    stream.take_some(4096)?;
    let there = events(engine.fd(), patience())?;
    check_eq!("a call that waits for its owner", there, libc::POLLIN);
    Ok(slots[0])
}

fn check_seen(seen: (i64, u8), ring: &Ring, slot: usize) -> Check {
    let result = ring.entry(slot).result.load(Ordering::Relaxed);
    check!(result > 0 && result < LONG as i64, "{}", ring.show(slot));
    check_eq!("first seen", seen, (result, REASON_NONE));
    Ok(())
}

fn once_cancelled() -> Check {
    need_two_cpus()?;
    let (engine, mut ring) = Mode::Inline.start(1)?;
    let only = OnlyThread::block(&engine)?;
    for _ in 0..chances(100) {
        let stream = Stream::new(Kind::Pipe)?;
        let slot = begin(&engine, &mut ring, &stream)?;
        let seen = first_seen(ring.entry(slot), || {
            check_eq!("CANCEL", ring.cancel(slot), Ok(0));
            ring.poll_until_done(&[slot])
        })?;
        check_seen(seen, &ring, slot)?;
        ring.reap(slot);
    }
    only.release()
}

fn once_after_end() -> Check {
    need_two_cpus()?;
    let engine = Engine::open()?;
    let only = OnlyThread::block(&engine)?;
    for _ in 0..chances(30) {
        let stream = Stream::new(Kind::Pipe)?;
        let (send, receive) = mpsc::channel();
        let (end, ended) = mpsc::channel::<()>();
        std::thread::scope(|scope| {
            let (engine, stream) = (&engine, &stream);
            let owner = scope.spawn(move || -> Check {
                let registered = ok!("REGISTER", engine.register(1));
                let mut ring = Ring::map(engine.fd(), &registered)?;
                let slot = begin(engine, &mut ring, stream)?;
                let _ = send.send((registered, slot));
                let _ = ended.recv();
                Ok(())
            });
            let Ok((registered, slot)) = receive.recv() else {
                return owner.join().expect("no panic");
            };
            let ring = Ring::map(engine.fd(), &registered)?;
            let seen = first_seen(ring.entry(slot), || {
                drop(end);
                owner.join().expect("no panic")?;
                ring.poll_until_done(&[slot])
            })?;
            check_seen(seen, &ring, slot)?;
            ok!("UNREGISTER", ring.unregister());
            Ok(())
        })?;
    }
    only.release()
}
