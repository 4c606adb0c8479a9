// SPDX-License-Identifier: MIT OR Apache-2.0
//! Signal handlers that count, and signals to single threads.
#![expect(unsafe_code, reason = "installing a handler is unsafe")]

use std::sync::atomic::{AtomicI32, AtomicU32, Ordering};

use super::sys;
use crate::check::Check;

static COUNT: AtomicU32 = AtomicU32::new(0);
static LAST_THREAD: AtomicI32 = AtomicI32::new(0);

extern "C" fn count(_signal: i32) {
    LAST_THREAD.store(sys::gettid(), Ordering::Relaxed);
    COUNT.fetch_add(1, Ordering::Relaxed);
}

extern "C" fn leave(_signal: i32) {
    sys::exit_thread(0);
}

fn install(signal: i32, handler: usize, flags: i32) -> Check {
    // SAFETY: sigaction is plain data, for which zeros are valid.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    action.sa_sigaction = handler;
    action.sa_flags = flags;
    // SAFETY: the handler only makes a system call and stores to atomics.
    let ret = unsafe { libc::sigaction(signal, &action, std::ptr::null_mut()) };
    check_eq!("sigaction", ret, 0);
    Ok(())
}

/// Counts this signal from now on, from zero.
pub fn count_signal(signal: i32, flags: i32) -> Check {
    COUNT.store(0, Ordering::Relaxed);
    install(signal, count as extern "C" fn(i32) as usize, flags)
}

/// Makes this signal end the thread that handles it, without the C library's knowledge.
pub fn exit_thread_on(signal: i32) -> Check {
    install(signal, leave as extern "C" fn(i32) as usize, 0)
}

/// Restores the default action.
pub fn default_action(signal: i32) -> Check {
    install(signal, libc::SIG_DFL, 0)
}

/// Signals counted so far.
pub fn counted() -> u32 {
    COUNT.load(Ordering::Relaxed)
}

/// The thread that has handled the last signal.
pub fn last_thread() -> i32 {
    LAST_THREAD.load(Ordering::Relaxed)
}

/// Sends a signal to a thread of this process.
pub fn send(tid: i32, signal: i32) {
    plain!(SYS_tgkill, std::process::id(), tid, signal);
}
