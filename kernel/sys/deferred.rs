// SPDX-License-Identifier: GPL-2.0

//! Work that the scheduler's hook leaves to a kworker.

use super::c;
use core::{ffi::c_void, marker::PhantomData, ptr::NonNull};
use kernel::ffi::c_uint;
use kernel::prelude::*;
use kernel::sync::Arc;
use kernel::types::ForeignOwnable;

/// The receiver of the work.
pub(crate) trait Later: Send + Sync + Sized + 'static {
    /// Called by a kworker after [`Trigger::pull`]. Returns the milliseconds after which to call it
    /// again, if at all.
    fn later(&self) -> Option<u32>;

    /// Called by a kworker after [`Trigger::pull_now`].
    fn later_ready(&self);
}

/// Starts the work. See `helpers/deferred.c`.
///
/// # Invariants
///
/// Owns memory from `flexsc_deferred_new`. Its data is null or, between [`Deferred::start`] and
/// [`Deferred::stop`], from `Arc::into_foreign`.
pub(crate) struct Trigger(NonNull<c::flexsc_deferred>);

// SAFETY: The C side locks for itself, and its data may be used and dropped anywhere.
unsafe impl Send for Trigger {}
// SAFETY: As above.
unsafe impl Sync for Trigger {}

impl Trigger {
    /// Starts the work soon. Allowed in the scheduler's hook.
    pub(crate) fn pull(&self) {
        // SAFETY: By the invariant it is valid.
        unsafe { c::flexsc_deferred_trigger(self.0.as_ptr()) };
    }

    /// As [`Self::pull`], for parked calls that are ready: [`Later::later_ready`] is called, without a
    /// pause.
    pub(super) fn pull_now(&self) {
        // SAFETY: By the invariant it is valid.
        unsafe { c::flexsc_deferred_trigger_now(self.0.as_ptr()) };
    }

    pub(super) fn as_ptr(&self) -> *mut c::flexsc_deferred {
        self.0.as_ptr()
    }
}

impl Drop for Trigger {
    fn drop(&mut self) {
        // SAFETY: By the invariant it is owned, and the work no longer runs: it was never
        // started, or was stopped.
        unsafe { c::flexsc_deferred_free(self.0.as_ptr()) };
    }
}

/// Deferred work and its receiver.
///
/// # Invariants
///
/// The data of `trigger`, if any, is an `Arc<T>`.
pub(crate) struct Deferred<T> {
    trigger: Arc<Trigger>,
    _t: PhantomData<T>,
}

impl<T: Later> Deferred<T> {
    /// Work whose trigger does nothing until [`Self::start`].
    pub(crate) fn new() -> Result<Self> {
        // SAFETY: No preconditions.
        let c = NonNull::new(unsafe { c::flexsc_deferred_new() }).ok_or(ENOMEM)?;
        // INVARIANT: Made just now, without data.
        let trigger = Arc::new(Trigger(c), GFP_KERNEL_ACCOUNT)?;
        Ok(Deferred {
            trigger,
            _t: PhantomData,
        })
    }

    /// Returns the trigger of the work.
    pub(crate) fn trigger(&self) -> &Arc<Trigger> {
        &self.trigger
    }

    /// Lets `target` do the work, and holds it until [`Self::stop`]. Must be called once.
    pub(crate) fn start(&self, target: Arc<T>) {
        let data = target.into_foreign().cast_mut();
        // INVARIANT: See above.
        // SAFETY: By the invariant it is valid; `data` stays valid until `stop` takes it back.
        unsafe {
            c::flexsc_deferred_start(
                self.trigger.0.as_ptr(),
                Some(Self::run),
                Some(Self::run_ready),
                data,
            )
        };
    }

    /// Ends the work, and waits for a call of [`Later::later`] to return. Returns the target of
    /// [`Self::start`].
    pub(crate) fn stop(&self) -> Option<Arc<T>> {
        // SAFETY: By the invariant it is valid.
        let data = unsafe { c::flexsc_deferred_stop(self.trigger.0.as_ptr()) };
        if data.is_null() {
            return None;
        }
        // SAFETY: By the invariant from `into_foreign`; after the stop neither `run` nor `run_ready`
        // is called any more.
        Some(unsafe { Arc::<T>::from_foreign(data) })
    }

    /// # Safety
    ///
    /// Called by `helpers/deferred.c` with the data that `start` has set, before `stop` returns.
    unsafe extern "C" fn run(data: *mut c_void) -> c_uint {
        // SAFETY: The data is an `Arc<T>` that `stop` takes back after this has returned.
        let this = unsafe { Arc::<T>::borrow(data) };
        this.later().unwrap_or(0)
    }

    /// # Safety
    ///
    /// As [`Self::run`].
    unsafe extern "C" fn run_ready(data: *mut c_void) {
        // SAFETY: As above.
        let this = unsafe { Arc::<T>::borrow(data) };
        this.later_ready();
    }
}
