// SPDX-License-Identifier: GPL-2.0

//! Executing a posted call with the core's `syscall_invoke()`, and its tracepoints.

use super::{
    arch, c,
    hook::{Blocking, Hook},
    process::Thread,
};
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
    // SAFETY: The current task is valid, and so is its register frame.
    let regs = unsafe { bindings::syscall_thread_regs() };
    // SAFETY: The frame is the current task's, and free: a task of user space comes here inside of
    // `with_frame` only.
    unsafe { arch::set_args(regs, args) };
    let ret = if owner.is_current() {
        // SAFETY: `regs` is the task's frame with arguments in place, `result` is valid.
        unsafe { bindings::syscall_invoke_self(regs, nr.into(), &mut result) }
    } else {
        // SAFETY: As above; `owner` holds a reference to the task.
        unsafe { bindings::syscall_invoke_for(owner.as_ptr(), regs, nr.into(), &mut result) }
    };
    if ret == 0 {
        return Ok(result as i64);
    }
    Err(match ret.unsigned_abs() {
        bindings::EPERM => Refusal::Guarded,
        bindings::EXDEV => Refusal::Context,
        _ => Refusal::Exiting,
    })
}

/// Runs `f`, in which a task of user space may call [`invoke`] and reports to `hook` when it
/// blocks, and then restores its registers.
pub(crate) fn with_frame<T: Blocking, R>(hook: &Hook<T>, f: impl FnOnce(&T) -> R) -> R {
    let mut frame = MaybeUninit::<bindings::syscall_frame>::uninit();
    // SAFETY: The frame is valid for writes; the call fills it in. The hook outlives the matching
    // call below: nothing in between unwinds.
    unsafe { bindings::syscall_invoke_begin(frame.as_mut_ptr(), hook.as_ptr()) };
    let ret = f(hook.inner());
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
