// SPDX-License-Identifier: GPL-2.0

//! The batch of entries that a task executes, and its hand-off when the task blocks in one.
//!
//! A batch belongs to one task and is touched by that task only: by its own code, and by the
//! scheduler's hook, which the task itself calls. So it needs no lock.

use crate::{
    dispatch::{self, Outcome},
    engine::Engine,
    pages::Pages,
    sys::{hook::Blocking, invoke, process},
};
use core::cell::Cell;
use kernel::sync::Arc;

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
}

/// See the module's documentation.
pub(crate) struct Batch<'a> {
    engine: &'a Engine,
    role: Cell<Role>,
    pages: Cell<Option<Arc<Pages>>>,
    page: Cell<u32>,
    /// Claimed and not yet begun.
    todo: Cell<u64>,
    /// With a result that was not yet published.
    finished: Cell<u64>,
    /// Number of the call in execution; only then the hook means anything.
    executing: Cell<Option<u16>>,
    blocked: Cell<bool>,
    /// Blocked at least once since the batch began.
    lost: Cell<bool>,
    traced: Cell<bool>,
}

impl<'a> Batch<'a> {
    pub(crate) fn new(engine: &'a Engine, role: Role) -> Self {
        Batch {
            engine,
            role: Cell::new(role),
            pages: Cell::new(None),
            page: Cell::new(0),
            todo: Cell::new(0),
            finished: Cell::new(0),
            executing: Cell::new(None),
            blocked: Cell::new(false),
            lost: Cell::new(false),
            traced: Cell::new(false),
        }
    }

    pub(crate) fn role(&self) -> Role {
        self.role.get()
    }

    pub(crate) fn set_role(&self, role: Role) {
        self.role.set(role);
    }

    pub(crate) fn must_stop(&self) -> bool {
        self.engine.pool.is_stopping()
    }

    pub(crate) fn count_refused(&self) {
        self.engine.count_refused();
    }

    pub(crate) fn is_traced(&self) -> bool {
        self.traced.get()
    }

    /// Runs `f`, which executes call `nr` and may block in it.
    pub(crate) fn executing<R>(&self, nr: u16, f: impl FnOnce() -> R) -> R {
        self.executing.set(Some(nr));
        let ret = f();
        self.executing.set(None);
        ret
    }

    /// Executes the entries `bits` of `page`, which the caller has claimed.
    pub(crate) fn run(&self, pages: &Arc<Pages>, page: u32, bits: u64) -> End {
        self.pages.set(Some(pages.clone()));
        self.page.set(page);
        self.todo.set(bits);
        self.finished.set(0);
        self.lost.set(false);
        self.traced.set(invoke::traced());

        let mut offload = 0;
        let mut signal = false;
        let mut inline_done = 0;
        loop {
            let todo = self.todo.get();
            if todo == 0 {
                break;
            }
            let index = todo.trailing_zeros();
            let bit = 1 << index;
            self.todo.set(todo & !bit);
            match dispatch::execute(self, pages, page, index) {
                Outcome::Finished => {
                    self.finished.set(self.finished.get() | bit);
                    inline_done += 1;
                }
                Outcome::Offload => offload |= bit,
            }
            if process::breathe() {
                signal = true;
                offload |= self.todo.take();
                break;
            }
            // On a syscall thread each result counts at once; the owner looks at them after.
            if self.role.get() != Role::Owner {
                pages.finish(page, self.finished.take());
            }
        }
        pages.finish(page, self.finished.take());
        if offload != 0 {
            pages.offload(page, offload);
            self.engine.pool.push(pages.clone());
        }
        self.pages.set(None);
        if self.role.get() == Role::Owner {
            self.engine.count_inline(inline_done);
        }
        if signal {
            End::Signal
        } else if self.lost.get() {
            End::HandedOff
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
        let left = self.todo.take();
        let Some(pages) = self.pages.take() else {
            return;
        };
        let page = self.page.get();
        pages.finish(page, self.finished.take());
        if left != 0 {
            pages.offload(page, left);
        }
        let more = match self.role.get() {
            // Nobody else looks at the owner's other pages while it sleeps.
            Role::Owner => pages.offload_pending(),
            _ => pages.has_offloaded(),
        };
        if self.traced.get() {
            invoke::trace_block(nr, left.count_ones());
        }
        self.engine
            .pool
            .blocked(self.role.get(), more.then_some(&pages));
        if let Role::Spinner(slot, _) = self.role.get() {
            self.role.set(Role::Worker(slot));
        }
        self.pages.set(Some(pages));
    }

    fn running(&self) {
        if self.blocked.take() {
            self.engine.pool.unblocked(self.role.get());
        }
    }
}
