// SPDX-License-Identifier: GPL-2.0

//! The settings of an engine that SET changes and GET returns. Each pool has its own settings.

use super::Engine;
use crate::{defs::OrderKind, sys::params};
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};

// ORDERING: None needed: the values are independent.
const RELAXED: Ordering = Ordering::Relaxed;

/// Default of IDLE_NS, in nanoseconds.
const DEFAULT_IDLE_NS: u64 = 1_000_000;

/// Default of RETIRE_MS, in milliseconds.
const DEFAULT_RETIRE_MS: u32 = 1_000;

/// Default of LOOP_MAX: enough for a gibibyte, 16 KiB at a time.
const DEFAULT_LOOP_MAX: u64 = 65_536;

/// See the module's documentation.
pub(super) struct Settings {
    idle_ns: AtomicU64,
    retire_ms: AtomicU32,
    max_threads: AtomicU32,
    order: AtomicU32,
    loop_max: AtomicU64,
}

impl Settings {
    pub(super) fn new() -> Self {
        Settings {
            idle_ns: AtomicU64::new(DEFAULT_IDLE_NS),
            retire_ms: AtomicU32::new(DEFAULT_RETIRE_MS),
            max_threads: AtomicU32::new(params::max_threads()),
            order: AtomicU32::new(OrderKind::Posted as u32),
            loop_max: AtomicU64::new(DEFAULT_LOOP_MAX),
        }
    }
}

/// Settings.
impl Engine {
    /// IDLE_NS: how long a poller finds nothing before it sleeps, in nanoseconds.
    pub(crate) fn idle_ns(&self) -> u64 {
        self.settings.idle_ns.load(RELAXED)
    }

    /// See [`Self::idle_ns`].
    pub(crate) fn set_idle_ns(&self, value: u64) {
        self.settings.idle_ns.store(value, RELAXED);
    }

    /// RETIRE_MS: how long an idle thread stays, in milliseconds.
    pub(crate) fn retire_ms(&self) -> u32 {
        self.settings.retire_ms.load(RELAXED)
    }

    /// See [`Self::retire_ms`].
    pub(crate) fn set_retire_ms(&self, value: u32) {
        self.settings.retire_ms.store(value, RELAXED);
    }

    /// MAX_THREADS: how many syscall threads all pools may have, limited by the value of the
    /// module's parameter.
    pub(crate) fn max_threads(&self) -> u32 {
        core::cmp::min(
            self.settings.max_threads.load(RELAXED),
            params::max_threads(),
        )
    }

    /// See [`Self::max_threads`].
    pub(crate) fn set_max_threads(&self, value: u32) {
        self.settings.max_threads.store(value, RELAXED);
    }

    /// ORDER.
    #[inline(always)]
    pub(crate) fn order(&self) -> OrderKind {
        OrderKind::from_raw(self.settings.order.load(RELAXED))
    }

    /// See [`Self::order`].
    pub(crate) fn set_order(&self, value: OrderKind) {
        self.settings.order.store(value as u32, RELAXED);
    }

    /// LOOP_MAX: rounds of a chain's loop.
    pub(crate) fn loop_max(&self) -> u64 {
        self.settings.loop_max.load(RELAXED)
    }

    /// See [`Self::loop_max`].
    pub(crate) fn set_loop_max(&self, value: u64) {
        self.settings.loop_max.store(value, RELAXED);
    }
}
