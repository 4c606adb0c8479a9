// SPDX-License-Identifier: MIT OR Apache-2.0
//! Access to the program's memory by addresses that the program gives: a bad one is an error, as it
//! is for the kernel.
//!
//! The handler of SIGSEGV and SIGBUS continues at the fault exit if an instruction of this section
//! faults.

use core::arch::global_asm;
use core::mem::MaybeUninit;
use core::ops::Range;

use crate::sys::raw::EFAULT;

global_asm!(
    ".pushsection .text.flexsc_threads_copy,\"ax\",@progbits",
    ".globl flexsc_threads_copy, flexsc_threads_load, flexsc_threads_exchange",
    ".globl flexsc_threads_copy_fault",
    ".hidden flexsc_threads_copy, flexsc_threads_load, flexsc_threads_exchange",
    ".hidden flexsc_threads_copy_fault",
    ".cfi_startproc",
    // (to, from, len)
    "flexsc_threads_copy:",
    "mov rcx, rdx",
    "rep movsb",
    "xor edx, edx",
    "ret",
    // (address of 32 bits)
    "flexsc_threads_load:",
    "mov eax, [rdi]",
    "xor edx, edx",
    "ret",
    // (address of 32 bits, expected, new)
    "flexsc_threads_exchange:",
    "mov eax, esi",
    "lock cmpxchg [rdi], edx",
    "mov edx, 0",
    "ret",
    "flexsc_threads_copy_fault:",
    "mov edx, 1",
    "ret",
    ".cfi_endproc",
    ".popsection",
);

/// In rax and rdx.
#[repr(C)]
struct Outcome {
    value: u64,
    is_fault: u64,
}

unsafe extern "C" {
    fn flexsc_threads_copy(to: u64, from: u64, len: u64) -> Outcome;
    fn flexsc_threads_load(address: u64) -> Outcome;
    fn flexsc_threads_exchange(address: u64, expected: u32, new: u32) -> Outcome;
    fn flexsc_threads_copy_fault();
}

/// A type of the kernel's interface: any bytes are a value, and all bytes are defined.
///
/// # Safety
///
/// They are.
pub(crate) unsafe trait Bytes: Copy {}

// SAFETY: Integers, and arrays of them.
unsafe impl Bytes for u8 {}
// SAFETY: As above.
unsafe impl Bytes for u32 {}
// SAFETY: As above.
unsafe impl Bytes for u64 {}
// SAFETY: As above.
unsafe impl<T: Bytes, const N: usize> Bytes for [T; N] {}

fn result(outcome: Outcome) -> Result<u64, i64> {
    if outcome.is_fault == 0 {
        Ok(outcome.value)
    } else {
        Err(-EFAULT)
    }
}

/// Reads a value of the program; `-EFAULT` if there is none.
pub(crate) fn read<T: Bytes>(from: u64) -> Result<T, i64> {
    let mut value = MaybeUninit::<T>::uninit();
    let to = value.as_mut_ptr() as u64;
    // SAFETY: `value` has room for its own size. A fault of the other side is an error.
    result(unsafe { flexsc_threads_copy(to, from, size_of::<T>() as u64) })?;
    // SAFETY: All of its bytes have been written, and any are a value.
    Ok(unsafe { value.assume_init() })
}

/// Writes a value to an address that the program has given for that.
pub(crate) fn write<T: Bytes>(to: u64, value: &T) -> Result<(), i64> {
    let from = core::ptr::from_ref(value) as u64;
    // SAFETY: The program answers for what is written where it asks for it.
    result(unsafe { flexsc_threads_copy(to, from, size_of::<T>() as u64) }).map(drop)
}

/// Reads 32 bits at once.
pub(crate) fn load(from: u64) -> Result<u32, i64> {
    // SAFETY: A fault is an error.
    result(unsafe { flexsc_threads_load(from) }).map(|value| value as u32)
}

/// Replaces 32 bits if they are as expected. Returns what they were.
pub(crate) fn exchange(at: u64, expected: u32, new: u32) -> Result<u32, i64> {
    // SAFETY: As for `write`.
    result(unsafe { flexsc_threads_exchange(at, expected, new) }).map(|value| value as u32)
}

/// The instructions that may fault.
pub(super) fn range() -> Range<u64> {
    flexsc_threads_copy as usize as u64..fault_exit()
}

/// Where to go on after a fault.
pub(super) fn fault_exit() -> u64 {
    flexsc_threads_copy_fault as usize as u64
}
