// SPDX-License-Identifier: MIT OR Apache-2.0
//! The life of an entry, the doorbell words, many entries at once.

use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::atomic::Ordering;

use crate::check::{Check, Ret};
use crate::kit::abi::{self, Ctrl, PAGE_ENTRIES, Policy, REASON_NONE};
use crate::kit::engine::Engine;
use crate::kit::files::{BlockedReads, memory_file, pipe};
use crate::kit::mode::{Mode, in_modes};
use crate::kit::ring::{Call, Done, Ring};
use crate::kit::{Random, rounds, until};

tests! { "entries":
    states => "an entry is free, submitted, busy, done, free in turn, and the words follow";
    nothing_before_wait => "without WAIT or KICK nothing is executed in same-core mode";
    each_slot => "each of the 64 entries works alone, and only its bits change";
    whole_page => "64 different calls in one page give their own results, in every mode";
    sparse => "calls in scattered slots and pages work, posted in any order";
    several_pages => "7 pages full of calls give their results, in every mode";
    in_flight_4096 => "4,096 calls in one registration work, posted at once, in every mode";
    generations => "a slot is used again and again: its bits flip back and forth";
    page_generations => "a full page is used again and again";
    reaped_late => "results stay while other results come and go";
    doorbell_twice => "toggling a bit twice before WAIT posts nothing";
    result_extremes => "the largest results arrive whole";
}

/// A call whose result is `value`: the new offset of a file.
pub fn echo(file: &OwnedFd, value: u64) -> Call {
    call!(SYS_lseek, file.as_raw_fd(), value, libc::SEEK_SET)
}

/// Checks that the results are those of `echo` calls.
pub fn check_echoes(done: &[Done], mut value: impl FnMut(usize) -> u64) -> Check {
    for (index, done) in done.iter().enumerate() {
        let want = value(index) as i64;
        check!(
            done.result == want && done.reason == REASON_NONE,
            "result {index} (slot {}): {} reason {}, expected {want}",
            done.slot,
            Ret(done.result),
            done.reason
        );
    }
    Ok(())
}

fn words(ctrl: &Ctrl) -> (u64, u64, u64, u64) {
    (
        ctrl.posted.load(Ordering::Acquire),
        ctrl.taken.load(Ordering::Acquire),
        ctrl.done.load(Ordering::Acquire),
        ctrl.reaped.load(Ordering::Acquire),
    )
}

fn states() -> Check {
    let engine = Engine::open()?;
    let mut ring = engine.ring(1)?;
    let (from, to) = pipe()?;
    let reads = BlockedReads::new(&from, 1);
    let call = reads.calls()[0];
    // Twice: the bits go up, then down.
    for (before, after) in [(0, 1 << 5), (1 << 5, 0)] {
        let status = |ring: &Ring| ring.entry(5).status.load(Ordering::Acquire);
        check_eq!(
            "words of a free entry",
            words(ring.ctrl(0)),
            (before, before, before, before)
        );
        check_eq!("status of a free entry", status(&ring), abi::FREE);
        ring.stage(5, &call);
        check_eq!("status of a written entry", status(&ring), abi::SUBMITTED);
        ring.ring_bell(0, 1 << 5);
        check_eq!(
            "words of a posted entry",
            words(ring.ctrl(0)),
            (after, before, before, before)
        );
        ring.kicked()?;
        until("the entry is busy", || status(&ring) == abi::BUSY)?;
        ring.until_taken(&[5])?;
        check_eq!(
            "words of a busy entry",
            words(ring.ctrl(0)),
            (after, after, before, before)
        );
        check_eq!(
            "result of a busy entry",
            ring.entry(5).result.load(Ordering::Acquire),
            i64::MIN
        );
        reads.release(&to)?;
        check_eq!("WAIT", ring.wait(Policy::Any), Ok(1));
        check_eq!(
            "words of a done entry",
            words(ring.ctrl(0)),
            (after, after, after, before)
        );
        check_eq!("status of a done entry", status(&ring), abi::DONE);
        check_eq!("WAIT for what is there", ring.wait(Policy::Any), Ok(1));
        let done = ring.reap(5);
        check_eq!(
            "completion",
            done,
            Done {
                slot: 5,
                result: 2,
                reason: REASON_NONE
            }
        );
        check_eq!(
            "words of a reaped entry",
            words(ring.ctrl(0)),
            (after, after, after, after)
        );
        check_eq!("status of a reaped entry", status(&ring), abi::FREE);
        check_eq!("WAIT for nothing", ring.wait(Policy::None), Ok(0));
        reads.check()?;
    }
    Ok(())
}

fn nothing_before_wait() -> Check {
    let engine = Engine::open()?;
    let mut ring = engine.ring(1)?;
    let slots = ring.post_all(&[call!(SYS_getpid); 64]);
    // Other operations of the device do not execute anything either.
    for _ in 0..50 {
        engine.stats()?;
        std::thread::yield_now();
    }
    check_eq!("words", words(ring.ctrl(0)), (u64::MAX, 0, 0, 0));
    check_eq!("posted", engine.stats()?.posted, 0);
    check_eq!("WAIT", ring.wait(Policy::None), Ok(64));
    for slot in slots {
        check_ret!("getpid", ring.reap(slot).result, std::process::id());
    }
    Ok(())
}

fn each_slot() -> Check {
    let file = memory_file()?;
    in_modes(1, |_, ring| {
        let mut state = 0u64;
        for slot in 0..PAGE_ENTRIES {
            let value = slot as u64 * 1000 + 7;
            let call = match ring.mode {
                Mode::Async => echo(&file, value).asynchronous(),
                _ => echo(&file, value),
            };
            ring.post_at(slot, &call);
            check_echoes(&ring.finish(&[slot])?, |_| value)?;
            state |= 1 << slot;
            check_eq!("words", words(ring.ctrl(0)), (state, state, state, state));
        }
        Ok(())
    })
}

fn whole_page() -> Check {
    let file = memory_file()?;
    in_modes(1, |engine, ring| {
        let calls: Vec<Call> = (0..64).map(|n| echo(&file, n * n + 5)).collect();
        let done = ring.run_all(&calls)?;
        check_echoes(&done, |n| (n * n + 5) as u64)?;
        check_eq!(
            "words",
            words(ring.ctrl(0)),
            (u64::MAX, u64::MAX, u64::MAX, u64::MAX)
        );
        let stats = engine.stats()?;
        let inline = if ring.mode == Mode::Inline { 64 } else { 0 };
        check_eq!("posted", stats.posted, 64);
        check_eq!("executed inline", stats.inline_done, inline);
        check_eq!("executed by threads", stats.thread_done, 64 - inline);
        Ok(())
    })
}

fn sparse() -> Check {
    let file = memory_file()?;
    let mut random = Random::new();
    in_modes(3, |_, ring| {
        for _ in 0..rounds(40) {
            let mut slots: Vec<usize> = (0..ring.capacity()).collect();
            for at in (1..slots.len()).rev() {
                slots.swap(at, random.below(at as u64 + 1) as usize);
            }
            slots.truncate(1 + random.below(100) as usize);
            for &slot in &slots {
                let mut call = echo(&file, slot as u64 + 1);
                if ring.mode == Mode::Async {
                    call = call.asynchronous();
                }
                ring.post_at(slot, &call);
            }
            let done = ring.finish(&slots)?;
            check_echoes(&done, |index| slots[index] as u64 + 1)?;
        }
        check_eq!("outstanding", ring.outstanding(), 0);
        Ok(())
    })
}

fn many(pages: u32) -> Check {
    let file = memory_file()?;
    in_modes(pages, |engine, ring| {
        let count = u64::from(pages) * 64;
        let calls: Vec<Call> = (0..count).map(|n| echo(&file, n + 1)).collect();
        let slots = ring.post_all(&calls);
        check_eq!("outstanding", ring.outstanding(), count as usize);
        let done = ring.finish(&slots)?;
        check_echoes(&done, |n| n as u64 + 1)?;
        check_eq!("posted", engine.stats()?.posted, count);
        Ok(())
    })
}

fn several_pages() -> Check {
    many(7)
}

fn in_flight_4096() -> Check {
    many(64)
}

fn generations() -> Check {
    let file = memory_file()?;
    in_modes(1, |_, ring| {
        for round in 0..u64::from(rounds(500)) {
            let slot = ring.post(echo(&file, round + 1));
            check_eq!("slot", slot, 0);
            check_echoes(&ring.finish(&[slot])?, |_| round + 1)?;
            let bit = (round + 1) & 1;
            check_eq!("words", words(ring.ctrl(0)), (bit, bit, bit, bit));
        }
        Ok(())
    })
}

fn page_generations() -> Check {
    let file = memory_file()?;
    in_modes(1, |_, ring| {
        for round in 0..u64::from(rounds(50)) {
            let calls: Vec<Call> = (0..64).map(|n| echo(&file, round * 64 + n + 1)).collect();
            check_echoes(&ring.run_all(&calls)?, |n| round * 64 + n as u64 + 1)?;
            let all = if round % 2 == 0 { u64::MAX } else { 0 };
            check_eq!("words", words(ring.ctrl(0)), (all, all, all, all));
        }
        Ok(())
    })
}

fn reaped_late() -> Check {
    let file = memory_file()?;
    let engine = Engine::open()?;
    let mut ring = engine.ring(1)?;
    let early: Vec<Call> = (0..32).map(|n| echo(&file, 1000 + n)).collect();
    let early = ring.post_all(&early);
    check_eq!("WAIT for all", ring.wait(Policy::All), Ok(32));
    for round in 0..100 {
        let calls: Vec<Call> = (0..32).map(|n| echo(&file, round + n + 1)).collect();
        let late = ring.post_all(&calls);
        check_eq!("WAIT for all", ring.wait(Policy::All), Ok(64));
        let late: Vec<Done> = late.into_iter().map(|slot| ring.reap(slot)).collect();
        check_echoes(&late, |n| round + n as u64 + 1)?;
    }
    let early: Vec<Done> = early.into_iter().map(|slot| ring.reap(slot)).collect();
    check_echoes(&early, |n| 1000 + n as u64)
}

fn doorbell_twice() -> Check {
    let engine = Engine::open()?;
    let mut ring = engine.ring(1)?;
    ring.stage(9, &call!(SYS_getpid));
    ring.ring_bell(0, 1 << 9);
    ring.ring_bell(0, 1 << 9);
    check_eq!("WAIT", ring.wait(Policy::None), Ok(0));
    check_eq!("WAIT for all of nothing", ring.wait(Policy::All), Ok(0));
    check_eq!("words", words(ring.ctrl(0)), (0, 0, 0, 0));
    check_eq!("posted", engine.stats()?.posted, 0);
    Ok(())
}

fn result_extremes() -> Check {
    let file = memory_file()?;
    in_modes(1, |_, ring| {
        let offsets = [
            0,
            1,
            0x7fff_ffff,
            0x8000_0000,
            0xffff_ffff,
            1 << 32,
            i64::MAX as u64,
        ];
        let calls: Vec<Call> = offsets.iter().map(|&at| echo(&file, at)).collect();
        check_echoes(&ring.run_all(&calls)?, |n| offsets[n])?;
        let result = ring.result(echo(&file, u64::MAX))?;
        check_ret!("lseek to -1", result, -libc::EINVAL);
        Ok(())
    })
}
