// SPDX-License-Identifier: GPL-2.0

//! Tells when work waits for so long that another CPU has to be polled. Pure logic, shared with the
//! tests of the host.
//!
//! A program can keep both counts growing for ever, one in each round of polling, so they stop at
//! the number that matters.

use core::sync::atomic::{AtomicU32, Ordering};

/// Number of looks in a row that must find that work waits before a CPU is recruited.
pub(crate) const LOOKS: u32 = 8;

/// Number of rounds in a row, each of which has found something, that count as a backlog.
pub(crate) const ROUNDS: u32 = 64;

/// Looks in a row that have found that work waits.
#[derive(Default)]
pub(crate) struct Backlog(pub(crate) AtomicU32);

impl Backlog {
    /// One look more. Returns true if [`LOOKS`] in a row have found something.
    pub(crate) fn note(&self, found: bool) -> bool {
        if !found {
            self.forget();
            return false;
        }
        // ORDERING: A hint: two looks at once may count as one.
        let looks = self.0.load(Ordering::Relaxed);
        let looks = core::cmp::min(looks.wrapping_add(1), LOOKS);
        self.0.store(looks, Ordering::Relaxed);
        looks == LOOKS
    }

    /// A CPU was recruited.
    pub(crate) fn forget(&self) {
        self.0.store(0, Ordering::Relaxed);
    }
}

/// Rounds of one poller in a row that have found something.
#[derive(Default)]
pub(crate) struct Streak(pub(crate) u32);

impl Streak {
    /// One more. Returns true each time that there were [`ROUNDS`] more.
    pub(crate) fn was_busy(&mut self) -> bool {
        self.0 = self.0.wrapping_add(1) % ROUNDS;
        self.0 == 0
    }

    /// A round has found nothing.
    pub(crate) fn was_idle(&mut self) {
        self.0 = 0;
    }
}
