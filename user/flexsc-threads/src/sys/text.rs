// SPDX-License-Identifier: MIT OR Apache-2.0
//! Replacing machine code.

use core::ptr;

use crate::sys::raw::{self, Errno, PROT_EXEC, PROT_READ, PROT_WRITE};

/// Code of the program that can be written; dropping it makes it constant again.
pub(crate) struct Writable {
    address: usize,
    len: usize,
}

impl Writable {
    /// Makes an executable segment writable. The code stays executable meanwhile, for signal
    /// handlers and other threads. If the system forbids this, nothing has changed yet.
    pub(crate) fn new(address: u64, len: usize) -> Result<Self, Errno> {
        let address = address as usize;
        // SAFETY: No permission is removed.
        unsafe { raw::protect(address, len, PROT_READ | PROT_WRITE | PROT_EXEC) }?;
        Ok(Writable { address, len })
    }

    /// Replaces code. No thread may be executing the bytes after the first one.
    pub(crate) fn write(&self, address: u64, bytes: &[u8]) {
        let at = address as usize;
        let is_inside = at >= self.address && at + bytes.len() <= self.address + self.len;
        assert!(is_inside, "code outside of its segment");
        // SAFETY: The segment is writable. Nothing in Rust refers to it: the plan has copies.
        unsafe { ptr::copy_nonoverlapping(bytes.as_ptr(), at as *mut u8, bytes.len()) };
    }
}

impl Drop for Writable {
    fn drop(&mut self) {
        // On failure the code stays writable, and still works.
        // SAFETY: Only `write` relies on the permission to write.
        let _ = unsafe { raw::protect(self.address, self.len, PROT_READ | PROT_EXEC) };
    }
}
