// SPDX-License-Identifier: MIT OR Apache-2.0
//! Extended attributes of open files.

use std::ffi::CString;
use std::io;
use std::os::fd::AsRawFd;

use libc::c_int;

use super::Operation;
use super::private::{End, Prepared, Sealed};
use super::simple::{counts, simple};
use crate::sys::buf::{self, IoBuf, IoBufMut};
use crate::{Fd, calls};

/// Reads an extended attribute of a file
/// ([fgetxattr(2)](https://man7.org/linux/man-pages/man2/getxattr.2.html)). Gives back the
/// length of the value, the name and the buffer. With an empty buffer without capacity, the
/// length is the room that the value needs.
#[derive(Debug)]
#[must_use = "an operation does nothing until it is submitted"]
pub struct GetXattr<B = Vec<u8>> {
    fd: Fd,
    name: CString,
    buf: B,
}

impl<B: IoBufMut> GetXattr<B> {
    /// Reads the attribute of this name, such as `user.note`, to the buffer, as
    /// [`Read::new`](super::Read::new) does. Fails with ERANGE if the buffer is too small.
    pub fn new(fd: impl Into<Fd>, name: impl Into<CString>, buf: B) -> Self {
        GetXattr {
            fd: fd.into(),
            name: name.into(),
            buf,
        }
    }
}

impl<B: IoBufMut> Sealed for GetXattr<B> {
    fn prepare(&mut self) -> Prepared {
        let (fd, name, room) = (self.fd.as_raw_fd(), self.name.as_ptr(), self.buf.room());
        let buf = self.buf.as_mut_ptr().cast();
        Prepared::new(calls::fgetxattr(fd, name, buf, room))
    }

    fn settle(&mut self, end: &End) {
        buf::filled(&mut self.buf, end);
    }

    fn vec(&mut self) -> Option<&mut Vec<u8>> {
        buf::as_vec(&mut self.buf)
    }
}

impl<B: IoBufMut> Operation for GetXattr<B> {
    type Output = (io::Result<usize>, CString, B);

    fn output(self, end: End) -> Self::Output {
        (end.count(), self.name, self.buf)
    }
}

/// Sets an extended attribute of a file
/// ([fsetxattr(2)](https://man7.org/linux/man-pages/man2/setxattr.2.html)). Gives back the name
/// and the buffer.
#[derive(Debug)]
#[must_use = "an operation does nothing until it is submitted"]
pub struct SetXattr<B = Vec<u8>> {
    fd: Fd,
    name: CString,
    buf: B,
    flags: c_int,
}

impl<B: IoBuf> SetXattr<B> {
    /// Sets the attribute of this name to this value.
    pub fn new(fd: impl Into<Fd>, name: impl Into<CString>, buf: B) -> Self {
        SetXattr {
            fd: fd.into(),
            name: name.into(),
            buf,
            flags: 0,
        }
    }
}

impl<B> SetXattr<B> {
    /// Fails with EEXIST if the file has the attribute.
    pub fn create(mut self) -> Self {
        self.flags = libc::XATTR_CREATE;
        self
    }

    /// Fails with ENODATA if the file does not have the attribute.
    pub fn replace(mut self) -> Self {
        self.flags = libc::XATTR_REPLACE;
        self
    }
}

impl<B: IoBuf> Sealed for SetXattr<B> {
    fn prepare(&mut self) -> Prepared {
        let (fd, name) = (self.fd.as_raw_fd(), self.name.as_ptr());
        let (buf, len) = (self.buf.as_ptr().cast(), self.buf.len());
        Prepared::new(calls::fsetxattr(fd, name, buf, len, self.flags))
    }

    fn vec(&mut self) -> Option<&mut Vec<u8>> {
        buf::as_vec(&mut self.buf)
    }
}

impl<B: IoBuf> Operation for SetXattr<B> {
    type Output = (io::Result<()>, CString, B);

    fn output(self, end: End) -> Self::Output {
        (end.unit(), self.name, self.buf)
    }
}

/// Lists the names of a file's extended attributes
/// ([flistxattr(2)](https://man7.org/linux/man-pages/man2/listxattr.2.html)). Gives back the
/// number of bytes and the buffer, in which a zero follows each name.
#[derive(Debug)]
#[must_use = "an operation does nothing until it is submitted"]
pub struct ListXattr<B = Vec<u8>> {
    fd: Fd,
    buf: B,
}

impl<B: IoBufMut> ListXattr<B> {
    /// Lists to the buffer, as [`Read::new`](super::Read::new) does. Fails with ERANGE if it is
    /// too small.
    pub fn new(fd: impl Into<Fd>, buf: B) -> Self {
        ListXattr { fd: fd.into(), buf }
    }
}

impl<B: IoBufMut> Sealed for ListXattr<B> {
    fn prepare(&mut self) -> Prepared {
        let (fd, room) = (self.fd.as_raw_fd(), self.buf.room());
        let buf = self.buf.as_mut_ptr().cast();
        Prepared::new(calls::flistxattr(fd, buf, room))
    }

    fn settle(&mut self, end: &End) {
        buf::filled(&mut self.buf, end);
    }

    fn vec(&mut self) -> Option<&mut Vec<u8>> {
        buf::as_vec(&mut self.buf)
    }
}

counts!(ListXattr: IoBufMut);

/// Removes an extended attribute of a file
/// ([fremovexattr(2)](https://man7.org/linux/man-pages/man2/removexattr.2.html)). Gives back the
/// name.
#[derive(Debug)]
#[must_use = "an operation does nothing until it is submitted"]
pub struct RemoveXattr {
    fd: Fd,
    name: CString,
}

impl RemoveXattr {
    /// Removes the attribute of this name.
    pub fn new(fd: impl Into<Fd>, name: impl Into<CString>) -> Self {
        RemoveXattr {
            fd: fd.into(),
            name: name.into(),
        }
    }
}

simple!(
    RemoveXattr -> (io::Result<()>, CString),
    |this| calls::fremovexattr(this.fd.as_raw_fd(), this.name.as_ptr()),
    |this, end| (end.unit(), this.name)
);
