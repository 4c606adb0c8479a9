// SPDX-License-Identifier: GPL-2.0

//! The syscall threads of a pool: which of them work, idle or block, and the work queued for them.
//! As in concurrency-managed workqueues, a thread that blocks in a call does not count as running,
//! so another thread takes over; one idle thread is always kept ready.
//!
//! The concurrency limit: only running threads take entries. There are as many running threads
//! (`nr_running`) as the pool has usable CPUs, or fewer if the program says so. A thread that comes
//! back from a call in which it slept finishes its entry, but takes another one only if it is
//! [readmitted](Pool::readmit). A poller that is awake always counts as running: the program has
//! asked for it.

pub(crate) mod backlog;
mod counters;
mod limit;
mod lockless;
mod model;
mod polled;
mod pollers;
mod pools;
mod queue;
mod settings;
mod starving;
mod table;
mod threads;

pub(crate) use self::counters::Counters;
pub(crate) use self::lockless::Total;
pub(crate) use self::pools::Pools;
pub(crate) use self::settings::{Nice, Settings};
pub(crate) use self::table::State;
use self::{lockless::LocklessCounts, polled::PolledCpus, queue::Queue, table::Inner};
use crate::{
    pages::Pages,
    sys::{
        deferred::Trigger,
        lock::{warn_once, Class, Guard, RawLock},
        process,
    },
};
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use kernel::prelude::*;
use kernel::sync::{Arc, ArcBorrow};

/// How often an idle thread checks whether a CPU that the program wants polled is back.
const LOOK_MS: u32 = 500;
const NS_PER_MS: u64 = 1_000_000;

/// What a thread should do next.
pub(crate) enum Next {
    /// End: the engine is being closed.
    Stop,
    /// Execute the offloaded entries of these pages.
    Serve(Arc<Pages>),
    /// Poll the doorbells on this CPU.
    Poll(u32),
    /// The last poller is gone: tell the programs, and ask again.
    NobodyPolls,
    /// Sleep with [`Pool::idle`].
    Idle,
}

/// Why an idle thread woke up.
pub(crate) enum Woken {
    /// There may be work.
    Look,
    /// The thread was idle for too long and must end.
    Retire,
}

/// The CPUs of a thread that asks for the next thing to do.
pub(crate) struct Here {
    /// Number of CPUs that the thread may use.
    pub(crate) usable: u32,
    /// CPUs that may be polled, if the program wants polling.
    pub(crate) may_poll: u64,
}

/// A pool of syscall threads.
pub(crate) struct Pool {
    number: u8,
    pub(crate) settings: Settings,
    inner: RawLock<Inner>,
    lockless: Arc<LocklessCounts>,
    polled: PolledCpus,
    trigger: Arc<Trigger>,
    /// Entries that the pool's threads have executed.
    executed: AtomicU64,
    stopping: AtomicBool,
}

impl Pool {
    /// Creates a pool without threads, and without room in its queue.
    pub(crate) fn new(number: u8, total: Arc<Total>, trigger: Arc<Trigger>) -> Result<Self> {
        let queue = Queue::new(0)?;
        let lockless = Arc::new(LocklessCounts::new(total), GFP_KERNEL_ACCOUNT)?;
        let inner = Inner::new(queue, process::usable_cpus(), lockless.clone());
        Ok(Pool {
            number,
            settings: Settings::new(process::nice()),
            inner: RawLock::new(inner, Class::Pool),
            lockless,
            polled: PolledCpus::default(),
            trigger,
            executed: AtomicU64::new(0),
            stopping: AtomicBool::new(false),
        })
    }

    /// Makes room for `registrations` registrations in the queue.
    pub(crate) fn make_room(&self, registrations: usize) -> Result {
        if self.lock().queue_room() >= registrations {
            return Ok(());
        }
        let mut queue = Queue::new(registrations)?;
        let mut inner = self.lock();
        if inner.queue_room() < registrations {
            inner.move_queue_to(&mut queue);
        }
        // The old queue is freed after the lock was released.
        drop(inner);
        Ok(())
    }

    /// Returns the pool's number in the engine.
    pub(crate) fn number(&self) -> u8 {
        self.number
    }

    fn lock(&self) -> Guard<'_, Inner> {
        let inner = self.inner.lock();
        inner.check();
        inner
    }

    pub(crate) fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Relaxed)
    }

    /// Returns the pool's figures.
    pub(crate) fn counters(&self) -> Counters {
        let mut counters = self.lock().counters;
        counters.executed = self.executed.load(Ordering::Relaxed);
        counters
    }

    /// Counts entries that the pool's threads have executed.
    pub(crate) fn add_executed(&self, entries: u32) {
        self.executed
            .fetch_add(u64::from(entries), Ordering::Relaxed);
    }

    /// Returns true if a thread is ready to take over if another one blocks. Takes no lock.
    pub(crate) fn has_spare(&self) -> bool {
        self.lockless.has_spare()
    }

    /// Returns true if registrations wait for a thread. Takes no lock.
    pub(crate) fn has_work(&self) -> bool {
        self.lockless.has_work()
    }

    pub(crate) fn has_threads(&self) -> bool {
        self.lock().counters.now.threads != 0
    }

    /// Applies changed settings: the threads may use `usable` CPUs. Lets more threads work if the
    /// limit allows it now.
    pub(crate) fn set_usable(&self, usable: u32) {
        let mut inner = self.lock();
        inner.usable = usable;
        // Each thread that is woken counts as running.
        for _ in 0..inner.queued() {
            if inner.counters.now.nr_running >= self.limit_in(&inner) || !inner.wake_idle() {
                break;
            }
        }
        self.notice(&mut inner);
    }

    /// Returns what thread `i` should do now.
    pub(crate) fn next(&self, i: u32, here: Here) -> Next {
        let mut inner = self.lock();
        if self.is_stopping() {
            return Next::Stop;
        }
        inner.usable = here.usable;
        let vacant = self.vacant(&inner, here.may_poll);
        if vacant != 0 {
            let cpu = vacant.trailing_zeros();
            inner.pollers.begin(i, cpu);
            inner.set_state(i, State::Polling);
            return Next::Poll(cpu);
        }
        // The thread may have been woken to take over a CPU that is offline by now.
        if inner.lost_poller() {
            return Next::NobodyPolls;
        }
        // A thread that was woken for work counts as running already.
        let others = inner.counters.now.nr_running - u32::from(inner.state(i).is_running());
        if others < self.limit_in(&inner) {
            if let Some(pages) = self.dequeue(&mut inner) {
                inner.set_state(i, State::Working);
                if inner.queued() != 0 {
                    self.wake_one(&mut inner);
                }
                return Next::Serve(pages);
            }
        }
        inner.push_idle(i);
        Next::Idle
    }

    fn dequeue(&self, inner: &mut Guard<'_, Inner>) -> Option<Arc<Pages>> {
        let pages = inner.dequeue();
        if let Some(pages) = &pages {
            pages.clear_queued(self.number);
        }
        pages
    }

    /// Takes a registration from the queue, for a poller.
    pub(crate) fn try_dequeue(&self) -> Option<Arc<Pages>> {
        if !self.has_work() {
            return None;
        }
        self.dequeue(&mut self.lock())
    }

    /// Takes the entries of one page of `pages`, which the caller has dequeued, to execute them.
    /// If other pages have entries, the registration goes to the end of the queue, so that a
    /// registration that is constantly refilled does not hold up the others.
    pub(crate) fn take(&self, pages: ArcBorrow<'_, Pages>) -> Option<(u32, u64)> {
        let mut inner = self.lock();
        let (page, bits, more) = pages.take_offloaded(self.number)?;
        if more {
            self.push_locked(&mut inner, pages);
            self.wake_one(&mut inner);
        }
        Some((page, bits))
    }

    /// Lets one more thread work if the concurrency limit allows it.
    fn wake_one(&self, inner: &mut Guard<'_, Inner>) {
        // A poller takes from the queue too.
        if !inner.rouse_poller(self.polled.wanted())
            && inner.counters.now.nr_running < self.limit_in(inner)
        {
            inner.wake_idle();
        }
    }

    /// Sleeps until thread `i` is woken for work, a signal comes or it was idle for `retire_ms`. Calls
    /// `follow`, which must not sleep, before each sleep until it returns false.
    pub(crate) fn idle(&self, i: u32, retire_ms: u32, follow: impl Fn() -> bool) -> Woken {
        let retire_at = process::now_ns() + u64::from(retire_ms) * NS_PER_MS;
        let woken = loop {
            process::sleep_prepare();
            let (woken, idle) = {
                let inner = self.lock();
                (inner.state(i) != State::Idle, inner.counters.now.idle)
            };
            if woken || process::signal_pending() || self.is_stopping() {
                process::sleep_cancel();
                break Woken::Look;
            }
            if follow() {
                // Others may change what is followed all the time.
                process::sleep_cancel();
                process::resched_and_check_signal();
                continue;
            }
            // The last idle thread stays as the spare, however soon others retire.
            let ms = if idle > 1 {
                core::cmp::min(retire_ms, LOOK_MS)
            } else {
                LOOK_MS
            };
            if process::sleep(Some(ms)) {
                continue;
            }
            if self.has_vacant_cpu(self.may_poll()) {
                break Woken::Look;
            }
            let mut inner = self.lock();
            let late = process::now_ns() >= retire_at;
            if late && inner.state(i) == State::Idle && inner.counters.now.idle > 1 {
                // Under the same lock, so that no task gives the thread work from here on.
                inner.unlink_idle(i);
                inner.note_retired(i);
                inner.set_state(i, State::Woken);
                return Woken::Retire;
            }
        };
        let mut inner = self.lock();
        if inner.state(i) == State::Idle {
            inner.unlink_idle(i);
            inner.set_state(i, State::Woken);
        }
        woken
    }

    /// Queues pages with offloaded entries, and lets a thread work on them.
    pub(crate) fn push(&self, pages: ArcBorrow<'_, Pages>) {
        let mut inner = self.lock();
        self.push_locked(&mut inner, pages);
        self.wake_one(&mut inner);
        self.notice(&mut inner);
    }

    fn push_locked(&self, inner: &mut Guard<'_, Inner>, pages: ArcBorrow<'_, Pages>) {
        // A registration that has ended has nothing to execute; `forget` was called or will be.
        if pages.is_dead() || !pages.set_queued(self.number) {
            return;
        }
        if !inner.enqueue(pages.into()) {
            pages.clear_queued(self.number);
            warn_once();
        }
    }

    /// Takes `pages`, which have ended, out of the queue. Such pages are never queued again.
    pub(crate) fn forget(&self, pages: &Pages) {
        let mut inner = self.lock();
        // Under the lock, which covers the bit and the queue.
        if !pages.is_queued(self.number) {
            return;
        }
        let found = inner.unqueue(pages);
        drop(inner);
        // Dropped after the lock.
        if found.is_some() {
            pages.clear_queued(self.number);
        }
    }

    /// Empties the queue. The caller ensures that no thread is left or all are about to end.
    pub(crate) fn clear(&self) {
        loop {
            let pages = self.dequeue(&mut self.lock());
            if pages.is_none() {
                break;
            }
        }
    }
}
