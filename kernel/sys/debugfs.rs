// SPDX-License-Identifier: GPL-2.0

//! A file in debugfs for each engine.

use super::{c, lines::Lines};
use core::{
    ffi::c_void,
    marker::PhantomData,
    ptr::{self, NonNull},
    sync::atomic::{AtomicPtr, Ordering},
};
use kernel::bindings::seq_file;
use kernel::sync::Arc;
use kernel::types::ForeignOwnable;

/// What a file shows.
pub(crate) trait Show: Send + Sync + Sized + 'static {
    fn show(&self, lines: &Lines);
}

/// The module's directory. Dropped after all files, it removes the directory.
pub(crate) struct Dir(());

impl Dir {
    pub(crate) fn new() -> Self {
        // SAFETY: Called once, by the module's init.
        unsafe { c::flexsc_debug_init() };
        Dir(())
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        // SAFETY: The module is being unloaded, so no engine is left.
        unsafe { c::flexsc_debug_exit() };
    }
}

/// The file of a `T`, of which the file may be a part.
///
/// # Invariants
///
/// Null, or from `flexsc_debug_add` with an `Arc<T>` as data.
pub(crate) struct Entry<T> {
    entry: AtomicPtr<c::flexsc_debug>,
    _t: PhantomData<T>,
}

impl<T: Show> Entry<T> {
    /// Creates the handle, without a file.
    pub(crate) fn new() -> Self {
        // INVARIANT: Null.
        Entry {
            entry: AtomicPtr::new(ptr::null_mut()),
            _t: PhantomData,
        }
    }

    /// Creates the file, named after the process and `number`, which holds `of` until
    /// [`Self::remove`]. Must be called once. If memory is short, there is no file.
    pub(crate) fn add(&self, number: u32, of: Arc<T>) {
        let data = of.into_foreign();
        // SAFETY: `data` stays valid until `remove` takes it back.
        let entry = unsafe { c::flexsc_debug_add(number, Some(Self::show), data.cast_mut()) };
        if entry.is_null() {
            // SAFETY: The C side has not taken it.
            drop(unsafe { Arc::<T>::from_foreign(data) });
        }
        // INVARIANT: See above.
        self.entry.store(entry, Ordering::Release);
    }

    /// Removes the file, after its last reader is gone.
    pub(crate) fn remove(&self) {
        let entry = self.entry.swap(ptr::null_mut(), Ordering::AcqRel);
        if let Some(entry) = NonNull::new(entry) {
            // SAFETY: By the invariant, and swapped out: no other task removes it.
            let data = unsafe { c::flexsc_debug_remove(entry.as_ptr()) };
            // SAFETY: By the invariant from `into_foreign`; the file is gone, so `show` is not
            // called.
            drop(unsafe { Arc::<T>::from_foreign(data) });
        }
    }

    /// # Safety
    ///
    /// Called by `helpers/debug.c` with the data that `add` has set, before `remove` returns, and
    /// with the `seq_file` that it writes.
    unsafe extern "C" fn show(m: *mut seq_file, data: *mut c_void) {
        // SAFETY: The data is an `Arc<T>` that `remove` takes back after this has returned.
        let this = unsafe { Arc::<T>::borrow(data) };
        T::show(&this, &Lines(m));
    }
}
