// SPDX-License-Identifier: MIT OR Apache-2.0
//! A seccomp filter, to show what asking it costs.

use std::io;

/// Loads the number of the call.
const LOAD_NUMBER: u16 = (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16;
/// Ends with a constant answer.
const ANSWER: u16 = (libc::BPF_RET | libc::BPF_K) as u16;

/// Puts the calling thread, and what it creates, under a filter that allows all calls. The filter
/// reads no argument, so the kernel asks it once for each number, when it is installed.
///
/// # Errors
///
/// Those of prctl(2).
pub fn allow_all() -> io::Result<()> {
    let step = |code, k| libc::sock_filter {
        code,
        jt: 0,
        jf: 0,
        k,
    };
    let mut steps = [step(LOAD_NUMBER, 0), step(ANSWER, libc::SECCOMP_RET_ALLOW)];
    let program = libc::sock_fprog {
        len: steps.len() as u16,
        filter: steps.as_mut_ptr(),
    };
    // SAFETY: no pointers are passed.
    let rights = unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) };
    // SAFETY: the program lives until the call returns, which copies it.
    let installed =
        unsafe { libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &program) };
    if rights == 0 && installed == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}
