// SPDX-License-Identifier: MIT OR Apache-2.0
//! Access to memory at addresses that calls return, and memory shared with children.
#![expect(unsafe_code, reason = "raw memory is what this module is for")]

use std::ops::Deref;

use super::sys;
use crate::check::Check;

/// Fills memory that the caller has mapped.
pub fn fill(at: *mut u8, len: usize, byte: u8) {
    // SAFETY: the callers pass memory that they have mapped writable; if
    // they are wrong, the test dies of SIGSEGV, which is a failure.
    unsafe { at.write_bytes(byte, len) };
}

/// Reads a byte; in some tests the process is expected to die of the access.
pub fn peek(at: *const u8) -> u8 {
    // SAFETY: as in `fill`.
    unsafe { at.read_volatile() }
}

/// Writes a value at any address.
pub fn store<T: Copy>(at: *mut u8, value: T) {
    // SAFETY: as in `fill`; the write need not be aligned.
    unsafe { at.cast::<T>().write_unaligned(value) };
}

/// Element `index` of shared memory that consists of atomics.
pub fn at<T>(base: *const T, index: usize) -> &'static T {
    // SAFETY: the callers know the mapping's size, use types of atomics only
    // and stop before the mapping goes; if not, the test dies of SIGSEGV.
    unsafe { &*base.wrapping_add(index) }
}

/// Private memory, zeroed; stays until the process ends.
pub fn pages(len: usize) -> Check<*mut u8> {
    let prot = libc::PROT_READ | libc::PROT_WRITE;
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
    Ok(ok!("mmap", sys::mmap(len, prot, flags, -1, 0)))
}

/// A value that this process shares with the children that it starts later.
pub struct Shared<T: 'static>(&'static T);

impl<T: Default + Sync> Shared<T> {
    /// A new value in shared memory, kept until the process ends.
    pub fn new() -> Check<Shared<T>> {
        assert!(size_of::<T>() <= 4096 && align_of::<T>() <= 4096);
        let prot = libc::PROT_READ | libc::PROT_WRITE;
        let flags = libc::MAP_SHARED | libc::MAP_ANONYMOUS;
        let at = ok!("shared memory", sys::mmap(4096, prot, flags, -1, 0)).cast::<T>();
        // SAFETY: the mapping is fresh, large enough and aligned to a page.
        unsafe { at.write(T::default()) };
        // SAFETY: a valid value was written there, and the mapping stays.
        Ok(Shared(unsafe { &*at }))
    }
}

impl<T> Deref for Shared<T> {
    type Target = T;

    fn deref(&self) -> &T {
        self.0
    }
}
