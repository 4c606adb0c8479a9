// SPDX-License-Identifier: GPL-2.0

//! The state of a batch, by subject. Cells suffice: only one task and its scheduler hook use them.

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

/// Number of results that a syscall thread publishes at once.
const GROUP: u32 = 16;

/// The entries of one page that the batch has claimed, one bit for each.
pub(super) struct Entries {
    /// Claimed entries that were neither published nor given away.
    pub(super) owned: Cell<u64>,
    /// Owned entries that were not started, and the one whose call is executing. The hook acts only
    /// while a call is executing.
    pub(super) row: Row,
    /// Owned entries in a chain that has not ended.
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

    /// Marks all owned entries as unstarted. If `first` is one of them, it comes first.
    #[inline(always)]
    pub(super) fn set_first(&self, first: u32) {
        self.row.set_first(first);
        self.row.set_todo(self.owned.get().rotate_right(first));
    }

    /// Returns the next entry by index and marks it as started.
    #[inline(always)]
    pub(super) fn start_next(&self) -> Option<u32> {
        let todo = self.row.todo();
        if todo == 0 {
            return None;
        }
        self.row.set_todo(todo & todo.wrapping_sub(1));
        Some(todo.trailing_zeros().wrapping_add(self.row.first()) % u64::BITS)
    }

    /// Marks `bits` as started, by themselves or in a chain.
    pub(super) fn start(&self, bits: u64) {
        let started = bits.rotate_right(self.row.first());
        self.row.set_todo(self.row.todo() & !started);
    }

    /// Returns the entries that were not started.
    pub(super) fn unstarted(&self) -> u64 {
        self.row.todo().rotate_left(self.row.first())
    }

    /// As [`Self::unstarted`], and gives these entries up: another thread will start them.
    pub(super) fn take_unstarted(&self) -> u64 {
        let unstarted = self.unstarted();
        self.row.set_todo(0);
        self.give_up(unstarted);
        unstarted
    }

    /// Adds `bits` to the entries of this batch.
    pub(super) fn own(&self, bits: u64) {
        self.owned.set(self.owned.get() | bits);
    }

    /// Removes `bits` from the entries of this batch.
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

    /// Returns the entry whose call is executing.
    #[inline(always)]
    pub(super) fn executing(&self) -> Option<u32> {
        self.row.executing()
    }

    /// Takes, for the caller to publish, all entries that have results, except `executing`.
    #[inline(always)]
    pub(super) fn take_finished(&self, executing: u64) -> u64 {
        let busy = self.unstarted() | self.in_chain.get() | executing;
        let owned = self.owned.get();
        self.owned.set(owned & busy);
        owned & !busy
    }
}

/// Unpublished results.
pub(super) struct Results {
    /// Number of unpublished results; counted on syscall threads only.
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

    /// Counts one more result. Returns true if there are enough to publish.
    #[inline(always)]
    pub(super) fn add(&self) -> bool {
        let n = self.unpublished.get().wrapping_add(1);
        self.unpublished.set(n);
        n >= GROUP
    }

    /// Notes that all results are published.
    #[inline(always)]
    pub(super) fn clear(&self) {
        self.unpublished.set(0);
    }

    /// Returns how many of `finished`, which are being published, were refused. Entries of an
    /// unfinished chain are counted when the chain ends.
    #[inline(always)]
    pub(super) fn take_refused(&self, finished: u64) -> u32 {
        match self.refused.get() {
            0 => 0,
            refused => self.take_some_refused(refused, finished),
        }
    }

    /// Leaves `bits` to another task to publish. Returns which of them were refused.
    pub(super) fn give_up_refused(&self, bits: u64) -> u64 {
        let refused = self.refused.get();
        self.refused.set(refused & !bits);
        refused & bits
    }

    /// Adds entries that other tasks have refused and this batch publishes.
    pub(super) fn own_refused(&self, refused: u64) {
        self.refused.set(self.refused.get() | refused);
    }

    #[cold]
    fn take_some_refused(&self, refused: u64, finished: u64) -> u32 {
        self.refused.set(refused & !finished);
        process::weight(refused & finished)
    }
}

/// State shared by the task and its scheduler hook.
pub(super) struct Sleep {
    /// True if the task sleeps in a call.
    pub(super) is_asleep: Cell<bool>,
    /// The time when the sleep began, if the call was offloaded as a slow one, see `pages/slow.rs`.
    pub(super) slow_since: Cell<Option<u64>>,
    /// True if the task has slept in a call, so that other threads execute the rest.
    pub(super) has_slept: Cell<bool>,
    /// True if a signal that ends the thread was taken; no other state shows this.
    pub(super) dying: Cell<bool>,
    /// True if other threads have taken over while the task continues a loop.
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
