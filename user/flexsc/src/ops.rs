// SPDX-License-Identifier: MIT OR Apache-2.0
//! Operations of the safe layer: each owns its buffer, and owns or shares its
//! file.
//!
//! There is no order between operations in flight: a [`Fsync`] that is submitted
//! behind a [`Write`] may be executed before it. Wait for the write first, or
//! use [`Write::synced`].

use std::os::fd::AsRawFd;

use private::Parts;

use crate::sys::poll::Readiness;
use crate::{Fd, calls};

/// Something that can be submitted to a [`Ring`](crate::Ring).
pub trait Operation: private::Sealed {}

pub(crate) mod private {
    use crate::sys::poll::Readiness;
    use crate::{Call, Fd};

    pub trait Sealed {
        /// What the kernel is to do, and the memory that it needs.
        fn into_parts(self) -> Parts;
    }

    /// An operation taken apart.
    #[derive(Debug)]
    pub struct Parts {
        /// Points to nothing but `buf` and `iov`, both of which may be moved.
        pub(crate) call: Call,
        pub(crate) fd: Fd,
        pub(crate) buf: Vec<u8>,
        /// The buffer once more, for calls that take it in this form. Not a `Box`: that
        /// may not be moved while somebody else has a pointer to its content.
        #[expect(dead_code, reason = "the kernel reads it")]
        pub(crate) iov: Vec<libc::iovec>,
        /// What the file must be ready for so that the call does not wait.
        pub(crate) readiness: Readiness,
        /// The buffer was empty, and gets the length of what is read.
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
    /// At most `buf.len()` bytes, to the beginning of `buf`, whose length stays
    /// as it is. An empty `buf` with a capacity ([`Vec::with_capacity`]): at
    /// most as many bytes as its capacity, and its length becomes that of what
    /// was read.
    pub fn new(fd: impl Into<Fd>, buf: Vec<u8>) -> Self {
        Read {
            fd: fd.into(),
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

/// Writes all of a buffer, at a file's position or at an offset. As with
/// write(2), fewer bytes may be written.
#[derive(Debug)]
#[must_use = "an operation does nothing until it is submitted"]
pub struct Write {
    fd: Fd,
    buf: Vec<u8>,
    offset: Option<i64>,
    synced: bool,
}

impl Write {
    /// At most `buf.len()` bytes.
    pub fn new(fd: impl Into<Fd>, buf: Vec<u8>) -> Self {
        Write {
            fd: fd.into(),
            buf,
            offset: None,
            synced: false,
        }
    }

    /// At this offset, as pwrite(2).
    pub fn at(mut self, offset: i64) -> Self {
        self.offset = Some(offset);
        self
    }

    /// Finishes when what was written is on the disk: as write(2) and then
    /// fsync(2), in that order, for this data (pwritev2(2), RWF_SYNC).
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
                // The kernel follows the pointer of the iovec: that one is
                // exposed as those of the other calls are.
                buf.expose_provenance();
                // A negative offset has its own error, but for -1, which would
                // mean the file's position.
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

/// Writes a file's data and metadata to its disk, as fsync(2): those of writes
/// that have finished before it is submitted.
#[derive(Debug)]
#[must_use = "an operation does nothing until it is submitted"]
pub struct Fsync {
    fd: Fd,
}

impl Fsync {
    /// Data and metadata.
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
