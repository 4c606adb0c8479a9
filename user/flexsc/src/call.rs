// SPDX-License-Identifier: MIT OR Apache-2.0
//! A system call as it is written into an entry, and its result.

use std::fmt;
use std::io;

use libc::c_long;

use crate::doorbell::ENTRIES;
use crate::memory::Request;
use crate::sys::abi;
use crate::sys::plain;

/// A system call: its number, its arguments, and how to execute it.
///
/// A plain value. Nothing happens until it is posted. [`calls`](crate::calls) builds
/// common calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "a call does nothing until it is posted"]
pub struct Call {
    request: Request,
}

impl Call {
    /// Makes a call with this number (`libc::SYS_…`) and these arguments; unused ones are
    /// zero. Signed arguments are sign-extended. Pointers have their provenance exposed
    /// (`pointer::expose_provenance`).
    ///
    /// # Panics
    ///
    /// Panics if `nr` is not in 0 to 65535, the range that fits into an entry. In a
    /// constant this is a compile-time error.
    #[inline]
    pub const fn new(nr: c_long, args: [u64; 6]) -> Call {
        Call::with_args(nr, args)
    }

    /// Like [`Call::new`], with as many arguments as the call has, at most six. Only these
    /// are written into the entry.
    ///
    /// # Panics
    ///
    /// As [`Call::new`].
    #[inline]
    pub const fn with_args<const N: usize>(nr: c_long, given: [u64; N]) -> Call {
        const { assert!(N <= 6, "no system call has more than six arguments") };
        assert!(
            nr >= 0 && nr <= u16::MAX as c_long,
            "system call numbers are 0 to 65535"
        );
        let mut args = [0; 6];
        let mut nth = 0;
        while nth < N {
            args[nth] = given[nth];
            nth += 1;
        }
        Call::from_request(Request {
            nr: nr as u16,
            flags: 0,
            pool: 0,
            take: [0; 2],
            used: N as u8,
            args,
        })
    }

    #[inline]
    pub(crate) const fn from_request(request: Request) -> Call {
        Call { request }
    }

    /// Makes a syscall thread execute the call, never the waiting thread.
    #[inline]
    pub const fn asynchronous(mut self) -> Call {
        self.request.flags |= abi::FLEXSC_ENTRY_ASYNC as u8;
        self
    }

    /// Makes this pool execute the call. Pool 0 always exists.
    #[inline]
    pub const fn pool(mut self, pool: u8) -> Call {
        self.request.pool = pool;
        self
    }

    /// In a [`Chain`](crate::Chain): replaces argument `arg` (0 to 5) by the result of the
    /// call `back` (1 to 32) positions before this one. At most two arguments of a call can
    /// be replaced.
    ///
    /// # Panics
    ///
    /// Panics if there is no such argument or position, or if two arguments are replaced
    /// already.
    #[inline]
    pub const fn take(mut self, arg: u8, back: u8) -> Call {
        assert!(arg < 6, "a call has arguments 0 to 5");
        assert!(
            back >= 1 && back <= 32,
            "results are 1 to 32 positions back"
        );
        let [first, second] = self.request.take;
        assert!(
            first == 0 || second == 0,
            "two arguments are replaced already"
        );
        let nth = (first != 0) as usize;
        // FLEXSC_TAKE(arg, back)
        self.request.take[nth] = ((back - 1) << 3) | (arg + 1);
        if self.request.used <= arg {
            self.request.used = arg + 1;
        }
        self
    }

    /// In the loop of a [`Chain`](crate::Chain): makes the result of this call the sum over
    /// all rounds.
    #[inline]
    pub const fn sum(mut self) -> Call {
        self.request.flags |= abi::FLEXSC_ENTRY_SUM as u8;
        self
    }

    /// Replaces all flags. The kernel rejects unknown flags with EINVAL. For chains use
    /// [`Chain`](crate::Chain): if the kernel refuses calls that were linked by hand, the
    /// crate does not replace them by plain calls.
    #[inline]
    pub const fn raw_flags(mut self, flags: u8) -> Call {
        self.request.flags = flags;
        self
    }

    /// The flags of the entry.
    pub(crate) const fn flags(&self) -> u8 {
        self.request.flags
    }

    /// Returns true if other calls depend on this one or this one depends on others. Such a
    /// call must not be made on its own.
    pub(crate) const fn is_linked(&self) -> bool {
        const LINKED: u32 = abi::FLEXSC_ENTRY_LINK | abi::FLEXSC_ENTRY_LOOP | abi::FLEXSC_ENTRY_SUM;
        let [first, second] = self.request.take;
        self.request.flags & LINKED as u8 != 0 || first != 0 || second != 0
    }

    /// Returns true if the next call depends on this one.
    pub(crate) const fn has_link(&self) -> bool {
        self.request.flags & abi::FLEXSC_ENTRY_LINK as u8 != 0
    }

    /// Returns true if the call is part of a loop.
    pub(crate) const fn is_repeated(&self) -> bool {
        self.request.flags & abi::FLEXSC_ENTRY_LOOP as u8 != 0
    }

    /// Returns the arguments to replace, and the positions of the results: `(arg, back)`.
    pub(crate) fn taken(&self) -> impl Iterator<Item = (usize, usize)> + use<> {
        let taken = |take: u8| {
            let arg = usize::from(take & 7).checked_sub(1)?;
            Some((arg, usize::from(take >> 3) + 1))
        };
        self.request.take.into_iter().filter_map(taken)
    }

    /// Returns the call with its arguments replaced. `before` are the results of the
    /// previous calls of its chain.
    pub(crate) fn with_results(mut self, before: &[i64]) -> Call {
        for (arg, back) in self.taken() {
            if let Some(nth) = before.len().checked_sub(back) {
                self.request.args[arg] = before[nth] as u64;
            }
        }
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

    /// Makes the call now, as a plain system call. Returns its result, `-errno` on failure.
    ///
    /// # Safety
    ///
    /// The arguments must be valid for this system call.
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

/// The index of a call's entry in the syscall pages of a registration.
///
/// The slot is free for another call as soon as the completion of this one is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Slot(u16);

impl Slot {
    /// The slot of entry `bit` (0 to 63) of the page whose first index is `base`.
    #[inline(always)]
    pub(crate) const fn new(base: u16, bit: u32) -> Slot {
        Slot(base | bit as u16)
    }

    /// The index of the first entry of a page.
    pub(crate) const fn base(page: usize) -> u16 {
        (page as u16) << ENTRIES.trailing_zeros()
    }

    /// The slot this many entries further on.
    pub(crate) const fn plus(self, places: usize) -> Slot {
        Slot(self.0 + places as u16)
    }

    /// Page times 64 plus entry: a small, dense number that suits as an index of the
    /// program's own tables.
    #[inline]
    #[must_use]
    pub const fn index(self) -> usize {
        self.0 as usize
    }

    /// The number of the page.
    #[must_use]
    pub const fn page(self) -> usize {
        self.index() / ENTRIES as usize
    }

    /// The number of the entry in its page.
    #[must_use]
    pub const fn entry(self) -> u32 {
        self.0 as u32 % ENTRIES
    }
}

/// Why the kernel did not execute a call as it was posted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Reason {
    /// The call was executed.
    None,
    /// The call begins, ends or replaces a thread or process.
    Life,
    /// The call acts on the calling thread's own state.
    Thread,
    /// seccomp, ptrace or syscall user dispatch controls the owner's calls.
    Guarded,
    /// The owner has unshared files, file system state or namespaces, or its process has memory
    /// protection keys.
    Context,
    /// The entry is malformed: an unknown flag or pool (EINVAL).
    Entry,
    /// No syscall thread could be created (EAGAIN).
    Starved,
    /// An earlier call of its chain failed (ECANCELED).
    Chain,
    /// The call was cancelled before it started (ECANCELED).
    Cancelled,
    /// The call was executed, and its loop ended after
    /// [`Param::LoopMax`](crate::Param::LoopMax) rounds.
    Bound,
    /// A reason that this version of the crate does not know.
    Other(UnknownReason),
}

/// A reason that this version of the crate does not know.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct UnknownReason(u8);

impl UnknownReason {
    /// `flexsc_entry.reason`.
    #[must_use]
    pub const fn code(self) -> u8 {
        self.0
    }
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
            abi::FLEXSC_REASON_CHAIN => Reason::Chain,
            abi::FLEXSC_REASON_CANCELLED => Reason::Cancelled,
            abi::FLEXSC_REASON_BOUND => Reason::Bound,
            _ => Reason::Other(UnknownReason(reason)),
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Reason::None => "executed",
            Reason::Life => "the call begins, ends or replaces a thread or process",
            Reason::Thread => "the call acts on the calling thread's own state",
            Reason::Guarded => "seccomp, ptrace or syscall user dispatch controls this thread's calls",
            Reason::Context => {
                "the thread has unshared its files, file system state or namespaces, or its process has memory protection keys"
            }
            Reason::Entry => "the entry has an unknown flag or pool, or its chain is malformed",
            Reason::Starved => "no syscall thread could be created",
            Reason::Chain => "an earlier call of its chain failed",
            Reason::Cancelled => "the call was cancelled before it started",
            Reason::Bound => {
                "executed; the loop ended because it reached its maximum number of rounds"
            }
            Reason::Other(unknown) => {
                return write!(f, "reason {}, unknown to this program", unknown.code());
            }
        })
    }
}

/// A finished call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Completion {
    /// The call's slot, which is free again.
    pub slot: Slot,
    /// The result of the call, `-errno` on failure.
    pub result: i64,
    /// Why the kernel did not execute the call, if it did not. If the crate made a plain
    /// call instead, `result` is that call's.
    pub reason: Reason,
}

impl Completion {
    /// Converts the result to the standard library's type.
    ///
    /// # Errors
    ///
    /// The errno of the call, as [`io::Error::from_raw_os_error`].
    pub fn io(&self) -> io::Result<i64> {
        to_io(self.result)
    }
}

/// Converts a kernel result to the standard library's type.
pub(crate) fn to_io(result: i64) -> io::Result<i64> {
    if (-4095..0).contains(&result) {
        Err(io::Error::from_raw_os_error(-result as i32))
    } else {
        Ok(result)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_are_dense() {
        let slot = Slot::new(Slot::base(63), 63);
        assert_eq!((slot.index(), slot.page(), slot.entry()), (4095, 63, 63));
        assert_eq!(Slot::new(Slot::base(1), 0).index(), 64);
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
        // A high address from mmap() is not an error.
        assert!(done(-4096).io().is_ok());
    }

    #[test]
    fn reasons_come_from_the_header() {
        assert_eq!(Reason::from_raw(0), Reason::None);
        assert_eq!(Reason::from_raw(6), Reason::Starved);
        assert_eq!(Reason::from_raw(9), Reason::Bound);
        let unknown = Reason::from_raw(200);
        assert_eq!(unknown, Reason::Other(UnknownReason(200)));
        assert!(unknown.to_string().contains("200"));
    }

    #[test]
    fn takes_are_encoded_as_in_the_header() {
        let call = Call::with_args(1, [7]).take(0, 1).take(5, 32);
        assert_eq!(call.request().take, [1, (31 << 3) | 6]);
        assert_eq!(call.taken().collect::<Vec<_>>(), [(0, 1), (5, 32)]);
        assert_eq!(call.request().used, 6);
    }

    #[test]
    fn numbers_are_checked() {
        const LAST: Call = Call::new(0xffff, [0; 6]);
        assert_eq!(LAST.nr(), 0xffff);
        for nr in [-1, 0x1_0000, c_long::MAX, c_long::MIN] {
            let made = std::panic::catch_unwind(|| Call::new(nr, [0; 6]).nr());
            assert!(made.is_err(), "{nr} became {made:?}");
        }
    }

    #[test]
    fn calls_know_whether_they_stand_alone() {
        let call = Call::with_args(1, [7]);
        assert!(!call.is_linked() && !call.asynchronous().pool(3).is_linked());
        assert!(call.take(0, 1).is_linked());
        assert!(call.sum().is_linked());
        assert!(call.raw_flags(abi::FLEXSC_ENTRY_LINK as u8).is_linked());
    }
}
