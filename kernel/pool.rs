// SPDX-License-Identifier: GPL-2.0

//! The syscall threads of an engine: who works, who idles, who is blocked, and what waits for
//! them. After the manner of concurrency-managed workqueues: a thread that blocks in a call does
//! not count as working, so another one takes over; one idle thread is always kept ready.

mod polling;
mod table;

pub(crate) use self::table::Counters;
use self::table::{Inner, Slot, State, NONE};
use crate::{
    pages::Pages,
    run::Role,
    sys::{
        errno,
        lock::{Class, Guard, RawLock},
        process::{self, Thread},
    },
};
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use kernel::prelude::*;
use kernel::sync::{Arc, ArcBorrow};

/// How often an idle thread looks whether its process has a thread left in user space.
const ORPHAN_LOOK_MS: u32 = 500;
const NS_PER_MS: u64 = 1_000_000;

/// What a thread is to do next.
pub(crate) enum Next {
    /// The engine is being closed: end.
    Stop,
    /// Execute what these pages have offloaded.
    Serve(Arc<Pages>),
    /// Poll the doorbells on this CPU.
    Spin(u32),
    /// Sleep with [`Pool::idle`].
    Idle,
}

/// Why an idle thread woke up.
pub(crate) enum Woken {
    /// There may be work.
    Look,
    /// It was idle for too long: end.
    Retire,
    /// The process has no thread left in user space: end, and let all others end.
    Orphaned,
}

/// The pool.
pub(crate) struct Pool {
    number: u8,
    inner: RawLock<Inner>,
    /// CPUs that shall poll.
    spin_mask: AtomicU64,
    /// Entries wait in the queue: a look without the lock.
    has_work: AtomicBool,
    stopping: AtomicBool,
}

impl Pool {
    /// A pool without threads for up to `registrations` registrations.
    pub(crate) fn new(number: u8, registrations: usize) -> Result<Self> {
        let mut queue = KVec::with_capacity(registrations, GFP_KERNEL_ACCOUNT)?;
        for _ in 0..registrations {
            queue.push(None, GFP_KERNEL_ACCOUNT)?;
        }
        let inner = Inner {
            slots: KVec::new(),
            free: NONE,
            idle: NONE,
            starting: 0,
            active: 0,
            blocked: 0,
            queue,
            head: 0,
            queued: 0,
            spinning: 0,
            counters: Counters::default(),
        };
        Ok(Pool {
            number,
            inner: RawLock::new(inner, Class::Pool),
            spin_mask: AtomicU64::new(0),
            has_work: AtomicBool::new(false),
            stopping: AtomicBool::new(false),
        })
    }

    /// Its number in the engine.
    pub(crate) fn number(&self) -> u8 {
        self.number
    }

    fn lock(&self) -> Guard<'_, Inner> {
        self.inner.lock()
    }

    pub(crate) fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Relaxed)
    }

    pub(crate) fn counters(&self) -> Counters {
        self.lock().counters
    }

    /// Reserves a slot for a thread that the caller is going to create.
    pub(crate) fn reserve(&self, max: u32) -> Result<u32> {
        loop {
            let len = {
                let mut inner = self.lock();
                if self.is_stopping() {
                    return Err(errno::ecanceled());
                }
                if inner.counters.threads >= max {
                    return Err(EAGAIN);
                }
                let i = inner.free;
                if let Some(slot) = inner.slot(i) {
                    slot.state = State::Starting;
                    inner.free = slot.next;
                    inner.starting += 1;
                    inner.counters.threads += 1;
                    return Ok(i);
                }
                inner.slots.len()
            };
            self.grow(len)?;
        }
    }

    /// Makes the table larger than `len`, unless somebody else has.
    fn grow(&self, len: usize) -> Result {
        let new_len = core::cmp::max(8, len * 2);
        let mut slots = KVec::with_capacity(new_len, GFP_KERNEL_ACCOUNT)?;
        for i in 0..new_len {
            let next = if i + 1 < new_len { i as u32 + 1 } else { NONE };
            slots.push(
                Slot {
                    thread: None,
                    state: State::Free,
                    next,
                },
                GFP_KERNEL_ACCOUNT,
            )?;
        }
        let mut inner = self.lock();
        if inner.slots.len() != len || inner.free != NONE {
            return Ok(());
        }
        for (new, old) in slots.iter_mut().zip(inner.slots.iter_mut()) {
            core::mem::swap(new, old);
        }
        inner.free = len as u32;
        core::mem::swap(&mut inner.slots, &mut slots);
        // The old table is freed after the lock.
        drop(inner);
        Ok(())
    }

    /// The thread for a reserved slot exists, or does not.
    pub(crate) fn created(&self, i: u32, thread: Option<Thread>) {
        let mut inner = self.lock();
        if thread.is_none() {
            inner.counters.create_failed += 1;
            inner.starting -= 1;
            Self::free(&mut inner, i);
            return;
        }
        inner.counters.created += 1;
        if let Some(slot) = inner.slot(i) {
            slot.thread = thread;
        }
    }

    fn free(inner: &mut Guard<'_, Inner>, i: u32) -> Option<Thread> {
        let next = inner.free;
        let slot = inner.slot(i)?;
        slot.state = State::Free;
        slot.next = next;
        let thread = slot.thread.take();
        inner.free = i;
        inner.counters.threads -= 1;
        thread
    }

    /// Is a thread ready to take over where one blocks?
    pub(crate) fn has_spare(&self) -> bool {
        let inner = self.lock();
        inner.counters.idle != 0 || inner.starting != 0
    }

    pub(crate) fn has_threads(&self) -> bool {
        self.lock().counters.threads != 0
    }

    /// See [`Inner::is_starved`].
    pub(crate) fn is_starved(&self) -> bool {
        self.has_work.load(Ordering::Relaxed) && self.lock().is_starved()
    }

    /// What thread `i` is to do now. It is counted as active unless it is to sleep or end.
    pub(crate) fn next(&self, i: u32) -> Next {
        let mut inner = self.lock();
        if inner.state(i) == State::Starting {
            inner.starting -= 1;
            inner.activate(i);
        }
        if self.is_stopping() {
            return Next::Stop;
        }
        let vacant = self.spin_mask.load(Ordering::Relaxed) & !inner.spinning;
        if vacant != 0 {
            let cpu = vacant.trailing_zeros();
            inner.spinning |= 1 << cpu;
            return Next::Spin(cpu);
        }
        // Threads that came back from a call may be too many: they leave first.
        if inner.active <= process::nr_cpus() {
            if let Some(pages) = self.dequeue(&mut inner) {
                inner.counters.max_active = core::cmp::max(inner.counters.max_active, inner.active);
                return Next::Serve(pages);
            }
        }
        inner.active -= 1;
        inner.counters.idle += 1;
        let next = inner.idle;
        if let Some(slot) = inner.slot(i) {
            slot.state = State::Idle;
            slot.next = next;
        }
        inner.idle = i;
        Next::Idle
    }

    fn dequeue(&self, inner: &mut Guard<'_, Inner>) -> Option<Arc<Pages>> {
        let pages = inner.dequeue();
        self.has_work.store(inner.queued != 0, Ordering::Relaxed);
        if let Some(pages) = &pages {
            pages.clear_queued(self.number);
        }
        pages
    }

    /// Something from the queue for a thread that polls.
    pub(crate) fn try_dequeue(&self) -> Option<Arc<Pages>> {
        if !self.has_work.load(Ordering::Relaxed) {
            return None;
        }
        self.dequeue(&mut self.lock())
    }

    /// Sleeps until thread `i` is activated, a signal comes or it was idle for `retire_ms`.
    pub(crate) fn idle(&self, i: u32, retire_ms: u32) -> Woken {
        let retire_at = process::now_ns() + u64::from(retire_ms) * NS_PER_MS;
        let woken = loop {
            process::sleep_prepare();
            let active = self.lock().state(i) != State::Idle;
            if active || process::signal_pending() || self.is_stopping() {
                process::sleep_cancel();
                break Woken::Look;
            }
            // The last thread of a process may end without a word: exit(2).
            if process::sleep(Some(core::cmp::min(retire_ms, ORPHAN_LOOK_MS))) {
                continue;
            }
            if process::is_orphaned() {
                break Woken::Orphaned;
            }
            let mut inner = self.lock();
            // The last one stays: it is the spare.
            let late = process::now_ns() >= retire_at;
            if late && inner.state(i) == State::Idle && inner.counters.idle > 1 {
                // Under one lock: nobody may give it work from here on.
                inner.unlink_idle(i);
                inner.activate(i);
                inner.counters.retired += 1;
                return Woken::Retire;
            }
        };
        let mut inner = self.lock();
        if inner.state(i) == State::Idle {
            inner.unlink_idle(i);
            inner.activate(i);
        }
        woken
    }

    /// Queues pages with offloaded entries, and lets a thread work on them.
    pub(crate) fn push(&self, pages: ArcBorrow<'_, Pages>) {
        let mut inner = self.lock();
        self.push_locked(&mut inner, pages);
        inner.wake_one(self.spin_mask.load(Ordering::Relaxed));
    }

    fn push_locked(&self, inner: &mut Guard<'_, Inner>, pages: ArcBorrow<'_, Pages>) {
        if pages.set_queued(self.number) {
            inner.enqueue(pages.into());
            self.has_work.store(true, Ordering::Relaxed);
        }
    }

    /// Called in the scheduler's hook: a task in this role blocks in a call; `more` has entries
    /// that it leaves. False where it polled and nobody can go on with that.
    pub(crate) fn blocked(&self, role: Role, more: Option<ArcBorrow<'_, Pages>>) -> bool {
        let mut inner = self.lock();
        if let Some(i) = role.slot() {
            inner.set_state(i, State::Blocked);
            inner.active -= 1;
        }
        inner.blocked += 1;
        inner.counters.max_blocked = core::cmp::max(inner.counters.max_blocked, inner.blocked);
        let mut vacant = false;
        if let Role::Spinner { cpu, .. } = role {
            inner.spinning &= !(1 << cpu);
            vacant = true;
        }
        if let Some(pages) = more {
            self.push_locked(&mut inner, pages);
        }
        if inner.queued == 0 && !vacant {
            return true;
        }
        inner.counters.handoffs += 1;
        let mut taken_over = true;
        if vacant {
            if let Some(i) = inner.pop_idle() {
                inner.activate(i);
                inner.wake(i);
            } else {
                taken_over = inner.starting != 0;
            }
        } else {
            inner.wake_one(self.spin_mask.load(Ordering::Relaxed));
        }
        if inner.is_starved() {
            for pages in inner.queue.iter().flatten() {
                pages.nudge();
            }
        }
        taken_over
    }

    /// Called in the scheduler's hook: the task is back.
    pub(crate) fn unblocked(&self, role: Role) {
        let mut inner = self.lock();
        inner.blocked -= 1;
        if let Some(i) = role.slot() {
            inner.set_state(i, State::Active);
            inner.active += 1;
        }
    }

    /// Thread `i` ends; it is not to be woken any more.
    pub(crate) fn leave(&self, i: u32) {
        let thread = {
            let mut inner = self.lock();
            if inner.state(i) == State::Starting {
                inner.starting -= 1;
            } else {
                inner.active -= 1;
            }
            Self::free(&mut inner, i)
        };
        drop(thread);
    }

    /// Lets all threads end, those that are blocked too.
    pub(crate) fn stop(&self) {
        let inner = self.lock();
        self.stopping.store(true, Ordering::Relaxed);
        for slot in inner.slots.iter() {
            if let Some(thread) = &slot.thread {
                thread.interrupt();
                thread.wake();
            }
        }
    }

    /// Empties the queue; to be called when no thread is left or all are about to end.
    pub(crate) fn clear(&self) {
        loop {
            let pages = self.dequeue(&mut self.lock());
            if pages.is_none() {
                break;
            }
        }
    }

    pub(crate) fn count_kick(&self) {
        self.lock().counters.kicks += 1;
    }
}
