// SPDX-License-Identifier: GPL-2.0

//! One entry: `dispatch` decides; this file executes the call, retries it after signals and writes
//! its result.

use super::{
    verdict::{self, Verdict, NONE},
    Batch,
};
use crate::{
    dispatch::{self, Decision, Facts, Request, Start},
    policy::{self, Class},
    sys::{
        area::{Entry, EntryRef, PageRef},
        file,
        invoke::{self, Frame, Refusal, Tried},
        row::Stop,
    },
};
use kernel::uapi;

/// Number of restart_syscall(2) on x86-64.
const NR_RESTART_SYSCALL: u16 = 219;

/// Bytes that a call may copy while finished entries wait to be published together with it.
const SHORT: u64 = 1 << 16;

/// Outcome of an entry on the path of plain calls.
pub(super) enum Plain {
    /// The entry has its result.
    Done,
    /// Nothing was done: [`dispatch::decide`] must decide about the entry.
    Undecided,
    /// A signal has interrupted the call.
    Interrupted,
}

/// Outcome of an entry.
pub(super) enum Outcome {
    /// The entry has this result.
    Done(Verdict),
    /// A syscall thread of this pool must execute the entry.
    Offload(u8),
    /// A syscall thread of the first pool must execute the entry, or the owner if no thread
    /// can: a signal for the owner has interrupted the call, calls of its kind are slow, or the call
    /// would wait for a file system.
    OffloadByChance,
    /// The call would wait for its file: see [`Batch::park_or_offload`].
    Wait,
    /// The owner, which left the entry to a syscall thread by chance, must execute it.
    Return,
}

/// The facts about one entry of the batch's page.
struct Lookup<'a> {
    batch: &'a Batch<'a>,
    index: u32,
}

impl Facts for Lookup<'_> {
    #[inline(always)]
    fn may_block(&self, fd: u32) -> bool {
        file::may_block(fd)
    }

    #[inline(always)]
    fn is_left_by_owner(&self) -> bool {
        let pages = &self.batch.pages;
        pages.is_owners(self.batch.page.get(), self.index) && !pages.owner().is_exiting()
    }

    fn are_files_slow(&self) -> bool {
        self.batch.files_slow.get()
    }

    #[inline(always)]
    fn keeps_waiting(&self, fd: u32) -> bool {
        file::keeps_waiting(fd)
    }
}

/// Returns true for a single entry whose call never waits or copies little, unless the
/// program is changing the entry.
pub(super) fn is_short(entry: &EntryRef<'_>) -> bool {
    let head = entry.head();
    let nr = head.nr();
    let quick = policy::is_inline(nr) || policy::is_by_file(nr) && entry.args()[2] < SHORT;
    quick && !head.is_chained()
}

impl Batch<'_> {
    /// Hands the call of entry `index` to the kernel; `call` makes it. Every posted call passes
    /// here or through [`Self::call_kernel_in_a_row`], executed or only tried, and may sleep here.
    #[inline(always)]
    pub(super) fn call_kernel<R>(&self, index: u32, call: impl FnOnce() -> R) -> R {
        self.with_hook(index, call)
    }

    /// Does `work` for entry `index`. If it sleeps, the scheduler's hook hands the other entries off.
    #[inline(always)]
    pub(super) fn with_hook<R>(&self, index: u32, work: impl FnOnce() -> R) -> R {
        self.entries.begin_call(index);
        let result = work();
        self.entries.end_call();
        result
    }

    /// Makes call `nr` of entry `index`, whose arguments are in the frame.
    #[inline(always)]
    fn make_call(&self, frame: &Frame, index: u32, nr: u16) -> Result<i64, Refusal> {
        self.call_kernel(index, || frame.invoke(self.pages.owner(), nr))
    }

    /// As [`Self::call_kernel`], for the owner and all entries of `page` that are to be started, up to
    /// the first one that is not plain. The core writes their results.
    #[inline(always)]
    pub(super) fn call_kernel_in_a_row(&self, frame: &Frame, page: &PageRef<'_>) -> Stop {
        self.entries.row.execute(frame, page)
    }

    /// Executes call `nr` of a plain entry. The caller knows that the current task may execute it.
    #[inline(always)]
    fn call_plain(
        &self,
        frame: &Frame,
        index: u32,
        entry: &EntryRef<'_>,
        (nr, args): (u16, &[u64; 6]),
    ) -> Plain {
        frame.set_args(args);
        match self.make_call(frame, index, nr) {
            Ok(result) if !verdict::is_interrupted(result) => {
                entry.put_result(result, 0);
                if !self.is_owner() {
                    self.note_unpublished();
                }
                Plain::Done
            }
            // The same check will refuse the call again.
            Err(_) => Plain::Undecided,
            Ok(_) => Plain::Interrupted,
        }
    }

    /// As a syscall thread, executes a call that never waits, if there is nothing special about its
    /// entry.
    #[inline(always)]
    pub(super) fn try_plain(&self, frame: &Frame, index: u32, entry: &EntryRef<'_>) -> Plain {
        match entry.head().plain_nr_in_thread() {
            Some(nr) if dispatch::is_plain_call(nr) => {
                self.call_plain(frame, index, entry, (nr, &entry.args()))
            }
            _ => Plain::Undecided,
        }
    }

    /// Decides quickly, as the owner: returns true if all that is special about an entry is that the
    /// program has sent it to the first pool, and its call never waits.
    pub(super) fn is_for_threads(&self, index: u32, entry: &EntryRef<'_>) -> bool {
        let head = entry.head();
        let nr = head.plain_nr_in_thread();
        nr.is_some_and(dispatch::is_plain_call) && head.is_async() && !self.is_continued(index)
    }

    /// As [`Self::try_plain`], for the owner and a call on a file that does not make it wait.
    #[inline(always)]
    pub(super) fn try_ready(&self, frame: &Frame, index: u32, entry: &EntryRef<'_>) -> Plain {
        let nr = match entry.head().plain_nr() {
            Some(nr) if dispatch::is_file_call(nr) => nr,
            _ => return Plain::Undecided,
        };
        if !self.quick || self.is_continued(index) {
            return Plain::Undecided;
        }
        let args = entry.args();
        let fd = args[0] as u32;
        if file::may_block(fd) || file::keeps_waiting(fd) {
            return Plain::Undecided;
        }
        self.call_plain(frame, index, entry, (nr, &args))
    }

    /// Returns what entry `index`, which was copied to `e`, asks for.
    #[inline(always)]
    fn request<'e>(&self, index: u32, e: &'e Entry) -> Request<'e> {
        // Read after `e` was copied: if `e` is marked, CANCEL was called before the copy.
        let is_cancelled = self.is_cancelled(index);
        let is_known = e.has_known_flags() || is_cancelled && e.is_marked();
        Request {
            nr: e.nr,
            args: &e.args,
            pool: e.pool,
            is_async: u32::from(e.flags) & uapi::FLEXSC_ENTRY_ASYNC != 0,
            is_valid: is_known && (e.pool == 0 || self.has_pool(e.pool)),
            is_cancelled,
        }
    }

    /// Decides who executes entry `index`, which the caller has copied to `e`, and executes it if
    /// that is the current task.
    #[inline(always)]
    pub(super) fn execute(&self, frame: &Frame, index: u32, e: &Entry, start: Start) -> Outcome {
        let facts = Lookup { batch: self, index };
        let request = self.request(index, e);
        match dispatch::decide(&request, self.role.get(), start, &facts) {
            Decision::Execute(class) => match self.execute_call(frame, index, e, class) {
                Ok(outcome) => outcome,
                Err(refusal) => self.after_refusal(index, e, (class, start), refusal),
            },
            Decision::Try(class) => self.try_call(frame, index, e, class),
            Decision::Offload(pool) => Outcome::Offload(pool),
            Decision::OffloadSlow => Outcome::OffloadByChance,
            Decision::Leave => {
                self.pages.note_left(self.page.get(), index);
                Outcome::OffloadByChance
            }
            Decision::Return => Outcome::Return,
            Decision::Refuse(why) => Outcome::Done(verdict::refused(why)),
        }
    }

    /// Returns the outcome of an entry whose call, of this class and begun like this, the kernel has
    /// refused.
    #[cold]
    pub(super) fn after_refusal(
        &self,
        index: u32,
        e: &Entry,
        begun: (Class, Start),
        refusal: Refusal,
    ) -> Outcome {
        let facts = Lookup { batch: self, index };
        let (request, role, why) = (self.request(index, e), self.role.get(), refusal.into());
        if dispatch::returns_to_owner(&request, begun, role, why, &facts) {
            Outcome::Return
        } else {
            Outcome::Done(verdict::refused(why))
        }
    }

    /// Executes a call of `class` until it has a result, or until a signal ends it here. A call that
    /// may not be left stays here.
    #[inline(always)]
    fn execute_call(
        &self,
        frame: &Frame,
        index: u32,
        e: &Entry,
        class: Class,
    ) -> Result<Outcome, Refusal> {
        // No other task can make it.
        let stays = class == Class::OwnThread;
        let before = stays && frame.set_may_leave(false);
        let outcome = self.call_until_done(frame, index, e, class);
        if stays {
            frame.set_may_leave(before);
        }
        outcome
    }

    /// See [`Self::execute_call`].
    #[inline(always)]
    fn call_until_done(
        &self,
        frame: &Frame,
        index: u32,
        e: &Entry,
        class: Class,
    ) -> Result<Outcome, Refusal> {
        let mut nr = e.nr;
        frame.take_left();
        loop {
            frame.set_args(&e.args);
            if self.traced {
                invoke::trace_invoke(self.pages.owner(), nr, self.number(index));
            }
            let result = match self.make_call(frame, index, nr) {
                Ok(result) => result,
                // The call has begun: it ends because the rest is not allowed.
                Err(Refusal::Guarded) if nr != e.nr => {
                    return Ok(Outcome::Done(verdict::interrupted()));
                }
                Err(refusal) => return Err(refusal),
            };
            if frame.has_left(result) {
                self.pages.note_left(self.page.get(), index);
                return Ok(Outcome::OffloadByChance);
            }
            if !verdict::is_interrupted(result) {
                return Ok(Outcome::Done((result, NONE)));
            }
            if let Some(outcome) = self.after_signal(frame, index, class) {
                return Ok(outcome);
            }
            if result == verdict::RESTART_BLOCK {
                nr = NR_RESTART_SYSCALL;
            }
        }
    }

    /// As the owner, executes a call of `class` if it need not wait.
    fn try_call(&self, frame: &Frame, index: u32, e: &Entry, class: Class) -> Outcome {
        frame.set_args(&e.args);
        let result = match self.call_kernel(index, || frame.try_call(e.nr)) {
            Tried::Made(result) => result,
            Tried::Waits | Tried::Not => return Outcome::Wait,
            Tried::Refused(why) => return Outcome::Done(verdict::refused(why.into())),
        };
        if self.traced {
            invoke::trace_invoke(self.pages.owner(), e.nr, self.number(index));
        }
        if verdict::is_interrupted(result) {
            if let Some(outcome) = self.after_signal(frame, index, class) {
                return outcome;
            }
        }
        Outcome::Done((result, NONE))
    }

    /// Returns the outcome of an entry whose call a signal has interrupted, or `None` if the call
    /// must be restarted.
    ///
    /// A thread has no handler to run and no user code to return to: it stops, freezes or dies with
    /// the process, or else restarts the call as after a signal without a handler. Each restart
    /// consumes a pending signal, so only a sender of signals can keep this loop going.
    #[cold]
    pub(super) fn after_signal(&self, frame: &Frame, index: u32, class: Class) -> Option<Outcome> {
        let interrupted = Outcome::Done(verdict::interrupted());
        let Some(thread) = frame.thread() else {
            // The owner returns to its handler; the call continues in a syscall thread if it can.
            let ends = class == Class::OwnThread || self.is_cancelled(index);
            return Some(if ends {
                interrupted
            } else {
                Outcome::OffloadByChance
            });
        };
        if thread.signal() {
            self.set_dying();
            return Some(interrupted);
        }
        (self.must_stop() || self.is_cancelled(index)).then_some(interrupted)
    }

    /// Writes the result of an entry.
    pub(super) fn complete(&self, index: u32, nr: u16, (result, reason): Verdict) {
        if verdict::is_refusal(reason) {
            self.results.add_refused(index);
        }
        let entry = self.pages.area().entry(self.page.get(), index);
        entry.put_result(result, reason as u8);
        if self.traced {
            invoke::trace_complete(nr, self.number(index), result);
        }
    }
}
