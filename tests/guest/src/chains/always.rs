// SPDX-License-Identifier: MIT OR Apache-2.0
//! Entries that start although an earlier entry of their chain has failed.

use std::ffi::CStr;
use std::os::fd::OwnedFd;

use super::{check_cancelled, content, flagged, opening, taking};
use crate::check::Check;
use crate::kit::abi::{
    ENTRY_ALWAYS, ENTRY_LINK, ENTRY_LOOP, PAGE_ENTRIES, Param, Policy, REASON_CANCELLED,
    REASON_CHAIN, REASON_LIFE, REASON_NONE, take,
};
use crate::kit::engine::Engine;
use crate::kit::files::{BlockedReads, TempDir, memory_file, pipe};
use crate::kit::mode::{Mode, in_modes};
use crate::kit::ring::{Call, Ring, check_done, linked};
use crate::kit::{STARVING, in_some_try, in_time, patience, sys, until};

tests! { "chains":
    close_in_any_case => "a close with ALWAYS runs after a failed read, and no descriptor is left";
    close_of_nothing => "a close with ALWAYS is skipped if the open has failed";
    always_and_others => "behind a failure only entries with ALWAYS start, each in its turn";
    always_after_cancel => "CANCEL of a blocked or waiting entry lets the close behind it run";
    always_after_loop => "a loop that fails ends, and the entry with ALWAYS behind it starts";
    refused_counted_once => "a refused call of a chain that a thread ends counts once, at the end";
    always_by_itself => "ALWAYS has no effect without a failure or outside of a chain";
}

const EBADF: i64 = -(libc::EBADF as i64);
const EFAULT: i64 = -(libc::EFAULT as i64);
const ENOENT: i64 = -(libc::ENOENT as i64);
const ECANCELED: i64 = -(libc::ECANCELED as i64);
const EINTR: i64 = -(libc::EINTR as i64);
const EOPNOTSUPP: i64 = -(libc::EOPNOTSUPP as i64);

fn always(call: Call) -> Call {
    flagged(call, ENTRY_ALWAYS)
}

/// The number of the next descriptor: larger than before if one was left open.
fn next_descriptor() -> Check<i32> {
    let fd = plain!(SYS_dup, 0);
    check!(fd >= 0, "dup: {}", crate::check::Ret(fd));
    drop(sys::own(fd as i32));
    Ok(fd as i32)
}

/// A chain: open, read into `buffer`, and close in any case.
fn read_file(path: &CStr, buffer: usize) -> [Call; 3] {
    [
        opening(path),
        linked(taking(call!(SYS_read, -1, buffer, 8), [take(0, 1), 0])),
        always(taking(call!(SYS_close, -1), [take(0, 2), 0])),
    ]
}

fn close_in_any_case() -> Check {
    let dir = TempDir::new()?;
    let path = dir.file("text", b"hello")?;
    in_modes(1, |_, ring| {
        let next = next_descriptor()?;
        for _ in 0..20 {
            let done = ring.run_all(&read_file(&path, 8))?;
            check!(done[0].result > 2, "open: {:?}", done[0]);
            check_done("read to a bad address", done[1], EFAULT, REASON_NONE)?;
            check_done("close", done[2], 0, REASON_NONE)?;
        }
        check_eq!("the next descriptor", next_descriptor()?, next);
        Ok(())
    })
}

fn close_of_nothing() -> Check {
    in_modes(1, |_, ring| {
        let done = ring.run_all(&read_file(c"/no/such/file", 8))?;
        check_done("open", done[0], ENOENT, REASON_NONE)?;
        check_cancelled("read", done[1])?;
        check_cancelled("close of a file that was not opened", done[2])
    })
}

/// A write of one byte: the file shows whether it was executed.
fn write(file: &OwnedFd, byte: &'static CStr) -> Call {
    linked(call!(SYS_write, file, byte.as_ptr(), 1))
}

fn always_and_others() -> Check {
    in_modes(1, |engine, ring| {
        let file = memory_file()?;
        let mut calls = [
            write(&file, c"a"),
            linked(call!(SYS_close, -1)),
            write(&file, c"b"),
            always(write(&file, c"c")),
            always(linked(call!(SYS_close, -1))),
            write(&file, c"d"),
            always(write(&file, c"e")),
        ];
        calls[6].flags &= !ENTRY_LINK;
        let done = ring.run_all(&calls)?;
        let want = [
            (1, REASON_NONE),
            (EBADF, REASON_NONE),
            (ECANCELED, REASON_CHAIN),
            (1, REASON_NONE),
            (EBADF, REASON_NONE),
            (ECANCELED, REASON_CHAIN),
            (1, REASON_NONE),
        ];
        for (at, (done, (result, reason))) in done.iter().zip(want).enumerate() {
            check_done(&format!("entry {at}"), *done, result, reason)?;
        }
        check_eq!("content", content(&file)?, b"ace");
        check_eq!("refused", engine.stats()?.refused, 2);
        Ok(())
    })
}

/// The chain of which entry 1 is to be cancelled: open, a read that blocks, close.
fn blocking_chain(path: &CStr, reads: &BlockedReads) -> [Call; 3] {
    [
        opening(path),
        linked(reads.calls()[0]),
        always(taking(call!(SYS_close, -1), [take(0, 2), 0])),
    ]
}

fn check_closed(ring: &mut Ring, slots: &[usize], result: i64, reason: u8) -> Check {
    until("the end of the chain", || {
        slots.iter().all(|&slot| ring.is_done(slot))
    })?;
    let opened = ring.reap(slots[0]);
    check!(opened.result > 2, "open: {opened:?}");
    check_done("cancelled read", ring.reap(slots[1]), result, reason)?;
    check_done("close", ring.reap(slots[2]), 0, REASON_NONE)
}

fn always_after_cancel() -> Check {
    let dir = TempDir::new()?;
    let path = dir.file("text", b"hello")?;
    for mode in [Mode::Async, Mode::Kick] {
        let (engine, mut ring) = mode.start(1)?;
        let (from, _to) = pipe()?;
        let reads = BlockedReads::new(&from, 1);
        let next = next_descriptor()?;

        // Blocked in its call.
        let slots = ring.post_blocked(&blocking_chain(&path, &reads))?;
        engine.until_stats("the blocked read", |stats| stats.peak_blocked >= 1)?;
        check_eq!("CANCEL", ring.cancel(slots[1]), Ok(0));
        check_closed(&mut ring, &slots, EINTR, REASON_NONE)?;

        // Posted only: the open is executed, and its file is closed.
        let slots = ring.post_all(&blocking_chain(&path, &reads));
        check_eq!("CANCEL", ring.cancel(slots[1]), Ok(0));
        ring.kicked()?;
        check_closed(&mut ring, &slots, ECANCELED, REASON_CANCELLED)?;
        check_eq!("the next descriptor", next_descriptor()?, next);

        in_some_try("CANCEL before the chain is STARVED", |_| {
            in_time(STARVING, || cancel_waiting(mode, &path))
        })?;
    }
    Ok(())
}

/// Cancels an entry of a chain that waits for a thread, behind reads that occupy all threads.
fn cancel_waiting(mode: Mode, path: &CStr) -> Check {
    let (engine, mut ring) = mode.start(1)?;
    engine.set(Param::MaxThreads, 2)?;
    let ((from, _to), (other, to)) = (pipe()?, pipe()?);
    let reads = BlockedReads::new(&from, 1);
    let holds = BlockedReads::new(&other, 4);
    let next = next_descriptor()?;
    let held = ring.post_blocked(&holds.calls())?;
    engine.until_stats("two blocked threads", |stats| stats.peak_blocked >= 2)?;
    let slots = ring.post_blocked(&blocking_chain(path, &reads))?;
    check_eq!("CANCEL", ring.cancel(slots[1]), Ok(0));
    holds.release(&to)?;
    ring.finish(&held)?;
    check_closed(&mut ring, &slots, ECANCELED, REASON_CANCELLED)?;
    check_eq!("the next descriptor", next_descriptor()?, next);
    Ok(())
}

fn always_after_loop() -> Check {
    in_modes(1, |engine, ring| {
        let file = memory_file()?;
        let source = memory_file()?;
        check_ret!("write", plain!(SYS_write, &source, c"abc".as_ptr(), 3), 3);
        check_ret!("lseek", plain!(SYS_lseek, &source, 0, libc::SEEK_SET), 0);
        let mut byte = [0u8; 1];
        let calls = [
            // Three rounds would succeed, and in the fourth the read would return 0: not a failure.
            flagged(
                call!(SYS_read, &source, byte.as_mut_ptr(), 1),
                ENTRY_LINK | ENTRY_LOOP,
            ),
            // Fails in the first round.
            flagged(call!(SYS_close, -1), ENTRY_LINK | ENTRY_LOOP),
            write(&file, c"b"),
            always(call!(SYS_write, &file, c"c".as_ptr(), 1)),
        ];
        let done = ring.run_all(&calls)?;
        check_done("read", done[0], 1, REASON_NONE)?;
        check_done("close", done[1], EBADF, REASON_NONE)?;
        check_cancelled("write", done[2])?;
        check_done("write with ALWAYS", done[3], 1, REASON_NONE)?;
        check_eq!("content", content(&file)?, b"c");
        check_eq!("rounds", engine.stats()?.loop_rounds, 0);
        Ok(())
    })
}

fn refused_counted_once() -> Check {
    let engine = Engine::open()?;
    let mut ring = engine.ring(2)?;
    for round in 1..5 {
        let (from, to) = pipe()?;
        let reads = BlockedReads::new(&from, 1);
        // A thread continues this chain, and publishes its results at the end.
        ring.post_at(0, &linked(call!(SYS_fork)));
        ring.post_at(1, &always(reads.calls()[0]));
        // The owner executes these afterwards, in the same WAIT, at the same positions of another
        // page.
        ring.post_at(PAGE_ENTRIES, &call!(SYS_getpid));
        ring.post_at(PAGE_ENTRIES + 1, &call!(SYS_getpid));
        check_eq!("SOME", ring.wait_for(Policy::Some, 2, patience()), Ok(2));
        check_eq!("refused before", engine.stats()?.refused, round - 1);
        reads.release(&to)?;
        check_eq!("ALL", ring.wait(Policy::All), Ok(4));
        check_eq!("refused", engine.stats()?.refused, round);
        check_done("fork", ring.reap(0), EOPNOTSUPP, REASON_LIFE)?;
        check_done("read", ring.reap(1), 2, REASON_NONE)?;
        for slot in [PAGE_ENTRIES, PAGE_ENTRIES + 1] {
            let pid = std::process::id().into();
            check_done("getpid", ring.reap(slot), pid, REASON_NONE)?;
        }
    }
    Ok(())
}

fn always_by_itself() -> Check {
    in_modes(1, |_, ring| {
        let pid = i64::from(std::process::id());
        let single = ring.run(always(call!(SYS_getpid)))?;
        check_done("by itself", single, pid, REASON_NONE)?;
        let chain = [always(linked(call!(SYS_getpid))), always(call!(SYS_getpid))];
        for done in ring.run_all(&chain)? {
            check_done("in a chain", done, pid, REASON_NONE)?;
        }
        Ok(())
    })
}
