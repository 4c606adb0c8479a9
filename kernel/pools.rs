// SPDX-License-Identifier: GPL-2.0

//! An engine's pools of syscall threads. The first is always there and serves all entries that
//! name none; the others are made when a program sets one of their parameters, and last as long
//! as the engine, so that the scheduler's hook finds them without a lock.

use crate::{pages::Pages, pool::Pool, run::Role};
use kernel::prelude::*;
use kernel::sync::ArcBorrow;
use kernel::uapi;

/// Pools that an engine may have.
pub(crate) const POOLS: usize = uapi::FLEXSC_POOLS as usize;

static_assert!(POOLS <= u16::BITS as usize);

/// A set of pools.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct PoolSet(u16);

impl PoolSet {
    pub(crate) const EMPTY: Self = PoolSet(0);

    /// Only `pool`.
    pub(crate) fn of(pool: u8) -> Self {
        let mut set = Self::EMPTY;
        set.add(pool);
        set
    }

    pub(crate) fn has(self, pool: u8) -> bool {
        usize::from(pool) < POOLS && self.0 & (1 << pool) != 0
    }

    pub(crate) fn add(&mut self, pool: u8) {
        if usize::from(pool) < POOLS {
            self.0 |= 1 << pool;
        }
    }

    pub(crate) fn extend(&mut self, other: Self) {
        self.0 |= other.0;
    }

    /// This set without `pool`.
    pub(crate) fn without(self, pool: u8) -> Self {
        PoolSet(self.0 & !Self::of(pool).0)
    }

    pub(crate) fn iter(self) -> impl Iterator<Item = u8> {
        (0..POOLS as u8).filter(move |pool| self.has(*pool))
    }
}

/// See the module's documentation.
pub(crate) struct Pools {
    first: Pool,
}

impl Pools {
    /// The first pool only, for up to `registrations` registrations.
    pub(crate) fn new(registrations: usize) -> Result<Self> {
        Ok(Pools {
            first: Pool::new(0, registrations)?,
        })
    }

    /// Serves entries that name no pool; kernel cores belong to it.
    pub(crate) fn first(&self) -> &Pool {
        &self.first
    }

    pub(crate) fn get(&self, pool: u8) -> Option<&Pool> {
        (pool == 0).then_some(&self.first)
    }

    /// Those that exist.
    pub(crate) fn set(&self) -> PoolSet {
        PoolSet::of(0)
    }

    /// The pool whose thread has this role. The owner counts in the first one.
    fn of(&self, role: Role) -> &Pool {
        match role {
            Role::Worker { pool, .. } => self.get(pool).unwrap_or(&self.first),
            Role::Owner | Role::Spinner { .. } => &self.first,
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

    /// Called in the scheduler's hook: a task in this role blocks in a call; it leaves entries of
    /// `pages` to each pool in `more`. False where it polled and nobody can go on with that.
    pub(crate) fn blocked(&self, role: Role, more: PoolSet, pages: ArcBorrow<'_, Pages>) -> bool {
        let own = self.of(role);
        self.push(more.without(own.number()), pages);
        own.blocked(role, more.has(own.number()).then_some(pages))
    }

    /// Called in the scheduler's hook: the task is back.
    pub(crate) fn unblocked(&self, role: Role) {
        self.of(role).unblocked(role);
    }

    /// See [`Pool::is_starved`].
    pub(crate) fn is_starved(&self, pool: u8) -> bool {
        self.get(pool).is_some_and(Pool::is_starved)
    }

    /// The threads are ending.
    pub(crate) fn is_stopping(&self) -> bool {
        self.first.is_stopping()
    }
}
