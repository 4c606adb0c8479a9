// SPDX-License-Identifier: GPL-2.0

//! Requests of a program that may need a new syscall thread: REGISTER, KICK, SET.

mod params;

pub(crate) use self::params::is_cpu_set;

use crate::{
    defs::PoolSet,
    engine::Engine,
    pages::Pages,
    sys::{errno, process::Thread, thread, trace},
    worker::Worker,
};
use kernel::prelude::*;
use kernel::sync::{Arc, ArcBorrow};
use kernel::uapi;

/// Requests.
impl Engine {
    /// REGISTER: `pages` syscall pages for the current thread.
    pub(crate) fn register(self: ArcBorrow<'_, Self>, pages: u32) -> Result<Arc<Pages>> {
        if pages == 0 || pages > uapi::FLEXSC_MAX_PAGES {
            return Err(EINVAL);
        }
        let first = self.pools.first();
        if !first.has_threads() {
            if let Err(e) = self.spawn_patiently(0) {
                // Another thread with different tables may have been faster.
                if e != errno::exdev() || !first.has_threads() {
                    return Err(e);
                }
            }
        }
        self.add(pages)
    }

    /// KICK: makes a poller or syscall threads check the doorbells of `id`.
    pub(crate) fn kick(self: ArcBorrow<'_, Self>, id: usize) -> Result {
        let pages = self.get(id)?;
        self.pools.total().add_kick();
        trace::kick(pages.owner(), pages.id());
        self.look_for_backlog(None);
        if self.pools.first().wake_pollers() {
            return Ok(());
        }
        self.offloaded(
            pages.offload_pending(self.pools.set()),
            pages.as_arc_borrow(),
        )
    }

    /// Lets threads of `pools` execute the offloaded entries of `pages`.
    fn offloaded(self: ArcBorrow<'_, Self>, pools: PoolSet, pages: ArcBorrow<'_, Pages>) -> Result {
        self.pools.push(pools, pages);
        for pool in pools.iter() {
            // After a signal, the call is restarted. At a limit, the entries fail later, see
            // `engine/deferred.rs`.
            if self.pools.is_starved(pool) && self.spawn(pool) == Err(ERESTARTNOINTR) {
                return Err(ERESTARTNOINTR);
            }
        }
        Ok(())
    }

    /// Creates a thread during a call of the program, which is restarted after a signal.
    pub(crate) fn spawn(self: ArcBorrow<'_, Self>, pool: u8) -> Result {
        match Worker::spawn(self, pool, &Thread::current()) {
            Err(EINTR) => Err(ERESTARTNOINTR),
            other => other,
        }
    }

    /// As [`Self::spawn`]. At a limit, waits for threads of closed engines to end.
    pub(crate) fn spawn_patiently(self: ArcBorrow<'_, Self>, pool: u8) -> Result {
        match self.spawn(pool) {
            Err(EAGAIN) => {
                thread::wait_for_dismissed();
                self.spawn(pool)
            }
            other => other,
        }
    }
}
