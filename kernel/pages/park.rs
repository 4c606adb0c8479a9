// SPDX-License-Identifier: GPL-2.0

//! Entries whose calls wait for their files without a thread.
//!
//! An entry is *kept* while its call is stored here with the file: *parked* in the file's wait
//! queue, or on its way to the task that continues it. That task takes the call out and executes
//! it on that file, whatever the program has since done to the descriptor and the entry. The task
//! that clears the bit in `parked`, under the lock, owns the entry.

use super::{Inner, Pages, Words};
use crate::defs::{Bits, PoolSet};
use crate::sys::{
    lock::Guard,
    park::{Attention, Parked},
    process,
};
use core::sync::atomic::Ordering;
use kernel::prelude::*;
use kernel::uapi;

const ENTRIES: u32 = uapi::FLEXSC_PAGE_ENTRIES;

/// Number of calls that are taken out under one lock.
const AT_ONCE: usize = 16;

/// Parked calls of a registration, protected by the lock.
pub(super) struct Calls {
    /// The call of each kept entry.
    kept: KVVec<Option<Parked>>,
    /// The process or the engine is ending.
    ended: bool,
}

impl Calls {
    pub(super) fn new(entries: usize) -> Result<Self> {
        let mut kept = KVVec::with_capacity(entries, GFP_KERNEL_ACCOUNT)?;
        for _ in 0..entries {
            kept.push(None, GFP_KERNEL_ACCOUNT)?;
        }
        Ok(Calls { kept, ended: false })
    }

    fn slot(&mut self, page: u32, index: u32) -> Option<&mut Option<Parked>> {
        self.kept.get_mut((page * ENTRIES + index) as usize)
    }
}

/// Parked calls.
impl Pages {
    /// Returns true if any entry may be parked, or if the owner attends to such entries. For the
    /// owner. If this is false, ready entries are a thread's: the owner's attention is
    /// [`Attention::Away`].
    #[inline(always)]
    pub(crate) fn has_parked(&self) -> bool {
        // ORDERING: None needed: a thread that parks a call again, and that the owner misses here,
        // finds the owner's attention as it is.
        self.flags.any_parked.load(Ordering::Relaxed)
    }

    /// Ends the parking of the entries `bits` of `words`. The caller owns the entries from now on.
    fn unpark(&self, _: &mut Guard<'_, Inner>, words: &Words, bits: u64) {
        let was = words.parked.fetch_and(!bits, Ordering::Relaxed) & bits;
        let count = process::weight(was);
        let _ = self.flags.parked.fetch_sub(count, Ordering::Relaxed);
    }

    /// Returns true if a file has woken a parked entry. For the owner.
    #[inline(always)]
    pub(crate) fn has_ready(&self) -> bool {
        self.has_parked() && self.parker.ready() != 0
    }

    /// As [`Self::has_ready`], for any task.
    pub(crate) fn is_any_ready(&self) -> bool {
        self.parker.ready() != 0
    }

    /// Returns the kept entries of `page`.
    #[inline(always)]
    pub(crate) fn kept(&self, page: u32) -> u64 {
        // ORDERING: None needed: set before the entry is given away under the lock.
        self.words(page)
            .map_or(0, |words| words.kept.load(Ordering::Relaxed))
    }

    /// Notes that the owner is in WAIT: it executes ready entries before it sleeps or leaves.
    #[inline(never)]
    pub(crate) fn attend_ready(&self) {
        self.parker.attend(Attention::Looks);
    }

    /// The owner leaves WAIT or sleeps in a call: a syscall thread executes ready entries. Allowed
    /// in the scheduler's hook.
    #[inline(never)]
    pub(crate) fn leave_ready(&self) {
        self.parker.attend(Attention::Away);
        if self.parker.ready() != 0 {
            self.parker.pull();
        }
    }

    /// The owner leaves WAIT, as in [`Self::leave_ready`].
    #[inline(never)]
    pub(crate) fn leave_wait(&self) {
        self.leave_ready();
        if self.flags.parked.load(Ordering::Relaxed) == 0 {
            // Under the lock, and only by the owner while it is away: a thread that parks a call
            // again sets the flag, and does not know what the owner does.
            let _inner = self.inner.lock();
            if self.flags.parked.load(Ordering::Relaxed) == 0 {
                self.flags.any_parked.store(false, Ordering::Relaxed);
            }
        }
    }

    /// Returns false if the owner must not sleep because an entry is ready.
    pub(super) fn may_sleep(&self) -> bool {
        if !self.has_parked() {
            return true;
        }
        self.parker.attend(Attention::Sleeps);
        if self.parker.ready() == 0 {
            return true;
        }
        self.parker.attend(Attention::Looks);
        false
    }

    /// Prepares to park call `nr` of an entry. For the owner in WAIT.
    pub(crate) fn prepare_to_park(
        &self,
        page: u32,
        index: u32,
        nr: u16,
        args: &[u64; 6],
    ) -> Option<Parked> {
        let parked = Parked::new(self.parker.clone(), (page, index), nr, args)?;
        self.flags.any_parked.store(true, Ordering::Relaxed);
        self.attend_ready();
        Some(parked)
    }

    /// Parks a call that waits for its file. Returns the call if it must not wait.
    pub(crate) fn park(&self, page: u32, index: u32, call: Parked) -> Result<(), Parked> {
        let Some(words) = self.words(page) else {
            return Err(call);
        };
        let bit = 1 << index;
        let mut inner = self.inner.lock();
        // Under the lock: from here on, CANCEL finds the call.
        if inner.calls.ended || words.cancelled.load(Ordering::Relaxed) & bit != 0 {
            return Err(call);
        }
        let Some(slot) = inner.calls.slot(page, index) else {
            return Err(call);
        };
        let old = slot.replace(call);
        debug_assert!(old.is_none(), "an entry is kept twice");
        let _ = self.flags.parked.fetch_add(1, Ordering::Relaxed);
        words.parked.fetch_or(bit, Ordering::Relaxed);
        words.kept.fetch_or(bit, Ordering::Relaxed);
        self.flags.any_parked.store(true, Ordering::Relaxed);
        drop(inner);
        self.parker.parked(page, index);
        drop(old);
        Ok(())
    }

    /// Keeps a call that another task will execute.
    pub(crate) fn keep(&self, page: u32, index: u32, call: Parked) {
        let mut inner = self.inner.lock();
        let mut call = Some(call);
        if let Some(words) = self.words(page) {
            // Even if the call is lost: it must not use the file that its descriptor names by now.
            words.kept.fetch_or(1 << index, Ordering::Relaxed);
            if !inner.calls.ended {
                if let Some(slot) = inner.calls.slot(page, index) {
                    core::mem::swap(slot, &mut call);
                }
            }
        }
        drop(inner);
        // Dropped without the lock.
        drop(call);
    }

    /// Takes the call of a kept entry, for the caller to execute.
    pub(crate) fn take_kept(&self, page: u32, index: u32) -> Option<Parked> {
        let words = self.words(page)?;
        let mut inner = self.inner.lock();
        words.kept.fetch_and(!(1 << index), Ordering::Relaxed);
        inner.calls.slot(page, index)?.take()
    }

    /// Ends the calls of entries that the caller owns and that no task will execute. If a call has
    /// begun, this writes its result. Returns these entries.
    pub(super) fn end_kept(&self, page: u32, bits: u64) -> u64 {
        let mut begun = 0;
        for index in Bits(self.kept(page) & bits) {
            let Some(mut call) = self.take_kept(page, index) else {
                continue;
            };
            call.unhook();
            if call.has_begun() {
                let none = uapi::flexsc_reason_FLEXSC_REASON_NONE as u8;
                let entry = self.area.entry(page, index);
                entry.put_result(call.cancel(), none);
                begun |= 1 << index;
            }
        }
        begun
    }

    /// Takes the parked entries of `page` that are ready.
    fn take_ready_of(&self, inner: &mut Guard<'_, Inner>, page: u32) -> u64 {
        let Some(words) = self.words(page) else {
            return 0;
        };
        let parked = words.parked.load(Ordering::Relaxed);
        let bits = self.parker.take(page, parked);
        self.unpark(inner, words, bits);
        bits
    }

    /// Takes the ready entries of one page, for the owner to execute.
    #[cold]
    pub(crate) fn take_ready(&self) -> Option<(u32, u64)> {
        Bits(self.parker.ready())
            .map(|page| (page, self.take_ready_of(&mut self.inner.lock(), page)))
            .find(|(_, bits)| *bits != 0)
    }

    /// Offloads ready entries, unless the owner will execute them. Returns the pools that have
    /// entries now.
    pub(crate) fn offload_ready(&self) -> PoolSet {
        let mut pools = PoolSet::EMPTY;
        if self.parker.attends() {
            return pools;
        }
        for page in Bits(self.parker.ready()) {
            let mut inner = self.inner.lock();
            let bits = self.take_ready_of(&mut inner, page);
            if bits != 0 {
                // If no thread can execute them, the owner can.
                self.offload_locked_to(&mut inner, 0, page, bits, bits);
                pools.add(0);
            }
        }
        pools
    }

    /// CANCEL of an entry. Returns true if the entry was parked; the caller owns it now.
    pub(super) fn cancel_parked(
        &self,
        inner: &mut Guard<'_, Inner>,
        page: u32,
        index: u32,
    ) -> bool {
        let Some(words) = self.words(page) else {
            return false;
        };
        let bit = 1 << index;
        if words.parked.load(Ordering::Relaxed) & bit == 0 {
            return false;
        }
        self.unpark(inner, words, bit);
        true
    }

    /// Ends the wait of all calls for their files: the process or the engine is ending.
    pub(crate) fn end_parked(&self) {
        let mut from = 0;
        loop {
            let mut some = [const { None }; AT_ONCE];
            let mut inner = self.inner.lock();
            inner.calls.ended = true;
            for call in &mut some {
                *call = self.take_next(&mut inner, &mut from);
            }
            drop(inner);
            // Dropped without the lock.
            if some.iter().all(Option::is_none) {
                break;
            }
        }
    }

    /// Takes the next kept call, from slot `from` on.
    fn take_next(&self, inner: &mut Guard<'_, Inner>, from: &mut usize) -> Option<Parked> {
        while let Some(slot) = inner.calls.kept.get_mut(*from) {
            let at = *from as u32;
            *from += 1;
            if let Some(call) = slot.take() {
                // The entry stays marked as kept: a task that takes it finds no call to make.
                if let Some(words) = self.words(at / ENTRIES) {
                    self.unpark(inner, words, 1 << (at % ENTRIES));
                }
                return Some(call);
            }
        }
        None
    }
}
