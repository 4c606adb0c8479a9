// SPDX-License-Identifier: GPL-2.0

//! Work that the scheduler's hook, and others that hold a lock, leave to a kworker: loops over
//! registrations when nobody polls any more, or when entries wait for threads that nobody can make.

use super::Engine;
use crate::{pool::Pool, sys::deferred::Later};

/// How long a pool may be starved before the entries that wait fail with STARVED. An owner in WAIT
/// fails them sooner. Calls that sleep on a disk are over by then.
const GRACE_MS: u32 = 100;

const NS_PER_MS: u64 = 1_000_000;

impl Later for Engine {
    fn later(&self) -> Option<u32> {
        if self.pools.first().lost_poller() {
            self.poll_no_more();
        }
        let mut starved = false;
        for pool in self.pools.iter() {
            if let Some(ns) = pool.starved_for() {
                starved = true;
                self.look_after(pool, ns);
            }
        }
        starved.then_some(GRACE_MS)
    }
}

impl Engine {
    /// `pool` has been starved for `ns` nanoseconds.
    fn look_after(&self, pool: &Pool, ns: u64) {
        let grace = u64::from(GRACE_MS) * NS_PER_MS;
        if ns >= grace && pool.is_stuck() {
            // Whether anybody is in WAIT or not: these entries have no other end.
            for _ in 0..pool.counters().now.queued {
                // A thread may be on its way back meanwhile.
                if !pool.is_stuck() {
                    break;
                }
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
        // An owner that sleeps in WAIT may still make a thread, or fail its entries at once.
        self.for_each(|pages| {
            if pages.is_queued(pool.number()) {
                pages.nudge();
            }
        });
    }
}
