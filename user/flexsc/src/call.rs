// SPDX-License-Identifier: MIT OR Apache-2.0
//! A system call as it goes into an entry, and what comes back.

use std::fmt;
use std::io;

use crate::doorbell::ENTRIES;
use crate::sys::abi;
use crate::sys::plain;
use crate::sys::region::Request;

/// One system call: its number and arguments, and how it is to be executed.
///
/// A plain value; nothing happens until it is posted. [`calls`](crate::calls)
/// builds the common ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "a call does nothing until it is posted"]
pub struct Call {
    request: Request,
}

impl Call {
    /// The call with this number (`libc::SYS_…`) and these arguments; unused
    /// ones are zero. Signed arguments are sign-extended.
    #[inline]
    pub const fn new(nr: u16, args: [u64; 6]) -> Call {
        Call {
            request: Request {
                nr,
                flags: 0,
                pool: 0,
                take: [0; 2],
                args,
            },
        }
    }

    /// Always executed by a syscall thread, never by the waiting thread.
    pub const fn asynchronous(mut self) -> Call {
        self.request.flags |= abi::FLEXSC_ENTRY_ASYNC as u8;
        self
    }

    /// Executed by this pool; 0 is there from the start.
    pub const fn pool(mut self, pool: u8) -> Call {
        self.request.pool = pool;
        self
    }

    /// Replaces all flags. The kernel answers unknown ones with EINVAL.
    pub const fn raw_flags(mut self, flags: u8) -> Call {
        self.request.flags = flags;
        self
    }

    /// The number of the call.
    #[must_use]
    pub const fn nr(&self) -> u16 {
        self.request.nr
    }

    /// The arguments of the call.
    #[must_use]
    pub const fn args(&self) -> [u64; 6] {
        self.request.args
    }

    /// Makes the call plainly, now: a trap. Returns what the kernel does,
    /// `-errno` on failure.
    ///
    /// # Safety
    ///
    /// As for the call itself: its arguments must be good for it.
    #[expect(unsafe_code, reason = "system calls by number")]
    #[must_use]
    pub unsafe fn make(&self) -> i64 {
        // SAFETY: the caller's promise.
        unsafe { plain::call(self.nr(), self.args()) }
    }

    #[inline]
    pub(crate) const fn request(&self) -> &Request {
        &self.request
    }
}

/// The place of a call in the syscall pages of a registration.
///
/// Free for another call from the moment its completion was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Slot(u16);

impl Slot {
    /// Entry `entry` (0 to 63) of page `page`.
    #[inline]
    pub(crate) const fn new(page: usize, entry: u32) -> Slot {
        Slot((page as u16) << ENTRIES.trailing_zeros() | entry as u16)
    }

    /// Page times 64 plus entry: small, dense, good for an index of one's own.
    #[inline]
    #[must_use]
    pub const fn index(self) -> usize {
        self.0 as usize
    }

    /// The page.
    #[must_use]
    pub const fn page(self) -> usize {
        self.index() / ENTRIES as usize
    }

    /// The entry in the page.
    #[must_use]
    pub const fn entry(self) -> u32 {
        self.0 as u32 % ENTRIES
    }
}

/// Why the kernel did not execute a call as it was posted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Reason {
    /// It was executed.
    None,
    /// It begins, ends or replaces a thread or process.
    Life,
    /// It acts on the calling thread's own state.
    Thread,
    /// seccomp, ptrace or user dispatch decide over the owner's calls.
    Guarded,
    /// The owner has unshared files, file system state or namespaces.
    Context,
    /// The entry itself is wrong: an unknown flag or pool (EINVAL).
    Entry,
    /// No syscall thread could be made (EAGAIN).
    Starved,
    /// One that this version of the crate does not know.
    Other(u8),
}

impl Reason {
    /// From `flexsc_entry.reason`.
    #[inline]
    #[must_use]
    pub const fn from_raw(reason: u8) -> Reason {
        match reason as u32 {
            abi::FLEXSC_REASON_NONE => Reason::None,
            abi::FLEXSC_REASON_LIFE => Reason::Life,
            abi::FLEXSC_REASON_THREAD => Reason::Thread,
            abi::FLEXSC_REASON_GUARDED => Reason::Guarded,
            abi::FLEXSC_REASON_CONTEXT => Reason::Context,
            abi::FLEXSC_REASON_ENTRY => Reason::Entry,
            abi::FLEXSC_REASON_STARVED => Reason::Starved,
            _ => Reason::Other(reason),
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Reason::None => "executed",
            Reason::Life => "the call begins, ends or replaces a thread or process",
            Reason::Thread => "the call acts on the calling thread's own state",
            Reason::Guarded => "seccomp, ptrace or user dispatch decide over this thread's calls",
            Reason::Context => "the thread has unshared files, fs or namespaces",
            Reason::Entry => "the entry has an unknown flag or pool",
            Reason::Starved => "no syscall thread could be made",
            Reason::Other(code) => return write!(f, "reason {code}, unknown to this program"),
        })
    }
}

/// A finished call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Completion {
    /// Where it was; free from now on.
    pub slot: Slot,
    /// What the call returned, `-errno` on failure.
    pub result: i64,
    /// Why the kernel did not execute it, if so. When the crate made a plain
    /// call in its place, `result` is that call's.
    pub reason: Reason,
}

impl Completion {
    /// The result as the standard library has it.
    ///
    /// # Errors
    ///
    /// The call's own errno, as [`io::Error::from_raw_os_error`].
    pub fn io(&self) -> io::Result<i64> {
        if (-4095..0).contains(&self.result) {
            Err(io::Error::from_raw_os_error(-self.result as i32))
        } else {
            Ok(self.result)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_are_dense() {
        let slot = Slot::new(63, 63);
        assert_eq!((slot.index(), slot.page(), slot.entry()), (4095, 63, 63));
        assert_eq!(Slot::new(1, 0).index(), 64);
    }

    #[test]
    fn results_become_io_results() {
        let done = |result| Completion {
            slot: Slot::new(0, 0),
            result,
            reason: Reason::None,
        };
        assert_eq!(done(7).io().unwrap(), 7);
        assert_eq!(
            done(-i64::from(libc::ENOENT)).io().unwrap_err().kind(),
            io::ErrorKind::NotFound
        );
        // A high address from mmap() is no error.
        assert!(done(-4096).io().is_ok());
    }

    #[test]
    fn reasons_come_from_the_header() {
        assert_eq!(Reason::from_raw(0), Reason::None);
        assert_eq!(Reason::from_raw(6), Reason::Starved);
        assert_eq!(Reason::from_raw(200), Reason::Other(200));
    }
}
