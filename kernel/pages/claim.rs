// SPDX-License-Identifier: GPL-2.0

//! Which entries are posted, and how a task takes them.

use super::{Inner, Pages, Words};
use crate::sys::{area::Doorbell, lock::Guard};
use core::sync::atomic::Ordering;

impl Pages {
    /// Returns the entries of `page` that are posted and not taken. Takes no lock.
    #[inline(always)]
    pub(crate) fn pending(&self, page: u32) -> u64 {
        match self.words(page) {
            Some(words) => words.pending(&self.area.doorbell(page)),
            None => 0,
        }
    }

    /// Returns the first page with an entry that is posted and not taken.
    #[inline(always)]
    pub(crate) fn first_pending(&self) -> Option<u32> {
        if self.pending(0) != 0 {
            return Some(0);
        }
        let mut page = 1;
        while page < self.len() {
            page = self.first_toggled(page)?;
            if self.pending(page) != 0 {
                return Some(page);
            }
            page += 1;
        }
        None
    }

    /// Returns the first page from `first` on whose doorbell was rung since its entries were last taken.
    #[inline(never)]
    fn first_toggled(&self, first: u32) -> Option<u32> {
        let words = self.words.get(first as usize..)?;
        (first..)
            .zip(words.iter().zip(self.area.doorbells(first)))
            .find(|(_, (words, bell))| bell.posted() != words.taken.load(Ordering::Relaxed))
            .map(|(page, _)| page)
    }

    /// Returns true if any entry is posted and not taken.
    pub(crate) fn any_pending(&self) -> bool {
        self.first_pending().is_some()
    }

    pub(super) fn claim_locked(&self, inner: &mut Guard<'_, Inner>, page: u32) -> u64 {
        match self.words(page) {
            Some(words) => self.claim_words(inner, words, &self.area.doorbell(page)),
            None => 0,
        }
    }

    #[inline(always)]
    fn claim_words(&self, inner: &mut Guard<'_, Inner>, words: &Words, bell: &Doorbell<'_>) -> u64 {
        if self.flags.dead.load(Ordering::Relaxed) {
            return 0;
        }
        // A hostile program may toggle a bit again while its entry is in flight. Such an entry
        // must not be taken twice, so its posting counts only after it is done.
        let old = words.taken.load(Ordering::Relaxed);
        let bits = (bell.posted() ^ old) & !words.busy();
        if bits != 0 {
            words.taken.store(old ^ bits, Ordering::Relaxed);
            bell.set_taken(old ^ bits);
            inner.count_posted(bits);
            // Behind the last of these entries, counted from the end of the previous batch.
            let start = words.start.load(Ordering::Relaxed);
            let last = u64::BITS - bits.rotate_right(start).leading_zeros();
            words
                .start
                .store(start.wrapping_add(last) % u64::BITS, Ordering::Relaxed);
        }
        bits
    }

    /// Takes all posted entries of `page`. The caller executes or offloads each of them.
    #[inline(always)]
    pub(crate) fn claim(&self, page: u32) -> u64 {
        let Some(words) = self.words(page) else {
            return 0;
        };
        let bell = self.area.doorbell(page);
        if words.pending(&bell) == 0 {
            return 0;
        }
        self.claim_words(&mut self.inner.lock(), words, &bell)
    }

    /// As [`Self::claim`], for the first page from `first` on that has posted entries. Returns
    /// the page and the entries.
    #[inline(always)]
    pub(crate) fn claim_from(&self, first: u32) -> Option<(u32, u64)> {
        match self.claim(first) {
            0 => self.claim_behind(first),
            bits => Some((first, bits)),
        }
    }

    /// As [`Self::claim_from`], for the pages behind `page`.
    #[inline(always)]
    fn claim_behind(&self, mut page: u32) -> Option<(u32, u64)> {
        loop {
            page += 1;
            if page >= self.len() {
                return None;
            }
            page = self.first_toggled(page)?;
            let bits = self.claim(page);
            if bits != 0 {
                return Some((page, bits));
            }
        }
    }
}
