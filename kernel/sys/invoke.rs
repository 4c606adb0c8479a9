// SPDX-License-Identifier: GPL-2.0

//! Executing a posted call with the core's `syscall_invoke_self()` and `syscall_invoke_for()`, and
//! its tracepoints.

use super::{
    arch, c,
    hook::{Blocking, Hook},
    park::Parked,
    process::Thread,
    thread::SyscallThread,
};
use core::mem::MaybeUninit;
use core::sync::atomic::Ordering;
use kernel::bindings;
use kernel::ffi::c_long;

const EAGAIN: c_long = -(bindings::EAGAIN as c_long);

/// Why the core did not execute a call at all.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// The owner's filters of seccomp do not allow the call, or ptrace or user dispatch decide about
    /// the owner's calls.
    Guarded,
    /// The owner has unshared files, file system context or namespaces, or has protection keys of
    /// its own.
    Context,
    /// Only the owner itself can make the call. The call detected this before it did anything.
    OwnerOnly,
    /// The owner is exiting.
    Exiting,
}

/// Outcome of a call that was tried.
pub(crate) enum Tried {
    /// The call has this result.
    Made(i64),
    /// The call would wait now. If it was kept, all its checks have passed.
    Waits,
    /// The call must be made like any other one.
    Not,
    /// No task must execute the call.
    Refused(Refusal),
}

/// The register frame of the current task, into which the arguments of a call are put.
///
/// # Invariants
///
/// `regs` is the current task's frame, free for calls: that of a syscall thread, if there is a
/// `thread`, or else of a task of user space within [`with_frame`], whose hook `hook` points to. On
/// a syscall thread `hook` is null.
pub(crate) struct Frame {
    regs: *mut bindings::pt_regs,
    thread: Option<SyscallThread>,
    hook: *mut bindings::syscall_hook,
}

impl Frame {
    /// The frame of the current task, a syscall thread.
    pub(crate) fn of_thread(thread: SyscallThread) -> Self {
        // INVARIANT: A syscall thread does not use its frame itself.
        Frame {
            regs: thread.regs(),
            thread: Some(thread),
            hook: core::ptr::null_mut(),
        }
    }

    /// The current task, if it is a syscall thread.
    pub(crate) fn thread(&self) -> Option<SyscallThread> {
        self.thread
    }

    /// From now on, calls of the current task of user space that would wait for a file system may be
    /// left to syscall threads, or not. Returns what was set before; always false on a syscall thread.
    #[inline(always)]
    pub(crate) fn set_may_leave(&self, may: bool) -> bool {
        if self.thread.is_some() {
            return false;
        }
        // SAFETY: By the invariant; only the current task, which the hook belongs to, uses the field.
        unsafe { core::mem::replace(&mut (*self.hook).may_leave, may) }
    }

    /// Returns true if the core has left the call with this result to a syscall thread. The call has
    /// done nothing.
    #[inline(always)]
    pub(crate) fn has_left(&self, result: i64) -> bool {
        const LEFT: i64 = -(bindings::ERESTARTNOINTR as i64);
        result == LEFT && self.take_left()
    }

    /// Returns true if the core has left a call of the current task of user space since this was
    /// called last.
    #[inline(always)]
    pub(crate) fn take_left(&self) -> bool {
        // SAFETY: As in `set_may_leave`.
        self.thread.is_none() && unsafe { core::mem::replace(&mut (*self.hook).left, false) }
    }

    /// Returns the pointer for the core.
    pub(super) fn as_ptr(&self) -> *mut bindings::pt_regs {
        self.regs
    }

    /// Puts the arguments of a call into the frame.
    #[inline(always)]
    pub(crate) fn set_args(&self, args: &[u64; 6]) {
        // SAFETY: By the invariant.
        unsafe { arch::set_args(self.regs, args) };
    }

    /// Executes call `nr`, whose arguments are in the frame: on a syscall thread for `owner`, a task
    /// of its process, and otherwise as the current task's own call.
    ///
    /// The result may be one of `-ERESTART*`.
    #[inline(always)]
    pub(crate) fn invoke(&self, owner: &Thread, nr: u16) -> Result<i64, Refusal> {
        outcome(if self.thread.is_some() {
            // SAFETY: By the invariant; `owner` holds a reference to the task.
            unsafe { bindings::syscall_invoke_for(owner.as_ptr(), self.regs, nr.into()) }
        } else {
            // SAFETY: By the invariant.
            unsafe { bindings::syscall_invoke_self(self.regs, nr.into()) }
        })
    }

    /// As [`Self::invoke`] for the current task's own call, if it need not wait for its file.
    pub(crate) fn try_call(&self, nr: u16) -> Tried {
        // SAFETY: By the invariant.
        match tried(unsafe { bindings::syscall_try_self(self.regs, nr.into()) }) {
            // The core has not tried the call.
            Tried::Not => Tried::Waits,
            tried => tried,
        }
    }

    /// As [`Self::try_call`], for a call that waits or has waited for its file.
    pub(crate) fn try_parked(&self, parked: &Parked) -> Tried {
        // SAFETY: By the invariants.
        tried(unsafe { c::flexsc_parked_try(parked.as_ptr(), self.regs) })
    }

    /// As [`Self::invoke`] on a syscall thread, for a call that has waited for its file. Returns
    /// nothing if the call must wait for its file again, without a thread.
    pub(crate) fn invoke_parked(
        &self,
        owner: &Thread,
        parked: &Parked,
    ) -> Result<Option<i64>, Refusal> {
        // SAFETY: By the invariants; `owner` holds a reference to the task.
        let result = unsafe { c::flexsc_parked_invoke(parked.as_ptr(), owner.as_ptr(), self.regs) };
        if result.error == EAGAIN {
            return Ok(None);
        }
        outcome(result).map(Some)
    }
}

/// The core's answer: the call must not be made.
const EPERM: c_long = -(bindings::EPERM as c_long);

#[inline(always)]
fn outcome(outcome: bindings::syscall_outcome) -> Result<i64, Refusal> {
    if outcome.error == 0 {
        Ok(outcome.value as i64)
    } else {
        Err(refusal(outcome.error))
    }
}

fn tried(outcome: bindings::syscall_outcome) -> Tried {
    const EAGAIN: c_long = -(bindings::EAGAIN as c_long);
    match outcome.error {
        0 => Tried::Made(outcome.value as i64),
        EAGAIN => Tried::Waits,
        EPERM => Tried::Refused(Refusal::Guarded),
        _ => Tried::Not,
    }
}

#[cold]
fn refusal(error: c_long) -> Refusal {
    const EXDEV: c_long = -(bindings::EXDEV as c_long);
    const EREMCHG: c_long = -(bindings::EREMCHG as c_long);
    match error {
        EPERM => Refusal::Guarded,
        EXDEV => Refusal::Context,
        EREMCHG => Refusal::OwnerOnly,
        _ => Refusal::Exiting,
    }
}

/// Runs `f`, in which the current task of user space executes calls and reports to `hook` when it
/// blocks. Afterwards, restores its registers.
#[inline(always)]
pub(crate) fn with_frame<T: Blocking, R>(hook: &Hook<'_, T>, f: impl FnOnce(&T, &Frame) -> R) -> R {
    let mut saved = MaybeUninit::<bindings::syscall_frame>::uninit();
    // SAFETY: The frame is valid for writes; the call fills it in. The hook outlives the matching
    // call below: nothing in between unwinds.
    let regs = unsafe { bindings::syscall_invoke_begin(saved.as_mut_ptr(), hook.as_ptr()) };
    // INVARIANT: The core has saved the task's registers, and `f` returns before the hook ends.
    let frame = Frame {
        regs,
        thread: None,
        hook: hook.as_ptr(),
    };
    let ret = f(hook.inner(), &frame);
    // SAFETY: Filled in above, by the same task.
    unsafe { bindings::syscall_invoke_end(saved.as_ptr()) };
    ret
}

/// Returns true if a tracepoint of calls is enabled.
#[inline(always)]
pub(crate) fn traced() -> bool {
    // SAFETY: C changes the word only by WRITE_ONCE().
    let tracers = unsafe { &c::flexsc_tracers };
    // ORDERING: None needed: a batch that has already begun is not traced.
    tracers.load(Ordering::Relaxed) != 0
}

/// Fires `flexsc:flexsc_invoke`.
pub(crate) fn trace_invoke(owner: &Thread, nr: u16, entry: u32) {
    // SAFETY: `owner` holds a reference to the task.
    unsafe { c::flexsc_trace_invoke(nr.into(), entry, owner.as_ptr()) }
}

/// Fires `flexsc:flexsc_block`, for the call that the current task executes.
pub(crate) fn trace_block(left: u32) {
    // SAFETY: No preconditions.
    unsafe { c::flexsc_trace_block(left) }
}

/// Fires `flexsc:flexsc_park`.
pub(crate) fn trace_park(owner: &Thread, nr: u16, entry: u32) {
    // SAFETY: `owner` holds a reference to the task.
    unsafe { c::flexsc_trace_park(nr.into(), entry, owner.as_ptr()) }
}

/// Fires `flexsc:flexsc_complete`.
pub(crate) fn trace_complete(nr: u16, entry: u32, result: i64) {
    // SAFETY: No preconditions.
    unsafe { c::flexsc_trace_complete(nr.into(), entry, result as _) }
}
