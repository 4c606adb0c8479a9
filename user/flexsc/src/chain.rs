// SPDX-License-Identifier: MIT OR Apache-2.0
//! Chains: each call starts when the previous one has succeeded, and can use its result.

#![expect(unsafe_code, reason = "makes the calls of a chain plainly")]

use std::ops::Range;

use crate::Error;
use crate::call::{Call, Slot};
use crate::doorbell::ENTRIES;
use crate::sys::abi;

const LINK: u8 = abi::FLEXSC_ENTRY_LINK as u8;
const LOOP: u8 = abi::FLEXSC_ENTRY_LOOP as u8;
const SUM: u8 = abi::FLEXSC_ENTRY_SUM as u8;
const ALWAYS: u8 = abi::FLEXSC_ENTRY_ALWAYS as u8;
const ECANCELED: i64 = -(libc::ECANCELED as i64);

/// Calls that are executed in sequence. Each starts when the previous one has succeeded,
/// that is, has not returned `-errno`. If one fails, the following ones get ECANCELED and
/// [`Reason::Chain`](crate::Reason::Chain), except for a close(2): it is made if and only
/// if there is a descriptor to close, so that no descriptor leaks
/// ([`Chain::then_always`]).
///
/// ```
/// use flexsc::{Chain, calls};
///
/// let path = c"/proc/self/stat";
/// let mut buf = [0_u8; 64];
/// // Opens, reads, closes; the descriptor comes from the first call.
/// let chain = Chain::new()
///     .then(calls::openat(libc::AT_FDCWD, path.as_ptr(), libc::O_RDONLY, 0))
///     .then(calls::read(-1, buf.as_mut_ptr().cast(), buf.len()).take(0, 1))
///     .then(calls::close(-1).take(0, 2));
/// chain.check().unwrap();
/// ```
///
/// Calls added by [`Chain::repeat`] form a loop. The loop ends when one of them returns 0
/// or fails. A chain is a plain value and can be posted any number of times. Its first call
/// determines the pool of the whole chain, and whether it is [`Call::asynchronous`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[must_use = "a chain does nothing until it is posted"]
pub struct Chain {
    calls: Vec<Call>,
}

impl Chain {
    /// An empty chain.
    pub const fn new() -> Chain {
        Chain { calls: Vec::new() }
    }

    /// Appends a call. Adds a close(2) as [`Chain::then_always`] does.
    pub fn then(self, call: Call) -> Chain {
        if i64::from(call.nr()) == libc::SYS_close {
            return self.then_always(call);
        }
        let flags = call.flags() & !LOOP;
        self.add(call.raw_flags(flags))
    }

    /// Appends a call that is made even if an earlier one has failed, unless it uses the
    /// result of a call that failed or was not made.
    pub fn then_always(self, call: Call) -> Chain {
        let flags = call.flags() & !LOOP | ALWAYS;
        self.add(call.raw_flags(flags))
    }

    /// Appends a call to the loop. All calls of the loop must be adjacent.
    pub fn repeat(self, call: Call) -> Chain {
        let flags = call.flags() | LOOP;
        self.add(call.raw_flags(flags))
    }

    /// Has the threads of this pool execute the chain.
    pub(crate) fn in_pool(mut self, pool: u8) -> Chain {
        if let Some(first) = self.calls.first_mut() {
            *first = first.pool(pool);
        }
        self
    }

    /// Appends a call without changing its flags.
    pub(crate) fn then_unchanged(self, call: Call) -> Chain {
        self.add(call)
    }

    fn add(mut self, call: Call) -> Chain {
        if let Some(last) = self.calls.last_mut() {
            *last = last.raw_flags(last.flags() | LINK);
        }
        self.calls.push(call.raw_flags(call.flags() & !LINK));
        self
    }

    /// Returns the number of calls.
    #[must_use]
    pub fn len(&self) -> usize {
        self.calls.len()
    }

    /// Returns true if the chain has no calls.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.calls.is_empty()
    }

    /// The calls of the chain.
    pub fn calls(&self) -> &[Call] {
        &self.calls
    }

    /// Checks whether the kernel would accept the chain.
    ///
    /// # Errors
    ///
    /// [`Error::BadChain`], with the reason.
    pub fn check(&self) -> Result<(), Error> {
        if !(1..=ENTRIES as usize).contains(&self.len()) {
            return Err(Error::BadChain("it must have 1 to 64 calls"));
        }
        let looped = self.looped();
        for (index, call) in self.calls.iter().enumerate() {
            if (call.flags() & LOOP != 0) != looped.contains(&index) {
                return Err(Error::BadChain("it may have one loop, of adjacent calls"));
            }
            if !looped.contains(&index) && call.flags() & SUM != 0 {
                return Err(Error::BadChain("only calls of the loop can have sums"));
            }
            if call.taken().any(|(_, back)| back > index) {
                return Err(Error::BadChain(
                    "a call uses a result from before the first call",
                ));
            }
        }
        Ok(())
    }

    /// Returns true if a call is made even though an earlier one failed.
    fn starts_after_failure(&self, index: usize, last: &[i64]) -> bool {
        let call = &self.calls[index];
        let missing = |(_, back): (usize, usize)| {
            let from = index.checked_sub(back).and_then(|from| last.get(from));
            from.is_some_and(|&result| is_failure(result))
        };
        call.flags() & ALWAYS != 0 && !call.taken().any(missing)
    }

    /// Returns the indices of the first contiguous loop.
    fn looped(&self) -> Range<usize> {
        let looped = |call: &Call| call.flags() & LOOP != 0;
        let begin = self.calls.iter().position(looped);
        let begin = begin.unwrap_or(self.len());
        let after = self.calls[begin..].iter().position(|call| !looped(call));
        begin..after.map_or(self.len(), |len| begin + len)
    }

    /// Makes the calls now, as plain system calls, with the same semantics and at most
    /// `rounds` rounds of the loop. `results` receives what the entries would have
    /// received, one result for each call.
    ///
    /// # Errors
    ///
    /// Those of [`Chain::check`]; also [`Error::BadChain`] if `results` and the chain
    /// differ in length.
    ///
    /// # Safety
    ///
    /// The arguments of each call must be valid for it.
    pub unsafe fn make(&self, results: &mut [i64], rounds: u64) -> Result<(), Error> {
        self.check()?;
        if results.len() != self.len() {
            return Err(Error::BadChain(
                "there must be room for one result of each call",
            ));
        }
        results.fill(ECANCELED);
        let mut last = vec![ECANCELED; self.len()];
        let looped = self.looped();
        let mut round = 1;
        let mut index = 0;
        let mut failed = false;
        while index < self.len() {
            if failed && !self.starts_after_failure(index, &last) {
                index += 1;
                continue;
            }
            let call = self.calls[index].with_results(&last[..index]);
            // SAFETY: the caller's promise.
            let result = unsafe { call.make() };
            last[index] = result;
            let adds = round > 1 && call.flags() & SUM != 0 && !is_failure(result);
            results[index] = if adds {
                // The kernel's sums wrap, too.
                results[index].wrapping_add(result)
            } else {
                result
            };
            failed |= is_failure(result);
            index = if failed || !looped.contains(&index) {
                index + 1
            } else if result == 0 {
                looped.end
            } else if index + 1 == looped.end && round < rounds {
                round += 1;
                looped.start
            } else {
                index + 1
            };
        }
        Ok(())
    }
}

fn is_failure(result: i64) -> bool {
    (-4095..0).contains(&result)
}

/// The adjacent slots of a chain, in the order of its calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slots {
    first: Slot,
    len: usize,
}

impl Slots {
    pub(crate) const fn new(first: Slot, len: usize) -> Slots {
        Slots { first, len }
    }

    /// Returns the number of slots.
    #[expect(clippy::len_without_is_empty, reason = "a chain has at least one call")]
    #[must_use]
    pub const fn len(&self) -> usize {
        self.len
    }

    /// The slot of the first call.
    #[must_use]
    pub const fn first(&self) -> Slot {
        self.first
    }

    /// The slot of the last call.
    #[must_use]
    pub const fn last(&self) -> Slot {
        self.first.plus(self.len - 1)
    }

    /// Returns the index of the call in this slot.
    #[must_use]
    pub fn position(&self, slot: Slot) -> Option<usize> {
        let nth = slot.index().checked_sub(self.first.index())?;
        (nth < self.len).then_some(nth)
    }

    /// Iterates over all slots.
    pub fn iter(&self) -> impl Iterator<Item = Slot> + use<> {
        let first = self.first;
        (0..self.len).map(move |nth| first.plus(nth))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::calls;

    #[test]
    fn all_but_the_last_are_linked() {
        let chain = Chain::new()
            .then(calls::getpid())
            .repeat(calls::getuid().sum());
        let flags: Vec<_> = chain.calls().iter().map(Call::flags).collect();
        assert_eq!(flags, [LINK, LOOP | SUM]);
        assert_eq!(chain.check(), Ok(()));
    }

    #[test]
    fn wrong_chains_are_found() {
        let wrong = |chain: Chain| matches!(chain.check(), Err(Error::BadChain(_)));
        assert!(wrong(Chain::new()));
        assert!(wrong(Chain::new().then(calls::close(0).take(0, 1))));
        assert!(wrong(Chain::new().then(calls::getpid().sum())));
        assert!(wrong(
            Chain::new()
                .repeat(calls::getpid())
                .then(calls::getpid())
                .repeat(calls::getpid())
        ));
        let long = (0..65).fold(Chain::new(), |chain, _| chain.then(calls::getpid()));
        assert!(wrong(long));
    }

    #[test]
    fn plain_calls_pass_their_results_on() {
        let mut buf = [0_u8; 8];
        let open = calls::openat(libc::AT_FDCWD, c"/dev/zero".as_ptr(), libc::O_RDONLY, 0);
        let chain = Chain::new()
            .then(open)
            .then(calls::read(-1, buf.as_mut_ptr().cast(), 8).take(0, 1))
            .then(calls::close(-1).take(0, 2));
        let mut results = [0; 3];
        // SAFETY: path and buffer are valid.
        unsafe { chain.make(&mut results, 1) }.unwrap();
        assert!(results[0] > 2);
        assert_eq!(results[1..], [8, 0]);
    }

    #[test]
    fn a_failed_link_cancels_the_rest() {
        let chain = Chain::new().then(calls::close(-1)).then(calls::getpid());
        let mut results = [0; 2];
        // SAFETY: no memory is involved.
        unsafe { chain.make(&mut results, 1) }.unwrap();
        assert_eq!(
            results,
            [-i64::from(libc::EBADF), -i64::from(libc::ECANCELED)]
        );
    }

    #[test]
    fn what_was_opened_is_closed_whatever_fails() {
        let open = |path: &'static std::ffi::CStr| {
            calls::openat(libc::AT_FDCWD, path.as_ptr(), libc::O_RDONLY, 0)
        };
        let chain = |path| {
            Chain::new()
                .then(open(path))
                .then(calls::fsync(-1))
                .then(calls::getpid())
                .then(calls::close(-1).take(0, 3))
        };
        let (bad, none) = (-i64::from(libc::EBADF), -i64::from(libc::ENOENT));
        let mut results = [0; 4];
        // SAFETY: the path is valid.
        unsafe { chain(c"/dev/zero").make(&mut results, 1) }.unwrap();
        assert!(results[0] > 2);
        assert_eq!(results[1..], [bad, ECANCELED, 0]);
        // SAFETY: as above.
        unsafe { chain(c"/nowhere").make(&mut results, 1) }.unwrap();
        assert_eq!(results, [none, ECANCELED, ECANCELED, ECANCELED]);
    }

    #[test]
    fn loops_end_with_zero_or_their_bound() {
        let file = std::fs::File::open("/proc/self/cmdline").unwrap();
        let fd = std::os::fd::AsRawFd::as_raw_fd(&file);
        let size = std::fs::read("/proc/self/cmdline").unwrap().len() as i64;
        let mut byte = 0_u8;
        let read = calls::read(fd, (&raw mut byte).cast(), 1);
        let mut sum = [0; 2];
        let chain = Chain::new().repeat(read).repeat(calls::getppid());
        // SAFETY: one byte, which is valid.
        unsafe { chain.make(&mut sum, 1 << 20) }.unwrap();
        assert_eq!(sum[0], 0);
        assert!(sum[1] >= 0);
        let bounded = Chain::new().repeat(calls::lseek(fd, 0, libc::SEEK_SET));
        let mut zero = [9];
        // SAFETY: no memory is involved.
        unsafe { bounded.make(&mut zero, 5) }.unwrap();
        assert_eq!(zero, [0]);
        let summed = Chain::new().repeat(read.sum());
        // SAFETY: as above.
        unsafe { summed.make(&mut zero, 5) }.unwrap();
        assert_eq!(zero, [5.min(size)]);
    }

    #[test]
    fn sums_wrap_as_the_kernels_do() {
        // This file accepts any position.
        let zero = std::fs::File::open("/proc/self/mem").unwrap();
        let fd = std::os::fd::AsRawFd::as_raw_fd(&zero);
        let far = i64::MAX;
        let chain = Chain::new().repeat(calls::lseek(fd, far, libc::SEEK_SET).sum());
        let mut sum = [0];
        // SAFETY: no memory is involved.
        unsafe { chain.make(&mut sum, 3) }.unwrap();
        assert_eq!(sum, [far.wrapping_mul(3)]);
    }

    #[test]
    fn what_is_behind_the_loop_comes_after_it() {
        let chain = Chain::new()
            .then(calls::getpid())
            .repeat(calls::lseek(-1, 0, libc::SEEK_SET))
            .then(calls::getppid());
        assert_eq!((chain.check(), chain.looped()), (Ok(()), 1..2));
        let null = std::fs::File::open("/dev/null").unwrap();
        let fd = std::os::fd::AsRawFd::as_raw_fd(&null);
        let mut byte = 0_u8;
        let read = calls::read(fd, (&raw mut byte).cast(), 1);
        let chain = Chain::new()
            .repeat(read)
            .repeat(calls::getpid())
            .then(calls::getppid());
        let mut results = [0; 3];
        // SAFETY: the byte is valid.
        unsafe { chain.make(&mut results, 9) }.unwrap();
        let parent = i64::from(std::os::unix::process::parent_id());
        assert_eq!(results, [0, -i64::from(libc::ECANCELED), parent]);
    }

    #[test]
    fn slots_know_their_calls() {
        let slots = Slots::new(Slot::new(Slot::base(1), 60), 3);
        assert_eq!((slots.first().index(), slots.last().index()), (124, 126));
        assert_eq!(slots.position(slots.last()), Some(2));
        assert_eq!(slots.position(Slot::new(0, 0)), None);
        assert_eq!(slots.iter().count(), 3);
    }
}
