// SPDX-License-Identifier: MIT OR Apache-2.0
//! A shared mapping that is unmapped when its owner is dropped.

#![expect(unsafe_code, reason = "mmap")]

use std::ffi::c_void;
use std::num::NonZeroUsize;
use std::os::fd::BorrowedFd;
use std::ptr::NonNull;

use nix::errno::Errno;
use nix::sys::mman::{self, MapFlags, ProtFlags};

use super::guard::ForkGuard;
use crate::memory::Cursors;

/// A mapping of `len` bytes at `base`.
///
/// # Invariants
///
/// While `guard` says that this is the same process, the mapping exists and is readable and
/// writable until the value is dropped. A forked child never has it (VM_DONTCOPY).
#[derive(Debug)]
pub(crate) struct Map {
    base: NonNull<c_void>,
    len: NonZeroUsize,
    guard: ForkGuard<Cursors>,
}

const READ_WRITE: ProtFlags = ProtFlags::PROT_READ.union(ProtFlags::PROT_WRITE);

impl Map {
    /// Maps `len` bytes of the device from `offset` on.
    pub(crate) fn of_device(
        fd: BorrowedFd<'_>,
        len: NonZeroUsize,
        offset: i64,
    ) -> Result<Self, Errno> {
        let guard = ForkGuard::new()?;
        // SAFETY: a new mapping at an address that the kernel chooses replaces
        // no other mapping.
        let base = unsafe { mman::mmap(None, len, READ_WRITE, MapFlags::MAP_SHARED, fd, offset) }?;
        Ok(Map { base, len, guard })
    }

    /// Maps `len` bytes of zeroes, for tests without the device.
    #[cfg(test)]
    pub(crate) fn anonymous(len: NonZeroUsize) -> Result<Self, Errno> {
        let guard = ForkGuard::new()?;
        // SAFETY: as above.
        let base = unsafe { mman::mmap_anonymous(None, len, READ_WRITE, MapFlags::MAP_SHARED) }?;
        Ok(Map { base, len, guard })
    }

    pub(crate) fn base(&self) -> NonNull<c_void> {
        self.base
    }

    pub(crate) fn len(&self) -> usize {
        self.len.get()
    }

    /// The cursors of the pages in the mapping.
    #[inline(always)]
    pub(crate) fn cursors(&self) -> &Cursors {
        self.guard.value()
    }

    /// Returns true if this process made the mapping. A forked child must not touch it.
    #[inline(always)]
    pub(crate) fn in_same_process(&self) -> bool {
        self.guard.in_same_process()
    }
}

impl Drop for Map {
    fn drop(&mut self) {
        if self.in_same_process() {
            // SAFETY: by the invariant the mapping exists, and every access borrows it from
            // `self`.
            let unmapped = unsafe { mman::munmap(self.base, self.len.get()) };
            debug_assert_eq!(unmapped, Ok(()));
        }
    }
}
