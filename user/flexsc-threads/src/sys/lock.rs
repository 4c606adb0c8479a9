// SPDX-License-Identifier: MIT OR Apache-2.0
//! A lock that a fork cannot leave locked.

use core::cell::UnsafeCell;
use core::sync::atomic::{
    AtomicU32,
    Ordering::{Acquire, Relaxed, Release},
};

use crate::sys::raw;

/// A value that is used by one thread at a time, whose signals are blocked.
pub(crate) struct Lock<T> {
    /// The process whose thread holds the lock; 0: it is free.
    holder: AtomicU32,
    value: UnsafeCell<T>,
}

// SAFETY: `with` gives the value to one thread at a time.
unsafe impl<T: Send> Sync for Lock<T> {}

impl<T> Lock<T> {
    pub(crate) const fn new(value: T) -> Self {
        Lock {
            holder: AtomicU32::new(0),
            value: UnsafeCell::new(value),
        }
    }

    /// Runs `work` with the value. `work` must not call `with` again.
    pub(crate) fn with<R>(&self, work: impl FnOnce(&mut T) -> R) -> R {
        raw::without_signals(|| {
            let me = raw::getpid();
            loop {
                let holder = self.holder.load(Relaxed);
                // If another process holds the lock, a thread of our parent held it during the
                // fork. That thread does not exist here.
                let is_free = holder == 0 || holder != me;
                if is_free
                    && self
                        .holder
                        .compare_exchange(holder, me, Acquire, Relaxed)
                        .is_ok()
                {
                    break;
                }
                raw::yield_cpu();
            }
            // SAFETY: This thread holds the lock, so no other one has a reference.
            let value = unsafe { &mut *self.value.get() };
            let result = work(value);
            self.holder.store(0, Release);
            result
        })
    }
}
