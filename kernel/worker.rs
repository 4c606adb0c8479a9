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
        process::{self, Thread},
        thread::{Body, Name, Ops, SyscallThread},
    },
};
use kernel::prelude::*;
use kernel::sync::{Arc, ArcBorrow};

static OPS: Ops<Worker> = Ops::new();

/// A syscall thread.
pub(crate) struct Worker {
    engine: Arc<Engine>,
    pool: u8,
    slot: u32,
    /// The task for which the thread was created.
    maker: Thread,
}

/// What a syscall thread keeps from one step to the next.
struct Life {
    thread: SyscallThread,
    /// The owner that the thread served last, whose credentials and nice value it follows.
    served: Thread,
    /// The generation of the settings that the thread follows.
    applied: u32,
    /// The CPU, as a bit, that the thread failed to poll the last time.
    avoid: u64,
}

/// What a syscall thread does after a step.
enum Step {
    /// Do another step.
    Next,
    /// End, because the thread is idle and not needed.
    Retire,
    /// End, because the process or the engine is ending or a signal ends the thread.
    End,
}

impl Worker {
    /// Creates a syscall thread of a pool in the current process, which is the engine's, for `maker`.
    /// `EXDEV` if the thread would not be like the others.
    pub(crate) fn spawn(engine: ArcBorrow<'_, Engine>, number: u8, maker: &Thread) -> Result {
        let pool = engine.pools.get(number).ok_or(ENOENT)?;
        engine.pools.check_alike()?;
        let slot = pool.reserve(engine.max_threads())?;
        let worker = Arc::new(
            Worker {
                engine: engine.into(),
                pool: number,
                slot,
                maker: maker.clone(),
            },
            GFP_KERNEL_ACCOUNT,
        );
        let created = match worker {
            Ok(worker) => OPS.create(&Name::new(engine.number(), number), worker),
            Err(e) => Err(e.into()),
        };
        match created {
            Ok(created) => {
                pool.created(slot, Some(created.thread()));
                Ok(())
            }
            Err(e) => {
                if !pool.created(slot, None) {
                    engine.poll_no_more();
                }
                Err(e)
            }
        }
    }

    /// Returns the CPUs that threads of this pool may poll, if the program wants polling.
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

    /// Ensures that a spare thread exists in case this one blocks.
    ///
    /// Returns false if the thread must handle a signal first. At a limit, it continues without a
    /// spare: then the entries behind a blocked one must wait, see [`Pool::worker_sleeping`].
    ///
    /// [`Pool::worker_sleeping`]: crate::pool::Pool::worker_sleeping
    fn provide_spare(&self, served: &Thread) -> bool {
        if self.pool().has_spare() || self.pool().is_stopping() {
            return true;
        }
        let spawned = Worker::spawn(self.engine.as_arc_borrow(), self.pool, served);
        spawned != Err(EINTR) || !process::signal_pending()
    }

    /// Handles a signal if one is pending. Returns true if the thread must end.
    fn must_end(thread: SyscallThread) -> bool {
        process::signal_pending() && thread.signal()
    }

    fn execute(
        &self,
        who: (SyscallThread, Role),
        pages: &Arc<Pages>,
        (page, bits): (u32, u64),
    ) -> End {
        run::execute_claimed(&self.engine, who, pages.as_arc_borrow(), page, bits)
    }

    /// Serves the owner of `pages` from now on, with its credentials and nice value. To be called
    /// before the thread does anything for this owner, such as creating a spare.
    fn adopt(&self, life: &mut Life, pages: &Pages) {
        let owner = pages.owner();
        if !life.served.is(owner) {
            life.served = owner.clone();
        }
        life.thread.adopt(owner);
        if self.follows_nice() {
            life.thread.follow_nice(owner);
        }
    }

    fn follows_nice(&self) -> bool {
        self.pool().settings.renice().is_none()
    }

    /// Returns true if the thread that was served last has other credentials or another nice value
    /// by now.
    fn is_behind(&self, life: &Life) -> bool {
        life.thread.is_behind(&life.served, self.follows_nice())
    }

    /// Takes over changes that were made while no owner was served. Returns false if there are
    /// none.
    fn keep_up(&self, life: &Life) -> bool {
        let behind = self.is_behind(life);
        if behind {
            life.thread.keep_up(&life.served, self.follows_nice());
        }
        behind
    }

    /// Takes entries of `pages`, which the thread has dequeued. See [`Pool::take`].
    fn take(&self, pages: &Arc<Pages>) -> Option<(u32, u64)> {
        if pages.attend() {
            let pools = &self.engine.pools;
            pools.push(pages.offload_unattended(pools.set()), pages.as_arc_borrow());
        }
        self.pool().take(pages.as_arc_borrow())
    }

    /// Executes the offloaded entries of one page of `pages`, which the thread has dequeued.
    /// Returns false if the thread must end.
    fn serve(&self, life: &mut Life, pages: &Arc<Pages>) -> bool {
        self.adopt(life, pages);
        while !self.provide_spare(&life.served) {
            if Self::must_end(life.thread) {
                self.pool().push(pages.as_arc_borrow());
                return false;
            }
        }
        let role = Role::Worker {
            pool: self.pool,
            slot: self.slot,
        };
        let Some(taken) = self.take(pages) else {
            return true;
        };
        // A thread that was interrupted while it created a spare is not interrupted again.
        if self.pool().is_stopping() {
            return false;
        }
        self.execute((life.thread, role), pages, taken) != End::Dying
    }

    /// Applies the pool's settings to this thread if they have changed.
    fn apply_settings(&self, applied: &mut u32) {
        let settings = &self.pool().settings;
        let generation = settings.generation();
        if *applied == generation {
            return;
        }
        *applied = generation;
        self.engine.cpus().run_here(settings.cpus());
        self.renice();
    }

    fn renice(&self) {
        if let Some(nice) = self.pool().settings.renice() {
            process::renice(nice.value, nice.privileged);
        }
    }

    /// Sleeps, and follows the thread that was served last meanwhile.
    fn idle(&self, life: &Life) -> Step {
        let retire_ms = self.engine.retire_ms();
        match self
            .pool()
            .idle(self.slot, retire_ms, || self.keep_up(life))
        {
            Woken::Look => Step::Next,
            Woken::Retire => Step::Retire,
        }
    }

    /// Does the next thing that the pool asks for.
    fn step(&self, life: &mut Life) -> Step {
        self.apply_settings(&mut life.applied);
        let here = Here {
            usable: process::usable_cpus(),
            may_poll: self.may_poll() & !core::mem::take(&mut life.avoid),
        };
        let alive = match self.pool().next(self.slot, here) {
            Next::Stop => false,
            Next::Serve(pages) => self.serve(life, &pages),
            Next::Poll(cpu) => {
                // The thread stays on one CPU until the settings are applied again.
                life.applied = 0;
                let polled = self.poll_cpu(cpu, life);
                if polled == Polled::Failed {
                    life.avoid = 1 << cpu;
                }
                polled != Polled::MustEnd
            }
            Next::NobodyPolls => {
                self.engine.poll_no_more();
                true
            }
            Next::Idle => return self.idle(life),
        };
        if alive {
            Step::Next
        } else {
            Step::End
        }
    }
}

impl Body for Worker {
    fn run(this: ArcBorrow<'_, Self>, thread: SyscallThread) {
        let pool = this.pool();
        // The task that created this thread was moved to another control group in the meantime, or
        // another task created a thread first.
        if this.engine.pools.check_alike().is_err() {
            if Worker::must_end(thread) {
                this.engine.end_parked();
            }
            pool.leave(this.slot);
            if pool.lost_poller() {
                this.engine.poll_no_more();
            }
            return;
        }
        let mut life = Life {
            thread,
            served: this.maker.clone(),
            applied: 0,
            avoid: 0,
        };
        while !Worker::must_end(thread) {
            match this.step(&mut life) {
                Step::Next => (),
                Step::Retire => return pool.retire(this.slot),
                Step::End => break,
            }
        }
        // The process or the engine is ending.
        this.engine.end_parked();
        pool.leave(this.slot);
    }
}
