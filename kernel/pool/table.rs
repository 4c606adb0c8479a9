// SPDX-License-Identifier: GPL-2.0

//! The table of a pool's syscall threads, with its lists and its queue. All of it lies behind the
//! pool's lock, which the scheduler's hook takes: nothing here allocates, frees or sleeps.

mod invariants;

use super::mirror::Mirror;
use crate::{pages::Pages, sys::process::Thread};
use kernel::prelude::*;
use kernel::sync::Arc;

/// End of a list of slots.
pub(super) const NONE: u32 = u32::MAX;

/// What a syscall thread is doing. `Active`, `Serving` and `Polling` threads have passed the gate.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    /// There is no thread.
    Free,
    /// Created, has not asked for work yet.
    Starting,
    /// Sleeps; on the idle list.
    Idle,
    /// Was let through the gate and looks for work.
    Active,
    /// Executes entries.
    Serving,
    /// Is a kernel core: polls, and executes what it finds.
    Polling,
    /// Sleeps in a call.
    Blocked,
    /// Has slept in a call and finishes it.
    Finishing,
    /// Goes on with a loop for which it has left the gate; nobody knows how long that takes.
    Looping,
    /// Gave up polling on this CPU and sleeps until it is kicked.
    SpinSleep(u32),
}

impl State {
    pub(super) fn is_active(self) -> bool {
        matches!(self, State::Active | State::Serving | State::Polling)
    }

    fn is_executing(self) -> bool {
        matches!(self, State::Serving | State::Polling)
    }
}

pub(super) struct Slot {
    pub(super) thread: Option<Thread>,
    pub(super) state: State,
    /// Next slot of the free or the idle list.
    pub(super) next: u32,
    /// The slot before it in the idle list.
    pub(super) before: u32,
}

/// Figures for QUERY.
#[derive(Clone, Copy, Default)]
pub(crate) struct Counters {
    pub(crate) executed: u64,
    pub(crate) handoffs: u64,
    pub(crate) spin_rounds: u64,
    pub(crate) spin_sleeps: u64,
    pub(crate) threads: u32,
    pub(crate) idle: u32,
    pub(crate) created: u64,
    pub(crate) retired: u64,
    pub(crate) create_failed: u64,
    pub(crate) recruited: u64,
    pub(crate) released: u64,
    pub(crate) max_active: u32,
    pub(crate) max_blocked: u32,
    /// Threads that have passed the gate.
    pub(crate) active: u32,
    /// Threads that sleep in a call.
    pub(crate) blocked: u32,
    /// Registrations in the queue.
    pub(crate) queued: u32,
}

pub(super) struct Inner {
    mirror: Arc<Mirror>,
    pub(super) slots: KVec<Slot>,
    pub(super) free: u32,
    pub(super) idle: u32,
    /// See `model.rs`.
    pub(super) model: u32,
    pub(super) starting: u32,
    /// Threads that execute entries. One that finishes a call in which it has slept is none.
    executing: u32,
    /// Threads that finish a call in which they have slept.
    finishing: u32,
    /// Owners that sleep in a call that they execute themselves.
    owners_blocked: u32,
    /// CPUs that the pool's threads may use at the moment.
    pub(super) usable: u32,
    /// Registrations with offloaded entries, a ring of fixed capacity.
    pub(super) queue: KVec<Option<Arc<Pages>>>,
    pub(super) head: usize,
    /// CPUs with a thread that polls, asleep or not.
    pub(super) spinning: u64,
    /// Of these, the ones whose thread sleeps.
    resting: u64,
    /// The slot of the thread that polls on each CPU of `spinning`.
    spinners: [u32; u64::BITS as usize],
    /// Threads that poll, those that gave up and sleep apart.
    polling: u32,
    /// Programs may believe that somebody polls: NEED_WAKEUP was cleared by a polling thread, and
    /// not set again by the last one.
    polled: bool,
    /// Since when the pool is starved, see [`Self::is_starved`]; 0: it is not, or nobody has
    /// looked.
    pub(super) starved_since: u64,
    pub(super) counters: Counters,
}

impl Inner {
    pub(super) fn new(queue: KVec<Option<Arc<Pages>>>, usable: u32, mirror: Arc<Mirror>) -> Self {
        Inner {
            mirror,
            slots: KVec::new(),
            free: NONE,
            idle: NONE,
            model: NONE,
            starting: 0,
            executing: 0,
            finishing: 0,
            owners_blocked: 0,
            usable,
            queue,
            head: 0,
            spinning: 0,
            resting: 0,
            spinners: [NONE; u64::BITS as usize],
            polling: 0,
            polled: false,
            starved_since: 0,
            counters: Counters::default(),
        }
    }

    pub(super) fn slot(&mut self, i: u32) -> Option<&mut Slot> {
        self.slots.get_mut(i as usize)
    }

    pub(super) fn state(&self, i: u32) -> State {
        self.slots.get(i as usize).map_or(State::Free, |s| s.state)
    }

    /// The only place where a state changes: it keeps all counts of threads.
    pub(super) fn set_state(&mut self, i: u32, new: State) {
        let Some(slot) = self.slots.get_mut(i as usize) else {
            return;
        };
        let old = core::mem::replace(&mut slot.state, new);
        let count = |counter: &mut u32, is: fn(State) -> bool| {
            *counter = *counter + u32::from(is(new)) - u32::from(is(old));
        };
        let c = &mut self.counters;
        count(&mut c.threads, |s| s != State::Free);
        count(&mut c.idle, |s| s == State::Idle);
        count(&mut c.active, State::is_active);
        count(&mut c.blocked, |s| s == State::Blocked);
        count(&mut self.starting, |s| s == State::Starting);
        count(&mut self.executing, State::is_executing);
        count(&mut self.polling, |s| s == State::Polling);
        count(&mut self.finishing, |s| s == State::Finishing);
        c.max_active = core::cmp::max(c.max_active, self.executing);
        self.polled |= new == State::Polling;
        if let State::SpinSleep(cpu) = old {
            self.resting &= !(1 << cpu);
        }
        if let State::SpinSleep(cpu) = new {
            self.resting |= 1 << cpu;
        }
        self.mirror.set_spares(c.idle + self.starting);
        self.mirror
            .executing_moved(old.is_executing(), new.is_executing());
        self.blocked_moved(old == State::Blocked, new == State::Blocked);
        self.note_not_starved();
    }

    /// Thread `i` polls on `cpu` from now on.
    pub(super) fn begin_spinning(&mut self, i: u32, cpu: u32) {
        if let Some(spinner) = self.spinners.get_mut(cpu as usize) {
            *spinner = i;
            self.spinning |= 1 << cpu;
        }
    }

    /// No thread polls on `cpu` from now on.
    pub(super) fn end_spinning(&mut self, cpu: u32) {
        self.spinning &= !(1 << cpu);
    }

    fn blocked_moved(&mut self, was: bool, is: bool) {
        self.mirror.blocked_moved(was, is);
        let blocked = self.counters.blocked + self.owners_blocked;
        self.counters.max_blocked = core::cmp::max(self.counters.max_blocked, blocked);
    }

    /// An owner blocks in a call that it executes itself, or is back.
    pub(super) fn set_owner_blocked(&mut self, is: bool) {
        if is {
            self.owners_blocked += 1;
        } else {
            self.owners_blocked -= 1;
        }
        self.blocked_moved(!is, is);
    }

    pub(super) fn wake(&self, i: u32) {
        // Under the lock: a thread leaves the table before it ends.
        if let Some(thread) = self.slots.get(i as usize).and_then(|s| s.thread.as_ref()) {
            thread.wake();
        }
    }

    pub(super) fn push_idle(&mut self, i: u32) {
        self.set_state(i, State::Idle);
        let next = self.idle;
        if let Some(slot) = self.slot(i) {
            slot.next = next;
            slot.before = NONE;
        }
        if let Some(slot) = self.slot(next) {
            slot.before = i;
        }
        self.idle = i;
    }

    /// Lets an idle thread through the gate, whether it is open or not.
    pub(super) fn wake_idle(&mut self) -> bool {
        let i = self.idle;
        if i == NONE {
            return false;
        }
        self.unlink_idle(i);
        self.set_state(i, State::Active);
        self.wake(i);
        true
    }

    pub(super) fn unlink_idle(&mut self, i: u32) {
        let Some(slot) = self.slot(i) else {
            return;
        };
        let (before, next) = (slot.before, slot.next);
        match self.slot(before) {
            Some(slot) => slot.next = next,
            None => self.idle = next,
        }
        if let Some(slot) = self.slot(next) {
            slot.before = before;
        }
    }

    /// Wakes the thread that polls on `cpu` if it sleeps.
    pub(super) fn wake_spinner(&mut self, cpu: u32) {
        let i = self.spinners.get(cpu as usize).map_or(NONE, |i| *i);
        if self.state(i) == State::SpinSleep(cpu) {
            self.set_state(i, State::Polling);
            self.wake(i);
        }
    }

    /// Sees to it that one of the threads that poll on `cpus` is awake. Returns false if there is
    /// none.
    pub(super) fn rouse_spinner(&mut self, cpus: u64) -> bool {
        let polling = self.spinning & cpus;
        if polling != 0 && polling & !self.resting == 0 {
            self.wake_spinner(polling.trailing_zeros());
        }
        polling != 0
    }

    /// The place in the ring of what is the `i`th in the queue.
    fn place(&self, i: u32) -> usize {
        self.head.wrapping_add(i as usize) % core::cmp::max(self.queue.len(), 1)
    }

    fn set_queued(&mut self, queued: u32) {
        self.counters.queued = queued;
        self.mirror.set_queued(queued);
    }

    /// Returns false if there is no room, which can not be: the queue has a place for each
    /// registration that has not ended, and none is in it twice.
    pub(super) fn enqueue(&mut self, pages: Arc<Pages>) -> bool {
        let queued = self.counters.queued;
        let at = self.place(queued);
        match self.queue.get_mut(at) {
            Some(place) if place.is_none() => *place = Some(pages),
            _ => return false,
        }
        self.set_queued(queued.wrapping_add(1));
        true
    }

    pub(super) fn dequeue(&mut self) -> Option<Arc<Pages>> {
        let queued = self.counters.queued.checked_sub(1)?;
        let head = self.head;
        let pages = self.queue.get_mut(head)?.take();
        self.head = self.place(1);
        self.set_queued(queued);
        self.note_not_starved();
        pages
    }

    /// Takes `pages` out of the queue, wherever they are in it.
    pub(super) fn unqueue(&mut self, pages: &Pages) -> Option<Arc<Pages>> {
        let queued = self.counters.queued;
        let is_it = |at: usize| match self.queue.get(at) {
            Some(Some(queued)) => core::ptr::eq(&**queued, pages),
            _ => false,
        };
        let found = (0..queued).find(|i| is_it(self.place(*i)))?;
        let at = self.place(found);
        let pages = self.queue.get_mut(at)?.take();
        for i in found.wrapping_add(1)..queued {
            let (from, to) = (self.place(i), self.place(i.wrapping_sub(1)));
            self.queue.swap(from, to);
        }
        self.set_queued(queued.wrapping_sub(1));
        self.note_not_starved();
        pages
    }

    /// True, once, where nobody polls any more and programs do not know that: the caller has to
    /// set NEED_WAKEUP. A thread clears it only while it polls, so what the last one does counts.
    pub(super) fn lost_poller(&mut self) -> bool {
        self.polling == 0 && core::mem::take(&mut self.polled)
    }

    /// Entries wait, and no thread can take them before one of those that are blocked, or in an
    /// endless loop, is back.
    pub(super) fn is_starved(&self) -> bool {
        self.counters.queued != 0
            && self.counters.active == 0
            && self.finishing == 0
            && self.counters.idle == 0
            && self.starting == 0
            && self.spinning == 0
    }

    /// True, once, if the pool is starved: since `now`.
    pub(super) fn begins_to_starve(&mut self, now: impl FnOnce() -> u64) -> bool {
        let begins = self.starved_since == 0 && self.is_starved();
        if begins {
            self.starved_since = core::cmp::max(now(), 1);
        }
        begins
    }

    fn note_not_starved(&mut self) {
        if self.starved_since != 0 && !self.is_starved() {
            self.starved_since = 0;
        }
    }
}
