// SPDX-License-Identifier: MIT OR Apache-2.0
//! Operations of the safe layer: each owns its buffer and borrows its file.

use std::os::fd::{AsRawFd, BorrowedFd};

use crate::{Call, calls};

/// Something that can be submitted to a [`Ring`](crate::Ring) whose files live
/// for `'fd`.
pub trait Operation<'fd>: private::Sealed {}

pub(crate) mod private {
    use crate::Call;

    pub trait Sealed {
        /// The call, and the buffer that it points to, which may be moved.
        fn into_parts(self) -> (Call, Vec<u8>);
    }
}

/// Reads into all of a buffer, from a file's position or from an offset.
#[derive(Debug)]
#[must_use = "an operation does nothing until it is submitted"]
pub struct Read<'fd> {
    fd: BorrowedFd<'fd>,
    buf: Vec<u8>,
    offset: Option<i64>,
}

impl<'fd> Read<'fd> {
    /// At most `buf.len()` bytes.
    pub fn new(fd: BorrowedFd<'fd>, buf: Vec<u8>) -> Self {
        Read {
            fd,
            buf,
            offset: None,
        }
    }

    /// From this offset, as pread(2).
    pub fn at(mut self, offset: i64) -> Self {
        self.offset = Some(offset);
        self
    }
}

impl private::Sealed for Read<'_> {
    fn into_parts(mut self) -> (Call, Vec<u8>) {
        let (fd, len) = (self.fd.as_raw_fd(), self.buf.len());
        let buf = self.buf.as_mut_ptr().cast();
        let call = match self.offset {
            None => calls::read(fd, buf, len),
            Some(offset) => calls::pread64(fd, buf, len, offset),
        };
        (call, self.buf)
    }
}

impl<'fd> Operation<'fd> for Read<'fd> {}

/// Writes all of a buffer, at a file's position or at an offset. As with
/// write(2), fewer bytes may be written.
#[derive(Debug)]
#[must_use = "an operation does nothing until it is submitted"]
pub struct Write<'fd> {
    fd: BorrowedFd<'fd>,
    buf: Vec<u8>,
    offset: Option<i64>,
}

impl<'fd> Write<'fd> {
    /// At most `buf.len()` bytes.
    pub fn new(fd: BorrowedFd<'fd>, buf: Vec<u8>) -> Self {
        Write {
            fd,
            buf,
            offset: None,
        }
    }

    /// At this offset, as pwrite(2).
    pub fn at(mut self, offset: i64) -> Self {
        self.offset = Some(offset);
        self
    }
}

impl private::Sealed for Write<'_> {
    fn into_parts(self) -> (Call, Vec<u8>) {
        let (fd, len) = (self.fd.as_raw_fd(), self.buf.len());
        let buf = self.buf.as_ptr().cast();
        let call = match self.offset {
            None => calls::write(fd, buf, len),
            Some(offset) => calls::pwrite64(fd, buf, len, offset),
        };
        (call, self.buf)
    }
}

impl<'fd> Operation<'fd> for Write<'fd> {}

/// Writes a file's data to its disk, as fsync(2).
#[derive(Debug)]
#[must_use = "an operation does nothing until it is submitted"]
pub struct Sync<'fd> {
    fd: BorrowedFd<'fd>,
}

impl<'fd> Sync<'fd> {
    /// Data and metadata.
    pub fn new(fd: BorrowedFd<'fd>) -> Self {
        Sync { fd }
    }
}

impl private::Sealed for Sync<'_> {
    fn into_parts(self) -> (Call, Vec<u8>) {
        (calls::fsync(self.fd.as_raw_fd()), Vec::new())
    }
}

impl<'fd> Operation<'fd> for Sync<'fd> {}
