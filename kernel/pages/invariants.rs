// SPDX-License-Identifier: GPL-2.0

//! What holds for a registration whenever its lock is free, checked by kernels with
//! CONFIG_RUST_DEBUG_ASSERTIONS when entries are published. Other kernels omit the checks.

use super::{Inner, Pages};
use crate::defs::POOLS;
use core::sync::atomic::{AtomicU32, Ordering};
use kernel::uapi;

/// The 64 sleepers of a page are compared once in this many times.
const SELDOM: u32 = 16;

/// How often entries were published, over all registrations.
static TIMES: AtomicU32 = AtomicU32::new(0);

impl Pages {
    /// Checks the words of `page` in the state that the last holder of the lock left.
    #[inline(always)]
    pub(super) fn check(&self, inner: &Inner, page: u32) {
        if cfg!(debug_assertions) {
            self.compare_words(inner, page);
            // ORDERING: None needed: an exact count does not matter.
            if TIMES.fetch_add(1, Ordering::Relaxed) % SELDOM == 0 {
                self.compare_sleepers(inner, page);
            }
        }
    }

    /// Checks, before `bits` are published, that each was taken once and that no other task will
    /// execute it.
    #[inline(always)]
    pub(super) fn check_published(&self, inner: &Inner, page: u32, bits: u64) {
        if cfg!(debug_assertions) {
            let Some(words) = self.words(page) else {
                return;
            };
            debug_assert!(bits & !words.busy() == 0, "published and not taken");
            debug_assert!(bits & waiting(inner, page) == 0, "published and waiting");
            let kept = words.kept.load(Ordering::Relaxed);
            debug_assert!(bits & kept == 0, "published and kept");
        }
    }

    #[inline(never)]
    fn compare_words(&self, inner: &Inner, page: u32) {
        let Some(words) = self.words(page) else {
            return;
        };
        let busy = words.busy();
        let waiting = waiting(inner, page);
        let held = words.held.load(Ordering::Relaxed);
        // CANCEL may come before an entry is taken, so any bit may be set.
        let cancelled = words.cancelled.load(Ordering::Relaxed);
        let owners = words.owners.load(Ordering::Relaxed);
        let returned = words.returned.load(Ordering::Relaxed);
        let special = words.special.load(Ordering::Relaxed);
        let parked = words.parked.load(Ordering::Relaxed);
        let kept = words.kept.load(Ordering::Relaxed);
        debug_assert!(kept & !busy == 0, "kept and not taken");
        debug_assert!(parked & !kept == 0, "parked and not kept");
        debug_assert!(
            parked & (waiting | held | returned) == 0,
            "parked, and elsewhere"
        );
        debug_assert!(waiting & !busy == 0, "waiting and not taken");
        debug_assert!(held & !busy == 0, "held and not taken");
        debug_assert!(held & waiting == 0, "held and waiting");
        debug_assert!(owners & !busy == 0, "left to others and not taken");
        debug_assert!(returned & !busy == 0, "given back and not taken");
        debug_assert!(
            returned & (waiting | held | owners) == 0,
            "given back, and not"
        );
        debug_assert!(
            (cancelled | held | owners) & !special == 0,
            "special, and not"
        );
        debug_assert!(words.start.load(Ordering::Relaxed) < u64::BITS);
    }

    #[inline(never)]
    fn compare_sleepers(&self, inner: &Inner, page: u32) {
        let busy = self.words(page).map_or(0, |words| words.busy());
        let entries = uapi::FLEXSC_PAGE_ENTRIES;
        for index in 0..entries {
            let sleeper = inner.sleepers.get((page * entries + index) as usize);
            debug_assert!(
                busy & (1 << index) != 0 || !sleeper.is_some_and(Option::is_some),
                "asleep in an entry that was not taken"
            );
        }
    }
}

/// Returns the entries that wait for a thread of any pool. No entry waits for two.
fn waiting(inner: &Inner, page: u32) -> u64 {
    let Some(page) = inner.pages.get(page as usize) else {
        return 0;
    };
    (0..POOLS as u8).fold(0, |all, pool| {
        let bits = page.offloaded(pool);
        debug_assert!(bits & all == 0, "waiting for two pools");
        all | bits
    })
}

#[cfg(debug_assertions)]
impl Drop for Pages {
    fn drop(&mut self) {
        // Each mapping holds a reference. This also detects a negative number.
        debug_assert!(self.mapped.load(Ordering::Relaxed) & !(1 << 31) == 0);
        let inner = self.inner.lock();
        debug_assert!(inner.sleepers.iter().all(Option::is_none));
        debug_assert!(inner.missing == 0);
    }
}
