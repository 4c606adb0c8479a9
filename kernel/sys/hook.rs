// SPDX-License-Identifier: GPL-2.0
// Runs in schedule(): raw spinlocks only, no allocation, no sleeping, no user memory.

//! The scheduler's block hook: notifies a batch when its task blocks in a posted call.

use super::process::Thread;
use core::marker::PhantomData;
use kernel::bindings;
use kernel::types::Opaque;

/// Receives notifications from the task itself, in `schedule()`.
///
/// # Safety
///
/// Both functions, and all that they call, take no locks but raw ones, do not allocate or free, do
/// not sleep and do not touch user memory.
pub(crate) unsafe trait Blocking {
    /// The task is about to sleep.
    fn sleeping(&self);
    /// The task is back from `schedule()`; possibly it has not slept.
    fn running(&self);
}

/// A [`Blocking`] in the form that the scheduler expects, for calls of one owner.
///
/// # Invariants
///
/// `c` is the first field, so that a pointer to it is one to the whole. `c.owner` is the task of
/// `owner`, which is borrowed, and so valid, as long as the hook exists.
#[repr(C)]
pub(crate) struct Hook<'a, T> {
    c: Opaque<bindings::syscall_hook>,
    inner: T,
    owner: PhantomData<&'a Thread>,
}

impl<'a, T: Blocking> Hook<'a, T> {
    /// `owner` is the thread that has posted the calls. `may_leave`: see
    /// [`Frame::set_may_leave`](super::invoke::Frame::set_may_leave).
    #[inline(always)]
    pub(crate) fn new(inner: T, owner: &'a Thread, may_leave: bool) -> Self {
        // INVARIANT: `repr(C)`, first field; `owner` is borrowed for `'a`.
        Hook {
            c: Opaque::new(bindings::syscall_hook {
                sleeping: Some(Self::sleeping),
                running: Some(Self::running),
                owner: owner.as_ptr(),
                owner_only: false,
                may_leave,
                left: false,
                filter: core::ptr::null_mut(),
                #[cfg(CONFIG_PROVE_LOCKING)]
                allowed: core::ptr::null(),
            }),
            inner,
            owner: PhantomData,
        }
    }

    /// Returns the hook for functions of the core.
    pub(super) fn as_ptr(&self) -> *mut bindings::syscall_hook {
        self.c.get()
    }

    /// Returns the value that the hook calls.
    pub(super) fn inner(&self) -> &T {
        &self.inner
    }

    /// Runs `f`, during which the current syscall thread reports to this hook.
    pub(crate) fn with<R>(&self, f: impl FnOnce(&T) -> R) -> R {
        // SAFETY: `self` outlives the matching `syscall_hook_clear()` below: nothing in between
        // unwinds.
        unsafe { bindings::syscall_hook_set(self.as_ptr()) };
        let ret = f(&self.inner);
        // SAFETY: Matches the call above.
        unsafe { bindings::syscall_hook_clear() };
        ret
    }

    /// # Safety
    ///
    /// Called by the scheduler, on the task that runs [`Self::with`] or `invoke::with_frame` with
    /// the hook that `hook` points to.
    unsafe extern "C" fn sleeping(hook: *mut bindings::syscall_hook) {
        // SAFETY: By the caller's promise the hook exists; the cast is right by the type invariant.
        let this = unsafe { &*hook.cast_const().cast::<Self>() };
        this.inner.sleeping();
    }

    /// # Safety
    ///
    /// Called by the scheduler, on the task that runs [`Self::with`] or `invoke::with_frame` with
    /// the hook that `hook` points to.
    unsafe extern "C" fn running(hook: *mut bindings::syscall_hook) {
        // SAFETY: As above.
        let this = unsafe { &*hook.cast_const().cast::<Self>() };
        this.inner.running();
    }
}
