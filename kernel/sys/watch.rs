// SPDX-License-Identifier: GPL-2.0

//! Noticing that a process has no thread left that runs in user space.

use super::c;
use core::{ffi::c_void, marker::PhantomData, ptr::NonNull};
use kernel::prelude::*;
use kernel::sync::{Arc, ArcBorrow};
use kernel::types::ForeignOwnable;

/// What wants to know.
pub(crate) trait Watched: Send + Sync + 'static {
    /// The process has only syscall threads left. Called once, by a kernel worker.
    fn orphaned(this: ArcBorrow<'_, Self>);
}

/// Watches the process that has made it. See `watch.c`.
///
/// # Invariants
///
/// `watch` is from `flexsc_watch_new`, `data` from `into_foreign`; both are owned.
pub(crate) struct Watch<T: Watched> {
    watch: NonNull<c::flexsc_watch>,
    data: *const c_void,
    _t: PhantomData<Arc<T>>,
}

// SAFETY: `T` is shared with the worker anyway, and the C side may be freed anywhere.
unsafe impl<T: Watched> Send for Watch<T> {}
// SAFETY: There is nothing to do with a reference.
unsafe impl<T: Watched> Sync for Watch<T> {}

impl<T: Watched> Watch<T> {
    /// Watches the current process until this is dropped, which may sleep.
    pub(crate) fn current(watched: Arc<T>) -> Result<Self> {
        let data = watched.into_foreign().cast::<c_void>();
        // SAFETY: `data` is valid for `orphaned` until `drop`.
        let watch = unsafe { c::flexsc_watch_new(Self::orphaned, data.cast_mut()) };
        match NonNull::new(watch) {
            // INVARIANT: As above; nobody else has them.
            Some(watch) => Ok(Watch {
                watch,
                data,
                _t: PhantomData,
            }),
            None => {
                // SAFETY: From `into_foreign`, and not used anywhere.
                drop(unsafe { Arc::<T>::from_foreign(data.cast()) });
                Err(ENOMEM)
            }
        }
    }

    unsafe extern "C" fn orphaned(data: *mut c_void) {
        // SAFETY: From `into_foreign` in `current`; `drop` takes it back after this.
        T::orphaned(unsafe { Arc::<T>::borrow(data.cast()) });
    }
}

impl<T: Watched> Drop for Watch<T> {
    fn drop(&mut self) {
        // SAFETY: By the invariant it is owned.
        unsafe { c::flexsc_watch_free(self.watch.as_ptr()) };
        // SAFETY: By the invariant it is from `into_foreign`, and nobody uses it any more.
        drop(unsafe { Arc::<T>::from_foreign(self.data.cast()) });
    }
}
