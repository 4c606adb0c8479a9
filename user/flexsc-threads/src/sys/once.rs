// SPDX-License-Identifier: MIT OR Apache-2.0
//! A value that is set once, while there is one thread, and read by all.

use core::cell::UnsafeCell;
use core::sync::atomic::{
    AtomicBool,
    Ordering::{Acquire, Release},
};

/// Reading it takes no lock: a child of vfork shares its parent's memory, but not its locks.
pub(crate) struct Once<T> {
    is_set: AtomicBool,
    value: UnsafeCell<T>,
}

// SAFETY: The value is written once, before `is_set`, and read only afterwards.
unsafe impl<T: Copy + Sync> Sync for Once<T> {}

impl<T: Copy> Once<T> {
    /// The value before it is set is `unset`.
    pub(crate) const fn new(unset: T) -> Self {
        Once {
            is_set: AtomicBool::new(false),
            value: UnsafeCell::new(unset),
        }
    }

    /// Sets the value. Only the first call has an effect, and must not run concurrently with
    /// another.
    pub(crate) fn set(&self, value: T) {
        if !self.is_set.load(Acquire) {
            // SAFETY: Nothing reads the value before `is_set`.
            unsafe { *self.value.get() = value };
            self.is_set.store(true, Release);
        }
    }

    pub(crate) fn get(&self) -> Option<T> {
        // SAFETY: Nothing writes the value after `is_set`.
        let value = || unsafe { *self.value.get() };
        self.is_set.load(Acquire).then(value)
    }
}
