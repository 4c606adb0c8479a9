// SPDX-License-Identifier: GPL-2.0

//! Results of entries, and what they say about the calls.

use crate::{
    dispatch::Why,
    sys::{errno, invoke::Refusal, process},
};
use kernel::prelude::*;
use kernel::uapi;

/// A result, and why the call was not executed.
pub(super) type Verdict = (i64, uapi::flexsc_reason);

// Results of a call that a signal interrupted, from `linux/errno.h`.
const RESTART_SYS: i64 = -512;
const RESTART_NOINTR: i64 = -513;
const RESTART_NOHAND: i64 = -514;
pub(super) const RESTART_BLOCK: i64 = -516;

/// The reason of a call that was executed.
pub(super) const NONE: uapi::flexsc_reason = uapi::flexsc_reason_FLEXSC_REASON_NONE;

fn number(e: Error) -> i64 {
    e.to_errno().into()
}

/// Returns true if a signal has interrupted the call with this result, so that the call must be
/// restarted.
///
/// As on the kernel's way back to user space, `-ERESTART*` has this meaning only while a
/// signal is pending. Otherwise the number is the call's own result, for example of
/// `lseek(fd, -512, SEEK_SET)` on a file with negative offsets.
#[inline(always)]
pub(super) fn is_interrupted(result: i64) -> bool {
    (RESTART_BLOCK..=RESTART_SYS).contains(&result)
        && matches!(
            result,
            RESTART_SYS | RESTART_NOINTR | RESTART_NOHAND | RESTART_BLOCK
        )
        && process::signal_pending()
}

/// Returns true if `result` is a negative errno.
pub(super) fn is_failure(result: i64) -> bool {
    (-4095..0).contains(&result)
}

/// Returns true if `reason` says that the call was not executed.
pub(super) fn is_refusal(reason: uapi::flexsc_reason) -> bool {
    reason != NONE && reason != uapi::flexsc_reason_FLEXSC_REASON_BOUND
}

/// The result of a call that a signal has ended.
pub(super) fn interrupted() -> Verdict {
    (number(EINTR), NONE)
}

/// The result of a call that is not executed.
pub(super) fn refused(why: Why) -> Verdict {
    let (error, reason) = match why {
        Why::Cancelled => (
            errno::ecanceled(),
            uapi::flexsc_reason_FLEXSC_REASON_CANCELLED,
        ),
        Why::ChainFailed => (errno::ecanceled(), uapi::flexsc_reason_FLEXSC_REASON_CHAIN),
        Why::Exiting => (errno::ecanceled(), NONE),
        Why::BadEntry => (EINVAL, uapi::flexsc_reason_FLEXSC_REASON_ENTRY),
        Why::UnknownCall => (errno::enosys(), NONE),
        Why::Life => (errno::eopnotsupp(), uapi::flexsc_reason_FLEXSC_REASON_LIFE),
        Why::Thread => (
            errno::eopnotsupp(),
            uapi::flexsc_reason_FLEXSC_REASON_THREAD,
        ),
        Why::Guarded => (
            errno::eopnotsupp(),
            uapi::flexsc_reason_FLEXSC_REASON_GUARDED,
        ),
        Why::Context => (
            errno::eopnotsupp(),
            uapi::flexsc_reason_FLEXSC_REASON_CONTEXT,
        ),
    };
    (number(error), reason)
}

impl From<Refusal> for Why {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Guarded => Why::Guarded,
            Refusal::Context => Why::Context,
            Refusal::OwnerOnly => Why::Thread,
            Refusal::Exiting => Why::Exiting,
        }
    }
}
