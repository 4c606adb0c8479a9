// SPDX-License-Identifier: MIT OR Apache-2.0
//! Registered syscall pages: posting and polling. `waiting` waits, and `refused` makes
//! plain calls.

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
use crate::memory::{Answer, Memory as _};
use crate::page_queue::PageQueue;
#[cfg(feature = "abi")]
use crate::sys::abi::{flexsc_ctrl, flexsc_entry};
use crate::sys::device;
use crate::sys::region::Region;

mod refused;
mod waiting;

/// The syscall pages of the thread that registered them. Not `Send`, because the kernel
/// serves them to no other thread.
///
/// Dropping the value releases the pages, unless calls are in flight. These keep the pages
/// in the kernel until the engine ends.
///
/// If the kernel refuses to execute a call (the thread is traced or has a seccomp filter,
/// the call acts on the thread itself, …: see [`Reason`]), the crate makes the plain call
/// when the result is taken, and counts it: [`set_fallback`](Self::set_fallback).
///
/// A forked child has no pages: no call can be staged, there is no result, and
/// [`wait`](Self::wait) fails with [`Error::NotTheOwner`].
pub struct Pages {
    // Dropped in this order: first the mapping, then the engine.
    queue: PageQueue,
    registration: Arc<Registration>,
    /// The engine's descriptor, kept here because every wait uses it.
    fd: RawFd,
    /// False once flexsc_wait(2) is known not to work.
    by_call: bool,
    fallback: bool,
    fallbacks: u64,
    /// Results of links that were executed as plain calls, until they are taken.
    made: Vec<(Slot, i64)>,
    /// Neither `Send` nor `Sync`: the pages belong to one thread.
    _owner: PhantomData<*mut ()>,
}

/// The addresses of the pages, for tests and for bindings of other languages.
///
/// They are valid as long as the [`Pages`], and never in a forked child.
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
    /// The start of the mapping.
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

    /// Returns how many calls can be in flight.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.queue.capacity()
    }

    /// Returns how many calls are staged, or posted without their results being taken; 0 in a
    /// forked child.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        if self.in_same_process() {
            self.queue.in_flight()
        } else {
            0
        }
    }

    /// Returns how many calls can be staged now; 0 in a forked child.
    #[must_use]
    pub fn free(&self) -> usize {
        if self.in_same_process() {
            self.capacity() - self.queue.in_flight()
        } else {
            0
        }
    }

    /// Sets whether the crate makes a plain call in place of a posted one that the kernel
    /// refused. The thread that takes the result then makes the plain call, so
    /// [`poll`](Self::poll) can block like the plain call. On by default. If off, the
    /// completion has the kernel's own EOPNOTSUPP or EAGAIN. In both cases the completion
    /// has the reason.
    ///
    /// If the kernel refused the first call of a chain, the whole chain is made as plain
    /// calls when the first result is taken. Links that were refused later are not made,
    /// and neither are loops (use [`Chain::make`]). The crate never makes calls that begin,
    /// end or replace a thread or process.
    pub fn set_fallback(&mut self, on: bool) {
        self.fallback = on;
    }

    /// Returns how many plain calls were made in place of refused ones.
    #[must_use]
    pub fn fallbacks(&self) -> u64 {
        self.fallbacks
    }

    /// Writes the call into a free entry without posting it. Returns `None` if no entry is
    /// free, or in a forked child.
    ///
    /// # Safety
    ///
    /// The memory that the call's arguments point to must stay valid and must not be used
    /// otherwise, from the next ring, kick or wait until the completion of the call is
    /// taken, or forever if it never is. The call itself must be as valid as a plain one
    /// at every moment in between.
    #[inline(always)]
    #[must_use = "the slot tells whether the call was staged, and which result is its"]
    pub unsafe fn stage(&mut self, call: Call) -> Option<Slot> {
        self.queue.stage(&call)
    }

    /// Writes the calls of a chain into adjacent entries without posting them. Each call
    /// has its own result.
    ///
    /// # Errors
    ///
    /// [`Error::BadChain`]; [`Error::NoRoom`] if no page has enough adjacent free entries;
    /// [`Error::NotTheOwner`] in a forked child.
    ///
    /// # Safety
    ///
    /// As for [`stage`](Self::stage), for each of its calls.
    pub unsafe fn stage_chain(&mut self, chain: &Chain) -> Result<Slots, Error> {
        chain.check()?;
        if !self.in_same_process() {
            return Err(Error::NotTheOwner);
        }
        let slots = self.queue.stage_chain(chain);
        slots.ok_or(Error::NoRoom(chain.len()))
    }

    /// Posts all staged calls, with one store for each page touched.
    #[inline(always)]
    pub fn ring(&mut self) {
        if self.in_same_process() {
            self.queue.ring();
        }
    }

    /// Does [`stage`](Self::stage) and [`ring`](Self::ring) in one call.
    ///
    /// # Safety
    ///
    /// As for [`stage`](Self::stage).
    #[inline(always)]
    #[must_use = "the slot tells whether the call was posted, and which result is its"]
    pub unsafe fn post(&mut self, call: Call) -> Option<Slot> {
        let slot = self.queue.stage(&call)?;
        self.queue.ring();
        Some(slot)
    }

    /// Takes the next result, if there is one, without a trap. The kernel learns that
    /// results were taken when there are no more, and with the next wait; [`poll(2)`](AsFd)
    /// shows them until then.
    #[inline(always)]
    pub fn poll(&mut self) -> Option<Completion> {
        let (slot, answer) = self.queue.poll()?;
        Some(self.completion(slot, answer))
    }

    /// Iterates over the available results and looks once at each page. This is cheaper
    /// than calling [`poll`](Self::poll) until it returns `None`. Results that are not
    /// taken are kept.
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

    /// Returns true if a result can be taken. Makes no trap.
    #[must_use]
    pub fn has_result(&self) -> bool {
        self.in_same_process() && self.queue.has_result()
    }

    /// Ends a posted call as a signal would: with EINTR or a partial result; with
    /// ECANCELED and [`Reason::Cancelled`] if it has not started; with its own result if
    /// the cancellation comes too late. The completion arrives as usual. Returns true if
    /// the call was found unfinished.
    ///
    /// # Errors
    ///
    /// [`Error::NotTheOwner`], [`Error::Filtered`], [`Error::TooOld`].
    pub fn cancel(&self, slot: Slot) -> Result<bool, Error> {
        self.canceller().cancel(slot)
    }

    /// Returns a handle with which other threads of the process can cancel calls while this
    /// one waits.
    #[must_use]
    pub fn canceller(&self) -> Canceller {
        Canceller::new(Arc::clone(&self.registration))
    }

    /// Makes the kernel execute posted calls without waiting.
    ///
    /// # Errors
    ///
    /// [`Error::NotTheOwner`] in a forked child.
    pub fn kick(&self) -> Result<(), Error> {
        device::kick(self.engine().fd.as_fd(), self.id())
            .map_err(|errno| self.engine().error("kick", errno))
    }

    /// Returns true if posted calls need a [`kick`](Self::kick) or a [`wait`](Self::wait)
    /// because no poller watches the doorbells.
    #[must_use]
    pub fn needs_kick(&self) -> bool {
        self.in_same_process() && self.queue.needs_kick()
    }

    /// Gives the pages back to the kernel.
    ///
    /// # Errors
    ///
    /// [`Error::Busy`] while calls are in flight. The pages come back with the error.
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

    /// Returns the status byte of an entry, `FLEXSC_FREE` to `FLEXSC_DONE`; free in a
    /// forked child.
    ///
    /// # Panics
    ///
    /// Panics if these pages have no such slot.
    #[must_use]
    pub fn entry_status(&self, slot: Slot) -> u8 {
        if self.in_same_process() {
            self.queue.status(slot)
        } else {
            0
        }
    }

    /// Returns the addresses of the pages.
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

    /// Returns false in a forked child, which has no pages.
    #[inline(always)]
    pub(crate) fn in_same_process(&self) -> bool {
        self.queue.region().in_same_process()
    }
}

/// The available results: see [`Pages::drain`].
#[derive(Debug)]
#[must_use = "results stay where they are until they are taken"]
pub struct Drain<'a> {
    pages: &'a mut Pages,
    /// Pages that were not looked at yet.
    rest: u64,
}

impl Iterator for Drain<'_> {
    type Item = Completion;

    #[inline(always)]
    fn next(&mut self) -> Option<Completion> {
        loop {
            if let Some((slot, answer)) = self.pages.queue.poll_seen() {
                return Some(self.pages.completion(slot, answer));
            }
            if !self.pages.in_same_process() {
                return None;
            }
            let queue = &mut self.pages.queue;
            if self.rest == 0 {
                queue.publish_reaped();
                return None;
            }
            // A copy, so that a loop can keep the iterator in registers.
            let mut rest = self.rest;
            let found = queue.look_on(&mut rest);
            self.rest = rest;
            if !found {
                return None;
            }
        }
    }
}

impl Drop for Pages {
    fn drop(&mut self) {
        if self.in_same_process() {
            // With calls in flight, the kernel keeps the registration until the
            // engine ends. A drop cannot report that.
            let _ = self.registration.unregister();
        }
    }
}

/// The engine's descriptor. It is readable while there are results of the polling
/// thread. [`Pages::set_eventfd`] sets a descriptor for these pages alone.
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
