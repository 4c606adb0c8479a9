// SPDX-License-Identifier: MIT OR Apache-2.0
//! Names of files: making, removing, linking and renaming.

use std::ffi::CString;
use std::io;
use std::os::fd::AsRawFd;

use super::private::{End, Prepared, Sealed};
use super::simple::simple;
use super::{AtFlags, Mode, Operation};
use crate::sys::buf::{self, IoBufMut};
use crate::{Fd, calls};

/// Makes a directory
/// ([mkdirat(2)](https://man7.org/linux/man-pages/man2/mkdir.2.html)). Gives back the path.
#[derive(Debug)]
#[must_use = "an operation does nothing until it is submitted"]
pub struct MkdirAt {
    dir: Fd,
    path: CString,
    mode: Mode,
}

impl MkdirAt {
    /// Makes this path, relative to the directory.
    pub fn new(dir: impl Into<Fd>, path: impl Into<CString>) -> Self {
        MkdirAt {
            dir: dir.into(),
            path: path.into(),
            mode: Mode::from_bits_truncate(0o777),
        }
    }

    /// The permissions, of which the process's umask takes some away. 0777 if not set.
    pub fn mode(mut self, mode: Mode) -> Self {
        self.mode = mode;
        self
    }
}

simple!(
    MkdirAt -> (io::Result<()>, CString),
    |this| calls::mkdirat(this.dir.as_raw_fd(), this.path.as_ptr(), this.mode.bits()),
    |this, end| (end.unit(), this.path)
);

/// Removes a name, and the file if it has no other
/// ([unlinkat(2)](https://man7.org/linux/man-pages/man2/unlink.2.html)). Gives back the
/// path.
#[derive(Debug)]
#[must_use = "an operation does nothing until it is submitted"]
pub struct UnlinkAt {
    dir: Fd,
    path: CString,
    flags: AtFlags,
}

impl UnlinkAt {
    /// Removes this path, relative to the directory. It must not be a directory itself.
    pub fn new(dir: impl Into<Fd>, path: impl Into<CString>) -> Self {
        UnlinkAt {
            dir: dir.into(),
            path: path.into(),
            flags: AtFlags::empty(),
        }
    }

    /// Removes an empty directory instead, as rmdir(2).
    pub fn directory(mut self) -> Self {
        self.flags = AtFlags::AT_REMOVEDIR;
        self
    }
}

simple!(
    UnlinkAt -> (io::Result<()>, CString),
    |this| calls::unlinkat(this.dir.as_raw_fd(), this.path.as_ptr(), this.flags.bits()),
    |this, end| (end.unit(), this.path)
);

/// Gives a file another name
/// ([renameat2(2)](https://man7.org/linux/man-pages/man2/rename.2.html)). Gives back both
/// paths.
#[derive(Debug)]
#[must_use = "an operation does nothing until it is submitted"]
pub struct RenameAt2 {
    from: Fd,
    old: CString,
    to: Fd,
    new: CString,
    flags: u32,
}

impl RenameAt2 {
    /// Renames `old`, relative to `from`, to `new`, relative to `to`. A file of that name is
    /// replaced.
    pub fn new(
        from: impl Into<Fd>,
        old: impl Into<CString>,
        to: impl Into<Fd>,
        new: impl Into<CString>,
    ) -> Self {
        RenameAt2 {
            from: from.into(),
            old: old.into(),
            to: to.into(),
            new: new.into(),
            flags: 0,
        }
    }

    /// Fails with EEXIST instead of replacing a file.
    pub fn no_replace(mut self) -> Self {
        self.flags |= libc::RENAME_NOREPLACE;
        self
    }

    /// Exchanges both names, which must exist.
    pub fn exchange(mut self) -> Self {
        self.flags |= libc::RENAME_EXCHANGE;
        self
    }
}

simple!(
    RenameAt2 -> (io::Result<()>, (CString, CString)),
    |this| calls::renameat2(
        this.from.as_raw_fd(),
        this.old.as_ptr(),
        this.to.as_raw_fd(),
        this.new.as_ptr(),
        this.flags,
    ),
    |this, end| (end.unit(), (this.old, this.new))
);

/// Gives a file one more name
/// ([linkat(2)](https://man7.org/linux/man-pages/man2/link.2.html)). Gives back both paths.
#[derive(Debug)]
#[must_use = "an operation does nothing until it is submitted"]
pub struct LinkAt {
    from: Fd,
    old: CString,
    to: Fd,
    new: CString,
    flags: AtFlags,
}

impl LinkAt {
    /// Gives `old`, relative to `from`, the name `new`, relative to `to`.
    pub fn new(
        from: impl Into<Fd>,
        old: impl Into<CString>,
        to: impl Into<Fd>,
        new: impl Into<CString>,
    ) -> Self {
        LinkAt {
            from: from.into(),
            old: old.into(),
            to: to.into(),
            new: new.into(),
            flags: AtFlags::empty(),
        }
    }

    /// How `old` is resolved: [`AtFlags::AT_SYMLINK_FOLLOW`], or
    /// [`AtFlags::AT_EMPTY_PATH`] if `from` is the file.
    pub fn flags(mut self, flags: AtFlags) -> Self {
        self.flags = flags;
        self
    }
}

simple!(
    LinkAt -> (io::Result<()>, (CString, CString)),
    |this| calls::linkat(
        this.from.as_raw_fd(),
        this.old.as_ptr(),
        this.to.as_raw_fd(),
        this.new.as_ptr(),
        this.flags.bits(),
    ),
    |this, end| (end.unit(), (this.old, this.new))
);

/// Makes a symbolic link
/// ([symlinkat(2)](https://man7.org/linux/man-pages/man2/symlink.2.html)). Gives back its
/// content and its path.
#[derive(Debug)]
#[must_use = "an operation does nothing until it is submitted"]
pub struct SymlinkAt {
    target: CString,
    dir: Fd,
    path: CString,
}

impl SymlinkAt {
    /// Makes a link to `target` of this path, relative to the directory.
    pub fn new(target: impl Into<CString>, dir: impl Into<Fd>, path: impl Into<CString>) -> Self {
        SymlinkAt {
            target: target.into(),
            dir: dir.into(),
            path: path.into(),
        }
    }
}

simple!(
    SymlinkAt -> (io::Result<()>, (CString, CString)),
    |this| calls::symlinkat(this.target.as_ptr(), this.dir.as_raw_fd(), this.path.as_ptr()),
    |this, end| (end.unit(), (this.target, this.path))
);

/// Reads the content of a symbolic link
/// ([readlinkat(2)](https://man7.org/linux/man-pages/man2/readlink.2.html)). Gives back its
/// length, the path and the buffer. If the length is that of the buffer, there may be more.
#[derive(Debug)]
#[must_use = "an operation does nothing until it is submitted"]
pub struct ReadLinkAt<B = Vec<u8>> {
    dir: Fd,
    path: CString,
    buf: B,
}

impl<B: IoBufMut> ReadLinkAt<B> {
    /// Reads the link of this path, relative to the directory, to the buffer, as
    /// [`Read::new`](super::Read::new) does.
    pub fn new(dir: impl Into<Fd>, path: impl Into<CString>, buf: B) -> Self {
        ReadLinkAt {
            dir: dir.into(),
            path: path.into(),
            buf,
        }
    }
}

impl<B: IoBufMut> Sealed for ReadLinkAt<B> {
    fn prepare(&mut self) -> Prepared {
        let len = self.buf.room();
        let (dir, path) = (self.dir.as_raw_fd(), self.path.as_ptr());
        let buf = self.buf.as_mut_ptr().cast();
        Prepared::new(calls::readlinkat(dir, path, buf, len))
    }

    fn settle(&mut self, end: &End) {
        buf::filled(&mut self.buf, end);
    }

    fn vec(&mut self) -> Option<&mut Vec<u8>> {
        buf::as_vec(&mut self.buf)
    }
}

impl<B: IoBufMut> Operation for ReadLinkAt<B> {
    type Output = (io::Result<usize>, CString, B);

    fn output(self, end: End) -> Self::Output {
        (end.count(), self.path, self.buf)
    }
}
