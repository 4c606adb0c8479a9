// SPDX-License-Identifier: MIT OR Apache-2.0
//! The buffers of the crate `bytes`.

#![expect(unsafe_code, reason = "promises about memory")]

use bytes::{Bytes, BytesMut};

use super::buf::{IoBuf, IoBufMut};

// SAFETY: the content of a `Bytes` stays where it is, and nothing may write to it.
unsafe impl IoBuf for Bytes {
    fn as_ptr(&self) -> *const u8 {
        (**self).as_ptr()
    }

    fn len(&self) -> usize {
        (**self).len()
    }
}

// SAFETY: a `BytesMut` alone has its part of the memory, which stays where it is.
unsafe impl IoBuf for BytesMut {
    fn as_ptr(&self) -> *const u8 {
        (**self).as_ptr()
    }

    fn len(&self) -> usize {
        (**self).len()
    }
}

/// As of a `Vec<u8>`: an empty one has room for its capacity, and its length becomes the
/// number of bytes that were written; any other has room for its length, which does not
/// change.
// SAFETY: as above.
unsafe impl IoBufMut for BytesMut {
    fn as_mut_ptr(&mut self) -> *mut u8 {
        if (**self).is_empty() {
            self.spare_capacity_mut().as_mut_ptr().cast()
        } else {
            (**self).as_mut_ptr()
        }
    }

    fn room(&self) -> usize {
        if (**self).is_empty() {
            self.capacity()
        } else {
            (**self).len()
        }
    }

    unsafe fn set_filled(&mut self, count: usize) {
        if (**self).is_empty() {
            let count = count.min(self.capacity());
            // SAFETY: the caller's promise.
            unsafe { self.set_len(count) };
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;

    use super::*;
    use crate::ops::{Read, Write};
    use crate::{Fd, Ring};

    #[test]
    fn an_empty_one_is_filled_and_a_frozen_one_is_sent() {
        let mut ring = Ring::open(1).unwrap();
        let file: Fd = File::open("/proc/self/comm").unwrap().into();
        ring.submit(Read::new(&file, BytesMut::with_capacity(64)), 0)
            .unwrap();
        let done = ring.next_or_wait().unwrap().unwrap();
        let (count, buf) = done.output::<Read<BytesMut>>();
        assert!(count.unwrap() > 0);
        assert_eq!(*buf, *std::fs::read("/proc/self/comm").unwrap());
        let null: Fd = File::create("/dev/null").unwrap().into();
        let text = buf.freeze();
        let write = Write::new(&null, text.clone());
        ring.submit(write, 1).unwrap();
        let done = ring.next_or_wait().unwrap().unwrap();
        let (count, back) = done.output::<Write<Bytes>>();
        assert_eq!((count.unwrap(), back), (text.len(), text));
    }

    #[test]
    fn one_with_content_keeps_its_length() {
        let mut buf = BytesMut::from(&b"1234"[..]);
        buf.reserve(100);
        assert_eq!(IoBufMut::room(&buf), 4);
        // SAFETY: two bytes are less than there are.
        unsafe { buf.set_filled(2) };
        assert_eq!(buf.len(), 4);
    }
}
