// SPDX-License-Identifier: GPL-2.0
// Runs in schedule(): raw spinlocks only, no allocation, no sleeping, no user memory.

//! The scheduler's block hook: who is told when a task blocks in a posted call.

use super::process::Thread;
use kernel::bindings;
use kernel::types::Opaque;

/// Told by the task itself, from `schedule()`.
///
/// Implementations take raw locks only, do not allocate and do not sleep.
pub(crate) trait Blocking {
    /// The task is about to sleep.
    fn sleeping(&self);
    /// The task is back from `schedule()`; it may not have slept.
    fn running(&self);
    /// The thread that has posted the calls.
    fn owner(&self) -> &Thread;
}

/// A [`Blocking`] in the shape that the scheduler wants.
///
/// # Invariants
///
/// `c` is the first field, so that a pointer to it is one to the whole. `c.owner` is a task that
/// `inner` holds a reference to.
#[repr(C)]
pub(crate) struct Hook<T> {
    c: Opaque<bindings::syscall_hook>,
    inner: T,
}

impl<T: Blocking> Hook<T> {
    pub(crate) fn new(inner: T) -> Self {
        // INVARIANT: `repr(C)`, first field; and `inner` has to answer with the same owner always.
        Hook {
            c: Opaque::new(bindings::syscall_hook {
                sleeping: Some(Self::sleeping),
                running: Some(Self::running),
                owner: inner.owner().as_ptr(),
                owner_only: false,
            }),
            inner,
        }
    }

    /// As the core wants it.
    pub(super) fn as_ptr(&self) -> *mut bindings::syscall_hook {
        self.c.get()
    }

    /// What is told.
    pub(super) fn inner(&self) -> &T {
        &self.inner
    }

    /// Runs `f`; while it runs the current syscall thread reports here.
    pub(crate) fn with<R>(&self, f: impl FnOnce(&T) -> R) -> R {
        // SAFETY: `self` outlives the matching `syscall_hook_clear()` below: nothing in between
        // unwinds.
        unsafe { bindings::syscall_hook_set(self.as_ptr()) };
        let ret = f(&self.inner);
        // SAFETY: Matches the call above.
        unsafe { bindings::syscall_hook_clear() };
        ret
    }

    unsafe extern "C" fn sleeping(hook: *mut bindings::syscall_hook) {
        // SAFETY: The scheduler passes what `with` has set, valid by the type invariant.
        let this = unsafe { &*hook.cast_const().cast::<Self>() };
        this.inner.sleeping();
    }

    unsafe extern "C" fn running(hook: *mut bindings::syscall_hook) {
        // SAFETY: As above.
        let this = unsafe { &*hook.cast_const().cast::<Self>() };
        this.inner.running();
    }
}
