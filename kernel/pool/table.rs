// SPDX-License-Identifier: GPL-2.0

//! The table of an engine's syscall threads, with its lists and its queue. All of it lies behind
//! the pool's lock, which the scheduler's hook takes: nothing here allocates, frees or sleeps.

use crate::{
    pages::Pages,
    sys::process::{self, Thread},
};
use kernel::prelude::*;
use kernel::sync::Arc;

/// End of a list of slots.
pub(super) const NONE: u32 = u32::MAX;

/// What a syscall thread is doing.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    /// There is no thread.
    Free,
    /// Created, has not asked for work yet.
    Starting,
    /// Sleeps; on the idle list.
    Idle,
    /// Executes entries, or looks for some.
    Active,
    /// Sleeps in a call.
    Blocked,
    /// Gave up polling on this CPU and sleeps until it is kicked.
    SpinSleep(u32),
}

pub(super) struct Slot {
    pub(super) thread: Option<Thread>,
    pub(super) state: State,
    /// Next slot of the free or the idle list.
    pub(super) next: u32,
}

/// Figures for QUERY.
#[derive(Clone, Copy, Default)]
pub(crate) struct Counters {
    pub(crate) handoffs: u64,
    pub(crate) kicks: u64,
    pub(crate) spin_rounds: u64,
    pub(crate) spin_sleeps: u64,
    pub(crate) threads: u32,
    pub(crate) idle: u32,
    pub(crate) created: u64,
    pub(crate) retired: u64,
    pub(crate) create_failed: u64,
    pub(crate) max_active: u32,
    pub(crate) max_blocked: u32,
}

pub(super) struct Inner {
    pub(super) slots: KVec<Slot>,
    pub(super) free: u32,
    pub(super) idle: u32,
    pub(super) starting: u32,
    pub(super) active: u32,
    pub(super) blocked: u32,
    /// Registrations with offloaded entries, a ring of fixed capacity.
    pub(super) queue: KVec<Option<Arc<Pages>>>,
    pub(super) head: usize,
    pub(super) queued: usize,
    /// CPUs with a thread that polls, asleep or not.
    pub(super) spinning: u64,
    pub(super) counters: Counters,
}

impl Inner {
    pub(super) fn slot(&mut self, i: u32) -> Option<&mut Slot> {
        self.slots.get_mut(i as usize)
    }

    pub(super) fn set_state(&mut self, i: u32, state: State) {
        if let Some(slot) = self.slot(i) {
            slot.state = state;
        }
    }

    pub(super) fn state(&self, i: u32) -> State {
        self.slots.get(i as usize).map_or(State::Free, |s| s.state)
    }

    pub(super) fn activate(&mut self, i: u32) {
        self.set_state(i, State::Active);
        self.active += 1;
    }

    pub(super) fn wake(&self, i: u32) {
        // Under the lock: a thread leaves the table before it ends.
        if let Some(thread) = self.slots.get(i as usize).and_then(|s| s.thread.as_ref()) {
            thread.wake();
        }
    }

    pub(super) fn pop_idle(&mut self) -> Option<u32> {
        let i = self.idle;
        let next = self.slot(i)?.next;
        self.idle = next;
        self.counters.idle -= 1;
        Some(i)
    }

    pub(super) fn unlink_idle(&mut self, i: u32) {
        let mut at = self.idle;
        let next = self.slot(i).map_or(NONE, |s| s.next);
        if at == i {
            self.idle = next;
        } else {
            while let Some(slot) = self.slot(at) {
                if slot.next == i {
                    slot.next = next;
                    break;
                }
                at = slot.next;
            }
        }
        self.counters.idle -= 1;
    }

    /// Lets one more thread work where the rules allow it. Returns whether somebody takes over.
    pub(super) fn wake_one(&mut self, spin_mask: u64) -> bool {
        let polling = self.spinning & spin_mask;
        if polling != 0 {
            // One that polls looks at the queue too.
            self.wake_spinner(polling.trailing_zeros());
            return true;
        }
        if self.active >= process::nr_cpus() {
            return true;
        }
        if let Some(i) = self.pop_idle() {
            self.activate(i);
            self.wake(i);
            return true;
        }
        self.starting != 0
    }

    /// Wakes the thread that polls on `cpu` where it sleeps.
    pub(super) fn wake_spinner(&mut self, cpu: u32) -> bool {
        let found = (0..)
            .zip(self.slots.iter())
            .find(|(_, s)| s.state == State::SpinSleep(cpu))
            .map(|(i, _)| i);
        if let Some(i) = found {
            self.activate(i);
            self.wake(i);
        }
        found.is_some()
    }

    pub(super) fn enqueue(&mut self, pages: Arc<Pages>) {
        let capacity = self.queue.len();
        if self.queued < capacity {
            let at = (self.head + self.queued) % capacity;
            if let Some(place) = self.queue.get_mut(at) {
                *place = Some(pages);
                self.queued += 1;
            }
        }
    }

    pub(super) fn dequeue(&mut self) -> Option<Arc<Pages>> {
        if self.queued == 0 {
            return None;
        }
        let pages = self.queue.get_mut(self.head)?.take();
        self.head = (self.head + 1) % self.queue.len();
        self.queued -= 1;
        pages
    }

    /// Entries wait and no thread can take them before one of the blocked ones is back.
    pub(super) fn is_starved(&self) -> bool {
        self.queued != 0
            && self.active == 0
            && self.counters.idle == 0
            && self.starting == 0
            && self.spinning == 0
    }
}
