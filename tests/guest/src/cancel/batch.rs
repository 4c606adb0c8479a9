// SPDX-License-Identifier: MIT OR Apache-2.0
//! CANCEL of entries that a batch has claimed but not begun.

use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, Ordering};

use super::check_never_begun;
use crate::check::Check;
use crate::kit::engine::{self, Engine};
use crate::kit::files::memory_file;
use crate::kit::mode::Mode;
use crate::kit::ring::{Call, Ring, check_done};
use crate::kit::{memory, sys};

tests! { "cancel":
    claimed => "a claimed entry that has not begun is ECANCELED, whichever thread has its batch";
    claimed_used_again => "a slot that was cancelled in its batch serves the next call";
}

/// Entries behind the long call.
const BEHIND: usize = 8;
/// Which of these entries is cancelled.
const CANCELLED: usize = 5;
/// How often to try again with a longer call.
const TRIES: u32 = 6;

/// A byte of the file at `offset`.
fn byte(file: &OwnedFd, offset: usize) -> Check<u8> {
    let mut byte = 0u8;
    let got = plain!(SYS_pread64, file, std::ptr::from_mut(&mut byte), 1, offset);
    check_ret!("pread64", got, 1);
    Ok(byte)
}

/// Posts a long call and, behind it, calls that each write one byte of `file`.
fn batch(zeroes: &OwnedFd, buffer: *mut u8, len: usize, file: &OwnedFd) -> Vec<Call> {
    let mut calls = vec![call!(SYS_pread64, zeroes, buffer, len, 0)];
    for offset in 0..BEHIND {
        calls.push(call!(SYS_pwrite64, file, c"x".as_ptr(), 1, offset));
    }
    calls
}

/// Cancels a claimed entry. Returns true if CANCEL came before the entry was executed.
fn cancel_in_time(engine: &Engine, fd: i32, id: u32, slot: usize, file: &OwnedFd) -> Check<bool> {
    engine.until_stats("the batch claimed", |stats| stats.posted > BEHIND as u64)?;
    let found = engine::cancel(fd, id, slot).is_ok();
    Ok(found && byte(file, CANCELLED)? == 0)
}

fn try_once(engine: &Engine, ring: &mut Ring, len: usize) -> Check<bool> {
    let file = memory_file()?;
    check_ret!("ftruncate", plain!(SYS_ftruncate, &file, BEHIND), 0);
    let zeroes = sys::own(plain!(SYS_open, c"/dev/zero".as_ptr(), libc::O_RDONLY) as i32);
    // The pages are in memory: if the call slept, other threads would execute the entries behind
    // it.
    let buffer = memory::pages(len)?;
    memory::fill(buffer, len, 1);
    let slots = ring.post_all(&batch(&zeroes, buffer, len, &file));
    let (fd, id) = (engine.fd(), ring.id);
    let in_time = AtomicBool::new(false);
    let done = std::thread::scope(|scope| {
        let other = scope.spawn(|| -> Check {
            let yes = cancel_in_time(engine, fd, id, slots[1 + CANCELLED], &file)?;
            in_time.store(yes, Ordering::Relaxed);
            Ok(())
        });
        let done = ring.finish(&slots);
        other.join().expect("no panic").and(done)
    })?;
    check_ret!("the long call", done[0].result, len as i64);
    for (offset, done) in done[1..].iter().enumerate() {
        if offset != CANCELLED {
            check_done("an entry beside it", *done, 1, 0)?;
        }
    }
    if !in_time.load(Ordering::Relaxed) {
        return Ok(false);
    }
    check_never_begun(done[1 + CANCELLED])?;
    check_eq!("byte of a cancelled write", byte(&file, CANCELLED)?, 0);
    Ok(true)
}

fn in_some_try(mode: Mode, after: impl Fn(&mut Ring) -> Check) -> Check {
    let mut len = 16 << 20;
    for _ in 0..TRIES {
        let (engine, mut ring) = mode.start(1)?;
        if try_once(&engine, &mut ring, len)? {
            return after(&mut ring);
        }
        len *= 2;
    }
    fail!("CANCEL came too late {TRIES} times: a call of {len} bytes is over too soon");
}

fn claimed() -> Check {
    for mode in Mode::ALL {
        in_some_try(mode, |_| Ok(()))
            .map_err(|failure| failure.within(format_args!("mode {mode:?}")))?;
    }
    Ok(())
}

fn claimed_used_again() -> Check {
    in_some_try(Mode::Inline, |ring| {
        let pid = i64::from(std::process::id());
        // A program may write only the number and the arguments of its next call, so the
        // cancellation must leave nothing in the entry.
        for slot in 0..=BEHIND {
            let flags = ring.entry(slot).flags.load(Ordering::Relaxed);
            check_eq!("flags of a finished entry", flags, 0);
        }
        for done in ring.run_all(&[call!(SYS_getpid); 64])? {
            check_done("getpid afterwards", done, pid, 0)?;
        }
        Ok(())
    })
}
