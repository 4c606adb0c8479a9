// SPDX-License-Identifier: MIT OR Apache-2.0
//! One registration of an engine, and cancelling what was posted in it.

use std::os::fd::AsFd;
use std::sync::{Arc, Mutex, PoisonError};

use nix::errno::Errno;

#[cfg(doc)]
use crate::Pages;
use crate::engine::Shared;
use crate::sys::device;
use crate::{Error, Slot};

/// What `Pages` and their [`Canceller`]s have in common.
#[derive(Debug)]
pub(crate) struct Registration {
    pub(crate) engine: Arc<Shared>,
    pub(crate) id: u32,
    /// The number is that of these pages. The kernel gives it to others once
    /// they are unregistered: nobody may cancel by it any more. Held while the
    /// number is used, so that it means the same from beginning to end.
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

    /// UNREGISTER. On success the number is nobody's any more.
    pub(crate) fn unregister(&self) -> Result<(), Errno> {
        if !self.engine.in_same_process() {
            // The lock may be held by a thread that only the parent has.
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
            Err(Errno::ENOTTY) => Err(Error::TooOld("how to cancel calls")),
            Err(errno) => Err(self.engine.error("cancel a call", errno)),
        }
    }
}

/// Cancels calls of [`Pages`], from any thread of the process.
#[derive(Clone, Debug)]
pub struct Canceller {
    registration: Arc<Registration>,
}

impl Canceller {
    pub(crate) fn new(registration: Arc<Registration>) -> Canceller {
        Canceller { registration }
    }

    /// As [`Pages::cancel`]. If the slot holds another call of the same pages by
    /// now, that one is cancelled. False when the pages are gone.
    ///
    /// # Errors
    ///
    /// As [`Pages::cancel`].
    pub fn cancel(&self, slot: Slot) -> Result<bool, Error> {
        self.registration.cancel(slot)
    }
}
