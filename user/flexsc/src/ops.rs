// SPDX-License-Identifier: MIT OR Apache-2.0
//! Operations of the safe layer. Each owns its buffer, and owns or shares its file.
//!
//! Operations in flight have no order: a [`Fsync`] that is submitted after a [`Write`] may
//! be executed first. Wait for the write before, or use [`Write::synced`].

use std::os::fd::AsRawFd;

use private::Parts;

use crate::sys::poll::Readiness;
use crate::{Fd, calls};

/// An operation that can be submitted to a [`Ring`](crate::Ring).
pub trait Operation: private::Sealed {}

pub(crate) mod private {
    use crate::sys::poll::Readiness;
    use crate::{Call, Fd};

    pub trait Sealed {
        /// Returns the call and the memory that it needs.
        fn into_parts(self) -> Parts;
    }

    /// The parts of an operation.
    #[derive(Debug)]
    pub struct Parts {
        /// Points only to `buf` and `iov`, both of which may be moved.
        pub(crate) call: Call,
        pub(crate) fd: Fd,
        pub(crate) buf: Vec<u8>,
        /// The buffer once more, for calls that take it in this form. Not a `Box`: that
        /// may not be moved while somebody else has a pointer to its content.
        #[expect(dead_code, reason = "the kernel reads it")]
        pub(crate) iov: Vec<libc::iovec>,
        /// What the file must be ready for so that the call does not block.
        pub(crate) readiness: Readiness,
        /// The buffer was empty, and its length becomes the number of bytes read.
        pub(crate) grows: bool,
    }
}

/// Reads from a file's position or from an offset, as read(2) and pread(2).
#[derive(Debug)]
#[must_use = "an operation does nothing until it is submitted"]
pub struct Read {
    fd: Fd,
    buf: Vec<u8>,
    offset: Option<i64>,
}

impl Read {
    /// Reads at most `buf.len()` bytes to the start of `buf`, whose length does not change.
    /// If `buf` is empty and has a capacity ([`Vec::with_capacity`]), reads at most as many
    /// bytes as its capacity, and sets its length to the number of bytes read.
    pub fn new(fd: impl Into<Fd>, buf: Vec<u8>) -> Self {
        Read {
            fd: fd.into(),
            buf,
            offset: None,
        }
    }

    /// Reads from this offset, as pread(2).
    pub fn at(mut self, offset: i64) -> Self {
        self.offset = Some(offset);
        self
    }
}

impl private::Sealed for Read {
    fn into_parts(mut self) -> Parts {
        let grows = self.buf.is_empty();
        let len = if grows {
            self.buf.capacity()
        } else {
            self.buf.len()
        };
        let (fd, buf) = (self.fd.as_raw_fd(), self.buf.as_mut_ptr().cast());
        let call = match self.offset {
            None => calls::read(fd, buf, len),
            Some(offset) => calls::pread64(fd, buf, len, offset),
        };
        Parts {
            call,
            fd: self.fd,
            buf: self.buf,
            iov: Vec::new(),
            readiness: Readiness::Readable,
            grows,
        }
    }
}

impl Operation for Read {}

/// Writes a buffer at a file's position or at an offset. Like write(2), it may write fewer
/// bytes.
#[derive(Debug)]
#[must_use = "an operation does nothing until it is submitted"]
pub struct Write {
    fd: Fd,
    buf: Vec<u8>,
    offset: Option<i64>,
    synced: bool,
}

impl Write {
    /// Writes at most `buf.len()` bytes.
    pub fn new(fd: impl Into<Fd>, buf: Vec<u8>) -> Self {
        Write {
            fd: fd.into(),
            buf,
            offset: None,
            synced: false,
        }
    }

    /// Writes at this offset, as pwrite(2).
    pub fn at(mut self, offset: i64) -> Self {
        self.offset = Some(offset);
        self
    }

    /// Finishes when the written data is on disk: like write(2) followed by fsync(2) for
    /// this data (pwritev2(2), RWF_SYNC).
    pub fn synced(mut self) -> Self {
        self.synced = true;
        self
    }
}

impl private::Sealed for Write {
    fn into_parts(self) -> Parts {
        let (fd, len) = (self.fd.as_raw_fd(), self.buf.len());
        let buf = self.buf.as_ptr().cast_mut().cast();
        let iov = libc::iovec {
            iov_base: buf,
            iov_len: len,
        };
        let iov = if self.synced { vec![iov] } else { Vec::new() };
        let call = match (iov.as_slice(), self.offset) {
            ([], None) => calls::write(fd, buf, len),
            ([], Some(offset)) => calls::pwrite64(fd, buf, len, offset),
            (iov, offset) => {
                // The kernel follows the pointer in the iovec, so its provenance is exposed
                // as well.
                buf.expose_provenance();
                // pwritev2(2) takes -1 as the file's position. Any other negative offset is
                // an error, as in pwrite(2).
                let offset = match offset {
                    None => -1,
                    Some(-1) => i64::MIN,
                    Some(offset) => offset,
                };
                calls::pwritev2(fd, iov.as_ptr(), 1, offset, 0, libc::RWF_SYNC)
            }
        };
        Parts {
            call,
            fd: self.fd,
            buf: self.buf,
            iov,
            readiness: Readiness::Writable,
            grows: false,
        }
    }
}

impl Operation for Write {}

/// Flushes a file to its disk, as fsync(2): the data and metadata of writes that have
/// finished before this operation is submitted.
#[derive(Debug)]
#[must_use = "an operation does nothing until it is submitted"]
pub struct Fsync {
    fd: Fd,
}

impl Fsync {
    /// Flushes data and metadata.
    pub fn new(fd: impl Into<Fd>) -> Self {
        Fsync { fd: fd.into() }
    }
}

impl private::Sealed for Fsync {
    fn into_parts(self) -> Parts {
        Parts {
            call: calls::fsync(self.fd.as_raw_fd()),
            fd: self.fd,
            buf: Vec::new(),
            iov: Vec::new(),
            readiness: Readiness::Always,
            grows: false,
        }
    }
}

impl Operation for Fsync {}
