// SPDX-License-Identifier: GPL-2.0

//! A registration: the syscall pages of one thread, and the kernel's side of their doorbells.
//!
//! The life of an entry: posted by the program; *taken* when a task claims its bit in the kernel;
//! *offloaded* while it waits for a syscall thread of its pool; executed by exactly the task that
//! claimed it; *done* when its result is written. In a chain it may be *held* in between: executed
//! but not published. The kernel trusts only its own words, never those in shared memory.
//!
//! Claiming and publishing take the lock, once for many entries each; nothing in between takes it.

mod cancel;
mod charge;
mod claim;
mod invariants;
mod notify;
mod offload;
mod park;
mod returned;
mod slow;
mod stats;
mod waiting;

pub(crate) use self::charge::id_at;
use self::notify::Notifiers;
use self::offload::Waiting;
use self::park::Calls;
use self::slow::Slow;
pub(crate) use self::stats::Totals;
use self::stats::{OwnerStats, WorkerStats};
pub(crate) use self::waiting::Count;

use crate::defs::POOLS;
use crate::quota::{Account, Charge};
use crate::sys::{
    area::{Area, Doorbell},
    deferred::Trigger,
    lock::{Class, RawLock},
    notify::Notifier,
    park::Parker,
    process::{self, Thread},
};
use core::sync::atomic::{AtomicBool, AtomicU16, AtomicU32, AtomicU64, Ordering};
use kernel::prelude::*;
use kernel::sync::Arc;
use kernel::uapi;

/// The kernel's words of one page, one bit for each entry.
#[derive(Default)]
struct Words {
    // All words change under the lock. A reader that needs only a hint does not take the lock.
    /// Toggled when an entry was accepted.
    taken: AtomicU64,
    /// Toggled when an entry's result was published.
    done: AtomicU64,
    /// Entries in between for which the program has called CANCEL.
    cancelled: AtomicU64,
    /// Entries in between that were executed while another task continues their chain.
    held: AtomicU64,
    /// Entries in `held` whose calls were refused.
    held_refused: AtomicU64,
    /// Entries in between that the owner claimed in WAIT and left to other tasks.
    owners: AtomicU64,
    /// Entries in `owners` whose calls would have kept the owner waiting for a file system.
    left: AtomicU64,
    /// Entries in between that were returned to the owner.
    returned: AtomicU64,
    /// Entries in between whose calls wait for files, see `park.rs`.
    parked: AtomicU64,
    /// Entries in between whose calls are kept with their files.
    kept: AtomicU64,
    /// Entries in `cancelled`, `held` or `owners`; may have further bits set.
    special: AtomicU64,
    /// The index at which a batch begins: behind the last entry that was claimed.
    start: AtomicU32,
}

impl Words {
    /// Returns the entries that were accepted but are not finished.
    fn busy(&self) -> u64 {
        // ORDERING: None needed: a caller that must not miss a change holds the lock.
        self.taken.load(Ordering::Relaxed) ^ self.done.load(Ordering::Relaxed)
    }

    /// Returns the entries that were posted but not accepted.
    #[inline(always)]
    fn pending(&self, bell: &Doorbell<'_>) -> u64 {
        // ORDERING: None needed: `claim` looks again under the lock.
        bell.posted() ^ self.taken.load(Ordering::Relaxed)
    }
}

/// Per-page state protected by the lock.
#[derive(Clone, Copy, Default)]
struct Page {
    /// Entries that were taken and wait for a syscall thread, for each pool.
    offloaded: [u64; POOLS],
}

/// State protected by the lock.
struct Inner {
    pages: KVec<Page>,
    /// Which pages have offloaded entries.
    waiting: Waiting,
    /// The task that sleeps in the call of each entry.
    sleepers: KVVec<Option<Thread>>,
    calls: Calls,
    /// How many more results the sleeping owner waits for; 0 if it is not sleeping.
    missing: u32,
    /// True if the owner must wake up although results are missing.
    nudged: bool,
    posted: u64,
    cancels: u64,
}

impl Inner {
    /// Creates the state of `pages` pages.
    fn new(pages: u32) -> Result<Self> {
        let entries = (pages * uapi::FLEXSC_PAGE_ENTRIES) as usize;
        let mut sleepers = KVVec::with_capacity(entries, GFP_KERNEL_ACCOUNT)?;
        for _ in 0..entries {
            sleepers.push(None, GFP_KERNEL_ACCOUNT)?;
        }
        Ok(Inner {
            pages: KVec::from_elem(Page::default(), pages as usize, GFP_KERNEL_ACCOUNT)?,
            waiting: Waiting::default(),
            sleepers,
            calls: Calls::new(entries)?,
            missing: 0,
            nudged: false,
            posted: 0,
            cancels: 0,
        })
    }

    /// Notes that `bits` of `page` were accepted.
    #[inline(always)]
    fn count_posted(&mut self, bits: u64) {
        self.posted = self.posted.wrapping_add(process::weight(bits).into());
    }
}

/// Flags that are read without the lock.
#[derive(Default)]
struct Flags {
    /// Pools that have this registration in their queue.
    queued: AtomicU16,
    /// The owner sleeps in a call and has left posted entries that no task has accepted: the
    /// thread that takes over accepts them.
    unattended: AtomicBool,
    /// See `returned.rs`.
    any_returned: AtomicBool,
    /// See `park.rs`.
    any_parked: AtomicBool,
    /// Number of parked entries, changed under the lock.
    parked: AtomicU32,
    /// Unregistered: no task takes entries any more.
    dead: AtomicBool,
    slow: Slow,
}

/// A registration.
pub(crate) struct Pages {
    /// Number in the engine's table, set once.
    id: AtomicU32,
    area: Area,
    owner: Thread,
    notifiers: Notifiers,
    words: KVec<Words>,
    inner: RawLock<Inner>,
    parker: Arc<Parker>,
    owner_stats: OwnerStats,
    worker_stats: WorkerStats,
    flags: Flags,
    /// See `charge.rs`.
    mapped: AtomicU32,
    /// The last field, so that the memory is freed before it is uncharged.
    charge: Charge,
}

impl AsRef<Area> for Pages {
    fn as_ref(&self) -> &Area {
        &self.area
    }
}

impl Pages {
    /// Creates pages for the current thread. `ENOSPC` and `ENOMEM` at the limits of `account`.
    pub(crate) fn new(
        pages: u32,
        notifier: Arc<Notifier>,
        trigger: Arc<Trigger>,
        account: Arc<Account>,
    ) -> Result<Arc<Self>> {
        let pinned = Area::size(pages)? / uapi::FLEXSC_PAGE_SIZE as usize;
        let charge = Charge::new(account, pages, pinned)?;
        let area = Area::new(pages)?;
        let mut words = KVec::with_capacity(pages as usize, GFP_KERNEL_ACCOUNT)?;
        for _ in 0..pages {
            words.push(Words::default(), GFP_KERNEL_ACCOUNT)?;
        }
        let inner = Inner::new(pages)?;
        let owner = Thread::current();
        let parker = Parker::new(&owner, trigger, pages)?;
        let pages = Arc::new(
            Pages {
                id: AtomicU32::new(0),
                area,
                owner,
                notifiers: Notifiers::new(notifier),
                words,
                inner: RawLock::new(inner, Class::Pages),
                parker,
                owner_stats: OwnerStats::default(),
                worker_stats: WorkerStats::default(),
                flags: Flags::default(),
                mapped: AtomicU32::new(0),
                charge,
            },
            GFP_KERNEL_ACCOUNT,
        )?;
        Ok(pages)
    }

    pub(crate) fn id(&self) -> u32 {
        self.id.load(Ordering::Relaxed)
    }

    /// Must be called once, before other tasks know the registration.
    pub(crate) fn set_id(&self, id: u32) {
        self.id.store(id, Ordering::Relaxed);
    }

    pub(crate) fn area(&self) -> &Area {
        &self.area
    }

    /// Returns the thread that registered the pages and owns their calls.
    pub(crate) fn owner(&self) -> &Thread {
        &self.owner
    }

    /// Returns the number of syscall pages.
    pub(crate) fn len(&self) -> u32 {
        self.area.pages()
    }

    fn words(&self, page: u32) -> Option<&Words> {
        self.words.get(page as usize)
    }

    /// Returns the index at which a batch of `page` begins.
    #[inline(always)]
    pub(crate) fn start(&self, page: u32) -> u32 {
        // ORDERING: None needed: a hint.
        self.words(page)
            .map_or(0, |words| words.start.load(Ordering::Relaxed))
    }

    /// Returns the entries of `page` that were executed in chains that other tasks continue.
    pub(crate) fn held(&self, page: u32) -> u64 {
        // ORDERING: None needed: set before the rest of the chain was given away under the lock.
        self.words(page)
            .map_or(0, |words| words.held.load(Ordering::Relaxed))
    }

    /// Returns the entries of [`Self::held`] whose calls were refused.
    pub(crate) fn held_refused(&self, page: u32) -> u64 {
        // ORDERING: As above.
        self.words(page)
            .map_or(0, |words| words.held_refused.load(Ordering::Relaxed))
    }

    /// Publishes results that a syscall thread has written; `refused` of the entries in `bits` were
    /// not executed. The caller has claimed them.
    #[inline(never)]
    pub(crate) fn finish(&self, page: u32, bits: u64, refused: u32) {
        self.finish_by(false, page, bits, refused);
    }

    /// As [`Self::finish`]; `by_owner`: by the owner itself.
    #[inline(always)]
    pub(crate) fn finish_by(&self, by_owner: bool, page: u32, bits: u64, refused: u32) {
        let n = process::weight(bits);
        let executed = u64::from(n.saturating_sub(refused));
        if by_owner {
            self.owner_stats.done.add(executed);
        } else {
            self.worker_stats
                .done
                .fetch_add(executed, Ordering::Relaxed);
        }
        if refused != 0 {
            self.count_refused(u64::from(refused), by_owner);
        }
        self.publish(page, bits, n);
    }

    #[inline(always)]
    fn publish(&self, page: u32, bits: u64, n: u32) {
        let Some(words) = self.words(page) else {
            return;
        };
        let mut inner = self.inner.lock();
        self.check(&inner, page);
        self.check_published(&inner, page, bits);
        // Before the done bit, which gives the entries to the program.
        if words.special.load(Ordering::Relaxed) & bits != 0 {
            self.forget(words, page, bits);
        }
        let done = words.done.load(Ordering::Relaxed) ^ bits;
        words.done.store(done, Ordering::Relaxed);
        self.area.doorbell(page).set_done(done);
        if inner.missing != 0 {
            inner.missing = inner.missing.saturating_sub(n);
            if inner.missing == 0 {
                // Under the lock, so that the owner can be sleeping only for results.
                self.owner.wake();
            }
        }
        drop(inner);
        self.notify();
    }

    /// Clears all notes about these entries from the time when they were in flight.
    #[cold]
    fn forget(&self, words: &Words, page: u32, bits: u64) {
        self.forget_cancelled(words, page, bits);
        words.held.fetch_and(!bits, Ordering::Relaxed);
        words.held_refused.fetch_and(!bits, Ordering::Relaxed);
        words.owners.fetch_and(!bits, Ordering::Relaxed);
        words.left.fetch_and(!bits, Ordering::Relaxed);
        words.special.fetch_and(!bits, Ordering::Relaxed);
    }

    /// Ends the registration. Fails with `EBUSY` if anything is in flight.
    pub(crate) fn retire(&self) -> Result {
        let _inner = self.inner.lock();
        if self.words.iter().any(|words| words.busy() != 0) {
            return Err(EBUSY);
        }
        self.flags.dead.store(true, Ordering::Relaxed);
        Ok(())
    }

    /// Ends the registration even if calls are in flight: the engine is being closed.
    pub(crate) fn kill(&self) {
        let _inner = self.inner.lock();
        self.flags.dead.store(true, Ordering::Relaxed);
    }

    /// Returns true if the registration has ended. The caller holds a lock that is taken after the
    /// end.
    pub(crate) fn is_dead(&self) -> bool {
        self.flags.dead.load(Ordering::Relaxed)
    }

    /// Tells the program whether it must call KICK after posting.
    pub(crate) fn set_need_wakeup(&self, need: bool) {
        let flags = if need {
            uapi::FLEXSC_CTRL_NEED_WAKEUP
        } else {
            0
        };
        for page in 0..self.len() {
            self.area.doorbell(page).set_flags(flags);
        }
    }
}
