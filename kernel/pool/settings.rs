// SPDX-License-Identifier: GPL-2.0

//! The settings of a pool: CPUs, concurrency, nice value. Threads check the
//! generation between two batches and then apply the settings.

use core::sync::atomic::{AtomicBool, AtomicI32, AtomicU32, AtomicU64, Ordering};

// ORDERING: The values are independent; `generation` orders values that belong together.
const RELAXED: Ordering = Ordering::Relaxed;

/// See the module's documentation.
pub(crate) struct Settings {
    /// CPUs of the threads; 0: the engine's.
    cpus: AtomicU64,
    /// Concurrency limit; 0: one thread for each CPU.
    limit: AtomicU32,
    nice: AtomicI32,
    /// True if the nice value was set, so that threads follow it.
    renice: AtomicBool,
    /// True if the task that set the nice value was allowed to lower its own.
    privileged: AtomicBool,
    generation: AtomicU32,
}

/// A nice value for a thread.
#[derive(Clone, Copy)]
pub(crate) struct Nice {
    pub(crate) value: i32,
    /// True if the thread takes the value even if the thread itself is not allowed to.
    pub(crate) privileged: bool,
}

impl Settings {
    /// Creates the settings of a new pool; `nice` is the caller's.
    pub(super) fn new(nice: i32) -> Self {
        Settings {
            cpus: AtomicU64::new(0),
            limit: AtomicU32::new(0),
            nice: AtomicI32::new(nice),
            renice: AtomicBool::new(false),
            privileged: AtomicBool::new(false),
            generation: AtomicU32::new(1),
        }
    }

    /// Returns a number that changes whenever threads must check the settings again. Never 0.
    pub(crate) fn generation(&self) -> u32 {
        // ORDERING: Pairs with the release in `changed`.
        self.generation.load(Ordering::Acquire)
    }

    fn changed(&self) {
        // ORDERING: Pairs with the acquire in `generation`: the values are seen after it.
        if self.generation.fetch_add(1, Ordering::Release) == u32::MAX {
            self.generation.fetch_add(1, Ordering::Release);
        }
    }

    pub(crate) fn cpus(&self) -> u64 {
        self.cpus.load(RELAXED)
    }

    pub(crate) fn set_cpus(&self, cpus: u64) {
        self.cpus.store(cpus, RELAXED);
        self.changed();
    }

    pub(crate) fn limit(&self) -> u32 {
        self.limit.load(RELAXED)
    }

    pub(crate) fn set_limit(&self, limit: u32) {
        self.limit.store(limit, RELAXED);
    }

    /// Returns the nice value, set or not.
    pub(crate) fn nice(&self) -> i32 {
        self.nice.load(RELAXED)
    }

    pub(crate) fn set_nice(&self, nice: Nice) {
        self.nice.store(nice.value, RELAXED);
        self.privileged.store(nice.privileged, RELAXED);
        self.renice.store(true, RELAXED);
        self.changed();
    }

    /// Returns the nice value that threads must follow, if one was set.
    pub(crate) fn renice(&self) -> Option<Nice> {
        self.renice.load(RELAXED).then(|| Nice {
            value: self.nice(),
            privileged: self.privileged.load(RELAXED),
        })
    }
}
