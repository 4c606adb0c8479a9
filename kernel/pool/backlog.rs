// SPDX-License-Identifier: GPL-2.0

//! Detects that work has waited so long that another CPU must be polled. Pure logic, shared with
//! the host's tests.
//!
//! A program can keep both counts growing forever, by one in each round of polling, so they stop at
//! the number that matters.

use core::sync::atomic::{AtomicU32, Ordering};

/// Number of checks in a row that must find waiting work before a CPU is recruited.
pub(crate) const LOOKS: u32 = 8;

/// Number of busy rounds in a row that count as a backlog.
pub(crate) const ROUNDS: u32 = 64;

/// Counts the checks in a row that found waiting work.
#[derive(Default)]
pub(crate) struct Backlog(pub(crate) AtomicU32);

impl Backlog {
    /// Counts one more check. Returns true if [`LOOKS`] checks in a row found waiting work.
    pub(crate) fn note(&self, found: bool) -> bool {
        if !found {
            self.forget();
            return false;
        }
        // ORDERING: A hint: two checks at once may count as one.
        let looks = self.0.load(Ordering::Relaxed);
        let looks = core::cmp::min(looks.wrapping_add(1), LOOKS);
        self.0.store(looks, Ordering::Relaxed);
        looks == LOOKS
    }

    /// Starts over, since a CPU was recruited.
    pub(crate) fn forget(&self) {
        self.0.store(0, Ordering::Relaxed);
    }
}

/// Counts the busy rounds of one poller in a row.
#[derive(Default)]
pub(crate) struct Streak(pub(crate) u32);

impl Streak {
    /// Counts one more busy round. Returns true after each [`ROUNDS`] of them.
    pub(crate) fn was_busy(&mut self) -> bool {
        self.0 = self.0.wrapping_add(1) % ROUNDS;
        self.0 == 0
    }

    /// Starts over, since a round found nothing.
    pub(crate) fn was_idle(&mut self) {
        self.0 = 0;
    }
}
