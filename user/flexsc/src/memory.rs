// SPDX-License-Identifier: MIT OR Apache-2.0
//! Syscall pages as the page queue sees them, in any kind of memory.

use std::cell::Cell;
use std::sync::atomic::{AtomicU32, AtomicU64};

use crate::doorbell::{ENTRIES, Flags, Word};

/// Syscall pages in memory, with one fill page and one reap page: a
/// [`Region`](crate::sys::region::Region), or the loom model's replacement.
pub(crate) trait Memory {
    /// A doorbell word.
    type Word: Word;
    /// The flags of a control block.
    type Flags: Flags;

    /// Returns false in a forked child, which must not access the pages.
    fn in_same_process(&self) -> bool;
    /// The cursors of the fill page and the reap page.
    fn cursors(&self) -> &Cursors;
    /// The number of pages.
    fn pages(&self) -> usize;
    /// Makes this page the fill page, which [`Memory::write`] writes to.
    fn set_fill_page(&mut self, page: usize);
    /// Makes this page the reap page, which [`Memory::take`] reads from.
    fn set_reap_page(&mut self, page: usize);
    /// The control block of a page.
    fn ctrl(&self, page: usize) -> Ctrl<'_, Self::Word, Self::Flags>;
    /// The control block of the fill page.
    fn fill_ctrl(&self) -> Ctrl<'_, Self::Word, Self::Flags>;
    /// The control block of the reap page.
    fn reap_ctrl(&self) -> Ctrl<'_, Self::Word, Self::Flags>;
    /// Writes an entry of the fill page.
    fn write(&self, place: Place, request: &Request);
    /// Reads the answer of an entry of the reap page.
    fn take(&self, place: Place) -> Answer;
}

/// An entry of a page, as its distance from the first one in bytes: the hot paths then need
/// no shift and no conversion.
///
/// # Invariants
///
/// A multiple of [`Place::SIZE`], less than the 64 entries of a page.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place(usize);

impl Place {
    /// Bytes of an entry.
    pub(crate) const SIZE: usize = 64;

    #[inline(always)]
    pub(crate) const fn new(bit: u32) -> Self {
        Place((bit % ENTRIES) as usize * Place::SIZE)
    }

    /// The number of the entry, 0 to 63.
    #[inline(always)]
    pub(crate) const fn bit(self) -> u32 {
        (self.0 / Place::SIZE) as u32
    }

    /// Bytes from the first entry of the page.
    #[inline(always)]
    pub(crate) const fn bytes(self) -> usize {
        self.0
    }
}

/// What changes with each call: where the next one goes, and which results can be taken. In
/// a forked child all of it is zero, so that the hot paths find no entry and no result
/// without asking in which process they are.
///
/// # Invariants
///
/// The bytes `next` and `end` are multiples of [`Place::SIZE`], not beyond the page.
/// `run` are the entries of the run that ends at `end`, or no entries. All zeros are valid.
#[derive(Debug, Default)]
pub(crate) struct Cursors {
    next: Cell<usize>,
    end: Cell<usize>,
    run: Cell<u64>,
    /// See [`Reaper`](crate::doorbell::Reaper).
    pub(crate) ready: Cell<u64>,
}

impl Cursors {
    /// Takes the next entry of the run.
    #[inline(always)]
    pub(crate) fn stage(&self) -> Option<Place> {
        let next = self.next.get();
        if next >= self.end.get() {
            return None;
        }
        // INVARIANT: `end` is a multiple of the size, too.
        self.next.set(next + Place::SIZE);
        Some(Place(next))
    }

    /// Starts a run of a [`Poster`](crate::doorbell::Poster): from this entry to the one
    /// before `end`.
    pub(crate) fn start(&self, (first, end): (u32, u32)) {
        assert!(first < end && end <= ENTRIES);
        self.next.set(first as usize * Place::SIZE);
        self.end.set(end as usize * Place::SIZE);
        self.run
            .set((u64::MAX >> (ENTRIES - (end - first))) << first);
    }

    /// The entries of the run that were not taken.
    #[inline(always)]
    pub(crate) fn unstaged(&self) -> u64 {
        let next = self.next.get();
        if next >= self.end.get() {
            return 0;
        }
        self.run.get() & (u64::MAX << Place(next).bit())
    }

    /// Ends the run. Returns the entries that were not taken.
    pub(crate) fn stop(&self) -> u64 {
        let unstaged = self.unstaged();
        self.end.set(0);
        unstaged
    }
}

/// The words of one control block.
pub(crate) struct Ctrl<'a, W = AtomicU64, F = AtomicU32> {
    pub(crate) posted: &'a W,
    pub(crate) reaped: &'a W,
    pub(crate) taken: &'a W,
    pub(crate) done: &'a W,
    pub(crate) flags: &'a F,
}

/// The part of an entry that the program writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Request {
    pub(crate) nr: u16,
    pub(crate) flags: u8,
    pub(crate) pool: u8,
    pub(crate) take: [u8; 2],
    /// How many arguments the call has. The others are not written.
    pub(crate) used: u8,
    pub(crate) args: [u64; 6],
}

/// The part of an entry that the kernel has written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) result: i64,
    pub(crate) reason: u8,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_is_taken_in_order_and_what_is_left_is_known() {
        for (first, end) in [(0, 1), (0, 64), (5, 9), (63, 64)] {
            let cursors = Cursors::default();
            assert!(cursors.stage().is_none() && cursors.unstaged() == 0);
            cursors.start((first, end));
            for bit in first..end {
                let left = (bit..end).fold(0, |set, bit| set | (1 << bit));
                assert_eq!(cursors.unstaged(), left);
                let place = cursors.stage().unwrap();
                assert_eq!((place.bit(), place.bytes()), (bit, bit as usize * 64));
            }
            assert!(cursors.stage().is_none());
            assert_eq!((cursors.unstaged(), cursors.stop()), (0, 0));
        }
    }

    #[test]
    fn a_run_that_is_stopped_gives_the_rest_back() {
        let cursors = Cursors::default();
        cursors.start((2, 6));
        cursors.stage();
        assert_eq!(cursors.stop(), 0b11_1000);
        assert!(cursors.stage().is_none() && cursors.unstaged() == 0);
    }
}
