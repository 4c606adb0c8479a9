// SPDX-License-Identifier: MIT OR Apache-2.0
//! Cancelling calls that are posted.

use std::os::fd::AsFd;
use std::sync::Arc;

use nix::errno::Errno;

use crate::engine::Shared;
use crate::sys::device;
use crate::{Error, Pages, Slot};

/// Cancels calls of [`Pages`], from any thread of the process.
#[derive(Clone, Debug)]
pub struct Canceller {
    engine: Arc<Shared>,
    id: u32,
}

impl Canceller {
    pub(crate) fn new(engine: Arc<Shared>, id: u32) -> Canceller {
        Canceller { engine, id }
    }

    /// As [`Pages::cancel`]. Where the slot holds another call by now, that one
    /// is cancelled.
    ///
    /// # Errors
    ///
    /// As [`Pages::cancel`].
    pub fn cancel(&self, slot: Slot) -> Result<bool, Error> {
        match device::cancel(self.engine.fd.as_fd(), self.id, slot.index() as u32) {
            Ok(()) => Ok(true),
            Err(Errno::ENOENT) => Ok(false),
            Err(Errno::ENOTTY) => Err(Error::TooOld("how to cancel calls")),
            Err(errno) => Err(Pages::any_error("cancel a call", errno)),
        }
    }
}
