// SPDX-License-Identifier: GPL-2.0

//! The concurrency limit of a pool, and the hand-off that maintains it: as many threads run as the
//! limit allows, and a thread that sleeps in a call does not count.

use super::{
    table::{Inner, State},
    Pool,
};
use crate::{defs::Role, pages::Pages, sys::trace};
use kernel::sync::ArcBorrow;

/// Concurrency.
impl Pool {
    /// As [`Self::concurrency_limit`], with the lock held.
    pub(super) fn limit_in(&self, inner: &Inner) -> u32 {
        let usable = core::cmp::max(inner.usable, 1);
        match self.settings.limit() {
            0 => usable,
            limit => core::cmp::min(limit, usable),
        }
    }

    /// Returns how many threads may run at once.
    pub(crate) fn concurrency_limit(&self) -> u32 {
        self.limit_in(&self.lock())
    }

    /// Called in the scheduler's hook: a task in this role is about to sleep in a call, and leaves
    /// entries of `more` to other threads. Takes one lock and wakes one thread, which does
    /// the rest; if no thread can, a kworker does.
    pub(crate) fn worker_sleeping(&self, role: Role, more: Option<ArcBorrow<'_, Pages>>) {
        let mut inner = self.lock();
        match role.slot() {
            Some(i) => inner.set_state(i, State::Blocked),
            None => inner.set_owner_blocked(true),
        }
        let vacant = matches!(role, Role::Poller { .. });
        if let Role::Poller { cpu, .. } = role {
            inner.pollers.end(cpu);
        }
        if let Some(pages) = more {
            self.push_locked(&mut inner, pages);
        }
        if inner.queued() == 0 && !vacant {
            return;
        }
        inner.counters.handoffs += 1;
        trace::handoff(self.number, inner.queued());
        if !vacant {
            self.wake_one(&mut inner);
        } else if !inner.wake_idle() && inner.counts.starting == 0 {
            // No thread takes over the CPU, but another poller may exist or be created. The kworker
            // drops the list of the poller that blocks.
            inner.rouse_poller(self.polled.wanted());
            self.trigger.pull();
        }
        self.notice(&mut inner);
    }

    /// Called in the scheduler's hook: the task runs again. If `looping`, it continues a loop.
    pub(crate) fn worker_running(&self, role: Role, looping: bool) {
        let mut inner = self.lock();
        match role.slot() {
            Some(i) if looping => inner.set_state(i, State::Looping),
            Some(i) => inner.set_state(i, State::Finishing),
            None => inner.set_owner_blocked(false),
        }
    }

    /// Returns true if thread `i`, which slept in a call, may take entries again; the thread then
    /// counts as running.
    pub(crate) fn readmit(&self, i: u32) -> bool {
        let mut inner = self.lock();
        if inner.state(i).is_running() {
            return true;
        }
        let admitted = inner.counters.now.nr_running < self.limit_in(&inner);
        if admitted {
            inner.set_state(i, State::Working);
        }
        admitted
    }
}
