// SPDX-License-Identifier: MIT OR Apache-2.0
//! The size and the blocks of files, and copies between files.

use std::io;
use std::os::fd::AsRawFd;

use super::private::{End, Prepared, Sealed};
use super::simple::simple;
use super::{FallocateFlags, Operation};
use crate::{Fd, calls};

/// Sets the size of a file
/// ([ftruncate(2)](https://man7.org/linux/man-pages/man2/ftruncate.2.html)).
#[derive(Debug)]
#[must_use = "an operation does nothing until it is submitted"]
pub struct Ftruncate {
    fd: Fd,
    len: i64,
}

impl Ftruncate {
    /// Cuts the file, or extends it by zeros, to this many bytes.
    pub fn new(fd: impl Into<Fd>, len: i64) -> Self {
        Ftruncate { fd: fd.into(), len }
    }
}

simple!(
    Ftruncate -> io::Result<()>,
    |this| calls::ftruncate(this.fd.as_raw_fd(), this.len),
    |_, end| end.unit()
);

/// Allocates or frees blocks of a file
/// ([fallocate(2)](https://man7.org/linux/man-pages/man2/fallocate.2.html)).
#[derive(Debug)]
#[must_use = "an operation does nothing until it is submitted"]
pub struct Fallocate {
    fd: Fd,
    offset: i64,
    len: i64,
    flags: FallocateFlags,
}

impl Fallocate {
    /// Allocates the blocks of this range in bytes, and extends the file if it is shorter.
    pub fn new(fd: impl Into<Fd>, offset: i64, len: i64) -> Self {
        Fallocate {
            fd: fd.into(),
            offset,
            len,
            flags: FallocateFlags::empty(),
        }
    }

    /// Flags that change the operation, for example to free the blocks of the range.
    pub fn flags(mut self, flags: FallocateFlags) -> Self {
        self.flags = flags;
        self
    }
}

simple!(
    Fallocate -> io::Result<()>,
    |this| calls::fallocate(this.fd.as_raw_fd(), this.flags.bits(), this.offset, this.len),
    |_, end| end.unit()
);

/// Copies a part of a file to another one in the kernel
/// ([copy_file_range(2)](https://man7.org/linux/man-pages/man2/copy_file_range.2.html)).
/// Gives back the number of bytes that were copied: fewer than wanted, or 0 at the end of
/// the file.
#[derive(Debug)]
#[must_use = "an operation does nothing until it is submitted"]
pub struct CopyFileRange {
    from: Fd,
    from_offset: Option<Box<i64>>,
    to: Fd,
    to_offset: Option<Box<i64>>,
    len: usize,
}

impl CopyFileRange {
    /// Copies at most `len` bytes, from and to the files' positions.
    pub fn new(from: impl Into<Fd>, to: impl Into<Fd>, len: usize) -> Self {
        CopyFileRange {
            from: from.into(),
            from_offset: None,
            to: to.into(),
            to_offset: None,
            len,
        }
    }

    /// Reads from this offset, and does not change the position of that file.
    pub fn from_offset(mut self, offset: i64) -> Self {
        self.from_offset = Some(Box::new(offset));
        self
    }

    /// Writes at this offset, and does not change the position of that file.
    pub fn to_offset(mut self, offset: i64) -> Self {
        self.to_offset = Some(Box::new(offset));
        self
    }
}

impl Sealed for CopyFileRange {
    fn prepare(&mut self) -> Prepared {
        let offset = |offset: &mut Option<Box<i64>>| match offset {
            Some(offset) => &raw mut **offset,
            None => std::ptr::null_mut(),
        };
        Prepared::new(calls::copy_file_range(
            self.from.as_raw_fd(),
            offset(&mut self.from_offset),
            self.to.as_raw_fd(),
            offset(&mut self.to_offset),
            self.len,
            0,
        ))
    }
}

impl Operation for CopyFileRange {
    type Output = io::Result<usize>;

    fn output(self, end: End) -> Self::Output {
        end.count()
    }
}
