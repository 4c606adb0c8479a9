// SPDX-License-Identifier: GPL-2.0

//! The slots of a pool's threads: from the reservation before a thread is created to its end.

use super::{
    table::{Inner, Slot, State, NONE},
    Pool,
};
use crate::sys::{
    errno,
    lock::Guard,
    process::{self, Thread},
};
use core::sync::atomic::Ordering;
use kernel::prelude::*;

/// Number of threads that are interrupted under one lock.
const STOP_AT_ONCE: usize = 64;

/// Slots.
impl Pool {
    /// Returns thread id and state of slot `i`, or `None` behind the last slot.
    pub(crate) fn thread(&self, i: u32) -> Option<(i32, State)> {
        let inner = self.lock();
        let slot = inner.slots.get(i as usize)?;
        Some((slot.thread.as_ref().map_or(0, Thread::pid), slot.state))
    }

    /// Reserves a slot for a thread that the caller is going to create, if all pools together have
    /// fewer than `max`.
    pub(crate) fn reserve(&self, max: u32) -> Result<u32> {
        self.lockless.total().add_thread(max)?;
        let slot = self.reserve_slot();
        if slot.is_err() {
            self.lockless.total().remove_thread();
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

    /// Makes the table larger than `len`, unless another thread already has.
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
        // The old table is freed after the lock was released.
        drop(inner);
        Ok(())
    }

    /// Notes that the thread of a reserved slot exists, or could not be created.
    ///
    /// Returns false if it could not be created and no poller is left.
    pub(crate) fn created(&self, i: u32, thread: Option<Thread>) -> bool {
        let mut inner = self.lock();
        if thread.is_none() {
            inner.counters.threads.create_failed += 1;
            self.free(&mut inner, i);
            // Other threads may have counted on this one.
            if inner.queued() != 0 {
                self.wake_one(&mut inner);
                self.notice(&mut inner);
            }
            return inner.counts.starting != 0 || !inner.lost_poller();
        }
        inner.counters.threads.created += 1;
        if let Some(slot) = inner.slot(i) {
            slot.thread = thread;
        }
        self.note_created(&mut inner, i);
        true
    }

    fn free(&self, inner: &mut Guard<'_, Inner>, i: u32) -> Option<Thread> {
        inner.set_state(i, State::Free);
        let next = inner.free;
        let slot = inner.slot(i)?;
        slot.next = next;
        let thread = slot.thread.take();
        inner.free = i;
        self.lockless.total().remove_thread();
        thread
    }

    /// Notes that thread `i` ends: no task may wake it any more.
    pub(crate) fn leave(&self, i: u32) {
        self.end(i, false);
    }

    /// Notes that thread `i` ends because it was idle. It is counted here and not before, so that
    /// the figures of one QUERY agree with each other.
    pub(crate) fn retire(&self, i: u32) {
        self.end(i, true);
    }

    fn end(&self, i: u32, retires: bool) {
        let thread = {
            let mut inner = self.lock();
            inner.counters.threads.retired += u64::from(retires);
            let thread = self.free(&mut inner, i);
            // The thread may have counted as running when work arrived.
            if inner.queued() != 0 && !self.is_stopping() {
                self.wake_one(&mut inner);
                self.notice(&mut inner);
            }
            thread
        };
        drop(thread);
    }

    /// Ends all threads, including blocked ones, a few under each lock. A thread that is just
    /// being created finds out by itself. May sleep.
    pub(crate) fn stop(&self) {
        // Under the lock: no slot is reserved after this.
        {
            let _inner = self.lock();
            self.stopping.store(true, Ordering::Relaxed);
        }
        let mut next = 0;
        while self.interrupt_some(next) {
            next = next.wrapping_add(STOP_AT_ONCE);
            process::resched_and_check_signal();
        }
    }

    /// Interrupts [`STOP_AT_ONCE`] threads from slot `first` on. Returns false if there is no such
    /// slot.
    fn interrupt_some(&self, first: usize) -> bool {
        let inner = self.lock();
        let Some(slots) = inner.slots.get(first..) else {
            return false;
        };
        for slot in slots.iter().take(STOP_AT_ONCE) {
            if let Some(thread) = &slot.thread {
                thread.dismiss();
                thread.wake();
            }
        }
        !slots.is_empty()
    }
}
