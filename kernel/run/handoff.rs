// SPDX-License-Identifier: GPL-2.0

//! The hand-off: what others go on with when a task blocks in a call, or is busy for long.

use super::{Batch, Role, NOTHING};
use crate::{
    pools::PoolSet,
    sys::{
        hook::Blocking,
        invoke,
        process::{self, Thread},
    },
};

impl Batch<'_> {
    /// A thread that polls is going to be busy for long: another one takes its core over, as if it
    /// had blocked.
    pub(super) fn step_down(&self) {
        let role = self.role.get();
        if let Role::Spinner { slot, .. } = role {
            if !self.engine.pools.blocked(role, PoolSet::EMPTY, self.pages) {
                self.engine.nobody_polls();
            }
            let role = Role::Worker { pool: 0, slot };
            self.role.set(role);
            self.engine.pools.unblocked(role);
            self.lost.set(true);
        }
    }

    /// A thread of a pool has used up its time with a loop: what waits behind it is for others, as
    /// if it had blocked. On one CPU, where one thread at a time is active, nothing else would be
    /// executed before the loop has ended.
    pub(super) fn give_way(&self) {
        let role = self.role.get();
        let Role::Worker { pool, .. } = role else {
            return;
        };
        if self.lost.get() {
            return;
        }
        let mut more = self.leave(self.take_left());
        if self.pages.has_offloaded(pool) {
            more.add(pool);
        }
        if more != PoolSet::EMPTY || self.engine.pools.has_work(pool) {
            self.engine.pools.blocked(role, more, self.pages);
            self.engine.pools.unblocked(role);
            self.lost.set(true);
        }
    }
}

impl Blocking for Batch<'_> {
    fn sleeping(&self) {
        let index = self.executing.get();
        if index == NOTHING {
            return;
        }
        self.blocked.set(true);
        self.lost.set(true);
        self.publish();
        let page = self.page.get();
        if self.pages.falls_asleep(page, index) {
            process::interrupt_self();
        }
        let left = self.take_left();
        let mut more = self.leave(left);
        more.extend(self.given.take());
        if self.by_owner {
            // Nobody else looks at the owner's other pages while it sleeps.
            more.extend(self.pages.offload_pending(self.engine.pools.set()));
        } else {
            // Other pages may have been waiting for this thread, a kernel core's for the first
            // pool: it has taken the registration from the queue.
            let pool = self.pool().unwrap_or(0);
            if self.pages.has_offloaded(pool) {
                more.add(pool);
            }
        }
        if self.traced {
            invoke::trace_block(process::weight(left));
        }
        let role = self.role.get();
        if !self.engine.pools.blocked(role, more, self.pages) {
            self.engine.nobody_polls();
        }
        if let Role::Spinner { slot, .. } = role {
            self.role.set(Role::Worker { pool: 0, slot });
        }
    }

    fn running(&self) {
        if self.blocked.take() {
            self.pages.is_awake(self.page.get(), self.executing.get());
            self.engine.pools.unblocked(self.role.get());
        }
    }

    fn owner(&self) -> &Thread {
        self.pages.owner()
    }
}
