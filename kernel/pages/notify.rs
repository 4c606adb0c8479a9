// SPDX-License-Identifier: GPL-2.0

//! Notifies programs of results through poll(), epoll or an eventfd.

use super::Pages;
use crate::sys::{arch, notify::Notifier, once::OnceTable};
use kernel::prelude::*;
use kernel::sync::Arc;

/// The notifiers of results, besides an owner in WAIT.
pub(super) struct Notifiers {
    /// Signalled for the results of all registrations.
    engine: Arc<Notifier>,
    /// Signalled for this registration's results only, if a program has asked for that.
    own: OnceTable<Notifier, 1>,
}

impl Notifiers {
    pub(super) fn new(engine: Arc<Notifier>) -> Self {
        Notifiers {
            engine,
            own: OnceTable::new(),
        }
    }
}

impl Pages {
    /// Notifies programs that wait with poll(), epoll or an eventfd.
    #[inline(always)]
    pub(super) fn notify(&self) {
        // Pairs with the barriers of the waiters, which look at the results afterwards.
        let barrier = arch::full_barrier();
        self.notifiers.engine.signal(&barrier);
        if let Some(own) = self.notifiers.own.first() {
            own.signal(&barrier);
        }
    }

    /// Signals eventfd `fd` for this registration from now on, or none if it is negative.
    pub(crate) fn set_eventfd(&self, fd: i32) -> Result {
        if self.notifiers.own.get(0).is_none() {
            let new = KBox::new(Notifier::new()?, GFP_KERNEL_ACCOUNT)?;
            self.notifiers.own.put(0, new)?;
        }
        self.notifiers.own.get(0).ok_or(ENOMEM)?.set_eventfd(fd)
    }
}
