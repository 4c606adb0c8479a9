// SPDX-License-Identifier: MIT OR Apache-2.0
//! A plain call in place of a refused one, so that programs run anywhere.

#![expect(unsafe_code, reason = "system calls by number")]

use crate::call::{Call, Reason};

/// Returns true if a plain call by the owner can do what the kernel refused to do.
///
/// Returns false for [`Reason::Life`], because a library must not fork or exit on behalf
/// of its program, and for a malformed entry.
pub(crate) fn applies(result: i64, reason: Reason) -> bool {
    let not_executed = match reason {
        Reason::Thread | Reason::Guarded | Reason::Context => -i64::from(libc::EOPNOTSUPP),
        Reason::Starved => -i64::from(libc::EAGAIN),
        _ => return false,
    };
    result == not_executed
}

/// Makes the call and returns its result, `-errno` on failure.
///
/// # Safety
///
/// As for the call itself.
pub(crate) unsafe fn make(call: &Call) -> i64 {
    if i64::from(call.nr()) == libc::SYS_rt_sigreturn {
        // This call needs a signal frame, which only the C library can provide.
        return -i64::from(libc::EOPNOTSUPP);
    }
    // SAFETY: the caller's promise.
    unsafe { call.make() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::calls;

    #[test]
    fn only_refused_calls_are_made_again() {
        assert!(applies(-i64::from(libc::EOPNOTSUPP), Reason::Guarded));
        assert!(applies(-i64::from(libc::EAGAIN), Reason::Starved));
        assert!(!applies(-i64::from(libc::EOPNOTSUPP), Reason::None));
        assert!(!applies(-i64::from(libc::EOPNOTSUPP), Reason::Life));
        assert!(!applies(-i64::from(libc::EINVAL), Reason::Entry));
    }

    #[test]
    fn a_plain_call_returns_what_the_kernel_does() {
        // SAFETY: no memory is involved.
        let pid = unsafe { make(&calls::getpid()) };
        assert_eq!(pid, i64::from(std::process::id()));
        // SAFETY: as above.
        let bad = unsafe { make(&calls::close(-1)) };
        assert_eq!(bad, -i64::from(libc::EBADF));
    }
}
