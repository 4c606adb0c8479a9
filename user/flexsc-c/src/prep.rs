// SPDX-License-Identifier: MIT OR Apache-2.0
//! Helpers that fill a call. The arguments are those of section 2 of the manual.

use std::ffi::{c_long, c_uint};

use flexsc::Call;

use crate::call::flexsc_call;

pub mod events;
pub mod files;
pub mod memory;
pub mod names;
pub mod sockets;
pub mod xattr;

/// Fills `to` with a call, and keeps its user data.
///
/// # Safety
///
/// `to` is valid.
unsafe fn fill(to: *mut flexsc_call, call: Call) {
    // SAFETY: the caller's promise.
    unsafe { (*to).set(call.nr().into(), call.args()) };
}

/// Prepares any system call: its number, SYS_..., and its arguments. Missing arguments are zero.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn flexsc_prep_syscall(
    call: *mut flexsc_call,
    nr: c_long,
    args: *const u64,
    count: c_uint,
) {
    let mut all = [0; 6];
    let given = all.iter_mut().take(count as usize).enumerate();
    for (nth, arg) in given {
        let from = args.wrapping_add(nth);
        // SAFETY: the caller's promise: there are as many arguments.
        *arg = unsafe { from.read() };
    }
    let nr = if (0..=c_long::from(u16::MAX)).contains(&nr) {
        nr
    } else {
        -1
    };
    // SAFETY: the caller's promise.
    unsafe { (*call).set(nr, all) };
}
