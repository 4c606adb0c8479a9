// SPDX-License-Identifier: GPL-2.0

//! How long a registration's memory is in use: as long as it is registered or mapped, and then
//! until the last thread that executes something of it lets go. It is charged until it is freed.

use super::Pages;
use crate::{device, sys::miscdev::Mapped};
use core::sync::atomic::Ordering;
use kernel::prelude::*;

/// In [`Pages::mapped`], besides the number of mappings.
const UNREGISTERED: u32 = 1 << 31;

impl Pages {
    /// The registration has ended, and was removed from the engine's table. To be called once.
    pub(crate) fn unregistered(&self) {
        // ORDERING: Each change of the word is atomic, and nothing else depends on it.
        if self.mapped.fetch_or(UNREGISTERED, Ordering::Relaxed) == 0 {
            self.charge.ends();
        }
    }
}

impl Mapped for Pages {
    fn page_offset(&self) -> usize {
        device::page_offset(self.id())
    }

    fn map(&self) -> Result {
        let more = |mapped: u32| (mapped & UNREGISTERED == 0).then(|| mapped.wrapping_add(1));
        match self
            .mapped
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, more)
        {
            Ok(_) => Ok(()),
            Err(_) => Err(EINVAL),
        }
    }

    fn map_again(&self) {
        self.mapped.fetch_add(1, Ordering::Relaxed);
    }

    fn unmap(&self) {
        if self.mapped.fetch_sub(1, Ordering::Relaxed) == UNREGISTERED | 1 {
            self.charge.ends();
        }
    }
}
