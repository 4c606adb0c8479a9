// SPDX-License-Identifier: GPL-2.0

//! The owner publishes the results of its batch without the lock.

use super::{Pages, Words};
use core::sync::atomic::Ordering;

impl Pages {
    /// As [`Self::publish`], by the owner. It sleeps for nothing now, so that nobody has to be woken,
    /// and it alone executes `bits`. So it takes the lock only for entries with something special.
    #[inline(always)]
    pub(super) fn publish_own(&self, page: u32, bits: u64) {
        let Some(words) = self.words(page) else {
            return;
        };
        self.check_own(page, bits);
        // What was noted by the tasks that have executed them.
        if words.special.load(Ordering::Relaxed) & bits != 0 {
            return self.publish_special(page, bits);
        }
        // ORDERING: Pairs with `cancel_taken`: either CANCEL sees that the entry is finished, or its
        // note is seen here.
        words.done.fetch_xor(bits, Ordering::SeqCst);
        if words.special.load(Ordering::SeqCst) & bits != 0 {
            self.forget_late(words, page, bits);
        }
        self.area.doorbell(page).toggle_done(bits);
        self.notify();
    }

    #[cold]
    fn publish_special(&self, page: u32, bits: u64) {
        self.publish(page, bits, 0);
    }

    #[cold]
    fn forget_late(&self, words: &Words, page: u32, bits: u64) {
        let _inner = self.inner.lock();
        self.forget(words, page, bits);
    }
}
