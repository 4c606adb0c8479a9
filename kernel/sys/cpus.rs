// SPDX-License-Identifier: GPL-2.0

//! The CPUs of an engine.

use super::c;
use core::ptr::NonNull;
use kernel::bindings;
use kernel::prelude::*;

/// A set of CPUs.
///
/// # Invariants
///
/// Owns memory from `flexsc_own_cpus`.
pub(crate) struct Cpus(NonNull<bindings::cpumask>);

// SAFETY: The mask is plain memory.
unsafe impl Send for Cpus {}
// SAFETY: The mask is never written.
unsafe impl Sync for Cpus {}

impl Cpus {
    /// Returns the CPUs that the current thread may run on.
    pub(crate) fn own() -> Result<Self> {
        // SAFETY: No preconditions.
        NonNull::new(unsafe { c::flexsc_own_cpus() })
            .map(Cpus)
            .ok_or(ENOMEM)
    }

    /// Lets the current syscall thread run on this set, or on `bits` if not 0, within its
    /// cpuset. If this leaves no CPU, the thread stays where it is.
    pub(crate) fn run_here(&self, bits: u64) {
        // SAFETY: By the invariant the mask is valid.
        unsafe { c::flexsc_run_on_cpus(self.0.as_ptr(), bits) };
    }

    /// Returns which of CPUs 0 to 63 are in the set.
    pub(crate) fn bits(&self) -> u64 {
        // SAFETY: By the invariant the mask is valid.
        unsafe { c::flexsc_cpus_bits(self.0.as_ptr()) }
    }
}

impl Drop for Cpus {
    fn drop(&mut self) {
        // SAFETY: By the invariant the mask is owned.
        unsafe { c::flexsc_free_cpus(self.0.as_ptr()) };
    }
}
