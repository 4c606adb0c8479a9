// SPDX-License-Identifier: GPL-2.0

//! Work that no thread takes: all threads are blocked and no other thread can be created, or no
//! poller is left. The task that notices this holds the pool's lock, perhaps in the scheduler's
//! hook, and leaves the rest to the engine's deferred work (`engine/deferred.rs`).

use super::{
    table::{Inner, State},
    Pool,
};
use crate::{
    pages::Pages,
    sys::process::{self, Thread},
};
use kernel::sync::Arc;

/// Number of slots that are checked under one lock.
const SLOTS_AT_ONCE: u32 = 64;

/// Starvation.
impl Pool {
    /// Returns true if entries wait and no thread can take them until a blocked one is back.
    pub(crate) fn is_starved(&self) -> bool {
        self.has_work() && self.lock().is_starved()
    }

    /// Returns true if the pool is starved and no event so far will change that. If a
    /// thread is on its way back and blocks again, [`Self::worker_sleeping`] finds the pool starved
    /// anew.
    pub(crate) fn is_stuck(&self) -> bool {
        self.is_starved() && !self.is_one_coming_back() && self.is_starved()
    }

    /// Returns true if one of the blocked threads was already woken and will be back.
    fn is_one_coming_back(&self) -> bool {
        let mut at = 0;
        loop {
            // A few slots at a time: the scheduler's hook takes the lock.
            let inner = self.lock();
            for _ in 0..SLOTS_AT_ONCE {
                let Some(slot) = inner.slots.get(at as usize) else {
                    return false;
                };
                let awake = || slot.thread.as_ref().is_some_and(Thread::is_awake);
                if slot.state == State::Blocked && awake() {
                    return true;
                }
                at += 1;
            }
        }
    }

    /// Must be called, with the lock held, after a change that may have left work without a thread.
    pub(super) fn notice(&self, inner: &mut Inner) {
        if inner.begins_to_starve(process::now_ns) {
            self.trigger.pull();
        }
    }

    /// Returns for how long the pool has been starved, in nanoseconds, if it is.
    pub(crate) fn starved_for(&self) -> Option<u64> {
        if !self.has_work() {
            return None;
        }
        let mut inner = self.lock();
        inner.begins_to_starve(process::now_ns);
        match inner.starved_since {
            0 => None,
            since => Some(process::now_ns().saturating_sub(since)),
        }
    }

    /// Takes a registration from the queue of a starved pool, for the caller to fail its entries.
    pub(crate) fn dequeue_starved(&self) -> Option<Arc<Pages>> {
        let mut inner = self.lock();
        if inner.is_starved() {
            self.dequeue(&mut inner)
        } else {
            None
        }
    }

    /// See [`Inner::lost_poller`].
    pub(crate) fn lost_poller(&self) -> bool {
        self.lock().lost_poller()
    }
}
