// SPDX-License-Identifier: GPL-2.0

//! An engine: exception-less system calls for one process. One open file is one engine.

use crate::{
    pages::{Pages, Totals},
    pools::{PoolSet, Pools},
    run::order::Kind,
    sys::{
        file,
        notify::Notifier,
        owned::OwnedTable,
        process::{self, Cpus, Process},
    },
    worker::Worker,
};
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use kernel::prelude::*;
use kernel::sync::{Arc, ArcBorrow};
use kernel::uapi;

/// Registrations that one engine may have.
const MAX_REGISTRATIONS: usize = 512;
/// How long a kernel core polls in vain by default, in nanoseconds.
const DEFAULT_IDLE_NS: u64 = 1_000_000;
/// How long an idle thread stays by default, in milliseconds.
const DEFAULT_RETIRE_MS: u32 = 1_000;

/// Rounds of a chain's loop by default: a gibibyte, 16 KiB at a time.
const DEFAULT_LOOP_MAX: u64 = 65_536;

/// What the table's lock protects besides.
#[derive(Default)]
struct Sums {
    /// Syscall pages in all registrations.
    pages: u32,
    /// What ended registrations have counted.
    ended: Totals,
}

/// See the module's documentation.
pub(crate) struct Engine {
    process: Process,
    cpus: Cpus,
    notifier: Arc<Notifier>,
    pub(crate) pools: Pools,
    table: OwnedTable<Pages, Sums>,
    /// Changes whenever `table` does.
    generation: AtomicU32,
    idle_ns: AtomicU64,
    retire_ms: AtomicU32,
    max_threads: AtomicU32,
    order: AtomicU32,
    loop_max: AtomicU64,
}

impl Engine {
    /// An engine for the current process.
    pub(crate) fn new() -> Result<Arc<Self>> {
        if !file::may_open() {
            return Err(EPERM);
        }
        let engine = Arc::new(
            Engine {
                process: Process::current()?,
                cpus: Cpus::own()?,
                notifier: Arc::new(Notifier::new()?, GFP_KERNEL_ACCOUNT)?,
                pools: Pools::new(MAX_REGISTRATIONS)?,
                table: OwnedTable::new(MAX_REGISTRATIONS, Sums::default())?,
                generation: AtomicU32::new(0),
                idle_ns: AtomicU64::new(DEFAULT_IDLE_NS),
                retire_ms: AtomicU32::new(DEFAULT_RETIRE_MS),
                max_threads: AtomicU32::new(file::max_threads()),
                order: AtomicU32::new(Kind::Posted as u32),
                loop_max: AtomicU64::new(DEFAULT_LOOP_MAX),
            },
            GFP_KERNEL_ACCOUNT,
        )?;
        Ok(engine)
    }

    /// Does the current task belong to the engine's process?
    pub(crate) fn is_ours(&self) -> bool {
        self.process.is_current()
    }

    pub(crate) fn notifier(&self) -> &Notifier {
        &self.notifier
    }

    /// Has any registration a result that was not reaped?
    pub(crate) fn any_ready(&self) -> bool {
        let mut any = false;
        self.for_each(|pages| any |= pages.count().ready != 0);
        any
    }

    pub(crate) fn cpus(&self) -> &Cpus {
        &self.cpus
    }

    pub(crate) fn idle_ns(&self) -> u64 {
        self.idle_ns.load(Ordering::Relaxed)
    }

    /// ORDER.
    #[inline(always)]
    pub(crate) fn order(&self) -> Kind {
        match self.order.load(Ordering::Relaxed) {
            uapi::flexsc_order_FLEXSC_ORDER_NUMBER => Kind::Number,
            uapi::flexsc_order_FLEXSC_ORDER_IO_FIRST => Kind::IoFirst,
            _ => Kind::Posted,
        }
    }

    /// LOOP_MAX.
    pub(crate) fn loop_max(&self) -> u64 {
        self.loop_max.load(Ordering::Relaxed)
    }

    pub(crate) fn retire_ms(&self) -> u32 {
        self.retire_ms.load(Ordering::Relaxed)
    }

    pub(crate) fn max_threads(&self) -> u32 {
        core::cmp::min(
            self.max_threads.load(Ordering::Relaxed),
            file::max_threads(),
        )
    }

    /// Changes whenever pages are registered or unregistered.
    pub(crate) fn generation(&self) -> u32 {
        self.generation.load(Ordering::Acquire)
    }

    /// Registers `pages` syscall pages for the current thread.
    pub(crate) fn register(self: ArcBorrow<'_, Self>, pages: u32) -> Result<Arc<Pages>> {
        if pages == 0 || pages > uapi::FLEXSC_MAX_PAGES {
            return Err(EINVAL);
        }
        if !self.pools.first().has_threads() {
            self.spawn(0)?;
        }
        let new = Pages::new(pages, self.notifier.clone())?;
        let locked = new.area().len() / uapi::FLEXSC_PAGE_SIZE as usize;
        self.process.account_locked(locked, true)?;
        if let Err(e) = self.enter(&new) {
            self.process.account_locked(locked, false)?;
            return Err(e);
        }
        self.generation.fetch_add(1, Ordering::Release);
        new.set_need_wakeup(self.pools.first().spin_mask() == 0);
        if self.pools.first().spin_mask() != 0 {
            self.pools.first().wake_spinners();
        }
        Ok(new)
    }

    /// Puts a registration into the table. `ENOSPC` at the limits.
    fn enter(&self, new: &Arc<Pages>) -> Result {
        self.table.enter(new, ENOSPC, |sums, id| {
            if sums.pages + new.len() > file::max_pages() {
                return Err(ENOSPC);
            }
            sums.pages += new.len();
            new.set_id(id as u32);
            Ok(())
        })
    }

    /// Ends a registration: by its owner or, when that has ended, by any thread of the process.
    pub(crate) fn unregister(&self, id: usize) -> Result {
        let pages = self.get(id)?;
        if !pages.owner().is_current() && !pages.owner().is_exiting() {
            return Err(EPERM);
        }
        pages.retire()?;
        let old = self.table.remove(id, |sums, old| {
            sums.pages -= old.len();
            sums.ended += old.totals();
        });
        self.generation.fetch_add(1, Ordering::Release);
        if let Some(old) = old {
            self.give_back(&old);
        }
        // A core that polls lets go of them.
        self.pools.first().wake_spinners();
        Ok(())
    }

    fn give_back(&self, pages: &Pages) {
        let locked = pages.area().len() / uapi::FLEXSC_PAGE_SIZE as usize;
        // Taking off never fails.
        let _ = self.process.account_locked(locked, false);
    }

    /// The registration `id`.
    pub(crate) fn get(&self, id: usize) -> Result<Arc<Pages>> {
        self.table.get(id).ok_or(ENOENT)
    }

    /// The registration `id`, which must be the current thread's.
    pub(crate) fn get_own(&self, id: usize) -> Result<ArcBorrow<'_, Pages>> {
        match self.table.get_own(id) {
            Some(pages) => Ok(pages),
            None => self.get(id).and(Err(EPERM)),
        }
    }

    /// All registrations.
    pub(crate) fn snapshot(&self) -> Result<KVec<Arc<Pages>>> {
        let mut known = KVec::with_capacity(MAX_REGISTRATIONS, GFP_KERNEL)?;
        self.table.for_each_locked(|pages| {
            // There is room for all that the table holds.
            let _ = known.push(pages.into(), GFP_NOWAIT);
        });
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

    /// Called in the scheduler's hook: no thread can go on polling, so programs have to kick.
    pub(crate) fn nobody_polls(&self) {
        self.table
            .for_each_locked(|pages| pages.set_need_wakeup(true));
    }

    /// KICK: somebody has to look at the doorbells of `id`.
    pub(crate) fn kick(self: ArcBorrow<'_, Self>, id: usize) -> Result {
        let pages = self.get(id)?;
        self.pools.first().count_kick();
        if self.pools.first().wake_spinners() {
            return Ok(());
        }
        self.offloaded(
            pages.offload_pending(self.pools.set()),
            pages.as_arc_borrow(),
        );
        Ok(())
    }

    /// CANCEL of entry `index` of `id`.
    pub(crate) fn cancel(&self, id: usize, index: u32) -> Result {
        let entries = uapi::FLEXSC_PAGE_ENTRIES;
        self.get(id)?.cancel(index / entries, index % entries)
    }

    /// Lets threads of `pools` execute what `pages` has offloaded.
    pub(crate) fn offloaded(
        self: ArcBorrow<'_, Self>,
        pools: PoolSet,
        pages: ArcBorrow<'_, Pages>,
    ) {
        self.pools.push(pools, pages);
        for pool in pools.iter() {
            if self.pools.is_starved(pool) {
                // Where this fails too, `WAIT` reports it.
                let _ = Worker::spawn(self, pool);
            }
        }
    }

    /// Makes a thread for a call of the program's, which goes on after a signal.
    fn spawn(self: ArcBorrow<'_, Self>, pool: u8) -> Result {
        match Worker::spawn(self, pool) {
            Err(EINTR) => Err(ERESTARTNOINTR),
            other => other,
        }
    }

    /// SET SPIN_CPUS.
    pub(crate) fn set_spin_cpus(self: ArcBorrow<'_, Self>, mask: u64) -> Result {
        if mask & !process::online_cpus() != 0 {
            return Err(EINVAL);
        }
        self.pools.first().set_spin_mask(mask);
        for _ in 0..self.pools.first().vacant() {
            if let Err(e) = self.spawn(0) {
                self.pools.first().set_spin_mask(0);
                return Err(e);
            }
        }
        if mask == 0 {
            self.poll_no_more();
        }
        Ok(())
    }

    /// Nobody polls from now on: programs have to kick, and what they posted in the belief that
    /// somebody polls goes to syscall threads.
    pub(crate) fn poll_no_more(self: ArcBorrow<'_, Self>) {
        self.for_each(|pages| {
            pages.set_need_wakeup(true);
            // ORDERING: Pairs with the program's barrier between posting and reading the flag.
            process::full_barrier();
            let pools = pages.offload_pending(self.pools.set());
            self.offloaded(pools, pages.as_arc_borrow());
        });
    }

    /// SET and GET.
    pub(crate) fn set(self: ArcBorrow<'_, Self>, param: u32, value: u64) -> Result {
        match param {
            uapi::flexsc_param_id_FLEXSC_PARAM_SPIN_CPUS => self.set_spin_cpus(value)?,
            uapi::flexsc_param_id_FLEXSC_PARAM_IDLE_NS => {
                self.idle_ns.store(value, Ordering::Relaxed);
            }
            uapi::flexsc_param_id_FLEXSC_PARAM_MAX_THREADS => {
                let value = u32::try_from(value).map_err(|_| EINVAL)?;
                if value == 0 {
                    return Err(EINVAL);
                }
                self.max_threads.store(value, Ordering::Relaxed);
            }
            uapi::flexsc_param_id_FLEXSC_PARAM_RETIRE_MS => {
                let value = u32::try_from(value).map_err(|_| EINVAL)?;
                self.retire_ms.store(value, Ordering::Relaxed);
            }
            uapi::flexsc_param_id_FLEXSC_PARAM_ORDER => {
                self.order
                    .store(Kind::try_from(value)? as u32, Ordering::Relaxed);
            }
            uapi::flexsc_param_id_FLEXSC_PARAM_LOOP_MAX => {
                if value == 0 {
                    return Err(EINVAL);
                }
                self.loop_max.store(value, Ordering::Relaxed);
            }
            uapi::flexsc_param_id_FLEXSC_PARAM_EVENTFD => {
                let fd = i32::try_from(value as i64).map_err(|_| EBADF)?;
                self.notifier.set_eventfd(fd)?;
            }
            _ => return Err(EINVAL),
        }
        Ok(())
    }

    /// See [`Self::set`].
    pub(crate) fn get_param(&self, param: u32) -> Result<u64> {
        Ok(match param {
            uapi::flexsc_param_id_FLEXSC_PARAM_SPIN_CPUS => self.pools.first().spin_mask(),
            uapi::flexsc_param_id_FLEXSC_PARAM_IDLE_NS => self.idle_ns(),
            uapi::flexsc_param_id_FLEXSC_PARAM_MAX_THREADS => self.max_threads().into(),
            uapi::flexsc_param_id_FLEXSC_PARAM_RETIRE_MS => self.retire_ms().into(),
            uapi::flexsc_param_id_FLEXSC_PARAM_ORDER => self.order() as u64,
            uapi::flexsc_param_id_FLEXSC_PARAM_LOOP_MAX => self.loop_max(),
            _ => return Err(EINVAL),
        })
    }

    /// The descriptors and mappings are gone: all threads end soon, those in calls too.
    pub(crate) fn close(&self) {
        self.pools.first().stop();
        self.pools.first().clear();
    }

    /// All figures.
    pub(crate) fn stats(&self) -> uapi::flexsc_stats {
        let (pages, mut sum) = self.table.data(|sums| (sums.pages, sums.ended));
        self.for_each(|pages| sum += pages.totals());
        let pool = self.pools.first().counters();
        uapi::flexsc_stats {
            size: core::mem::size_of::<uapi::flexsc_stats>() as u32,
            posted: sum.posted,
            inline_done: sum.inline_done,
            thread_done: sum.thread_done,
            refused: sum.refused,
            handoffs: pool.handoffs,
            kicks: pool.kicks,
            waits: sum.waits,
            sleeps: sum.sleeps,
            spin_rounds: pool.spin_rounds,
            spin_sleeps: pool.spin_sleeps,
            threads: pool.threads.into(),
            threads_idle: pool.idle.into(),
            threads_created: pool.created,
            threads_retired: pool.retired,
            create_failed: pool.create_failed,
            max_active: pool.max_active.into(),
            max_blocked: pool.max_blocked.into(),
            pages: pages.into(),
            cancels: sum.cancels,
            chains: sum.chains,
            loop_rounds: sum.rounds,
            ..Default::default()
        }
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        // The last thread has left, nothing is in flight.
        self.for_each(|pages| self.give_back(pages));
    }
}
