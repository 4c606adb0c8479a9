// SPDX-License-Identifier: GPL-2.0

//! A table whose slots are filled once each, and then read without a lock.

use super::arch;
use core::ptr;
use core::sync::atomic::{AtomicPtr, Ordering};
use kernel::prelude::*;

/// See the module's documentation.
///
/// # Invariants
///
/// Each slot is null or from `KBox::into_raw`. An item stays until the table is dropped.
pub(crate) struct OnceTable<T, const N: usize> {
    slots: [AtomicPtr<T>; N],
}

// SAFETY: The table owns its items and hands out shared references only.
unsafe impl<T: Send + Sync, const N: usize> Send for OnceTable<T, N> {}
// SAFETY: As above.
unsafe impl<T: Send + Sync, const N: usize> Sync for OnceTable<T, N> {}

impl<T, const N: usize> OnceTable<T, N> {
    pub(crate) fn new() -> Self {
        // INVARIANT: All null.
        OnceTable {
            slots: [const { AtomicPtr::new(ptr::null_mut()) }; N],
        }
    }

    /// Returns the item in slot `i`. Allowed in the scheduler's hook.
    pub(crate) fn get(&self, i: usize) -> Option<&T> {
        // ORDERING: Pairs with the release in `put`: the item is seen as it was created.
        let item = arch::get(&self.slots, i)?.load(Ordering::Acquire);
        // SAFETY: By the invariant null, or valid as long as the table is.
        unsafe { item.as_ref() }
    }

    /// As [`Self::get`], for the first slot.
    #[inline(always)]
    pub(crate) fn first(&self) -> Option<&T> {
        // ORDERING: As above.
        let item = self.slots.first()?.load(Ordering::Acquire);
        // SAFETY: As above.
        unsafe { item.as_ref() }
    }

    /// Puts `item` into slot `i`. If another item is there already it stays, and `item` is
    /// dropped. Fails with `EINVAL` if there is no such slot.
    pub(crate) fn put(&self, i: usize, item: KBox<T>) -> Result {
        let slot = arch::get(&self.slots, i).ok_or(EINVAL)?;
        let raw = KBox::into_raw(item);
        let old = slot.compare_exchange(
            ptr::null_mut(),
            raw,
            // ORDERING: Pairs with the acquire in `get`.
            Ordering::Release,
            Ordering::Relaxed,
        );
        if old.is_err() {
            // SAFETY: From `into_raw` above, and no other task has seen it.
            drop(unsafe { KBox::from_raw(raw) });
        }
        Ok(())
    }
}

impl<T, const N: usize> Drop for OnceTable<T, N> {
    fn drop(&mut self) {
        for slot in &mut self.slots {
            let item = *slot.get_mut();
            if !item.is_null() {
                // SAFETY: By the invariant from `into_raw`, and the table is gone for others.
                drop(unsafe { KBox::from_raw(item) });
            }
        }
    }
}
