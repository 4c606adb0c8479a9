// SPDX-License-Identifier: GPL-2.0

//! One entry: what it asks for, whether and where that may run, and running it.

use crate::{
    policy::{self, Class, Reason},
    run::Batch,
    sys::{
        area::Entry,
        errno, file,
        invoke::{self, Refusal},
        process, thread,
    },
};
use kernel::prelude::*;
use kernel::uapi;

/// What became of an entry.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// Its result is written.
    Finished,
    /// A syscall thread of this pool has to execute it.
    Offload(u8),
}

/// A result and why it was refused.
type Verdict = (i64, uapi::flexsc_reason);

// Results of a call that a signal interrupted, from `linux/errno.h`.
const RESTART_SYS: i64 = -512;
const RESTART_NOINTR: i64 = -513;
const RESTART_NOHAND: i64 = -514;
const RESTART_BLOCK: i64 = -516;

/// Number of restart_syscall(2) on x86-64.
const NR_RESTART_SYSCALL: u16 = 219;

fn number(e: Error) -> i64 {
    e.to_errno().into()
}

fn must_restart(result: i64) -> bool {
    matches!(
        result,
        RESTART_SYS | RESTART_NOINTR | RESTART_NOHAND | RESTART_BLOCK
    )
}

fn refused(reason: uapi::flexsc_reason) -> Verdict {
    (number(errno::eopnotsupp()), reason)
}

fn refusal(why: Refusal) -> Verdict {
    match why {
        Refusal::Guarded => refused(uapi::flexsc_reason_FLEXSC_REASON_GUARDED),
        Refusal::Context => refused(uapi::flexsc_reason_FLEXSC_REASON_CONTEXT),
        Refusal::Exiting => (
            number(errno::ecanceled()),
            uapi::flexsc_reason_FLEXSC_REASON_NONE,
        ),
    }
}

/// Where an entry may run, or why nowhere.
#[inline(always)]
fn check(batch: &Batch<'_>, e: &Entry) -> Result<Class, Verdict> {
    let known = u32::from(e.flags) & !uapi::FLEXSC_ENTRY_ASYNC == 0;
    if !known || e.take != [0; 2] || (e.pool != 0 && !batch.has_pool(e.pool)) {
        return Err((number(EINVAL), uapi::flexsc_reason_FLEXSC_REASON_ENTRY));
    }
    match policy::classify(e.nr, &e.args) {
        Class::Refused(Reason::Life) => Err(refused(uapi::flexsc_reason_FLEXSC_REASON_LIFE)),
        Class::Refused(Reason::Thread) => Err(refused(uapi::flexsc_reason_FLEXSC_REASON_THREAD)),
        Class::Unknown => Err((
            number(errno::enosys()),
            uapi::flexsc_reason_FLEXSC_REASON_NONE,
        )),
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

/// None where a syscall thread has to execute it.
fn by_owner(batch: &Batch<'_>, e: &Entry) -> Option<Verdict> {
    let class = match check(batch, e) {
        Ok(class) => class,
        Err(verdict) => return Some(verdict),
    };
    let elsewhere = e.pool != 0 || u32::from(e.flags) & uapi::FLEXSC_ENTRY_ASYNC != 0;
    if elsewhere || !runs_inline(class) {
        return None;
    }
    match batch.executing(e.nr, || {
        invoke::invoke(batch.pages().owner(), e.nr, &e.args)
    }) {
        Ok(result) if must_restart(result) => {
            // A signal for the owner. The call goes on without it, where it can.
            (class == Class::OwnThread)
                .then_some((number(EINTR), uapi::flexsc_reason_FLEXSC_REASON_NONE))
        }
        Ok(result) => Some((result, uapi::flexsc_reason_FLEXSC_REASON_NONE)),
        Err(why) => Some(refusal(why)),
    }
}

/// None where a thread of another pool has to execute it.
fn by_worker(batch: &Batch<'_>, e: &Entry) -> Option<Verdict> {
    match check(batch, e) {
        Ok(Class::OwnThread) => return Some(refused(uapi::flexsc_reason_FLEXSC_REASON_THREAD)),
        Ok(_) => (),
        Err(verdict) => return Some(verdict),
    }
    // What has reached a pool stays there: the entry may name another one in the meantime.
    if batch.pool().is_none() && e.pool != 0 {
        return None;
    }
    Some(until_done(batch, e))
}

fn until_done(batch: &Batch<'_>, e: &Entry) -> Verdict {
    let mut nr = e.nr;
    loop {
        let result =
            match batch.executing(nr, || invoke::invoke(batch.pages().owner(), nr, &e.args)) {
                Ok(result) => result,
                Err(why) => return refusal(why),
            };
        if !must_restart(result) {
            return (result, uapi::flexsc_reason_FLEXSC_REASON_NONE);
        }
        // There is no handler to run and nobody to return to: stop, freeze or die with the
        // process, then restart the call as after a signal without a handler.
        if process::signal_pending() && thread::signal() {
            batch.set_dying();
            return (number(EINTR), uapi::flexsc_reason_FLEXSC_REASON_NONE);
        }
        if batch.must_stop() {
            return (number(EINTR), uapi::flexsc_reason_FLEXSC_REASON_NONE);
        }
        if result == RESTART_BLOCK {
            nr = NR_RESTART_SYSCALL;
        }
    }
}

/// Executes entry `index` of the batch's page, which the caller has claimed.
pub(crate) fn execute(batch: &Batch<'_>, index: u32) -> Outcome {
    let pages = batch.pages();
    let page = batch.page();
    let place = pages.area().entry(page, index);
    let e = place.take();
    let number = page * uapi::FLEXSC_PAGE_ENTRIES + index;
    if batch.is_traced() {
        invoke::trace_invoke(pages.owner(), e.nr, number);
    }
    let verdict = if batch.is_owner() {
        by_owner(batch, &e)
    } else {
        by_worker(batch, &e)
    };
    let Some((result, reason)) = verdict else {
        return Outcome::Offload(e.pool);
    };
    if reason != uapi::flexsc_reason_FLEXSC_REASON_NONE {
        batch.count_refused();
    }
    place.put_result(result, reason as u8);
    if batch.is_traced() {
        invoke::trace_complete(e.nr, number, result);
    }
    Outcome::Finished
}
