// SPDX-License-Identifier: GPL-2.0

//! An engine: exception-less system calls for one process. One open file is one engine.

use crate::{
    pages::Pages,
    pool::Pool,
    sys::{
        file,
        lock::{Class, RawLock},
        process::{self, Cpus, Process},
    },
    worker::Worker,
};
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use kernel::prelude::*;
use kernel::sync::Arc;
use kernel::uapi;

/// Registrations that one engine may have.
const MAX_REGISTRATIONS: usize = 512;
/// How long a kernel core polls in vain by default, in nanoseconds.
const DEFAULT_IDLE_NS: u64 = 1_000_000;
/// How long an idle thread stays by default, in milliseconds.
const DEFAULT_RETIRE_MS: u32 = 1_000;

struct Table {
    slots: KVec<Option<Arc<Pages>>>,
    /// Syscall pages in all of them, and what ended registrations have counted.
    pages: u32,
    posted: u64,
    finished: u64,
}

/// See the module's documentation.
pub(crate) struct Engine {
    process: Process,
    cpus: Cpus,
    pub(crate) pool: Pool,
    table: RawLock<Table>,
    /// Changes whenever `table` does.
    generation: AtomicU32,
    idle_ns: AtomicU64,
    retire_ms: AtomicU32,
    max_threads: AtomicU32,
    waits: AtomicU64,
    sleeps: AtomicU64,
    inline_done: AtomicU64,
    refused: AtomicU64,
}

impl Engine {
    /// An engine for the current process.
    pub(crate) fn new() -> Result<Arc<Self>> {
        if !file::may_open() {
            return Err(EPERM);
        }
        let mut slots = KVec::with_capacity(MAX_REGISTRATIONS, GFP_KERNEL_ACCOUNT)?;
        for _ in 0..MAX_REGISTRATIONS {
            slots.push(None, GFP_KERNEL_ACCOUNT)?;
        }
        let table = Table {
            slots,
            pages: 0,
            posted: 0,
            finished: 0,
        };
        let engine = Arc::new(
            Engine {
                process: Process::current()?,
                cpus: Cpus::own()?,
                pool: Pool::new(MAX_REGISTRATIONS)?,
                table: RawLock::new(table, Class::Slots),
                generation: AtomicU32::new(0),
                idle_ns: AtomicU64::new(DEFAULT_IDLE_NS),
                retire_ms: AtomicU32::new(DEFAULT_RETIRE_MS),
                max_threads: AtomicU32::new(file::max_threads()),
                waits: AtomicU64::new(0),
                sleeps: AtomicU64::new(0),
                inline_done: AtomicU64::new(0),
                refused: AtomicU64::new(0),
            },
            GFP_KERNEL_ACCOUNT,
        )?;
        Ok(engine)
    }

    /// Does the current task belong to the engine's process?
    pub(crate) fn is_ours(&self) -> bool {
        self.process.is_current()
    }

    pub(crate) fn cpus(&self) -> &Cpus {
        &self.cpus
    }

    pub(crate) fn idle_ns(&self) -> u64 {
        self.idle_ns.load(Ordering::Relaxed)
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
    pub(crate) fn register(self: &Arc<Self>, pages: u32) -> Result<Arc<Pages>> {
        if pages == 0 || pages > uapi::FLEXSC_MAX_PAGES {
            return Err(EINVAL);
        }
        if !self.pool.has_threads() {
            Worker::spawn(self)?;
        }
        let new = Pages::new(pages)?;
        let locked = new.area().len() / uapi::FLEXSC_PAGE_SIZE as usize;
        self.process.account_locked(locked, true)?;
        if let Err(e) = self.enter(&new) {
            self.process.account_locked(locked, false)?;
            return Err(e);
        }
        self.generation.fetch_add(1, Ordering::Release);
        new.set_need_wakeup(self.pool.spin_mask() == 0);
        if self.pool.spin_mask() != 0 {
            self.pool.wake_spinners();
        }
        Ok(new)
    }

    /// Puts a registration into the table. `ENOSPC` at the limits.
    fn enter(&self, new: &Arc<Pages>) -> Result {
        let mut table = self.table.lock();
        if table.pages + new.len() > file::max_pages() {
            return Err(ENOSPC);
        }
        let (id, slot) = table
            .slots
            .iter_mut()
            .enumerate()
            .find(|(_, slot)| slot.is_none())
            .ok_or(ENOSPC)?;
        new.set_id(id as u32);
        *slot = Some(new.clone());
        table.pages += new.len();
        Ok(())
    }

    /// Ends a registration: by its owner or, when that has ended, by any thread of the process.
    pub(crate) fn unregister(&self, id: usize) -> Result {
        let pages = self.get(id)?;
        if !pages.owner().is_current() && !pages.owner().is_exiting() {
            return Err(EPERM);
        }
        pages.retire()?;
        let old = {
            let mut table = self.table.lock();
            let old = table.slots.get_mut(id).and_then(Option::take);
            if let Some(old) = &old {
                let (posted, finished) = old.totals();
                table.pages -= old.len();
                table.posted += posted;
                table.finished += finished;
            }
            old
        };
        self.generation.fetch_add(1, Ordering::Release);
        if let Some(old) = old {
            self.give_back(&old);
        }
        // A core that polls lets go of them.
        self.pool.wake_spinners();
        Ok(())
    }

    fn give_back(&self, pages: &Pages) {
        let locked = pages.area().len() / uapi::FLEXSC_PAGE_SIZE as usize;
        // Taking off never fails.
        let _ = self.process.account_locked(locked, false);
    }

    /// The registration `id`.
    pub(crate) fn get(&self, id: usize) -> Result<Arc<Pages>> {
        let table = self.table.lock();
        table.slots.get(id).and_then(Clone::clone).ok_or(ENOENT)
    }

    /// All registrations.
    pub(crate) fn snapshot(&self) -> Result<KVec<Arc<Pages>>> {
        let mut known = KVec::with_capacity(MAX_REGISTRATIONS, GFP_KERNEL)?;
        let table = self.table.lock();
        for pages in table.slots.iter().flatten() {
            if known.len() == known.capacity() {
                break;
            }
            known.push(pages.clone(), GFP_NOWAIT)?;
        }
        Ok(known)
    }

    /// Calls `f` for each registration.
    pub(crate) fn for_each(&self, mut f: impl FnMut(&Arc<Pages>)) {
        for id in 0..MAX_REGISTRATIONS {
            if let Ok(pages) = self.get(id) {
                f(&pages);
            }
        }
    }

    /// KICK: somebody has to look at the doorbells of `id`.
    pub(crate) fn kick(self: &Arc<Self>, id: usize) -> Result {
        let pages = self.get(id)?;
        self.pool.count_kick();
        if self.pool.wake_spinners() {
            return Ok(());
        }
        if pages.offload_pending() {
            self.offloaded(pages);
        }
        Ok(())
    }

    /// Lets syscall threads execute what `pages` has offloaded.
    pub(crate) fn offloaded(self: &Arc<Self>, pages: Arc<Pages>) {
        self.pool.push(pages);
        if self.pool.is_starved() {
            // Where this fails too, `WAIT` reports it.
            let _ = Worker::spawn(self);
        }
    }

    /// SET SPIN_CPUS.
    pub(crate) fn set_spin_cpus(self: &Arc<Self>, mask: u64) -> Result {
        if mask & !process::online_cpus() != 0 {
            return Err(EINVAL);
        }
        self.pool.set_spin_mask(mask);
        for _ in 0..self.pool.vacant() {
            if let Err(e) = Worker::spawn(self) {
                self.pool.set_spin_mask(0);
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
    pub(crate) fn poll_no_more(self: &Arc<Self>) {
        self.for_each(|pages| {
            pages.set_need_wakeup(true);
            // ORDERING: Pairs with the program's barrier between posting and reading the flag.
            process::full_barrier();
            if pages.offload_pending() {
                self.offloaded(pages.clone());
            }
        });
    }

    /// SET and GET.
    pub(crate) fn set(self: &Arc<Self>, param: u32, value: u64) -> Result {
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
            _ => return Err(EINVAL),
        }
        Ok(())
    }

    /// See [`Self::set`].
    pub(crate) fn get_param(&self, param: u32) -> Result<u64> {
        Ok(match param {
            uapi::flexsc_param_id_FLEXSC_PARAM_SPIN_CPUS => self.pool.spin_mask(),
            uapi::flexsc_param_id_FLEXSC_PARAM_IDLE_NS => self.idle_ns(),
            uapi::flexsc_param_id_FLEXSC_PARAM_MAX_THREADS => self.max_threads().into(),
            uapi::flexsc_param_id_FLEXSC_PARAM_RETIRE_MS => self.retire_ms().into(),
            _ => return Err(EINVAL),
        })
    }

    /// The descriptors and mappings are gone: all threads end soon, those in calls too.
    pub(crate) fn close(&self) {
        self.pool.stop();
        self.pool.clear();
    }

    pub(crate) fn count_wait(&self) {
        self.waits.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn count_sleep(&self) {
        self.sleeps.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn count_inline(&self, n: u64) {
        self.inline_done.fetch_add(n, Ordering::Relaxed);
    }

    pub(crate) fn count_refused(&self) {
        self.refused.fetch_add(1, Ordering::Relaxed);
    }

    /// All figures.
    pub(crate) fn stats(&self) -> uapi::flexsc_stats {
        let (pages, mut posted, mut finished) = {
            let table = self.table.lock();
            (table.pages, table.posted, table.finished)
        };
        self.for_each(|pages| {
            let (p, f) = pages.totals();
            posted += p;
            finished += f;
        });
        let pool = self.pool.counters();
        let inline_done = self.inline_done.load(Ordering::Relaxed);
        uapi::flexsc_stats {
            size: core::mem::size_of::<uapi::flexsc_stats>() as u32,
            posted,
            inline_done,
            thread_done: finished.saturating_sub(inline_done),
            refused: self.refused.load(Ordering::Relaxed),
            handoffs: pool.handoffs,
            kicks: pool.kicks,
            waits: self.waits.load(Ordering::Relaxed),
            sleeps: self.sleeps.load(Ordering::Relaxed),
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
            ..Default::default()
        }
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        // The last thread has left, nothing is in flight.
        for id in 0..MAX_REGISTRATIONS {
            if let Ok(pages) = self.get(id) {
                self.give_back(&pages);
            }
        }
    }
}
