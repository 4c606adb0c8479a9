// SPDX-License-Identifier: MIT OR Apache-2.0
//! Memory for the patcher, separate from the program's heap: areas that are freed as a whole.
//!
//! Only the owner of the process's lock allocates.

use core::alloc::{GlobalAlloc, Layout};
use core::ptr;
use core::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use crate::sys::raw::{self, Errno};

/// An area from which memory is taken in order. Freed memory is reused only if it was allocated
/// last.
pub(crate) struct Bump {
    next: AtomicUsize,
    end: AtomicUsize,
}

#[cfg_attr(panic = "abort", global_allocator)]
static AREA: Bump = Bump {
    next: AtomicUsize::new(0),
    end: AtomicUsize::new(0),
};

// SAFETY: Every allocation lies between `next` and `end`, which belongs to the allocator, and `next`
// moves behind it. Nothing allocates while another thread does: see the module.
unsafe impl GlobalAlloc for Bump {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let start = self.next.load(Relaxed).next_multiple_of(layout.align());
        let Some(end) = start.checked_add(layout.size()) else {
            return ptr::null_mut();
        };
        if end > self.end.load(Relaxed) {
            return ptr::null_mut();
        }
        self.next.store(end, Relaxed);
        ptr::with_exposed_provenance_mut(start)
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        if at.addr() + layout.size() == self.next.load(Relaxed) {
            self.next.store(at.addr(), Relaxed);
        }
    }
}

/// Runs `work` with an area of `len` bytes, which is unmapped afterwards.
///
/// The result must own no memory: `Copy` ensures this.
pub(crate) fn with_area<R: Copy>(len: usize, work: impl FnOnce() -> R) -> Result<R, Errno> {
    let at = raw::map_memory(len)?;
    let old = (AREA.next.load(Relaxed), AREA.end.load(Relaxed));
    AREA.next.store(at, Relaxed);
    AREA.end.store(at + len, Relaxed);
    let result = work();
    AREA.next.store(old.0, Relaxed);
    AREA.end.store(old.1, Relaxed);
    raw::unmap(at, len);
    Ok(result)
}

/// Replaces the current area by a permanent one of `len` bytes.
pub(crate) fn keep_area(len: usize) -> Result<(), Errno> {
    let at = raw::map_memory(len)?;
    AREA.next.store(at, Relaxed);
    AREA.end.store(at + len, Relaxed);
    Ok(())
}
