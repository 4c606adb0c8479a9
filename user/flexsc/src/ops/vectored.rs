// SPDX-License-Identifier: MIT OR Apache-2.0
//! Reading to and writing from several buffers.

use std::io;
use std::os::fd::AsRawFd;

use super::Operation;
use super::private::{End, Prepared, Sealed};
use crate::sys::buf::{self, IoBuf, IoBufMut, Slices};
use crate::sys::poll::Readiness;
use crate::{Fd, calls};

/// Reads to several buffers, one after the other:
/// [readv(2) and preadv(2)](https://man7.org/linux/man-pages/man2/readv.2.html). Gives back
/// the number of bytes and the buffers.
#[derive(Debug)]
#[must_use = "an operation does nothing until it is submitted"]
pub struct ReadVectored<B = Vec<u8>> {
    fd: Fd,
    bufs: Vec<B>,
    offset: Option<i64>,
    slices: Slices,
}

impl<B: IoBufMut> ReadVectored<B> {
    /// Fills these buffers, of which there may be 1024, as [`Read::new`](super::Read::new)
    /// fills one.
    pub fn new(fd: impl Into<Fd>, bufs: Vec<B>) -> Self {
        ReadVectored {
            fd: fd.into(),
            bufs,
            offset: None,
            slices: Slices::default(),
        }
    }
}

impl<B> ReadVectored<B> {
    /// Reads from this offset, as preadv(2).
    pub fn at(mut self, offset: i64) -> Self {
        self.offset = Some(offset);
        self
    }
}

impl<B: IoBufMut> Sealed for ReadVectored<B> {
    fn prepare(&mut self) -> Prepared {
        self.slices = Slices::new_mut(&mut self.bufs);
        let (iov, count) = (self.slices.as_ptr(), self.slices.count());
        let fd = self.fd.as_raw_fd();
        let call = match self.offset {
            None => calls::readv(fd, iov, count),
            Some(offset) => calls::preadv(fd, iov, count, offset, 0),
        };
        Prepared::when(call, &self.fd, Readiness::Readable)
    }

    fn settle(&mut self, end: &End) {
        buf::all_filled(&mut self.bufs, end);
    }
}

impl<B: IoBufMut> Operation for ReadVectored<B> {
    type Output = (io::Result<usize>, Vec<B>);

    fn output(self, end: End) -> Self::Output {
        (end.count(), self.bufs)
    }
}

/// Writes several buffers, one after the other:
/// [writev(2) and pwritev(2)](https://man7.org/linux/man-pages/man2/writev.2.html). May
/// write fewer bytes. Gives back their number and the buffers.
#[derive(Debug)]
#[must_use = "an operation does nothing until it is submitted"]
pub struct WriteVectored<B = Vec<u8>> {
    fd: Fd,
    bufs: Vec<B>,
    offset: Option<i64>,
    slices: Slices,
}

impl<B: IoBuf> WriteVectored<B> {
    /// Writes these buffers, of which there may be 1024.
    pub fn new(fd: impl Into<Fd>, bufs: Vec<B>) -> Self {
        WriteVectored {
            fd: fd.into(),
            bufs,
            offset: None,
            slices: Slices::default(),
        }
    }
}

impl<B> WriteVectored<B> {
    /// Writes at this offset, as pwritev(2).
    pub fn at(mut self, offset: i64) -> Self {
        self.offset = Some(offset);
        self
    }
}

impl<B: IoBuf> Sealed for WriteVectored<B> {
    fn prepare(&mut self) -> Prepared {
        self.slices = Slices::new(&self.bufs);
        let (iov, count) = (self.slices.as_ptr(), self.slices.count());
        let fd = self.fd.as_raw_fd();
        let call = match self.offset {
            None => calls::writev(fd, iov, count),
            Some(offset) => calls::pwritev(fd, iov, count, offset, 0),
        };
        Prepared::when(call, &self.fd, Readiness::Writable)
    }
}

impl<B: IoBuf> Operation for WriteVectored<B> {
    type Output = (io::Result<usize>, Vec<B>);

    fn output(self, end: End) -> Self::Output {
        (end.count(), self.bufs)
    }
}
