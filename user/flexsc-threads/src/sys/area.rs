// SPDX-License-Identifier: MIT OR Apache-2.0
//! Tables that are as long as they could ever be: memory that is not touched costs nothing.

use core::ffi::CStr;
use core::ops::{Deref, DerefMut};
use core::{ptr, slice};

use crate::sys::raw::{self, Errno};

/// A type whose bytes may all be zero.
///
/// # Safety
///
/// They may.
pub(crate) unsafe trait Zeroed {}

// SAFETY: Zero is a value.
unsafe impl Zeroed for u32 {}
// SAFETY: As above.
unsafe impl Zeroed for u8 {}

/// A copy of a text, which stays. The original is returned if there is no memory.
pub(crate) fn keep(text: &'static CStr) -> &'static CStr {
    let bytes = text.to_bytes_with_nul();
    let Ok(mut copy) = Area::<u8>::new(bytes.len()) else {
        return text;
    };
    copy.copy_from_slice(bytes);
    // SAFETY: The memory stays, and nothing else refers to it.
    let copy = unsafe { slice::from_raw_parts(copy.at, copy.len) };
    CStr::from_bytes_with_nul(copy).unwrap_or(text)
}

/// A table in memory of its own, which stays until the process ends. It begins with zeros.
pub(crate) struct Area<T> {
    at: *mut T,
    len: usize,
}

// SAFETY: The table owns its values.
unsafe impl<T: Send> Send for Area<T> {}

impl<T: Zeroed> Area<T> {
    /// A table without rows.
    pub(crate) const fn none() -> Self {
        Area {
            at: ptr::dangling_mut(),
            len: 0,
        }
    }

    pub(crate) fn new(len: usize) -> Result<Self, Errno> {
        let at = raw::map_memory(len * size_of::<T>())?;
        Ok(Area {
            at: ptr::with_exposed_provenance_mut(at),
            len,
        })
    }
}

impl<T> Deref for Area<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        // SAFETY: The memory holds `len` values, zeros at least, and stays.
        unsafe { slice::from_raw_parts(self.at, self.len) }
    }
}

impl<T> DerefMut for Area<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        // SAFETY: As above, and `self` is exclusive.
        unsafe { slice::from_raw_parts_mut(self.at, self.len) }
    }
}
