// SPDX-License-Identifier: MIT OR Apache-2.0
//! A registration of an engine, and the cancellation of its posted calls.

use std::os::fd::AsFd;
use std::sync::{Arc, Mutex, PoisonError};

use nix::errno::Errno;

#[cfg(doc)]
use crate::Pages;
use crate::engine::Shared;
use crate::sys::device;
use crate::{Error, Slot};

/// State shared by `Pages` and their [`Canceller`]s.
#[derive(Debug)]
pub(crate) struct Registration {
    pub(crate) engine: Arc<Shared>,
    pub(crate) id: u32,
    /// True while `id` is the number of these pages. After UNREGISTER the kernel may give
    /// the number to another registration, so it must no longer be used to cancel calls.
    /// The lock is held while the number is used, so that its meaning cannot change in
    /// between.
    live: Mutex<bool>,
}

impl Registration {
    pub(crate) fn new(engine: Arc<Shared>, id: u32) -> Self {
        Registration {
            engine,
            id,
            live: Mutex::new(true),
        }
    }

    /// UNREGISTER. On success the number no longer belongs to these pages.
    pub(crate) fn unregister(&self) -> Result<(), Errno> {
        if !self.engine.in_same_process() {
            // A thread that exists only in the parent may hold the lock.
            return Err(Errno::EPERM);
        }
        let mut live = self.live.lock().unwrap_or_else(PoisonError::into_inner);
        device::unregister(self.engine.fd.as_fd(), self.id)?;
        *live = false;
        Ok(())
    }

    fn cancel(&self, slot: Slot) -> Result<bool, Error> {
        if !self.engine.in_same_process() {
            return Err(Error::NotTheOwner);
        }
        let live = self.live.lock().unwrap_or_else(PoisonError::into_inner);
        if !*live {
            return Ok(false);
        }
        match device::cancel(self.engine.fd.as_fd(), self.id, slot.index() as u32) {
            Ok(()) => Ok(true),
            Err(Errno::ENOENT) => Ok(false),
            Err(Errno::ENOTTY) => Err(Error::TooOld("CANCEL")),
            Err(errno) => Err(self.engine.error("cancel a call", errno)),
        }
    }
}

/// Cancels calls of [`Pages`] from any thread of the process.
#[derive(Clone, Debug)]
pub struct Canceller {
    registration: Arc<Registration>,
}

impl Canceller {
    pub(crate) fn new(registration: Arc<Registration>) -> Canceller {
        Canceller { registration }
    }

    /// Like [`Pages::cancel`]. If the slot meanwhile holds another call of the same pages,
    /// that call is cancelled. Returns false if the pages no longer exist.
    ///
    /// # Errors
    ///
    /// As [`Pages::cancel`].
    pub fn cancel(&self, slot: Slot) -> Result<bool, Error> {
        self.registration.cancel(slot)
    }
}
