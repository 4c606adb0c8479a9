// SPDX-License-Identifier: GPL-2.0

//! Processes and threads: identity, sleeping, waking, time and CPUs.

use super::c;
use core::ptr::NonNull;
use kernel::bindings;
use kernel::prelude::*;

/// A reference to a thread.
///
/// # Invariants
///
/// Owns one reference of the task.
pub(crate) struct Thread(NonNull<bindings::task_struct>);

// SAFETY: Task references may be used and dropped anywhere.
unsafe impl Send for Thread {}
// SAFETY: As above.
unsafe impl Sync for Thread {}

impl Thread {
    /// Returns the current thread.
    pub(crate) fn current() -> Self {
        let task = kernel::types::ARef::from(&*kernel::current!());
        // INVARIANT: The reference of the `ARef` goes to the new value.
        Thread(kernel::types::ARef::into_raw(task).cast())
    }

    /// Takes a reference to `task`.
    ///
    /// # Safety
    ///
    /// `task` is valid.
    pub(super) unsafe fn from_task(task: *mut bindings::task_struct) -> Self {
        // SAFETY: Valid by the caller's promise; `Task` is a transparent `task_struct`.
        let task = kernel::types::ARef::from(unsafe { &*task.cast::<kernel::task::Task>() });
        // INVARIANT: The reference of the `ARef` goes to the new value.
        Thread(kernel::types::ARef::into_raw(task).cast())
    }

    /// Returns true if this is the same thread as `other`.
    pub(crate) fn is(&self, other: &Self) -> bool {
        self.0 == other.0
    }

    pub(crate) fn is_current(&self) -> bool {
        self.0 == Current::get().0
    }

    /// Returns true if this is the current task or, in a posted call, the task that posted it.
    pub(crate) fn is_caller(&self) -> bool {
        // SAFETY: By the invariant the task is valid; it is compared only.
        unsafe { c::flexsc_is_caller(self.0.as_ptr()) }
    }

    /// Wakes the thread up if it sleeps.
    pub(crate) fn wake(&self) {
        // SAFETY: By the invariant the task is valid.
        unsafe { bindings::wake_up_process(self.0.as_ptr()) };
    }

    /// Ends the thread's interruptible sleep as a signal would.
    pub(crate) fn interrupt(&self) {
        // SAFETY: By the invariant the task is valid.
        unsafe { bindings::syscall_thread_interrupt(self.0.as_ptr()) };
    }

    /// As [`Self::interrupt`], for a syscall thread that must end.
    pub(crate) fn dismiss(&self) {
        // SAFETY: By the invariant the task is valid.
        unsafe { bindings::syscall_thread_dismiss(self.0.as_ptr()) };
    }

    /// Returns the thread's id in the initial namespace.
    pub(crate) fn pid(&self) -> i32 {
        // SAFETY: By the invariant the task is valid; the number never changes.
        unsafe { (*self.0.as_ptr()).pid }
    }

    /// Returns true if the thread has ended or is about to.
    pub(crate) fn is_exiting(&self) -> bool {
        // SAFETY: By the invariant the task is valid.
        unsafe { Self::is_task_exiting(self.0.as_ptr()) }
    }

    /// As [`Self::is_exiting`].
    ///
    /// # Safety
    ///
    /// `task` is valid.
    pub(super) unsafe fn is_task_exiting(task: *const bindings::task_struct) -> bool {
        // SAFETY: Valid by the caller's promise; the word is read once.
        let flags = unsafe { (&raw const (*task).flags).read_volatile() };
        flags & bindings::PF_EXITING != 0
    }

    /// Returns true if the thread runs, or was woken and is about to run.
    pub(crate) fn is_awake(&self) -> bool {
        // SAFETY: By the invariant the task is valid; the word is read once.
        let state = unsafe { (&raw const (*self.0.as_ptr()).__state).read_volatile() };
        // `TASK_WAKING`: another CPU has yet to put it into its queue.
        state == bindings::TASK_RUNNING || state == bindings::TASK_WAKING
    }

    pub(super) fn as_ptr(&self) -> *mut bindings::task_struct {
        self.0.as_ptr()
    }

    /// The task, with the reference.
    pub(super) fn into_raw(self) -> *mut bindings::task_struct {
        core::mem::ManuallyDrop::new(self).as_ptr()
    }

    /// Takes back the reference from [`Self::into_raw`].
    ///
    /// # Safety
    ///
    /// `task` comes from [`Self::into_raw`], and this is called once for it.
    pub(super) unsafe fn from_raw(task: *mut bindings::task_struct) -> Self {
        // INVARIANT: By the caller's promise the reference is there.
        // SAFETY: By the caller's promise not null.
        Thread(unsafe { NonNull::new_unchecked(task) })
    }
}

impl Clone for Thread {
    fn clone(&self) -> Self {
        // SAFETY: By the invariant the task is valid.
        unsafe { Self::from_task(self.0.as_ptr()) }
    }
}

impl Drop for Thread {
    fn drop(&mut self) {
        // SAFETY: By the invariant a reference is owned, given to the `ARef` that drops it.
        drop(unsafe { kernel::types::ARef::<kernel::task::Task>::from_raw(self.0.cast()) });
    }
}

/// The current task.
///
/// # Invariants
///
/// This is the task that uses the value, which cannot be sent elsewhere.
#[derive(Clone, Copy)]
pub(crate) struct Current(NonNull<bindings::task_struct>);

impl Current {
    #[inline(always)]
    pub(crate) fn get() -> Self {
        // INVARIANT: This is the current task.
        // SAFETY: No preconditions; a current task always exists.
        Current(unsafe { NonNull::new_unchecked(c::flexsc_current()) })
    }

    pub(super) fn as_ptr(self) -> *mut bindings::task_struct {
        self.0.as_ptr()
    }

    /// Returns true if the task is executing posted calls, as their owner or as a syscall thread.
    #[inline(always)]
    pub(super) fn is_executing(self) -> bool {
        // SAFETY: Only the task itself changes its flags.
        unsafe { (*self.as_ptr()).flags & bindings::PF_SYSCALL_THREAD != 0 }
    }

    /// Returns the task's flags, see [`ThreadFlags`].
    #[inline(always)]
    pub(crate) fn thread_flags(self) -> ThreadFlags {
        // INVARIANT: The current task's.
        // SAFETY: The current task is valid.
        ThreadFlags(unsafe { &raw const (*self.as_ptr()).thread_info.flags }.cast())
    }
}

/// The current task in a request that it makes itself, not by a posted call, to a device of this
/// module. Lasts as long as the request.
///
/// # Invariants
///
/// There is at most one for each task, used by that task alone: a request executes only
/// posted calls, which get none.
pub(crate) struct Caller(Current);

impl Caller {
    /// Returns the caller of a request that has just begun, or `None` within a posted call.
    #[inline(always)]
    pub(super) fn of_request() -> Option<Self> {
        let current = Current::get();
        // INVARIANT: Requests of one task nest only by posted calls.
        (!current.is_executing()).then_some(Caller(current))
    }

    #[inline(always)]
    pub(crate) fn task(&self) -> Current {
        self.0
    }
}

/// The current task's flags, for a quick look between two entries.
///
/// # Invariants
///
/// Points to `thread_info.flags` of the task that uses this value, which cannot be sent elsewhere.
pub(crate) struct ThreadFlags(*const core::ffi::c_ulong);

impl ThreadFlags {
    /// Returns true if the task should let others run or handle a signal. Then call
    /// [`resched_and_check_signal`].
    #[inline(always)]
    pub(crate) fn is_needed(&self) -> bool {
        const NEEDED: u64 = (1 << bindings::TIF_NEED_RESCHED)
            | (1 << bindings::TIF_SIGPENDING)
            | (1 << bindings::TIF_NOTIFY_SIGNAL);
        // SAFETY: Valid by the invariant; others set bits in the word, so it is one volatile read.
        (unsafe { self.0.read_volatile() } as u64) & NEEDED != 0
    }
}

/// Index of a thread group's number in the array `pids` of its `struct signal_struct`.
const TGID: usize = bindings::pid_type_PIDTYPE_TGID as usize;

/// A process: an address space and a thread group.
///
/// # Invariants
///
/// Owns a reference to the `mm_struct` itself (not to its memory) and to the `pid`.
pub(crate) struct Process {
    mm: *mut bindings::mm_struct,
    tgid: *mut bindings::pid,
}

// SAFETY: Both references may be used and dropped anywhere.
unsafe impl Send for Process {}
// SAFETY: As above.
unsafe impl Sync for Process {}

impl Process {
    /// Returns the current process. Fails with `EPERM` in a kernel thread.
    pub(crate) fn current() -> Result<Self> {
        // SAFETY: No preconditions; the current task keeps both alive.
        let (mm, tgid) = unsafe { (c::flexsc_current_mm(), c::flexsc_current_tgid()) };
        if mm.is_null() || tgid.is_null() {
            return Err(EPERM);
        }
        // SAFETY: Both are valid, see above.
        unsafe { c::flexsc_mm_grab(mm) };
        // SAFETY: As above.
        unsafe { c::flexsc_get_pid(tgid) };
        // INVARIANT: References taken just now.
        Ok(Process { mm, tgid })
    }

    /// Returns true if the current task belongs to this process. Returns false in a (v)forked
    /// child and after exec.
    #[inline(always)]
    pub(crate) fn has(&self, current: Current) -> bool {
        let task = current.as_ptr();
        // SAFETY: A running task has a signal struct, and only its own exec(2) changes the words:
        // the exec(2) of another thread ends this one first.
        unsafe { (*task).mm == self.mm && (*(*task).signal).pids[TGID] == self.tgid }
    }

    /// Returns a number that no other process has while this value lives. exec(2) changes it.
    pub(crate) fn number(&self) -> usize {
        self.mm.addr()
    }

    /// Charges `pages` of memory to RLIMIT_MEMLOCK of the current task, one of this process, as
    /// pinned memory. Fails with `ENOMEM` at the limit.
    pub(crate) fn charge_pinned(&self, pages: usize) -> Result {
        // SAFETY: By the invariant the `mm_struct` is valid.
        kernel::error::to_result(unsafe { c::flexsc_charge_pinned(self.mm, pages as _) })
    }

    /// Undoes a charge. Any task may call this.
    pub(crate) fn uncharge_pinned(&self, pages: usize) {
        // SAFETY: By the invariant the `mm_struct` is valid.
        unsafe { c::flexsc_uncharge_pinned(self.mm, pages as _) };
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // SAFETY: By the invariant a reference is owned.
        unsafe { c::flexsc_mm_drop(self.mm) };
        // SAFETY: As above.
        unsafe { bindings::put_pid(self.tgid) };
    }
}

/// Returns the id of the current task's user in the initial user namespace.
pub(crate) fn current_user() -> u32 {
    // SAFETY: No preconditions.
    unsafe { c::flexsc_current_user() }
}

/// Binds the current syscall thread to one CPU. Returns false if that is impossible.
pub(crate) fn run_on(cpu: u32) -> bool {
    // SAFETY: No preconditions.
    unsafe { c::flexsc_run_on(cpu) }
}

/// Returns true if the current task runs on `cpu`.
pub(crate) fn is_on(cpu: u32) -> bool {
    this_cpu() == cpu
}

/// Returns the CPU on which the current task runs, unless it is moved.
pub(crate) fn this_cpu() -> u32 {
    // SAFETY: No preconditions.
    unsafe { c::flexsc_this_cpu() }
}

/// Returns the number of online CPUs that the current task may use.
pub(crate) fn usable_cpus() -> u32 {
    // SAFETY: No preconditions.
    unsafe { c::flexsc_usable_cpus() }
}

/// Returns the CPUs from 0 to 63 that are online and in the current task's cpuset. May sleep.
pub(crate) fn allowed_cpus() -> u64 {
    // SAFETY: No preconditions.
    unsafe { c::flexsc_allowed_cpus() }
}

/// Returns the current task's nice value.
pub(crate) fn nice() -> i32 {
    // SAFETY: No preconditions.
    unsafe { c::flexsc_nice() }
}

/// Asks the security module whether the current task's threads may have this nice value.
pub(crate) fn check_nice(nice: i32) -> Result {
    // SAFETY: No preconditions.
    kernel::error::to_result(unsafe { bindings::syscall_thread_check_nice(nice) })
}

/// Returns true if the current task may take this nice value.
pub(crate) fn may_renice(nice: i32) -> bool {
    // SAFETY: No preconditions.
    unsafe { c::flexsc_may_renice(nice) }
}

/// Gives the current syscall thread a nice value; a lower one only if `privileged`.
pub(crate) fn renice(nice: i32, privileged: bool) {
    // SAFETY: No preconditions.
    unsafe { c::flexsc_renice(nice, privileged) }
}

/// Returns true if the current task has a signal to handle.
pub(crate) fn signal_pending() -> bool {
    // SAFETY: No preconditions.
    unsafe { c::flexsc_signal_pending() }
}

/// Lets other tasks run if they want to. Returns [`signal_pending`].
pub(crate) fn resched_and_check_signal() -> bool {
    // SAFETY: Called by a task that may sleep.
    unsafe { c::flexsc_resched() }
}

/// Tells the CPU that this is a busy-wait loop.
pub(crate) fn relax() {
    // SAFETY: No preconditions.
    unsafe { c::flexsc_relax() }
}

/// Prepares to sleep: a wake-up from here on ends the next sleep. Call one of the three functions
/// below next.
pub(crate) fn sleep_prepare() {
    // SAFETY: No preconditions.
    unsafe { c::flexsc_sleep_prepare() }
}

/// Undoes [`sleep_prepare`].
pub(crate) fn sleep_cancel() {
    // SAFETY: No preconditions.
    unsafe { c::flexsc_sleep_cancel() }
}

/// Sleeps until a wake-up or a signal comes or `ms` milliseconds have passed. Returns false after a
/// timeout.
pub(crate) fn sleep(ms: Option<u32>) -> bool {
    let ms = ms.map_or(-1, |ms| ms as core::ffi::c_long);
    // SAFETY: Called by a task that may sleep.
    unsafe { c::flexsc_sleep(ms as _) != 0 }
}

/// Sleeps until a wake-up, a signal or the given time. Returns false after a timeout.
pub(crate) fn sleep_until(when_ns: u64) -> bool {
    // SAFETY: Called by a task that may sleep.
    unsafe { c::flexsc_sleep_until(when_ns) != 0 }
}

/// Returns CLOCK_MONOTONIC in nanoseconds.
pub(crate) fn now_ns() -> u64 {
    // SAFETY: No preconditions.
    unsafe { c::flexsc_now_ns() }
}

/// Converts a time of CLOCK_MONOTONIC as the current task sees it to the clock of [`now_ns`]. They
/// differ in a time namespace.
pub(crate) fn monotonic_to_host(when_ns: u64) -> u64 {
    // SAFETY: No preconditions.
    unsafe { c::flexsc_monotonic_to_host(when_ns) }
}

/// Ends the interruptible sleep that the current task is about to begin, as a signal would.
pub(crate) fn interrupt_self() {
    // SAFETY: The current task is valid.
    unsafe { bindings::syscall_thread_interrupt(c::flexsc_current()) }
}

/// Returns the number of bits that are set.
#[inline(always)]
pub(crate) fn weight(bits: u64) -> u32 {
    // SAFETY: No preconditions.
    unsafe { c::flexsc_weight(bits) }
}

/// A full memory barrier.
pub(crate) fn full_barrier() {
    // SAFETY: No preconditions.
    unsafe { c::flexsc_mb() }
}
