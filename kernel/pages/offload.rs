// SPDX-License-Identifier: GPL-2.0

//! Entries that wait for a syscall thread, each in its pool.

use super::{Inner, Page, Pages};
use crate::defs::{Bits, PoolSet, POOLS};
use crate::sys::{arch, lock::Guard, process, trace};
use core::sync::atomic::Ordering;
use kernel::prelude::*;
use kernel::uapi;

/// Pages with entries that wait for a thread of a pool.
#[derive(Clone, Copy, Default)]
struct InPool {
    /// One bit for each page.
    pages: u64,
    /// The page whose turn it is. Pages take turns, so that a page that is constantly refilled
    /// does not hold up the others.
    next: u32,
}

static_assert!(uapi::FLEXSC_MAX_PAGES <= u64::BITS);

/// Pages with waiting entries, by pool, so that no task walks all pages under a lock.
#[derive(Clone, Copy, Default)]
pub(super) struct Waiting([InPool; POOLS]);

impl Waiting {
    fn add(&mut self, pool: u8, page: u32) {
        if let Some(waiting) = arch::get_mut(&mut self.0, usize::from(pool)) {
            waiting.pages |= 1 << (page % u64::BITS);
        }
    }

    /// Notes that page `page` has no more entries for `pool`.
    pub(super) fn remove(&mut self, pool: u8, page: u32) {
        if let Some(waiting) = arch::get_mut(&mut self.0, usize::from(pool)) {
            waiting.pages &= !(1 << (page % u64::BITS));
        }
    }

    fn any(&self, pool: u8) -> bool {
        self.0.get(usize::from(pool)).is_some_and(|w| w.pages != 0)
    }

    fn take(&mut self, pool: u8) -> Option<u32> {
        let waiting = arch::get_mut(&mut self.0, usize::from(pool))?;
        if waiting.pages == 0 {
            return None;
        }
        let ahead = waiting.pages.rotate_right(waiting.next).trailing_zeros();
        let page = (ahead + waiting.next) % u64::BITS;
        waiting.pages &= !(1 << page);
        waiting.next = (page + 1) % u64::BITS;
        Some(page)
    }
}

impl Inner {
    /// Lets claimed entries of `page` wait for a thread of `pool`.
    fn offload(&mut self, pool: u8, page: u32, bits: u64) {
        let Some(p) = self.pages.get_mut(page as usize) else {
            return;
        };
        if let Some(offloaded) = arch::get_mut(&mut p.offloaded, usize::from(pool)) {
            *offloaded |= bits;
            if *offloaded != 0 {
                self.waiting.add(pool, page);
            }
        }
    }
}

impl Page {
    pub(super) fn offloaded(&self, pool: u8) -> u64 {
        self.offloaded.get(usize::from(pool)).map_or(0, |o| *o)
    }

    fn take_offloaded(&mut self, pool: u8) -> u64 {
        self.offloaded
            .get_mut(usize::from(pool))
            .map_or(0, core::mem::take)
    }

    /// Returns the pool for which an entry waits, if any.
    pub(super) fn pool_of(&self, index: u32) -> Option<u8> {
        (0..POOLS as u8).find(|pool| self.offloaded(*pool) & (1 << index) != 0)
    }

    /// Stops `bits` from waiting for `pool`.
    pub(super) fn withdraw(&mut self, pool: u8, bits: u64) {
        if let Some(offloaded) = self.offloaded.get_mut(usize::from(pool)) {
            *offloaded &= !bits;
        }
    }
}

impl Pages {
    /// Marks claimed entries as waiting for a thread of `pool`. For the entries in `owners` see
    /// `returned.rs`.
    pub(crate) fn offload(&self, pool: u8, page: u32, bits: u64, owners: u64) {
        self.offload_locked_to(&mut self.inner.lock(), pool, page, bits, owners);
    }

    /// As [`Self::offload`], with the lock held.
    pub(super) fn offload_locked_to(
        &self,
        inner: &mut Guard<'_, Inner>,
        pool: u8,
        page: u32,
        bits: u64,
        owners: u64,
    ) {
        self.note_owners(page, owners);
        inner.offload(pool, page, bits);
    }

    /// Notes the entries that the owner has left to threads. The caller holds the lock.
    fn note_owners(&self, page: u32, owners: u64) {
        if let (Some(words), 1..) = (self.words(page), owners) {
            words.note_owners(owners);
        }
    }

    /// Holds entries that were executed or `refused`. The caller offloads the rest of their
    /// chain.
    pub(crate) fn hold(&self, page: u32, executed: u64, refused: u64) {
        let _inner = self.inner.lock();
        if let Some(words) = self.words(page) {
            words.held.fetch_or(executed, Ordering::Relaxed);
            words.held_refused.fetch_or(refused, Ordering::Relaxed);
            words.special.fetch_or(executed, Ordering::Relaxed);
        }
    }

    /// Returns `bits` and the held entries of their chains.
    fn with_held(&self, page: u32, mut bits: u64) -> u64 {
        let held = self.held(page);
        loop {
            let more = (bits >> 1) & held & !bits;
            if more == 0 {
                return bits;
            }
            bits |= more;
        }
    }

    /// Publishes results of `bits`, which no task executes, and of the held entries of their chains.
    /// Calls that have begun get their own result, the others `verdict` of their index. Each entry is
    /// written once: a program that watches it takes what it sees first.
    pub(super) fn finish_unexecuted(
        &self,
        page: u32,
        bits: u64,
        verdict: impl Fn(u32) -> (Error, uapi::flexsc_reason),
    ) {
        let begun = self.end_kept(page, bits);
        for index in Bits(bits & !begun) {
            let (error, reason) = verdict(index);
            let entry = self.area.entry(page, index);
            entry.put_result(error.to_errno().into(), reason as u8);
        }
        let all = self.with_held(page, bits);
        let refused = bits & !begun | self.held_refused(page) & all;
        self.finish(page, all, process::weight(refused));
    }

    /// As [`Self::offload`], for entries that no task has examined: each waits for the pool that
    /// it names, or for the first pool if that one is not in `pools`. Returns the pools that have
    /// entries now.
    pub(crate) fn offload_unseen(
        &self,
        page: u32,
        bits: u64,
        pools: PoolSet,
        owners: bool,
    ) -> PoolSet {
        let mut inner = self.inner.lock();
        self.note_owners(page, if owners { bits } else { 0 });
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
        // The previous entry is linked to `next` and waits for `pool`.
        let mut chain = None;
        for index in Bits(bits) {
            // If the program changes the entry afterwards, a different pool may execute the call.
            let head = self.area.entry(page, index).head();
            let pool = match chain {
                Some((next, pool)) if next == index => pool,
                _ if pools.has(head.pool()) => head.pool(),
                _ => 0,
            };
            chain = head.is_linked().then_some((index + 1, pool));
            inner.offload(pool, page, 1 << index);
            given.add(pool);
        }
        given
    }

    /// As [`Self::offload_pending`], for an owner that is in WAIT and sleeps in a call.
    pub(crate) fn offload_unattended(&self, pools: PoolSet) -> PoolSet {
        self.offload_all(pools, true)
    }

    /// Takes all posted entries and marks them as waiting for threads of their pools, of
    /// which `pools` exist. Returns the pools that have entries now.
    pub(crate) fn offload_pending(&self, pools: PoolSet) -> PoolSet {
        self.offload_all(pools, false)
    }

    fn offload_all(&self, pools: PoolSet, owners: bool) -> PoolSet {
        for page in 0..self.len() {
            if self.pending(page) != 0 {
                // One page at a time: the scheduler's hook takes the lock.
                let mut inner = self.inner.lock();
                let bits = self.claim_locked(&mut inner, page);
                trace::post(&self.owner, self.id(), page, bits);
                self.note_owners(page, if owners { bits } else { 0 });
                self.offload_locked(&mut inner, page, bits, pools);
            }
        }
        let inner = self.inner.lock();
        let mut any = PoolSet::EMPTY;
        for pool in pools.iter() {
            if inner.waiting.any(pool) {
                any.add(pool);
            }
        }
        any
    }

    /// Called in the scheduler's hook: the owner leaves posted, unaccepted entries to the
    /// thread that takes over.
    pub(crate) fn leave_unattended(&self) {
        // ORDERING: The lock of the pool in whose queue the registration is put orders it.
        self.flags.unattended.store(true, Ordering::Relaxed);
    }

    /// Undoes [`Self::leave_unattended`]. Returns true if it was called.
    pub(crate) fn attend(&self) -> bool {
        self.flags.unattended.load(Ordering::Relaxed)
            && self.flags.unattended.swap(false, Ordering::Relaxed)
    }

    /// Takes the entries of one page that wait for a thread of `pool`, for the caller to execute.
    /// Returns the page, the entries, and whether other pages have more.
    pub(crate) fn take_offloaded(&self, pool: u8) -> Option<(u32, u64, bool)> {
        let mut inner = self.inner.lock();
        let page = inner.waiting.take(pool)?;
        let bits = inner.pages.get_mut(page as usize)?.take_offloaded(pool);
        Some((page, bits, inner.waiting.any(pool)))
    }

    /// Returns the entries of `bits`, which wait for a thread, that the owner can execute. The
    /// rest of a chain stays together.
    fn left_by_owner(&self, page: u32, bits: u64) -> u64 {
        let mut left = 0;
        if self.owner.is_exiting() {
            return left;
        }
        for index in Bits(bits) {
            let before = 1 << index >> 1;
            let follows = bits & before != 0 && self.area.entry(page, index - 1).head().is_linked();
            if self.is_owners(page, index) && (!follows || left & before != 0) {
                left |= 1 << index;
            }
        }
        left
    }

    /// Ends the wait of all entries for a thread of `pool`, which will have none. Entries
    /// that their owner left to threads by chance are returned to it; the others fail with
    /// EAGAIN, reason STARVED.
    pub(crate) fn fail_starved(&self, pool: u8) {
        for _ in 0..self.len() {
            let Some((page, bits, _)) = self.take_offloaded(pool) else {
                break;
            };
            let left = self.left_by_owner(page, bits);
            if left != 0 {
                self.give_back(page, left);
            }
            let bits = bits & !left;
            if bits != 0 {
                let starved = uapi::flexsc_reason_FLEXSC_REASON_STARVED;
                self.finish_unexecuted(page, bits, |_| (EAGAIN, starved));
            }
        }
    }

    /// Notes that the registration is in the queue of `pool`. Returns false if it already was. The
    /// caller holds the pool's lock.
    pub(crate) fn set_queued(&self, pool: u8) -> bool {
        // ORDERING: The pool's lock orders it; other pools only change other bits.
        let old = self.flags.queued.fetch_or(1 << pool, Ordering::Relaxed);
        old & (1 << pool) == 0
    }

    /// Returns true if the registration is in the queue of `pool`. Takes no lock.
    pub(crate) fn is_queued(&self, pool: u8) -> bool {
        self.flags.queued.load(Ordering::Relaxed) & (1 << pool) != 0
    }

    /// Undoes [`Self::set_queued`].
    pub(crate) fn clear_queued(&self, pool: u8) {
        // ORDERING: As above.
        self.flags.queued.fetch_and(!(1 << pool), Ordering::Relaxed);
    }
}
