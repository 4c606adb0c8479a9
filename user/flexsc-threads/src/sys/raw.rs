// SPDX-License-Identifier: MIT OR Apache-2.0
//! System calls without libc.

use core::arch::asm;
use core::ffi::CStr;
use core::fmt::Write;
use core::str;

use crate::log::Line;

pub(crate) const PROT_READ: usize = 1;
pub(crate) const PROT_WRITE: usize = 2;
pub(crate) const PROT_EXEC: usize = 4;
const MAP_PRIVATE: usize = 2;
const MAP_ANONYMOUS: usize = 0x20;
const MAP_NORESERVE: usize = 0x4000;
/// The status of user shadow stacks, for arch_prctl.
const ARCH_SHSTK_STATUS: usize = 0x5005;
const PAGE: usize = 4096;

mod nr {
    pub(super) const WRITE: usize = 1;
    pub(super) const CLOSE: usize = 3;
    pub(super) const FSTAT: usize = 5;
    pub(super) const MMAP: usize = 9;
    pub(super) const MPROTECT: usize = 10;
    pub(super) const MUNMAP: usize = 11;
    pub(super) const RT_SIGACTION: usize = 13;
    pub(super) const RT_SIGPROCMASK: usize = 14;
    pub(super) const SCHED_YIELD: usize = 24;
    pub(super) const GETPID: usize = 39;
    pub(super) const KILL: usize = 62;
    pub(super) const ARCH_PRCTL: usize = 158;
    pub(super) const EXIT_GROUP: usize = 231;
    pub(super) const READLINK: usize = 89;
    pub(super) const OPENAT: usize = 257;
    pub(super) const PROCESS_VM_READV: usize = 310;
}

pub(crate) const EFAULT: i64 = 14;

/// An error number of the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Errno(pub(crate) i32);

/// Makes a system call.
///
/// # Safety
///
/// The call's effect on memory must be sound.
pub(super) unsafe fn call(nr: usize, args: [usize; 6]) -> Result<usize, Errno> {
    let result: isize;
    // SAFETY: The kernel changes rax, rcx and r11; the caller is responsible for the memory.
    unsafe {
        asm!(
            "syscall",
            inlateout("rax") nr => result,
            in("rdi") args[0],
            in("rsi") args[1],
            in("rdx") args[2],
            in("r10") args[3],
            in("r8") args[4],
            in("r9") args[5],
            lateout("rcx") _,
            lateout("r11") _,
            options(nostack),
        );
    }
    if (-4095..0).contains(&result) {
        Err(Errno(-result as i32))
    } else {
        Ok(result as usize)
    }
}

/// Makes the program's own call and returns its result, `-errno` on failure.
pub(crate) fn call_of_program(nr: u64, args: [u64; 6]) -> u64 {
    // SAFETY: The program has asked for this call, so it is responsible for its memory.
    match unsafe { call(nr as usize, args.map(|arg| arg as usize)) } {
        Ok(result) => result as u64,
        Err(Errno(errno)) => i64::from(-errno) as u64,
    }
}

pub(crate) fn write(fd: i32, bytes: &[u8]) {
    let args = [fd as usize, bytes.as_ptr() as usize, bytes.len(), 0, 0, 0];
    // The log is best effort.
    // SAFETY: The kernel only reads from `bytes`.
    let _ = unsafe { call(nr::WRITE, args) };
}

/// Opens a file to append to, and creates it if there is none.
pub(crate) fn open_to_append(path: &CStr) -> Result<i32, Errno> {
    const AT_FDCWD: usize = -100_isize as usize;
    const O_WRONLY_CREAT_APPEND_CLOEXEC: usize = 0o2_002_101;
    let args = [
        AT_FDCWD,
        path.as_ptr() as usize,
        O_WRONLY_CREAT_APPEND_CLOEXEC,
        0o644,
        0,
        0,
    ];
    // SAFETY: `path` ends with a zero.
    unsafe { call(nr::OPENAT, args) }.map(|fd| fd as i32)
}

/// Closes a descriptor that this library has opened.
pub(crate) fn close(fd: i32) {
    // SAFETY: The call does not touch memory.
    let _ = unsafe { call(nr::CLOSE, [fd as usize, 0, 0, 0, 0, 0]) };
}

/// The name of the file that `fd` refers to, or as much of it as fits into `buffer`.
pub(crate) fn name_of(fd: i32, buffer: &mut [u8]) -> &str {
    let mut path = Line::new();
    let _ = write!(path, "/proc/self/fd/{fd}\0");
    let args = [
        path.bytes().as_ptr() as usize,
        buffer.as_mut_ptr() as usize,
        buffer.len(),
        0,
        0,
        0,
    ];
    // SAFETY: The path ends with a zero, and the kernel writes no more than `buffer` holds.
    let len = unsafe { call(nr::READLINK, args) }.unwrap_or(0);
    str::from_utf8(&buffer[..len]).unwrap_or_default()
}

pub(crate) fn getpid() -> u32 {
    // SAFETY: The call does not touch memory.
    unsafe { call(nr::GETPID, [0; 6]) }.map_or(0, |pid| pid as u32)
}

pub(crate) fn yield_cpu() {
    // SAFETY: The call does not touch memory.
    let _ = unsafe { call(nr::SCHED_YIELD, [0; 6]) };
}

/// Ends the process by SIGABRT, whatever handlers it has.
pub(crate) fn abort() -> ! {
    const SIGABRT: usize = 6;
    let default = [0_u64; 4];
    let args = [SIGABRT, default.as_ptr() as usize, 0, 8, 0, 0];
    // SAFETY: The kernel reads 32 bytes, the size of its own structure.
    let _ = unsafe { call(nr::RT_SIGACTION, args) };
    let _ = set_signal_mask(0);
    loop {
        // SAFETY: The call does not touch memory.
        let _ = unsafe { call(nr::KILL, [getpid() as usize, SIGABRT, 0, 0, 0, 0]) };
        // SAFETY: The call does not return.
        let _ = unsafe { call(nr::EXIT_GROUP, [134, 0, 0, 0, 0, 0]) };
    }
}

/// Sets the signal mask of the calling thread of the kernel, and returns the old one.
pub(super) fn set_signal_mask(mask: u64) -> Result<u64, Errno> {
    const SIG_SETMASK: usize = 2;
    let mut old = 0_u64;
    let args = [
        SIG_SETMASK,
        &raw const mask as usize,
        &raw mut old as usize,
        8,
        0,
        0,
    ];
    // SAFETY: Both masks are 8 bytes long.
    unsafe { call(nr::RT_SIGPROCMASK, args) }.map(|_| old)
}

/// Runs `work` while the calling thread takes no signals.
pub(crate) fn without_signals<R>(work: impl FnOnce() -> R) -> R {
    let old = set_signal_mask(!0);
    let result = work();
    if let Ok(old) = old {
        let _ = set_signal_mask(old);
    }
    result
}

/// Maps memory that stays untouched, and uncharged, until it is used.
pub(crate) fn map_memory(len: usize) -> Result<usize, Errno> {
    let flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;
    let args = [0, len, PROT_READ | PROT_WRITE, flags, usize::MAX, 0];
    // SAFETY: The kernel chooses a free place.
    unsafe { call(nr::MMAP, args) }
}

/// A file in memory; dropping it unmaps the file.
pub(crate) struct MappedFile {
    at: usize,
    len: usize,
}

impl MappedFile {
    /// Maps the regular file that `fd` refers to.
    pub(crate) fn new(fd: i32) -> Result<Self, Errno> {
        // `struct stat` of x86-64: 144 bytes, the size at 48.
        let mut stat = [0_u64; 18];
        let args = [fd as usize, stat.as_mut_ptr() as usize, 0, 0, 0, 0];
        // SAFETY: `stat` has the size that the kernel fills.
        unsafe { call(nr::FSTAT, args) }?;
        let len = stat[6] as usize;
        let args = [0, len, PROT_READ, MAP_PRIVATE, fd as usize, 0];
        // SAFETY: The kernel chooses a free place.
        let at = unsafe { call(nr::MMAP, args) }?;
        Ok(MappedFile { at, len })
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        // SAFETY: The mapping lives as long as `self`. The dynamic linker maps the same file at
        // this moment, so truncating the file breaks the program anyway.
        unsafe { core::slice::from_raw_parts(self.at as *const u8, self.len) }
    }
}

impl Drop for MappedFile {
    fn drop(&mut self) {
        unmap(self.at, self.len);
    }
}

/// Unmaps memory that this module has mapped and nothing uses any more.
pub(super) fn unmap(at: usize, len: usize) {
    // SAFETY: The callers own the mapping.
    let _ = unsafe { call(nr::MUNMAP, [at, len, 0, 0, 0, 0]) };
}

/// Changes the protection of the pages of `at..at + len`.
///
/// # Safety
///
/// Nothing may rely on a permission that is removed.
pub(super) unsafe fn protect(at: usize, len: usize, prot: usize) -> Result<(), Errno> {
    let start = at & !(PAGE - 1);
    let end = (at + len).next_multiple_of(PAGE);
    // SAFETY: The caller's promise.
    unsafe { call(nr::MPROTECT, [start, end - start, prot, 0, 0, 0]) }.map(drop)
}

/// Returns true if the calling thread has a shadow stack.
pub(crate) fn has_shadow_stack() -> bool {
    let mut features = 0_u64;
    let args = [ARCH_SHSTK_STATUS, &raw mut features as usize, 0, 0, 0, 0];
    // SAFETY: The kernel writes 8 bytes.
    unsafe { call(nr::ARCH_PRCTL, args) }.is_ok() && features & 1 != 0
}

/// Reads a word of the program's memory; None if the address is not mapped or the kernel refuses.
pub(crate) fn peek(address: u64) -> Option<u64> {
    let mut word = 0_u64;
    let local = [&raw mut word as usize, 8];
    let remote = [address as usize, 8];
    let args = [
        getpid() as usize,
        local.as_ptr() as usize,
        1,
        remote.as_ptr() as usize,
        1,
        0,
    ];
    // SAFETY: The kernel writes 8 bytes to `word`.
    let read = unsafe { call(nr::PROCESS_VM_READV, args) };
    (read == Ok(8)).then_some(word)
}
