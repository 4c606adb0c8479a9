// SPDX-License-Identifier: MIT OR Apache-2.0
//! Pipes, sockets and temporary directories.

use std::ffi::{CString, OsStr};
use std::fs;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use super::ring::Call;
use super::sys;
use crate::check::Check;

/// A pipe: read end, write end.
pub fn pipe() -> Check<(OwnedFd, OwnedFd)> {
    let mut fds = [0i32; 2];
    let ret = plain!(SYS_pipe2, fds.as_mut_ptr(), libc::O_CLOEXEC);
    check_ret!("pipe2", ret, 0);
    Ok((sys::own(fds[0]), sys::own(fds[1])))
}

/// A connected pair of stream sockets.
pub fn socket_pair() -> Check<(OwnedFd, OwnedFd)> {
    let mut fds = [0i32; 2];
    let kind = libc::SOCK_STREAM | libc::SOCK_CLOEXEC;
    let ret = plain!(SYS_socketpair, libc::AF_UNIX, kind, 0, fds.as_mut_ptr());
    check_ret!("socketpair", ret, 0);
    Ok((sys::own(fds[0]), sys::own(fds[1])))
}

/// A file in memory.
pub fn memory_file() -> Check<OwnedFd> {
    let fd = plain!(SYS_memfd_create, c"flexsc-tests", libc::MFD_CLOEXEC);
    check!(fd >= 0, "memfd_create: {}", crate::check::Ret(fd));
    Ok(sys::own(fd as i32))
}

/// A file under a lease, so that an open for writing waits until the lease is given up, or for
/// `/proc/sys/fs/lease-break-time` (45 s). Nothing tells before the call that it waits, so its
/// owner executes it inline.
pub struct Leased {
    path: CString,
    holder: OwnedFd,
}

const F_SETSIG: i32 = 10;

impl Leased {
    /// At this path; the file need not exist.
    pub fn at(path: CString) -> Check<Leased> {
        let flags = libc::O_CREAT | libc::O_RDONLY | libc::O_CLOEXEC;
        let holder = ok!("open", sys::open(&path, flags, 0o600));
        let leased = Leased { path, holder };
        leased.renew()?;
        Ok(leased)
    }

    fn fcntl(&self, command: i32, arg: i32) -> Check {
        check_ret!("fcntl", plain!(SYS_fcntl, &self.holder, command, arg), 0);
        Ok(())
    }

    /// A call that waits for [`Self::release`].
    pub fn open(&self) -> Call {
        let flags = libc::O_WRONLY | libc::O_CLOEXEC;
        call!(SYS_openat, libc::AT_FDCWD, self.path.as_ptr(), flags)
    }

    /// Lets the open return. Does nothing if the lease was released before.
    pub fn release(&self) -> Check {
        match plain!(SYS_fcntl, &self.holder, libc::F_SETLEASE, libc::F_UNLCK) {
            0 => Ok(()),
            error if error == -i64::from(libc::EAGAIN) => Ok(()),
            error => fail!("F_UNLCK: {}", crate::check::Ret(error)),
        }
    }

    /// Takes the lease again, when nobody has the file open for writing.
    pub fn renew(&self) -> Check {
        // SIGIO, which tells the holder of an open, would end the process. The end of a lease resets
        // this.
        self.fcntl(F_SETSIG, libc::SIGURG)?;
        self.fcntl(libc::F_SETLEASE, libc::F_RDLCK)
    }
}

/// Writes all bytes by plain calls.
pub fn write_all(fd: &OwnedFd, bytes: &[u8]) -> Check {
    let mut rest = bytes;
    while !rest.is_empty() {
        match sys::result(plain!(SYS_write, fd, rest.as_ptr(), rest.len())) {
            Ok(count) => rest = &rest[count as usize..],
            Err(nix::errno::Errno::EINTR) => {}
            Err(error) => fail!("write of {} bytes: {error:?}", rest.len()),
        }
    }
    Ok(())
}

/// Reads one byte; `None` at the end.
pub fn read_byte(fd: &OwnedFd) -> Option<u8> {
    let mut byte = 0u8;
    loop {
        match plain!(SYS_read, fd, std::ptr::from_mut(&mut byte), 1) {
            1 => return Some(byte),
            ret if ret == -i64::from(libc::EINTR) => {}
            _ => return None,
        }
    }
}

/// Returns true if a read would not block, within the time limit.
pub fn readable(fd: &OwnedFd, limit: Duration) -> bool {
    let mut poll = libc::pollfd {
        fd: fd.as_raw_fd(),
        events: libc::POLLIN,
        revents: 0,
    };
    let at = std::ptr::from_mut(&mut poll);
    let limit = i32::try_from(limit.as_millis()).unwrap_or(i32::MAX);
    plain!(SYS_poll, at, 1, limit) == 1
}

/// Reads that block: `count` reads of one word each from a pipe.
pub struct BlockedReads {
    /// The buffers of the reads.
    pub words: Vec<AtomicU16>,
    fd: i32,
}

impl BlockedReads {
    pub fn new(fd: &OwnedFd, count: usize) -> Self {
        BlockedReads {
            words: (0..count).map(|_| AtomicU16::new(u16::MAX)).collect(),
            fd: fd.as_raw_fd(),
        }
    }

    /// The calls.
    pub fn calls(&self) -> Vec<Call> {
        let fd = self.fd;
        let reads = self.words.iter();
        reads
            .map(|word| call!(SYS_read, fd, word.as_ptr(), 2))
            .collect()
    }

    /// Writes the words 0, 1, … so that each read can be satisfied.
    pub fn release(&self, to: &OwnedFd) -> Check {
        let words = 0..self.words.len() as u16;
        let bytes: Vec<u8> = words.flat_map(u16::to_ne_bytes).collect();
        write_all(to, &bytes)
    }

    /// Checks that each word has arrived once.
    pub fn check(&self) -> Check {
        let mut words: Vec<u16> = self
            .words
            .iter()
            .map(|word| word.load(Ordering::Relaxed))
            .collect();
        words.sort_unstable();
        for (index, &word) in words.iter().enumerate() {
            check_eq!(
                "words that the blocked reads got, sorted",
                word as usize,
                index
            );
        }
        Ok(())
    }
}

impl Drop for BlockedReads {
    fn drop(&mut self) {
        // If the test has failed and tries again, a read may still be in flight.
        std::mem::forget(std::mem::take(&mut self.words));
    }
}

/// A directory that is removed with its content when this is dropped.
pub struct TempDir {
    path: PathBuf,
    owner: u32,
}

impl TempDir {
    /// Makes the directory in /tmp, which is a tmpfs on the test machine.
    pub fn new() -> Check<TempDir> {
        let path = PathBuf::from(format!("/tmp/flexsc-tests.{}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        ok!("temporary directory", fs::create_dir(&path));
        Ok(TempDir {
            path,
            owner: std::process::id(),
        })
    }

    /// The directory's path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Makes a file with this content, and returns its path.
    pub fn file(&self, name: &str, content: &[u8]) -> Check<CString> {
        ok!("a file", fs::write(self.path.join(name), content));
        Ok(self.join(name))
    }

    /// The content of a file in the directory.
    pub fn read(&self, name: &str) -> Check<Vec<u8>> {
        Ok(ok!("a file", fs::read(self.path.join(name))))
    }

    /// The path of a name in the directory.
    pub fn join(&self, name: impl AsRef<OsStr>) -> CString {
        let path = self.path.join(name.as_ref());
        CString::new(path.as_os_str().as_bytes()).expect("a path without zero bytes")
    }
}

impl Drop for TempDir {
    fn drop(&mut self) {
        if self.owner == std::process::id() {
            let _ = fs::remove_dir_all(&self.path);
        }
    }
}
