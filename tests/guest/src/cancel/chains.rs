// SPDX-License-Identifier: MIT OR Apache-2.0
//! CANCEL of entries in chains and loops.

use std::os::fd::OwnedFd;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::{ECANCELED, EINTR, check_empty, write_to};
use crate::check::Check;
use crate::kit::abi::{
    ENTRY_ALWAYS, ENTRY_LOOP, MAX_ROUNDS, Param, Policy, REASON_CANCELLED, REASON_CHAIN,
    REASON_NONE, SUBMITTED,
};
use crate::kit::engine::Engine;
use crate::kit::files::{BlockedReads, pipe};
use crate::kit::latency::Latency;
use crate::kit::mode::in_modes;
use crate::kit::ring::{Call, Ring, check_done, linked};
use crate::kit::{memory, sys, until};

tests! { "cancel":
    chain_member => "CANCEL of an entry of a chain cancels those behind it, not those before it";
    chain_waiting => "CANCEL of an entry that a chain has not reached leaves those before it";
    chain_posted => "CANCEL in a posted chain that no thread has taken leaves those before it too";
    chain_taken_back => "CANCEL of a call that is taken back does not hit the entry's next call";
    running_loop => "CANCEL of a running loop ends it";
}

/// Posts a chain: a write, a read that blocks, two writes. Returns its slots when the read sleeps.
fn blocked_chain(
    engine: &Engine,
    ring: &mut Ring,
    reads: &BlockedReads,
    into: &OwnedFd,
) -> Check<Vec<usize>> {
    let write = write_to(into);
    let chain = [
        linked(write),
        linked(reads.calls()[0]),
        linked(write),
        write,
    ];
    let slots = ring.post_blocked(&chain)?;
    engine.until_stats("the blocked read", |stats| stats.peak_blocked >= 1)?;
    Ok(slots)
}

fn check_written(sink: &OwnedFd, count: i64) -> Check {
    let mut bytes = [0u8; 16];
    if count == 0 {
        return check_empty(sink);
    }
    check_ret!(
        "writes made",
        plain!(SYS_read, sink, bytes.as_mut_ptr(), 16),
        count
    );
    Ok(())
}

fn check_chain(ring: &mut Ring, slots: &[usize], want: [(i64, u8); 4]) -> Check {
    until("the end of the chain", || {
        slots.iter().all(|&slot| ring.is_done(slot))
    })
    .map_err(|failure| failure.within(ring.show(slots[3])))?;
    for (number, (&slot, (result, reason))) in slots.iter().zip(want).enumerate() {
        check_done(
            &format!("entry {number} of the chain"),
            ring.reap(slot),
            result,
            reason,
        )?;
    }
    Ok(())
}

fn chain_member() -> Check {
    in_modes(1, |engine, ring| {
        let ((from, _to), (sink, into)) = (pipe()?, pipe()?);
        let reads = BlockedReads::new(&from, 1);
        let slots = blocked_chain(engine, ring, &reads, &into)?;
        check_eq!("CANCEL", ring.cancel(slots[1]), Ok(0));
        let behind = (ECANCELED, REASON_CHAIN);
        let want = [(1, REASON_NONE), (EINTR, REASON_NONE), behind, behind];
        check_chain(ring, &slots, want)?;
        check_written(&sink, 1)
    })
}

fn chain_waiting() -> Check {
    in_modes(1, |engine, ring| {
        let ((from, to), (sink, into)) = (pipe()?, pipe()?);
        let reads = BlockedReads::new(&from, 1);
        let slots = blocked_chain(engine, ring, &reads, &into)?;
        check_eq!("CANCEL", ring.cancel(slots[2]), Ok(0));
        // CANCEL does not affect the entries before this one.
        reads.release(&to)?;
        let want = [
            (1, REASON_NONE),
            (2, REASON_NONE),
            (ECANCELED, REASON_CANCELLED),
            (ECANCELED, REASON_CHAIN),
        ];
        check_chain(ring, &slots, want)?;
        check_written(&sink, 1)
    })
}

fn chain_posted() -> Check {
    let engine = Engine::open()?;
    let mut ring = engine.ring(1)?;
    let (sink, into) = pipe()?;
    let write = write_to(&into);
    for cancelled in 0..4usize {
        let chain = [linked(write), linked(write), linked(write), write];
        let slots = ring.post_all(&chain);
        check_eq!("CANCEL", ring.cancel(slots[cancelled]), Ok(0));
        check!(ring.wait(Policy::All).is_ok(), "ALL failed");
        let want = std::array::from_fn(|number| match number.cmp(&cancelled) {
            std::cmp::Ordering::Less => (1, REASON_NONE),
            std::cmp::Ordering::Equal => (ECANCELED, REASON_CANCELLED),
            std::cmp::Ordering::Greater => (ECANCELED, REASON_CHAIN),
        });
        check_chain(&mut ring, &slots, want)
            .map_err(|failure| failure.within(format_args!("CANCEL of entry {cancelled}")))?;
        check_written(&sink, cancelled as i64)?;
    }
    Ok(())
}

fn chain_taken_back() -> Check {
    let engine = Engine::open()?;
    let mut ring = engine.ring(1)?;
    let always = Call {
        flags: ENTRY_ALWAYS,
        ..call!(SYS_close, -1)
    };
    let pid = i64::from(std::process::id());
    let again = [call!(SYS_getpid), call!(SYS_getpid).asynchronous()];
    for next in [&again[..1], &again[1..], &[linked(again[0]), again[0]]] {
        // No thread has taken the entry yet, and none will.
        let slots = ring.post_all(&[linked(call!(SYS_getppid)), always]);
        check_eq!("CANCEL", ring.cancel(slots[0]), Ok(0));
        ring.ring_bell(0, slots.iter().fold(0, |bits, slot| bits | (1 << slot)));
        for done in ring.run_all(next)? {
            check_done("getpid", done, pid, REASON_NONE)?;
        }
    }
    Ok(())
}

fn running_loop() -> Check {
    let nap = [0i64, 300_000];
    let zeros = memory::pages(4096)?;
    let zero = ok!("/dev/zero", sys::open(c"/dev/zero", libc::O_RDONLY, 0));
    let looped = |call: Call| Call {
        flags: call.flags | ENTRY_LOOP,
        ..call
    };
    let read = looped(call!(SYS_read, &zero, zeros, 64));
    // A poll with a time limit returns 0, which would end the loop; a read of a timer does not.
    let timer = sys::own(plain!(SYS_timerfd_create, libc::CLOCK_MONOTONIC, 0) as i32);
    let every = [nap, nap];
    let set = plain!(SYS_timerfd_settime, &timer, 0, every.as_ptr(), 0);
    check_ret!("timerfd_settime", set, 0);
    let tick = looped(call!(SYS_read, &timer, zeros, 8));
    let mut latency = Latency::default();
    in_modes(1, |engine, ring| {
        engine.set(Param::LoopMax, MAX_ROUNDS)?;
        // Cancels each entry of a loop that runs and of a loop that sleeps most of the time.
        for (chain, what) in [([read, read], "running"), ([read, tick], "sleeping")] {
            for cancelled in 0..2 {
                let before = engine.stats()?.chains;
                let slots = ring.post_blocked(&[linked(chain[0]), chain[1]])?;
                until("the beginning of the loop", || {
                    ring.entry(slots[0]).status.load(Ordering::Acquire) > SUBMITTED
                })?;
                std::thread::sleep(Duration::from_millis(3));
                check!(!ring.is_done(slots[0]), "the loop has ended by itself");
                let begin = Instant::now();
                check_eq!("CANCEL", ring.cancel(slots[cancelled]), Ok(0));
                until("the end of the loop", || {
                    slots.iter().all(|&slot| ring.is_done(slot))
                })
                .and_then(|()| latency.add(begin))
                .map_err(|failure| failure.within(ring.show(slots[cancelled])))
                .map_err(|failure| failure.within(what))?;
                let done = ring.reap(slots[cancelled]);
                check!(
                    (done.result == EINTR && done.reason == REASON_NONE)
                        || (done.result == ECANCELED && done.reason == REASON_CANCELLED),
                    "{what}, CANCEL of entry {cancelled}: {done:?}"
                );
                ring.reap(slots[1 - cancelled]);
                check_eq!("chains", engine.stats()?.chains, before + 1);
            }
        }
        check_ret!(
            "getpid",
            ring.result(call!(SYS_getpid))?,
            std::process::id()
        );
        Ok(())
    })?;
    latency.check("CANCEL of a loop")
}
