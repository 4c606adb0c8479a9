// SPDX-License-Identifier: GPL-2.0

//! An engine's pools of syscall threads. The first pool always exists and serves all entries that
//! name none; the others are created when a program sets one of their parameters, and live as long
//! as the engine, so that the scheduler's hook finds them without a lock.

mod alike;

use super::{Pool, Total};
use crate::{
    defs::{PoolSet, Role, POOLS},
    pages::Pages,
    sys::{deferred::Trigger, once::OnceTable},
};
use core::sync::atomic::{fence, AtomicU16, AtomicUsize, Ordering};
use kernel::prelude::*;
use kernel::sync::{Arc, ArcBorrow};

/// See the module's documentation.
pub(crate) struct Pools {
    first: Pool,
    others: OnceTable<Pool, POOLS>,
    /// The pools that entries may name.
    open: AtomicU16,
    /// The number of registrations for which the queues have room.
    room: AtomicUsize,
    total: Arc<Total>,
    trigger: Arc<Trigger>,
}

impl Pools {
    /// Creates only the first pool.
    pub(crate) fn new(trigger: Arc<Trigger>) -> Result<Self> {
        let total = Arc::new(Total::default(), GFP_KERNEL_ACCOUNT)?;
        Ok(Pools {
            first: Pool::new(0, total.clone(), trigger.clone())?,
            others: OnceTable::new(),
            open: AtomicU16::new(PoolSet::of(0).to_raw()),
            room: AtomicUsize::new(0),
            total,
            trigger,
        })
    }

    /// Makes room for `registrations` registrations in the queues of all pools.
    pub(crate) fn make_room(&self, registrations: usize) -> Result {
        self.room.fetch_max(registrations, Ordering::Relaxed);
        // ORDERING: Pairs with the fence in `make`: this loop finds the new pool, or the pool is
        // created with the new size.
        fence(Ordering::SeqCst);
        self.iter()
            .try_for_each(|pool| pool.make_room(registrations))
    }

    /// Returns the pool that serves entries that name none. The pollers belong to it.
    pub(crate) fn first(&self) -> &Pool {
        &self.first
    }

    /// Returns pool `pool` if it exists. Allowed in the scheduler's hook.
    pub(crate) fn get(&self, pool: u8) -> Option<&Pool> {
        match pool {
            0 => Some(&self.first),
            pool => self.others.get(usize::from(pool)),
        }
    }

    /// Returns the pools that exist.
    pub(crate) fn set(&self) -> PoolSet {
        // ORDERING: Pairs with the release in `open`: `get` finds each pool of the set.
        PoolSet::from_raw(self.open.load(Ordering::Acquire))
    }

    /// Creates `pool` if it does not exist. The pool is not in [`Self::set`] until it is opened.
    pub(crate) fn make(&self, pool: u8) -> Result<&Pool> {
        if self.get(pool).is_none() {
            let (total, trigger) = (self.total.clone(), self.trigger.clone());
            let new = Pool::new(pool, total, trigger)?;
            let new = KBox::new(new, GFP_KERNEL_ACCOUNT)?;
            self.others.put(usize::from(pool), new)?;
        }
        // ORDERING: See `make_room`.
        fence(Ordering::SeqCst);
        let made = self.get(pool).ok_or(EINVAL)?;
        made.make_room(self.room.load(Ordering::Relaxed))?;
        Ok(made)
    }

    /// Lets entries name `pool` from now on.
    pub(crate) fn open(&self, pool: &Pool) {
        // ORDERING: See `set`.
        self.open
            .fetch_or(PoolSet::of(pool.number()).to_raw(), Ordering::Release);
    }

    /// Iterates over all pools that were created.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Pool> {
        (0..POOLS as u8).filter_map(|pool| self.get(pool))
    }

    /// Returns the counts of all pools together.
    pub(crate) fn total(&self) -> &Total {
        &self.total
    }

    /// Returns the pool of a thread with this role. The owner counts in the first pool.
    fn of(&self, role: Role) -> &Pool {
        match role {
            Role::Worker { pool, .. } => self.get(pool).unwrap_or(&self.first),
            Role::Owner | Role::Poller { .. } => &self.first,
        }
    }

    /// Queues pages with offloaded entries in each of `pools`, and lets threads work on them.
    pub(crate) fn push(&self, pools: PoolSet, pages: ArcBorrow<'_, Pages>) {
        for pool in pools.iter() {
            if let Some(pool) = self.get(pool) {
                pool.push(pages);
            }
        }
    }

    /// Called in the scheduler's hook: a task in this role is about to sleep in a call; it leaves
    /// entries of `pages` to each pool in `more`.
    pub(crate) fn worker_sleeping(&self, role: Role, more: PoolSet, pages: ArcBorrow<'_, Pages>) {
        let own = self.of(role);
        self.push(more.without(own.number()), pages);
        own.worker_sleeping(role, more.has(own.number()).then_some(pages));
    }

    /// Called in the scheduler's hook: the task runs again, see [`Pool::worker_running`].
    pub(crate) fn worker_running(&self, role: Role, looping: bool) {
        self.of(role).worker_running(role, looping);
    }

    /// See [`Pool::is_starved`].
    pub(crate) fn is_starved(&self, pool: u8) -> bool {
        self.get(pool).is_some_and(Pool::is_starved)
    }

    /// See [`Pool::has_work`].
    pub(crate) fn has_work(&self, pool: u8) -> bool {
        self.get(pool).is_some_and(Pool::has_work)
    }

    /// See [`Pool::is_stuck`].
    pub(crate) fn is_stuck(&self, pool: u8) -> bool {
        self.get(pool).is_some_and(Pool::is_stuck)
    }

    /// Returns true if a syscall thread in this role, which slept in a call, may execute
    /// further entries.
    pub(crate) fn readmit(&self, role: Role) -> bool {
        role.slot().is_some_and(|slot| self.of(role).readmit(slot))
    }

    /// Counts entries that a task in this role has executed.
    pub(crate) fn add_executed(&self, role: Role, entries: u32) {
        if role != Role::Owner {
            self.of(role).add_executed(entries);
        }
    }

    /// Takes a registration that has ended out of all queues.
    pub(crate) fn forget(&self, pages: &Pages) {
        for pool in self.iter() {
            pool.forget(pages);
        }
    }

    /// Ends all threads, including blocked ones.
    pub(crate) fn stop(&self) {
        for pool in self.iter() {
            pool.stop();
        }
    }

    /// Empties all queues. All registrations have ended.
    pub(crate) fn clear(&self) {
        for pool in self.iter() {
            pool.clear();
        }
    }

    /// Returns true if the threads are ending.
    pub(crate) fn is_stopping(&self) -> bool {
        self.first.is_stopping()
    }
}
