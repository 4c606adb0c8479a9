// SPDX-License-Identifier: GPL-2.0

//! Programs that learn of results by poll(), epoll or an eventfd.

use super::Pages;
use crate::sys::{arch, notify::Notifier, once::OnceTable};
use kernel::prelude::*;
use kernel::sync::Arc;

/// Who is told of results, besides an owner in WAIT.
pub(super) struct Notifiers {
    /// Told of the results of all registrations.
    engine: Arc<Notifier>,
    /// Told of this registration's results only, if a program has asked for it.
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
    /// Tells programs that wait with poll(), epoll or an eventfd.
    #[inline(always)]
    pub(super) fn notify(&self) {
        // Pairs with the barriers of those who wait: they look at the results after it.
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
