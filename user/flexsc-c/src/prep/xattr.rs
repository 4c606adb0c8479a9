// SPDX-License-Identifier: MIT OR Apache-2.0
//! Calls on the extended attributes of open files.

use std::ffi::{c_char, c_int, c_void};

use flexsc::calls;

use super::fill;
use crate::call::flexsc_call;

/// Prepares fgetxattr(2).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn flexsc_prep_fgetxattr(
    call: *mut flexsc_call,
    fd: c_int,
    name: *const c_char,
    value: *mut c_void,
    len: usize,
) {
    // SAFETY: the caller's promise.
    unsafe { fill(call, calls::fgetxattr(fd, name, value, len)) };
}

/// Prepares fsetxattr(2).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn flexsc_prep_fsetxattr(
    call: *mut flexsc_call,
    fd: c_int,
    name: *const c_char,
    value: *const c_void,
    len: usize,
    flags: c_int,
) {
    // SAFETY: the caller's promise.
    unsafe { fill(call, calls::fsetxattr(fd, name, value, len, flags)) };
}

/// Prepares flistxattr(2).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn flexsc_prep_flistxattr(
    call: *mut flexsc_call,
    fd: c_int,
    list: *mut c_char,
    len: usize,
) {
    // SAFETY: the caller's promise.
    unsafe { fill(call, calls::flistxattr(fd, list, len)) };
}

/// Prepares fremovexattr(2).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn flexsc_prep_fremovexattr(
    call: *mut flexsc_call,
    fd: c_int,
    name: *const c_char,
) {
    // SAFETY: the caller's promise.
    unsafe { fill(call, calls::fremovexattr(fd, name)) };
}
