// SPDX-License-Identifier: GPL-2.0

//! Architecture-specific code: the places of a system call's arguments in a register frame, and
//! single instructions that would otherwise be calls of C functions.

use core::arch::asm;
use kernel::bindings::pt_regs;

/// Puts the arguments of a call into a register frame.
///
/// # Safety
///
/// `regs` is valid for writes.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
pub(super) unsafe fn set_args(regs: *mut pt_regs, args: &[u64; 6]) {
    // SAFETY: The caller promises that `regs` is valid.
    let regs = unsafe { &mut *regs };
    regs.di = args[0] as _;
    regs.si = args[1] as _;
    regs.dx = args[2] as _;
    regs.r10 = args[3] as _;
    regs.r8 = args[4] as _;
    regs.r9 = args[5] as _;
}

/// Proof that a full memory barrier was executed.
pub(crate) struct FullBarrier(());

/// A full memory barrier. As the kernel's `smp_mb()`.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
pub(crate) fn full_barrier() -> FullBarrier {
    // SAFETY: Changes no memory: the kernel has no red zone below its stack pointer, and adds 0 there.
    unsafe { asm!("lock add dword ptr [rsp - 4], 0") };
    FullBarrier(())
}

/// Returns `index` if it is below `len`, otherwise 0, even while the processor speculates that an
/// earlier check has passed. As the kernel's `array_index_nospec()`.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
fn index_nospec(index: usize, len: usize) -> usize {
    let mask: usize;
    // SAFETY: Changes nothing but `mask` and the flags: all bits if `index` is below `len`,
    // otherwise none.
    unsafe {
        asm!(
            "cmp {index}, {len}",
            "sbb {mask}, {mask}",
            index = in(reg) index,
            len = in(reg) len,
            mask = lateout(reg) mask,
            options(nomem, nostack),
        );
    }
    index & mask
}

/// Returns an index from a program if it is below `len`.
#[inline(always)]
pub(crate) fn index(index: usize, len: usize) -> Option<usize> {
    (index < len).then(|| index_nospec(index, len))
}

/// Returns `items[i]` for an index from a program.
#[inline(always)]
pub(crate) fn get<T>(items: &[T], i: usize) -> Option<&T> {
    items.get(index(i, items.len())?)
}

/// As [`get`].
#[inline(always)]
pub(crate) fn get_mut<T>(items: &mut [T], i: usize) -> Option<&mut T> {
    let i = index(i, items.len())?;
    items.get_mut(i)
}
