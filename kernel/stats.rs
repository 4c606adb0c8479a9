// SPDX-License-Identifier: GPL-2.0

//! QUERY, QUERY_POOL and fdinfo: what an engine has counted.

use crate::{engine::Engine, pool::Pool, sys::file::Lines};
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
            max_active: total.max_active().into(),
            max_blocked: total.max_blocked().into(),
            pages: pages.into(),
            cancels: sum.cancels,
            chains: sum.chains,
            loop_rounds: sum.rounds,
            spin_cpus: self.pools.first().spinning(),
            pools: self.pools.set().len().into(),
            ..Default::default()
        };
        for pool in self.pools.iter() {
            let c = pool.counters();
            stats.handoffs += c.handoffs;
            stats.spin_rounds += c.spin_rounds;
            stats.spin_sleeps += c.spin_sleeps;
            stats.threads += u64::from(c.threads);
            stats.threads_idle += u64::from(c.idle);
            stats.threads_created += c.created;
            stats.threads_retired += c.retired;
            stats.create_failed += c.create_failed;
            stats.recruited += c.recruited;
            stats.released += c.released;
        }
        stats
    }

    /// The pool that entries may name, `ENOENT` where there is none, `EINVAL` where none can be.
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
        let place = self.open_pool(pool)?;
        let c = place.counters();
        let cpus = match place.settings.cpus() {
            0 => self.cpus().bits(),
            cpus => cpus,
        };
        Ok(uapi::flexsc_pool_stats {
            size: size_of::<uapi::flexsc_pool_stats>() as u32,
            pool,
            cpus,
            active_limit: place.active_limit().into(),
            nice: i64::from(place.settings.nice()) as u64,
            executed: c.executed,
            handoffs: c.handoffs,
            threads: c.threads.into(),
            threads_idle: c.idle.into(),
            threads_created: c.created,
            threads_retired: c.retired,
            create_failed: c.create_failed,
            max_active: c.max_active.into(),
            max_blocked: c.max_blocked.into(),
            active: c.active.into(),
            blocked: c.blocked.into(),
            queued: c.queued.into(),
        })
    }

    /// The lines of `/proc/PID/fdinfo/FD`.
    pub(crate) fn show_stats(&self, lines: &Lines) {
        let s = self.stats();
        lines.put(c_str!("flexsc-posted"), s.posted);
        lines.put(c_str!("flexsc-inline"), s.inline_done);
        lines.put(c_str!("flexsc-by-thread"), s.thread_done);
        lines.put(c_str!("flexsc-refused"), s.refused);
        lines.put(c_str!("flexsc-handoffs"), s.handoffs);
        lines.put(c_str!("flexsc-kicks"), s.kicks);
        lines.put(c_str!("flexsc-waits"), s.waits);
        lines.put(c_str!("flexsc-sleeps"), s.sleeps);
        lines.put(c_str!("flexsc-spin-rounds"), s.spin_rounds);
        lines.put(c_str!("flexsc-spin-sleeps"), s.spin_sleeps);
        lines.put(c_str!("flexsc-threads"), s.threads);
        lines.put(c_str!("flexsc-threads-idle"), s.threads_idle);
        lines.put(c_str!("flexsc-threads-created"), s.threads_created);
        lines.put(c_str!("flexsc-threads-retired"), s.threads_retired);
        lines.put(c_str!("flexsc-create-failed"), s.create_failed);
        lines.put(c_str!("flexsc-max-active"), s.max_active);
        lines.put(c_str!("flexsc-max-blocked"), s.max_blocked);
        lines.put(c_str!("flexsc-pages"), s.pages);
        lines.put(c_str!("flexsc-spin-cpus"), s.spin_cpus);
        lines.put(c_str!("flexsc-recruited"), s.recruited);
        lines.put(c_str!("flexsc-released"), s.released);
        lines.put(c_str!("flexsc-pools"), s.pools);
        for pool in self.pools.set().iter() {
            if let Ok(p) = self.pool_stats(pool.into()) {
                lines.write(fmt!(
                    "flexsc-pool-{}:\tcpus {:#x} nice {} active {}/{} blocked {} queued {} \
                     threads {} idle {} executed {} handoffs {}\n",
                    pool,
                    p.cpus,
                    p.nice as i64,
                    p.active,
                    p.active_limit,
                    p.blocked,
                    p.queued,
                    p.threads,
                    p.threads_idle,
                    p.executed,
                    p.handoffs
                ));
            }
        }
    }
}
