// SPDX-License-Identifier: MIT OR Apache-2.0
//! Doorbell arithmetic: the program's half of the protocol of one syscall page.
//!
//! Uses `core` alone and knows neither the mapping nor the kernel, so that unit
//! tests, property tests and the loom model run this very source.
//!
//! Four words, one bit for each entry, each *toggled* by its only writer:
//! `posted` and `reaped` by the program, `taken` and `done` by the kernel. The
//! pairs, and the only orderings that matter:
//!
//! * entry written → `posted` stored with release → loaded with acquire by the
//!   kernel → entry read ([`Producer::ring`]);
//! * result written → `done` stored with release → loaded with acquire here →
//!   result read ([`Producer::results`]);
//! * sleep: the kernel sets NEED_WAKEUP, full barrier, loads `posted`; the
//!   program stores `posted`, full barrier, loads the flag ([`needs_kick`]).
//!
//! `reaped` needs no ordering of its own: an entry is written again only under
//! a later release of `posted`.

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
    fn load(&self, order: Ordering) -> u64 {
        AtomicU64::load(self, order)
    }

    fn store(&self, value: u64, order: Ordering) {
        AtomicU64::store(self, value, order);
    }
}

impl Flags for AtomicU32 {
    fn load(&self, order: Ordering) -> u32 {
        AtomicU32::load(self, order)
    }

    fn fence(&self, order: Ordering) {
        core::sync::atomic::fence(order);
    }
}

/// What the program knows of one page without looking: its own two words, and
/// the results that it saw last.
///
/// # Invariants
///
/// `next ^ rung` are the staged entries, all of them free under `rung`;
/// `ready` lies within `rung ^ reaped`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Producer {
    /// `posted` as it will be after the next ring.
    next: u64,
    /// `posted` as it was stored last.
    rung: u64,
    /// Toggled for each result that was taken.
    reaped: u64,
    /// `reaped` as it was stored last.
    told: u64,
    /// Finished entries seen by the last look and not reaped since.
    ready: u64,
}

impl Producer {
    /// For a page whose words are all `word` (zero in a fresh page).
    #[must_use]
    pub const fn new(word: u64) -> Self {
        Producer {
            next: word,
            rung: word,
            reaped: word,
            told: word,
            ready: 0,
        }
    }

    /// Entries that may be staged.
    #[inline]
    #[must_use]
    pub const fn free(&self) -> u64 {
        free(self.next, self.reaped)
    }

    /// Entries that are staged or posted, and not reaped.
    #[inline]
    #[must_use]
    pub const fn in_flight(&self) -> u64 {
        in_flight(self.next, self.reaped)
    }

    /// Entries that are staged and not posted.
    #[inline]
    #[must_use]
    pub const fn staged(&self) -> u64 {
        self.next ^ self.rung
    }

    /// Entries that the kernel may see: posted, and not reaped.
    #[inline]
    #[must_use]
    pub const fn posted(&self) -> u64 {
        in_flight(self.rung, self.reaped)
    }

    /// The lowest free entry, staged from now on; the caller writes it before
    /// the next [`ring`](Self::ring).
    #[inline]
    pub const fn stage(&mut self) -> Option<u32> {
        let free = self.free();
        if free == 0 {
            return None;
        }
        self.next ^= lowest(free);
        Some(free.trailing_zeros())
    }

    /// Posts what is staged with one store. Says whether there was anything.
    #[inline]
    pub fn ring(&mut self, posted: &impl Word, reaped: &impl Word) -> bool {
        if self.next == self.rung {
            return false;
        }
        self.tell(reaped);
        // ORDERING: release: pairs with the kernel's acquire load of `posted`;
        // whoever sees the bit sees the entry.
        posted.store(self.next, Ordering::Release);
        self.rung = self.next;
        true
    }

    /// Entries whose result is there.
    #[inline]
    pub fn results(&self, done: &impl Word) -> u64 {
        // ORDERING: acquire: pairs with the kernel's release store of `done`;
        // a set bit means that the result is there.
        let done = done.load(Ordering::Acquire);
        // Bits of entries that were never posted are noise.
        finished(done, self.reaped) & self.posted()
    }

    /// Looks for results; says how many are ready to be reaped.
    #[inline]
    pub fn look(&mut self, done: &impl Word) -> u32 {
        self.ready = self.results(done);
        self.ready.count_ones()
    }

    /// The next result that the last look saw, reaped from now on. The entry
    /// must be read before the next [`stage`](Self::stage). The kernel learns
    /// of it by [`tell`](Self::tell) or [`ring`](Self::ring): its cores read
    /// that line too, so better once for all of them.
    #[inline]
    pub const fn reap(&mut self) -> Option<u32> {
        let ready = self.ready;
        if ready == 0 {
            return None;
        }
        let low = lowest(ready);
        self.ready = ready ^ low;
        self.reaped ^= low;
        Some(ready.trailing_zeros())
    }

    /// Whether all results that the last look saw are reaped.
    #[inline]
    #[must_use]
    pub const fn is_reaped(&self) -> bool {
        self.ready == 0
    }

    /// Stores `reaped` where the kernel does not know it yet.
    #[inline]
    pub fn tell(&mut self, reaped: &impl Word) {
        if self.told != self.reaped {
            // ORDERING: relaxed: see the head of this file.
            reaped.store(self.reaped, Ordering::Relaxed);
            self.told = self.reaped;
        }
    }

    /// Entries that were posted and that the kernel has not accepted.
    pub fn pending(&self, taken: &impl Word) -> u64 {
        // ORDERING: relaxed: only a hint, nothing is read because of it.
        pending(self.rung, taken.load(Ordering::Relaxed))
    }
}

/// Whether the kernel may be asleep although entries were posted to this page.
///
/// Call it after the ring. At least one of the two sees the other: the kernel
/// sees the entries when it looks again before it sleeps, or this sees the flag.
pub fn needs_kick(producer: &Producer, taken: &impl Word, flags: &impl Flags) -> bool {
    // ORDERING: full barrier between the store of `posted` and the load of
    // the flags; pairs with the kernel's between flags and `posted`.
    flags.fence(Ordering::SeqCst);
    flags.load(Ordering::Relaxed) & NEED_WAKEUP != 0 && producer.pending(taken) != 0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words() -> (AtomicU64, AtomicU64, AtomicU64) {
        (AtomicU64::new(0), AtomicU64::new(0), AtomicU64::new(0))
    }

    #[test]
    fn a_fresh_page_is_free() {
        let page = Producer::new(0);
        assert_eq!(page.free(), u64::MAX);
        assert_eq!(page.in_flight(), 0);
    }

    #[test]
    fn staging_is_invisible_until_the_ring() {
        let (posted, reaped, _) = words();
        let mut page = Producer::new(0);
        assert_eq!(page.stage(), Some(0));
        assert_eq!(page.stage(), Some(1));
        assert_eq!((page.staged(), page.posted()), (3, 0));
        assert_eq!(posted.load(Ordering::Relaxed), 0);
        assert!(page.ring(&posted, &reaped));
        assert_eq!(posted.load(Ordering::Relaxed), 3);
        assert_eq!((page.staged(), page.posted()), (0, 3));
        assert!(!page.ring(&posted, &reaped));
    }

    #[test]
    fn a_page_holds_64_entries() {
        let mut page = Producer::new(0);
        for bit in 0..ENTRIES {
            assert_eq!(page.stage(), Some(bit));
        }
        assert_eq!(page.stage(), None);
        assert_eq!(page.free(), 0);
    }

    #[test]
    fn results_are_reaped_once_and_the_kernel_told_when_asked() {
        let (posted, reaped, done) = words();
        let mut page = Producer::new(0);
        page.stage();
        page.stage();
        page.stage();
        page.ring(&posted, &reaped);
        done.store(0b101, Ordering::Relaxed);
        assert_eq!(page.look(&done), 2);
        assert_eq!(page.reap(), Some(0));
        assert!(!page.is_reaped());
        assert_eq!(page.reap(), Some(2));
        assert!(page.is_reaped());
        assert_eq!(reaped.load(Ordering::Relaxed), 0);
        page.tell(&reaped);
        assert_eq!(reaped.load(Ordering::Relaxed), 0b101);
        assert_eq!(page.reap(), None);
        assert_eq!(page.look(&done), 0);
        assert_eq!(page.in_flight(), 0b010);
    }

    #[test]
    fn results_of_entries_that_were_not_posted_are_ignored() {
        let (posted, reaped, done) = words();
        let mut page = Producer::new(0);
        page.stage();
        done.store(u64::MAX, Ordering::Relaxed);
        assert_eq!(page.look(&done), 0);
        page.ring(&posted, &reaped);
        assert_eq!(page.look(&done), 1);
    }

    #[test]
    fn kick_only_while_entries_are_pending() {
        let (posted, reaped, taken) = words();
        let flags = AtomicU32::new(NEED_WAKEUP);
        let mut page = Producer::new(0);
        page.stage();
        assert!(!needs_kick(&page, &taken, &flags));
        page.ring(&posted, &reaped);
        assert!(needs_kick(&page, &taken, &flags));
        taken.store(1, Ordering::Relaxed);
        assert!(!needs_kick(&page, &taken, &flags));
        page.stage();
        page.ring(&posted, &reaped);
        flags.store(0, Ordering::Relaxed);
        assert!(!needs_kick(&page, &taken, &flags));
    }
}
