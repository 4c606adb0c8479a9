// SPDX-License-Identifier: MIT OR Apache-2.0
//! Moving bytes between descriptors in the kernel.

use std::io;
use std::os::fd::AsRawFd;

use libc::c_uint;

use super::Operation;
use super::private::{End, Prepared, Sealed};
use crate::sys::poll::Readiness;
use crate::{Fd, calls};

/// Returns a pointer to an offset, if there is one.
fn pointer(offset: &mut Option<Box<i64>>) -> *mut i64 {
    match offset {
        Some(offset) => &raw mut **offset,
        None => std::ptr::null_mut(),
    }
}

/// Sends a part of a file to a socket, a pipe or another file
/// ([sendfile(2)](https://man7.org/linux/man-pages/man2/sendfile.2.html)). Gives back the
/// number of bytes: fewer than wanted, or 0 at the end of the file.
#[derive(Debug)]
#[must_use = "an operation does nothing until it is submitted"]
pub struct Sendfile {
    to: Fd,
    from: Fd,
    offset: Option<Box<i64>>,
    len: usize,
}

impl Sendfile {
    /// Sends at most `len` bytes, from the position of the file.
    pub fn new(to: impl Into<Fd>, from: impl Into<Fd>, len: usize) -> Self {
        Sendfile {
            to: to.into(),
            from: from.into(),
            offset: None,
            len,
        }
    }

    /// Reads from this offset, and does not change the position of the file.
    pub fn from_offset(mut self, offset: i64) -> Self {
        self.offset = Some(Box::new(offset));
        self
    }
}

impl Sealed for Sendfile {
    fn prepare(&mut self) -> Prepared {
        let (to, from) = (self.to.as_raw_fd(), self.from.as_raw_fd());
        let call = calls::sendfile(to, from, pointer(&mut self.offset), self.len);
        Prepared::when(call, &self.to, Readiness::Writable)
    }
}

impl Operation for Sendfile {
    type Output = io::Result<usize>;

    fn output(self, end: End) -> Self::Output {
        end.count()
    }
}

/// Moves bytes from or to a pipe
/// ([splice(2)](https://man7.org/linux/man-pages/man2/splice.2.html)). Gives back the number of
/// bytes, 0 at the end.
#[derive(Debug)]
#[must_use = "an operation does nothing until it is submitted"]
pub struct Splice {
    from: Fd,
    from_offset: Option<Box<i64>>,
    to: Fd,
    to_offset: Option<Box<i64>>,
    len: usize,
    flags: c_uint,
}

impl Splice {
    /// Moves at most `len` bytes. One of the two must be a pipe.
    pub fn new(from: impl Into<Fd>, to: impl Into<Fd>, len: usize) -> Self {
        Splice {
            from: from.into(),
            from_offset: None,
            to: to.into(),
            to_offset: None,
            len,
            flags: 0,
        }
    }

    /// Reads from this offset of a file that is no pipe.
    pub fn from_offset(mut self, offset: i64) -> Self {
        self.from_offset = Some(Box::new(offset));
        self
    }

    /// Writes at this offset of a file that is no pipe.
    pub fn to_offset(mut self, offset: i64) -> Self {
        self.to_offset = Some(Box::new(offset));
        self
    }

    /// Flags, `libc::SPLICE_F_…`.
    pub fn flags(mut self, flags: c_uint) -> Self {
        self.flags = flags;
        self
    }
}

impl Sealed for Splice {
    fn prepare(&mut self) -> Prepared {
        let call = calls::splice(
            self.from.as_raw_fd(),
            pointer(&mut self.from_offset),
            self.to.as_raw_fd(),
            pointer(&mut self.to_offset),
            self.len,
            self.flags,
        );
        if self.flags & libc::SPLICE_F_NONBLOCK != 0 {
            return Prepared::new(call);
        }
        Prepared::when(call, &self.from, Readiness::Readable)
    }
}

impl Operation for Splice {
    type Output = io::Result<usize>;

    fn output(self, end: End) -> Self::Output {
        end.count()
    }
}
