// SPDX-License-Identifier: GPL-2.0

//! The batch of entries that a task executes, and its hand-off when the task blocks in one.
//!
//! A batch belongs to one task and is touched by that task only: by its own code, and by the
//! scheduler's hook, which the task itself calls. So it needs no lock.

use crate::{
    dispatch::{self, Outcome},
    engine::Engine,
    pages::Pages,
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
    /// A syscall thread, with its number in the pool.
    Worker(u32),
    /// A syscall thread that polls the doorbells on this CPU.
    Spinner(u32, u32),
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

    pub(crate) fn must_stop(&self) -> bool {
        self.engine.pool.is_stopping()
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
        let mut offload = 0;
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
                Outcome::Offload => offload |= bit,
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
                offload |= self.todo.take();
                break;
            }
        }
        self.publish();
        if offload != 0 {
            self.pages.offload(self.page, offload);
            self.engine.pool.push(self.pages);
        }
        if self.lost.get() {
            End::HandedOff
        } else if signal {
            End::Signal
        } else {
            End::Complete
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
        if left != 0 {
            self.pages.offload(self.page, left);
        }
        let more = match self.role.get() {
            // Nobody else looks at the owner's other pages while it sleeps.
            Role::Owner => self.pages.offload_pending(),
            _ => self.pages.has_offloaded(),
        };
        if self.traced {
            invoke::trace_block(nr, left.count_ones());
        }
        let role = self.role.get();
        if !self.engine.pool.blocked(role, more.then_some(self.pages)) {
            self.engine.nobody_polls();
        }
        if let Role::Spinner(slot, _) = role {
            self.role.set(Role::Worker(slot));
        }
    }

    fn running(&self) {
        if self.blocked.take() {
            self.engine.pool.unblocked(self.role.get());
        }
    }
}
