// SPDX-License-Identifier: GPL-2.0

//! The hand-off: entries that other threads execute when a task blocks in a call or is busy for
//! long.

use super::Batch;
use crate::{
    defs::{PoolSet, Role},
    sys::{hook::Blocking, invoke, process},
};

impl Batch<'_> {
    /// Offloads entries to a pool. A thread that cannot execute one of `by_chance` returns it to
    /// the owner.
    pub(super) fn offload_to(&self, pool: u8, bits: u64, by_chance: u64) {
        self.entries.give_up(bits);
        self.pages.offload(pool, self.page.get(), bits, by_chance);
        self.wake_later(PoolSet::of(pool));
    }

    /// Notes to wake a thread of each of `pools` after the batch, or when the task blocks.
    pub(super) fn wake_later(&self, pools: PoolSet) {
        let mut all = self.pools_to_wake.get();
        all.extend(pools);
        self.pools_to_wake.set(all);
    }

    /// Returns entries to the owner.
    pub(super) fn give_back(&self, bits: u64) {
        self.entries.give_up(bits);
        self.pages.give_back(self.page.get(), bits);
    }

    /// Offloads the unstarted entries to the pools that they name, or to the pool of
    /// the thread that gives them up. Returns these pools.
    pub(super) fn offload_unstarted(&self) -> PoolSet {
        let unstarted = self.entries.take_unstarted();
        let page = self.page.get();
        match self.role.get().pool() {
            _ if unstarted == 0 => PoolSet::EMPTY,
            Some(pool) => {
                self.pages.offload(pool, page, unstarted, 0);
                PoolSet::of(pool)
            }
            None => {
                let pools = self.engine.pools.set();
                self.pages
                    .offload_unseen(page, unstarted, pools, self.is_owner())
            }
        }
    }

    /// Returns true if the task may execute another entry of a chain. If it has slept, only
    /// within the concurrency limit of its pool.
    pub(super) fn may_go_on(&self) -> bool {
        self.is_owner() || !self.sleep.has_slept.get() || self.engine.pools.readmit(self.role.get())
    }

    /// A poller is going to be busy for a long time: lets another thread take over its CPU, as if
    /// the poller had blocked.
    pub(super) fn step_down(&self) {
        let role = self.role.get();
        if let Role::Poller { slot, .. } = role {
            self.engine
                .pools
                .worker_sleeping(role, PoolSet::EMPTY, self.pages);
            self.role.set(Role::Worker { pool: 0, slot });
            self.go_on_looping();
        }
    }

    /// Notes that other threads have taken over while the task continues its loop.
    fn go_on_looping(&self) {
        self.sleep.is_looping.set(true);
        self.engine.pools.worker_running(self.role.get(), true);
        self.sleep.has_slept.set(true);
    }

    /// A thread of a pool has used up its time slice with a loop: lets another thread execute the
    /// queue, as if the loop had blocked. If one thread runs at a time, nothing else would be
    /// executed before the loop has ended.
    pub(super) fn give_way(&self) {
        let role = self.role.get();
        let Role::Worker { pool, .. } = role else {
            return;
        };
        if !self.sleep.is_looping.get() && self.engine.pools.has_work(pool) {
            self.engine
                .pools
                .worker_sleeping(role, PoolSet::EMPTY, self.pages);
            self.go_on_looping();
        }
    }
}

// SAFETY: All functions called here obey the rules of the hook in `docs/locking.md`: the
// locks are `RawLock`s, and work that frees or sleeps is left to threads and the kworker.
unsafe impl Blocking for Batch<'_> {
    fn sleeping(&self) {
        let Some(index) = self.entries.executing() else {
            return;
        };
        self.sleep.is_asleep.set(true);
        self.sleep.has_slept.set(true);
        if self.is_owner() {
            self.pages.owner_sleeps();
            if self.pages.has_parked() {
                self.pages.leave_ready();
            }
        } else {
            let since = self.pages.slow_call_sleeps(self.page.get(), index);
            self.sleep.slow_since.set(since);
        }
        self.publish();
        if self.pages.add_sleeper(self.page.get(), index) {
            process::interrupt_self();
        }
        let unstarted = self.entries.unstarted();
        let mut pools = self.offload_unstarted();
        pools.extend(self.pools_to_wake.take());
        if self.is_owner() && self.pages.any_pending() {
            // No other task looks at the owner's other pages while the owner sleeps.
            self.pages.leave_unattended();
            pools.add(0);
        }
        if self.traced {
            invoke::trace_block(process::weight(unstarted));
        }
        let role = self.role.get();
        self.engine.pools.worker_sleeping(role, pools, self.pages);
        if let Role::Poller { slot, .. } = role {
            self.role.set(Role::Worker { pool: 0, slot });
        }
    }

    fn running(&self) {
        if self.sleep.is_asleep.take() {
            if self.is_owner() {
                self.pages.owner_runs();
                if self.pages.has_parked() {
                    self.pages.attend_ready();
                }
            } else if let Some(since) = self.sleep.slow_since.take() {
                self.pages.slow_call_runs(since);
            }
            if let Some(index) = self.entries.executing() {
                self.pages.remove_sleeper(self.page.get(), index);
            }
            let looping = self.sleep.is_looping.get();
            self.engine.pools.worker_running(self.role.get(), looping);
        }
    }
}
