// SPDX-License-Identifier: GPL-2.0

//! Entries that are returned to their owner.
//!
//! An entry that the owner has claimed in WAIT may reach a syscall thread by chance: because a
//! call before it has blocked on a page that was not in the cache, or because a signal has come. If
//! only the owner can execute the entry, the thread returns it, so that results do not depend on
//! chance. An entry that the program itself has sent to threads is refused instead.
//!
//! If the owner ends before it executes the returned entries, they fail: the next task that checks
//! them notices. While such entries wait, the engine's deferred work checks periodically.

use super::{Pages, Words};
use crate::sys::errno;
use core::sync::atomic::Ordering;
use kernel::uapi;

impl Words {
    /// Notes for the thread that will execute `bits` that the owner has claimed them in WAIT.
    pub(super) fn note_owners(&self, bits: u64) {
        self.owners.fetch_or(bits, Ordering::Relaxed);
        self.special.fetch_or(bits, Ordering::Relaxed);
    }
}

impl Pages {
    /// Returns true if the owner has claimed this entry in WAIT and left it to other tasks.
    pub(crate) fn is_owners(&self, page: u32, index: u32) -> bool {
        // ORDERING: None needed: the owner notes this before it offloads the entry under the lock.
        self.words(page)
            .is_some_and(|w| w.owners.load(Ordering::Relaxed) & (1 << index) != 0)
    }

    /// Returns entries to the owner, which executes them in WAIT.
    pub(crate) fn give_back(&self, page: u32, bits: u64) {
        let Some(words) = self.words(page) else {
            return;
        };
        let mut inner = self.inner.lock();
        // If the entries reach a thread again, the owner itself has sent them.
        words.owners.fetch_and(!bits, Ordering::Relaxed);
        words.returned.fetch_or(bits, Ordering::Relaxed);
        self.flags.any_returned.store(true, Ordering::Relaxed);
        inner.nudged = true;
        if core::mem::take(&mut inner.missing) != 0 {
            self.owner.wake();
        }
        drop(inner);
        if self.await_owner() {
            // An owner that waits with poll() must call WAIT.
            self.notify();
            // The owner may end before that.
            self.parker.trigger().pull();
        }
    }

    /// Returns true if entries wait for the owner. If the owner is exiting, the entries fail, since
    /// it does not execute them.
    pub(crate) fn await_owner(&self) -> bool {
        if self.has_returned() && self.owner.is_exiting() {
            self.fail_returned();
        }
        self.has_returned()
    }

    /// Returns true if entries wait for the owner. Takes no lock.
    #[inline(always)]
    pub(crate) fn has_returned(&self) -> bool {
        // ORDERING: None needed: `take_returned` checks again under the lock, and the owner is
        // nudged before it sleeps.
        self.flags.any_returned.load(Ordering::Relaxed)
    }

    /// Takes the returned entries of one page, for the owner to execute.
    #[cold]
    pub(crate) fn take_returned(&self) -> Option<(u32, u64)> {
        let _inner = self.inner.lock();
        let found = (0..)
            .zip(self.words.iter())
            .map(|(page, words)| (page, words.returned.swap(0, Ordering::Relaxed)))
            .find(|(_, bits)| *bits != 0);
        self.note_returned();
        found
    }

    /// Updates `any_returned` after entries were taken. The caller holds the lock.
    pub(super) fn note_returned(&self) {
        let any = |words: &Words| words.returned.load(Ordering::Relaxed) != 0;
        self.flags
            .any_returned
            .store(self.words.iter().any(any), Ordering::Relaxed);
    }

    /// Fails the entries that were returned to an owner that has ended.
    fn fail_returned(&self) {
        for _ in 0..self.len() {
            let Some((page, bits)) = self.take_returned() else {
                break;
            };
            let none = uapi::flexsc_reason_FLEXSC_REASON_NONE;
            self.finish_unexecuted(page, bits, |_| (errno::ecanceled(), none));
        }
    }
}
