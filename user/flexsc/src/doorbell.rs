// SPDX-License-Identifier: MIT OR Apache-2.0
//! Doorbell arithmetic: the program's half of the protocol of one syscall page.
//!
//! Uses `core` alone and knows neither the mapping nor the kernel, so that unit
//! tests and property tests run this very source, and the loom model in
//! `page_queue/model.rs` runs it together with the page queue that drives it.
//!
//! Four words, one bit for each entry, each *toggled* by its only writer:
//! `posted` and `reaped` by the program, `taken` and `done` by the kernel. The
//! pairs, and the only orderings that matter:
//!
//! * entry written → `posted` stored with release → loaded with acquire by the
//!   kernel → entry read ([`Poster::ring`]);
//! * result written → `done` stored with release → loaded with acquire here →
//!   result read ([`Reaper::results`]);
//! * sleep: the kernel sets NEED_WAKEUP, full barrier, loads `posted`; the
//!   program stores `posted`, full barrier, loads the flag ([`needs_kick`]).
//!
//! `reaped` needs no ordering of its own: an entry is written again only after
//! a [`Poster::refill`], which comes after `reaped` was stored, and it is posted
//! by a later release of `posted`.

use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};

/// Entries in one syscall page: the bits of a word.
pub const ENTRIES: u32 = u64::BITS;

/// `flexsc_ctrl.flags`: nobody polls this page, kick after posting.
pub const NEED_WAKEUP: u32 = 1;

/// Entries that the program may write: never posted, or posted and reaped.
#[must_use]
pub const fn free(posted: u64, reaped: u64) -> u64 {
    !in_flight(posted, reaped)
}

/// Entries that were posted and not reaped.
#[must_use]
pub const fn in_flight(posted: u64, reaped: u64) -> u64 {
    posted ^ reaped
}

/// Entries that were posted and not accepted.
#[must_use]
pub const fn pending(posted: u64, taken: u64) -> u64 {
    posted ^ taken
}

/// Entries whose result is there and was not reaped.
#[must_use]
pub const fn finished(done: u64, reaped: u64) -> u64 {
    done ^ reaped
}

/// The lowest bit of a set.
const fn lowest(set: u64) -> u64 {
    set & set.wrapping_neg()
}

/// A 64-bit word that the other side sees.
pub trait Word {
    /// As [`AtomicU64::load`].
    fn load(&self, order: Ordering) -> u64;
    /// As [`AtomicU64::store`].
    fn store(&self, value: u64, order: Ordering);
}

/// The flags of a control block, and the full barrier that goes before them.
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

/// The posting half of one page: which entries may be written, and `posted`.
///
/// Free entries are handed out in rounds, each in ascending order: the order of
/// posting is that of the indices, round the page.
///
/// # Invariants
///
/// `base ^ left` is `posted` as it will be after the next ring. The entries of
/// `left` are free under it, and the kernel knows that they were reaped.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Poster {
    /// What is left of the round.
    left: u64,
    base: u64,
    /// `posted` as it was stored last.
    last_posted: u64,
}

impl Poster {
    /// For a page whose words are all `word` (zero in a fresh page). The first
    /// round begins with a [`refill`](Self::refill).
    #[must_use]
    pub const fn new(word: u64) -> Self {
        Poster {
            left: 0,
            base: word,
            last_posted: word,
        }
    }

    /// The lowest entry that is left of the round, staged from now on; the
    /// caller writes it before the next [`ring`](Self::ring).
    #[inline]
    pub const fn stage(&mut self) -> Option<u32> {
        let left = self.left;
        if left == 0 {
            return None;
        }
        self.left = left & (left - 1);
        Some(left.trailing_zeros())
    }

    /// As [`stage`](Self::stage), with `len` (1 to 64) entries side by side;
    /// the first of them. What lies below them is left out of this round.
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
        // INVARIANT: what is left out shall not be posted: it goes from both.
        self.base ^= below;
        self.left ^= below | run;
        Some(first)
    }

    /// Begins another round with all entries that are free now, where `reaped`
    /// is the page's word; the kernel must be told of it before the next ring.
    /// Says whether there are any.
    #[inline]
    pub const fn refill(&mut self, reaped: u64) -> bool {
        let next = self.next();
        self.left = free(next, reaped);
        self.base = next ^ self.left;
        self.left != 0
    }

    /// Posts what is staged with one store. Says whether there was anything.
    #[inline]
    pub fn ring(&mut self, posted: &impl Word) -> bool {
        let next = self.next();
        if next == self.last_posted {
            return false;
        }
        // ORDERING: release: pairs with the kernel's acquire load of `posted`;
        // whoever sees the bit sees the entry.
        posted.store(next, Ordering::Release);
        self.last_posted = next;
        true
    }

    /// `posted` as it will be after the next ring.
    #[inline]
    #[must_use]
    pub const fn next(&self) -> u64 {
        self.base ^ self.left
    }

    /// `posted` as it was stored last.
    #[inline]
    #[must_use]
    pub const fn last_posted(&self) -> u64 {
        self.last_posted
    }

    /// Entries that are staged and not posted.
    #[inline]
    #[must_use]
    pub const fn staged(&self) -> u64 {
        self.next() ^ self.last_posted
    }
}

/// The reaping half of one page: results that are there, and `reaped`.
///
/// # Invariants
///
/// `base ^ ready` is `reaped`: toggled for each result that was taken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reaper {
    /// Finished entries seen by the last look and not reaped since.
    ready: u64,
    base: u64,
}

impl Reaper {
    /// For a page whose words are all `word` (zero in a fresh page).
    #[must_use]
    pub const fn new(word: u64) -> Self {
        Reaper {
            ready: 0,
            base: word,
        }
    }

    /// Toggled for each result that was taken.
    #[inline]
    #[must_use]
    pub const fn reaped(&self) -> u64 {
        self.base ^ self.ready
    }

    /// Entries whose result is there, of those that were posted; `last_posted` is
    /// [`Poster::last_posted`].
    #[inline]
    pub fn results(&self, done: &impl Word, last_posted: u64) -> u64 {
        // ORDERING: acquire: pairs with the kernel's release store of `done`;
        // a set bit means that the result is there.
        let done = done.load(Ordering::Acquire);
        // Bits of entries that were never posted are noise.
        finished(done, self.reaped()) & in_flight(last_posted, self.reaped())
    }

    /// Looks for results; says how many are ready to be reaped.
    #[inline]
    pub fn look(&mut self, done: &impl Word, last_posted: u64) -> u64 {
        let ready = self.results(done, last_posted);
        self.base = self.reaped() ^ ready;
        self.ready = ready;
        ready
    }

    /// The next result that the last look saw, reaped from now on. The entry
    /// must be read before the next [`Poster::refill`]. The kernel learns
    /// of it when `reaped` is stored: its cores read that line too, so better
    /// once for all of them.
    #[inline]
    pub const fn reap(&mut self) -> Option<u32> {
        let ready = self.ready;
        if ready == 0 {
            return None;
        }
        self.ready = ready & (ready - 1);
        Some(ready.trailing_zeros())
    }
}

/// Whether the kernel may be asleep although entries were posted to this page;
/// `last_posted` is [`Poster::last_posted`].
///
/// Call it after the ring. At least one of the two sees the other: the kernel
/// sees the entries when it looks again before it sleeps, or this sees the flag.
pub fn needs_kick(last_posted: u64, taken: &impl Word, flags: &impl Flags) -> bool {
    // ORDERING: full barrier between the store of `posted` and the load of
    // the flags; pairs with the kernel's between flags and `posted`.
    flags.fence(Ordering::SeqCst);
    // ORDERING: relaxed: `taken` is only a hint, nothing is read because of it.
    let taken = || taken.load(Ordering::Relaxed);
    flags.load(Ordering::Relaxed) & NEED_WAKEUP != 0 && pending(last_posted, taken()) != 0
}

#[cfg(test)]
mod tests;
