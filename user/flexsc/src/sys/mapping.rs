// SPDX-License-Identifier: MIT OR Apache-2.0
//! Memory of whole pages, which is a buffer and can be advised and flushed.

#![expect(unsafe_code, reason = "mmap")]

use std::fmt;
use std::io;
use std::num::NonZeroUsize;
use std::ops::{Deref, DerefMut};
use std::os::fd::AsFd;
use std::ptr::NonNull;
use std::slice;

use nix::errno::Errno;
use nix::sys::mman::{self, MapFlags, ProtFlags};

use super::buf::{IoBuf, IoBufMut};

/// Memory of whole pages ([mmap(2)](https://man7.org/linux/man-pages/man2/mmap.2.html)): a
/// buffer that begins at a page, as files opened with O_DIRECT need it, and the subject of
/// [`Madvise`](crate::ops::Madvise) and [`Msync`](crate::ops::Msync).
///
/// # Invariants
///
/// A mapping of `len` bytes at `base` that belongs to this value, is readable and writable
/// until the value is dropped, and is written to by nothing else.
pub struct Mapping {
    base: NonNull<u8>,
    len: NonZeroUsize,
}

// SAFETY: the mapping belongs to no thread.
unsafe impl Send for Mapping {}
// SAFETY: a shared reference only reads.
unsafe impl Sync for Mapping {}

const READ_WRITE: ProtFlags = ProtFlags::PROT_READ.union(ProtFlags::PROT_WRITE);

impl Mapping {
    /// Maps this many zero bytes.
    ///
    /// # Errors
    ///
    /// EINVAL if `len` is 0; ENOMEM.
    pub fn anonymous(len: usize) -> io::Result<Mapping> {
        let len = NonZeroUsize::new(len).ok_or(Errno::EINVAL)?;
        // SAFETY: a new mapping at an address that the kernel chooses replaces
        // no other mapping.
        let base = unsafe { mman::mmap_anonymous(None, len, READ_WRITE, MapFlags::MAP_PRIVATE) }?;
        Ok(Mapping {
            base: base.cast(),
            len,
        })
    }

    /// Maps a part of a file, so that writes to the memory change the file. `offset` is in
    /// bytes, a multiple of the size of a page.
    ///
    /// # Errors
    ///
    /// Those of [mmap(2)](https://man7.org/linux/man-pages/man2/mmap.2.html).
    ///
    /// # Safety
    ///
    /// As long as the mapping exists, nothing else writes to this part of the file, and the
    /// file is at least as long.
    pub unsafe fn shared(fd: impl AsFd, len: usize, offset: i64) -> io::Result<Mapping> {
        let len = NonZeroUsize::new(len).ok_or(Errno::EINVAL)?;
        // SAFETY: as above.
        let base = unsafe { mman::mmap(None, len, READ_WRITE, MapFlags::MAP_SHARED, fd, offset) }?;
        // INVARIANT: the caller's promise.
        Ok(Mapping {
            base: base.cast(),
            len,
        })
    }
}

impl Deref for Mapping {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        // SAFETY: by the invariant.
        unsafe { slice::from_raw_parts(self.base.as_ptr(), self.len.get()) }
    }
}

impl DerefMut for Mapping {
    fn deref_mut(&mut self) -> &mut [u8] {
        // SAFETY: by the invariant.
        unsafe { slice::from_raw_parts_mut(self.base.as_ptr(), self.len.get()) }
    }
}

// SAFETY: by the invariant; the mapping stays where it is when the value moves.
unsafe impl IoBuf for Mapping {
    fn as_ptr(&self) -> *const u8 {
        self.base.as_ptr()
    }

    fn len(&self) -> usize {
        self.len.get()
    }
}

// SAFETY: as above.
unsafe impl IoBufMut for Mapping {
    fn as_mut_ptr(&mut self) -> *mut u8 {
        self.base.as_ptr()
    }

    fn room(&self) -> usize {
        self.len.get()
    }

    unsafe fn set_filled(&mut self, _count: usize) {}
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: by the invariant it is mapped, and no longer borrowed.
        let unmapped = unsafe { mman::munmap(self.base.cast(), self.len.get()) };
        debug_assert_eq!(unmapped, Ok(()));
    }
}

impl fmt::Debug for Mapping {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mapping")
            .field("base", &self.base)
            .field("len", &self.len)
            .finish()
    }
}
