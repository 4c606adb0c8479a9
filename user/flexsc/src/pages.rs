// SPDX-License-Identifier: MIT OR Apache-2.0
//! Registered syscall pages: post, poll, wait.

#![expect(unsafe_code, reason = "posting is a promise about memory")]

use std::fmt;
use std::marker::PhantomData;
use std::mem;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::sync::Arc;

use nix::errno::Errno;

use crate::board::Board;
use crate::call::{Call, Completion, Reason, Slot};
use crate::sys::abi::{flexsc_ctrl, flexsc_entry};
use crate::sys::device;
use crate::sys::region::{Answer, Region};
use crate::{Error, Wait, fallback};

/// Syscall pages of the thread that registered them, and of no other.
///
/// The pages go when the value is dropped, unless calls are in flight: those
/// keep them in the kernel until the engine ends.
pub struct Pages {
    // Dropped in this order: the mapping, then the engine.
    board: Board,
    engine: Arc<OwnedFd>,
    id: u32,
    fallback: bool,
    fallbacks: u64,
    /// Neither `Send` nor `Sync`: the kernel knows the owner.
    _owner: PhantomData<*mut ()>,
}

/// Where the pages lie, for tests and for other languages.
///
/// Good as long as the [`Pages`] are.
#[derive(Clone, Copy, Debug)]
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
    pub(crate) fn new(engine: Arc<OwnedFd>, id: u32, region: Region) -> Self {
        Pages {
            board: Board::new(region),
            engine,
            id,
            fallback: false,
            fallbacks: 0,
            _owner: PhantomData,
        }
    }

    /// The kernel's number of this registration.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.id
    }

    /// How many calls can be in flight.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.board.capacity()
    }

    /// How many calls are staged or posted, and their results not taken.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.board.in_flight()
    }

    /// How many calls can be staged now.
    #[must_use]
    pub fn free(&self) -> usize {
        self.capacity() - self.in_flight()
    }

    /// Whether [`Pages::poll`] makes a plain call where the kernel refuses a
    /// posted one. Off at first. Calls that begin, end or replace a thread or
    /// process are never made so.
    pub fn set_fallback(&mut self, on: bool) {
        self.fallback = on;
    }

    /// How many plain calls were made in place of refused ones.
    #[must_use]
    pub fn fallbacks(&self) -> u64 {
        self.fallbacks
    }

    /// Writes the call into a free entry, without ringing the doorbell. `None`
    /// when no entry is free.
    ///
    /// # Safety
    ///
    /// Whatever the call's arguments point to must stay valid, and must not be
    /// used otherwise, from the next ring, kick or wait until the completion
    /// of the call was taken; for ever if it never is. The call itself must be
    /// as good as a plain one would be, at any moment in between.
    #[inline]
    pub unsafe fn stage(&mut self, call: Call) -> Option<Slot> {
        self.board.stage(&call)
    }

    /// Posts all that is staged, with one store for each page touched.
    #[inline]
    pub fn ring(&mut self) {
        self.board.ring();
    }

    /// [`stage`](Self::stage) and [`ring`](Self::ring) in one.
    ///
    /// # Safety
    ///
    /// As for [`stage`](Self::stage).
    #[inline]
    pub unsafe fn post(&mut self, call: Call) -> Option<Slot> {
        let slot = self.board.stage(&call)?;
        self.board.ring();
        Some(slot)
    }

    /// Takes the next result, if there is one. Reads memory, no trap.
    #[inline]
    pub fn poll(&mut self) -> Option<Completion> {
        let (slot, Answer { mut result, reason }) = self.board.poll()?;
        let reason = Reason::from_raw(reason);
        if reason != Reason::None {
            result = self.refused(slot, result, reason);
        }
        Some(Completion {
            slot,
            result,
            reason,
        })
    }

    /// Makes a plain call in place of a refused one, if that is wanted.
    #[cold]
    fn refused(&mut self, slot: Slot, result: i64, reason: Reason) -> i64 {
        if !self.fallback || !fallback::applies(result, reason) {
            return result;
        }
        self.fallbacks += 1;
        let call = self.board.call(slot);
        // SAFETY: whoever posted it has promised that it is good until its
        // completion is taken, which is now.
        unsafe { fallback::make(&call) }
    }

    /// Whether a result is there to be taken. Reads memory, no trap.
    #[inline]
    #[must_use]
    pub fn has_result(&self) -> bool {
        self.board.has_result()
    }

    /// Posts what is staged, has the kernel execute it, and sleeps until the
    /// policy is satisfied. Returns how many results there are to take. Costs
    /// one trap, and none where the results are there already and nothing is
    /// left to execute.
    ///
    /// # Errors
    ///
    /// [`Error::TimedOut`], [`Error::Interrupted`], [`Error::NothingToWaitFor`],
    /// [`Error::NotTheOwner`] in a child after fork.
    pub fn wait(&mut self, wait: Wait) -> Result<usize, Error> {
        self.board.ring();
        self.board.tell();
        let look = self.board.look();
        if !look.pending && wait.satisfied(look.finished, look.all) {
            return Ok(look.finished);
        }
        let result = match wait.fast(self.id) {
            Some(arg) => device::wait_fast(self.engine.as_fd(), arg),
            None => device::wait(self.engine.as_fd(), wait.full(self.id)),
        };
        result.map_err(|errno| match errno {
            Errno::ETIME => Error::TimedOut,
            Errno::EINTR => Error::Interrupted,
            Errno::EDEADLK => Error::NothingToWaitFor,
            errno => Self::any_error("wait", errno),
        })
    }

    /// Wakes the kernel: it takes what is posted.
    ///
    /// # Errors
    ///
    /// [`Error::NotTheOwner`] in a child after fork.
    pub fn kick(&self) -> Result<(), Error> {
        device::kick(self.engine.as_fd(), self.id).map_err(|errno| Self::any_error("kick", errno))
    }

    /// Whether posted calls need a [`kick`](Self::kick) or a
    /// [`wait`](Self::wait) because nobody polls the doorbells.
    #[must_use]
    pub fn needs_kick(&self) -> bool {
        self.board.needs_kick()
    }

    /// Gives the pages back to the kernel.
    ///
    /// # Errors
    ///
    /// The pages, to be used again, and [`Error::Busy`] while calls are in flight.
    #[expect(clippy::result_large_err, reason = "the pages go back to the caller")]
    pub fn unregister(self) -> Result<(), (Pages, Error)> {
        match device::unregister(self.engine.as_fd(), self.id) {
            Ok(()) => {
                self.forget_registration();
                Ok(())
            }
            Err(errno) => {
                let error = match errno {
                    Errno::EBUSY => Error::Busy,
                    errno => Self::any_error("unregister", errno),
                };
                Err((self, error))
            }
        }
    }

    /// Drops the mapping and the engine, not the registration.
    fn forget_registration(self) {
        let mut pages = mem::ManuallyDrop::new(self);
        // SAFETY: `pages` is not used again, and never dropped.
        unsafe { std::ptr::drop_in_place(&mut pages.board) };
        // SAFETY: as above.
        unsafe { std::ptr::drop_in_place(&mut pages.engine) };
    }

    /// The status byte of an entry, `FLEXSC_FREE` to `FLEXSC_DONE`.
    #[must_use]
    pub fn entry_status(&self, slot: Slot) -> u8 {
        self.board.status(slot)
    }

    /// Where the pages lie.
    #[must_use]
    pub fn raw(&self) -> RawPages {
        let region = self.board.region();
        RawPages {
            ctrl: region.ctrl_ptr().as_ptr(),
            entries: region.entries_ptr().as_ptr(),
            pages: region.pages(),
            count: self.capacity(),
            base: region.map_ref().base().as_ptr(),
            len: region.map_ref().len(),
        }
    }

    /// False in a child after fork, which has no pages.
    pub(crate) fn is_ours(&self) -> bool {
        self.board.region().map_ref().is_ours()
    }

    fn any_error(doing: &'static str, errno: Errno) -> Error {
        match errno {
            Errno::EPERM => Error::NotTheOwner,
            Errno::ENOENT => Error::Unknown,
            errno => Error::other(doing, errno),
        }
    }
}

impl Drop for Pages {
    fn drop(&mut self) {
        if self.is_ours() {
            // With calls in flight the kernel keeps the registration until
            // the engine ends; there is nobody to tell.
            let _ = device::unregister(self.engine.as_fd(), self.id);
        }
    }
}

/// The engine's descriptor: it polls readable while results are there.
impl AsFd for Pages {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.engine.as_fd()
    }
}

impl AsRawFd for Pages {
    fn as_raw_fd(&self) -> RawFd {
        self.engine.as_raw_fd()
    }
}

impl fmt::Debug for Pages {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pages")
            .field("id", &self.id)
            .field("capacity", &self.capacity())
            .field("in_flight", &self.in_flight())
            .finish_non_exhaustive()
    }
}
