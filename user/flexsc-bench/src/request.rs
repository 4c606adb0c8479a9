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
    /// 0 to 4.
    pub used: usize,
}

impl Request {
    /// Returns the system call.
    #[inline(always)]
    #[must_use]
    pub fn raw(self) -> Raw {
        let fd = |fd: i32| i64::from(fd) as u64;
        let (nr, args, used) = match self {
            Request::Getppid => (libc::SYS_getppid, [0; 4], 0),
            Request::Pread(file, buf, len) => (
                libc::SYS_pread64,
                [fd(file), buf.addr() as u64, len as u64, 0],
                4,
            ),
            Request::Read(file, buf, len) => (
                libc::SYS_read,
                [fd(file), buf.addr() as u64, len as u64, 0],
                3,
            ),
            Request::Fstat(file, buf) => (libc::SYS_fstat, [fd(file), buf.addr() as u64, 0, 0], 2),
            Request::Open(path) => (
                libc::SYS_openat,
                [fd(libc::AT_FDCWD), path.addr() as u64, fd(OPEN_FLAGS), 0],
                4,
            ),
            Request::Close(file) => (libc::SYS_close, [fd(file), 0, 0, 0], 1),
        };
        let [a, b, c, d] = args;
        Raw {
            nr,
            args: [a, b, c, d, 0, 0],
            used,
        }
    }
}
