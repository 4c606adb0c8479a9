// SPDX-License-Identifier: GPL-2.0

//! What holds for a pool's table whenever its lock is free, checked by kernels with
//! CONFIG_RUST_DEBUG_ASSERTIONS when the lock is taken. Others have none of it.

use super::{Inner, Slot, State, NONE};
use core::sync::atomic::{AtomicU32, Ordering};

/// Tables and queues up to this length are looked through each time.
const SMALL: usize = 32;
/// Longer ones every so many times, so that the work under the lock stays small.
const SELDOM: u32 = 64;

/// How often the lock of a long table was taken, of all pools.
static TIMES: AtomicU32 = AtomicU32::new(0);

fn is_due(len: usize) -> bool {
    // ORDERING: None needed: any of them will do.
    len <= SMALL || TIMES.fetch_add(1, Ordering::Relaxed) % SELDOM == 0
}

impl Inner {
    /// To be called when the lock was taken: what whoever held it before has left.
    #[inline(always)]
    pub(in crate::pool) fn check(&self) {
        if cfg!(debug_assertions) {
            self.compare();
        }
    }

    #[inline(never)]
    fn compare(&self) {
        let queued = self.counters.queued as usize;
        debug_assert!(queued <= self.queue.len());
        debug_assert!(self.queue.is_empty() || self.head < self.queue.len());
        if is_due(core::cmp::max(self.slots.len(), queued)) {
            self.compare_counts();
            self.compare_queue();
            self.compare_lists();
        }
    }

    fn count(&self, is: impl Fn(State) -> bool) -> u32 {
        self.slots.iter().filter(|slot| is(slot.state)).count() as u32
    }

    fn compare_counts(&self) {
        let c = &self.counters;
        debug_assert!(c.threads == self.count(|s| s != State::Free));
        debug_assert!(c.idle == self.count(|s| s == State::Idle));
        debug_assert!(c.active == self.count(State::is_active));
        debug_assert!(c.blocked == self.count(|s| s == State::Blocked));
        debug_assert!(self.starting == self.count(|s| s == State::Starting));
        debug_assert!(self.executing == self.count(State::is_executing));
        debug_assert!(self.polling == self.count(|s| s == State::Polling));
        debug_assert!(self.finishing == self.count(|s| s == State::Finishing));
        let on_cores = self.count(|s| matches!(s, State::Polling | State::SpinSleep(_)));
        debug_assert!(on_cores <= self.spinning.count_ones());
    }

    fn compare_queue(&self) {
        let queued = self.counters.queued as usize;
        let capacity = self.queue.len();
        for at in 0..queued {
            let place = self.queue.get((self.head + at) % capacity);
            debug_assert!(place.is_some_and(Option::is_some));
        }
        if queued < capacity {
            let place = self.queue.get((self.head + queued) % capacity);
            debug_assert!(place.is_some_and(Option::is_none));
        }
    }

    /// The slots of a list, as far as it can be one.
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
            (self.idle, State::Idle, self.counters.idle),
            (
                self.free,
                State::Free,
                self.slots.len() as u32 - self.counters.threads,
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
        // The last thread has left, and no owner is in a call of the engine.
        debug_assert!(self.counters.threads == 0);
        debug_assert!(self.owners_blocked == 0);
        self.compare_counts();
    }
}
