// SPDX-License-Identifier: MIT OR Apache-2.0
//! A shared mapping that ends with its owner.

#![expect(unsafe_code, reason = "mmap")]

use std::ffi::c_void;
use std::num::NonZeroUsize;
use std::os::fd::BorrowedFd;
use std::process;
use std::ptr::NonNull;

use nix::errno::Errno;
use nix::sys::mman::{self, MapFlags, ProtFlags};

/// A mapping of `len` bytes at `base`.
///
/// # Invariants
///
/// In the process `pid` the mapping is there, readable and writable, until the
/// value is dropped. In its children it never was (VM_DONTCOPY).
#[derive(Debug)]
pub(crate) struct Map {
    base: NonNull<c_void>,
    len: NonZeroUsize,
    pid: u32,
}

const READ_WRITE: ProtFlags = ProtFlags::PROT_READ.union(ProtFlags::PROT_WRITE);

impl Map {
    /// Maps `len` bytes of the device from `offset` on.
    pub(crate) fn of_device(
        fd: BorrowedFd<'_>,
        len: NonZeroUsize,
        offset: i64,
    ) -> Result<Self, Errno> {
        // SAFETY: a new mapping at an address that the kernel chooses takes
        // nothing away from anybody.
        let base = unsafe { mman::mmap(None, len, READ_WRITE, MapFlags::MAP_SHARED, fd, offset) }?;
        Ok(Map::own(base, len))
    }

    /// Maps `len` bytes of zeroes, for tests without the device.
    #[cfg(test)]
    pub(crate) fn anonymous(len: NonZeroUsize) -> Result<Self, Errno> {
        // SAFETY: as above.
        let base = unsafe { mman::mmap_anonymous(None, len, READ_WRITE, MapFlags::MAP_SHARED) }?;
        Ok(Map::own(base, len))
    }

    fn own(base: NonNull<c_void>, len: NonZeroUsize) -> Self {
        Map {
            base,
            len,
            pid: process::id(),
        }
    }

    pub(crate) fn base(&self) -> NonNull<c_void> {
        self.base
    }

    pub(crate) fn len(&self) -> usize {
        self.len.get()
    }

    /// Whether this process made the mapping; a forked child must not touch it.
    pub(crate) fn is_ours(&self) -> bool {
        self.pid == process::id()
    }
}

impl Drop for Map {
    fn drop(&mut self) {
        if self.is_ours() {
            // SAFETY: by the invariant the mapping is there, and whoever
            // accesses it borrows it from `self`.
            let unmapped = unsafe { mman::munmap(self.base, self.len.get()) };
            debug_assert_eq!(unmapped, Ok(()));
        }
    }
}
