// SPDX-License-Identifier: GPL-2.0

//! Work that the scheduler's hook or another holder of a lock leaves to a kworker: loops
//! over registrations, when no poller is left, when no thread can execute the queued entries, or when
//! entries wait for an owner that may end.

use super::Engine;
use crate::{
    pages::Pages,
    pool::Pool,
    sys::{deferred::Later, process},
};

/// How long a pool may be starved before its queued entries fail with STARVED. Calls that sleep on
/// a disk have ended by then. An owner in WAIT does not wait that long before it fails its entries.
const GRACE_MS: u32 = 100;

/// How long until the work checks again for starved pools, and for entries that wait for an owner,
/// which may exit instead.
const LOOK_AGAIN_MS: u32 = GRACE_MS;

const NS_PER_MS: u64 = 1_000_000;

/// Number of registrations whose entries fail between two checks of all threads of the pool.
const LOOK_EVERY: u32 = 32;

impl Later for Engine {
    fn later(&self) -> Option<u32> {
        if self.pools.first().lost_poller() {
            self.poll_no_more();
        }
        // Drops the lists of blocked pollers whose CPU no thread polls.
        self.forget_known();
        let mut starved = false;
        for pool in self.pools.iter() {
            if let Some(ns) = pool.starved_for() {
                starved = true;
                self.look_after(pool, ns);
            }
        }
        let mut returned = false;
        self.for_each_if(Pages::has_returned, |pages| {
            returned |= pages.await_owner();
        });
        (starved || returned).then_some(LOOK_AGAIN_MS)
    }

    fn later_ready(&self) {
        self.for_each_if(Pages::is_any_ready, |pages| {
            self.pools
                .push(pages.offload_ready(), pages.as_arc_borrow());
        });
    }
}

impl Engine {
    /// Takes care of `pool`, which has been starved for `ns` nanoseconds.
    fn look_after(&self, pool: &Pool, ns: u64) {
        let grace = u64::from(GRACE_MS) * NS_PER_MS;
        if ns >= grace && pool.is_stuck() {
            // Even if no owner is in WAIT: otherwise these entries would never get a result.
            for round in 0..pool.counters().now.queued {
                // A blocked thread may have been woken in the meantime; this checks all threads.
                if round % LOOK_EVERY == LOOK_EVERY - 1 && !pool.is_stuck() {
                    break;
                }
                process::resched_and_check_signal();
                if let Some(pages) = pool.dequeue_starved() {
                    if pages.attend() {
                        let pools = pages.offload_unattended(self.pools.set());
                        self.pools
                            .push(pools.without(pool.number()), pages.as_arc_borrow());
                    }
                    pages.fail_starved(pool.number());
                }
            }
            return;
        }
        // An owner that sleeps in WAIT may still create a thread, or fail its entries at once.
        let queued = |pages: &Pages| pages.is_queued(pool.number());
        self.for_each_if(queued, |pages| pages.nudge());
    }
}
