// SPDX-License-Identifier: GPL-2.0

//! The structs of the UAPI header, as they cross the border to user space.

use core::mem::size_of;
use kernel::prelude::*;
use kernel::types::{AsBytes, FromBytes};
use kernel::uaccess::UserSlice;
use kernel::uapi;

/// A struct of the UAPI header.
#[repr(transparent)]
#[derive(Clone, Copy, Default)]
pub(crate) struct Abi<T>(pub(crate) T);

/// A struct of integers.
///
/// # Safety
///
/// All fields are integers or arrays of integers, and there is no padding between or after them.
pub(crate) unsafe trait Plain: Copy + Default {}

static_assert!(size_of::<uapi::flexsc_register>() == 56);
static_assert!(size_of::<uapi::flexsc_wait>() == 40);
static_assert!(size_of::<uapi::flexsc_param>() == 24);
static_assert!(size_of::<uapi::flexsc_stats>() == 248);
static_assert!(size_of::<uapi::flexsc_pool_stats>() == 128);

static_assert!(size_of::<uapi::flexsc_cancel>() == 16);
static_assert!(size_of::<uapi::flexsc_eventfd>() == 16);

// SAFETY: Integers only; the size above is the sum of theirs.
unsafe impl Plain for uapi::flexsc_register {}
// SAFETY: As above.
unsafe impl Plain for uapi::flexsc_wait {}
// SAFETY: As above.
unsafe impl Plain for uapi::flexsc_param {}
// SAFETY: As above.
unsafe impl Plain for uapi::flexsc_stats {}
// SAFETY: As above.
unsafe impl Plain for uapi::flexsc_cancel {}
// SAFETY: As above.
unsafe impl Plain for uapi::flexsc_eventfd {}
// SAFETY: As above.
unsafe impl Plain for uapi::flexsc_pool_stats {}

// SAFETY: By the promise of `Plain`, any bytes are a valid value.
unsafe impl<T: Plain> FromBytes for Abi<T> {}
// SAFETY: By the promise of `Plain`, there is no padding.
unsafe impl<T: Plain> AsBytes for Abi<T> {}

/// Reads a struct at the user address `arg`. Fails with `EFAULT`.
pub(crate) fn read<T: Plain>(arg: usize) -> Result<T> {
    let value: Abi<T> = UserSlice::new(arg as _, size_of::<T>()).reader().read()?;
    Ok(value.0)
}

/// Writes `value` to the user address `arg`. Fails with `EFAULT`.
pub(crate) fn write<T: Plain>(arg: usize, value: T) -> Result {
    UserSlice::new(arg as _, size_of::<T>())
        .writer()
        .write(&Abi(value))
}

/// Writes the first `len` bytes of `value`, at most its size, to the user address `arg`. Fails with
/// `EFAULT`.
pub(crate) fn write_prefix<T: Plain>(arg: usize, value: &T, len: usize) -> Result {
    let len = core::cmp::min(len, size_of::<T>());
    // SAFETY: `value` is valid for its size, and by `Plain` all its bytes are initialised.
    let bytes = unsafe { core::slice::from_raw_parts((&raw const *value).cast::<u8>(), len) };
    UserSlice::new(arg as _, len).writer().write_slice(bytes)
}

/// Length limit for a set of CPUs, in bytes: more than any kernel needs.
const MAX_CPU_SET: u32 = 8192;

/// Reads a set of CPUs, `len` bytes at user address `addr`. Fails with `EINVAL` if a CPU beyond
/// 63 is set or the set is longer than [`MAX_CPU_SET`], and with `EFAULT`.
pub(crate) fn read_cpus(addr: u64, len: u32) -> Result<u64> {
    if len > MAX_CPU_SET {
        return Err(EINVAL);
    }
    let mut reader = UserSlice::new(addr as _, len as usize).reader();
    let mut cpus = 0;
    for at in 0..len {
        let byte: u8 = reader.read()?;
        if at < u64::BITS / 8 {
            cpus |= u64::from(byte) << (8 * at);
        } else if byte != 0 {
            return Err(EINVAL);
        }
    }
    Ok(cpus)
}

/// Writes a set of CPUs, `len` bytes at the user address `addr`. Fails with `EINVAL` if a CPU does
/// not fit or the set is longer than [`MAX_CPU_SET`], and with `EFAULT`.
pub(crate) fn write_cpus(addr: u64, len: u32, cpus: u64) -> Result {
    let fits = len >= u64::BITS / 8 || cpus >> (8 * len) == 0;
    if !fits || len > MAX_CPU_SET {
        return Err(EINVAL);
    }
    let mut writer = UserSlice::new(addr as _, len as usize).writer();
    for at in 0..len {
        let byte = if at < u64::BITS / 8 {
            (cpus >> (8 * at)) as u8
        } else {
            0
        };
        writer.write(&byte)?;
    }
    Ok(())
}

/// Common beginning of structs whose length the caller may choose.
#[repr(C)]
#[derive(Clone, Copy, Default)]
pub(crate) struct Head {
    pub(crate) size: u32,
    pub(crate) reserved: u32,
}

// SAFETY: Two integers of the same size.
unsafe impl Plain for Head {}
