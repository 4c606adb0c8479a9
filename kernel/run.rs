// SPDX-License-Identifier: GPL-2.0

//! The batch of entries that a task executes, and its hand-off when the task blocks in one.
//!
//! A batch belongs to one task and is touched by that task only: by its own code, and by the
//! scheduler's hook, which the task itself calls. So it needs no lock.

use crate::{
    dispatch::{self, Outcome},
    engine::Engine,
    pages::Pages,
    pools::PoolSet,
    sys::{
        hook::{Blocking, Hook},
        invoke,
        process::{self, Attention},
    },
};
use core::cell::Cell;
use kernel::sync::ArcBorrow;

/// As what a task executes entries.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    /// The thread that posted them, in WAIT.
    Owner,
    /// A syscall thread of a pool, with its number there.
    Worker { pool: u8, slot: u32 },
    /// A syscall thread of the first pool that polls the doorbells on this CPU.
    Spinner { slot: u32, cpu: u32 },
}

impl Role {
    /// The number that a syscall thread has in its pool.
    pub(crate) fn slot(self) -> Option<u32> {
        match self {
            Role::Owner => None,
            Role::Worker { slot, .. } | Role::Spinner { slot, .. } => Some(slot),
        }
    }
}

/// How a batch ended.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// All entries were executed or given away.
    Complete,
    /// The task blocked: whatever was left has been handed off.
    HandedOff,
    /// The task has to look at its signals. What was left has been given away.
    Signal,
    /// The syscall thread has to end at once, and so has its engine or its process.
    Dying,
}

/// See the module's documentation.
pub(crate) struct Batch<'a> {
    engine: &'a Engine,
    pages: ArcBorrow<'a, Pages>,
    page: u32,
    traced: bool,
    attention: Attention,
    role: Cell<Role>,
    /// Claimed and not yet begun.
    todo: Cell<u64>,
    /// With a result that was not yet published.
    finished: Cell<u64>,
    /// Number of the call in execution; only then the hook means anything.
    executing: Cell<Option<u16>>,
    /// Asleep in a call.
    blocked: Cell<bool>,
    /// Blocked at least once.
    lost: Cell<bool>,
    /// A signal was taken that ends the thread; it shows nowhere else.
    dying: Cell<bool>,
    /// Of the finished ones, those refused.
    refused: Cell<u32>,
}

/// Executes, as `role`, the entries `bits` of `page`, which the caller has claimed.
pub(crate) fn run(
    engine: &Engine,
    role: Role,
    pages: ArcBorrow<'_, Pages>,
    page: u32,
    bits: u64,
) -> End {
    let batch = Batch {
        engine,
        pages,
        page,
        traced: invoke::traced(),
        attention: Attention::of_current(),
        role: Cell::new(role),
        todo: Cell::new(bits),
        finished: Cell::new(0),
        executing: Cell::new(None),
        blocked: Cell::new(false),
        lost: Cell::new(false),
        dying: Cell::new(false),
        refused: Cell::new(0),
    };
    let hook = Hook::new(batch);
    if role == Role::Owner {
        invoke::with_frame(&hook, Batch::run)
    } else {
        hook.with(Batch::run)
    }
}

impl Batch<'_> {
    pub(crate) fn pages(&self) -> &Pages {
        &self.pages
    }

    pub(crate) fn page(&self) -> u32 {
        self.page
    }

    pub(crate) fn is_owner(&self) -> bool {
        self.role.get() == Role::Owner
    }

    /// The pool whose entries a syscall thread executes: it gives others to theirs.
    pub(crate) fn pool(&self) -> Option<u8> {
        match self.role.get() {
            Role::Worker { pool, .. } => Some(pool),
            Role::Owner | Role::Spinner { .. } => None,
        }
    }

    pub(crate) fn has_pool(&self, pool: u8) -> bool {
        self.engine.pools.set().has(pool)
    }

    pub(crate) fn must_stop(&self) -> bool {
        self.engine.pools.is_stopping()
    }

    /// Marks entries that were not begun as waiting for threads. Returns of which pools.
    fn offload_left(&self, left: u64) -> PoolSet {
        match self.pool() {
            _ if left == 0 => PoolSet::EMPTY,
            Some(pool) => {
                self.pages.offload(pool, self.page, left);
                PoolSet::of(pool)
            }
            None => self
                .pages
                .offload_unseen(self.page, left, self.engine.pools.set()),
        }
    }

    /// The thread has been told to end.
    pub(crate) fn set_dying(&self) {
        self.dying.set(true);
    }

    pub(crate) fn count_refused(&self) {
        self.refused.set(self.refused.get() + 1);
    }

    pub(crate) fn is_traced(&self) -> bool {
        self.traced
    }

    /// Runs `f`, which executes call `nr` and may block in it.
    pub(crate) fn executing<R>(&self, nr: u16, f: impl FnOnce() -> R) -> R {
        self.executing.set(Some(nr));
        let ret = f();
        self.executing.set(None);
        ret
    }

    fn publish(&self) {
        self.pages.finish(
            self.page,
            self.finished.take(),
            self.refused.take(),
            self.is_owner(),
        );
    }

    fn run(&self) -> End {
        let mut given = Given {
            batch: self,
            pools: PoolSet::EMPTY,
            pool: 0,
            bits: 0,
        };
        let mut signal = false;
        loop {
            let todo = self.todo.get();
            if todo == 0 {
                break;
            }
            let index = todo.trailing_zeros();
            let bit = 1 << index;
            self.todo.set(todo & !bit);
            match dispatch::execute(self, index) {
                Outcome::Finished => self.finished.set(self.finished.get() | bit),
                Outcome::Offload(pool) => given.add(pool, bit),
            }
            // On a syscall thread each result counts at once; the owner looks at them after.
            if !self.is_owner() {
                self.publish();
                if self.dying.get() || self.must_stop() {
                    return End::Dying;
                }
            }
            if self.attention.is_needed() && process::breathe() {
                signal = true;
                given.pools.extend(self.offload_left(self.todo.take()));
                break;
            }
        }
        self.publish();
        given.flush();
        self.engine.pools.push(given.pools, self.pages);
        if self.lost.get() {
            End::HandedOff
        } else if signal {
            End::Signal
        } else {
            End::Complete
        }
    }
}

/// What a batch gives to syscall threads: entries of the same pool under one lock.
struct Given<'a> {
    batch: &'a Batch<'a>,
    /// Those that have got something.
    pools: PoolSet,
    /// For this one, and not yet marked as waiting.
    pool: u8,
    bits: u64,
}

impl Given<'_> {
    fn add(&mut self, pool: u8, bit: u64) {
        if pool != self.pool {
            self.flush();
            self.pool = pool;
        }
        self.bits |= bit;
    }

    fn flush(&mut self) {
        let bits = core::mem::take(&mut self.bits);
        if bits != 0 {
            self.batch.pages.offload(self.pool, self.batch.page, bits);
            self.pools.add(self.pool);
        }
    }
}

impl Blocking for Batch<'_> {
    fn sleeping(&self) {
        let Some(nr) = self.executing.get() else {
            return;
        };
        self.blocked.set(true);
        self.lost.set(true);
        self.publish();
        let left = self.todo.take();
        let mut more = self.offload_left(left);
        match self.pool() {
            Some(pool) if self.pages.has_offloaded(pool) => more.add(pool),
            // Nobody else looks at the owner's other pages while it sleeps.
            None if self.is_owner() => {
                more.extend(self.pages.offload_pending(self.engine.pools.set()));
            }
            _ => (),
        }
        if self.traced {
            invoke::trace_block(nr, left.count_ones());
        }
        let role = self.role.get();
        if !self.engine.pools.blocked(role, more, self.pages) {
            self.engine.nobody_polls();
        }
        if let Role::Spinner { slot, .. } = role {
            self.role.set(Role::Worker { pool: 0, slot });
        }
    }

    fn running(&self) {
        if self.blocked.take() {
            self.engine.pools.unblocked(self.role.get());
        }
    }
}
