// SPDX-License-Identifier: GPL-2.0

//! Counts that are read without a pool's lock: copies of some of the pool's counts, and the totals
//! over all pools of an engine.

use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use kernel::prelude::*;
use kernel::sync::Arc;

// ORDERING: Counts only. A caller that acts on a count checks it again under the lock.
const RELAXED: Ordering = Ordering::Relaxed;

/// A number and its highest value so far.
#[derive(Default)]
struct Peak {
    now: AtomicU32,
    most: AtomicU32,
}

impl Peak {
    fn moved(&self, was: bool, is: bool) {
        match (was, is) {
            (false, true) => {
                let now = self.now.fetch_add(1, RELAXED) + 1;
                if now > self.most.load(RELAXED) {
                    self.most.fetch_max(now, RELAXED);
                }
            }
            (true, false) => {
                self.now.fetch_sub(1, RELAXED);
            }
            _ => (),
        }
    }
}

/// Counted over all pools of an engine.
#[derive(Default)]
pub(crate) struct Total {
    /// Number of the pool that has the model (see `model.rs`), plus 1; 0 before the first thread.
    model_pool: AtomicU32,
    threads: AtomicU32,
    executing: Peak,
    blocked: Peak,
    kicks: AtomicU64,
}

impl Total {
    /// Counts one more thread. Fails with `EAGAIN` if there are `max` already.
    pub(super) fn add_thread(&self, max: u32) -> Result {
        self.threads
            .fetch_update(RELAXED, RELAXED, |n| (n < max).then_some(n + 1))
            .map_err(|_| EAGAIN)?;
        Ok(())
    }

    pub(super) fn remove_thread(&self) {
        self.threads.fetch_sub(1, RELAXED);
    }

    /// Notes that a thread of `pool` exists. Returns true for the very first thread, which
    /// becomes the model.
    pub(super) fn set_model_pool(&self, pool: u8) -> bool {
        self.model_pool
            .compare_exchange(0, u32::from(pool) + 1, RELAXED, RELAXED)
            .is_ok()
    }

    /// Returns the pool that has the model, once there was a thread.
    pub(crate) fn model_pool(&self) -> Option<u8> {
        let pool = self.model_pool.load(RELAXED).checked_sub(1)?;
        u8::try_from(pool).ok()
    }

    pub(crate) fn add_kick(&self) {
        self.kicks.fetch_add(1, RELAXED);
    }

    /// KICK calls.
    pub(crate) fn kicks(&self) -> u64 {
        self.kicks.load(RELAXED)
    }

    /// Returns the highest number of threads that took entries at once.
    pub(crate) fn peak_running(&self) -> u32 {
        self.executing.most.load(RELAXED)
    }

    /// Returns the highest number of calls that were blocked at once.
    pub(crate) fn peak_blocked(&self) -> u32 {
        self.blocked.most.load(RELAXED)
    }
}

/// Counts of one pool; written under its lock.
pub(super) struct LocklessCounts {
    total: Arc<Total>,
    /// Threads that are idle or starting.
    spares: AtomicU32,
    /// Registrations in the queue.
    queued: AtomicU32,
}

impl LocklessCounts {
    pub(super) fn new(total: Arc<Total>) -> Self {
        LocklessCounts {
            total,
            spares: AtomicU32::new(0),
            queued: AtomicU32::new(0),
        }
    }

    pub(super) fn total(&self) -> &Total {
        &self.total
    }

    pub(super) fn has_spare(&self) -> bool {
        self.spares.load(RELAXED) != 0
    }

    pub(super) fn set_spares(&self, spares: u32) {
        self.spares.store(spares, RELAXED);
    }

    pub(super) fn has_work(&self) -> bool {
        self.queued.load(RELAXED) != 0
    }

    pub(super) fn set_queued(&self, queued: u32) {
        self.queued.store(queued, RELAXED);
    }

    pub(super) fn count_executing(&self, was: bool, is: bool) {
        self.total.executing.moved(was, is);
    }

    pub(super) fn count_blocked(&self, was: bool, is: bool) {
        self.total.blocked.moved(was, is);
    }
}
