// SPDX-License-Identifier: MIT OR Apache-2.0
//! A seccomp filter that refuses one call.

use nix::errno::Errno;

use super::sys;

const LOAD_WORD: u16 = 0x20;
const JUMP_IF_EQUAL: u16 = 0x15;
const RETURN: u16 = 0x06;

/// What a filtered call returns; no other check gives this error.
pub const FILTERED: i32 = libc::EUCLEAN;

/// From now on `nr` fails with `FILTERED` in this thread, or in all (TSYNC).
pub fn refuse(nr: i64, all_threads: bool) -> Result<u64, Errno> {
    refuse_with(nr, FILTERED, all_threads)
}

/// As `refuse`, with another error.
pub fn refuse_with(nr: i64, errno: i32, all_threads: bool) -> Result<u64, Errno> {
    let step = |code, jt, jf, k| libc::sock_filter { code, jt, jf, k };
    let mut program = [
        step(LOAD_WORD, 0, 0, 0),
        step(JUMP_IF_EQUAL, 0, 1, nr as u32),
        step(RETURN, 0, 0, libc::SECCOMP_RET_ERRNO | errno as u32),
        step(RETURN, 0, 0, libc::SECCOMP_RET_ALLOW),
    ];
    let filter = libc::sock_fprog {
        len: program.len() as u16,
        filter: program.as_mut_ptr(),
    };
    let flags = if all_threads {
        libc::SECCOMP_FILTER_FLAG_TSYNC as u32
    } else {
        0
    };
    sys::result(plain!(SYS_prctl, libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))?;
    let at = std::ptr::from_ref(&filter);
    sys::result(plain!(
        SYS_seccomp,
        libc::SECCOMP_SET_MODE_FILTER,
        flags,
        at
    ))
}
