// SPDX-License-Identifier: MIT OR Apache-2.0
//! Calls on open files, and opening and closing them.

use std::ffi::{c_char, c_int, c_uint, c_void};

use flexsc::calls;
use libc::{iovec, open_how, stat, statx};

use super::fill;
use crate::call::flexsc_call;

/// Prepares read(2).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn flexsc_prep_read(
    call: *mut flexsc_call,
    fd: c_int,
    buf: *mut c_void,
    len: usize,
) {
    // SAFETY: the caller's promise.
    unsafe { fill(call, calls::read(fd, buf, len)) };
}

/// Prepares write(2).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn flexsc_prep_write(
    call: *mut flexsc_call,
    fd: c_int,
    buf: *const c_void,
    len: usize,
) {
    // SAFETY: the caller's promise.
    unsafe { fill(call, calls::write(fd, buf, len)) };
}

/// Prepares pread(2).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn flexsc_prep_pread(
    call: *mut flexsc_call,
    fd: c_int,
    buf: *mut c_void,
    len: usize,
    offset: i64,
) {
    // SAFETY: the caller's promise.
    unsafe { fill(call, calls::pread64(fd, buf, len, offset)) };
}

/// Prepares pwrite(2).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn flexsc_prep_pwrite(
    call: *mut flexsc_call,
    fd: c_int,
    buf: *const c_void,
    len: usize,
    offset: i64,
) {
    // SAFETY: the caller's promise.
    unsafe { fill(call, calls::pwrite64(fd, buf, len, offset)) };
}

/// Prepares readv(2).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn flexsc_prep_readv(
    call: *mut flexsc_call,
    fd: c_int,
    iov: *const iovec,
    count: c_int,
) {
    // SAFETY: the caller's promise.
    unsafe { fill(call, calls::readv(fd, iov, count)) };
}

/// Prepares writev(2).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn flexsc_prep_writev(
    call: *mut flexsc_call,
    fd: c_int,
    iov: *const iovec,
    count: c_int,
) {
    // SAFETY: the caller's promise.
    unsafe { fill(call, calls::writev(fd, iov, count)) };
}

/// Prepares lseek(2).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn flexsc_prep_lseek(
    call: *mut flexsc_call,
    fd: c_int,
    offset: i64,
    whence: c_int,
) {
    // SAFETY: the caller's promise.
    unsafe { fill(call, calls::lseek(fd, offset, whence)) };
}

/// Prepares openat(2).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn flexsc_prep_openat(
    call: *mut flexsc_call,
    dir: c_int,
    path: *const c_char,
    flags: c_int,
    mode: c_uint,
) {
    // SAFETY: the caller's promise.
    unsafe { fill(call, calls::openat(dir, path, flags, mode)) };
}

/// Prepares close(2).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn flexsc_prep_close(call: *mut flexsc_call, fd: c_int) {
    // SAFETY: the caller's promise.
    unsafe { fill(call, calls::close(fd)) };
}

/// Prepares fsync(2).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn flexsc_prep_fsync(call: *mut flexsc_call, fd: c_int) {
    // SAFETY: the caller's promise.
    unsafe { fill(call, calls::fsync(fd)) };
}

/// Prepares fdatasync(2).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn flexsc_prep_fdatasync(call: *mut flexsc_call, fd: c_int) {
    // SAFETY: the caller's promise.
    unsafe { fill(call, calls::fdatasync(fd)) };
}

/// Prepares ftruncate(2).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn flexsc_prep_ftruncate(call: *mut flexsc_call, fd: c_int, len: i64) {
    // SAFETY: the caller's promise.
    unsafe { fill(call, calls::ftruncate(fd, len)) };
}

/// Prepares fallocate(2).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn flexsc_prep_fallocate(
    call: *mut flexsc_call,
    fd: c_int,
    mode: c_int,
    offset: i64,
    len: i64,
) {
    // SAFETY: the caller's promise.
    unsafe { fill(call, calls::fallocate(fd, mode, offset, len)) };
}

/// Prepares copy_file_range(2).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn flexsc_prep_copy_file_range(
    call: *mut flexsc_call,
    from: c_int,
    from_offset: *mut i64,
    to: c_int,
    to_offset: *mut i64,
    len: usize,
    flags: c_uint,
) {
    // SAFETY: the caller's promise.
    unsafe {
        fill(
            call,
            calls::copy_file_range(from, from_offset, to, to_offset, len, flags),
        )
    };
}

/// Prepares splice(2).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn flexsc_prep_splice(
    call: *mut flexsc_call,
    from: c_int,
    from_offset: *mut i64,
    to: c_int,
    to_offset: *mut i64,
    len: usize,
    flags: c_uint,
) {
    // SAFETY: the caller's promise.
    unsafe {
        fill(
            call,
            calls::splice(from, from_offset, to, to_offset, len, flags),
        )
    };
}

/// Prepares statx(2).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn flexsc_prep_statx(
    call: *mut flexsc_call,
    dir: c_int,
    path: *const c_char,
    flags: c_int,
    mask: c_uint,
    to: *mut statx,
) {
    // SAFETY: the caller's promise.
    unsafe { fill(call, calls::statx(dir, path, flags, mask, to)) };
}

/// Prepares getdents64(2).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn flexsc_prep_getdents64(
    call: *mut flexsc_call,
    fd: c_int,
    buf: *mut c_void,
    len: usize,
) {
    // SAFETY: the caller's promise.
    unsafe { fill(call, calls::getdents64(fd, buf, len)) };
}

/// Prepares preadv(2).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn flexsc_prep_preadv(
    call: *mut flexsc_call,
    fd: c_int,
    iov: *const iovec,
    count: c_int,
    offset: i64,
) {
    // SAFETY: the caller's promise.
    unsafe { fill(call, calls::preadv(fd, iov, count, offset, 0)) };
}

/// Prepares pwritev(2).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn flexsc_prep_pwritev(
    call: *mut flexsc_call,
    fd: c_int,
    iov: *const iovec,
    count: c_int,
    offset: i64,
) {
    // SAFETY: the caller's promise.
    unsafe { fill(call, calls::pwritev(fd, iov, count, offset, 0)) };
}

/// Prepares pwritev2(2).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn flexsc_prep_pwritev2(
    call: *mut flexsc_call,
    fd: c_int,
    iov: *const iovec,
    count: c_int,
    offset: i64,
    flags: c_int,
) {
    // SAFETY: the caller's promise.
    unsafe { fill(call, calls::pwritev2(fd, iov, count, offset, 0, flags)) };
}

/// Prepares openat2(2).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn flexsc_prep_openat2(
    call: *mut flexsc_call,
    dir: c_int,
    path: *const c_char,
    how: *const open_how,
    size: usize,
) {
    // SAFETY: the caller's promise.
    unsafe { fill(call, calls::openat2(dir, path, how, size)) };
}

/// Prepares fstat(2).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn flexsc_prep_fstat(call: *mut flexsc_call, fd: c_int, to: *mut stat) {
    // SAFETY: the caller's promise.
    unsafe { fill(call, calls::fstat(fd, to)) };
}

/// Prepares sendfile(2).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn flexsc_prep_sendfile(
    call: *mut flexsc_call,
    to: c_int,
    from: c_int,
    offset: *mut i64,
    len: usize,
) {
    // SAFETY: the caller's promise.
    unsafe { fill(call, calls::sendfile(to, from, offset, len)) };
}
