// SPDX-License-Identifier: MIT OR Apache-2.0
//! A pool of buffers of one size.

#![expect(unsafe_code, reason = "lends parts of one mapping")]

use std::fmt;
use std::io;
use std::ops::{Deref, DerefMut};
use std::slice;
use std::sync::{Arc, Mutex, PoisonError};

use nix::errno::Errno;

use super::buf::{IoBuf, IoBufMut};
use super::mapping::Mapping;

/// A pool of buffers of one size, in one piece of memory that is made once. Taking a buffer
/// and giving it back allocate nothing. Clones share the pool, also between threads.
///
/// The first buffer begins at a page, so all are aligned as files opened with O_DIRECT need
/// it if their size is a multiple of the disk's block.
///
/// ```
/// use std::fs::File;
/// use flexsc::ops::{BufPool, PoolBuf, Read};
/// use flexsc::{Fd, Ring};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let pool = BufPool::new(16, 4096)?;
/// let file: Fd = File::open("/proc/self/stat")?.into();
/// let mut ring = Ring::open(1)?;
/// let buf = pool.take().expect("16 buffers are free");
/// ring.submit(Read::new(&file, buf), 0).unwrap();
/// let done = ring.next_or_wait()?.expect("one is in flight");
/// let (count, buf) = done.output::<Read<PoolBuf>>();
/// assert_eq!(buf.len(), count?);
/// drop(buf);
/// assert_eq!(pool.free(), 16);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct BufPool {
    shared: Arc<Shared>,
}

/// # Invariants
///
/// `memory` has `count` parts of `size` bytes. `free` has the indices of those that no
/// [`PoolBuf`] has, each once.
#[derive(Debug)]
struct Shared {
    /// Never borrowed as a slice: the buffers have its parts.
    memory: Mapping,
    size: usize,
    count: u32,
    free: Mutex<Vec<u32>>,
}

impl BufPool {
    /// Makes a pool of this many buffers of this many bytes.
    ///
    /// # Errors
    ///
    /// EINVAL if one of the numbers is 0; ENOMEM.
    pub fn new(count: u32, size: usize) -> io::Result<BufPool> {
        let len = size.checked_mul(count as usize).ok_or(Errno::ENOMEM)?;
        Ok(BufPool {
            shared: Arc::new(Shared {
                memory: Mapping::anonymous(len)?,
                size,
                count,
                free: Mutex::new((0..count).rev().collect()),
            }),
        })
    }

    /// Takes a buffer. It is empty and has room for the size of the pool's buffers. Returns
    /// `None` if all are taken.
    #[must_use]
    pub fn take(&self) -> Option<PoolBuf> {
        let mut free = self
            .shared
            .free
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let index = free.pop()?;
        drop(free);
        Some(PoolBuf {
            shared: Arc::clone(&self.shared),
            index,
            filled: 0,
        })
    }

    /// Returns how many buffers are free.
    #[must_use]
    pub fn free(&self) -> usize {
        let free = self.shared.free.lock();
        free.unwrap_or_else(PoisonError::into_inner).len()
    }

    /// Returns how many buffers there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.shared.count as usize
    }

    /// Returns the bytes of one buffer.
    #[must_use]
    pub fn size(&self) -> usize {
        self.shared.size
    }
}

/// A buffer of a [`BufPool`], which gets it back when the value is dropped. It is like a
/// `Vec<u8>` with a fixed capacity: an empty one is filled up to its capacity, any other up to
/// its length.
///
/// # Invariants
///
/// The value alone has the part `index` of the pool's memory. `filled` is at most the size.
pub struct PoolBuf {
    shared: Arc<Shared>,
    index: u32,
    filled: usize,
}

impl PoolBuf {
    /// Returns how many bytes there can be.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.shared.size
    }

    /// Makes the buffer empty.
    pub fn clear(&mut self) {
        self.filled = 0;
    }

    /// Appends as many of these bytes as there is room for, and returns how many.
    pub fn append(&mut self, bytes: &[u8]) -> usize {
        let count = bytes.len().min(self.capacity() - self.filled);
        let filled = self.filled;
        self.filled += count;
        self[filled..].copy_from_slice(&bytes[..count]);
        count
    }

    fn base(&self) -> *mut u8 {
        let at = self.index as usize * self.shared.size;
        // The memory is behind a raw pointer, which is as good for writes.
        IoBuf::as_ptr(&self.shared.memory)
            .cast_mut()
            .wrapping_add(at)
    }
}

impl Deref for PoolBuf {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        // SAFETY: by the invariant the part belongs to this value; it began as zeros.
        unsafe { slice::from_raw_parts(self.base(), self.filled) }
    }
}

impl DerefMut for PoolBuf {
    fn deref_mut(&mut self) -> &mut [u8] {
        // SAFETY: as above.
        unsafe { slice::from_raw_parts_mut(self.base(), self.filled) }
    }
}

// SAFETY: by the invariant; the pool's memory stays where it is when the value moves.
unsafe impl IoBuf for PoolBuf {
    fn as_ptr(&self) -> *const u8 {
        self.base()
    }

    fn len(&self) -> usize {
        self.filled
    }
}

// SAFETY: as above.
unsafe impl IoBufMut for PoolBuf {
    fn as_mut_ptr(&mut self) -> *mut u8 {
        self.base()
    }

    fn room(&self) -> usize {
        if self.filled == 0 {
            self.capacity()
        } else {
            self.filled
        }
    }

    unsafe fn set_filled(&mut self, count: usize) {
        if self.filled == 0 {
            self.filled = count.min(self.capacity());
        }
    }
}

impl Drop for PoolBuf {
    fn drop(&mut self) {
        let mut free = self
            .shared
            .free
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        // The list has room for all indices from the start on.
        free.push(self.index);
    }
}

impl fmt::Debug for PoolBuf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PoolBuf")
            .field("index", &self.index)
            .field("filled", &self.filled)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_buffer_has_a_part_of_its_own_and_comes_back() {
        let pool = BufPool::new(3, 100).unwrap();
        let mut bufs: Vec<_> = std::iter::from_fn(|| pool.take()).collect();
        assert_eq!((bufs.len(), pool.free(), pool.count()), (3, 0, 3));
        for (nth, buf) in bufs.iter_mut().enumerate() {
            assert_eq!((buf.len(), buf.room(), buf.capacity()), (0, 100, 100));
            assert_eq!(buf.append(&[nth as u8; 200]), 100);
            assert_eq!(buf.append(&[1]), 0);
        }
        for (nth, buf) in bufs.iter().enumerate() {
            assert!(buf.iter().all(|&byte| byte == nth as u8));
        }
        bufs.pop();
        assert_eq!(pool.free(), 1);
        let again = pool.clone().take().unwrap();
        assert!(again.is_empty() && pool.take().is_none());
    }

    #[test]
    fn a_pool_lives_as_long_as_its_buffers() {
        let pool = BufPool::new(1, 16).unwrap();
        let mut buf = pool.take().unwrap();
        drop(pool);
        buf.append(b"still there");
        assert_eq!(*buf, *b"still there");
        buf.clear();
        assert_eq!(buf.room(), 16);
    }

    #[test]
    fn there_is_no_pool_of_nothing() {
        for (count, size) in [(0, 1), (1, 0), (u32::MAX, usize::MAX)] {
            assert!(BufPool::new(count, size).is_err());
        }
    }
}
