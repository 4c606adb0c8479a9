// SPDX-License-Identifier: GPL-2.0

//! A pool's figures for QUERY and QUERY_POOL. `now` follows the table; all others only grow.

/// See the module's documentation.
#[derive(Clone, Copy, Default)]
pub(crate) struct Counters {
    pub(crate) now: Now,
    pub(crate) peak: Peak,
    pub(crate) threads: ThreadCounters,
    pub(crate) pollers: PollerCounters,
    /// Entries that the pool's threads have executed.
    pub(crate) executed: u64,
    pub(crate) handoffs: u64,
}

/// Numbers of threads by state.
#[derive(Clone, Copy, Default)]
pub(crate) struct Now {
    pub(crate) threads: u32,
    pub(crate) idle: u32,
    /// Threads that count against the concurrency limit.
    pub(crate) nr_running: u32,
    /// Threads that sleep in a call.
    pub(crate) blocked: u32,
    /// Registrations in the queue.
    pub(crate) queued: u32,
}

/// The highest numbers so far.
#[derive(Clone, Copy, Default)]
pub(crate) struct Peak {
    /// Threads that were taking entries.
    pub(crate) running: u32,
    /// Blocked calls.
    pub(crate) blocked: u32,
}

/// Numbers of threads that began and ended.
#[derive(Clone, Copy, Default)]
pub(crate) struct ThreadCounters {
    pub(crate) created: u64,
    pub(crate) retired: u64,
    pub(crate) create_failed: u64,
}

/// The work of pollers.
#[derive(Clone, Copy, Default)]
pub(crate) struct PollerCounters {
    /// Idle rounds.
    pub(crate) rounds: u64,
    pub(crate) sleeps: u64,
    pub(crate) recruited: u64,
    pub(crate) released: u64,
}
