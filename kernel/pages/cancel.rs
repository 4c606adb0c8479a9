// SPDX-License-Identifier: GPL-2.0

//! CANCEL: what happens to an entry in each of its states; the tasks that sleep in calls.

use super::{Inner, Pages, Words};
use crate::{
    defs::Bits,
    sys::{arch, errno, lock::Guard, process::Thread},
};
use core::sync::atomic::Ordering;
use kernel::prelude::*;
use kernel::uapi;

const ENTRIES: u32 = uapi::FLEXSC_PAGE_ENTRIES;

impl Pages {
    /// Returns true if CANCEL was called for an entry that was claimed.
    #[inline(always)]
    pub(crate) fn is_cancelled(&self, page: u32, index: u32) -> bool {
        // ORDERING: None needed: a task that is about to sleep looks again under the lock.
        self.words(page)
            .is_some_and(|w| w.cancelled.load(Ordering::Relaxed) & (1 << index) != 0)
            && self.is_marked(page, index)
    }

    /// See [`Head::is_marked`].
    ///
    /// [`Head::is_marked`]: crate::sys::area::Head::is_marked
    #[cold]
    fn is_marked(&self, page: u32, index: u32) -> bool {
        self.area.entry(page, index).head().is_marked()
    }

    /// Called in the scheduler's hook: the current task is about to sleep in the call of an entry.
    /// Returns true if the entry was cancelled.
    pub(crate) fn add_sleeper(&self, page: u32, index: u32) -> bool {
        self.area.entry(page, index).set_busy();
        let task = Thread::current();
        let mut inner = self.inner.lock();
        let at = (page * ENTRIES + index) as usize;
        if let Some(sleeper) = inner.sleepers.get_mut(at) {
            *sleeper = Some(task);
        }
        // The bit changes under the lock: from here on, CANCEL finds the sleeper.
        self.is_cancelled(page, index)
    }

    /// Called in the scheduler's hook: the current task runs again.
    pub(crate) fn remove_sleeper(&self, page: u32, index: u32) {
        let at = (page * ENTRIES + index) as usize;
        let mut inner = self.inner.lock();
        let task = inner.sleepers.get_mut(at).and_then(Option::take);
        drop(inner);
        // This is not the last reference: the task is running.
        drop(task);
    }

    /// Returns the entry and the entries linked behind it, as far as they are in `bits`.
    fn chain_from(&self, page: u32, index: u32, bits: u64) -> u64 {
        let mut last = index;
        while last + 1 < ENTRIES
            && bits & (1 << (last + 1)) != 0
            && self.area.entry(page, last).head().is_linked()
        {
            last += 1;
        }
        (u64::MAX << index) & (u64::MAX >> (ENTRIES - 1 - last))
    }

    /// Returns true if any of `bits` starts even if an entry before it has failed.
    fn any_always(&self, page: u32, bits: u64) -> bool {
        Bits(bits).any(|at| self.area.entry(page, at).head().is_always())
    }

    /// Notes, for the task that will execute the entry, that it is cancelled.
    fn note_cancelled(&self, words: &Words, page: u32, index: u32) {
        words.cancelled.fetch_or(1 << index, Ordering::Relaxed);
        words.special.fetch_or(1 << index, Ordering::Relaxed);
        self.area.entry(page, index).mark_cancelled();
    }

    /// Clears the notes about `bits`, which the program now gets back.
    pub(super) fn forget_cancelled(&self, words: &Words, page: u32, bits: u64) {
        let cancelled = words.cancelled.fetch_and(!bits, Ordering::Relaxed) & bits;
        for at in Bits(cancelled) {
            self.area.entry(page, at).unmark_cancelled();
        }
    }

    /// CANCEL of entry `index` of `page`. Fails with `ENOENT` if there is nothing to cancel.
    pub(crate) fn cancel(&self, page: u32, index: u32) -> Result {
        // From here on the index is in bounds even under speculation.
        let page = arch::index(page as usize, self.words.len()).ok_or(EINVAL)? as u32;
        let words = self.words(page).ok_or(EINVAL)?;
        let bit = 1 << index;
        let mut inner = self.inner.lock();
        if self.cancel_parked(&mut inner, page, index) {
            inner.cancels = inner.cancels.wrapping_add(1);
            drop(inner);
            self.end_cancelled(page, index);
            return Ok(());
        }
        let dropped = if words.busy() & bit != 0 {
            match self.cancel_taken(&mut inner, page, index) {
                Some(dropped) => dropped,
                None => return Ok(()),
            }
        } else {
            // Only posted so far: take it here, so that no other task does. The entries before it
            // in its chain stay; their chain ends before it.
            let pending = self.pending(page) & !words.busy();
            if pending & bit == 0 || self.flags.dead.load(Ordering::Relaxed) {
                return Err(ENOENT);
            }
            let chain = self.chain_from(page, index, pending);
            if self.any_always(page, chain & !bit) {
                inner.cancels = inner.cancels.wrapping_add(1);
                self.note_cancelled(words, page, index);
                return Ok(());
            }
            let taken = words.taken.load(Ordering::Relaxed) ^ chain;
            words.taken.store(taken, Ordering::Relaxed);
            self.area.doorbell(page).set_taken(taken);
            inner.count_posted(chain);
            inner.cancels = inner.cancels.wrapping_add(1);
            chain
        };
        drop(inner);
        // The entry, and those that are linked behind it.
        let verdict = |at| match at == index {
            true => (
                errno::ecanceled(),
                uapi::flexsc_reason_FLEXSC_REASON_CANCELLED,
            ),
            false => (errno::ecanceled(), uapi::flexsc_reason_FLEXSC_REASON_CHAIN),
        };
        self.finish_unexecuted(page, dropped, verdict);
        Ok(())
    }

    /// Ends a call that waits for its file, as a signal ends a blocked call.
    #[cold]
    fn end_cancelled(&self, page: u32, index: u32) {
        let result = match self.take_kept(page, index) {
            Some(mut parked) => {
                parked.unhook();
                parked.cancel()
            }
            None => EINTR.to_errno().into(),
        };
        self.area
            .entry(page, index)
            .put_result(result, uapi::flexsc_reason_FLEXSC_REASON_NONE as u8);
        self.finish_by(self.owner.is_current(), page, 1 << index, 0);
    }

    /// CANCEL of an entry that was claimed. Returns the entries that no task will execute
    /// now.
    fn cancel_taken(&self, inner: &mut Guard<'_, Inner>, page: u32, index: u32) -> Option<u64> {
        let words = self.words(page)?;
        let bit = 1 << index;
        inner.cancels = inner.cancels.wrapping_add(1);
        let returned = words.returned.load(Ordering::Relaxed);
        if returned & bit != 0 {
            let chain = self.chain_from(page, index, returned);
            if !self.any_always(page, chain & !bit) {
                words.returned.fetch_and(!chain, Ordering::Relaxed);
                self.note_returned();
                return Some(chain);
            }
        }
        let p = inner.pages.get_mut(page as usize)?;
        if let Some(pool) = p.pool_of(index) {
            let chain = self.chain_from(page, index, p.offloaded(pool));
            // Entries that start in any case must be left to the task that executes the chain.
            if !self.any_always(page, chain & !bit) {
                p.withdraw(pool, chain);
                if p.offloaded(pool) == 0 {
                    inner.waiting.remove(pool, page);
                }
                return Some(chain);
            }
        }
        self.note_cancelled(words, page, index);
        let at = (page * ENTRIES + index) as usize;
        if let Some(Some(task)) = inner.sleepers.get(at) {
            // Under the lock, so that the task cannot leave this call.
            task.interrupt();
        }
        None
    }
}
