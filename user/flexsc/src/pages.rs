// SPDX-License-Identifier: MIT OR Apache-2.0
//! Registered syscall pages: post and poll; `waiting` waits.

#![expect(unsafe_code, reason = "posting is a promise about memory")]

use std::fmt;
use std::marker::PhantomData;
use std::mem;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use nix::errno::Errno;

use crate::Error;
use crate::call::{Call, Completion, Reason, Slot};
use crate::cancel::{Canceller, Registration};
use crate::chain::{Chain, Slots};
#[cfg(feature = "abi")]
use crate::doorbell::ENTRIES;
use crate::engine::Shared;
use crate::page_queue::PageQueue;
#[cfg(feature = "abi")]
use crate::sys::abi::{flexsc_ctrl, flexsc_entry};
use crate::sys::device;
use crate::sys::region::{Answer, Region};

mod refused;
mod waiting;

/// Syscall pages of the thread that registered them; not `Send`, because the
/// kernel serves them to no other thread.
///
/// The pages go when the value is dropped, unless calls are in flight: those
/// keep them in the kernel until the engine ends.
///
/// A call that the kernel refuses to execute (the thread is traced or has a
/// seccomp filter, the call acts on the thread itself, …: see [`Reason`]) is made
/// plainly when its result is taken, and counted:
/// [`set_fallback`](Self::set_fallback).
///
/// In a child after fork there are no pages: no call can be staged, no result
/// comes, and [`wait`](Self::wait) fails with [`Error::NotTheOwner`].
pub struct Pages {
    // Dropped in this order: the mapping, then the engine.
    queue: PageQueue,
    registration: Arc<Registration>,
    /// That of the engine, at hand.
    fd: RawFd,
    /// flexsc_wait(2) works here, as far as is known.
    by_call: bool,
    fallback: bool,
    fallbacks: u64,
    /// Results of links that were made plainly, until they are taken.
    made: Vec<(Slot, i64)>,
    /// Neither `Send` nor `Sync`: the kernel knows the owner.
    _owner: PhantomData<*mut ()>,
}

/// Where the pages lie, for tests and for other languages.
///
/// Good as long as the [`Pages`] are, and in no child after fork.
#[cfg(feature = "abi")]
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct RawPages {
    /// The control blocks, one for each page.
    pub ctrl: *mut flexsc_ctrl,
    /// The entries of all pages.
    pub entries: *mut flexsc_entry,
    /// Number of pages, and of control blocks.
    pub pages: usize,
    /// Number of entries.
    pub count: usize,
    /// The mapping.
    pub base: *mut std::ffi::c_void,
    /// Its length in bytes.
    pub len: usize,
}

impl Pages {
    pub(crate) fn new(engine: Arc<Shared>, id: u32, region: Region) -> Self {
        // The fast word has 16 bits for the registration.
        let by_call = id <= 0xffff && !engine.by_ioctl.load(Ordering::Relaxed);
        Pages {
            queue: PageQueue::new(region),
            fd: engine.fd.as_raw_fd(),
            by_call,
            registration: Arc::new(Registration::new(engine, id)),
            fallback: true,
            fallbacks: 0,
            made: Vec::new(),
            _owner: PhantomData,
        }
    }

    /// The kernel's number of this registration.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.registration.id
    }

    fn engine(&self) -> &Shared {
        &self.registration.engine
    }

    /// How many calls can be in flight.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.queue.capacity()
    }

    /// How many calls are staged or posted, and their results not taken.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.queue.in_flight()
    }

    /// How many calls can be staged now.
    #[must_use]
    pub fn free(&self) -> usize {
        self.capacity() - self.in_flight()
    }

    /// Whether a plain call is made in place of a posted one that the kernel has
    /// refused: by the thread that takes the result, as it takes it, so that
    /// [`poll`](Self::poll) may block as the plain call does. On at first. Off:
    /// the completion has the kernel's own EOPNOTSUPP or EAGAIN. With both it
    /// has the reason.
    ///
    /// A chain is made plainly as a whole if the kernel has refused its first
    /// call, when the result of that is taken; links that were refused later are
    /// not, nor are loops ([`Chain::make`] makes those). Never made plainly are
    /// calls that begin, end or replace a thread or process.
    pub fn set_fallback(&mut self, on: bool) {
        self.fallback = on;
    }

    /// How many plain calls were made in place of refused ones.
    #[must_use]
    pub fn fallbacks(&self) -> u64 {
        self.fallbacks
    }

    /// Writes the call into a free entry, without ringing the doorbell. `None`
    /// when no entry is free, or in a child after fork.
    ///
    /// # Safety
    ///
    /// Whatever the call's arguments point to must stay valid, and must not be
    /// used otherwise, from the next ring, kick or wait until the completion
    /// of the call was taken; for ever if it never is. The call itself must be
    /// as good as a plain one would be, at any moment in between.
    #[inline(always)]
    #[must_use = "the slot tells whether the call was staged, and which result is its"]
    pub unsafe fn stage(&mut self, call: Call) -> Option<Slot> {
        if !self.in_same_process() {
            return None;
        }
        self.queue.stage(&call)
    }

    /// Writes the calls of a chain into entries side by side, without ringing
    /// the doorbell. Each call has a result of its own.
    ///
    /// # Errors
    ///
    /// [`Error::BadChain`]; [`Error::NoRoom`] if no page has enough free
    /// entries side by side; [`Error::NotTheOwner`] in a child after fork.
    ///
    /// # Safety
    ///
    /// As for [`stage`](Self::stage), with each of its calls.
    pub unsafe fn stage_chain(&mut self, chain: &Chain) -> Result<Slots, Error> {
        chain.check()?;
        if !self.in_same_process() {
            return Err(Error::NotTheOwner);
        }
        let slots = self.queue.stage_chain(chain);
        slots.ok_or(Error::NoRoom(chain.len()))
    }

    /// Posts all that is staged, with one store for each page touched.
    #[inline(always)]
    pub fn ring(&mut self) {
        if self.in_same_process() {
            self.queue.ring();
        }
    }

    /// [`stage`](Self::stage) and [`ring`](Self::ring) in one.
    ///
    /// # Safety
    ///
    /// As for [`stage`](Self::stage).
    #[inline(always)]
    #[must_use = "the slot tells whether the call was posted, and which result is its"]
    pub unsafe fn post(&mut self, call: Call) -> Option<Slot> {
        if !self.in_same_process() {
            return None;
        }
        let slot = self.queue.stage(&call)?;
        self.queue.ring();
        Some(slot)
    }

    /// Takes the next result, if there is one. Reads memory, no trap. The
    /// kernel, and with it [`poll(2)`](AsFd), learns of the results that were
    /// taken when there are no more, and with the next wait.
    #[inline(always)]
    pub fn poll(&mut self) -> Option<Completion> {
        if !self.in_same_process() {
            return None;
        }
        let (slot, answer) = self.queue.poll()?;
        Some(self.completion(slot, answer))
    }

    /// Takes the results that are there, looking once on each page: cheaper
    /// than [`poll`](Self::poll) until it says `None`. Those that are not taken
    /// stay.
    #[inline(always)]
    pub fn drain(&mut self) -> Drain<'_> {
        let rest = if self.in_same_process() {
            self.queue.look_here()
        } else {
            0
        };
        Drain { pages: self, rest }
    }

    #[inline(always)]
    fn completion(&mut self, slot: Slot, answer: Answer) -> Completion {
        let Answer { result, reason } = answer;
        if reason == 0 {
            return Completion {
                slot,
                result,
                reason: Reason::None,
            };
        }
        self.refused(slot, result, reason)
    }

    /// Whether a result is there to be taken. Reads memory, no trap.
    #[must_use]
    pub fn has_result(&self) -> bool {
        self.in_same_process() && self.queue.has_result()
    }

    /// Ends a posted call as a signal would end a plain one: with EINTR or a
    /// partial result, with ECANCELED and [`Reason::Cancelled`] if it has not
    /// begun, with its result if it is too late. The result comes as ever.
    /// Says whether the call was found unfinished.
    ///
    /// # Errors
    ///
    /// [`Error::NotTheOwner`], [`Error::Filtered`], [`Error::TooOld`].
    pub fn cancel(&self, slot: Slot) -> Result<bool, Error> {
        self.canceller().cancel(slot)
    }

    /// For other threads of the process, which can cancel calls while this one
    /// waits.
    #[must_use]
    pub fn canceller(&self) -> Canceller {
        Canceller::new(Arc::clone(&self.registration))
    }

    /// Wakes the kernel: it takes what is posted.
    ///
    /// # Errors
    ///
    /// [`Error::NotTheOwner`] in a child after fork.
    pub fn kick(&self) -> Result<(), Error> {
        device::kick(self.engine().fd.as_fd(), self.id())
            .map_err(|errno| self.engine().error("kick", errno))
    }

    /// Whether posted calls need a [`kick`](Self::kick) or a
    /// [`wait`](Self::wait) because nobody polls the doorbells.
    #[must_use]
    pub fn needs_kick(&self) -> bool {
        self.in_same_process() && self.queue.needs_kick()
    }

    /// Gives the pages back to the kernel.
    ///
    /// # Errors
    ///
    /// The pages, to be used again, and [`Error::Busy`] while calls are in flight.
    #[expect(clippy::result_large_err, reason = "the pages go back to the caller")]
    pub fn unregister(self) -> Result<(), (Pages, Error)> {
        match self.registration.unregister() {
            Ok(()) => {
                self.forget_registration();
                Ok(())
            }
            Err(errno) => {
                let error = match errno {
                    Errno::EBUSY => Error::Busy,
                    errno => self.engine().error("unregister", errno),
                };
                Err((self, error))
            }
        }
    }

    /// Drops the mapping and the engine, not the registration.
    fn forget_registration(self) {
        let mut pages = mem::ManuallyDrop::new(self);
        // SAFETY: `pages` is not used again, and never dropped.
        unsafe { std::ptr::drop_in_place(&mut pages.queue) };
        // SAFETY: as above.
        unsafe { std::ptr::drop_in_place(&mut pages.registration) };
    }

    /// The status byte of an entry, `FLEXSC_FREE` to `FLEXSC_DONE`; free in a
    /// child after fork.
    ///
    /// # Panics
    ///
    /// The slot is not one of these pages.
    #[must_use]
    pub fn entry_status(&self, slot: Slot) -> u8 {
        if self.in_same_process() {
            self.queue.status(slot)
        } else {
            0
        }
    }

    /// Where the pages lie.
    #[cfg(feature = "abi")]
    #[must_use]
    pub fn raw(&self) -> RawPages {
        let region = self.queue.region();
        RawPages {
            ctrl: region.ctrl_ptr().as_ptr(),
            entries: region.entries_ptr().as_ptr(),
            pages: self.capacity() / ENTRIES as usize,
            count: self.capacity(),
            base: region.map_ref().base().as_ptr(),
            len: region.map_ref().len(),
        }
    }

    #[cfg(test)]
    pub(crate) fn region(&self) -> &Region {
        self.queue.region()
    }

    /// False in a child after fork, which has no pages.
    #[inline(always)]
    pub(crate) fn in_same_process(&self) -> bool {
        self.queue.region().in_same_process()
    }
}

/// The results that are there: see [`Pages::drain`].
#[derive(Debug)]
#[must_use = "results stay where they are until they are taken"]
pub struct Drain<'a> {
    pages: &'a mut Pages,
    /// Pages that it has not looked at.
    rest: u64,
}

impl Iterator for Drain<'_> {
    type Item = Completion;

    #[inline(always)]
    fn next(&mut self) -> Option<Completion> {
        if !self.pages.in_same_process() {
            return None;
        }
        loop {
            let queue = &mut self.pages.queue;
            if let Some((slot, answer)) = queue.poll_seen() {
                return Some(self.pages.completion(slot, answer));
            }
            if self.rest == 0 {
                queue.publish_reaped();
                return None;
            }
            if !queue.look_on(&mut self.rest) {
                return None;
            }
        }
    }
}

impl Drop for Pages {
    fn drop(&mut self) {
        if self.in_same_process() {
            // With calls in flight the kernel keeps the registration until
            // the engine ends; there is nobody to tell.
            let _ = self.registration.unregister();
        }
    }
}

/// The engine's descriptor: it polls readable while results of the thread that
/// polls are there; [`Pages::set_eventfd`] has a descriptor for these pages alone.
impl AsFd for Pages {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.engine().fd.as_fd()
    }
}

impl AsRawFd for Pages {
    fn as_raw_fd(&self) -> RawFd {
        self.fd
    }
}

impl fmt::Debug for Pages {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pages")
            .field("id", &self.id())
            .field("capacity", &self.capacity())
            .field("in_flight", &self.in_flight())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
