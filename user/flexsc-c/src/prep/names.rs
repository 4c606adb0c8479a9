// SPDX-License-Identifier: MIT OR Apache-2.0
//! Calls on names of files.

use std::ffi::{c_char, c_int, c_uint};

use flexsc::calls;

use super::fill;
use crate::call::flexsc_call;

/// Prepares mkdirat(2).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn flexsc_prep_mkdirat(
    call: *mut flexsc_call,
    dir: c_int,
    path: *const c_char,
    mode: c_uint,
) {
    // SAFETY: the caller's promise.
    unsafe { fill(call, calls::mkdirat(dir, path, mode)) };
}

/// Prepares unlinkat(2).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn flexsc_prep_unlinkat(
    call: *mut flexsc_call,
    dir: c_int,
    path: *const c_char,
    flags: c_int,
) {
    // SAFETY: the caller's promise.
    unsafe { fill(call, calls::unlinkat(dir, path, flags)) };
}

/// Prepares renameat2(2).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn flexsc_prep_renameat2(
    call: *mut flexsc_call,
    from: c_int,
    old: *const c_char,
    to: c_int,
    path: *const c_char,
    flags: c_uint,
) {
    // SAFETY: the caller's promise.
    unsafe { fill(call, calls::renameat2(from, old, to, path, flags)) };
}

/// Prepares linkat(2).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn flexsc_prep_linkat(
    call: *mut flexsc_call,
    from: c_int,
    old: *const c_char,
    to: c_int,
    path: *const c_char,
    flags: c_int,
) {
    // SAFETY: the caller's promise.
    unsafe { fill(call, calls::linkat(from, old, to, path, flags)) };
}

/// Prepares symlinkat(2).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn flexsc_prep_symlinkat(
    call: *mut flexsc_call,
    target: *const c_char,
    dir: c_int,
    path: *const c_char,
) {
    // SAFETY: the caller's promise.
    unsafe { fill(call, calls::symlinkat(target, dir, path)) };
}

/// Prepares readlinkat(2).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn flexsc_prep_readlinkat(
    call: *mut flexsc_call,
    dir: c_int,
    path: *const c_char,
    buf: *mut c_char,
    len: usize,
) {
    // SAFETY: the caller's promise.
    unsafe { fill(call, calls::readlinkat(dir, path, buf, len)) };
}
