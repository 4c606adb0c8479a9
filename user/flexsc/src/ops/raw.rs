// SPDX-License-Identifier: MIT OR Apache-2.0
//! Any other system call.

#![expect(unsafe_code, reason = "a promise about a call")]

use std::io;

use super::Operation;
use super::private::{End, Prepared, Sealed};
use crate::Call;

/// Any system call, by its number and its arguments
/// ([syscall(2)](https://man7.org/linux/man-pages/man2/syscall.2.html)), with a value that
/// lives as long as it. Gives back what the call returned, and the value.
///
/// ```
/// use std::fs::File;
/// use std::os::fd::AsRawFd;
/// use flexsc::ops::Raw;
/// use flexsc::{Ring, calls};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let mut ring = Ring::open(1)?;
/// let file = File::open("/proc/self/exe")?;
/// let seek = calls::lseek(file.as_raw_fd(), -4, libc::SEEK_END);
/// // SAFETY: the file stays open, and there is no memory.
/// ring.submit(unsafe { Raw::new(seek, file) }, 0).unwrap();
/// let (position, _file) = ring.next_or_wait()?.expect("one is in flight").output::<Raw<File>>();
/// assert!(position? > 4);
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
#[must_use = "an operation does nothing until it is submitted"]
pub struct Raw<T> {
    call: Call,
    keep: T,
}

impl<T: Send + 'static> Raw<T> {
    /// Makes this call and keeps a value until it has finished, or for ever if nobody learns
    /// that it has.
    ///
    /// # Safety
    ///
    /// The call must be valid in any thread of the process until its result is taken, and if
    /// it never is, for ever. This holds for the memory that its arguments point to, which
    /// must not be used otherwise. Memory that belongs to `keep` is valid, if it stays at the
    /// same address when `keep` moves and is not that of a `Box` that moved since the
    /// pointer was made. The call must not be part of a chain.
    pub unsafe fn new(call: Call, keep: T) -> Self {
        Raw { call, keep }
    }
}

impl<T: Send + 'static> Sealed for Raw<T> {
    fn prepare(&mut self) -> Prepared {
        Prepared::new(self.call)
    }
}

impl<T: Send + 'static> Operation for Raw<T> {
    type Output = (io::Result<i64>, T);

    fn output(self, end: End) -> Self::Output {
        (end.result(), self.keep)
    }
}
