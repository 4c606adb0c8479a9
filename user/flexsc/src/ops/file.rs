// SPDX-License-Identifier: MIT OR Apache-2.0
//! Reading, writing, and flushing files.

use std::io;
use std::os::fd::AsRawFd;

use super::Operation;
use super::private::{End, Prepared, Sealed};
use super::simple::counts;
use crate::sys::buf::{self, IoBuf, IoBufMut, Slices};
use crate::sys::poll::Readiness;
use crate::{Fd, calls};

/// Reads from a file's position or from an offset:
/// [read(2)](https://man7.org/linux/man-pages/man2/read.2.html) and
/// [pread(2)](https://man7.org/linux/man-pages/man2/pread.2.html). Gives back the number of
/// bytes and the buffer.
#[derive(Debug)]
#[must_use = "an operation does nothing until it is submitted"]
pub struct Read<B = Vec<u8>> {
    fd: Fd,
    buf: B,
    offset: Option<i64>,
}

impl<B: IoBufMut> Read<B> {
    /// Reads at most as many bytes as `buf` has room for, to its start: `buf.len()` bytes,
    /// and the length does not change. If `buf` is a `Vec` that is empty and has a capacity
    /// ([`Vec::with_capacity`]), reads at most as many bytes as its capacity, and sets its
    /// length to the number of bytes read.
    pub fn new(fd: impl Into<Fd>, buf: B) -> Self {
        Read {
            fd: fd.into(),
            buf,
            offset: None,
        }
    }
}

impl<B> Read<B> {
    /// Reads from this offset, as pread(2).
    pub fn at(mut self, offset: i64) -> Self {
        self.offset = Some(offset);
        self
    }
}

impl<B: IoBufMut> Sealed for Read<B> {
    fn prepare(&mut self) -> Prepared {
        let (fd, len) = (self.fd.as_raw_fd(), self.buf.room());
        let buf = self.buf.as_mut_ptr().cast();
        let call = match self.offset {
            None => calls::read(fd, buf, len),
            Some(offset) => calls::pread64(fd, buf, len, offset),
        };
        Prepared::when(call, &self.fd, Readiness::Readable)
    }

    fn settle(&mut self, end: &End) {
        buf::filled(&mut self.buf, end);
    }

    fn vec(&mut self) -> Option<&mut Vec<u8>> {
        buf::as_vec(&mut self.buf)
    }
}

counts!(Read: IoBufMut);

/// Writes a buffer at a file's position or at an offset:
/// [write(2)](https://man7.org/linux/man-pages/man2/write.2.html) and
/// [pwrite(2)](https://man7.org/linux/man-pages/man2/pwrite.2.html). Like them, it may write
/// fewer bytes. Gives back their number and the buffer.
#[derive(Debug)]
#[must_use = "an operation does nothing until it is submitted"]
pub struct Write<B = Vec<u8>> {
    fd: Fd,
    buf: B,
    offset: Option<i64>,
    synced: bool,
    slices: Slices,
}

impl<B: IoBuf> Write<B> {
    /// Writes at most `buf.len()` bytes.
    pub fn new(fd: impl Into<Fd>, buf: B) -> Self {
        Write {
            fd: fd.into(),
            buf,
            offset: None,
            synced: false,
            slices: Slices::default(),
        }
    }
}

impl<B> Write<B> {
    /// Writes at this offset, as pwrite(2).
    pub fn at(mut self, offset: i64) -> Self {
        self.offset = Some(offset);
        self
    }

    /// Finishes when the written data is on disk: like write(2) followed by fsync(2) for
    /// this data ([pwritev2(2)](https://man7.org/linux/man-pages/man2/pwritev2.2.html),
    /// RWF_SYNC).
    pub fn synced(mut self) -> Self {
        self.synced = true;
        self
    }
}

impl<B: IoBuf> Sealed for Write<B> {
    fn prepare(&mut self) -> Prepared {
        let (fd, len) = (self.fd.as_raw_fd(), self.buf.len());
        let buf = self.buf.as_ptr().cast();
        let call = match (self.synced, self.offset) {
            (false, None) => calls::write(fd, buf, len),
            (false, Some(offset)) => calls::pwrite64(fd, buf, len, offset),
            (true, offset) => {
                self.slices = Slices::new(std::slice::from_ref(&self.buf));
                // pwritev2(2) takes -1 as the file's position. Any other negative offset is
                // an error, as in pwrite(2).
                let offset = match offset {
                    None => -1,
                    Some(-1) => i64::MIN,
                    Some(offset) => offset,
                };
                calls::pwritev2(fd, self.slices.as_ptr(), 1, offset, 0, libc::RWF_SYNC)
            }
        };
        Prepared::when(call, &self.fd, Readiness::Writable)
    }

    fn vec(&mut self) -> Option<&mut Vec<u8>> {
        buf::as_vec(&mut self.buf)
    }
}

counts!(Write: IoBuf);

/// Flushes a file to its disk: the data and metadata of writes that have finished before
/// this operation is submitted
/// ([fsync(2)](https://man7.org/linux/man-pages/man2/fsync.2.html)).
#[derive(Debug)]
#[must_use = "an operation does nothing until it is submitted"]
pub struct Fsync {
    fd: Fd,
    data: bool,
}

impl Fsync {
    /// Flushes data and metadata.
    pub fn new(fd: impl Into<Fd>) -> Self {
        Fsync {
            fd: fd.into(),
            data: false,
        }
    }

    /// Flushes only the metadata that is needed to read the data again, as fdatasync(2):
    /// not times, for example.
    pub fn data(mut self) -> Self {
        self.data = true;
        self
    }
}

impl Sealed for Fsync {
    fn prepare(&mut self) -> Prepared {
        let fd = self.fd.as_raw_fd();
        Prepared::new(if self.data {
            calls::fdatasync(fd)
        } else {
            calls::fsync(fd)
        })
    }
}

impl Operation for Fsync {
    type Output = io::Result<()>;

    fn output(self, end: End) -> Self::Output {
        end.unit()
    }
}
