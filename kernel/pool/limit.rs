// SPDX-License-Identifier: GPL-2.0

//! The concurrency limit of a pool, and the hand-off that keeps it: as many threads run as the
//! limit says, and a thread that sleeps in a call does not count.

use super::{
    table::{Inner, State},
    Pool,
};
use crate::{defs::Role, pages::Pages, sys::trace};
use kernel::sync::ArcBorrow;

/// Concurrency.
impl Pool {
    pub(super) fn limit_in(&self, inner: &Inner) -> u32 {
        let usable = core::cmp::max(inner.usable, 1);
        match self.settings.limit() {
            0 => usable,
            active => core::cmp::min(active, usable),
        }
    }

    /// How many threads may be active at once.
    pub(crate) fn concurrency_limit(&self) -> u32 {
        self.limit_in(&self.lock())
    }

    /// Called in the scheduler's hook: a task in this role blocks in a call; `more` has entries
    /// that it leaves. One lock and one wake-up: whoever takes over does the rest, or, if nobody
    /// can, a kworker.
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
            // Nobody finds the core vacant; but another one may poll, or can.
            if !inner.rouse_poller(self.polled.wanted()) {
                self.trigger.pull();
            }
        }
        self.notice(&mut inner);
    }

    /// Called in the scheduler's hook: the task is back, and goes on with a loop if `looping`.
    pub(crate) fn worker_running(&self, role: Role, looping: bool) {
        let mut inner = self.lock();
        match role.slot() {
            Some(i) if looping => inner.set_state(i, State::Looping),
            Some(i) => inner.set_state(i, State::Finishing),
            None => inner.set_owner_blocked(false),
        }
    }

    /// Lets thread `i`, which has slept in a call, through the gate where it is open.
    pub(crate) fn readmit(&self, i: u32) -> bool {
        let mut inner = self.lock();
        if inner.state(i).is_running() {
            return true;
        }
        let open = inner.counters.now.nr_running < self.limit_in(&inner);
        if open {
            inner.set_state(i, State::Working);
        }
        open
    }
}
