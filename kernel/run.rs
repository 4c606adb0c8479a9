// SPDX-License-Identifier: GPL-2.0

//! The batch of entries that a task executes, and its hand-off when the task blocks in one.
//!
//! A batch belongs to one task and is touched by that task only: by its own code, and by the
//! scheduler's hook, which the task itself calls. So it needs no lock.

mod chain;
mod handoff;
mod order;

use crate::{
    defs::{Bits, PoolSet, Role},
    dispatch::{self, Outcome, Start, Verdict},
    engine::Engine,
    pages::Pages,
    policy,
    sys::{
        area::Place,
        file,
        hook::Hook,
        invoke::{self, Frame, Refusal},
        process::{self, Attention, Current},
        trace,
    },
};
use core::cell::Cell;
use kernel::sync::ArcBorrow;
use kernel::uapi;

use self::order::Order;

/// Results that a syscall thread publishes at once.
const GROUP: u32 = 16;

/// Bytes that a call may copy while finished ones wait for it to be published with them.
const SHORT: u64 = 1 << 16;

/// [`Batch::executing`] outside of calls: no entry has this index.
const NOTHING: u32 = u32::MAX;

/// What became of an entry on the path of plain calls.
enum Plain {
    /// It has its result.
    Done,
    /// Nothing: there is something special about it.
    Special,
    /// A signal has interrupted its call.
    Interrupted,
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
    page: Cell<u32>,
    traced: bool,
    by_owner: bool,
    attention: Attention,
    role: Cell<Role>,
    order: Order,
    /// Claimed, and neither published nor given away.
    batch: Cell<u64>,
    /// Of these, not yet begun; bit 0 stands for entry `start`.
    todo: Cell<u64>,
    start: Cell<u32>,
    /// Of these, in a chain that has not ended.
    open: Cell<u64>,
    /// How many have a result that was not yet published, on a syscall thread.
    unpublished: Cell<u32>,
    /// The entry whose call is in execution, or [`NOTHING`]; only in a call the hook means
    /// anything.
    executing: Cell<u32>,
    /// Asleep in a call.
    blocked: Cell<bool>,
    /// Blocked at least once.
    lost: Cell<bool>,
    /// Others have taken over while it goes on with a loop.
    looping: Cell<bool>,
    /// A signal was taken that ends the thread; it shows nowhere else.
    dying: Cell<bool>,
    /// Of the finished ones, those refused.
    refused: Cell<u32>,
    /// Pools that this batch has given entries to, and not yet told so.
    given: Cell<PoolSet>,
}

/// Executes as their owner, the current task, all that is posted in `pages` and can not block.
/// `End::Signal` where a signal is pending.
pub(crate) fn run_owner(engine: &Engine, pages: ArcBorrow<'_, Pages>, owner: Current) -> End {
    let first = match pages.first_pending() {
        Some(first) => first,
        None if pages.has_returned() => pages.len(),
        None => return End::Complete,
    };
    let hook = Hook::new(Batch::new(engine, Role::Owner, pages, owner));
    invoke::with_frame(&hook, |batch, frame| {
        for page in first..pages.len() {
            let bits = pages.claim(page);
            if batch.traced && bits != 0 {
                trace::post(pages.owner(), pages.id(), page, bits);
            }
            if bits == 0 {
                continue;
            }
            let end = batch.run::<true>(frame, page, bits, false);
            if interrupts(end) {
                return End::Signal;
            }
        }
        if pages.has_returned() {
            return batch.run_returned(frame);
        }
        End::Complete
    })
}

/// Does the owner have to look at its signals? After a hand-off too: the signal that interrupted one
/// call must not interrupt the next.
fn interrupts(end: End) -> bool {
    end == End::Signal || end == End::HandedOff && process::signal_pending()
}

/// Executes, as a syscall thread in `role`, the entries `bits` of `page`, which the caller has
/// claimed.
pub(crate) fn run(
    engine: &Engine,
    role: Role,
    pages: ArcBorrow<'_, Pages>,
    page: u32,
    bits: u64,
) -> End {
    if matches!(role, Role::Poller { .. }) {
        // They were written on another CPU: one wait for all of them.
        let places = pages.area().page(page);
        for index in Bits(bits) {
            places.entry(index).set_busy();
        }
    }
    Hook::new(Batch::new(engine, role, pages, Current::get())).with(|batch| {
        let continued = batch.goes_on(page, bits);
        let end = batch.run::<false>(&Frame::of_thread(), page, bits, continued);
        if batch.dying.get() {
            End::Dying
        } else {
            end
        }
    })
}

impl<'a> Batch<'a> {
    fn new(engine: &'a Engine, role: Role, pages: ArcBorrow<'a, Pages>, current: Current) -> Self {
        Batch {
            engine,
            pages,
            page: Cell::new(0),
            traced: invoke::traced(),
            by_owner: role.is_owner(),
            attention: current.attention(),
            role: Cell::new(role),
            order: Order::new(engine.order()),
            batch: Cell::new(0),
            todo: Cell::new(0),
            start: Cell::new(0),
            open: Cell::new(0),
            unpublished: Cell::new(0),
            executing: Cell::new(NOTHING),
            blocked: Cell::new(false),
            lost: Cell::new(false),
            looping: Cell::new(false),
            dying: Cell::new(false),
            refused: Cell::new(0),
            given: Cell::new(PoolSet::EMPTY),
        }
    }

    pub(crate) fn is_owner(&self) -> bool {
        self.by_owner
    }

    /// The pool whose entries a syscall thread executes: it gives others to theirs.
    pub(crate) fn pool(&self) -> Option<u8> {
        self.role.get().pool()
    }

    pub(crate) fn has_pool(&self, pool: u8) -> bool {
        self.engine.pools.set().has(pool)
    }

    pub(crate) fn must_stop(&self) -> bool {
        self.engine.pools.is_stopping()
    }

    /// The thread has been told to end.
    pub(crate) fn set_dying(&self) {
        self.dying.set(true);
    }

    /// Has the owner, which still lives, left this entry to a thread by chance?
    pub(crate) fn is_owners(&self, index: u32) -> bool {
        self.pages.is_owners(self.page.get(), index) && !self.pages.owner().is_exiting()
    }

    /// Has CANCEL asked for the end of an entry?
    pub(crate) fn is_cancelled(&self, index: u32) -> bool {
        self.pages.is_cancelled(self.page.get(), index)
    }

    /// Executes call `nr` of entry `index`, whose arguments are in the frame; it may block.
    pub(crate) fn invoke(&self, frame: &Frame, index: u32, nr: u16) -> Result<i64, Refusal> {
        if self.traced {
            invoke::trace_invoke(self.pages.owner(), nr, self.number(index));
        }
        if self.by_owner {
            self.invoke_as::<true>(frame, index, nr)
        } else {
            self.invoke_as::<false>(frame, index, nr)
        }
    }

    /// As [`Self::invoke`]; `OWNER` is [`Self::is_owner`].
    #[inline(always)]
    fn invoke_as<const OWNER: bool>(
        &self,
        frame: &Frame,
        index: u32,
        nr: u16,
    ) -> Result<i64, Refusal> {
        self.executing.set(index);
        let ret = if OWNER {
            frame.invoke_self(nr)
        } else {
            frame.invoke_for(self.pages.owner(), nr)
        };
        self.executing.set(NOTHING);
        ret
    }

    /// The entries that were not begun.
    fn left(&self) -> u64 {
        self.todo.get().rotate_left(self.start.get())
    }

    /// As [`Self::left`]; somebody else is going to begin them.
    fn take_left(&self) -> u64 {
        let left = self.left();
        self.todo.set(0);
        self.batch.set(self.batch.get() & !left);
        left
    }

    /// These are begun now, by themselves or in a chain.
    fn begin(&self, bits: u64) {
        let todo = self.todo.get() & !bits.rotate_right(self.start.get());
        self.todo.set(todo);
    }

    /// Number of an entry in its registration.
    fn number(&self, index: u32) -> u32 {
        self.page.get() * uapi::FLEXSC_PAGE_ENTRIES + index
    }

    /// Writes the result of an entry.
    fn complete(&self, index: u32, nr: u16, (result, reason): Verdict) {
        if dispatch::is_refusal(reason) {
            self.refused.set(self.refused.get() + 1);
        }
        let place = self.pages.area().entry(self.page.get(), index);
        place.put_result(result, reason as u8);
        if self.traced {
            invoke::trace_complete(nr, self.number(index), result);
        }
    }

    /// Publishes all results that are there.
    #[inline(never)]
    fn publish(&self) {
        if self.by_owner {
            self.publish_as::<true>();
        } else {
            self.publish_as::<false>();
        }
    }

    /// As [`Self::publish`]; `OWNER` is [`Self::is_owner`].
    #[inline(always)]
    fn publish_as<const OWNER: bool>(&self) {
        self.unpublished.set(0);
        let mut busy = self.left() | self.open.get();
        let executing = self.executing.get();
        if executing != NOTHING {
            busy |= 1 << executing;
        }
        let batch = self.batch.get();
        let finished = batch & !busy;
        if finished != 0 {
            self.batch.set(batch & busy);
            let refused = self.refused.take();
            if !OWNER {
                let executed = process::weight(finished).saturating_sub(refused);
                self.engine.pools.add_executed(self.role.get(), executed);
            }
            self.pages
                .finish_as::<OWNER>(self.page.get(), finished, refused);
        }
    }

    /// Leaves entries to a pool; `by_chance`: whoever executes them there may give them back.
    fn give(&self, pool: u8, bits: u64, by_chance: bool) {
        self.batch.set(self.batch.get() & !bits);
        self.pages.offload(pool, self.page.get(), bits, by_chance);
        let mut given = self.given.get();
        given.add(pool);
        self.given.set(given);
    }

    /// Gives entries back to the owner.
    fn give_back(&self, bits: u64) {
        self.batch.set(self.batch.get() & !bits);
        self.pages.give_back(self.page.get(), bits);
    }

    /// Leaves entries that nobody has looked at to the pools that they name, or to the pool of
    /// the thread that gives them up. Returns these pools.
    fn leave(&self, left: u64) -> PoolSet {
        match self.pool() {
            _ if left == 0 => PoolSet::EMPTY,
            Some(pool) => {
                self.pages.offload(pool, self.page.get(), left, false);
                PoolSet::of(pool)
            }
            None => {
                let pools = self.engine.pools.set();
                self.pages
                    .offload_unseen(self.page.get(), left, pools, self.by_owner)
            }
        }
    }

    /// Executes, as the owner, what others have given back.
    #[cold]
    fn run_returned(&self, frame: &Frame) -> End {
        // Once for each page: what comes back after that waits for the next look.
        for _ in 0..self.pages.len() {
            let Some((page, bits)) = self.pages.take_returned() else {
                break;
            };
            let end = self.run::<true>(frame, page, bits, self.goes_on(page, bits));
            if interrupts(end) {
                return End::Signal;
            }
        }
        End::Complete
    }

    /// Do any of these entries go on with a chain that somebody else has begun?
    ///
    /// The rest of a chain may look like a plain entry, and whoever executes it has to publish what
    /// others have executed of the chain. What the owner claims never goes on with one.
    fn goes_on(&self, page: u32, bits: u64) -> bool {
        (self.pages.held(page) << 1) & bits != 0
    }

    /// Executes the entries `bits` of `page`. `OWNER` is [`Self::is_owner`], `continued`
    /// [`Self::goes_on`].
    fn run<const OWNER: bool>(&self, frame: &Frame, page: u32, bits: u64, continued: bool) -> End {
        self.page.set(page);
        self.batch.set(bits);
        let end = if self.order.is_posted() && !self.traced && !continued {
            self.run_posted::<OWNER>(frame, page, bits)
        } else {
            self.run_ordered(frame, page, bits)
        };
        self.publish_as::<OWNER>();
        let given = self.given.take();
        if given != PoolSet::EMPTY {
            self.engine.pools.push(given, self.pages);
        }
        if end != End::Dying && self.lost.get() {
            End::HandedOff
        } else {
            end
        }
    }

    /// May the task begin another entry of a chain? Where it has slept it has to pass the gate.
    fn may_go_on(&self) -> bool {
        self.by_owner || !self.lost.get() || self.engine.pools.readmit(self.role.get())
    }

    /// The common case: in the order of posting, nobody traces.
    #[inline(always)]
    fn run_posted<const OWNER: bool>(&self, frame: &Frame, page: u32, bits: u64) -> End {
        let start = order::start(&self.pages, page, bits);
        let places = self.pages.area().page(page);
        self.start.set(start);
        self.todo.set(bits.rotate_right(start));
        loop {
            let todo = self.todo.get();
            if todo == 0 {
                return End::Complete;
            }
            let index = todo.trailing_zeros().wrapping_add(start) % u64::BITS;
            self.todo.set(todo & todo.wrapping_sub(1));
            let place = places.entry(index);
            match self.execute_plain::<OWNER>(frame, index, &place) {
                Plain::Done => (),
                Plain::Special => self.execute(frame, index, Start::First),
                Plain::Interrupted => self.execute(frame, index, Start::Again),
            }
            if let Some(end) = self.pause::<OWNER>() {
                return end;
            }
        }
    }

    /// In any order.
    #[inline(never)]
    fn run_ordered(&self, frame: &Frame, page: u32, bits: u64) -> End {
        self.start.set(0);
        self.todo.set(bits);
        self.order.begin(&self.pages, page, bits);
        loop {
            let todo = self.todo.get();
            if todo == 0 {
                return End::Complete;
            }
            let index = self.order.next(&self.pages, page, todo);
            self.begin(1 << index);
            self.execute(frame, index, Start::First);
            let end = if self.by_owner {
                self.pause::<true>()
            } else {
                self.pause::<false>()
            };
            if let Some(end) = end {
                return end;
            }
        }
    }

    /// Between two entries: has the batch to end?
    #[inline(always)]
    fn pause<const OWNER: bool>(&self) -> Option<End> {
        if !OWNER && (self.dying.get() || self.must_stop()) {
            return Some(End::Dying);
        }
        if self.attention.is_needed() && process::breathe() {
            let mut given = self.given.get();
            given.extend(self.leave(self.take_left()));
            self.given.set(given);
            return Some(End::Signal);
        }
        None
    }

    /// Executes a call that never waits, if there is nothing special about its entry.
    #[inline(always)]
    fn execute_plain<const OWNER: bool>(
        &self,
        frame: &Frame,
        index: u32,
        place: &Place<'_>,
    ) -> Plain {
        let Some(nr) = place.head().plain_nr() else {
            return Plain::Special;
        };
        if !policy::is_inline(nr) {
            return Plain::Special;
        }
        frame.set_args(&place.args());
        match self.invoke_as::<OWNER>(frame, index, nr) {
            Ok(result) if !dispatch::is_interrupted(result) => {
                place.put_result(result, 0);
                if !OWNER {
                    self.grown();
                }
                Plain::Done
            }
            // What refuses the call will do so again.
            Err(_) => Plain::Special,
            Ok(_) => Plain::Interrupted,
        }
    }

    /// As [`Self::execute_plain`], as the owner, a call on a file that does not keep it waiting.
    #[inline(always)]
    fn execute_ready(&self, frame: &Frame, index: u32, place: &Place<'_>) -> Plain {
        let Some(nr) = place.head().plain_nr() else {
            return Plain::Special;
        };
        if !policy::is_by_file(nr) || self.traced || self.is_continued(index) {
            return Plain::Special;
        }
        let args = place.args();
        if file::may_block(args[0] as u32) {
            return Plain::Special;
        }
        frame.set_args(&args);
        match self.invoke_as::<true>(frame, index, nr) {
            Ok(result) if !dispatch::is_interrupted(result) => {
                place.put_result(result, 0);
                Plain::Done
            }
            Err(_) => Plain::Special,
            Ok(_) => Plain::Interrupted,
        }
    }

    /// A syscall thread has one more result to publish.
    fn grown(&self) {
        let n = self.unpublished.get().wrapping_add(1);
        self.unpublished.set(n);
        if n >= GROUP {
            self.publish();
        }
    }

    /// Executes one entry, or the chain that begins with it.
    #[inline(never)]
    fn execute(&self, frame: &Frame, index: u32, mut start: Start) {
        let place = self.pages.area().entry(self.page.get(), index);
        if self.by_owner && start == Start::First {
            match self.execute_ready(frame, index, &place) {
                Plain::Done => return,
                Plain::Special => (),
                Plain::Interrupted => start = Start::Again,
            }
        }
        self.open.set(1 << index);
        // What is there already shall not wait for a call that may take long. One that blocks has
        // it published by the hook.
        let short = !self.by_owner && is_short(&place);
        if !self.by_owner && !short {
            self.publish();
        }
        if place.head().is_chained() || self.is_continued(index) {
            self.execute_chain(frame, index);
        } else {
            let e = place.take();
            match dispatch::execute(self, frame, index, &e, start) {
                Outcome::Done(verdict) => self.complete(index, e.nr, verdict),
                Outcome::Offload(pool) => self.give(pool, 1 << index, false),
                Outcome::Interrupted => self.give(0, 1 << index, true),
                Outcome::Return => self.give_back(1 << index),
            }
        }
        self.open.set(0);
        if short {
            self.grown();
        } else if !self.by_owner {
            self.publish();
        }
    }
}

/// A call by itself that never waits or does not copy much, unless the program changes it now.
fn is_short(place: &Place<'_>) -> bool {
    let head = place.head();
    let nr = head.nr();
    let quick = policy::is_inline(nr) || policy::is_by_file(nr) && place.args()[2] < SHORT;
    quick && !head.is_chained()
}
