// SPDX-License-Identifier: GPL-2.0

//! The syscall threads of a pool: who works, who idles, who is blocked, and what waits for them.
//! After the manner of concurrency-managed workqueues: a thread that blocks in a call does not
//! count as active, so another one takes over; one idle thread is always kept ready.
//!
//! The gate: entries are taken by active threads only, of which there are as many as the pool has
//! usable CPUs, or fewer where a program says so. A thread that comes back from a call in which
//! it has slept finishes its entry, and then has to pass the gate again. Kernel cores are active
//! whenever they are awake: a program has asked for them.

pub(crate) mod backlog;
mod mirror;
mod polling;
mod pools;
mod settings;
mod starving;
mod table;

pub(crate) use self::mirror::Total;
pub(crate) use self::pools::Pools;
pub(crate) use self::settings::{Nice, Settings};
pub(crate) use self::table::{Counters, State};
use self::{
    mirror::Mirror,
    polling::Cores,
    table::{Inner, Slot, NONE},
};
use crate::{
    defs::Role,
    pages::Pages,
    sys::{
        deferred::Trigger,
        errno,
        lock::{warn_once, Class, Guard, RawLock},
        process::{self, Thread},
        trace,
    },
};
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use kernel::prelude::*;
use kernel::sync::{Arc, ArcBorrow};

/// How often an idle thread looks whether a CPU that shall poll has come back.
const LOOK_MS: u32 = 500;
const NS_PER_MS: u64 = 1_000_000;
/// Threads that are interrupted under one lock.
const STOP_AT_ONCE: usize = 64;

/// What a thread is to do next.
pub(crate) enum Next {
    /// The engine is being closed: end.
    Stop,
    /// Execute what these pages have offloaded.
    Serve(Arc<Pages>),
    /// Poll the doorbells on this CPU.
    Spin(u32),
    /// Nobody polls any more: say so to the programs, and ask again.
    NobodyPolls,
    /// Sleep with [`Pool::idle`].
    Idle,
}

/// Why an idle thread woke up.
pub(crate) enum Woken {
    /// There may be work.
    Look,
    /// It was idle for too long: end.
    Retire,
}

/// Where a thread stands when it asks what to do next.
pub(crate) struct Here {
    /// How many CPUs it may use.
    pub(crate) usable: u32,
    /// CPUs that may poll, if any shall.
    pub(crate) may_poll: u64,
}

/// The pool.
pub(crate) struct Pool {
    number: u8,
    pub(crate) settings: Settings,
    inner: RawLock<Inner>,
    mirror: Arc<Mirror>,
    cores: Cores,
    trigger: Arc<Trigger>,
    /// Entries that its threads have executed.
    executed: AtomicU64,
    stopping: AtomicBool,
}

impl Pool {
    /// A pool without threads for up to `registrations` registrations.
    pub(crate) fn new(
        number: u8,
        registrations: usize,
        total: Arc<Total>,
        trigger: Arc<Trigger>,
    ) -> Result<Self> {
        let mut queue = KVec::with_capacity(registrations, GFP_KERNEL_ACCOUNT)?;
        for _ in 0..registrations {
            queue.push(None, GFP_KERNEL_ACCOUNT)?;
        }
        let mirror = Arc::new(Mirror::new(total), GFP_KERNEL_ACCOUNT)?;
        let inner = Inner::new(queue, process::usable_cpus(), mirror.clone());
        Ok(Pool {
            number,
            settings: Settings::new(process::nice()),
            inner: RawLock::new(inner, Class::Pool),
            mirror,
            cores: Cores::default(),
            trigger,
            executed: AtomicU64::new(0),
            stopping: AtomicBool::new(false),
        })
    }

    /// Its number in the engine.
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

    /// Its figures.
    pub(crate) fn counters(&self) -> Counters {
        let mut counters = self.lock().counters;
        counters.executed = self.executed.load(Ordering::Relaxed);
        counters
    }

    /// What its threads have executed.
    pub(crate) fn add_executed(&self, entries: u32) {
        self.executed
            .fetch_add(u64::from(entries), Ordering::Relaxed);
    }

    /// Thread and state of slot `i`, as long as there are slots.
    pub(crate) fn thread(&self, i: u32) -> Option<(i32, State)> {
        let inner = self.lock();
        let slot = inner.slots.get(i as usize)?;
        Some((slot.thread.as_ref().map_or(0, Thread::pid), slot.state))
    }

    /// Reserves a slot for a thread that the caller is going to create, where all pools together
    /// have fewer than `max`.
    pub(crate) fn reserve(&self, max: u32) -> Result<u32> {
        self.mirror.total().add_thread(max)?;
        let slot = self.reserve_slot();
        if slot.is_err() {
            self.mirror.total().remove_thread();
        }
        slot
    }

    fn reserve_slot(&self) -> Result<u32> {
        loop {
            let len = {
                let mut inner = self.lock();
                if self.is_stopping() {
                    return Err(errno::ecanceled());
                }
                let i = inner.free;
                if let Some(slot) = inner.slot(i) {
                    inner.free = slot.next;
                    inner.set_state(i, State::Starting);
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
                    before: NONE,
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
    ///
    /// False where it does not and was to take over a core: nobody polls then.
    pub(crate) fn created(&self, i: u32, thread: Option<Thread>) -> bool {
        let mut inner = self.lock();
        if thread.is_none() {
            inner.counters.create_failed += 1;
            self.free(&mut inner, i);
            // Others may have counted on this one.
            if inner.counters.queued != 0 {
                self.wake_one(&mut inner);
                self.notice(&mut inner);
            }
            return inner.starting != 0 || !inner.lost_poller();
        }
        inner.counters.created += 1;
        if let Some(slot) = inner.slot(i) {
            slot.thread = thread;
        }
        true
    }

    fn free(&self, inner: &mut Guard<'_, Inner>, i: u32) -> Option<Thread> {
        inner.set_state(i, State::Free);
        let next = inner.free;
        let slot = inner.slot(i)?;
        slot.next = next;
        let thread = slot.thread.take();
        inner.free = i;
        self.mirror.total().remove_thread();
        thread
    }

    /// Is a thread ready to take over where one blocks? A look without the lock.
    pub(crate) fn has_spare(&self) -> bool {
        self.mirror.has_spare()
    }

    /// Do registrations wait for a thread? A look without the lock.
    pub(crate) fn has_work(&self) -> bool {
        self.mirror.has_work()
    }

    pub(crate) fn has_threads(&self) -> bool {
        self.lock().counters.threads != 0
    }

    fn limit(&self, inner: &Inner) -> u32 {
        let usable = core::cmp::max(inner.usable, 1);
        match self.settings.active() {
            0 => usable,
            active => core::cmp::min(active, usable),
        }
    }

    /// How many threads may be active at once.
    pub(crate) fn active_limit(&self) -> u32 {
        self.limit(&self.lock())
    }

    /// The settings have changed: `usable` CPUs are for the threads now. Lets more threads work
    /// where that is allowed now.
    pub(crate) fn set_usable(&self, usable: u32) {
        let mut inner = self.lock();
        inner.usable = usable;
        // Each one that is woken counts as active.
        for _ in 0..inner.counters.queued {
            if inner.counters.active >= self.limit(&inner) || !inner.wake_idle() {
                break;
            }
        }
        self.notice(&mut inner);
    }

    /// What thread `i` is to do now.
    pub(crate) fn next(&self, i: u32, here: Here) -> Next {
        let mut inner = self.lock();
        if self.is_stopping() {
            return Next::Stop;
        }
        inner.usable = here.usable;
        let vacant = self.vacant(&inner, here.may_poll);
        if vacant != 0 {
            let cpu = vacant.trailing_zeros();
            inner.begin_spinning(i, cpu);
            inner.set_state(i, State::Polling);
            return Next::Spin(cpu);
        }
        // It may have been woken to take over a core that is away now.
        if inner.lost_poller() {
            return Next::NobodyPolls;
        }
        // The gate. Whoever has passed it already counts among the active ones.
        let others = inner.counters.active - u32::from(inner.state(i).is_active());
        if others < self.limit(&inner) {
            if let Some(pages) = self.dequeue(&mut inner) {
                inner.set_state(i, State::Serving);
                if inner.counters.queued != 0 {
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

    /// Something from the queue for a thread that polls.
    pub(crate) fn try_dequeue(&self) -> Option<Arc<Pages>> {
        if !self.has_work() {
            return None;
        }
        self.dequeue(&mut self.lock())
    }

    /// The entries of one page of `pages`, which the caller has dequeued and goes on to execute.
    /// If others have entries, the registration goes to the end of the queue: nobody waits for
    /// ever behind one that is always filled again.
    pub(crate) fn take(&self, pages: ArcBorrow<'_, Pages>) -> Option<(u32, u64)> {
        let mut inner = self.lock();
        let (page, bits, more) = pages.take_offloaded(self.number)?;
        if more {
            self.push_locked(&mut inner, pages);
            self.wake_one(&mut inner);
        }
        Some((page, bits))
    }

    /// Lets one more thread work if the gate is open.
    fn wake_one(&self, inner: &mut Guard<'_, Inner>) {
        // One that polls looks at the queue too.
        if !inner.rouse_spinner(self.cores.wanted()) && inner.counters.active < self.limit(inner) {
            inner.wake_idle();
        }
    }

    /// Sleeps until thread `i` is woken for work, a signal comes or it was idle for `retire_ms`.
    pub(crate) fn idle(&self, i: u32, retire_ms: u32) -> Woken {
        let retire_at = process::now_ns() + u64::from(retire_ms) * NS_PER_MS;
        let woken = loop {
            process::sleep_prepare();
            let (active, idle) = {
                let inner = self.lock();
                (inner.state(i) != State::Idle, inner.counters.idle)
            };
            if active || process::signal_pending() || self.is_stopping() {
                process::sleep_cancel();
                break Woken::Look;
            }
            // The last one stays, however soon others retire: it is the spare.
            let ms = if idle > 1 {
                core::cmp::min(retire_ms, LOOK_MS)
            } else {
                LOOK_MS
            };
            if process::sleep(Some(ms)) {
                continue;
            }
            if self.has_vacant_core(self.may_poll()) {
                break Woken::Look;
            }
            let mut inner = self.lock();
            let late = process::now_ns() >= retire_at;
            if late && inner.state(i) == State::Idle && inner.counters.idle > 1 {
                // Under one lock: nobody may give it work from here on.
                inner.unlink_idle(i);
                inner.set_state(i, State::Active);
                inner.counters.retired += 1;
                return Woken::Retire;
            }
        };
        let mut inner = self.lock();
        if inner.state(i) == State::Idle {
            inner.unlink_idle(i);
            inner.set_state(i, State::Active);
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
        // What has ended has nothing to execute, and `forget` has been here or is yet to come.
        if pages.is_dead() || !pages.set_queued(self.number) {
            return;
        }
        if !inner.enqueue(pages.into()) {
            pages.clear_queued(self.number);
            warn_once();
        }
    }

    /// Takes `pages`, which have ended, out of the queue: nobody puts them there again.
    pub(crate) fn forget(&self, pages: &Pages) {
        let found = self.lock().unqueue(pages);
        // Dropped after the lock.
        if found.is_some() {
            pages.clear_queued(self.number);
        }
    }

    /// Called in the scheduler's hook: a task in this role blocks in a call; `more` has entries
    /// that it leaves. One lock and one wake-up: whoever takes over does the rest, or, if nobody
    /// can, a kworker.
    pub(crate) fn blocked(&self, role: Role, more: Option<ArcBorrow<'_, Pages>>) {
        let mut inner = self.lock();
        match role.slot() {
            Some(i) => inner.set_state(i, State::Blocked),
            None => inner.set_owner_blocked(true),
        }
        let vacant = matches!(role, Role::Poller { .. });
        if let Role::Poller { cpu, .. } = role {
            inner.end_spinning(cpu);
        }
        if let Some(pages) = more {
            self.push_locked(&mut inner, pages);
        }
        if inner.counters.queued == 0 && !vacant {
            return;
        }
        inner.counters.handoffs += 1;
        trace::handoff(self.number, inner.counters.queued);
        if !vacant {
            self.wake_one(&mut inner);
        } else if !inner.wake_idle() && inner.starting == 0 {
            // Nobody finds the core vacant; but another one may poll, or can.
            if !inner.rouse_spinner(self.cores.wanted()) {
                self.trigger.pull();
            }
        }
        self.notice(&mut inner);
    }

    /// Called in the scheduler's hook: the task is back, and goes on with a loop if `looping`.
    pub(crate) fn unblocked(&self, role: Role, looping: bool) {
        let mut inner = self.lock();
        match role.slot() {
            Some(i) if looping => inner.set_state(i, State::Looping),
            Some(i) => inner.set_state(i, State::Finishing),
            None => inner.set_owner_blocked(false),
        }
    }

    /// Lets thread `i`, which has slept in a call, through the gate where it is open.
    pub(crate) fn readmit(&self, i: u32) -> bool {
        let mut inner = self.lock();
        if inner.state(i).is_active() {
            return true;
        }
        let open = inner.counters.active < self.limit(&inner);
        if open {
            inner.set_state(i, State::Serving);
        }
        open
    }

    /// Thread `i` ends; it is not to be woken any more.
    pub(crate) fn leave(&self, i: u32) {
        let thread = {
            let mut inner = self.lock();
            let thread = self.free(&mut inner, i);
            // It may have been counted as active when work came.
            if inner.counters.queued != 0 && !self.is_stopping() {
                self.wake_one(&mut inner);
                self.notice(&mut inner);
            }
            thread
        };
        drop(thread);
    }

    /// Lets all threads end, those that are blocked too: a few under each lock. Who is being
    /// created meanwhile finds out by itself. May sleep.
    pub(crate) fn stop(&self) {
        // Under the lock: no slot is reserved after this.
        {
            let _inner = self.lock();
            self.stopping.store(true, Ordering::Relaxed);
        }
        let mut next = 0;
        while self.interrupt_some(next) {
            next = next.wrapping_add(STOP_AT_ONCE);
            process::breathe();
        }
    }

    /// Interrupts [`STOP_AT_ONCE`] threads from slot `first` on. False if there is no such slot.
    fn interrupt_some(&self, first: usize) -> bool {
        let inner = self.lock();
        let Some(slots) = inner.slots.get(first..) else {
            return false;
        };
        for slot in slots.iter().take(STOP_AT_ONCE) {
            if let Some(thread) = &slot.thread {
                thread.interrupt();
                thread.wake();
            }
        }
        !slots.is_empty()
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
}
