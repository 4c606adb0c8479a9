// SPDX-License-Identifier: GPL-2.0

//! The life of one syscall thread.

mod poll;

use self::poll::Polled;
use crate::{
    defs::Role,
    engine::Engine,
    pages::Pages,
    pool::{Here, Next, Pool, Woken},
    run::{self, End},
    sys::{
        process,
        thread::{self, Body, Name, Ops},
    },
};
use kernel::prelude::*;
use kernel::sync::{Arc, ArcBorrow};

static OPS: Ops<Worker> = Ops::new();

/// What a syscall thread knows.
pub(crate) struct Worker {
    engine: Arc<Engine>,
    pool: u8,
    slot: u32,
}

impl Worker {
    /// Creates a syscall thread of `pool` in the current process, which is the engine's.
    pub(crate) fn spawn(engine: ArcBorrow<'_, Engine>, pool: u8) -> Result {
        let place = engine.pools.get(pool).ok_or(ENOENT)?;
        let slot = place.reserve(engine.max_threads())?;
        let worker = Arc::new(
            Worker {
                engine: engine.into(),
                pool,
                slot,
            },
            GFP_KERNEL_ACCOUNT,
        );
        let created = match worker {
            Ok(worker) => OPS.create(&Name::new(engine.number(), pool), worker),
            Err(e) => Err(e.into()),
        };
        match created {
            Ok(created) => {
                place.created(slot, Some(created.thread()));
                Ok(())
            }
            Err(e) => {
                if !place.created(slot, None) {
                    engine.poll_no_more();
                }
                Err(e)
            }
        }
    }

    /// CPUs on which threads of this pool may poll, if any shall.
    fn may_poll(&self) -> u64 {
        if self.pool == 0 {
            self.pool().may_poll()
        } else {
            0
        }
    }

    fn pool(&self) -> &Pool {
        self.engine
            .pools
            .get(self.pool)
            .unwrap_or(self.engine.pools.first())
    }

    /// Sees to it that a thread is ready to take over if this one blocks.
    ///
    /// False where it has to handle a signal first. At a limit it goes on without a spare: then
    /// the entries behind one that blocks have to wait, see [`Pool::worker_sleeping`].
    ///
    /// [`Pool::worker_sleeping`]: crate::pool::Pool::worker_sleeping
    fn provide_spare(&self) -> bool {
        if self.pool().has_spare() || self.pool().is_stopping() {
            return true;
        }
        let spawned = Worker::spawn(self.engine.as_arc_borrow(), self.pool);
        spawned != Err(EINTR) || !process::signal_pending()
    }

    /// Handles a signal where one is pending; true where the thread has to end.
    fn must_end() -> bool {
        process::signal_pending() && thread::signal()
    }

    fn run(&self, role: Role, pages: &Arc<Pages>, page: u32, bits: u64) -> End {
        run::execute_claimed(&self.engine, role, pages.as_arc_borrow(), page, bits)
    }

    /// Before anything is done for the owner of `pages`, such as making a spare.
    fn adopt(&self, pages: &Pages) {
        thread::adopt(pages.owner());
        if self.pool().settings.renice().is_none() {
            process::follow_nice(pages.owner());
        }
    }

    /// Takes what `pages`, which it has dequeued, has for it to execute. See [`Pool::take`].
    fn take(&self, pages: &Arc<Pages>) -> Option<(u32, u64)> {
        if pages.attend() {
            let pools = &self.engine.pools;
            pools.push(pages.offload_unattended(pools.set()), pages.as_arc_borrow());
        }
        self.pool().take(pages.as_arc_borrow())
    }

    /// Executes what `pages`, which it has dequeued, has offloaded in one of its pages. False where
    /// the thread has to end.
    fn serve(&self, pages: &Arc<Pages>) -> bool {
        self.adopt(pages);
        while !self.provide_spare() {
            if Self::must_end() {
                self.pool().push(pages.as_arc_borrow());
                return false;
            }
        }
        let role = Role::Worker {
            pool: self.pool,
            slot: self.slot,
        };
        let Some((page, bits)) = self.take(pages) else {
            return true;
        };
        // Nobody interrupts the thread again that was told while it made a spare.
        if self.pool().is_stopping() {
            return false;
        }
        self.run(role, pages, page, bits) != End::Dying
    }

    /// Does what the pool's settings ask of its threads, where they have changed since.
    fn settle(&self, settled: &mut u32) {
        let settings = &self.pool().settings;
        let generation = settings.generation();
        if *settled == generation {
            return;
        }
        *settled = generation;
        self.engine.cpus().run_here(settings.cpus());
        self.renice();
    }

    fn renice(&self) {
        if let Some(nice) = self.pool().settings.renice() {
            process::renice(nice.value, nice.privileged);
        }
    }
}

impl Body for Worker {
    fn run(this: ArcBorrow<'_, Self>) {
        let pool = this.pool();
        let mut settled = 0;
        let mut avoid = 0;
        loop {
            if Worker::must_end() {
                break;
            }
            this.settle(&mut settled);
            let here = Here {
                usable: process::usable_cpus(),
                may_poll: this.may_poll() & !core::mem::take(&mut avoid),
            };
            let alive = match pool.next(this.slot, here) {
                Next::Stop => false,
                Next::Serve(pages) => this.serve(&pages),
                Next::Poll(cpu) => {
                    // It runs on one CPU until it settles again.
                    settled = 0;
                    match this.poll_cpu(cpu) {
                        Polled::MustEnd => false,
                        Polled::Failed => {
                            avoid = 1 << cpu;
                            true
                        }
                        Polled::GivenUp | Polled::HandedOff => true,
                    }
                }
                Next::NobodyPolls => {
                    this.engine.as_arc_borrow().poll_no_more();
                    true
                }
                Next::Idle => match pool.idle(this.slot, this.engine.retire_ms()) {
                    Woken::Look => true,
                    Woken::Retire => false,
                },
            };
            if !alive {
                break;
            }
        }
        pool.leave(this.slot);
    }
}
