// SPDX-License-Identifier: GPL-2.0

//! How long a registration's memory is in use: while it is registered or mapped, and after that
//! until the last thread that executes its entries drops it. The memory is charged until it is
//! freed.

use super::Pages;
use crate::sys::miscdev::Mapped;
use core::sync::atomic::Ordering;
use kernel::prelude::*;
use kernel::uapi;

/// Bytes of a syscall page.
const PAGE: usize = uapi::FLEXSC_PAGE_SIZE as usize;

/// Mappings of registrations begin at multiples of this number of pages of the file.
const STRIDE: usize = (1 << 20) / PAGE;

/// Returns the registration whose mapping begins at this page of the file, if any can.
pub(crate) fn id_at(page_offset: usize) -> Option<usize> {
    (page_offset % STRIDE == 0).then_some(page_offset / STRIDE)
}

/// In [`Pages::mapped`], besides the number of mappings.
const UNREGISTERED: u32 = 1 << 31;

impl Pages {
    /// Returns the offset in the file, in bytes, at which the mapping begins.
    pub(crate) fn offset(&self) -> u64 {
        (self.page_offset() * PAGE) as u64
    }

    /// Notes that the registration has ended and left the engine's table. Must be called once.
    pub(crate) fn unregistered(&self) {
        // ORDERING: Each change of the word is atomic, and nothing else depends on it.
        if self.mapped.fetch_or(UNREGISTERED, Ordering::Relaxed) == 0 {
            self.charge.ends();
        }
    }
}

impl Mapped for Pages {
    fn page_offset(&self) -> usize {
        self.id() as usize * STRIDE
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
