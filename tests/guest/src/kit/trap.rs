// SPDX-License-Identifier: MIT OR Apache-2.0
//! Lets a program continue after a fault in memory that was unmapped while it was used.
#![expect(unsafe_code, reason = "handling SIGSEGV is unsafe")]

use std::sync::atomic::{AtomicU32, Ordering};

use super::sys;
use crate::check::Check;

/// The most faults that a process may have before it gives up.
const MOST: u32 = 20_000;

static FAULTS: AtomicU32 = AtomicU32::new(0);

extern "C" fn patch(_signal: i32, info: *mut libc::siginfo_t, _context: *mut libc::c_void) {
    // SAFETY: the kernel passes a valid siginfo_t to a handler with SA_SIGINFO.
    let info = unsafe { &*info };
    // SAFETY: the kernel sets the address for these signals.
    let at = unsafe { info.si_addr() } as usize;
    let page = at & !4095;
    let prot = libc::PROT_READ | libc::PROT_WRITE;
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED;
    let ret = plain!(SYS_mmap, page, 4096, prot, flags, -1, 0);
    if ret != page as i64 || FAULTS.fetch_add(1, Ordering::Relaxed) > MOST {
        sys::exit_now(3);
    }
}

/// Makes a bad access find zeros instead of ending the process, from now on. The signals
/// `harmless`, which programs send each other, only interrupt.
pub fn patch_faults(harmless: &[i32]) -> Check {
    // SAFETY: sigaction is plain data, for which zeros are valid.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    action.sa_sigaction =
        patch as extern "C" fn(i32, *mut libc::siginfo_t, *mut libc::c_void) as usize;
    action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK | libc::SA_NODEFER;
    for signal in [libc::SIGSEGV, libc::SIGBUS] {
        // SAFETY: the handler makes system calls and uses an atomic, nothing else.
        let ret = unsafe { libc::sigaction(signal, &action, std::ptr::null_mut()) };
        check_eq!("sigaction", ret, 0);
    }
    for &signal in harmless {
        super::signals::count_signal(signal, 0)?;
    }
    Ok(())
}
