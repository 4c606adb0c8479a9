// SPDX-License-Identifier: MIT OR Apache-2.0
//! The ABI: bindgen's output for `linux/flexsc.h`, pinned field by field.

mod bindings;

pub use bindings::*;

/// Asserts size, alignment and the offset of every field at compile time.
macro_rules! layout {
    ($name:ident, $size:literal, $align:literal, { $($field:ident: $offset:literal),* $(,)? }) => {
        const _: () = {
            assert!(size_of::<$name>() == $size);
            assert!(align_of::<$name>() == $align);
            $(assert!(core::mem::offset_of!($name, $field) == $offset);)*
            // Destructuring proves that no field is missing above.
            const fn _all($name { $($field: _),* }: $name) {}
        };
    };
}

layout!(flexsc_entry, 64, 64, {
    nr: 0, flags: 2, pool: 3, take: 4, reason: 6, status: 7, args: 8, result: 56,
});
layout!(flexsc_ctrl, 128, 64, {
    posted: 0, reaped: 8, __user_reserved: 16, taken: 64, done: 72, flags: 80,
    __kernel_reserved32: 84, __kernel_reserved: 88,
});
layout!(flexsc_register, 56, 8, {
    size: 0, abi: 4, flags: 8, pages: 12, id: 16, ctrl_len: 20, mmap_offset: 24, mmap_len: 32,
    __reserved: 40,
});
layout!(flexsc_wait, 40, 8, {
    size: 0, id: 4, policy: 8, min: 12, timeout_ns: 16, linger_ns: 24, flags: 32, __reserved: 36,
});
layout!(flexsc_param, 24, 8, { size: 0, param: 4, pool: 8, len: 12, value: 16 });
layout!(flexsc_stats, 248, 8, {
    size: 0, __reserved: 4, posted: 8, inline_done: 16, thread_done: 24, refused: 32,
    handoffs: 40, kicks: 48, waits: 56, sleeps: 64, idle_polls: 72, poller_sleeps: 80,
    threads: 88, threads_idle: 96, threads_created: 104, threads_retired: 112,
    create_failed: 120, peak_running: 128, peak_blocked: 136, pages: 144,
    cancels: 152, chains: 160, loop_rounds: 168, pollers: 176, pollers_recruited: 184,
    pollers_released: 192,
    pools: 200, parked: 208, woken: 216, woken_in_vain: 224, passed_on: 232,
    timed_out: 240,
});
layout!(flexsc_pool_stats, 128, 8, {
    size: 0, pool: 4, cpus: 8, concurrency: 16, nice: 24, executed: 32, handoffs: 40,
    threads: 48, threads_idle: 56, threads_created: 64, threads_retired: 72, create_failed: 80,
    peak_running: 88, peak_blocked: 96, running: 104, blocked: 112, queued: 120,
});
layout!(flexsc_eventfd, 16, 4, { size: 0, id: 4, fd: 8, flags: 12 });
layout!(flexsc_cancel, 16, 4, { size: 0, id: 4, index: 8, flags: 12 });

const _: () = {
    assert!(FLEXSC_ABI_VERSION == 3);
    assert!(FLEXSC_PAGE_ENTRIES == u64::BITS);
    assert!(FLEXSC_PAGE_SIZE as usize == FLEXSC_PAGE_ENTRIES as usize * size_of::<flexsc_entry>());
};
