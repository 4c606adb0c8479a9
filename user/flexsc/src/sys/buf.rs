// SPDX-License-Identifier: MIT OR Apache-2.0
//! Buffers that an operation can own while the kernel uses them.

#![expect(unsafe_code, reason = "promises about memory")]

use std::any::Any;
use std::mem;
use std::ops::RangeBounds;
use std::sync::Arc;

use super::slice::Slice;
use crate::ops::private::End;

/// Memory that an operation can read from: a `Vec<u8>`, a boxed, shared or static slice, or
/// a type of the program.
///
/// # Safety
///
/// Until the value is used or dropped, the memory stays valid and at the same address, even
/// if the value moves, and nothing writes to it. [`IoBuf::as_ptr`] and [`IoBuf::len`]
/// describe this memory, and may be called from any thread.
pub unsafe trait IoBuf: Send + 'static {
    /// The address of the first byte.
    fn as_ptr(&self) -> *const u8;
    /// Returns the number of bytes.
    fn len(&self) -> usize;
    /// Returns true if there are none.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }
    /// Makes a buffer of a part of this one, in bytes.
    ///
    /// # Panics
    ///
    /// Panics if there is no such part.
    fn slice(self, range: impl RangeBounds<usize>) -> Slice<Self>
    where
        Self: Sized,
    {
        Slice::new(self, range)
    }
}

/// Memory that an operation can write to.
///
/// # Safety
///
/// Until the value is used or dropped, the memory stays valid and at the same address, even
/// if the value moves, and nothing else accesses it. [`IoBufMut::as_mut_ptr`] and
/// [`IoBufMut::room`] describe this memory.
pub unsafe trait IoBufMut: IoBuf {
    /// The address of the first byte.
    fn as_mut_ptr(&mut self) -> *mut u8;
    /// Returns how many bytes may be written.
    fn room(&self) -> usize;
    /// Tells the buffer how many bytes were written.
    ///
    /// # Safety
    ///
    /// The first `count` bytes were written, at most as many as there was room.
    unsafe fn set_filled(&mut self, count: usize);
}

// SAFETY: a `Vec` owns its memory, which stays where it is when the `Vec` moves.
unsafe impl IoBuf for Vec<u8> {
    fn as_ptr(&self) -> *const u8 {
        self.as_slice().as_ptr()
    }

    fn len(&self) -> usize {
        self.len()
    }
}

/// An empty `Vec` has room for its capacity ([`Vec::with_capacity`]), and its length becomes
/// the number of bytes that were written. Any other has room for its length, which does not
/// change.
// SAFETY: as above.
unsafe impl IoBufMut for Vec<u8> {
    fn as_mut_ptr(&mut self) -> *mut u8 {
        self.as_mut_ptr()
    }

    fn room(&self) -> usize {
        if self.is_empty() {
            self.capacity()
        } else {
            self.len()
        }
    }

    unsafe fn set_filled(&mut self, count: usize) {
        if self.is_empty() {
            let count = count.min(self.capacity());
            // SAFETY: the caller's promise.
            unsafe { self.set_len(count) };
        }
    }
}

// SAFETY: a `Box` owns its memory, which stays where it is when the `Box` moves.
unsafe impl IoBuf for Box<[u8]> {
    fn as_ptr(&self) -> *const u8 {
        (**self).as_ptr()
    }

    fn len(&self) -> usize {
        (**self).len()
    }
}

// SAFETY: as above.
unsafe impl IoBufMut for Box<[u8]> {
    fn as_mut_ptr(&mut self) -> *mut u8 {
        (**self).as_mut_ptr()
    }

    fn room(&self) -> usize {
        (**self).len()
    }

    unsafe fn set_filled(&mut self, _count: usize) {}
}

// SAFETY: as above.
unsafe impl<const N: usize> IoBuf for Box<[u8; N]> {
    fn as_ptr(&self) -> *const u8 {
        (**self).as_ptr()
    }

    fn len(&self) -> usize {
        N
    }
}

// SAFETY: as above.
unsafe impl<const N: usize> IoBufMut for Box<[u8; N]> {
    fn as_mut_ptr(&mut self) -> *mut u8 {
        (**self).as_mut_ptr()
    }

    fn room(&self) -> usize {
        N
    }

    unsafe fn set_filled(&mut self, _count: usize) {}
}

// SAFETY: while this `Arc` exists, there can be no mutable reference to its content.
unsafe impl IoBuf for Arc<[u8]> {
    fn as_ptr(&self) -> *const u8 {
        (**self).as_ptr()
    }

    fn len(&self) -> usize {
        (**self).len()
    }
}

// SAFETY: it stays forever, and nothing may write to it.
unsafe impl IoBuf for &'static [u8] {
    fn as_ptr(&self) -> *const u8 {
        (**self).as_ptr()
    }

    fn len(&self) -> usize {
        (**self).len()
    }
}

// SAFETY: as above.
unsafe impl<const N: usize> IoBuf for &'static [u8; N] {
    fn as_ptr(&self) -> *const u8 {
        self.as_slice().as_ptr()
    }

    fn len(&self) -> usize {
        N
    }
}

// SAFETY: as above.
unsafe impl IoBuf for &'static str {
    fn as_ptr(&self) -> *const u8 {
        (**self).as_ptr()
    }

    fn len(&self) -> usize {
        (**self).len()
    }
}

/// Tells the buffer of an operation how much the kernel has written to it.
pub(crate) fn filled(buf: &mut impl IoBufMut, end: &End) {
    if let Ok(count) = end.count() {
        let count = count.min(buf.room());
        // SAFETY: by the invariant of `End` the operation's call has written this many bytes
        // to its buffer.
        unsafe { buf.set_filled(count) };
    }
}

/// Tells the buffers of an operation how much the kernel has written to them, one after the
/// other.
pub(crate) fn all_filled<B: IoBufMut>(bufs: &mut [B], end: &End) {
    let mut count = end.count().unwrap_or(0);
    for buf in bufs {
        let here = count.min(buf.room());
        // SAFETY: as in `filled`. The kernel fills a buffer before it uses the next one.
        unsafe { buf.set_filled(here) };
        count -= here;
    }
}

/// Sets how many records the kernel has written to a `Vec` of an operation, which was empty.
pub(crate) fn counted<T: Plain>(records: &mut Vec<T>, end: &End) {
    let count = end.count().unwrap_or(0).min(records.capacity());
    // SAFETY: by the invariant of `End` the operation's call has written this many records,
    // and any bytes are one.
    unsafe { records.set_len(count) };
}

/// Initializes a buffer, for a call that may count bytes that it does not write.
pub(crate) fn zero(buf: &mut impl IoBufMut) {
    let room = buf.room();
    // SAFETY: an `IoBufMut` has room for this many bytes at this address.
    unsafe { buf.as_mut_ptr().write_bytes(0, room) };
}

/// Addresses of buffers, for the kernel.
#[derive(Debug, Default)]
pub(crate) struct Slices(Vec<libc::iovec>);

// SAFETY: only the kernel follows the pointers, and the operation that has them owns the
// memory.
unsafe impl Send for Slices {}

impl Slices {
    /// For a call that reads from the buffers.
    pub(crate) fn new(bufs: &[impl IoBuf]) -> Self {
        let slice = |buf: &_| Self::slice(IoBuf::as_ptr(buf).cast_mut(), IoBuf::len(buf));
        Slices(bufs.iter().map(slice).collect())
    }

    /// For a call that writes to the buffers.
    pub(crate) fn new_mut(bufs: &mut [impl IoBufMut]) -> Self {
        let slice = |buf: &mut _| {
            let room = IoBufMut::room(buf);
            Self::slice(IoBufMut::as_mut_ptr(buf), room)
        };
        Slices(bufs.iter_mut().map(slice).collect())
    }

    fn slice(base: *mut u8, len: usize) -> libc::iovec {
        // The kernel follows the pointer in the iovec, so its provenance is exposed, as for
        // pointers in arguments.
        base.expose_provenance();
        libc::iovec {
            iov_base: base.cast(),
            iov_len: len,
        }
    }

    pub(crate) fn as_ptr(&self) -> *const libc::iovec {
        self.0.as_ptr()
    }

    pub(crate) fn count(&self) -> libc::c_int {
        libc::c_int::try_from(self.0.len()).unwrap_or(libc::c_int::MAX)
    }
}

/// Returns a buffer that is a `Vec<u8>`.
pub(crate) fn as_vec<B: 'static>(buf: &mut B) -> Option<&mut Vec<u8>> {
    (buf as &mut dyn Any).downcast_mut()
}

/// A record that is plain memory: a `libc` structure of numbers, all of them zero.
pub(crate) fn zeroed<T: Plain>() -> Box<T> {
    // SAFETY: zeros are a valid value.
    Box::new(unsafe { mem::zeroed() })
}

/// Structures of numbers.
///
/// # Safety
///
/// Any bytes are a valid value.
pub(crate) unsafe trait Plain: Copy + Send + 'static {}

// SAFETY: numbers only.
unsafe impl Plain for libc::statx {}
// SAFETY: numbers only.
unsafe impl Plain for libc::stat {}
// SAFETY: numbers only.
unsafe impl Plain for libc::open_how {}
// SAFETY: numbers only.
unsafe impl Plain for libc::epoll_event {}

#[cfg(test)]
mod tests {
    use super::*;

    /// The end of a call with this return value.
    fn end(result: i64) -> End {
        // SAFETY: the buffers of these tests were written to.
        unsafe { End::new(result, true) }
    }

    fn written(capacity: usize) -> Vec<u8> {
        let mut buf = Vec::with_capacity(capacity);
        buf.spare_capacity_mut().fill(mem::MaybeUninit::new(3));
        buf
    }

    #[test]
    fn an_empty_vec_grows_and_others_do_not() {
        let mut empty = written(8);
        filled(&mut empty, &end(-5));
        assert!(empty.is_empty());
        filled(&mut empty, &end(5));
        assert_eq!(empty, [3; 5]);
        let mut full = vec![1; 4];
        full.reserve(100);
        assert_eq!(IoBufMut::room(&full), 4);
        filled(&mut full, &end(2));
        assert_eq!(full, [1; 4]);
    }

    #[test]
    fn a_buffer_never_grows_beyond_its_room() {
        // recv(2) with MSG_TRUNC returns the length of the packet.
        let mut empty = written(8);
        filled(&mut empty, &end(1 << 40));
        assert_eq!(empty.len(), empty.capacity());
        let mut bufs = [written(2), written(2)];
        all_filled(&mut bufs, &end(1 << 40));
        assert!(bufs.iter().all(|buf| buf.len() == buf.capacity()));
    }

    #[test]
    fn several_buffers_are_filled_in_order() {
        let mut bufs = [written(4), written(4), written(4)];
        let each = bufs[0].capacity();
        all_filled(&mut bufs, &end(each as i64 + 1));
        assert_eq!(bufs.map(|buf| buf.len()), [each, 1, 0]);
    }

    #[test]
    fn only_a_vec_is_one() {
        let mut vec = vec![1_u8, 2];
        as_vec(&mut vec).unwrap().push(3);
        assert_eq!(vec, [1, 2, 3]);
        let mut boxed: Box<[u8]> = vec![1].into();
        assert!(as_vec(&mut boxed).is_none());
    }
}
