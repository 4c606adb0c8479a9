// SPDX-License-Identifier: MIT OR Apache-2.0
//! A part of a buffer.

#![expect(unsafe_code, reason = "promises about memory")]

use std::ops::{Bound, RangeBounds};

use super::buf::{IoBuf, IoBufMut};

/// A part of a buffer, from [`IoBuf::slice`]: for the rest of a short write, or to read to the
/// middle of a buffer.
///
/// ```
/// use flexsc::ops::{IoBuf, Slice};
///
/// let rest: Slice<Vec<u8>> = vec![1, 2, 3].slice(1..);
/// assert_eq!(rest.as_slice(), [2, 3]);
/// assert_eq!(rest.into_inner(), [1, 2, 3]);
/// ```
#[derive(Clone, Debug)]
pub struct Slice<B> {
    buf: B,
    /// # Invariants
    ///
    /// The range is within the buffer.
    from: usize,
    to: usize,
}

impl<B: IoBuf> Slice<B> {
    pub(super) fn new(buf: B, range: impl RangeBounds<usize>) -> Self {
        let len = buf.len();
        let from = match range.start_bound() {
            Bound::Included(&from) => from,
            Bound::Excluded(&before) => before.saturating_add(1),
            Bound::Unbounded => 0,
        };
        let to = match range.end_bound() {
            Bound::Included(&last) => last.saturating_add(1),
            Bound::Excluded(&to) => to,
            Bound::Unbounded => len,
        };
        assert!(
            from <= to && to <= len,
            "{from}..{to} is no part of {len} bytes"
        );
        // INVARIANT: just checked.
        Slice { buf, from, to }
    }

    /// Returns the bytes.
    #[must_use]
    pub fn as_slice(&self) -> &[u8] {
        // SAFETY: a buffer has this many bytes at this address, and nothing writes to them.
        unsafe { std::slice::from_raw_parts(self.as_ptr(), self.len()) }
    }
}

impl<B> Slice<B> {
    /// Returns the whole buffer.
    pub fn into_inner(self) -> B {
        self.buf
    }
}

// SAFETY: as for the buffer. By the invariant the part is within it.
unsafe impl<B: IoBuf> IoBuf for Slice<B> {
    fn as_ptr(&self) -> *const u8 {
        self.buf.as_ptr().wrapping_add(self.from)
    }

    fn len(&self) -> usize {
        self.to - self.from
    }
}

// SAFETY: as above. A buffer that is not empty has room for its length, and an empty one has
// only an empty part.
unsafe impl<B: IoBufMut> IoBufMut for Slice<B> {
    fn as_mut_ptr(&mut self) -> *mut u8 {
        self.buf.as_mut_ptr().wrapping_add(self.from)
    }

    fn room(&self) -> usize {
        (self.to - self.from).min(self.buf.room().saturating_sub(self.from))
    }

    unsafe fn set_filled(&mut self, _count: usize) {}
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    #[test]
    fn parts_are_those_of_the_buffer() {
        let mut part = vec![1, 2, 3, 4].slice(1..3);
        assert_eq!((part.as_slice(), part.room()), (&[2, 3][..], 2));
        let at = IoBuf::as_ptr(&part);
        assert_eq!(part.as_mut_ptr().cast_const(), at);
        let whole = part.into_inner();
        assert_eq!(at, whole.as_ptr().wrapping_add(1));
        let shared: Arc<[u8]> = vec![5, 6].into();
        assert_eq!(shared.slice(..=0).slice(..).as_slice(), [5]);
        assert!(Vec::<u8>::with_capacity(9).slice(..).is_empty());
    }

    #[test]
    fn there_is_no_part_outside() {
        for (from, to) in [(0, 5), (5, 5), (3, 2), (usize::MAX, 0)] {
            let part = std::panic::catch_unwind(|| vec![0; 4].slice(from..to));
            assert!(part.is_err());
        }
    }
}
