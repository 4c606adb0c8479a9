// SPDX-License-Identifier: GPL-2.0

//! What holds for a pool's table whenever its lock is free, checked by kernels with
//! CONFIG_RUST_DEBUG_ASSERTIONS when the lock is taken. Other kernels omit the checks.

use super::{Inner, Slot, State, NONE};
use core::sync::atomic::{AtomicU32, Ordering};

/// Tables and queues up to this length are checked each time.
const SMALL: usize = 32;
/// Longer ones are checked once in this many times, so that the work under the lock
/// stays small.
const SELDOM: u32 = 64;

/// How often the lock of a long table was taken, over all pools.
static TIMES: AtomicU32 = AtomicU32::new(0);

fn is_due(len: usize) -> bool {
    // ORDERING: None needed: an exact count does not matter.
    len <= SMALL || TIMES.fetch_add(1, Ordering::Relaxed) % SELDOM == 0
}

impl Inner {
    /// Checks, just after the lock was taken, the state that the last holder left.
    #[inline(always)]
    pub(in crate::pool) fn check(&self) {
        if cfg!(debug_assertions) {
            self.compare();
        }
    }

    #[inline(never)]
    fn compare(&self) {
        self.queue.check_bounds();
        if is_due(core::cmp::max(self.slots.len(), self.queue.len() as usize)) {
            self.compare_counts();
            self.queue.check_all();
            self.compare_lists();
        }
    }

    fn count(&self, is: impl Fn(State) -> bool) -> u32 {
        self.slots.iter().filter(|slot| is(slot.state)).count() as u32
    }

    fn compare_counts(&self) {
        let now = &self.counters.now;
        debug_assert!(now.threads == self.count(|s| s != State::Free));
        debug_assert!(now.idle == self.count(|s| s == State::Idle));
        debug_assert!(now.nr_running == self.count(State::is_running));
        debug_assert!(now.blocked == self.count(|s| s == State::Blocked));
        debug_assert!(now.queued == self.queue.len());
        let counts = &self.counts;
        debug_assert!(counts.starting == self.count(|s| s == State::Starting));
        debug_assert!(counts.executing == self.count(State::is_executing));
        debug_assert!(counts.polling == self.count(|s| s == State::Polling));
        debug_assert!(counts.finishing == self.count(|s| s == State::Finishing));
        let pollers = self.count(|s| matches!(s, State::Polling | State::PollerAsleep(_)));
        debug_assert!(pollers <= self.pollers.cpus().count_ones());
    }

    /// Iterates over the slots of a list, at most once over the table.
    fn list(&self, first: u32) -> impl Iterator<Item = &Slot> {
        let mut at = first;
        (0..self.slots.len()).map_while(move |_| {
            let slot = self.slots.get(at as usize)?;
            at = slot.next;
            Some(slot)
        })
    }

    fn compare_lists(&self) {
        for (first, state, number) in [
            (self.idle, State::Idle, self.counters.now.idle),
            (
                self.free,
                State::Free,
                self.slots.len() as u32 - self.counters.now.threads,
            ),
        ] {
            debug_assert!(self.list(first).all(|slot| slot.state == state));
            debug_assert!(self.list(first).count() as u32 == number);
            debug_assert!(first == NONE || (first as usize) < self.slots.len());
        }
    }
}

#[cfg(debug_assertions)]
impl Drop for Inner {
    fn drop(&mut self) {
        // All threads have left, and no owner is in a call of the engine.
        debug_assert!(self.counters.now.threads == 0);
        debug_assert!(self.counts.owners_blocked == 0);
        self.compare_counts();
    }
}
