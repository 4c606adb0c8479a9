// SPDX-License-Identifier: GPL-2.0

//! QUERY, QUERY_POOL and fdinfo: the counters of an engine.

use super::Engine;
use crate::{pool::Pool, sys::lines::Lines};
use core::mem::size_of;
use kernel::prelude::*;
use kernel::{c_str, fmt, uapi};

/// Figures.
impl Engine {
    /// QUERY.
    pub(crate) fn stats(&self) -> uapi::flexsc_stats {
        let (pages, sum) = self.totals();
        let total = self.pools.total();
        let mut stats = uapi::flexsc_stats {
            size: size_of::<uapi::flexsc_stats>() as u32,
            posted: sum.posted,
            inline_done: sum.inline_done,
            thread_done: sum.thread_done,
            refused: sum.refused,
            kicks: total.kicks(),
            waits: sum.waits,
            sleeps: sum.sleeps,
            peak_running: total.peak_running().into(),
            peak_blocked: total.peak_blocked().into(),
            pages: pages.into(),
            cancels: sum.cancels,
            chains: sum.chains,
            loop_rounds: sum.rounds,
            pollers: self.pools.first().polled_cpus().count_ones().into(),
            pools: self.pools.set().len().into(),
            parked: sum.park.parked,
            woken: sum.park.woken,
            woken_in_vain: sum.park.woken_in_vain,
            passed_on: sum.park.passed_on,
            timed_out: sum.park.timed_out,
            ..Default::default()
        };
        for pool in self.pools.iter() {
            let c = pool.counters();
            stats.handoffs += c.handoffs;
            stats.idle_polls += c.pollers.rounds;
            stats.poller_sleeps += c.pollers.sleeps;
            stats.threads += u64::from(c.now.threads);
            stats.threads_idle += u64::from(c.now.idle);
            stats.threads_created += c.threads.created;
            stats.threads_retired += c.threads.retired;
            stats.create_failed += c.threads.create_failed;
            stats.pollers_recruited += c.pollers.recruited;
            stats.pollers_released += c.pollers.released;
        }
        stats
    }

    /// Returns the pool if entries may name it. Fails with `ENOENT` if there is none, with `EINVAL`
    /// if it cannot exist.
    fn open_pool(&self, pool: u32) -> Result<&Pool> {
        if pool >= uapi::FLEXSC_POOLS {
            return Err(EINVAL);
        }
        let pool = pool as u8;
        if !self.pools.set().has(pool) {
            return Err(ENOENT);
        }
        self.pools.get(pool).ok_or(ENOENT)
    }

    /// QUERY_POOL.
    pub(crate) fn pool_stats(&self, pool: u32) -> Result<uapi::flexsc_pool_stats> {
        let open = self.open_pool(pool)?;
        let c = open.counters();
        let cpus = match open.settings.cpus() {
            0 => self.cpus().bits(),
            cpus => cpus,
        };
        Ok(uapi::flexsc_pool_stats {
            size: size_of::<uapi::flexsc_pool_stats>() as u32,
            pool,
            cpus: cpus.count_ones().into(),
            concurrency: open.concurrency_limit().into(),
            nice: i64::from(open.settings.nice()) as u64,
            executed: c.executed,
            handoffs: c.handoffs,
            threads: c.now.threads.into(),
            threads_idle: c.now.idle.into(),
            threads_created: c.threads.created,
            threads_retired: c.threads.retired,
            create_failed: c.threads.create_failed,
            peak_running: c.peak.running.into(),
            peak_blocked: c.peak.blocked.into(),
            running: c.now.nr_running.into(),
            blocked: c.now.blocked.into(),
            queued: c.now.queued.into(),
        })
    }

    /// Writes the lines of `/proc/PID/fdinfo/FD`.
    pub(crate) fn show_stats(&self, lines: &Lines) {
        show_engine(lines, &self.stats());
        for pool in self.pools.set().iter() {
            if let Ok(stats) = self.pool_stats(pool.into()) {
                show_pool(lines, &stats);
            }
        }
    }
}

/// Passes each counter with its name to `$put`. Does not compile unless all fields of the struct
/// are listed.
macro_rules! each_field {
    ($of:ident, $stats:expr, except $($other:ident)*, $put:expr, $prefix:literal $($field:ident)*) => {
        let uapi::$of { $($other: _,)* $($field),* } = $stats;
        $($put(c_str!(concat!($prefix, stringify!($field))), *$field);)*
    };
}

/// Writes a line for each counter, under the header's name.
fn show_engine(lines: &Lines, stats: &uapi::flexsc_stats) {
    each_field!(
        flexsc_stats, stats, except size __reserved, |name, value| lines.put(name, value),
        "flexsc-"
        posted inline_done thread_done refused handoffs kicks waits sleeps idle_polls poller_sleeps
        threads threads_idle threads_created threads_retired create_failed peak_running peak_blocked
        pages cancels chains loop_rounds pollers pollers_recruited pollers_released pools
        parked woken woken_in_vain passed_on timed_out
    );
}

/// Writes one line with all counters, each under the header's name.
fn show_pool(lines: &Lines, stats: &uapi::flexsc_pool_stats) {
    let nice = stats.nice as i64;
    lines.write(fmt!("flexsc-pool-{}:\tnice {nice}", stats.pool));
    each_field!(
        flexsc_pool_stats, stats, except size pool nice,
        |name: &CStr, value| lines.write(fmt!(" {name} {value}")),
        ""
        cpus concurrency executed handoffs threads threads_idle threads_created threads_retired
        create_failed peak_running peak_blocked running blocked queued
    );
    lines.write(fmt!("\n"));
}
