// SPDX-License-Identifier: GPL-2.0

//! An engine: exception-less system calls for one process. Each open file is one engine.

mod debug;
mod deferred;
mod settings;
mod stats;

use self::settings::Settings;

use crate::{
    pages::{Pages, Totals},
    pool::Pools,
    quota::{Account, Quota},
    sys::{
        cpus::Cpus,
        debugfs::Entry,
        deferred::Deferred,
        miscdev::Closed,
        notify::Notifier,
        owned::OwnedTable,
        params,
        process::{self, Caller, Current, Process},
        slot::Slot,
    },
};
use core::sync::atomic::{AtomicU32, Ordering};
use kernel::prelude::*;
use kernel::sync::{Arc, ArcBorrow};
use kernel::uapi;

/// The registrations that a poller polls.
pub(crate) type Known = KVVec<Arc<Pages>>;

/// The largest number of CPUs that may be polled.
const CPUS: usize = u64::BITS as usize;

/// Additional data protected by the table's lock.
#[derive(Default)]
struct Sums {
    /// Syscall pages in all registrations.
    pages: u32,
    /// The counts of registrations that have ended.
    ended: Totals,
    /// See [`Engine::end_parked`].
    no_parked: bool,
}

/// The number of engines opened so far.
static ENGINES: AtomicU32 = AtomicU32::new(0);

/// See the module's documentation.
pub(crate) struct Engine {
    number: u32,
    process: Process,
    account: Arc<Account>,
    cpus: Cpus,
    notifier: Arc<Notifier>,
    pub(crate) pools: Pools,
    /// Holds a reference to the engine until its descriptors and mappings are gone.
    pub(crate) debug: Entry<Engine>,
    /// As above.
    pub(crate) deferred: Deferred<Engine>,
    table: OwnedTable<Pages, Sums>,
    /// Changes whenever `table` changes.
    generation: AtomicU32,
    /// The list of each CPU's poller while the poller executes entries.
    known: [Slot<Known>; CPUS],
    settings: Settings,
}

impl Engine {
    /// Creates an engine for the current process.
    pub(crate) fn new(quota: &Arc<Quota>) -> Result<Arc<Self>> {
        if !params::may_open() {
            return Err(EPERM);
        }
        let account = Account::current(quota.clone())?;
        let deferred = Deferred::new()?;
        let engine = Arc::new(
            Engine {
                number: ENGINES.fetch_add(1, Ordering::Relaxed).wrapping_add(1),
                process: Process::current()?,
                account: Arc::new(account, GFP_KERNEL_ACCOUNT)?,
                cpus: Cpus::own()?,
                notifier: Arc::new(Notifier::new()?, GFP_KERNEL_ACCOUNT)?,
                pools: Pools::new(deferred.trigger().clone())?,
                debug: Entry::new(),
                deferred,
                table: OwnedTable::new(Sums::default()),
                generation: AtomicU32::new(0),
                known: [const { Slot::new() }; CPUS],
                settings: Settings::new(),
            },
            GFP_KERNEL_ACCOUNT,
        )?;
        Ok(engine)
    }

    /// Returns true if the current task belongs to the engine's process.
    #[inline(always)]
    pub(crate) fn is_of(&self, current: Current) -> bool {
        self.process.has(current)
    }

    /// Returns the number shown in debugfs and in the names of the engine's threads.
    pub(crate) fn number(&self) -> u32 {
        self.number
    }

    pub(crate) fn notifier(&self) -> &Notifier {
        &self.notifier
    }

    /// Returns true if a result was not reaped yet, or an entry waits for the thread
    /// whose call this is. A thread with registrations checks its own, any other thread the results
    /// of all.
    pub(crate) fn is_ready_for_caller(&self) -> bool {
        let (mut has_own, mut own, mut any) = (false, false, false);
        self.for_each(|pages| {
            let returned = pages.await_owner();
            let ready = pages.count().ready != 0;
            if pages.owner().is_caller() {
                has_own = true;
                own |= ready || returned;
            }
            any |= ready;
        });
        if has_own {
            own
        } else {
            any
        }
    }

    pub(crate) fn cpus(&self) -> &Cpus {
        &self.cpus
    }

    /// Returns a number that changes whenever pages are registered or unregistered.
    pub(crate) fn generation(&self) -> u32 {
        self.generation.load(Ordering::Acquire)
    }

    /// Registers `pages` syscall pages for the current thread. See [`Self::register`].
    pub(crate) fn add(&self, pages: u32) -> Result<Arc<Pages>> {
        let trigger = self.deferred.trigger().clone();
        let new = Pages::new(pages, self.notifier.clone(), trigger, self.account.clone())?;
        // Set until a poller knows about the registration.
        new.set_need_wakeup(true);
        self.enter(&new)?;
        self.generation.fetch_add(1, Ordering::Release);
        self.pools.first().wake_pollers();
        Ok(new)
    }

    /// Puts a registration into the table. Fails with `ENOSPC` at the limits.
    fn enter(&self, new: &Arc<Pages>) -> Result {
        let prepare = |registrations| self.pools.make_room(registrations);
        self.table.enter(new, ENOSPC, prepare, |sums, id| {
            if sums.no_parked {
                return Err(EINTR);
            }
            if sums.pages + new.len() > params::max_pages() {
                return Err(ENOSPC);
            }
            sums.pages += new.len();
            new.set_id(id as u32);
            Ok(())
        })
    }

    /// Ends a registration, for its owner or, if that has ended, for any thread of the process.
    pub(crate) fn unregister(&self, id: usize, caller: &mut Caller) -> Result {
        let pages = self.get(id)?;
        if !pages.owner().is_current() && !pages.owner().is_exiting() {
            return Err(EPERM);
        }
        pages.await_owner();
        self.end(&pages, caller)
    }

    /// Ends a registration that the caller may end. Fails with `EBUSY` if anything is in flight,
    /// with `ENOENT` if another thread has ended the registration in the meantime.
    pub(crate) fn end(&self, pages: &Arc<Pages>, caller: &mut Caller) -> Result {
        pages.retire()?;
        self.pools.forget(pages);
        let id = pages.id() as usize;
        let was_there = self.table.remove(id, pages, caller, |sums, old| {
            sums.pages = sums.pages.saturating_sub(old.len());
            sums.ended += old.totals();
        });
        if !was_there {
            return Err(ENOENT);
        }
        pages.unregistered();
        self.generation.fetch_add(1, Ordering::Release);
        // Pollers drop the pages themselves. Lists of former pollers are dropped here.
        self.pools.first().wake_pollers();
        self.forget_known();
        Ok(())
    }

    /// Returns the registration `id`.
    pub(crate) fn get(&self, id: usize) -> Result<Arc<Pages>> {
        self.table.get(id).ok_or(ENOENT)
    }

    /// Returns the registration `id`, which must be the caller's.
    #[inline(always)]
    pub(crate) fn get_own<'a>(
        &'a self,
        id: usize,
        caller: &'a Caller,
    ) -> Result<ArcBorrow<'a, Pages>> {
        match self.table.get_own(id, caller) {
            Some(pages) => Ok(pages),
            None => Err(self.why_not_own(id)),
        }
    }

    #[cold]
    fn why_not_own(&self, id: usize) -> Error {
        match self.get(id) {
            Ok(_) => EPERM,
            Err(e) => e,
        }
    }

    /// Returns the slot in which the poller of `cpu` leaves its list while it executes entries.
    ///
    /// A poller may stay blocked for any time. So the list is left to the next poller, to drop it:
    /// registrations that have ended must not stay in memory that long.
    pub(crate) fn known_on(&self, cpu: u32) -> &Slot<Known> {
        &self.known[cpu as usize % CPUS]
    }

    /// Drops the lists of threads that no longer poll.
    pub(super) fn forget_known(&self) {
        let polled = self.pools.first().polled_cpus();
        for (cpu, known) in self.known.iter().enumerate() {
            if polled & (1 << cpu) == 0 && !known.is_empty() {
                drop(known.take());
            }
        }
    }

    /// Returns all registrations.
    pub(crate) fn snapshot(&self) -> Result<Known> {
        let mut known = KVVec::with_capacity(self.table.len(), GFP_KERNEL_ACCOUNT)?;
        for id in 0..self.table.len() {
            if let Ok(pages) = self.get(id) {
                known.push(pages, GFP_KERNEL_ACCOUNT)?;
            }
        }
        Ok(known)
    }

    /// Calls `f` for each registration.
    pub(crate) fn for_each(&self, mut f: impl FnMut(&Arc<Pages>)) {
        for id in 0..self.table.len() {
            if let Ok(pages) = self.get(id) {
                f(&pages);
            }
        }
    }

    /// Calls `f` for each registration that is `wanted`; `wanted` is called with a raw lock held.
    pub(crate) fn for_each_if(
        &self,
        wanted: impl Fn(&Pages) -> bool,
        mut f: impl FnMut(&Arc<Pages>),
    ) {
        for id in 0..self.table.len() {
            if let Some(pages) = self.table.get_if(id, &wanted) {
                f(&pages);
            }
        }
    }

    /// CANCEL of entry `index` of `id`.
    pub(crate) fn cancel(&self, id: usize, index: u32) -> Result {
        let entries = uapi::FLEXSC_PAGE_ENTRIES;
        self.get(id)?.cancel(index / entries, index % entries)
    }

    /// Called by KICK, and by the owner of `sleeper` before it sleeps in WAIT. Notes whether
    /// entries wait that no task executes. If that lasts and EXTRA_POLLERS allows it, recruits a
    /// CPU, preferably the one that becomes idle now.
    pub(crate) fn look_for_backlog(&self, sleeper: Option<&Pages>) {
        let first = self.pools.first();
        if first.extra_pollers() == 0 {
            return;
        }
        let mut found = first.has_work();
        if let Some(sleeper) = sleeper {
            self.for_each(|pages| {
                found |= !core::ptr::eq(&**pages, sleeper) && pages.any_pending();
            });
        }
        if first.note_backlog(found) {
            self.recruit();
        }
    }

    /// Recruits another CPU that the program may use. Not for the scheduler's hook.
    pub(crate) fn recruit(&self) {
        let usable = self.cpus.bits() & process::allowed_cpus();
        self.pools.first().recruit(usable, process::this_cpu());
    }

    /// No poller is awake any more: programs must call KICK. Syscall threads execute entries that
    /// programs posted in the belief that a poller was awake.
    pub(crate) fn poll_no_more(&self) {
        self.forget_known();
        self.for_each(|pages| {
            pages.set_need_wakeup(true);
            // ORDERING: Pairs with the program's barrier between posting and reading the flag.
            process::full_barrier();
            let pools = pages.offload_pending(self.pools.set());
            self.pools.push(pools, pages.as_arc_borrow());
        });
        if self.pools.first().polled_cpus() != 0 {
            // A poller that has begun in the meantime checks the flags again.
            self.generation.fetch_add(1, Ordering::Release);
        }
    }

    /// Returns the number of syscall pages, and the counts of all registrations so far.
    pub(crate) fn totals(&self) -> (u32, Totals) {
        let (pages, mut sum) = self.table.data(|sums| (sums.pages, sums.ended));
        self.for_each(|pages| sum += pages.totals());
        (pages, sum)
    }

    /// The process ends or executes another program. Its files must not be kept, least of
    /// all a socket in whose queue the engine's own descriptor is.
    ///
    /// Called by each syscall thread that ends for this reason; the first one does the work.
    /// There is one: the last thread of an engine does not retire, and a thread that is not like
    /// the others leaves only if there are others. No registration is added later.
    pub(crate) fn end_parked(&self) {
        let done = self
            .table
            .data(|sums| core::mem::replace(&mut sums.no_parked, true));
        if !done {
            self.for_each(|pages| pages.end_parked());
        }
    }

    /// Called when descriptors and mappings are gone: all threads end soon, even those in calls.
    /// Registrations for which no thread is executing are freed at once.
    pub(crate) fn close(&self, closed: &Closed) {
        self.pools.stop();
        for id in 0..self.table.len() {
            if let Some(pages) = self.table.take(id, closed) {
                pages.kill();
                pages.end_parked();
                pages.unregistered();
            }
        }
        self.pools.clear();
        for known in &self.known {
            drop(known.take());
        }
    }
}
