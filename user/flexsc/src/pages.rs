// SPDX-License-Identifier: MIT OR Apache-2.0
//! Registered syscall pages: post, poll, wait.

#![expect(unsafe_code, reason = "posting is a promise about memory")]

use std::fmt;
use std::marker::PhantomData;
use std::mem;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use nix::errno::Errno;

use crate::board::Board;
use crate::call::{Call, Completion, Reason, Slot};
use crate::cancel::Canceller;
use crate::chain::{Chain, Slots};
use crate::engine::Shared;
use crate::sys::abi::{flexsc_ctrl, flexsc_entry};
use crate::sys::device;
use crate::sys::region::{Answer, Region};
use crate::{Error, Wait, fallback, wait};

/// Syscall pages of the thread that registered them, and of no other.
///
/// The pages go when the value is dropped, unless calls are in flight: those
/// keep them in the kernel until the engine ends.
pub struct Pages {
    // Dropped in this order: the mapping, then the engine.
    board: Board,
    engine: Arc<Shared>,
    id: u32,
    /// That of the engine, at hand.
    fd: RawFd,
    /// flexsc_wait(2) works here, as far as is known.
    by_call: bool,
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
    pub(crate) fn new(engine: Arc<Shared>, id: u32, region: Region) -> Self {
        // The fast word has 16 bits for the registration.
        let by_call = id <= 0xffff && !engine.by_ioctl.load(Ordering::Relaxed);
        Pages {
            board: Board::new(region),
            fd: engine.fd.as_raw_fd(),
            by_call,
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
    #[inline(always)]
    pub unsafe fn stage(&mut self, call: Call) -> Option<Slot> {
        self.board.stage(&call)
    }

    /// Writes the calls of a chain into entries side by side, without ringing
    /// the doorbell. Each call has a result of its own. Calls of chains that
    /// the kernel refuses are not made plainly: [`Chain::make`] does that.
    ///
    /// # Errors
    ///
    /// [`Error::BadChain`]; [`Error::NoRoom`] where no page has enough free
    /// entries side by side.
    ///
    /// # Safety
    ///
    /// As for [`stage`](Self::stage), with each of its calls.
    pub unsafe fn stage_chain(&mut self, chain: &Chain) -> Result<Slots, Error> {
        chain.check()?;
        let slots = self.board.stage_chain(chain);
        slots.ok_or(Error::NoRoom(chain.len()))
    }

    /// Posts all that is staged, with one store for each page touched.
    #[inline(always)]
    pub fn ring(&mut self) {
        self.board.ring();
    }

    /// [`stage`](Self::stage) and [`ring`](Self::ring) in one.
    ///
    /// # Safety
    ///
    /// As for [`stage`](Self::stage).
    #[inline(always)]
    pub unsafe fn post(&mut self, call: Call) -> Option<Slot> {
        let slot = self.board.stage(&call)?;
        self.board.ring();
        Some(slot)
    }

    /// Takes the next result, if there is one. Reads memory, no trap. The
    /// kernel, and with it [`poll(2)`](AsFd), learns of the results that were
    /// taken when there are no more, and with the next wait.
    #[inline(always)]
    pub fn poll(&mut self) -> Option<Completion> {
        let (slot, answer) = self.board.poll()?;
        Some(self.completion(slot, answer))
    }

    /// Takes the results that are there, looking once on each page: cheaper
    /// than [`poll`](Self::poll) until it says `None`. Those that are not taken
    /// stay.
    #[inline(always)]
    pub fn drain(&mut self) -> Drain<'_> {
        let rest = self.board.look_here();
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

    /// Makes a plain call in place of a refused one, if that is wanted.
    #[cold]
    #[inline(never)]
    fn refused(&mut self, slot: Slot, mut result: i64, reason: u8) -> Completion {
        let reason = Reason::from_raw(reason);
        if self.fallback && fallback::applies(result, reason) {
            if let Some(call) = self.board.single_call(slot) {
                self.fallbacks += 1;
                // SAFETY: whoever posted it has promised that it is good until
                // its completion is taken, which is now.
                result = unsafe { fallback::make(&call) };
            }
        }
        Completion {
            slot,
            result,
            reason,
        }
    }

    /// Whether a result is there to be taken. Reads memory, no trap.
    #[must_use]
    pub fn has_result(&self) -> bool {
        self.board.has_result()
    }

    /// Posts what is staged, has the kernel execute it, and sleeps until the
    /// policy is satisfied. Returns how many results there are to take. Costs
    /// one trap, and none where nothing was staged, the results are there
    /// already and nothing is left to execute.
    ///
    /// The trap is flexsc_wait(2), and the ioctl where the kernel or a seccomp
    /// filter refuses that call with an error; a filter that kills must be told
    /// of it ([`set_wait_by_ioctl`](Self::set_wait_by_ioctl)).
    ///
    /// # Errors
    ///
    /// [`Error::TimedOut`], [`Error::Interrupted`], [`Error::NothingToWaitFor`],
    /// [`Error::NotTheOwner`] in a child after fork.
    #[inline(always)]
    pub fn wait(&mut self, wait: Wait) -> Result<usize, Error> {
        let rang = self.board.ring();
        self.board.tell();
        if !rang {
            return self.wait_idle(wait.parts());
        }
        if !(self.by_call && wait.is_timeless()) {
            return self.wait_by_ioctl(wait.parts());
        }
        let there = device::wait_call(self.fd, wait.fast(self.id));
        if there >= 0 {
            return Ok(there as usize);
        }
        self.wait_failed(wait.parts(), there)
    }

    /// Nothing was staged: a trap is needed only where the results that are
    /// there are not enough, or something is left to execute.
    #[cold]
    #[inline(never)]
    fn wait_idle(&mut self, wait: wait::Parts) -> Result<usize, Error> {
        let look = self.board.look();
        let full = Wait::from_parts(wait);
        if !look.pending && full.satisfied(look.finished, look.all) {
            return Ok(look.finished);
        }
        if !(self.by_call && full.is_timeless()) {
            return self.wait_by_ioctl(wait);
        }
        let there = device::wait_call(self.fd, full.fast(self.id));
        usize::try_from(there).or_else(|_| self.wait_failed(wait, there))
    }

    /// flexsc_wait(2) has failed.
    #[cold]
    #[inline(never)]
    fn wait_failed(&mut self, wait: wait::Parts, result: i64) -> Result<usize, Error> {
        let errno = Errno::from_raw(-result as i32);
        // ENOSYS: no such call; ENOTTY: the module does not serve it; EPERM: a
        // filter, or the caller is not the owner.
        if !matches!(errno, Errno::ENOSYS | Errno::ENOTTY | Errno::EPERM) {
            return Err(Self::wait_error(errno));
        }
        let result = self.wait_by_ioctl(wait);
        let same = matches!(&result, Err(error) if error.errno() == errno as i32);
        if !same {
            self.engine.by_ioctl.store(true, Ordering::Relaxed);
            self.by_call = false;
        }
        result
    }

    #[cold]
    #[inline(never)]
    fn wait_by_ioctl(&mut self, wait: wait::Parts) -> Result<usize, Error> {
        let wait = Wait::from_parts(wait);
        let fd = self.engine.fd.as_fd();
        let result = if wait.is_timeless() && self.id <= 0xffff {
            device::wait_fast(fd, wait.fast(self.id))
        } else {
            device::wait(fd, wait.full(self.id))
        };
        result.map_err(Self::wait_error)
    }

    fn wait_error(errno: Errno) -> Error {
        match errno {
            Errno::ETIME => Error::TimedOut,
            Errno::EINTR => Error::Interrupted,
            Errno::EDEADLK => Error::NothingToWaitFor,
            errno => Self::any_error("wait", errno),
        }
    }

    /// Whether [`wait`](Self::wait) uses the ioctl alone: for programs under a
    /// seccomp filter that kills who makes a call that it does not know, and
    /// for comparisons. It does by itself where flexsc_wait(2) fails.
    pub fn set_wait_by_ioctl(&mut self, on: bool) {
        self.by_call = !on && self.id <= 0xffff;
    }

    /// Ends a posted call as a signal would end a plain one: with EINTR or a
    /// partial result, with ECANCELED and [`Reason::Cancelled`] if it has not
    /// begun, with its result if it is too late. The result comes as ever.
    /// Says whether the call was found unfinished.
    ///
    /// # Errors
    ///
    /// [`Error::NotTheOwner`], [`Error::TooOld`].
    pub fn cancel(&self, slot: Slot) -> Result<bool, Error> {
        self.canceller().cancel(slot)
    }

    /// For other threads of the process, which can cancel calls while this one
    /// waits.
    #[must_use]
    pub fn canceller(&self) -> Canceller {
        Canceller::new(Arc::clone(&self.engine), self.id)
    }

    /// Wakes the kernel: it takes what is posted.
    ///
    /// # Errors
    ///
    /// [`Error::NotTheOwner`] in a child after fork.
    pub fn kick(&self) -> Result<(), Error> {
        device::kick(self.engine.fd.as_fd(), self.id)
            .map_err(|errno| Self::any_error("kick", errno))
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
        match device::unregister(self.engine.fd.as_fd(), self.id) {
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

    pub(crate) fn any_error(doing: &'static str, errno: Errno) -> Error {
        match errno {
            Errno::EPERM => Error::NotTheOwner,
            Errno::ENOENT => Error::Unknown,
            errno => Error::other(doing, errno),
        }
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
        loop {
            let board = &mut self.pages.board;
            if let Some((slot, answer)) = board.poll_seen() {
                return Some(self.pages.completion(slot, answer));
            }
            if self.rest == 0 {
                board.tell();
                return None;
            }
            if !board.look_on(&mut self.rest) {
                return None;
            }
        }
    }
}

impl Drop for Pages {
    fn drop(&mut self) {
        if self.is_ours() {
            // With calls in flight the kernel keeps the registration until
            // the engine ends; there is nobody to tell.
            let _ = device::unregister(self.engine.fd.as_fd(), self.id);
        }
    }
}

/// The engine's descriptor: it polls readable while results are there.
impl AsFd for Pages {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.engine.fd.as_fd()
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
            .field("id", &self.id)
            .field("capacity", &self.capacity())
            .field("in_flight", &self.in_flight())
            .finish_non_exhaustive()
    }
}
