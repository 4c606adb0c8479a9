// SPDX-License-Identifier: GPL-2.0

//! Calls that wait for their file without a thread. The owner parks a call; the task that
//! continues it executes it on the file that was kept with it.

use super::{
    entry::Outcome,
    is_interrupted,
    verdict::{self, refused, NONE},
    Batch, End,
};
use crate::{
    dispatch::{Start, Why},
    policy::{self, Class},
    sys::{
        area::Entry,
        invoke::{self, Frame, Tried},
        park::{Armed, Parked},
    },
};

/// How often a call is parked again because its file was not ready after all. After that, a
/// thread waits in the call.
const MOST_IN_VAIN: u32 = 128;

/// How often poll() may report that a call need not wait while a try finds that it must, and sends
/// nothing. The two may disagree for a socket that was shut down. After that, a plain call decides.
const ATTEMPTS: u32 = 2;

/// The call of a kept entry.
struct Call {
    index: u32,
    nr: u16,
    args: [u64; 6],
    parked: Parked,
}

impl Call {
    fn new(index: u32, parked: Parked) -> Self {
        let (nr, args) = parked.call();
        Call {
            index,
            nr,
            args,
            parked,
        }
    }

    fn class(&self) -> Class {
        policy::classify(self.nr, &self.args)
    }

    /// Returns the call as a single entry without flags.
    fn entry(&self) -> Entry {
        Entry {
            nr: self.nr,
            flags: 0,
            pool: 0,
            take: [0; 2],
            args: self.args,
        }
    }
}

impl Batch<'_> {
    /// As the owner, parks the call of entry `index`, which was copied to `e` and would wait for its
    /// file. A syscall thread executes it if that is impossible.
    #[inline(never)]
    pub(super) fn park_or_offload(&self, frame: &Frame, index: u32, e: &Entry) {
        // The program's memory is read here, and in `arm`, which may sleep.
        let page = self.page.get();
        match self.call_kernel(index, || {
            self.pages.prepare_to_park(page, index, e.nr, &e.args)
        }) {
            Some(parked) => self.park(frame, Call::new(index, parked)),
            None => self.offload_to(0, 1 << index, 0),
        }
    }

    /// Makes a call that was kept, if it need not wait.
    fn make(&self, frame: &Frame, call: &Call) -> Outcome {
        if self.is_owner() {
            self.try_kept(frame, call)
        } else {
            self.make_kept(frame, call)
        }
    }

    /// Makes a call wait for its file, or executes it if it need not wait.
    fn park(&self, frame: &Frame, mut call: Call) {
        let mut attempts = 0;
        while attempts < ATTEMPTS {
            let armed = self.call_kernel(call.index, || call.parked.arm());
            if armed == Armed::Not {
                break;
            }
            // Events from before the call was queued wake no task.
            let outcome = self.make(frame, &call);
            let advances = call.parked.advances();
            match outcome {
                Outcome::Wait if armed == Armed::Waits => return self.leave_parked(call),
                Outcome::Wait => attempts += u32::from(!advances),
                outcome => return self.end_call(call, outcome),
            }
        }
        self.end_call(call, Outcome::Offload(0));
    }

    /// Hands a call that waits for its file over to the registration.
    fn leave_parked(&self, mut call: Call) {
        let index = call.index;
        if self.traced {
            invoke::trace_park(self.pages.owner(), call.nr, self.number(index));
        }
        // Once the call is parked, other tasks may take the entry.
        self.entries.give_up(1 << index);
        match self.pages.park(self.page.get(), index, call.parked) {
            Ok(()) => return,
            Err(parked) => call.parked = parked,
        }
        self.entries.own(1 << index);
        let outcome = if self.is_cancelled(index) {
            Outcome::Done(refused(Why::Cancelled))
        } else {
            Outcome::Offload(0)
        };
        self.end_call(call, outcome);
    }

    /// As the owner, executes a kept call if it need not wait.
    fn try_kept(&self, frame: &Frame, call: &Call) -> Outcome {
        frame.set_args(&call.args);
        let result = match self.call_kernel(call.index, || frame.try_parked(&call.parked)) {
            Tried::Made(result) => result,
            Tried::Waits => return Outcome::Wait,
            Tried::Not => return Outcome::Offload(0),
            Tried::Refused(why) => return Outcome::Done(refused(why.into())),
        };
        if self.traced {
            invoke::trace_invoke(self.pages.owner(), call.nr, self.number(call.index));
        }
        if verdict::is_interrupted(result) {
            if let Some(outcome) = self.after_signal(frame, call.index, call.class()) {
                return outcome;
            }
        }
        Outcome::Done((result, NONE))
    }

    /// Makes, as a syscall thread, a call that was kept. The call waits in the thread like any
    /// other, unless the outcome is that it waits for its file again.
    fn make_kept(&self, frame: &Frame, call: &Call) -> Outcome {
        self.publish();
        loop {
            frame.set_args(&call.args);
            if self.traced {
                invoke::trace_invoke(self.pages.owner(), call.nr, self.number(call.index));
            }
            let result = self.call_kernel(call.index, || {
                frame.invoke_parked(self.pages.owner(), &call.parked)
            });
            match result {
                Err(why) => {
                    let begun = (call.class(), Start::First);
                    return self.after_refusal(call.index, &call.entry(), begun, why);
                }
                Ok(None) => return Outcome::Wait,
                Ok(Some(result)) if !verdict::is_interrupted(result) => {
                    return Outcome::Done((result, NONE))
                }
                Ok(_) => {
                    if let Some(outcome) = self.after_signal(frame, call.index, call.class()) {
                        return outcome;
                    }
                }
            }
        }
    }

    /// Acts on the outcome of a kept call.
    fn end_call(&self, mut call: Call, outcome: Outcome) {
        let (page, index) = (self.page.get(), call.index);
        // The call stops waiting for its file, whether another task continues it or none does.
        call.parked.unhook();
        let (pool, by_chance) = match outcome {
            Outcome::Done(mut verdict) => {
                // The program would make a refused call again, from the beginning.
                if verdict::is_failure(verdict.0) && call.parked.has_begun() {
                    verdict = (call.parked.cancel(), NONE);
                }
                if !verdict::is_refusal(verdict.1) {
                    call.parked.set_result(verdict.0);
                }
                // This may close the file, which may take a long time, as at the end of any call.
                self.with_hook(index, || drop(call.parked));
                return self.complete(index, call.nr, verdict);
            }
            Outcome::Return => {
                self.pages.keep(page, index, call.parked);
                return self.give_back(1 << index);
            }
            Outcome::OffloadByChance => (0, 1 << index),
            Outcome::Offload(pool) => (pool, 0),
            Outcome::Wait => (0, 0),
        };
        self.pages.keep(page, index, call.parked);
        self.offload_to(pool, 1 << index, by_chance);
    }

    /// Continues entry `index`, whose call was kept.
    fn go_on(&self, frame: &Frame, index: u32) {
        let Some(mut parked) = self.pages.take_kept(self.page.get(), index) else {
            // The process or the engine is ending.
            return self.complete(index, 0, verdict::interrupted());
        };
        parked.unhook();
        let mut call = Call::new(index, parked);
        let outcome = if self.is_cancelled(index) {
            Outcome::Done(refused(Why::Cancelled))
        } else if self.files_slow.get() {
            Outcome::OffloadByChance
        } else {
            self.make(frame, &call)
        };
        match outcome {
            Outcome::Wait if call.parked.count_in_vain() > MOST_IN_VAIN && self.is_owner() => {
                self.end_call(call, Outcome::Offload(0));
            }
            Outcome::Wait => self.park(frame, call),
            outcome => self.end_call(call, outcome),
        }
    }

    /// Continues the entries `kept` of the page, which the batch owns. Returns why the batch must
    /// end, if it must.
    #[inline(never)]
    pub(super) fn execute_kept(&self, frame: &Frame, kept: u64) -> Option<End> {
        self.entries.set_first(0);
        loop {
            // Entries that went to other threads in the meantime are no longer unstarted.
            let todo = kept & self.entries.unstarted();
            if todo == 0 {
                break;
            }
            let bit = 1 << todo.trailing_zeros();
            self.entries.start(bit);
            self.entries.in_chain.set(bit);
            self.go_on(frame, todo.trailing_zeros());
            self.entries.in_chain.set(0);
            if let Some(end) = self.pause() {
                return Some(end);
            }
        }
        self.publish_except(0);
        None
    }

    /// As the owner, executes the entries whose files have become ready.
    #[cold]
    pub(super) fn execute_ready(&self, frame: &Frame) -> End {
        // Once for each page: entries that become ready later wait for the next check.
        for _ in 0..self.pages.len() {
            let Some((page, bits)) = self.pages.take_ready() else {
                break;
            };
            let end = self.execute_page(frame, page, bits, false);
            if is_interrupted(end) {
                return End::Signal;
            }
        }
        End::Complete
    }
}
