// SPDX-License-Identifier: GPL-2.0

//! The C functions of `helpers.h`, in its order.

use core::sync::atomic::{AtomicI32, AtomicU32};
use kernel::bindings::{
    cpumask, file, mm_struct, pid, poll_table_struct, pt_regs, raw_spinlock_t, seq_file,
    syscall_outcome, task_struct, vm_area_struct,
};
use kernel::ffi::{c_char, c_int, c_long, c_uint, c_ulong, c_void};

/// The beginning of `struct flexsc_notifier` of `helpers/notify.c`.
#[repr(C)]
#[allow(non_camel_case_types)]
pub(super) struct flexsc_notifier {
    pub(super) watched: AtomicU32,
}

/// `struct flexsc_debug`, private to `helpers/debug.c`.
#[repr(C)]
#[allow(non_camel_case_types)]
pub(super) struct flexsc_debug {
    _opaque: [u8; 0],
}

/// `struct flexsc_deferred` of `helpers/deferred.c`.
#[repr(C)]
#[allow(non_camel_case_types)]
pub(super) struct flexsc_deferred {
    _opaque: [u8; 0],
}

/// `struct flexsc_parker`, private to `park/`.
#[repr(C)]
#[allow(non_camel_case_types)]
pub(super) struct flexsc_parker {
    _opaque: [u8; 0],
}

/// `struct flexsc_parked`, private to `park/`.
#[repr(C)]
#[allow(non_camel_case_types)]
pub(super) struct flexsc_parked {
    _opaque: [u8; 0],
}

/// `struct flexsc_parked_call` of `helpers.h`.
#[repr(C)]
#[derive(Clone, Copy)]
#[allow(non_camel_case_types)]
pub(super) struct flexsc_parked_call {
    pub(super) args: [u64; 6],
    pub(super) nr: u16,
}

// Only pointers to structs of the kernel: some of these structs are empty in some configurations.
#[allow(improper_ctypes)]
extern "C" {
    pub(super) fn flexsc_lock_init_pages(lock: *mut raw_spinlock_t);
    pub(super) fn flexsc_lock_init_pool(lock: *mut raw_spinlock_t);
    pub(super) fn flexsc_lock_init_slots(lock: *mut raw_spinlock_t);
    pub(super) fn flexsc_lock(lock: *mut raw_spinlock_t);
    pub(super) fn flexsc_unlock(lock: *mut raw_spinlock_t);

    pub(super) fn flexsc_current() -> *mut task_struct;
    pub(super) fn flexsc_is_caller(task: *const task_struct) -> bool;
    pub(super) fn flexsc_current_mm() -> *mut mm_struct;
    pub(super) fn flexsc_current_tgid() -> *mut pid;
    pub(super) fn flexsc_signal_pending() -> bool;
    pub(super) fn flexsc_resched() -> bool;
    pub(super) fn flexsc_relax();
    pub(super) fn flexsc_sleep_prepare();
    pub(super) fn flexsc_sleep_cancel();
    pub(super) fn flexsc_sleep(timeout_ms: c_long) -> c_long;
    pub(super) fn flexsc_sleep_until(when_ns: u64) -> c_int;
    pub(super) fn flexsc_now_ns() -> u64;
    pub(super) fn flexsc_monotonic_to_host(when_ns: u64) -> u64;
    pub(super) fn flexsc_mb();
    pub(super) fn flexsc_weight(bits: u64) -> c_uint;
    pub(super) fn flexsc_run_on(cpu: c_uint) -> bool;
    pub(super) fn flexsc_run_on_cpus(mask: *mut cpumask, bits: u64);
    pub(super) fn flexsc_this_cpu() -> c_uint;
    pub(super) fn flexsc_usable_cpus() -> c_uint;
    pub(super) fn flexsc_allowed_cpus() -> u64;
    pub(super) fn flexsc_own_cpus() -> *mut cpumask;
    pub(super) fn flexsc_free_cpus(mask: *mut cpumask);
    pub(super) fn flexsc_cpus_bits(mask: *mut cpumask) -> u64;
    pub(super) fn flexsc_nice() -> c_int;
    pub(super) fn flexsc_may_renice(nice: c_int) -> bool;
    pub(super) fn flexsc_follow_nice(owner: *mut task_struct);
    pub(super) fn flexsc_is_behind(served: *mut task_struct, nice: bool) -> bool;
    pub(super) fn flexsc_keep_up(served: *mut task_struct, nice: bool);
    pub(super) fn flexsc_renice(nice: c_int, privileged: bool);

    pub(super) fn flexsc_area_alloc(size: usize) -> *mut c_void;
    pub(super) fn flexsc_area_free(area: *mut c_void);
    pub(super) fn flexsc_mmap(vma: *mut vm_area_struct, area: *mut c_void) -> c_int;
    pub(super) fn flexsc_access(
        vma: *mut vm_area_struct,
        area: *mut c_void,
        size: usize,
        first: c_ulong,
        addr: c_ulong,
        buf: *mut c_void,
        len: c_int,
        write: bool,
    ) -> c_int;
    pub(super) fn flexsc_charge_pinned(mm: *mut mm_struct, pages: c_ulong) -> c_int;
    pub(super) fn flexsc_uncharge_pinned(mm: *mut mm_struct, pages: c_ulong);
    pub(super) fn flexsc_warn();
    pub(super) fn flexsc_mm_grab(mm: *mut mm_struct);
    pub(super) fn flexsc_mm_drop(mm: *mut mm_struct);
    pub(super) fn flexsc_get_pid(pid: *mut pid) -> *mut pid;
    pub(super) fn flexsc_may_open() -> bool;
    pub(super) fn flexsc_device_mode() -> kernel::bindings::umode_t;
    pub(super) fn flexsc_max_pages() -> c_uint;
    pub(super) fn flexsc_max_threads() -> c_uint;
    pub(super) fn flexsc_max_user_pages() -> c_uint;
    pub(super) fn flexsc_current_user() -> c_uint;
    pub(super) fn flexsc_thread_name(name: *mut c_char, engine: c_uint, pool: c_uint);
    pub(super) fn flexsc_seq_u64(m: *mut seq_file, name: *const c_char, value: u64);

    pub(super) fn flexsc_notifier_new() -> *mut flexsc_notifier;
    pub(super) fn flexsc_notifier_free(n: *mut flexsc_notifier);
    pub(super) fn flexsc_notifier_signal(n: *mut flexsc_notifier);
    pub(super) fn flexsc_notifier_poll(
        n: *mut flexsc_notifier,
        file: *mut file,
        table: *mut poll_table_struct,
    );
    pub(super) fn flexsc_notifier_set_eventfd(n: *mut flexsc_notifier, fd: c_int) -> c_int;

    pub(super) fn flexsc_deferred_new() -> *mut flexsc_deferred;
    pub(super) fn flexsc_deferred_start(
        d: *mut flexsc_deferred,
        run: Option<unsafe extern "C" fn(*mut c_void) -> c_uint>,
        run_ready: Option<unsafe extern "C" fn(*mut c_void)>,
        data: *mut c_void,
    );
    pub(super) fn flexsc_deferred_trigger_now(d: *mut flexsc_deferred);
    pub(super) fn flexsc_deferred_trigger(d: *mut flexsc_deferred);
    pub(super) fn flexsc_deferred_stop(d: *mut flexsc_deferred) -> *mut c_void;
    pub(super) fn flexsc_deferred_free(d: *mut flexsc_deferred);

    pub(super) fn flexsc_parker_new(
        owner: *mut task_struct,
        later: *mut flexsc_deferred,
        pages: c_uint,
    ) -> *mut flexsc_parker;
    pub(super) fn flexsc_parker_free(parker: *mut flexsc_parker);
    pub(super) fn flexsc_parker_attend(parker: *mut flexsc_parker, attention: c_int);
    pub(super) fn flexsc_parker_attends(parker: *const flexsc_parker) -> bool;
    pub(super) fn flexsc_parker_ready(parker: *const flexsc_parker) -> u64;
    pub(super) fn flexsc_parker_take(parker: *mut flexsc_parker, page: c_uint, parked: u64) -> u64;
    pub(super) fn flexsc_parker_parked(parker: *mut flexsc_parker, page: c_uint, index: c_uint);
    pub(super) fn flexsc_parker_counted(parker: *const flexsc_parker, what: c_uint) -> u64;
    pub(super) fn flexsc_parked_new(
        parker: *mut flexsc_parker,
        page: c_uint,
        index: c_uint,
        call: *const flexsc_parked_call,
    ) -> *mut flexsc_parked;
    pub(super) fn flexsc_parked_in_vain(p: *mut flexsc_parked) -> c_uint;
    pub(super) fn flexsc_parked_advances(p: *mut flexsc_parked) -> bool;
    pub(super) fn flexsc_parked_has_begun(p: *const flexsc_parked) -> bool;
    pub(super) fn flexsc_parked_end(p: *mut flexsc_parked, result: c_long);
    pub(super) fn flexsc_parked_free(p: *mut flexsc_parked);
    pub(super) fn flexsc_parked_call(p: *const flexsc_parked) -> *const flexsc_parked_call;
    pub(super) fn flexsc_park_arm(p: *mut flexsc_parked) -> c_uint;
    pub(super) fn flexsc_park_unhook(p: *mut flexsc_parked);
    pub(super) fn flexsc_parked_cancel(p: *mut flexsc_parked) -> c_long;
    pub(super) fn flexsc_parked_try(p: *mut flexsc_parked, regs: *mut pt_regs) -> syscall_outcome;
    pub(super) fn flexsc_parked_invoke(
        p: *mut flexsc_parked,
        owner: *mut task_struct,
        regs: *mut pt_regs,
    ) -> syscall_outcome;

    pub(super) fn flexsc_trace_invoke(nr: c_uint, entry: c_uint, owner: *mut task_struct);
    pub(super) fn flexsc_trace_block(left: c_uint);
    pub(super) fn flexsc_trace_complete(nr: c_uint, entry: c_uint, result: c_long);
    pub(super) static flexsc_tracers: AtomicI32;
    pub(super) fn flexsc_trace_post(owner: *mut task_struct, id: c_uint, page: c_uint, bits: u64);
    pub(super) fn flexsc_trace_handoff(pool: c_uint, queued: c_uint);
    pub(super) fn flexsc_trace_wait(id: c_uint, missing: c_uint);
    pub(super) fn flexsc_trace_kick(owner: *mut task_struct, id: c_uint);
    pub(super) fn flexsc_trace_park(nr: c_uint, entry: c_uint, owner: *mut task_struct);

    pub(super) fn flexsc_debug_init();
    pub(super) fn flexsc_debug_exit();
    pub(super) fn flexsc_debug_add(
        number: c_uint,
        show: Option<unsafe extern "C" fn(*mut seq_file, *mut c_void)>,
        data: *mut c_void,
    ) -> *mut flexsc_debug;
    pub(super) fn flexsc_debug_remove(d: *mut flexsc_debug) -> *mut c_void;
}
