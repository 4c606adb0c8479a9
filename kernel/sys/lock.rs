// SPDX-License-Identifier: GPL-2.0

//! A raw spinlock around data, which the scheduler's hook may take.
//!
//! Lock order: pool, then pages; slots, then pages.

use super::c;
use core::{
    cell::UnsafeCell,
    marker::PhantomData,
    mem::MaybeUninit,
    ops::{Deref, DerefMut},
};
use kernel::bindings::raw_spinlock_t;

/// The kind of a lock, a class for lockdep.
#[derive(Clone, Copy)]
pub(crate) enum Class {
    /// A registration's pages.
    Pages,
    /// An engine's pool of threads.
    Pool,
    /// An engine's table of registrations.
    Slots,
}

/// Warns in the kernel log, once, about an event that should be impossible.
#[cold]
pub(crate) fn warn_once() {
    // SAFETY: No preconditions.
    unsafe { c::flexsc_warn() }
}

/// Data protected by a `raw_spinlock_t`.
///
/// # Invariants
///
/// `lock` is initialised. It has no pointer to itself, so it may be moved while it is not held,
/// which the borrow of a [`Guard`] ensures.
pub(crate) struct RawLock<T> {
    lock: UnsafeCell<raw_spinlock_t>,
    data: UnsafeCell<T>,
}

// SAFETY: The lock serialises all access to the data.
unsafe impl<T: Send> Send for RawLock<T> {}
// SAFETY: As above.
unsafe impl<T: Send> Sync for RawLock<T> {}

impl<T> RawLock<T> {
    pub(crate) fn new(data: T, class: Class) -> Self {
        let mut lock = MaybeUninit::<raw_spinlock_t>::zeroed();
        let init = match class {
            Class::Pages => c::flexsc_lock_init_pages,
            Class::Pool => c::flexsc_lock_init_pool,
            Class::Slots => c::flexsc_lock_init_slots,
        };
        // SAFETY: The pointer is valid for writes.
        unsafe { init(lock.as_mut_ptr()) };
        // INVARIANT: The lock was initialised just now.
        RawLock {
            // SAFETY: As above.
            lock: UnsafeCell::new(unsafe { lock.assume_init() }),
            data: UnsafeCell::new(data),
        }
    }

    /// Spins until the lock is free and takes it. Preemption is off until the guard is dropped.
    pub(crate) fn lock(&self) -> Guard<'_, T> {
        // SAFETY: By the type invariant the lock is initialised.
        unsafe { c::flexsc_lock(self.lock.get()) };
        Guard {
            lock: self,
            _not_send: PhantomData,
        }
    }
}

/// The right to use the data until the guard is dropped.
pub(crate) struct Guard<'a, T> {
    lock: &'a RawLock<T>,
    _not_send: PhantomData<*mut ()>,
}

impl<T> Deref for Guard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        // SAFETY: The guard owns the lock.
        unsafe { &*self.lock.data.get() }
    }
}

impl<T> DerefMut for Guard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: The guard owns the lock.
        unsafe { &mut *self.lock.data.get() }
    }
}

impl<T> Drop for Guard<'_, T> {
    fn drop(&mut self) {
        // SAFETY: The guard owns the lock.
        unsafe { c::flexsc_unlock(self.lock.lock.get()) };
    }
}
