// SPDX-License-Identifier: GPL-2.0

//! The table of a pool's syscall threads, with its lists and its queue, all protected by the
//! pool's lock, which the scheduler's hook takes: nothing here allocates, frees or sleeps.

mod invariants;

use super::{counters::Counters, lockless::LocklessCounts, pollers::Pollers, queue::Queue};
use crate::{pages::Pages, sys::process::Thread};
use kernel::prelude::*;
use kernel::sync::Arc;

/// End of a list of slots.
pub(super) const NONE: u32 = u32::MAX;

/// What a syscall thread is doing. `Woken`, `Working` and `Polling` threads count against the
/// concurrency limit of the pool.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    /// The slot has no thread.
    Free,
    /// Was created and has not asked for work yet.
    Starting,
    /// Sleeps; on the idle list.
    Idle,
    /// Was woken for work and looks for it.
    Woken,
    /// Executes entries.
    Working,
    /// Is a poller: polls, and executes the entries that it finds.
    Polling,
    /// Sleeps in a call.
    Blocked,
    /// Slept in a call and now finishes it.
    Finishing,
    /// Continues a loop for an unknown time, and no longer counts against the limit.
    Looping,
    /// Is the poller of this CPU, and sleeps until it is kicked.
    PollerAsleep(u32),
}

impl State {
    /// Returns true if the thread counts against the concurrency limit.
    pub(super) fn is_running(self) -> bool {
        matches!(self, State::Woken | State::Working | State::Polling)
    }

    fn is_executing(self) -> bool {
        matches!(self, State::Working | State::Polling)
    }
}

pub(super) struct Slot {
    pub(super) thread: Option<Thread>,
    pub(super) state: State,
    /// Next slot in the free or the idle list.
    pub(super) next: u32,
    /// Previous slot in the idle list.
    pub(super) before: u32,
}

/// Numbers of threads by state, besides those in [`Counters`].
#[derive(Default)]
pub(super) struct Counts {
    pub(super) starting: u32,
    /// Threads that execute entries. A thread that finishes a call in which it slept does not
    /// count.
    executing: u32,
    /// Threads that finish a call in which they slept.
    finishing: u32,
    /// Pollers that are awake.
    polling: u32,
    /// Owners asleep in a call that they execute themselves.
    owners_blocked: u32,
}

pub(super) struct Inner {
    lockless: Arc<LocklessCounts>,
    pub(super) slots: KVec<Slot>,
    /// First slots of the free and the idle list.
    pub(super) free: u32,
    pub(super) idle: u32,
    /// See `model.rs`.
    pub(super) model: u32,
    pub(super) counts: Counts,
    /// Number of CPUs that the pool's threads may use now.
    pub(super) usable: u32,
    /// Registrations with offloaded entries.
    queue: Queue,
    pub(super) pollers: Pollers,
    /// When the pool was first seen to be starved (see [`Self::is_starved`]), in nanoseconds; 0 if
    /// it is not.
    pub(super) starved_since: u64,
    pub(super) counters: Counters,
}

impl Inner {
    pub(super) fn new(queue: Queue, usable: u32, lockless: Arc<LocklessCounts>) -> Self {
        Inner {
            lockless,
            slots: KVec::new(),
            free: NONE,
            idle: NONE,
            model: NONE,
            counts: Counts::default(),
            usable,
            queue,
            pollers: Pollers::new(),
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

    /// The only function that changes a state: it keeps all counts of threads.
    pub(super) fn set_state(&mut self, i: u32, new: State) {
        let Some(slot) = self.slots.get_mut(i as usize) else {
            return;
        };
        let old = core::mem::replace(&mut slot.state, new);
        let count = |counter: &mut u32, is: fn(State) -> bool| {
            *counter = *counter + u32::from(is(new)) - u32::from(is(old));
        };
        let now = &mut self.counters.now;
        count(&mut now.threads, |s| s != State::Free);
        count(&mut now.idle, |s| s == State::Idle);
        count(&mut now.nr_running, State::is_running);
        count(&mut now.blocked, |s| s == State::Blocked);
        let counts = &mut self.counts;
        count(&mut counts.starting, |s| s == State::Starting);
        count(&mut counts.executing, State::is_executing);
        count(&mut counts.polling, |s| s == State::Polling);
        count(&mut counts.finishing, |s| s == State::Finishing);
        let peak = &mut self.counters.peak;
        peak.running = core::cmp::max(peak.running, counts.executing);
        self.lockless.set_spares(now.idle + counts.starting);
        if new == State::Polling {
            self.pollers.set_believed();
        }
        if let State::PollerAsleep(cpu) = old {
            self.pollers.set_asleep(cpu, false);
        }
        if let State::PollerAsleep(cpu) = new {
            self.pollers.set_asleep(cpu, true);
        }
        self.lockless
            .count_executing(old.is_executing(), new.is_executing());
        self.count_blocked(old == State::Blocked, new == State::Blocked);
        self.note_not_starved();
    }

    fn count_blocked(&mut self, was: bool, is: bool) {
        self.lockless.count_blocked(was, is);
        let blocked = self.counters.now.blocked + self.counts.owners_blocked;
        let peak = &mut self.counters.peak;
        peak.blocked = core::cmp::max(peak.blocked, blocked);
    }

    /// Notes that an owner blocks in a call that it executes itself, or is back.
    pub(super) fn set_owner_blocked(&mut self, is: bool) {
        if is {
            self.counts.owners_blocked += 1;
        } else {
            self.counts.owners_blocked -= 1;
        }
        self.count_blocked(!is, is);
    }

    pub(super) fn wake(&self, i: u32) {
        // Safe under the lock: a thread leaves the table before it ends.
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

    /// Wakes an idle thread regardless of the concurrency limit. Returns false if there is none.
    pub(super) fn wake_idle(&mut self) -> bool {
        let i = self.idle;
        if i == NONE {
            return false;
        }
        self.unlink_idle(i);
        self.set_state(i, State::Woken);
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

    /// Wakes the poller of `cpu` if it sleeps.
    pub(super) fn wake_poller(&mut self, cpu: u32) {
        let Some(i) = self.pollers.slot(cpu) else {
            return;
        };
        if self.state(i) == State::PollerAsleep(cpu) {
            self.set_state(i, State::Polling);
            self.wake(i);
        }
    }

    /// Ensures that a poller of one of `cpus` is awake. Returns false if there is no such poller.
    pub(super) fn rouse_poller(&mut self, cpus: u64) -> bool {
        if let Some(cpu) = self.pollers.one_to_wake(cpus) {
            self.wake_poller(cpu);
        }
        self.pollers.cpus() & cpus != 0
    }

    /// Returns how many registrations the queue has room for.
    pub(super) fn queue_room(&self) -> usize {
        self.queue.capacity()
    }

    /// Moves the queue into a larger one, and gives back the old one.
    pub(super) fn move_queue_to(&mut self, larger: &mut Queue) {
        self.queue.move_to(larger);
    }

    /// Returns the number of registrations in the queue.
    pub(super) fn queued(&self) -> u32 {
        self.queue.len()
    }

    fn queue_changed(&mut self) {
        let queued = self.queue.len();
        self.counters.now.queued = queued;
        self.lockless.set_queued(queued);
    }

    /// See [`Queue::push`].
    pub(super) fn enqueue(&mut self, pages: Arc<Pages>) -> bool {
        let was_room = self.queue.push(pages);
        self.queue_changed();
        was_room
    }

    pub(super) fn dequeue(&mut self) -> Option<Arc<Pages>> {
        let pages = self.queue.pop();
        self.queue_changed();
        self.note_not_starved();
        pages
    }

    /// Removes `pages` from the queue, wherever they are in it.
    pub(super) fn unqueue(&mut self, pages: &Pages) -> Option<Arc<Pages>> {
        let pages = self.queue.remove(pages)?;
        self.queue_changed();
        self.note_not_starved();
        Some(pages)
    }

    /// Returns true, once, if no poller is awake any more and programs do not know yet: the caller
    /// must set NEED_WAKEUP. A thread clears it only while it polls, so the last poller decides.
    pub(super) fn lost_poller(&mut self) -> bool {
        self.counts.polling == 0 && self.pollers.take_believed()
    }

    /// Returns true if entries wait and no thread can take them until another thread returns that
    /// is blocked or in an endless loop.
    pub(super) fn is_starved(&self) -> bool {
        let now = &self.counters.now;
        now.queued != 0
            && now.nr_running == 0
            && now.idle == 0
            && self.counts.finishing == 0
            && self.counts.starting == 0
            && self.pollers.cpus() == 0
    }

    /// Returns true, once, if the pool is starved, and notes `now` as the beginning.
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
