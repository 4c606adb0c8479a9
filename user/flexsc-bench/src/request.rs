// SPDX-License-Identifier: MIT OR Apache-2.0
//! A system call, before a backend decides how to make it.

/// The calls that are measured. The kernel follows the pointers when the call is made.
#[derive(Clone, Copy, Debug)]
pub enum Request {
    /// Does almost nothing, and so measures the overhead.
    Getppid,
    /// Reads at an arbitrary offset.
    Pread(i32, *mut u8, usize),
    /// Reads at the file's position, from pipes too.
    Read(i32, *mut u8, usize),
    /// Gets the attributes of an open file.
    Fstat(i32, *mut Status),
    /// Opens an existing file for reading.
    Open(*const libc::c_char),
    /// Closes a descriptor.
    Close(i32),
    /// Moves the position of a file or directory to its beginning. io_uring has no such
    /// operation.
    Rewind(i32),
    /// Reads a directory from its position. io_uring has no such operation.
    Getdents(i32, *mut u8, usize),
    /// Sends to a connected socket.
    Send(i32, *const u8, usize),
    /// Receives from a connected socket.
    Recv(i32, *mut u8, usize),
}

/// A buffer for fstat or statx, whichever a backend uses.
#[derive(Clone, Copy)]
#[repr(C)]
pub union Status {
    stat: libc::stat,
    statx: libc::statx,
}

impl Status {
    /// Makes a zeroed buffer.
    #[must_use]
    pub fn zeroed() -> Status {
        // SAFETY: both consist of plain numbers.
        unsafe { std::mem::zeroed() }
    }
}

/// Flags of every [`Request::Open`].
pub const OPEN_FLAGS: i32 = libc::O_RDONLY | libc::O_CLOEXEC;

/// The number and arguments of a request, and how many arguments the call has.
#[derive(Clone, Copy, Debug)]
pub struct Raw {
    /// `SYS_…`
    pub nr: libc::c_long,
    /// Unused ones are zero.
    pub args: [u64; 6],
    /// 0 to 4, or 6.
    pub used: usize,
}

impl Request {
    /// Returns the system call.
    #[inline(always)]
    #[must_use]
    pub fn raw(self) -> Raw {
        let fd = |fd: i32| i64::from(fd) as u64;
        let buffer = |fd: i32, buf: *const u8, len: usize| {
            [i64::from(fd) as u64, buf.addr() as u64, len as u64, 0, 0, 0]
        };
        let (nr, args, used) = match self {
            Request::Getppid => (libc::SYS_getppid, [0; 6], 0),
            Request::Pread(file, buf, len) => (libc::SYS_pread64, buffer(file, buf, len), 4),
            Request::Read(file, buf, len) => (libc::SYS_read, buffer(file, buf, len), 3),
            Request::Fstat(file, buf) => (libc::SYS_fstat, buffer(file, buf.cast(), 0), 2),
            Request::Open(path) => (
                libc::SYS_openat,
                [
                    fd(libc::AT_FDCWD),
                    path.addr() as u64,
                    fd(OPEN_FLAGS),
                    0,
                    0,
                    0,
                ],
                4,
            ),
            Request::Close(file) => (libc::SYS_close, [fd(file), 0, 0, 0, 0, 0], 1),
            // To offset 0 from the beginning, SEEK_SET.
            Request::Rewind(file) => (libc::SYS_lseek, [fd(file), 0, 0, 0, 0, 0], 3),
            Request::Getdents(file, buf, len) => (libc::SYS_getdents64, buffer(file, buf, len), 3),
            // Without flags and without an address.
            Request::Send(file, buf, len) => (libc::SYS_sendto, buffer(file, buf, len), 6),
            Request::Recv(file, buf, len) => (libc::SYS_recvfrom, buffer(file, buf, len), 6),
        };
        Raw { nr, args, used }
    }
}
