// SPDX-License-Identifier: MIT OR Apache-2.0
//! CANCEL of a call in each of its states.

pub mod batch;
pub mod chains;
pub mod faults;
pub mod pools;

mod blockers;

use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use nix::errno::Errno;

use self::blockers::Blockers;
use crate::check::Check;
use crate::kit::abi::{self, Cancel, Param, Policy, REASON_CANCELLED, REASON_NONE};
use crate::kit::child::in_child;
use crate::kit::engine::{self, Engine};
use crate::kit::files::{BlockedReads, Leased, TempDir, pipe, readable, socket_pair, write_all};
use crate::kit::latency::Latency;
use crate::kit::limits::{many, slow_kernel};
use crate::kit::mode::{Mode, in_modes};
use crate::kit::ring::{Call, Done, Ring, check_done};
use crate::kit::{STARVING, chances, in_some_try, in_time, rounds, sys, until};

tests! { "cancel":
    posted => "an entry that no thread has taken is ECANCELED and not executed";
    queued => "an entry that waits for a syscall thread is ECANCELED at once, unlike others";
    blocked => "each kind of blocked call soon ends with EINTR, in every mode";
    all_blocked => "60 blocked calls are cancelled one by one; the others stay blocked";
    partial_read => "a read that has received part of its bytes returns that part";
    partial_write => "a write that has written part of its bytes returns that part";
    inline_blocked => "a call in which the owner blocks inside WAIT ends with EINTR; WAIT goes on";
    too_late => "a finished entry is ENOENT and keeps its result";
    nothing_there => "CANCEL of a free entry is ENOENT, of an entry beyond the pages EINVAL";
    bad_arguments => "CANCEL with a wrong size, flag, registration or address is an error";
    by_other_thread => "any thread of the process may cancel; another process gets EPERM";
    race_with_completion => "a call cancelled as it completes gives the whole result or EINTR";
    slot_used_again => "the next call in a cancelled slot is not cancelled";
    counted => "QUERY counts the CANCEL calls that have found a call";
}

/// Cancels the call in a slot and returns its result.
fn cancel(ring: &mut Ring, latency: &mut Latency, slot: usize) -> Check<Done> {
    let begin = Instant::now();
    check_eq!("CANCEL", ring.cancel(slot), Ok(0));
    until("the result of a cancelled call", || ring.is_done(slot))
        .and_then(|()| latency.add(begin))
        .map_err(|failure| failure.within(ring.show(slot)))?;
    Ok(ring.reap(slot))
}

const ECANCELED: i64 = -(libc::ECANCELED as i64);
const EINTR: i64 = -(libc::EINTR as i64);

fn check_interrupted(what: &str, done: Done) -> Check {
    check_done(what, done, EINTR, REASON_NONE)
}

fn check_never_begun(done: Done) -> Check {
    check_done(
        "an entry that was not begun",
        done,
        ECANCELED,
        REASON_CANCELLED,
    )
}

/// A write into the pipe, which shows whether the entry was executed.
fn write_to(to: &OwnedFd) -> Call {
    call!(SYS_write, to, c"x".as_ptr(), 1)
}

fn check_empty(from: &OwnedFd) -> Check {
    check!(
        !readable(from, Duration::ZERO),
        "a cancelled write was executed"
    );
    Ok(())
}

fn posted() -> Check {
    let engine = Engine::open()?;
    let mut ring = engine.ring(2)?;
    let (from, to) = pipe()?;
    for slot in [0, 31, 63, 64, 127] {
        ring.post_at(slot, &write_to(&to));
        check_eq!("CANCEL", ring.cancel(slot), Ok(0));
        check!(ring.is_done(slot), "not done: {}", ring.show(slot));
        check_eq!("second CANCEL", ring.cancel(slot), Err(Errno::ENOENT));
        check_never_begun(ring.reap(slot))?;
    }
    check_eq!("ALL", ring.wait(Policy::All), Ok(0));
    check_empty(&from)?;
    // Cancels one of many.
    let slots = ring.post_all(&[write_to(&to); 64]);
    check_eq!("CANCEL", ring.cancel(slots[20]), Ok(0));
    for done in ring.finish(&slots)? {
        if done.slot == slots[20] {
            check_never_begun(done)?;
        } else {
            check_ret!("write", done.result, 1);
        }
    }
    Ok(())
}

fn queued() -> Check {
    let mut latency = Latency::default();
    for mode in [Mode::Async, Mode::Kick, Mode::Poller] {
        in_some_try("CANCEL before entries are STARVED", |_| {
            in_time(STARVING, || cancel_queued(mode, &mut latency))
        })
        .map_err(|failure| failure.within(format_args!("mode {mode:?}")))?;
    }
    latency.check("CANCEL")
}

fn cancel_queued(mode: Mode, latency: &mut Latency) -> Check {
    let (engine, mut ring) = mode.start(1)?;
    engine.set(Param::MaxThreads, 2)?;
    let (from, to) = pipe()?;
    let (sink, into) = pipe()?;
    let reads = BlockedReads::new(&from, 8);
    let blocked = ring.post_blocked(&reads.calls())?;
    // Otherwise a thread might begin the entries that are posted now.
    engine.until_stats("two blocked threads", |stats| stats.peak_blocked >= 2)?;
    let writes = ring.post_all(&[write_to(&into).asynchronous(); 12]);
    cancel_some(&mut ring, latency, &writes)?;
    check_empty(&sink)?;
    reads.release(&to)?;
    finish_others(&mut ring, &blocked, &writes, &sink)
}

/// Four entries in the middle of twelve that wait for a thread.
const SOME: std::ops::Range<usize> = 4..8;

/// Cancels [`SOME`] of the writes, none of which has begun.
fn cancel_some(ring: &mut Ring, latency: &mut Latency, writes: &[usize]) -> Check {
    ring.kicked()?;
    for &slot in &writes[SOME] {
        check_never_begun(cancel(ring, latency, slot)?)?;
    }
    Ok(())
}

/// Checks that only the blocked calls and the writes that were not cancelled are executed.
fn finish_others(ring: &mut Ring, blocked: &[usize], writes: &[usize], sink: &OwnedFd) -> Check {
    for done in ring.finish(blocked)? {
        check_ret!("read", done.result, 2);
    }
    let others = writes[..SOME.start].iter().chain(&writes[SOME.end..]);
    for &slot in others {
        check_ret!("write", ring.finish(&[slot])?[0].result, 1);
    }
    let mut bytes = [0u8; 32];
    let left = (writes.len() - SOME.len()) as i64;
    check_ret!(
        "bytes",
        plain!(SYS_read, sink, bytes.as_mut_ptr(), 32),
        left
    );
    Ok(())
}

fn blocked() -> Check {
    let mut latency = Latency::default();
    let mut cancel_all = |engine: &Engine, ring: &mut Ring| {
        let mut blockers = Blockers::new()?;
        let (what, calls): (Vec<_>, Vec<_>) = blockers.calls().into_iter().unzip();
        let slots = ring.post_blocked(&calls)?;
        let count = engine.stats()?;
        engine.until_stats("all blocked", |stats| {
            stats.peak_blocked >= calls.len() as u64
        })?;
        for (&slot, what) in slots.iter().zip(&what) {
            check!(
                !ring.is_done(slot),
                "{what} does not block: {}",
                ring.show(slot)
            );
        }
        for (&slot, what) in slots.iter().zip(&what) {
            check_interrupted(what, cancel(ring, &mut latency, slot)?)?;
        }
        check_eq!("posted", engine.stats()?.posted, count.posted);
        let pid = i64::from(std::process::id());
        for done in ring.run_all(&[call!(SYS_getpid); 64])? {
            check_ret!("getpid afterwards", done.result, pid);
        }
        Ok(())
    };
    (0..rounds(1)).try_for_each(|_| in_modes(1, &mut cancel_all))?;
    latency.check("CANCEL")
}

fn all_blocked() -> Check {
    let mut latency = Latency::default();
    in_modes(1, |_, ring| {
        let (from, to) = pipe()?;
        let reads = BlockedReads::new(&from, many(60));
        let slots = ring.post_blocked(&reads.calls())?;
        for &slot in slots.iter().step_by(3) {
            let done = cancel(ring, &mut latency, slot)?;
            // Perhaps no thread has begun the entry.
            if done.reason == REASON_CANCELLED {
                check_never_begun(done)?;
            } else {
                check_interrupted("read", done)?;
            }
        }
        write_all(&to, &vec![1; 2 * (slots.len() - slots.len().div_ceil(3))])?;
        for (number, &slot) in slots.iter().enumerate() {
            if number % 3 != 0 {
                check_ret!("read beside", ring.finish(&[slot])?[0].result, 2);
            }
        }
        Ok(())
    })?;
    latency.check("CANCEL")
}

/// Posts one call and waits until it sleeps.
fn post_sleeping(engine: &Engine, ring: &mut Ring, call: Call) -> Check<usize> {
    let slot = ring.post_blocked(&[call])?[0];
    engine.until_stats("a blocked call", |stats| stats.peak_blocked >= 1)?;
    Ok(slot)
}

fn partial_read() -> Check {
    let mut latency = Latency::default();
    in_modes(1, |engine, ring| {
        let (here, there) = socket_pair()?;
        let mut buffer = [0u8; 10];
        let at = buffer.as_mut_ptr();
        let call = call!(SYS_recvfrom, &here, at, 10, libc::MSG_WAITALL, 0, 0);
        write_all(&there, b"abcd")?;
        let slot = post_sleeping(engine, ring, call)?;
        until("the bytes taken", || !readable(&here, Duration::ZERO))?;
        let done = cancel(ring, &mut latency, slot)?;
        check_done("recvfrom of 10 bytes, 4 there", done, 4, REASON_NONE)?;
        check_eq!("bytes", buffer[..4], *b"abcd");
        Ok(())
    })
}

fn partial_write() -> Check {
    let mut latency = Latency::default();
    in_modes(1, |engine, ring| {
        let (from, to) = pipe()?;
        let room = plain!(SYS_fcntl, &to, libc::F_GETPIPE_SZ);
        let bytes = vec![1u8; room as usize * 2];
        let call = call!(SYS_write, &to, bytes.as_ptr(), bytes.len());
        let slot = post_sleeping(engine, ring, call)?;
        let mut there = 0i32;
        until("a full pipe", || {
            let at = std::ptr::from_mut(&mut there);
            plain!(SYS_ioctl, &from, libc::FIONREAD, at);
            i64::from(there) == room
        })?;
        check_done(
            "write",
            cancel(ring, &mut latency, slot)?,
            room,
            REASON_NONE,
        )
    })
}

fn inline_blocked() -> Check {
    let dir = TempDir::new()?;
    let leased = Leased::at(dir.join("leased"))?;
    for _ in 0..rounds(5) {
        let engine = Engine::open()?;
        let mut ring = engine.ring(1)?;
        let mut calls = [call!(SYS_getpid); 8];
        calls[3] = leased.open();
        let slots = ring.post_all(&calls);
        let (fd, id) = (engine.fd(), ring.id);
        let got = std::thread::scope(|scope| {
            let other = scope.spawn(|| -> Check {
                engine.until_stats("the blocked owner", |stats| stats.peak_blocked >= 1)?;
                check_eq!("CANCEL", engine::cancel(fd, id, slots[3]), Ok(0));
                Ok(())
            });
            let got = ring.wait(Policy::All);
            other.join().expect("no panic").map(|()| got)
        })?;
        check_eq!("ALL", got, Ok(8));
        for (number, &slot) in slots.iter().enumerate() {
            let done = ring.reap(slot);
            if number == 3 {
                check_interrupted("open of a leased file", done)?;
            } else {
                check_ret!("getpid", done.result, std::process::id());
            }
        }
    }
    Ok(())
}

fn too_late() -> Check {
    in_modes(1, |_, ring| {
        let slots = ring.post_all(&[call!(SYS_getpid); 4]);
        match ring.mode {
            Mode::Inline | Mode::Async => drop(ok!("WAIT", ring.wait(Policy::All))),
            Mode::Kick | Mode::Poller => {
                ring.kicked()?;
                ring.poll_until_done(&slots)?;
            }
        }
        for slot in slots {
            check_eq!("CANCEL", ring.cancel(slot), Err(Errno::ENOENT));
            check_ret!("getpid", ring.reap(slot).result, std::process::id());
            check_eq!("CANCEL", ring.cancel(slot), Err(Errno::ENOENT));
        }
        Ok(())
    })
}

fn nothing_there() -> Check {
    in_modes(2, |_, ring| {
        for slot in [0, 63, 64, 127] {
            check_eq!("CANCEL", ring.cancel(slot), Err(Errno::ENOENT));
        }
        for slot in [128, 4096, u32::MAX as usize] {
            check_eq!("CANCEL", ring.cancel(slot), Err(Errno::EINVAL));
        }
        check_ret!(
            "getpid",
            ring.result(call!(SYS_getpid))?,
            std::process::id()
        );
        Ok(())
    })
}

fn bad_arguments() -> Check {
    let engine = Engine::open()?;
    let mut ring = engine.ring(1)?;
    let slot = ring.post(call!(SYS_getpid));
    let good = Cancel {
        size: size_of::<Cancel>() as u32,
        id: ring.id,
        index: slot as u32,
        flags: 0,
    };
    let cases = [
        (Cancel { size: 0, ..good }, Errno::EINVAL),
        (Cancel { size: 12, ..good }, Errno::EINVAL),
        (Cancel { size: 20, ..good }, Errno::EINVAL),
        (Cancel { flags: 1, ..good }, Errno::EINVAL),
        (
            Cancel {
                id: ring.id + 1,
                ..good
            },
            Errno::ENOENT,
        ),
        (
            Cancel {
                id: u32::MAX,
                ..good
            },
            Errno::ENOENT,
        ),
    ];
    for (mut arg, error) in cases {
        let got = sys::ioctl_with(engine.fd(), abi::IOC_CANCEL, &mut arg);
        check_eq!(format!("CANCEL {arg:?}"), got, Err(error));
    }
    let fault = sys::ioctl(engine.fd(), abi::IOC_CANCEL, 8);
    check_eq!("CANCEL at address 8", fault, Err(Errno::EFAULT));
    check_ret!(
        "getpid",
        ring.finish(&[slot])?[0].result,
        std::process::id()
    );
    Ok(())
}

fn by_other_thread() -> Check {
    in_modes(1, |engine, ring| {
        let (from, _to) = pipe()?;
        let reads = BlockedReads::new(&from, 2);
        let slots = ring.post_blocked(&reads.calls())?;
        engine.until_stats("two blocked calls", |stats| stats.peak_blocked >= 2)?;
        let (fd, id) = (engine.fd(), ring.id);
        in_child(|| {
            check_eq!("by a child", engine::cancel(fd, id, 0), Err(Errno::EPERM));
            Ok(())
        })?;
        check!(
            slots.iter().all(|&slot| !ring.is_done(slot)),
            "a read is done"
        );
        for slot in slots {
            let got = std::thread::scope(|scope| {
                let other = scope.spawn(|| engine::cancel(fd, id, slot));
                other.join().expect("no panic")
            });
            check_eq!("by another thread", got, Ok(0));
            until("the result", || ring.is_done(slot))?;
            check_interrupted("read", ring.reap(slot))?;
        }
        Ok(())
    })
}

fn race_with_completion() -> Check {
    let mut cancelled = 0;
    in_modes(1, |_, ring| {
        let (from, to) = pipe()?;
        for round in 0..rounds(if slow_kernel() { 50 } else { 150 }) {
            let reads = BlockedReads::new(&from, 1);
            let slot = ring.post_blocked(&reads.calls())?[0];
            if round % 2 == 0 {
                std::thread::sleep(Duration::from_micros(u64::from(round % 50) * 10));
            }
            std::thread::scope(|scope| {
                scope.spawn(|| write_all(&to, &[1, 0]));
                for _ in 0..round % 7 {
                    sys::yield_now();
                }
                let got = ring.cancel(slot);
                check!(matches!(got, Ok(0) | Err(Errno::ENOENT)), "CANCEL: {got:?}");
                Ok(())
            })?;
            let done = ring.finish(&[slot])?[0];
            if done.result == 2 {
                continue;
            }
            cancelled += 1;
            check!(
                done.result == EINTR || done.reason == REASON_CANCELLED,
                "{done:?}"
            );
            // No read takes the word.
            let mut word = [0u8; 2];
            check_ret!("left", plain!(SYS_read, &from, word.as_mut_ptr(), 2), 2);
        }
        Ok(())
    })?;
    println!("# {cancelled} cancelled in time");
    Ok(())
}

fn slot_used_again() -> Check {
    let nap = [0i64, 200_000];
    in_modes(1, |engine, ring| {
        let (from, _to) = pipe()?;
        let reads = BlockedReads::new(&from, 1);
        for _ in 0..chances(60) {
            ring.post_at(5, &reads.calls()[0]);
            ring.kicked()?;
            ring.until_taken(&[5])?;
            check_eq!("CANCEL", ring.cancel(5), Ok(0));
            until("the result", || ring.is_done(5))?;
            let done = ring.reap(5);
            check!(
                done.result == EINTR || done.reason == REASON_CANCELLED,
                "{done:?}"
            );
            // Uses the same slot and the same thread again at once.
            ring.post_at(5, &call!(SYS_nanosleep, nap.as_ptr(), 0).asynchronous());
            ring.kicked()?;
            until("the result", || ring.is_done(5))?;
            check_done("nanosleep", ring.reap(5), 0, REASON_NONE)?;
        }
        engine.stats().map(|_| ())
    })
}

fn counted() -> Check {
    let engine = Engine::open()?;
    let mut ring = engine.ring(1)?;
    let slot = ring.post(call!(SYS_getpid));
    let _ = ring.cancel(60);
    let _ = ring.cancel(slot);
    check_eq!("cancels", engine.stats()?.cancels, 1);
    let _ = ring.cancel(slot);
    check_eq!("cancels", engine.stats()?.cancels, 1);
    Ok(())
}
