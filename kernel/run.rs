// SPDX-License-Identifier: GPL-2.0

//! The batch of entries that a task executes, and its hand-off when the task blocks in one.
//!
//! A batch belongs to one task and is touched by that task only: by its own code, and by the
//! scheduler's hook, which the task itself calls. So it needs no lock.
//!
//! The path of an entry: [`execute_posted`] or [`execute_claimed`] · [`Batch::execute_page`] ·
//! [`Batch::walk_posted`] or [`Batch::walk_ordered`] · `call_kernel_in_a_row` (the
//! owner) or `try_plain` (syscall threads), which complete most entries, or [`Batch::start`] ·
//! `execute`, which asks [`dispatch::decide`] · `call_kernel` (`entry.rs`).

mod chain;
mod entry;
mod handoff;
mod order;
mod park;
mod state;
mod turn;
mod verdict;

use self::{
    entry::{Outcome, Plain},
    order::Order,
    state::{Entries, Results, Sleep},
};
use crate::{
    defs::{Bits, OrderKind, PoolSet, Role},
    dispatch::Start,
    engine::Engine,
    pages::Pages,
    sys::{
        area::PageRef,
        hook::Hook,
        invoke::{self, Frame},
        process::{self, Current, ThreadFlags},
        row::Stop,
        thread::SyscallThread,
        trace,
    },
};
use core::cell::Cell;
use kernel::sync::ArcBorrow;
use kernel::uapi;

/// How a batch ended.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// All entries were executed or given away.
    Complete,
    /// The task blocked: the rest was handed off.
    HandedOff,
    /// The task must handle a signal. The rest was given away.
    Signal,
    /// The syscall thread must end at once: its engine or its process is ending.
    Dying,
}

/// See the module's documentation.
pub(crate) struct Batch<'a> {
    engine: &'a Engine,
    pages: ArcBorrow<'a, Pages>,
    page: Cell<u32>,
    role: Cell<Role>,
    thread_flags: ThreadFlags,
    traced: bool,
    /// See `pages/slow.rs`; false on syscall threads.
    files_slow: Cell<bool>,
    /// Neither `traced` nor `files_slow`: calls may take the quick path.
    quick: bool,
    entries: Entries,
    results: Results,
    sleep: Sleep,
    /// Pools that got entries of this batch and for which no thread was woken yet.
    pools_to_wake: Cell<PoolSet>,
}

/// Executes all entries posted in `pages` that cannot block. The current task is their owner.
/// Returns `End::Signal` if a signal is pending.
#[inline(never)]
pub(crate) fn execute_posted(engine: &Engine, pages: ArcBorrow<'_, Pages>, owner: Current) -> End {
    execute_posted_in::<false>(engine, pages, owner)
}

/// As [`execute_posted`], inlined. For one caller only: with two, its closure is not inlined.
#[inline(always)]
pub(crate) fn execute_posted_inline(
    engine: &Engine,
    pages: ArcBorrow<'_, Pages>,
    owner: Current,
) -> End {
    execute_posted_in::<true>(engine, pages, owner)
}

/// `IN_LINE` makes two functions of this one, each with an inlined closure. This saves 45
/// instructions of each WAIT: 3.6 % of a batch of one getppid, 1.6 % of a batch of 8.
#[inline(always)]
fn execute_posted_in<const IN_LINE: bool>(
    engine: &Engine,
    pages: ArcBorrow<'_, Pages>,
    owner: Current,
) -> End {
    // Checked before any preparation, so that each word is read only once.
    let mut claimed = pages.claim_from(0);
    if claimed.is_none() && !pages.has_returned() && !pages.has_ready() {
        return End::Complete;
    }
    let batch = Batch::new(engine, Role::Owner, pages, owner);
    let hook = Hook::new(batch, pages.owner(), true);
    invoke::with_frame(&hook, |batch, frame| {
        while let Some((page, bits)) = claimed {
            if batch.traced {
                trace::post(pages.owner(), pages.id(), page, bits);
            }
            let end = batch.execute_page(frame, page, bits, false);
            if is_interrupted(end) {
                return End::Signal;
            }
            claimed = pages.claim_from(page + 1);
        }
        if pages.has_returned() {
            let end = batch.execute_returned(frame);
            if end != End::Complete {
                return end;
            }
        }
        if pages.has_ready() {
            return batch.execute_ready(frame);
        }
        End::Complete
    })
}

/// Returns true if the owner must handle a signal. After a hand-off too: the signal that
/// interrupted one call must not interrupt the next.
fn is_interrupted(end: End) -> bool {
    end == End::Signal || end == End::HandedOff && process::signal_pending()
}

/// Executes, as the syscall thread `thread` in `role`, the entries `bits` of `page`, which the caller
/// has claimed.
pub(crate) fn execute_claimed(
    engine: &Engine,
    (thread, role): (SyscallThread, Role),
    pages: ArcBorrow<'_, Pages>,
    page: u32,
    bits: u64,
) -> End {
    if matches!(role, Role::Poller { .. }) {
        // The entries were written on another CPU: wait once for all their cache lines.
        let entries = pages.area().page(page);
        for index in Bits(bits) {
            entries.entry(index).set_busy();
        }
    }
    let batch = Batch::new(engine, role, pages, Current::get());
    Hook::new(batch, pages.owner(), false).with(|batch| {
        let continued = batch.continues_chain(page, bits);
        let end = batch.execute_page(&Frame::of_thread(thread), page, bits, continued);
        if batch.sleep.dying.get() {
            End::Dying
        } else {
            end
        }
    })
}

impl<'a> Batch<'a> {
    fn new(engine: &'a Engine, role: Role, pages: ArcBorrow<'a, Pages>, current: Current) -> Self {
        let traced = invoke::traced();
        let files_slow = role.is_owner() && pages.is_slow();
        Batch {
            engine,
            pages,
            page: Cell::new(0),
            role: Cell::new(role),
            thread_flags: current.thread_flags(),
            traced,
            files_slow: Cell::new(files_slow),
            quick: !traced && !files_slow,
            entries: Entries::new(),
            results: Results::new(),
            sleep: Sleep::new(),
            pools_to_wake: Cell::new(PoolSet::EMPTY),
        }
    }

    fn is_owner(&self) -> bool {
        self.role.get().is_owner()
    }

    fn has_pool(&self, pool: u8) -> bool {
        self.engine.pools.set().has(pool)
    }

    fn must_stop(&self) -> bool {
        self.engine.pools.is_stopping()
    }

    /// Notes that a signal ends the thread.
    fn set_dying(&self) {
        self.sleep.dying.set(true);
    }

    /// Returns true if CANCEL was called for an entry.
    fn is_cancelled(&self, index: u32) -> bool {
        self.pages.is_cancelled(self.page.get(), index)
    }

    /// Returns the number of an entry within its registration.
    fn number(&self, index: u32) -> u32 {
        self.page.get() * uapi::FLEXSC_PAGE_ENTRIES + index
    }

    /// Publishes all results so far.
    #[inline(never)]
    fn publish(&self) {
        let executing = self.entries.executing();
        self.publish_except(executing.map_or(0, |index| 1u64.wrapping_shl(index)));
    }

    /// As [`Self::publish`]; `executing` is the entry whose call is executing, as a bit.
    #[inline(always)]
    fn publish_except(&self, executing: u64) {
        let is_owner = self.is_owner();
        if !is_owner {
            self.results.clear();
        }
        let finished = self.entries.take_finished(executing);
        if finished != 0 {
            let refused = self.results.take_refused(finished);
            if !is_owner {
                let executed = process::weight(finished).saturating_sub(refused);
                self.engine.pools.add_executed(self.role.get(), executed);
            }
            self.pages
                .finish_by(is_owner, self.page.get(), finished, refused);
        }
    }

    /// Notes one more result of a syscall thread, and publishes if there are enough.
    fn note_unpublished(&self) {
        if self.results.add() {
            self.publish();
        }
    }

    /// As the owner, executes the entries that syscall threads have returned.
    #[cold]
    fn execute_returned(&self, frame: &Frame) -> End {
        // The thread that returned an entry has shown that only the owner can execute it.
        self.files_slow.set(false);
        frame.set_may_leave(false);
        // Once for each page: entries that are returned later wait for the next check.
        for _ in 0..self.pages.len() {
            let Some((page, bits)) = self.pages.take_returned() else {
                break;
            };
            let continued = self.continues_chain(page, bits);
            let end = self.execute_page(frame, page, bits, continued);
            if is_interrupted(end) {
                return End::Signal;
            }
        }
        End::Complete
    }

    /// Returns true if any of these entries continues a chain that another task has begun.
    ///
    /// The rest of a chain may look like a plain entry, and its executor must publish what
    /// others have executed of the chain. Entries that the owner claims never continue a chain.
    fn continues_chain(&self, page: u32, bits: u64) -> bool {
        (self.pages.held(page) << 1) & bits != 0
    }

    /// Executes the entries `bits` of `page`. `continued` is [`Self::continues_chain`].
    #[inline(always)]
    fn execute_page(&self, frame: &Frame, page: u32, bits: u64, continued: bool) -> End {
        self.page.set(page);
        self.entries.owned.set(bits);
        let kept = self.pages.kept(page) & bits;
        if kept != 0 {
            if let Some(end) = self.execute_kept(frame, kept) {
                return self.end_page(end);
            }
        }
        let bits = self.entries.owned.get();
        let order = self.engine.order();
        let end = if order == OrderKind::Posted && self.quick && !continued {
            self.walk_posted(frame, page, bits)
        } else {
            self.walk_ordered(frame, page, bits, Order::new(order))
        };
        self.end_page(end)
    }

    /// Publishes the finished entries of a page, and wakes threads for the offloaded ones.
    #[inline(always)]
    fn end_page(&self, end: End) -> End {
        self.publish_except(0);
        let pools = self.pools_to_wake.take();
        if pools != PoolSet::EMPTY {
            self.engine.pools.push(pools, self.pages);
        }
        if end != End::Dying && self.sleep.has_slept.get() {
            End::HandedOff
        } else {
            end
        }
    }

    /// The common case: no tracing, entries in the order of posting.
    #[inline(always)]
    fn walk_posted(&self, frame: &Frame, page: u32, bits: u64) -> End {
        self.entries
            .set_first(order::first(&self.pages, page, bits));
        let entries = self.pages.area().page(page);
        if self.is_owner() {
            return self.walk_row(frame, &entries);
        }
        while let Some(index) = self.entries.start_next() {
            match self.try_plain(frame, index, &entries.entry(index)) {
                Plain::Done => (),
                Plain::Undecided => self.start(frame, index, Start::First),
                Plain::Interrupted => self.start(frame, index, Start::Again),
            }
            if let Some(end) = self.pause() {
                return end;
            }
        }
        End::Complete
    }

    /// As the owner: lets the core execute entries, up to the first one that is not plain.
    #[inline(always)]
    fn walk_row(&self, frame: &Frame, entries: &PageRef<'_>) -> End {
        loop {
            match self.call_kernel_in_a_row(frame, entries) {
                Stop::Empty => return End::Complete,
                Stop::Look => (),
                Stop::Other(index) if self.is_for_threads(index, &entries.entry(index)) => {
                    self.offload_to(0, 1 << index, 0);
                }
                Stop::Other(index) => self.start_undecided(frame, index, Start::First),
                Stop::Interrupted(index) if frame.take_left() => {
                    self.pages.note_left(self.page.get(), index);
                    self.offload_to(0, 1 << index, 1 << index);
                }
                Stop::Interrupted(index) => self.start_undecided(frame, index, Start::Again),
            }
            if let Some(end) = self.pause() {
                return end;
            }
        }
    }

    /// Walks the entries in any order.
    #[inline(never)]
    fn walk_ordered(&self, frame: &Frame, page: u32, bits: u64, order: Order) -> End {
        self.entries.set_first(0);
        order.begin(&self.pages, page, bits);
        loop {
            let todo = self.entries.unstarted();
            if todo == 0 {
                return End::Complete;
            }
            let index = order.next(&self.pages, page, todo);
            self.entries.start(1 << index);
            self.start(frame, index, Start::First);
            if let Some(end) = self.pause() {
                return end;
            }
        }
    }

    /// Between two entries: returns why the batch must end, if it must.
    #[inline(always)]
    fn pause(&self) -> Option<End> {
        if !self.is_owner() && (self.sleep.dying.get() || self.must_stop()) {
            return Some(End::Dying);
        }
        if self.thread_flags.is_needed() && process::resched_and_check_signal() {
            self.wake_later(self.offload_unstarted());
            return Some(End::Signal);
        }
        None
    }

    /// Executes one entry, or the chain that begins with it, or gives it to another task.
    #[inline(never)]
    fn start(&self, frame: &Frame, index: u32, mut start: Start) {
        if self.is_owner() && start == Start::First {
            let entry = self.pages.area().entry(self.page.get(), index);
            match self.try_ready(frame, index, &entry) {
                Plain::Done => return,
                Plain::Undecided => (),
                Plain::Interrupted => start = Start::Again,
            }
        }
        self.start_undecided(frame, index, start);
    }

    /// As [`Self::start`], for an entry that is not plain.
    #[inline(never)]
    fn start_undecided(&self, frame: &Frame, index: u32, start: Start) {
        let entry = self.pages.area().entry(self.page.get(), index);
        let is_owner = self.is_owner();
        self.entries.in_chain.set(1 << index);
        // Results so far must not wait for a call that may take long. If the call blocks,
        // the hook publishes them.
        let short = !is_owner && entry::is_short(&entry);
        if !is_owner && !short {
            self.publish();
        }
        if entry.head().is_chained() || self.is_continued(index) {
            self.start_chain(frame, index);
        } else {
            let e = entry.take();
            match self.execute(frame, index, &e, start) {
                Outcome::Done(verdict) => self.complete(index, e.nr, verdict),
                Outcome::Offload(pool) => self.offload_to(pool, 1 << index, 0),
                Outcome::Wait => self.park_or_offload(frame, index, &e),
                Outcome::OffloadByChance => self.offload_to(0, 1 << index, 1 << index),
                Outcome::Return => self.give_back(1 << index),
            }
        }
        self.entries.in_chain.set(0);
        if short {
            self.note_unpublished();
        } else if !is_owner {
            self.publish();
        }
    }
}
