// SPDX-License-Identifier: GPL-2.0

//! Whom a registration's memory is charged to, and until when: as long as it is registered or
//! mapped, whichever ends last.

use super::Pages;
use crate::{
    quota::Quota,
    sys::{
        miscdev::Mapped,
        process::{self, Process},
    },
};
use core::sync::atomic::Ordering;
use kernel::prelude::*;
use kernel::sync::Arc;
use kernel::uapi;

/// In [`Pages::mapped`], besides the number of mappings.
const UNREGISTERED: u32 = 1 << 31;

/// Whom all registrations of an engine are charged to.
pub(crate) struct Account {
    quota: Arc<Quota>,
    /// Who opened the engine.
    user: u32,
    process: Process,
}

impl Account {
    /// The current process and its user.
    pub(crate) fn current(quota: Arc<Quota>) -> Result<Self> {
        Ok(Account {
            quota,
            user: process::current_user(),
            process: Process::current()?,
        })
    }

    /// Charges a new registration. `ENOSPC` and `ENOMEM` at the limits.
    pub(crate) fn register(&self, pages: &Pages) -> Result {
        self.quota.charge(self.user, pages.len())?;
        if let Err(e) = self.process.charge_pinned(pinned(pages)) {
            self.quota.uncharge(self.user, pages.len());
            return Err(e);
        }
        Ok(())
    }

    /// A registration has ended: its charge does too, or else with its last mapping.
    pub(crate) fn unregister(&self, pages: &Pages) {
        // ORDERING: Each change of the word is atomic, and nothing else depends on it.
        if pages.mapped.fetch_or(UNREGISTERED, Ordering::Relaxed) == 0 {
            self.give_back(pages);
        }
    }

    fn give_back(&self, pages: &Pages) {
        self.quota.uncharge(self.user, pages.len());
        self.process.uncharge_pinned(pinned(pages));
    }
}

/// Pages of memory that count as pinned.
fn pinned(pages: &Pages) -> usize {
    pages.area().len() / uapi::FLEXSC_PAGE_SIZE as usize
}

impl Mapped for Pages {
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
            self.account.give_back(self);
        }
    }
}
