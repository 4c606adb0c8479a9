// SPDX-License-Identifier: GPL-2.0

//! Entries that wait for a syscall thread, each in its pool.

use super::{Inner, Page, Pages};
use crate::pools::{PoolSet, POOLS};
use crate::sys::{lock::Guard, trace};
use core::sync::atomic::Ordering;

impl Page {
    fn offload(&mut self, pool: u8, bits: u64) {
        if let Some(offloaded) = self.offloaded.get_mut(usize::from(pool)) {
            *offloaded |= bits;
        }
    }

    pub(super) fn offloaded(&self, pool: u8) -> u64 {
        self.offloaded.get(usize::from(pool)).map_or(0, |o| *o)
    }

    fn take_offloaded(&mut self, pool: u8) -> u64 {
        self.offloaded
            .get_mut(usize::from(pool))
            .map_or(0, core::mem::take)
    }

    /// The pool for which an entry waits, if any.
    pub(super) fn pool_of(&self, index: u32) -> Option<u8> {
        (0..POOLS as u8).find(|pool| self.offloaded(*pool) & (1 << index) != 0)
    }

    /// Those that wait for `pool` do so no more as far as they are among `bits`.
    pub(super) fn withdraw(&mut self, pool: u8, bits: u64) {
        if let Some(offloaded) = self.offloaded.get_mut(usize::from(pool)) {
            *offloaded &= !bits;
        }
    }
}

impl Pages {
    /// Marks entries that were claimed as waiting for a thread of `pool`.
    pub(crate) fn offload(&self, pool: u8, page: u32, bits: u64) {
        if let Some(p) = self.inner.lock().pages.get_mut(page as usize) {
            p.offload(pool, bits);
        }
    }

    /// Entries were executed, and the rest of their chain is going to be offloaded.
    pub(crate) fn hold(&self, page: u32, executed: u64) {
        let _inner = self.inner.lock();
        if let Some(words) = self.words(page) {
            words.held.fetch_or(executed, Ordering::Relaxed);
        }
    }

    /// `bits`, and what is held of the chains that they go on with.
    pub(crate) fn with_held(&self, page: u32, mut bits: u64) -> u64 {
        let held = self.held(page);
        loop {
            let more = (bits >> 1) & held & !bits;
            if more == 0 {
                return bits;
            }
            bits |= more;
        }
    }

    /// As [`Self::offload`], for entries that nobody has looked at: each waits for the pool that
    /// it names, or for the first one where that is not among `pools`. Returns the pools that
    /// have something to do now.
    pub(crate) fn offload_unseen(&self, page: u32, bits: u64, pools: PoolSet) -> PoolSet {
        let mut inner = self.inner.lock();
        self.offload_locked(&mut inner, page, bits, pools)
    }

    fn offload_locked(
        &self,
        inner: &mut Guard<'_, Inner>,
        page: u32,
        bits: u64,
        pools: PoolSet,
    ) -> PoolSet {
        let mut given = PoolSet::EMPTY;
        let Some(p) = inner.pages.get_mut(page as usize) else {
            return given;
        };
        let mut left = bits;
        // The entry before is linked to this one, and waits for this pool.
        let mut chain = None;
        while left != 0 {
            let index = left.trailing_zeros();
            left &= left - 1;
            // A program that changes it afterwards gets its call executed by another pool.
            let head = self.area.entry(page, index).head();
            let pool = match chain {
                Some((next, pool)) if next == index => pool,
                _ if pools.has(head.pool()) => head.pool(),
                _ => 0,
            };
            chain = head.is_linked().then_some((index + 1, pool));
            p.offload(pool, 1 << index);
            given.add(pool);
        }
        given
    }

    /// Takes all that is posted and marks it as waiting for threads of the entries' pools, of
    /// which `pools` exist. Returns the pools that have something to do now.
    pub(crate) fn offload_pending(&self, pools: PoolSet) -> PoolSet {
        let mut inner = self.inner.lock();
        let mut any = PoolSet::EMPTY;
        for page in 0..self.len() {
            if self.pending(page) != 0 {
                let bits = self.claim_locked(&mut inner, page);
                trace::post(&self.owner, self.id(), page, bits);
                self.offload_locked(&mut inner, page, bits, pools);
            }
            if let Some(p) = inner.pages.get(page as usize) {
                for pool in pools.iter() {
                    if p.offloaded(pool) != 0 {
                        any.add(pool);
                    }
                }
            }
        }
        any
    }

    /// Does anything wait for a thread of `pool`?
    pub(crate) fn has_offloaded(&self, pool: u8) -> bool {
        let inner = self.inner.lock();
        inner.pages.iter().any(|p| p.offloaded(pool) != 0)
    }

    /// The entries of one page that wait for a thread of `pool`: the caller executes them.
    pub(crate) fn take_offloaded(&self, pool: u8) -> Option<(u32, u64)> {
        let mut inner = self.inner.lock();
        for (page, p) in (0..).zip(inner.pages.iter_mut()) {
            let bits = p.take_offloaded(pool);
            if bits != 0 {
                return Some((page, bits));
            }
        }
        None
    }

    /// Notes that the registration is in the queue of `pool`. False where it was already. The
    /// caller holds the pool's lock.
    pub(crate) fn set_queued(&self, pool: u8) -> bool {
        // ORDERING: The pool's lock orders it; other pools only change other bits.
        let old = self.queued.fetch_or(1 << pool, Ordering::Relaxed);
        old & (1 << pool) == 0
    }

    /// Undoes [`Self::set_queued`].
    pub(crate) fn clear_queued(&self, pool: u8) {
        // ORDERING: As above.
        self.queued.fetch_and(!(1 << pool), Ordering::Relaxed);
    }
}
