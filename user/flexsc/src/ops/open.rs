// SPDX-License-Identifier: MIT OR Apache-2.0
//! Opening and closing files.

use std::ffi::CString;
use std::io;
use std::mem::ManuallyDrop;
use std::os::fd::{AsRawFd, OwnedFd};

use super::private::{End, Prepared, Sealed};
use super::{Mode, OFlag, Operation, ResolveFlag};
use crate::sys::buf;
use crate::{Fd, calls};

/// Opens a file, and creates it if requested
/// ([openat(2)](https://man7.org/linux/man-pages/man2/open.2.html)). Gives back the
/// descriptor and the path.
///
/// Use [`OFlag::O_CLOEXEC`] unless a program that this one executes must inherit the
/// descriptor.
#[derive(Debug)]
#[must_use = "an operation does nothing until it is submitted"]
pub struct OpenAt {
    dir: Fd,
    path: CString,
    flags: OFlag,
    mode: Mode,
}

impl OpenAt {
    /// Opens this path, relative to the directory ([`Fd::cwd`]).
    pub fn new(dir: impl Into<Fd>, path: impl Into<CString>, flags: OFlag) -> Self {
        OpenAt {
            dir: dir.into(),
            path: path.into(),
            flags,
            mode: Mode::from_bits_truncate(0o666),
        }
    }

    /// The permissions of a file that is created, of which the process's umask takes some
    /// away. 0666 if not set.
    pub fn mode(mut self, mode: Mode) -> Self {
        self.mode = mode;
        self
    }
}

impl Sealed for OpenAt {
    fn prepare(&mut self) -> Prepared {
        let (dir, path) = (self.dir.as_raw_fd(), self.path.as_ptr());
        let call = calls::openat(dir, path, self.flags.bits(), self.mode.bits());
        Prepared::new(call).opens()
    }
}

impl Operation for OpenAt {
    type Output = (io::Result<OwnedFd>, CString);

    fn output(self, end: End) -> Self::Output {
        (end.into_fd(), self.path)
    }
}

/// Opens a file and restricts how its path is resolved
/// ([openat2(2)](https://man7.org/linux/man-pages/man2/openat2.2.html)). Gives back the
/// descriptor and the path.
#[derive(Debug)]
#[must_use = "an operation does nothing until it is submitted"]
pub struct OpenAt2 {
    dir: Fd,
    path: CString,
    flags: OFlag,
    mode: Mode,
    resolve: ResolveFlag,
    how: Option<Box<libc::open_how>>,
}

impl OpenAt2 {
    /// Opens this path, relative to the directory.
    pub fn new(dir: impl Into<Fd>, path: impl Into<CString>, flags: OFlag) -> Self {
        OpenAt2 {
            dir: dir.into(),
            path: path.into(),
            flags,
            mode: Mode::empty(),
            resolve: ResolveFlag::empty(),
            how: None,
        }
    }

    /// The permissions of a file that is created, none if not set. The call fails with EINVAL
    /// if permissions are set but `flags` create no file.
    pub fn mode(mut self, mode: Mode) -> Self {
        self.mode = mode;
        self
    }

    /// How the path is resolved, such as [`ResolveFlag::RESOLVE_BENEATH`].
    pub fn resolve(mut self, resolve: ResolveFlag) -> Self {
        self.resolve = resolve;
        self
    }
}

impl Sealed for OpenAt2 {
    fn prepare(&mut self) -> Prepared {
        let mut how: Box<libc::open_how> = buf::zeroed();
        // The call refuses unknown bits, thus also those that a sign extension would set.
        how.flags = u64::from(self.flags.bits() as u32);
        how.mode = self.mode.bits().into();
        how.resolve = self.resolve.bits();
        let how = self.how.insert(how);
        let (dir, path) = (self.dir.as_raw_fd(), self.path.as_ptr());
        let call = calls::openat2(dir, path, &raw const **how, size_of::<libc::open_how>());
        Prepared::new(call).opens()
    }
}

impl Operation for OpenAt2 {
    type Output = (io::Result<OwnedFd>, CString);

    fn output(self, end: End) -> Self::Output {
        (end.into_fd(), self.path)
    }
}

/// Closes a descriptor
/// ([close(2)](https://man7.org/linux/man-pages/man2/close.2.html)).
///
/// The descriptor is closed whatever the result is. An error means that earlier writes
/// are lost. If the operation is cancelled before it starts, dropping its
/// [`Done`](crate::Done) closes the descriptor.
#[derive(Debug)]
#[must_use = "an operation does nothing until it is submitted"]
pub struct Close {
    fd: State,
}

#[derive(Debug)]
enum State {
    Owned(OwnedFd),
    /// The call closes it, and no other code may.
    Given(ManuallyDrop<OwnedFd>),
    Closed,
}

impl Close {
    /// Closes this descriptor. [`Fd::into_owned`] gets it from an [`Fd`].
    pub fn new(fd: impl Into<OwnedFd>) -> Self {
        Close {
            fd: State::Owned(fd.into()),
        }
    }
}

impl Sealed for Close {
    fn prepare(&mut self) -> Prepared {
        self.fd = match std::mem::replace(&mut self.fd, State::Closed) {
            State::Owned(fd) => State::Given(ManuallyDrop::new(fd)),
            other => other,
        };
        let raw = match &self.fd {
            State::Given(fd) => fd.as_raw_fd(),
            State::Owned(_) | State::Closed => -1,
        };
        Prepared::new(calls::close(raw))
    }

    fn settle(&mut self, end: &End) {
        let fd = std::mem::replace(&mut self.fd, State::Closed);
        if let (State::Given(fd), false) = (fd, end.made()) {
            self.fd = State::Owned(ManuallyDrop::into_inner(fd));
        }
    }
}

impl Operation for Close {
    type Output = io::Result<()>;

    fn output(self, end: End) -> Self::Output {
        end.unit()
    }
}
