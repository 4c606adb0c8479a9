// SPDX-License-Identifier: GPL-2.0

//! Executing a posted call with the core's `syscall_invoke()`, and its tracepoints.

use super::{c, process::Thread};
use core::mem::MaybeUninit;
use kernel::bindings;

/// Why the core did not execute a call at all.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// seccomp, ptrace or user dispatch decide over the owner's calls.
    Guarded,
    /// The owner has unshared files, file system context or namespaces.
    Context,
    /// The owner is exiting.
    Exiting,
}

/// Executes call `nr` for `owner`: the current task, or one of its process on a syscall thread.
///
/// The result may be one of `-ERESTART*`.
pub(crate) fn invoke(owner: &Thread, nr: u16, args: &[u64; 6]) -> Result<i64, Refusal> {
    let mut result = 0;
    // SAFETY: `owner` holds a reference to the task, `args` and `result` are valid. A task of user
    // space comes here inside of `Frame::with` only.
    let ret =
        unsafe { bindings::syscall_invoke(owner.as_ptr(), nr.into(), args.as_ptr(), &mut result) };
    if ret == 0 {
        return Ok(result as i64);
    }
    Err(match ret.unsigned_abs() {
        bindings::EPERM => Refusal::Guarded,
        bindings::EXDEV => Refusal::Context,
        _ => Refusal::Exiting,
    })
}

/// Runs `f`, in which a task of user space may call [`invoke`], and then restores its registers.
pub(crate) fn with_frame<R>(f: impl FnOnce() -> R) -> R {
    let mut frame = MaybeUninit::<bindings::syscall_frame>::uninit();
    // SAFETY: The frame is valid for writes; the call fills it in.
    unsafe { bindings::syscall_invoke_begin(frame.as_mut_ptr()) };
    let ret = f();
    // SAFETY: Filled in above, by the same task.
    unsafe { bindings::syscall_invoke_end(frame.as_ptr()) };
    ret
}

/// Is anybody listening to the tracepoints of calls?
pub(crate) fn traced() -> bool {
    // SAFETY: No preconditions.
    unsafe { c::flexsc_trace_enabled() }
}

/// Fires `flexsc:flexsc_invoke`.
pub(crate) fn trace_invoke(owner: &Thread, nr: u16, entry: u32) {
    // SAFETY: `owner` holds a reference to the task.
    unsafe { c::flexsc_trace_invoke(nr.into(), entry, owner.as_ptr()) }
}

/// Fires `flexsc:flexsc_block`.
pub(crate) fn trace_block(nr: u16, left: u32) {
    // SAFETY: No preconditions.
    unsafe { c::flexsc_trace_block(nr.into(), left) }
}

/// Fires `flexsc:flexsc_complete`.
pub(crate) fn trace_complete(nr: u16, entry: u32, result: i64) {
    // SAFETY: No preconditions.
    unsafe { c::flexsc_trace_complete(nr.into(), entry, result as _) }
}
