// SPDX-License-Identifier: MIT OR Apache-2.0
//! Calls on memory.

use std::ffi::{c_int, c_void};

use flexsc::Call;

use super::fill;
use crate::call::flexsc_call;

/// Prepares madvise(2).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn flexsc_prep_madvise(
    call: *mut flexsc_call,
    start: *mut c_void,
    len: usize,
    advice: c_int,
) {
    let args = [start.expose_provenance() as u64, len as u64, advice as u64];
    // SAFETY: the caller's promise.
    unsafe { fill(call, Call::with_args(libc::SYS_madvise, args)) };
}

/// Prepares msync(2).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn flexsc_prep_msync(
    call: *mut flexsc_call,
    start: *mut c_void,
    len: usize,
    flags: c_int,
) {
    let args = [start.expose_provenance() as u64, len as u64, flags as u64];
    // SAFETY: the caller's promise.
    unsafe { fill(call, Call::with_args(libc::SYS_msync, args)) };
}
