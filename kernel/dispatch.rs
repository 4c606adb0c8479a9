// SPDX-License-Identifier: GPL-2.0

//! One entry: what it asks for, whether and where that may run, and running it.

use crate::{
    policy::{self, Class, Reason},
    run::Batch,
    sys::{
        area::Entry,
        errno, file,
        invoke::{Frame, Refusal},
        process, thread,
    },
};
use kernel::prelude::*;
use kernel::uapi;

/// What became of an entry.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// It has this result.
    Done(Verdict),
    /// A syscall thread of this pool has to execute it.
    Offload(u8),
    /// As `Offload` to the first pool: a signal for its owner has interrupted the call.
    Interrupted,
    /// As `Offload` to the first pool: it may take long where calls of its kind just did.
    Slow,
    /// Only the owner can execute it, which has left it to others by chance.
    Return,
}

/// How the execution of an entry begins.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Start {
    /// By itself, or first in its chain.
    First,
    /// In a chain, behind others.
    Follows,
    /// Once more: a signal has interrupted its call.
    Again,
}

/// A result and why it was refused.
pub(crate) type Verdict = (i64, uapi::flexsc_reason);

// Results of a call that a signal interrupted, from `linux/errno.h`.
const RESTART_SYS: i64 = -512;
const RESTART_NOINTR: i64 = -513;
const RESTART_NOHAND: i64 = -514;
const RESTART_BLOCK: i64 = -516;

/// Number of restart_syscall(2) on x86-64.
const NR_RESTART_SYSCALL: u16 = 219;

const NONE: uapi::flexsc_reason = uapi::flexsc_reason_FLEXSC_REASON_NONE;

fn number(e: Error) -> i64 {
    e.to_errno().into()
}

/// Returns true if a signal has interrupted the call whose result this is, so that it has to be
/// made again.
///
/// Decides as the kernel does on the way back to user space: `-ERESTART*` means that only while a
/// signal is pending. Otherwise the number is the call's own answer, as that of
/// `lseek(fd, -512, SEEK_SET)` on a file with negative offsets.
#[inline(always)]
pub(crate) fn is_interrupted(result: i64) -> bool {
    (RESTART_BLOCK..=RESTART_SYS).contains(&result)
        && matches!(
            result,
            RESTART_SYS | RESTART_NOINTR | RESTART_NOHAND | RESTART_BLOCK
        )
        && process::signal_pending()
}

/// Is this `-errno`?
pub(crate) fn is_failure(result: i64) -> bool {
    (-4095..0).contains(&result)
}

/// Does this reason say that the call was not executed?
pub(crate) fn is_refusal(reason: uapi::flexsc_reason) -> bool {
    reason != NONE && reason != uapi::flexsc_reason_FLEXSC_REASON_BOUND
}

fn refused(reason: uapi::flexsc_reason) -> Verdict {
    (number(errno::eopnotsupp()), reason)
}

/// The entry itself is wrong.
pub(crate) fn bad_entry() -> Verdict {
    (number(EINVAL), uapi::flexsc_reason_FLEXSC_REASON_ENTRY)
}

fn refusal(why: Refusal) -> Verdict {
    match why {
        Refusal::Guarded => refused(uapi::flexsc_reason_FLEXSC_REASON_GUARDED),
        Refusal::Context => refused(uapi::flexsc_reason_FLEXSC_REASON_CONTEXT),
        Refusal::OwnerOnly => refused(uapi::flexsc_reason_FLEXSC_REASON_THREAD),
        Refusal::Exiting => (number(errno::ecanceled()), NONE),
    }
}

/// Where an entry may run, or why nowhere.
fn check(batch: &Batch<'_>, index: u32, e: &Entry) -> Result<Class, Verdict> {
    let known = e.has_known_flags() || batch.is_cancelled(index) && e.is_marked();
    if !known || (e.pool != 0 && !batch.has_pool(e.pool)) {
        return Err(bad_entry());
    }
    match policy::classify(e.nr, &e.args) {
        Class::Refused(Reason::Life) => Err(refused(uapi::flexsc_reason_FLEXSC_REASON_LIFE)),
        Class::Refused(Reason::Thread) => Err(refused(uapi::flexsc_reason_FLEXSC_REASON_THREAD)),
        Class::Unknown => Err((number(errno::enosys()), NONE)),
        class => Ok(class),
    }
}

/// May the owner run it on its own stack without sleeping for ever?
fn runs_inline(class: Class) -> bool {
    match class {
        Class::Inline | Class::OwnThread => true,
        Class::ByFile(a, b) => !file::may_block(a) && (a == b || !file::may_block(b)),
        _ => false,
    }
}

/// May the owner, which may have other files, find that it runs inline?
fn may_run_inline(class: Class) -> bool {
    matches!(class, Class::Inline | Class::ByFile(..))
}

fn by_owner(
    batch: &Batch<'_>,
    frame: &Frame,
    index: u32,
    e: &Entry,
    class: Class,
    start: Start,
) -> Outcome {
    // Within a chain the first entry decides.
    if is_for_threads(e) && start != Start::Follows {
        return Outcome::Offload(e.pool);
    }
    if !runs_inline(class) {
        return Outcome::Offload(0);
    }
    if class != Class::OwnThread && start != Start::Again && batch.is_slow(e.nr) {
        return Outcome::Slow;
    }
    frame.set_args(&e.args);
    match batch.invoke(frame, index, e.nr) {
        Ok(result) if is_interrupted(result) => {
            // A signal for the owner. The call goes on without it, where it can.
            if class == Class::OwnThread || batch.is_cancelled(index) {
                Outcome::Done((number(EINTR), NONE))
            } else {
                Outcome::Interrupted
            }
        }
        Ok(result) => Outcome::Done((result, NONE)),
        Err(why) => Outcome::Done(refusal(why)),
    }
}

fn by_worker(
    batch: &Batch<'_>,
    frame: &Frame,
    index: u32,
    e: &Entry,
    class: Class,
    start: Start,
) -> Outcome {
    if class == Class::OwnThread {
        return if comes_back(batch, index, e, true) {
            Outcome::Return
        } else {
            Outcome::Done(refused(uapi::flexsc_reason_FLEXSC_REASON_THREAD))
        };
    }
    // What has reached a pool stays there: the entry may name another one in the meantime.
    if batch.pool().is_none() && e.pool != 0 && start != Start::Follows {
        return Outcome::Offload(e.pool);
    }
    match until_done(batch, frame, index, e) {
        Ok(verdict) => Outcome::Done(verdict),
        // With tables of its own the owner looks at other files: it decides itself.
        Err(Refusal::Context) if comes_back(batch, index, e, may_run_inline(class)) => {
            Outcome::Return
        }
        Err(Refusal::OwnerOnly) if comes_back(batch, index, e, runs_inline(class)) => {
            Outcome::Return
        }
        Err(why) => Outcome::Done(refusal(why)),
    }
}

/// Has a program sent this entry to syscall threads?
fn is_for_threads(e: &Entry) -> bool {
    e.pool != 0 || u32::from(e.flags) & uapi::FLEXSC_ENTRY_ASYNC != 0
}

/// An entry that a syscall thread can not execute: has the owner left it by chance only, and is it
/// going to execute it itself, `inline`?
#[cold]
fn comes_back(batch: &Batch<'_>, index: u32, e: &Entry, inline: bool) -> bool {
    inline && !is_for_threads(e) && batch.is_owners(index)
}

fn until_done(batch: &Batch<'_>, frame: &Frame, index: u32, e: &Entry) -> Result<Verdict, Refusal> {
    let interrupted = (number(EINTR), NONE);
    let mut nr = e.nr;
    loop {
        frame.set_args(&e.args);
        let result = batch.invoke(frame, index, nr)?;
        if !is_interrupted(result) {
            return Ok((result, NONE));
        }
        // There is no handler to run and nobody to return to: stop, freeze or die with the
        // process, then restart the call as after a signal without a handler. Each round takes a
        // signal that was pending, so that nobody but a sender of signals can prolong this loop.
        if thread::signal() {
            batch.set_dying();
            return Ok(interrupted);
        }
        if batch.must_stop() || batch.is_cancelled(index) {
            return Ok(interrupted);
        }
        if result == RESTART_BLOCK {
            nr = NR_RESTART_SYSCALL;
        }
    }
}

/// Executes entry `index` of the batch's page, which the caller has copied to `e`.
pub(crate) fn execute(
    batch: &Batch<'_>,
    frame: &Frame,
    index: u32,
    e: &Entry,
    start: Start,
) -> Outcome {
    // First of all: CANCEL marks the entry with a flag that no program may set.
    if start != Start::Again && batch.is_cancelled(index) {
        return Outcome::Done((
            number(errno::ecanceled()),
            uapi::flexsc_reason_FLEXSC_REASON_CANCELLED,
        ));
    }
    match check(batch, index, e) {
        Err(verdict) => Outcome::Done(verdict),
        Ok(class) if batch.is_owner() => by_owner(batch, frame, index, e, class, start),
        Ok(class) => by_worker(batch, frame, index, e, class, start),
    }
}
