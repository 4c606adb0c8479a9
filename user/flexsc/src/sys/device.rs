// SPDX-License-Identifier: MIT OR Apache-2.0
//! The ioctls of `/dev/flexsc`, and flexsc_wait(2).

#![expect(unsafe_code, reason = "ioctl")]

use std::os::fd::{AsRawFd, BorrowedFd, RawFd};

use nix::errno::Errno;
use nix::libc;

use crate::CpuSet;

use super::abi::{
    FLEXSC_ABI_VERSION, FLEXSC_IOC_MAGIC, FLEXSC_NR_WAIT, flexsc_cancel, flexsc_eventfd,
    flexsc_param, flexsc_pool_stats, flexsc_register, flexsc_stats, flexsc_wait,
};

/// Bytes of the largest set of CPUs of any kernel.
const LONGEST_CPU_SET: usize = 1024;

const MAGIC: u8 = FLEXSC_IOC_MAGIC as u8;

nix::ioctl_readwrite!(ioc_register, MAGIC, 0, flexsc_register);
nix::ioctl_write_int_bad!(ioc_unregister, nix::request_code_none!(MAGIC, 1));
nix::ioctl_write_ptr!(ioc_wait, MAGIC, 2, flexsc_wait);
nix::ioctl_write_int_bad!(ioc_kick, nix::request_code_none!(MAGIC, 4));
nix::ioctl_write_ptr!(ioc_set, MAGIC, 5, flexsc_param);
nix::ioctl_readwrite!(ioc_get, MAGIC, 6, flexsc_param);
nix::ioctl_readwrite!(ioc_query, MAGIC, 7, flexsc_stats);
nix::ioctl_write_ptr!(ioc_cancel, MAGIC, 8, flexsc_cancel);
nix::ioctl_readwrite!(ioc_query_pool, MAGIC, 9, flexsc_pool_stats);
nix::ioctl_write_ptr!(ioc_eventfd, MAGIC, 10, flexsc_eventfd);

/// `sizeof` in the type of the ABI's `size` fields.
const fn size<T>() -> u32 {
    size_of::<T>() as u32
}

/// REGISTER.
pub(crate) fn register(fd: BorrowedFd<'_>, pages: u32) -> Result<flexsc_register, Errno> {
    let mut arg = flexsc_register {
        size: size::<flexsc_register>(),
        abi: FLEXSC_ABI_VERSION,
        pages,
        ..Default::default()
    };
    // SAFETY: the kernel reads and writes `size` bytes of `arg`.
    unsafe { ioc_register(fd.as_raw_fd(), &mut arg) }?;
    Ok(arg)
}

/// UNREGISTER. The kernel refuses it while calls are in flight.
pub(crate) fn unregister(fd: BorrowedFd<'_>, id: u32) -> Result<(), Errno> {
    // SAFETY: takes a number, no memory.
    unsafe { ioc_unregister(fd.as_raw_fd(), id as libc::c_int) }.map(drop)
}

/// WAIT.
pub(crate) fn wait(fd: BorrowedFd<'_>, mut arg: flexsc_wait) -> Result<usize, Errno> {
    arg.size = size::<flexsc_wait>();
    // SAFETY: the kernel reads `size` bytes of `arg`. It executes only entries whose
    // poster has promised that they are valid.
    let there = unsafe { ioc_wait(fd.as_raw_fd(), &arg) }?;
    Ok(there as usize)
}

/// WAIT_FAST, which has no timeouts. Its argument is one word.
pub(crate) fn wait_fast(fd: BorrowedFd<'_>, arg: u64) -> Result<usize, Errno> {
    const REQUEST: libc::Ioctl = nix::request_code_none!(MAGIC, 3) as libc::Ioctl;
    // SAFETY: takes a number, no memory; see `wait`.
    let there = unsafe { libc::ioctl(fd.as_raw_fd(), REQUEST, arg) };
    Errno::result(there).map(|there| there as usize)
}

/// flexsc_wait(2) with the argument of WAIT_FAST. Returns its result, `-errno` on failure,
/// ENOSYS if the kernel has no such call.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
pub(crate) fn wait_call(fd: RawFd, arg: u64) -> i64 {
    let result;
    // SAFETY: takes numbers, no memory, and preserves all other registers; see `wait`.
    // While it executes entries, the kernel writes to memory behind raw pointers, hence no
    // `nomem`.
    unsafe {
        core::arch::asm!(
            "syscall",
            inlateout("rax") i64::from(FLEXSC_NR_WAIT) => result,
            in("rdi") i64::from(fd),
            in("rsi") arg,
            lateout("rcx") _,
            lateout("r11") _,
            options(nostack),
        );
    }
    result
}

/// Other architectures have no such call.
#[cfg(not(target_arch = "x86_64"))]
pub(crate) fn wait_call(_: RawFd, _: u64) -> i64 {
    -i64::from(libc::ENOSYS)
}

/// KICK.
pub(crate) fn kick(fd: BorrowedFd<'_>, id: u32) -> Result<(), Errno> {
    // SAFETY: takes a number, no memory; see `wait`.
    unsafe { ioc_kick(fd.as_raw_fd(), id as libc::c_int) }.map(drop)
}

/// SET.
pub(crate) fn set(fd: BorrowedFd<'_>, pool: u8, param: u32, value: u64) -> Result<(), Errno> {
    let arg = flexsc_param {
        size: size::<flexsc_param>(),
        param,
        pool: pool.into(),
        value,
        ..Default::default()
    };
    // SAFETY: the kernel reads `size` bytes of `arg`.
    unsafe { ioc_set(fd.as_raw_fd(), &arg) }.map(drop)
}

/// GET.
pub(crate) fn get(fd: BorrowedFd<'_>, pool: u8, param: u32) -> Result<u64, Errno> {
    let mut arg = flexsc_param {
        size: size::<flexsc_param>(),
        param,
        pool: pool.into(),
        ..Default::default()
    };
    // SAFETY: the kernel reads and writes `size` bytes of `arg`.
    unsafe { ioc_get(fd.as_raw_fd(), &mut arg) }?;
    Ok(arg.value)
}

/// SET of a set of CPUs.
pub(crate) fn set_cpus(
    fd: BorrowedFd<'_>,
    pool: u8,
    param: u32,
    cpus: &CpuSet,
) -> Result<(), Errno> {
    let bytes = cpus.as_bytes();
    let arg = flexsc_param {
        size: size::<flexsc_param>(),
        param,
        pool: pool.into(),
        len: bytes.len() as u32,
        value: bytes.as_ptr() as u64,
    };
    // SAFETY: the kernel reads `size` bytes of `arg` and `len` bytes of the set.
    unsafe { ioc_set(fd.as_raw_fd(), &arg) }.map(drop)
}

/// GET of a set of CPUs.
pub(crate) fn get_cpus(fd: BorrowedFd<'_>, pool: u8, param: u32) -> Result<CpuSet, Errno> {
    let mut bytes = vec![0; LONGEST_CPU_SET];
    let mut arg = flexsc_param {
        size: size::<flexsc_param>(),
        param,
        pool: pool.into(),
        len: bytes.len() as u32,
        value: bytes.as_mut_ptr() as u64,
    };
    // SAFETY: the kernel reads `size` bytes of `arg` and writes `len` bytes of the set.
    unsafe { ioc_get(fd.as_raw_fd(), &mut arg) }?;
    Ok(CpuSet::from_bytes(&bytes))
}

/// CANCEL.
pub(crate) fn cancel(fd: BorrowedFd<'_>, id: u32, index: u32) -> Result<(), Errno> {
    let arg = flexsc_cancel {
        size: size::<flexsc_cancel>(),
        id,
        index,
        flags: 0,
    };
    // SAFETY: the kernel reads `size` bytes of `arg`.
    unsafe { ioc_cancel(fd.as_raw_fd(), &arg) }.map(drop)
}

/// EVENTFD. `None` removes the eventfd.
pub(crate) fn eventfd(
    fd: BorrowedFd<'_>,
    id: u32,
    eventfd: Option<BorrowedFd<'_>>,
) -> Result<(), Errno> {
    let arg = flexsc_eventfd {
        size: size::<flexsc_eventfd>(),
        id,
        fd: eventfd.map_or(-1, |eventfd| eventfd.as_raw_fd()),
        flags: 0,
    };
    // SAFETY: the kernel reads `size` bytes of `arg`, and keeps its own reference to the
    // eventfd.
    unsafe { ioc_eventfd(fd.as_raw_fd(), &arg) }.map(drop)
}

/// QUERY.
pub(crate) fn query(fd: BorrowedFd<'_>) -> Result<flexsc_stats, Errno> {
    let mut arg = flexsc_stats {
        size: size::<flexsc_stats>(),
        ..Default::default()
    };
    // SAFETY: the kernel writes at most `size` bytes of `arg`.
    unsafe { ioc_query(fd.as_raw_fd(), &mut arg) }?;
    Ok(arg)
}

/// QUERY_POOL.
pub(crate) fn query_pool(fd: BorrowedFd<'_>, pool: u8) -> Result<flexsc_pool_stats, Errno> {
    let mut arg = flexsc_pool_stats {
        size: size::<flexsc_pool_stats>(),
        pool: pool.into(),
        ..Default::default()
    };
    // SAFETY: the kernel writes at most `size` bytes of `arg`.
    unsafe { ioc_query_pool(fd.as_raw_fd(), &mut arg) }?;
    Ok(arg)
}
