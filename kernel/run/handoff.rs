// SPDX-License-Identifier: GPL-2.0

//! The hand-off: what others go on with when a task blocks in a call, or is busy for long.

use super::{Batch, NOTHING};
use crate::{
    defs::{PoolSet, Role},
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
        if let Role::Poller { slot, .. } = role {
            self.engine.pools.blocked(role, PoolSet::EMPTY, self.pages);
            self.role.set(Role::Worker { pool: 0, slot });
            self.go_on_looping();
        }
    }

    /// The task has told others to take over, and goes on with its loop beside them.
    fn go_on_looping(&self) {
        self.looping.set(true);
        self.engine.pools.unblocked(self.role.get(), true);
        self.lost.set(true);
    }

    /// A thread of a pool has used up its time with a loop: what waits behind it is for others, as
    /// if it had blocked. Where one thread at a time is active, nothing else would be executed
    /// before the loop has ended.
    pub(super) fn give_way(&self) {
        let role = self.role.get();
        let Role::Worker { pool, .. } = role else {
            return;
        };
        if !self.looping.get() && self.engine.pools.has_work(pool) {
            self.engine.pools.blocked(role, PoolSet::EMPTY, self.pages);
            self.go_on_looping();
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
        if self.by_owner && self.pages.any_pending() {
            // Nobody else looks at the owner's other pages while it sleeps.
            self.pages.leave_unattended();
            more.add(0);
        }
        if self.traced {
            invoke::trace_block(process::weight(left));
        }
        let role = self.role.get();
        self.engine.pools.blocked(role, more, self.pages);
        if let Role::Poller { slot, .. } = role {
            self.role.set(Role::Worker { pool: 0, slot });
        }
    }

    fn running(&self) {
        if self.blocked.take() {
            self.pages.is_awake(self.page.get(), self.executing.get());
            let looping = self.looping.get();
            self.engine.pools.unblocked(self.role.get(), looping);
        }
    }

    fn owner(&self) -> &Thread {
        self.pages.owner()
    }
}
