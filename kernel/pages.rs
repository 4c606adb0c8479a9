// SPDX-License-Identifier: GPL-2.0

//! A registration: the syscall pages of one thread, and the kernel's side of their doorbells.
//!
//! An entry's way: posted by the program; *taken* when a task of ours claims its bit; *offloaded*
//! while it waits for a syscall thread of its pool; executed by exactly the one that claimed it;
//! *done* when its result is written. The kernel's words are the only ones it believes.

use crate::pools::{PoolSet, POOLS};
use crate::sys::{
    area::Area,
    lock::{Class, Guard, RawLock},
    notify::Notifier,
    process::Thread,
};
use core::sync::atomic::{AtomicBool, AtomicU16, AtomicU32, AtomicU64, Ordering};
use kernel::prelude::*;
use kernel::sync::Arc;
use kernel::uapi;

/// The kernel's words of one page.
#[derive(Clone, Copy, Default)]
struct Page {
    /// Toggled when an entry's result was published.
    done: u64,
    /// Taken, and waiting for a syscall thread, for each pool.
    offloaded: [u64; POOLS],
}

impl Page {
    fn offload(&mut self, pool: u8, bits: u64) {
        if let Some(offloaded) = self.offloaded.get_mut(usize::from(pool)) {
            *offloaded |= bits;
        }
    }

    fn offloaded(&self, pool: u8) -> u64 {
        self.offloaded.get(usize::from(pool)).map_or(0, |o| *o)
    }

    fn take_offloaded(&mut self, pool: u8) -> u64 {
        self.offloaded
            .get_mut(usize::from(pool))
            .map_or(0, core::mem::take)
    }
}

/// What a registration has counted so far.
#[derive(Clone, Copy, Default)]
pub(crate) struct Totals {
    /// Entries accepted.
    pub(crate) posted: u64,
    /// Entries executed by the owner.
    pub(crate) inline_done: u64,
    /// Entries executed by syscall threads.
    pub(crate) thread_done: u64,
    /// Entries finished without being executed.
    pub(crate) refused: u64,
    /// WAIT calls.
    pub(crate) waits: u64,
    /// Times that the owner slept in one.
    pub(crate) sleeps: u64,
}

impl core::ops::AddAssign for Totals {
    fn add_assign(&mut self, other: Self) {
        self.posted += other.posted;
        self.inline_done += other.inline_done;
        self.thread_done += other.thread_done;
        self.refused += other.refused;
        self.waits += other.waits;
        self.sleeps += other.sleeps;
    }
}

/// What is behind the lock.
pub(crate) struct Inner {
    pages: KVec<Page>,
    /// How many more results the sleeping owner waits for; 0: it does not.
    missing: u32,
    /// Something that the owner has to look at although results are missing.
    nudged: bool,
    totals: Totals,
}

/// How many entries are in which state.
#[derive(Clone, Copy, Default)]
pub(crate) struct Count {
    /// Have a result that was not reaped.
    pub(crate) ready: u32,
    /// Posted or taken, and without a result.
    pub(crate) unfinished: u32,
}

/// A registration.
pub(crate) struct Pages {
    /// Its number in the engine's table, set once.
    id: AtomicU32,
    area: Area,
    owner: Thread,
    notifier: Arc<Notifier>,
    /// A word for each page, changed under the lock: toggled when an entry was accepted.
    taken: KVec<AtomicU64>,
    inner: RawLock<Inner>,
    /// Pools in whose queue of registrations with offloaded entries this one is.
    queued: AtomicU16,
    /// Unregistered: nobody takes entries any more.
    dead: AtomicBool,
}

impl AsRef<Area> for Pages {
    fn as_ref(&self) -> &Area {
        &self.area
    }
}

impl Pages {
    /// Makes pages for the current thread.
    pub(crate) fn new(pages: u32, notifier: Arc<Notifier>) -> Result<Arc<Self>> {
        let area = Area::new(pages)?;
        let mut taken = KVec::with_capacity(pages as usize, GFP_KERNEL_ACCOUNT)?;
        for _ in 0..pages {
            taken.push(AtomicU64::new(0), GFP_KERNEL_ACCOUNT)?;
        }
        let inner = Inner {
            pages: KVec::from_elem(Page::default(), pages as usize, GFP_KERNEL_ACCOUNT)?,
            missing: 0,
            nudged: false,
            totals: Totals::default(),
        };
        let pages = Arc::new(
            Pages {
                id: AtomicU32::new(0),
                area,
                owner: Thread::current(),
                notifier,
                taken,
                inner: RawLock::new(inner, Class::Pages),
                queued: AtomicU16::new(0),
                dead: AtomicBool::new(false),
            },
            GFP_KERNEL_ACCOUNT,
        )?;
        Ok(pages)
    }

    pub(crate) fn id(&self) -> u32 {
        self.id.load(Ordering::Relaxed)
    }

    /// To be called once, before others know the registration.
    pub(crate) fn set_id(&self, id: u32) {
        self.id.store(id, Ordering::Relaxed);
    }

    pub(crate) fn area(&self) -> &Area {
        &self.area
    }

    /// The thread that registered the pages, and whose calls these are.
    pub(crate) fn owner(&self) -> &Thread {
        &self.owner
    }

    /// Number of syscall pages.
    pub(crate) fn len(&self) -> u32 {
        self.area.pages()
    }

    /// Which entries of `page` are posted and not taken: a look without the lock.
    pub(crate) fn pending(&self, page: u32) -> u64 {
        match self.taken.get(page as usize) {
            // ORDERING: None needed, `claim` looks again under the lock.
            Some(taken) => self.area.posted(page) ^ taken.load(Ordering::Relaxed),
            None => 0,
        }
    }

    /// Is anything posted that was not taken?
    pub(crate) fn any_pending(&self) -> bool {
        (0..self.len()).any(|page| self.pending(page) != 0)
    }

    fn claim_locked(&self, inner: &mut Guard<'_, Inner>, page: u32) -> u64 {
        let Some(taken) = self.taken.get(page as usize) else {
            return 0;
        };
        if self.dead.load(Ordering::Relaxed) {
            return 0;
        }
        let old = taken.load(Ordering::Relaxed);
        let posted = self.area.posted(page);
        // A hostile program may toggle a bit again while its entry is in flight. Such an entry
        // must not be taken twice, so it counts when it is done.
        let busy = match inner.pages.get(page as usize) {
            Some(p) => old ^ p.done,
            None => return 0,
        };
        let bits = (posted ^ old) & !busy;
        if bits != 0 {
            taken.store(old ^ bits, Ordering::Relaxed);
            self.area.set_taken(page, old ^ bits);
            inner.totals.posted += u64::from(bits.count_ones());
        }
        bits
    }

    /// Takes all entries of `page` that are posted: the caller executes or offloads each of them.
    pub(crate) fn claim(&self, page: u32) -> u64 {
        if self.pending(page) == 0 {
            return 0;
        }
        self.claim_locked(&mut self.inner.lock(), page)
    }

    /// Marks entries that were claimed as waiting for a thread of `pool`.
    pub(crate) fn offload(&self, pool: u8, page: u32, bits: u64) {
        if let Some(p) = self.inner.lock().pages.get_mut(page as usize) {
            p.offload(pool, bits);
        }
    }

    /// As [`Self::offload`], for entries that nobody has looked at: each waits for the pool that
    /// it names, or for the first one where that is not among `pools`. Returns the pools that
    /// have something to do now.
    pub(crate) fn offload_unseen(&self, page: u32, bits: u64, pools: PoolSet) -> PoolSet {
        let mut inner = self.inner.lock();
        match inner.pages.get_mut(page as usize) {
            Some(p) => self.offload_locked(p, page, bits, pools),
            None => PoolSet::EMPTY,
        }
    }

    fn offload_locked(&self, p: &mut Page, page: u32, bits: u64, pools: PoolSet) -> PoolSet {
        let mut given = PoolSet::EMPTY;
        let mut left = bits;
        while left != 0 {
            let index = left.trailing_zeros();
            left &= left - 1;
            // A program that changes it afterwards gets its call executed by another pool.
            let named = self.area.entry(page, index).pool();
            let pool = if pools.has(named) { named } else { 0 };
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
            let bits = if self.pending(page) != 0 {
                self.claim_locked(&mut inner, page)
            } else {
                0
            };
            if let Some(p) = inner.pages.get_mut(page as usize) {
                self.offload_locked(p, page, bits, pools);
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

    /// Publishes that the results of `bits` are written, by the owner itself or by a thread;
    /// `refused` of them were not executed.
    pub(crate) fn finish(&self, page: u32, bits: u64, refused: u32, by_owner: bool) {
        if bits == 0 {
            return;
        }
        let mut inner = self.inner.lock();
        let Some(p) = inner.pages.get_mut(page as usize) else {
            return;
        };
        p.done ^= bits;
        let done = p.done;
        self.area.set_done(page, done);
        let n = bits.count_ones();
        inner.totals.refused += u64::from(refused);
        if by_owner {
            inner.totals.inline_done += u64::from(n - refused);
        } else {
            inner.totals.thread_done += u64::from(n - refused);
        }
        if inner.missing != 0 {
            inner.missing = inner.missing.saturating_sub(n);
            if inner.missing == 0 {
                // Under the lock: the owner sleeps for us and for nothing else.
                self.owner.wake();
            }
        }
        drop(inner);
        self.notifier.signal();
    }

    fn count_locked(&self, inner: &Guard<'_, Inner>) -> Count {
        let mut count = Count::default();
        for (page, p) in (0..).zip(inner.pages.iter()) {
            let Some(taken) = self.taken.get(page as usize) else {
                continue;
            };
            let busy = taken.load(Ordering::Relaxed) ^ p.done;
            let pending = self.pending(page) & !busy;
            count.ready += (p.done ^ self.area.reaped(page)).count_ones();
            count.unfinished += (busy | pending).count_ones();
        }
        count
    }

    /// How many entries have a result, and how many will have one.
    pub(crate) fn count(&self) -> Count {
        self.count_locked(&self.inner.lock())
    }

    /// As [`Self::count`], at the beginning of a WAIT call.
    pub(crate) fn count_wait(&self) -> Count {
        let mut inner = self.inner.lock();
        inner.totals.waits += 1;
        self.count_locked(&inner)
    }

    /// Prepares the owner's sleep for `need(count)` more results. Where none is missing, or it was
    /// nudged, it must not sleep.
    pub(crate) fn sleep_for(&self, need: impl FnOnce(Count) -> u32) -> bool {
        let mut inner = self.inner.lock();
        let missing = need(self.count_locked(&inner));
        if missing == 0 || core::mem::take(&mut inner.nudged) {
            return false;
        }
        inner.missing = missing;
        inner.totals.sleeps += 1;
        true
    }

    /// The owner is awake again.
    pub(crate) fn awake(&self) {
        self.inner.lock().missing = 0;
    }

    /// Wakes the owner where it sleeps: no syscall thread can go on with its entries.
    pub(crate) fn nudge(&self) {
        let mut inner = self.inner.lock();
        inner.nudged = true;
        if inner.missing != 0 {
            inner.missing = 0;
            self.owner.wake();
        }
    }

    /// Ends the registration where nothing is in flight.
    pub(crate) fn retire(&self) -> Result {
        let inner = self.inner.lock();
        let busy = inner
            .pages
            .iter()
            .zip(self.taken.iter())
            .any(|(p, taken)| taken.load(Ordering::Relaxed) != p.done);
        if busy {
            return Err(EBUSY);
        }
        self.dead.store(true, Ordering::Relaxed);
        Ok(())
    }

    /// Tells the program whether it has to kick after posting.
    pub(crate) fn set_need_wakeup(&self, need: bool) {
        let flags = if need {
            uapi::FLEXSC_CTRL_NEED_WAKEUP
        } else {
            0
        };
        for page in 0..self.len() {
            self.area.set_flags(page, flags);
        }
    }

    /// What was counted so far.
    pub(crate) fn totals(&self) -> Totals {
        self.inner.lock().totals
    }
}
