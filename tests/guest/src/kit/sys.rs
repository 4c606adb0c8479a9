// SPDX-License-Identifier: MIT OR Apache-2.0
//! Plain system calls, to compare posted calls with, and raw ioctls.
#![expect(unsafe_code, reason = "this is the border to the kernel")]

use std::ffi::CStr;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use nix::errno::Errno;

/// A value that fits into an argument of a system call.
pub trait Arg {
    /// The register's content.
    fn word(self) -> u64;
}

macro_rules! signed_arg {
    ($($t:ty),+) => { $(impl Arg for $t {
        fn word(self) -> u64 {
            self as i64 as u64
        }
    })+ };
}
macro_rules! unsigned_arg {
    ($($t:ty),+) => { $(impl Arg for $t {
        fn word(self) -> u64 {
            self as u64
        }
    })+ };
}
signed_arg!(i32, i64);
unsigned_arg!(u32, u64, usize);

impl<T> Arg for *const T {
    fn word(self) -> u64 {
        self as u64
    }
}

impl<T> Arg for *mut T {
    fn word(self) -> u64 {
        self as u64
    }
}

impl Arg for &CStr {
    fn word(self) -> u64 {
        self.as_ptr() as u64
    }
}

impl Arg for &OwnedFd {
    fn word(self) -> u64 {
        self.as_raw_fd() as u64
    }
}

impl Arg for BorrowedFd<'_> {
    fn word(self) -> u64 {
        self.as_raw_fd() as u64
    }
}

/// Fills the given words up to six arguments.
pub fn args(given: &[u64]) -> [u64; 6] {
    let mut words = [0; 6];
    words[..given.len()].copy_from_slice(given);
    words
}

/// A plain system call; `-errno` on failure, as an entry's result.
pub fn syscall(nr: i64, args: [u64; 6]) -> i64 {
    // SAFETY: the tests give only pointers to memory of their own that lives until the call
    // returns, or arguments that the kernel must refuse.
    let ret = unsafe { libc::syscall(nr, args[0], args[1], args[2], args[3], args[4], args[5]) };
    if ret == -1 {
        -(Errno::last_raw() as i64)
    } else {
        ret
    }
}

/// `-errno` results as a `Result`.
pub fn result(ret: i64) -> Result<u64, Errno> {
    if (-4095..0).contains(&ret) {
        Err(Errno::from_raw(-ret as i32))
    } else {
        Ok(ret as u64)
    }
}

/// Makes an ioctl whose argument is a number or an arbitrary address.
pub fn ioctl(fd: RawFd, request: u32, arg: u64) -> Result<u64, Errno> {
    result(plain!(SYS_ioctl, fd, request, arg))
}

/// Makes an ioctl whose argument is a structure.
pub fn ioctl_with<T>(fd: RawFd, request: u32, arg: &mut T) -> Result<u64, Errno> {
    ioctl(fd, request, std::ptr::from_mut(arg) as u64)
}

/// flexsc_wait(2), which the C library does not know.
pub fn flexsc_wait(fd: RawFd, arg: u64) -> Result<u64, Errno> {
    let args = [fd as u64, arg, 0, 0, 0, 0];
    result(syscall(super::abi::NR_WAIT, args))
}

/// Opens a file; the descriptor is closed by `execve`.
pub fn open(path: &CStr, flags: i32, mode: u32) -> Result<OwnedFd, Errno> {
    let fd = result(plain!(
        SYS_openat,
        libc::AT_FDCWD,
        path,
        flags | libc::O_CLOEXEC,
        mode
    ))?;
    Ok(own(fd as RawFd))
}

/// Takes over a descriptor that a call has just returned.
pub fn own(fd: RawFd) -> OwnedFd {
    assert!(fd >= 0, "not a descriptor: {fd}");
    // SAFETY: the callers pass a descriptor fresh from the kernel, which nothing else owns.
    unsafe { OwnedFd::from_raw_fd(fd) }
}

/// Maps memory. `Ok` is the address.
pub fn mmap(len: usize, prot: i32, flags: i32, fd: RawFd, offset: u64) -> Result<*mut u8, Errno> {
    result(plain!(SYS_mmap, 0, len, prot, flags, fd, offset)).map(|at| at as *mut u8)
}

/// Unmaps memory.
pub fn munmap(at: *mut u8, len: usize) -> Result<u64, Errno> {
    result(plain!(SYS_munmap, at, len))
}

/// Ends the process at once, without destructors.
pub fn exit_now(code: i32) -> ! {
    plain!(SYS_exit_group, code);
    unreachable!("exit_group does not return");
}

/// Ends the calling thread only.
pub fn exit_thread(code: i32) -> ! {
    plain!(SYS_exit, code);
    unreachable!("exit does not return");
}

/// CLOCK_MONOTONIC in nanoseconds, as in `flexsc_wait.timeout_ns`.
pub fn monotonic_ns() -> u64 {
    let mut now = [0i64; 2];
    plain!(SYS_clock_gettime, libc::CLOCK_MONOTONIC, now.as_mut_ptr());
    now[0] as u64 * 1_000_000_000 + now[1] as u64
}

/// The calling thread's id.
pub fn gettid() -> i32 {
    plain!(SYS_gettid) as i32
}

/// Yields the CPU.
pub fn yield_now() {
    std::thread::yield_now();
}

/// Lets the calling thread run on one CPU only.
pub fn pin(cpu: usize) -> Result<u64, Errno> {
    let mut mask = [0u64; 16];
    mask[cpu / 64] = 1 << (cpu % 64);
    result(plain!(
        SYS_sched_setaffinity,
        0,
        size_of_val(&mask),
        mask.as_ptr()
    ))
}
