// SPDX-License-Identifier: GPL-2.0

//! The life of one syscall thread.

use crate::{
    engine::Engine,
    pages::Pages,
    pool::{Next, Pool, Woken},
    run::{self, End, Role},
    sys::{
        process,
        thread::{self, Body, Ops},
    },
};
use kernel::c_str;
use kernel::prelude::*;
use kernel::sync::{Arc, ArcBorrow};

/// Rounds of polling in vain between two looks at the clock and the CPUs.
const ROUNDS_PER_LOOK: u64 = 64;

/// How long a polling thread waits until it tries again to make a spare one.
const SPARE_RETRY_NS: u64 = 1_000_000;

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
            Ok(worker) => OPS.create(c_str!("flexsc"), worker),
            Err(e) => Err(e.into()),
        };
        match created {
            Ok(created) => {
                place.created(slot, Some(created.thread()));
                Ok(())
            }
            Err(e) => {
                place.created(slot, None);
                Err(e)
            }
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
    /// the entries behind one that blocks have to wait, see [`Pool::blocked`].
    ///
    /// [`Pool::blocked`]: crate::pool::Pool::blocked
    fn provide_spare(&self) -> bool {
        if self.pool().has_spare() || self.pool().is_stopping() {
            return true;
        }
        Worker::spawn(self.engine.as_arc_borrow(), self.pool) != Err(EINTR)
    }

    /// Handles a signal where one is pending; true where the thread has to end.
    fn must_end() -> bool {
        process::signal_pending() && thread::signal()
    }

    fn run(&self, role: Role, pages: &Arc<Pages>, page: u32, bits: u64) -> End {
        run::run(&self.engine, role, pages.as_arc_borrow(), page, bits)
    }

    /// Executes all that `pages` has offloaded. False where the thread has to end.
    fn serve(&self, pages: &Arc<Pages>) -> bool {
        while !self.provide_spare() {
            if Self::must_end() {
                return false;
            }
        }
        let role = Role::Worker {
            pool: self.pool,
            slot: self.slot,
        };
        while let Some((page, bits)) = pages.take_offloaded(self.pool) {
            match self.run(role, pages, page, bits) {
                End::Complete => (),
                // Somebody else goes on with the rest.
                End::HandedOff => break,
                End::Dying => return false,
                End::Signal if Self::must_end() => return false,
                End::Signal => (),
            }
        }
        true
    }

    /// Polls the doorbells on `cpu`. False where the thread has to end.
    fn spin(&self, cpu: u32) -> bool {
        let pool = self.pool();
        let polled = if process::run_on(cpu) {
            self.poll(cpu)
        } else {
            pool.spin_failed(cpu);
            Polled::GivenUp
        };
        if polled != Polled::HandedOff && !pool.spin_end(cpu) {
            self.engine.as_arc_borrow().poll_no_more();
        }
        self.engine.cpus().run_here();
        polled != Polled::MustEnd
    }

    /// The registrations to poll from now on.
    fn known(&self) -> Option<(u32, KVec<Arc<Pages>>)> {
        let seen = self.engine.generation();
        let known = self.engine.snapshot().ok()?;
        for pages in known.iter() {
            pages.set_need_wakeup(false);
        }
        Some((seen, known))
    }

    fn poll(&self, cpu: u32) -> Polled {
        let engine = &self.engine;
        let pool = self.pool();
        let Some((mut seen, mut known)) = self.known() else {
            return Polled::GivenUp;
        };
        let mut idle_since = process::now_ns();
        let mut spare = true;
        let mut spare_at = 0;
        let mut rounds = 0;
        loop {
            if process::breathe() && thread::signal() {
                return Polled::MustEnd;
            }
            if pool.is_stopping() || pool.spin_mask() & (1 << cpu) == 0 {
                return Polled::GivenUp;
            }
            if engine.generation() != seen {
                match self.known() {
                    Some(new) => (seen, known) = new,
                    None => return Polled::GivenUp,
                }
            }
            if !spare || spare_at == 0 {
                spare = self.provide_spare();
                spare_at = process::now_ns();
                if !spare {
                    continue;
                }
            }
            match self.poll_round(cpu, &known) {
                Round::Busy => {
                    idle_since = process::now_ns();
                    spare = pool.has_spare();
                    continue;
                }
                Round::Idle => (),
                Round::HandedOff => return Polled::HandedOff,
                Round::Dying => return Polled::MustEnd,
            }
            rounds += 1;
            process::relax();
            if rounds % ROUNDS_PER_LOOK != 0 {
                continue;
            }
            if process::online_cpus() & (1 << cpu) == 0 {
                pool.spin_failed(cpu);
                return Polled::GivenUp;
            }
            let now = process::now_ns();
            if now.saturating_sub(spare_at) > SPARE_RETRY_NS {
                // Making one may have failed before.
                spare_at = 0;
            }
            if now.saturating_sub(idle_since) < engine.idle_ns() {
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

    /// Looks everywhere once.
    fn poll_round(&self, cpu: u32, known: &[Arc<Pages>]) -> Round {
        let role = Role::Spinner {
            slot: self.slot,
            cpu,
        };
        let mut any = false;
        while let Some(pages) = self.pool().try_dequeue() {
            any = true;
            while let Some((page, bits)) = pages.take_offloaded(self.pool) {
                match self.run(role, &pages, page, bits) {
                    End::HandedOff => return Round::HandedOff,
                    End::Dying => return Round::Dying,
                    End::Complete | End::Signal => (),
                }
            }
        }
        for pages in known.iter() {
            for page in 0..pages.len() {
                let bits = pages.claim(page);
                if bits == 0 {
                    continue;
                }
                any = true;
                match self.run(role, pages, page, bits) {
                    End::HandedOff => return Round::HandedOff,
                    End::Dying => return Round::Dying,
                    End::Complete | End::Signal => (),
                }
            }
        }
        if any {
            Round::Busy
        } else {
            Round::Idle
        }
    }
}

/// What a look at all doorbells has brought.
enum Round {
    Busy,
    Idle,
    /// The thread blocked in a call, and another one polls now.
    HandedOff,
    /// The thread has to end.
    Dying,
}

/// Why a thread polls no more.
#[derive(PartialEq, Eq)]
enum Polled {
    /// It, or the core, is needed no more.
    GivenUp,
    /// Another thread polls now.
    HandedOff,
    /// The thread has to end.
    MustEnd,
}

impl Body for Worker {
    fn run(this: ArcBorrow<'_, Self>) {
        let pool = this.pool();
        loop {
            if Worker::must_end() {
                break;
            }
            let alive = match pool.next(this.slot) {
                Next::Stop => false,
                Next::Serve(pages) => this.serve(&pages),
                Next::Spin(cpu) => this.spin(cpu),
                Next::Idle => match pool.idle(this.slot, this.engine.retire_ms()) {
                    Woken::Look => true,
                    Woken::Retire => false,
                    Woken::Orphaned => {
                        this.engine.close();
                        false
                    }
                },
            };
            if !alive {
                break;
            }
        }
        pool.leave(this.slot);
    }
}
