// SPDX-License-Identifier: GPL-2.0

//! What differs between architectures: where a system call's arguments lie in a register frame.

use kernel::bindings::pt_regs;

/// Puts the arguments of a call into a register frame.
///
/// # Safety
///
/// `regs` is valid for writes.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
pub(super) unsafe fn set_args(regs: *mut pt_regs, args: &[u64; 6]) {
    // SAFETY: By the caller's promise.
    let regs = unsafe { &mut *regs };
    regs.di = args[0] as _;
    regs.si = args[1] as _;
    regs.dx = args[2] as _;
    regs.r10 = args[3] as _;
    regs.r8 = args[4] as _;
    regs.r9 = args[5] as _;
}
