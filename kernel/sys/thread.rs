// SPDX-License-Identifier: GPL-2.0

//! Creates syscall threads with the core's factory.

use super::{c, process::Thread};
use core::{ffi::c_void, marker::PhantomData, ptr::NonNull};
use kernel::prelude::*;
use kernel::sync::{Arc, ArcBorrow};
use kernel::{bindings, types::ForeignOwnable};

/// The code that a kind of syscall thread runs.
pub(crate) trait Body: Send + Sync + Sized + 'static {
    /// The thread's life, which ends when this function returns. It returns soon after
    /// [`SyscallThread::signal`] has returned true.
    fn run(this: ArcBorrow<'_, Self>, thread: SyscallThread);
}

/// Proof that the current task is a syscall thread, for functions that only such a thread may call.
///
/// # Invariants
///
/// It is used by a syscall thread, which runs its [`Body`], and cannot be sent elsewhere.
#[derive(Clone, Copy)]
pub(crate) struct SyscallThread(PhantomData<*mut ()>);

impl SyscallThread {
    /// Lets this thread work for `owner`, a thread of its process, from now on: besides calls, it
    /// acts with the credentials that `owner` has now.
    pub(crate) fn adopt(self, owner: &Thread) {
        // SAFETY: By the invariant; `owner` holds a reference to the task.
        unsafe { bindings::syscall_thread_adopt(owner.as_ptr()) }
    }

    /// Gives this thread the nice value of `owner`, whose calls it executes.
    pub(crate) fn follow_nice(self, owner: &Thread) {
        // SAFETY: By the invariant; `owner` holds a reference to the task.
        unsafe { c::flexsc_follow_nice(owner.as_ptr()) }
    }

    /// Returns true if the credentials of this thread, which last served `served`, or with `nice`
    /// its nice value are out of date. If `served` has ended, the process's first thread counts.
    pub(crate) fn is_behind(self, served: &Thread, nice: bool) -> bool {
        // SAFETY: `served` holds a reference to the task. The current task's leader exists as long
        // as the current task.
        unsafe { c::flexsc_is_behind(served.as_ptr(), nice) }
    }

    /// Takes over the credentials and the nice value that [`Self::is_behind`] has found.
    pub(crate) fn keep_up(self, served: &Thread, nice: bool) {
        // SAFETY: By the invariant; for the rest as above.
        unsafe { c::flexsc_keep_up(served.as_ptr(), nice) }
    }

    /// With a signal pending: stops with the process, freezes, runs task work. Returns true if the
    /// thread must end.
    pub(crate) fn signal(self) -> bool {
        // SAFETY: By the invariant.
        unsafe { bindings::syscall_thread_signal() }
    }

    /// The thread's register frame.
    pub(super) fn regs(self) -> *mut bindings::pt_regs {
        // SAFETY: By the invariant.
        unsafe { bindings::syscall_thread_regs() }
    }
}

/// A thread that was created and not yet started. Dropping it starts the thread.
pub(crate) struct Created(NonNull<bindings::syscall_thread>);

impl Created {
    /// Returns a reference to the thread.
    pub(crate) fn thread(&self) -> Thread {
        // SAFETY: The thread was not started, so it exists.
        let task = unsafe { bindings::syscall_thread_task(self.0.as_ptr()) };
        // SAFETY: As above, the task is valid.
        unsafe { Thread::from_task(task) }
    }
}

impl Drop for Created {
    fn drop(&mut self) {
        // SAFETY: Not started yet, and not used afterwards.
        unsafe { bindings::syscall_thread_start(self.0.as_ptr()) };
    }
}

/// The name of a thread in /proc.
///
/// # Invariants
///
/// Ends with a zero byte.
pub(crate) struct Name([u8; bindings::TASK_COMM_LEN as usize]);

impl Name {
    /// Returns the name of the threads of an engine's pool.
    pub(crate) fn new(engine: u32, pool: u8) -> Self {
        let mut name = [0; bindings::TASK_COMM_LEN as usize];
        // SAFETY: The array has room for a name of a task.
        unsafe { c::flexsc_thread_name(name.as_mut_ptr(), engine, pool.into()) };
        // INVARIANT: The C side terminates the name.
        Name(name)
    }
}

/// The callbacks of a kind of thread.
pub(crate) struct Ops<T> {
    table: bindings::syscall_thread_ops,
    _t: PhantomData<T>,
}

// SAFETY: It is constant.
unsafe impl<T> Sync for Ops<T> {}

impl<T: Body> Ops<T> {
    pub(crate) const fn new() -> Self {
        Ops {
            table: bindings::syscall_thread_ops {
                owner: super::this_module(),
                run: Some(Self::run),
                release: Some(Self::release),
            },
            _t: PhantomData,
        }
    }

    /// Creates a syscall thread in the current process that runs `body`.
    ///
    /// Fails with `EAGAIN` at a limit on processes, with `ENOMEM`, and with `EINTR` if the caller
    /// is about to die or must handle a signal first.
    pub(crate) fn create(&'static self, name: &Name, body: Arc<T>) -> Result<Created> {
        let data = body.into_foreign();
        // SAFETY: The table is static, the name is copied, `data` is the thread's if this succeeds.
        let st = unsafe {
            bindings::syscall_thread_create(&self.table, data.cast_mut(), name.0.as_ptr().cast())
        };
        match kernel::error::from_err_ptr(st) {
            // SAFETY: Neither an error nor null.
            Ok(st) => Ok(Created(unsafe { NonNull::new_unchecked(st) })),
            Err(e) => {
                // SAFETY: The thread does not exist, so the reference is still ours.
                drop(unsafe { Arc::<T>::from_foreign(data) });
                Err(if e.to_errno() == -(bindings::ERESTARTNOINTR as i32) {
                    EINTR
                } else {
                    e
                })
            }
        }
    }

    /// # Safety
    ///
    /// Called by the core, once, on a thread that `create` has made with `data`.
    unsafe extern "C" fn run(data: *mut c_void) {
        // SAFETY: `data` comes from `into_foreign` in `create`; `release` comes after this.
        let this = unsafe { Arc::<T>::borrow(data) };
        // INVARIANT: By the caller's promise the current task is a syscall thread.
        T::run(this, SyscallThread(PhantomData));
    }

    /// # Safety
    ///
    /// Called by the core, once and last, for a thread that `create` has made with `data`.
    unsafe extern "C" fn release(data: *mut c_void) {
        // SAFETY: As above; this is the last use.
        drop(unsafe { Arc::<T>::from_foreign(data) });
    }
}

/// Returns true if the current task shares with `other`, a thread of its process, everything that a
/// syscall thread must share with an owner: tables and control groups. May sleep.
pub(crate) fn is_like(other: &Thread) -> bool {
    // SAFETY: `other` holds a reference to the task.
    unsafe { bindings::syscall_thread_shares(other.as_ptr()) }
}

/// The longest wait of [`wait_for_dismissed`], in milliseconds.
const LONGEST_MS: u32 = 2_000;

/// Waits for threads of this process that are about to end, for a bounded time or until a signal
/// comes. For use at a limit on processes.
pub(crate) fn wait_for_dismissed() {
    // SAFETY: Called by a task that may sleep.
    unsafe { bindings::syscall_threads_wait(kernel::time::msecs_to_jiffies(LONGEST_MS)) };
}
