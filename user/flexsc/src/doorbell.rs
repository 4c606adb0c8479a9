// SPDX-License-Identifier: MIT OR Apache-2.0
//! The program's half of the doorbell protocol of one syscall page.
//!
//! This file uses only `core` and knows neither the mapping nor the kernel. Unit tests and
//! property tests run this source, and the loom model in `page_queue/model.rs` runs it
//! together with the page queue that drives it.
//!
//! There are four words with one bit for each entry. Each word has one writer, which
//! *toggles* bits: the program writes `posted` and `reaped`, the kernel `taken` and `done`.
//! These pairs are the only orderings that matter:
//!
//! * entry written → `posted` stored with release → loaded with acquire by the
//!   kernel → entry read ([`Poster::ring`]);
//! * result written → `done` stored with release → loaded with acquire here →
//!   result read ([`Reaper::results`]);
//! * sleep: the kernel sets NEED_WAKEUP, full barrier, loads `posted`; the
//!   program stores `posted`, full barrier, loads the flag ([`needs_kick`]).
//!
//! `reaped` needs no ordering of its own. An entry is written again only after a
//! [`Poster::refill`], which follows the store of `reaped`, and a later release of `posted`
//! posts it.

use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};

/// Entries in one syscall page: the bits of a word.
pub const ENTRIES: u32 = u64::BITS;

/// `flexsc_ctrl.flags`: no poller watches this page, so kick after posting.
pub const NEED_WAKEUP: u32 = 1;

/// Entries that the program may write: never posted, or posted and reaped.
#[must_use]
pub const fn free(posted: u64, reaped: u64) -> u64 {
    !in_flight(posted, reaped)
}

/// Entries that were posted but not reaped.
#[must_use]
pub const fn in_flight(posted: u64, reaped: u64) -> u64 {
    posted ^ reaped
}

/// Entries that were posted but not accepted.
#[must_use]
pub const fn pending(posted: u64, taken: u64) -> u64 {
    posted ^ taken
}

/// Entries with a result that was not reaped.
#[must_use]
pub const fn finished(done: u64, reaped: u64) -> u64 {
    done ^ reaped
}

/// The lowest bit of a set.
const fn lowest(set: u64) -> u64 {
    set & set.wrapping_neg()
}

/// Takes the lowest entry out of a set. Returns it and the others.
#[inline(always)]
#[must_use]
pub const fn take_lowest(set: u64) -> Option<(u32, u64)> {
    if set == 0 {
        return None;
    }
    Some((set.trailing_zeros(), set & (set - 1)))
}

/// A 64-bit word shared with the other side.
pub trait Word {
    /// As [`AtomicU64::load`].
    fn load(&self, order: Ordering) -> u64;
    /// As [`AtomicU64::store`].
    fn store(&self, value: u64, order: Ordering);
}

/// The flags of a control block, and the full barrier before their load.
pub trait Flags {
    /// As [`AtomicU32::load`].
    fn load(&self, order: Ordering) -> u32;
    /// As [`fence`](core::sync::atomic::fence).
    fn fence(&self, order: Ordering);
}

impl Word for AtomicU64 {
    #[inline(always)]
    fn load(&self, order: Ordering) -> u64 {
        AtomicU64::load(self, order)
    }

    #[inline(always)]
    fn store(&self, value: u64, order: Ordering) {
        AtomicU64::store(self, value, order);
    }
}

impl Flags for AtomicU32 {
    #[inline(always)]
    fn load(&self, order: Ordering) -> u32 {
        AtomicU32::load(self, order)
    }

    #[inline(always)]
    fn fence(&self, order: Ordering) {
        core::sync::atomic::fence(order);
    }
}

/// The posting half of one page: tracks which entries may be written, and `posted`.
///
/// Free entries are handed out in rounds of ascending order, so entries are posted in the
/// order of their indices, round the page. They are handed out in runs of adjacent ones
/// ([`Poster::take_run`]), so that the caller only counts up. The caller knows which of its
/// run it has not staged yet, and says so (`unstaged`).
///
/// # Invariants
///
/// `base ^ left ^ unstaged` is `posted` as of the next ring. The entries of `left` and
/// `unstaged` are free under it, and the kernel knows that they were reaped.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Poster {
    /// The entries left in this round.
    left: u64,
    base: u64,
    /// The last stored value of `posted`.
    last_posted: u64,
}

impl Poster {
    /// Makes the half for a page whose words are all `word` (zero in a fresh page). The
    /// first round starts with a [`refill`](Self::refill).
    #[must_use]
    pub const fn new(word: u64) -> Self {
        Poster {
            left: 0,
            base: word,
            last_posted: word,
        }
    }

    /// Hands out the lowest run of adjacent entries that are left in the round: its first
    /// entry and the end, which is one more than its last one. The caller stages them in this
    /// order, and must write each before the next [`ring`](Self::ring).
    pub const fn take_run(&mut self) -> Option<(u32, u32)> {
        let left = self.left;
        if left == 0 {
            return None;
        }
        // The sum is zero if the run has the highest entry; then 64 is its end.
        let above = left.wrapping_add(lowest(left));
        self.left = left & above;
        Some((left.trailing_zeros(), above.trailing_zeros()))
    }

    /// Takes back the unstaged entries of a run.
    pub const fn put_back(&mut self, unstaged: u64) {
        self.left |= unstaged;
    }

    /// Stages `len` (1 to 64) adjacent entries, when no run is handed out. Returns the first
    /// of them. The entries below them are skipped in this round.
    pub const fn stage_run(&mut self, len: u32) -> Option<u32> {
        let mut starts = self.left;
        let mut nth = 1;
        while nth < len {
            starts &= self.left >> nth;
            nth += 1;
        }
        if starts == 0 || len == 0 {
            return None;
        }
        let first = starts.trailing_zeros();
        let run = (u64::MAX >> (ENTRIES - len)) << first;
        let below = self.left & (lowest(starts) - 1);
        // INVARIANT: skipped entries must not be posted, so they leave both words.
        self.base ^= below;
        self.left ^= below | run;
        Some(first)
    }

    /// Starts another round with all entries that are free now, when no run is handed out.
    /// `reaped` is the page's word, which must be stored before the next ring. Returns true
    /// if there are any.
    #[inline]
    pub const fn refill(&mut self, reaped: u64) -> bool {
        let next = self.next(0);
        self.left = free(next, reaped);
        self.base = next ^ self.left;
        self.left != 0
    }

    /// Posts staged entries with one store. Returns true if there were any.
    #[inline]
    pub fn ring(&mut self, posted: &impl Word, unstaged: u64) -> bool {
        let next = self.next(unstaged);
        if next == self.last_posted {
            return false;
        }
        // ORDERING: release, pairs with the kernel's acquire load of `posted`: a reader
        // that sees the bit sees the entry.
        posted.store(next, Ordering::Release);
        self.last_posted = next;
        true
    }

    /// The value that the next ring stores to `posted`.
    #[inline]
    #[must_use]
    pub const fn next(&self, unstaged: u64) -> u64 {
        self.base ^ self.left ^ unstaged
    }

    /// The last stored value of `posted`.
    #[inline]
    #[must_use]
    pub const fn last_posted(&self) -> u64 {
        self.last_posted
    }

    /// Entries that are staged but not posted.
    #[inline]
    #[must_use]
    pub const fn staged(&self, unstaged: u64) -> u64 {
        self.next(unstaged) ^ self.last_posted
    }
}

/// The reaping half of one page: tracks `reaped`. The caller has the set of available
/// results (`ready`): finished entries that the last look has found and that were not taken
/// out since ([`take_lowest`]).
///
/// # Invariants
///
/// `base ^ ready` is `reaped`: toggled for each result that was taken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reaper {
    base: u64,
}

impl Reaper {
    /// Makes the half for a page whose words are all `word` (zero in a fresh page).
    #[must_use]
    pub const fn new(word: u64) -> Self {
        Reaper { base: word }
    }

    /// The value of `reaped`: a bit is toggled for each result that was taken. An entry must
    /// be read before the next [`Poster::refill`]. The kernel learns of the reaping when
    /// `reaped` is stored. Since the kernel's CPUs read that line, one store for many results
    /// is best.
    #[inline]
    #[must_use]
    pub const fn reaped(&self, ready: u64) -> u64 {
        self.base ^ ready
    }

    /// Returns the posted entries that have a result. `last_posted` is
    /// [`Poster::last_posted`].
    #[inline]
    pub fn results(&self, done: &impl Word, last_posted: u64, ready: u64) -> u64 {
        let reaped = self.reaped(ready);
        // ORDERING: acquire, pairs with the kernel's release store of `done`: a set bit
        // means that the result can be read.
        let done = done.load(Ordering::Acquire);
        // Bits of entries that were never posted are meaningless.
        finished(done, reaped) & in_flight(last_posted, reaped)
    }

    /// Looks for results. Returns the entries that can be reaped, the new `ready`.
    #[inline]
    #[must_use]
    pub fn look(&mut self, done: &impl Word, last_posted: u64, ready: u64) -> u64 {
        let now = self.results(done, last_posted, ready);
        self.base = self.reaped(ready) ^ now;
        now
    }
}

/// Returns true if the kernel may be asleep although entries were posted to this page.
/// `last_posted` is [`Poster::last_posted`].
///
/// Call this after the ring. At least one side sees the other: the kernel sees the entries
/// when it looks again before it sleeps, or this function sees the flag.
pub fn needs_kick(last_posted: u64, taken: &impl Word, flags: &impl Flags) -> bool {
    // ORDERING: full barrier between the store of `posted` and the load of the flags, pairs
    // with the kernel's barrier between flags and `posted`.
    flags.fence(Ordering::SeqCst);
    // ORDERING: relaxed, `taken` is only a hint; nothing is read because of it.
    let taken = || taken.load(Ordering::Relaxed);
    flags.load(Ordering::Relaxed) & NEED_WAKEUP != 0 && pending(last_posted, taken()) != 0
}

#[cfg(test)]
mod tests;
