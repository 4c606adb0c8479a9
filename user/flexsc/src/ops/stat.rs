// SPDX-License-Identifier: MIT OR Apache-2.0
//! Attributes of files.

use std::ffi::CString;
use std::io;
use std::os::fd::AsRawFd;

use super::private::{End, Prepared, Sealed};
use super::{AtFlags, Operation};
use crate::sys::buf;
use crate::{Fd, calls};

/// Asks for the size, the type, the times of a file
/// ([statx(2)](https://man7.org/linux/man-pages/man2/statx.2.html)). Gives back the record
/// and the path.
#[derive(Debug)]
#[must_use = "an operation does nothing until it is submitted"]
pub struct Statx {
    dir: Fd,
    path: CString,
    flags: AtFlags,
    mask: u32,
    record: Option<Box<libc::statx>>,
}

impl Statx {
    /// Asks about this path, relative to the directory, with the mask
    /// `libc::STATX_BASIC_STATS`.
    pub fn new(dir: impl Into<Fd>, path: impl Into<CString>) -> Self {
        Statx {
            dir: dir.into(),
            path: path.into(),
            flags: AtFlags::empty(),
            mask: libc::STATX_BASIC_STATS,
            record: None,
        }
    }

    /// Asks about an open file.
    pub fn of(fd: impl Into<Fd>) -> Self {
        Statx::new(fd, c"").flags(AtFlags::AT_EMPTY_PATH)
    }

    /// How the path is resolved, such as [`AtFlags::AT_SYMLINK_NOFOLLOW`].
    pub fn flags(mut self, flags: AtFlags) -> Self {
        self.flags = flags;
        self
    }

    /// The fields that the program needs, `libc::STATX_…`. The record's `stx_mask` says
    /// which ones are valid.
    pub fn mask(mut self, mask: u32) -> Self {
        self.mask = mask;
        self
    }
}

impl Sealed for Statx {
    fn prepare(&mut self) -> Prepared {
        let record = self.record.insert(buf::zeroed());
        Prepared::new(calls::statx(
            self.dir.as_raw_fd(),
            self.path.as_ptr(),
            self.flags.bits(),
            self.mask,
            &raw mut **record,
        ))
    }
}

impl Operation for Statx {
    type Output = (io::Result<libc::statx>, CString);

    fn output(self, end: End) -> Self::Output {
        let record = self.record.map_or_else(|| *buf::zeroed(), |record| *record);
        (end.unit().map(|()| record), self.path)
    }
}

/// Asks for the size, the type, the times of an open file
/// ([fstat(2)](https://man7.org/linux/man-pages/man2/fstat.2.html)).
#[derive(Debug)]
#[must_use = "an operation does nothing until it is submitted"]
pub struct Fstat {
    fd: Fd,
    record: Option<Box<libc::stat>>,
}

impl Fstat {
    /// Asks about this file.
    pub fn new(fd: impl Into<Fd>) -> Self {
        Fstat {
            fd: fd.into(),
            record: None,
        }
    }
}

impl Sealed for Fstat {
    fn prepare(&mut self) -> Prepared {
        let record = self.record.insert(buf::zeroed());
        Prepared::new(calls::fstat(self.fd.as_raw_fd(), &raw mut **record))
    }
}

impl Operation for Fstat {
    type Output = io::Result<libc::stat>;

    fn output(self, end: End) -> Self::Output {
        let record = self.record.map_or_else(|| *buf::zeroed(), |record| *record);
        end.unit().map(|()| record)
    }
}
