// SPDX-License-Identifier: GPL-2.0

//! A slot for one item, in which its user leaves the item for a while.

use core::ptr;
use core::sync::atomic::{AtomicPtr, Ordering};
use kernel::prelude::*;

/// See the module's documentation.
///
/// # Invariants
///
/// The pointer is null, or from `KBox::into_raw` and the only owner of the item.
pub(crate) struct Slot<T>(AtomicPtr<T>);

// SAFETY: The slot owns its item and hands it out as a whole.
unsafe impl<T: Send> Send for Slot<T> {}
// SAFETY: As above.
unsafe impl<T: Send> Sync for Slot<T> {}

impl<T> Slot<T> {
    pub(crate) const fn new() -> Self {
        // INVARIANT: Null.
        Slot(AtomicPtr::new(ptr::null_mut()))
    }

    /// Leaves `item`. Returns the item that was there before.
    pub(crate) fn put(&self, item: KBox<T>) -> Option<KBox<T>> {
        self.swap(KBox::into_raw(item))
    }

    /// Takes the item out of the slot, if there is one.
    pub(crate) fn take(&self) -> Option<KBox<T>> {
        self.swap(ptr::null_mut())
    }

    /// Returns true if the slot is empty now. Another task may fill it at any time.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.load(Ordering::Relaxed).is_null()
    }

    fn swap(&self, new: *mut T) -> Option<KBox<T>> {
        // ORDERING: A task that takes an item sees it as it was left.
        let old = self.0.swap(new, Ordering::AcqRel);
        // SAFETY: By the invariant from `into_raw`; the swap has made it ours alone.
        (!old.is_null()).then(|| unsafe { KBox::from_raw(old) })
    }
}

impl<T> Drop for Slot<T> {
    fn drop(&mut self) {
        drop(self.take());
    }
}
