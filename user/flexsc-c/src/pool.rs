// SPDX-License-Identifier: MIT OR Apache-2.0
//! Pools of syscall threads.

use std::ffi::c_int;
use std::slice;

use flexsc::{CpuSet, Engine, Error, PoolParam};
use libc::cpu_set_t;

use crate::queue::flexsc_queue;

/// Acts on the engine of a queue. Without one there are no pools: -ENODEV.
fn on_engine(queue: &flexsc_queue, act: impl FnOnce(&Engine) -> Result<(), Error>) -> c_int {
    match queue.engine().map(act) {
        None => -libc::ENODEV,
        Some(Ok(())) => 0,
        Some(Err(error)) => -error.errno(),
    }
}

/// Sets the CPUs of a pool (0 to 15) from a set of this many bytes, and creates the pool.
/// Returns 0 or -errno; -ENODEV if the queue has no engine.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn flexsc_pool_set_cpus(
    queue: *mut flexsc_queue,
    pool: u8,
    cpus: *const cpu_set_t,
    size: usize,
) -> c_int {
    // SAFETY: the caller's promise.
    let queue = unsafe { &*queue };
    // SAFETY: the caller's promise: the set has this many bytes.
    let bytes = unsafe { slice::from_raw_parts(cpus.cast::<u8>(), size) };
    let cpus = (0..size.saturating_mul(8).min(1 << 16))
        .filter(|cpu| bytes[cpu / 8] & (1 << (cpu % 8)) != 0)
        .map(|cpu| cpu as u16);
    let cpus = CpuSet::from_iter(cpus);
    on_engine(queue, |engine| engine.set_pool_cpus(pool, &cpus))
}

/// Sets how many threads of a pool may run at once; 0 for one on each of its CPUs.
/// Otherwise like flexsc_pool_set_cpus().
#[unsafe(no_mangle)]
pub unsafe extern "C" fn flexsc_pool_set_concurrency(
    queue: *mut flexsc_queue,
    pool: u8,
    limit: u64,
) -> c_int {
    // SAFETY: the caller's promise.
    on_engine(unsafe { &*queue }, |engine| {
        engine.set_pool(pool, PoolParam::Concurrency, limit)
    })
}

/// Sets the nice value of a pool's threads. Otherwise like flexsc_pool_set_cpus().
#[unsafe(no_mangle)]
pub unsafe extern "C" fn flexsc_pool_set_nice(
    queue: *mut flexsc_queue,
    pool: u8,
    nice: c_int,
) -> c_int {
    // SAFETY: the caller's promise.
    on_engine(unsafe { &*queue }, |engine| {
        engine.set_pool(pool, PoolParam::Nice, i64::from(nice) as u64)
    })
}
