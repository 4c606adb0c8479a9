// SPDX-License-Identifier: GPL-2.0

//! The life of one syscall thread.

use crate::{
    engine::Engine,
    pages::Pages,
    pool::{Next, Woken},
    run::{Batch, End, Role},
    sys::{
        hook::Hook,
        process,
        thread::{self, Body, Ops},
    },
};
use kernel::c_str;
use kernel::prelude::*;
use kernel::sync::{Arc, ArcBorrow};

/// Rounds of polling in vain between two looks at the clock and the CPUs.
const ROUNDS_PER_LOOK: u64 = 64;

static OPS: Ops<Worker> = Ops::new();

/// What a syscall thread knows.
pub(crate) struct Worker {
    engine: Arc<Engine>,
    slot: u32,
}

impl Worker {
    /// Creates a syscall thread in the current process, which is the engine's.
    pub(crate) fn spawn(engine: &Arc<Engine>) -> Result {
        let slot = engine.pool.reserve(engine.max_threads())?;
        let worker = Arc::new(
            Worker {
                engine: engine.clone(),
                slot,
            },
            GFP_KERNEL_ACCOUNT,
        );
        let created = match worker {
            Ok(worker) => OPS.create(c_str!("flexsc"), worker),
            Err(e) => Err(e.into()),
        };
        match created {
            Ok(created) => {
                engine.pool.created(slot, Some(created.thread()));
                Ok(())
            }
            Err(e) => {
                engine.pool.created(slot, None);
                Err(e)
            }
        }
    }

    /// Sees to it that a thread is ready to take over if this one blocks.
    fn provide_spare(&self) {
        if !self.engine.pool.has_spare() && !self.engine.pool.is_stopping() {
            // Without one, the entries behind a blocked one have to wait: `Pool::blocked` sees it.
            let _ = Worker::spawn(&self.engine);
        }
    }

    /// Handles a signal where one is pending; true where the thread has to end.
    fn must_end() -> bool {
        process::signal_pending() && thread::signal()
    }

    /// Executes all that `pages` has offloaded. False where the thread has to end.
    fn serve(&self, batch: &Batch<'_>, pages: &Arc<Pages>) -> bool {
        self.provide_spare();
        while let Some((page, bits)) = pages.take_offloaded() {
            match batch.run(pages, page, bits) {
                End::Complete => (),
                // Somebody else goes on with the rest.
                End::HandedOff => break,
                End::Signal if Self::must_end() => return false,
                End::Signal => (),
            }
        }
        true
    }

    /// Polls the doorbells on `cpu`. False where the thread has to end.
    fn spin(&self, batch: &Batch<'_>, cpu: u32) -> bool {
        let pool = &self.engine.pool;
        if !process::run_on(cpu) {
            pool.spin_failed(cpu);
            pool.spin_end(cpu);
            return true;
        }
        batch.set_role(Role::Spinner(self.slot, cpu));
        let alive = self.poll(batch, cpu);
        if let Role::Spinner(..) = batch.role() {
            // Not handed off: the core is given back.
            pool.spin_end(cpu);
            batch.set_role(Role::Worker(self.slot));
        }
        if pool.spin_mask() == 0 {
            self.engine.poll_no_more();
        }
        self.engine.cpus().run_here();
        alive
    }

    fn poll(&self, batch: &Batch<'_>, cpu: u32) -> bool {
        let engine = &self.engine;
        let pool = &engine.pool;
        let mut seen = engine.generation();
        let Ok(mut known) = engine.snapshot() else {
            return true;
        };
        for pages in known.iter() {
            pages.set_need_wakeup(false);
        }
        let mut idle_since = process::now_ns();
        let mut rounds = 0;
        self.provide_spare();
        loop {
            if process::breathe() && thread::signal() {
                return false;
            }
            if pool.is_stopping() || pool.spin_mask() & (1 << cpu) == 0 {
                return true;
            }
            if engine.generation() != seen {
                seen = engine.generation();
                match engine.snapshot() {
                    Ok(new) => known = new,
                    Err(_) => return true,
                }
                for pages in known.iter() {
                    pages.set_need_wakeup(false);
                }
            }
            match self.poll_round(batch, &known) {
                Some(true) => {
                    idle_since = process::now_ns();
                    continue;
                }
                Some(false) => (),
                None => return true,
            }
            rounds += 1;
            process::relax();
            if rounds % ROUNDS_PER_LOOK != 0 {
                continue;
            }
            if process::online_cpus() & (1 << cpu) == 0 {
                pool.spin_failed(cpu);
                return true;
            }
            if process::now_ns().saturating_sub(idle_since) < engine.idle_ns() {
                continue;
            }
            for pages in known.iter() {
                pages.set_need_wakeup(true);
            }
            // ORDERING: Pairs with the program's barrier between posting and reading the flag.
            process::full_barrier();
            pool.spin_sleep(self.slot, cpu, core::mem::take(&mut rounds), || {
                known.iter().any(|pages| pages.any_pending()) || engine.generation() != seen
            });
            for pages in known.iter() {
                pages.set_need_wakeup(false);
            }
            idle_since = process::now_ns();
        }
    }

    /// Looks everywhere once. Returns whether there was anything, `None` where the core was handed
    /// off or a signal came.
    fn poll_round(&self, batch: &Batch<'_>, known: &[Arc<Pages>]) -> Option<bool> {
        let mut any = false;
        while let Some(pages) = self.engine.pool.try_dequeue() {
            any = true;
            while let Some((page, bits)) = pages.take_offloaded() {
                self.poll_run(batch, &pages, page, bits)?;
            }
        }
        for pages in known.iter() {
            for page in 0..pages.len() {
                let bits = pages.claim(page);
                if bits != 0 {
                    any = true;
                    self.poll_run(batch, pages, page, bits)?;
                }
            }
        }
        if any {
            self.provide_spare();
        }
        Some(any)
    }

    fn poll_run(&self, batch: &Batch<'_>, pages: &Arc<Pages>, page: u32, bits: u64) -> Option<()> {
        match batch.run(pages, page, bits) {
            End::HandedOff => None,
            End::Complete | End::Signal => Some(()),
        }
    }
}

impl Body for Worker {
    fn run(this: ArcBorrow<'_, Self>) {
        let pool = &this.engine.pool;
        Hook::new(Batch::new(&this.engine, Role::Worker(this.slot))).with(|batch| loop {
            if Worker::must_end() {
                break;
            }
            let alive = match pool.next(this.slot) {
                Next::Stop => false,
                Next::Serve(pages) => this.serve(batch, &pages),
                Next::Spin(cpu) => this.spin(batch, cpu),
                Next::Idle => match pool.idle(this.slot, this.engine.retire_ms()) {
                    Woken::Look => true,
                    Woken::Retire => false,
                },
            };
            if !alive {
                break;
            }
        });
        pool.leave(this.slot);
    }
}
