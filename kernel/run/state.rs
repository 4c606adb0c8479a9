// SPDX-License-Identifier: GPL-2.0

//! The state of a batch, by subject. Cells: one task and its own scheduler hook use them.

use crate::{
    policy,
    sys::{
        process,
        row::{Row, CALLS},
    },
};
use core::cell::Cell;
use kernel::prelude::*;

static_assert!(policy::LEN == CALLS);

/// Results that a syscall thread publishes at once.
const GROUP: u32 = 16;

/// The entries of one page that the batch has claimed, one bit for each.
pub(super) struct Entries {
    /// Claimed, and neither published nor given away.
    pub(super) owned: Cell<u64>,
    /// Of these, not started; and the one whose call is executing. The hook acts only while a call
    /// is executing.
    pub(super) row: Row,
    /// Of these, in a chain that has not ended.
    pub(super) in_chain: Cell<u64>,
}

impl Entries {
    pub(super) fn new() -> Self {
        Entries {
            owned: Cell::new(0),
            row: Row::new(&policy::QUICK),
            in_chain: Cell::new(0),
        }
    }

    /// All that are owned are to be started, `first` before the others if it is one of them.
    #[inline(always)]
    pub(super) fn set_first(&self, first: u32) {
        self.row.set_first(first);
        self.row.set_todo(self.owned.get().rotate_right(first));
    }

    /// The next one by index, which is started now.
    #[inline(always)]
    pub(super) fn start_next(&self) -> Option<u32> {
        let todo = self.row.todo();
        if todo == 0 {
            return None;
        }
        self.row.set_todo(todo & todo.wrapping_sub(1));
        Some(todo.trailing_zeros().wrapping_add(self.row.first()) % u64::BITS)
    }

    /// These are started now, by themselves or in a chain.
    pub(super) fn start(&self, bits: u64) {
        let started = bits.rotate_right(self.row.first());
        self.row.set_todo(self.row.todo() & !started);
    }

    /// The entries that were not started.
    pub(super) fn unstarted(&self) -> u64 {
        self.row.todo().rotate_left(self.row.first())
    }

    /// As [`Self::unstarted`]; another thread is going to start them.
    pub(super) fn take_unstarted(&self) -> u64 {
        let unstarted = self.unstarted();
        self.row.set_todo(0);
        self.give_up(unstarted);
        unstarted
    }

    /// These belong to this batch from now on.
    pub(super) fn own(&self, bits: u64) {
        self.owned.set(self.owned.get() | bits);
    }

    /// These belong to another batch now, or to none.
    pub(super) fn give_up(&self, bits: u64) {
        self.owned.set(self.owned.get() & !bits);
    }

    #[inline(always)]
    pub(super) fn begin_call(&self, index: u32) {
        self.row.set_executing(Some(index));
    }

    #[inline(always)]
    pub(super) fn end_call(&self) {
        self.row.set_executing(None);
    }

    /// The entry whose call is executing.
    #[inline(always)]
    pub(super) fn executing(&self) -> Option<u32> {
        self.row.executing()
    }

    /// The entries that have results, all but `executing`: they are published now.
    #[inline(always)]
    pub(super) fn take_finished(&self, executing: u64) -> u64 {
        let busy = self.unstarted() | self.in_chain.get() | executing;
        let owned = self.owned.get();
        self.owned.set(owned & busy);
        owned & !busy
    }
}

/// Results that were not published yet.
pub(super) struct Results {
    /// How many, on a syscall thread.
    unpublished: Cell<u32>,
    /// Entries whose calls were refused, one bit for each.
    refused: Cell<u64>,
}

impl Results {
    pub(super) fn new() -> Self {
        Results {
            unpublished: Cell::new(0),
            refused: Cell::new(0),
        }
    }

    pub(super) fn add_refused(&self, index: u32) {
        self.refused.set(self.refused.get() | 1 << index);
    }

    /// One more. Returns true if there are enough to publish them.
    #[inline(always)]
    pub(super) fn add(&self) -> bool {
        let n = self.unpublished.get().wrapping_add(1);
        self.unpublished.set(n);
        n >= GROUP
    }

    /// All are published now.
    #[inline(always)]
    pub(super) fn clear(&self) {
        self.unpublished.set(0);
    }

    /// How many of `finished`, which are published now, were refused. Those of a chain that has not
    /// ended are counted when it has.
    #[inline(always)]
    pub(super) fn take_refused(&self, finished: u64) -> u32 {
        match self.refused.get() {
            0 => 0,
            refused => self.take_some_refused(refused, finished),
        }
    }

    /// Others publish `bits`. Returns which of them were refused.
    pub(super) fn give_up_refused(&self, bits: u64) -> u64 {
        let refused = self.refused.get();
        self.refused.set(refused & !bits);
        refused & bits
    }

    /// This batch publishes `refused`, too, which others have refused.
    pub(super) fn own_refused(&self, refused: u64) {
        self.refused.set(self.refused.get() | refused);
    }

    #[cold]
    fn take_some_refused(&self, refused: u64, finished: u64) -> u32 {
        self.refused.set(refused & !finished);
        process::weight(refused & finished)
    }
}

/// What the task tells its scheduler hook, and the hook the task.
pub(super) struct Sleep {
    /// The task sleeps in a call.
    pub(super) is_asleep: Cell<bool>,
    /// Since when, if the call went to a thread because such calls are slow, see `pages/slow.rs`.
    pub(super) slow_since: Cell<Option<u64>>,
    /// The task has slept in a call: other threads execute the rest.
    pub(super) has_slept: Cell<bool>,
    /// A signal was taken that ends the thread; it shows nowhere else.
    pub(super) dying: Cell<bool>,
    /// Other threads have taken over while the task goes on with a loop.
    pub(super) is_looping: Cell<bool>,
}

impl Sleep {
    pub(super) fn new() -> Self {
        Sleep {
            is_asleep: Cell::new(false),
            slow_since: Cell::new(None),
            has_slept: Cell::new(false),
            dying: Cell::new(false),
            is_looping: Cell::new(false),
        }
    }
}
