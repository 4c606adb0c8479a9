// SPDX-License-Identifier: MIT OR Apache-2.0
//! Results of a ring's operations, and plain calls in place of refused ones.

#![expect(unsafe_code, reason = "says that a result is an operation's own")]

use super::job::{Answer, Job};
use super::{At, Done, Flight, Ring};
use crate::ops::Operation;
use crate::ops::private::{Calls, End};
use crate::sys::plain;
use crate::{Completion, Pages, Reason, call, fallback};

impl Ring {
    /// Moves all available results to `ready`, and starts plain calls in place of refused
    /// ones. Returns true if there are new results.
    pub(super) fn absorb(&mut self) -> bool {
        let before = self.ready.len();
        if self.descriptor.watched.get() && before == 0 {
            self.helpers.clear();
        }
        while let Some(done) = self.pages.as_mut().and_then(Pages::poll) {
            self.posted -= 1;
            self.answered(done);
        }
        self.helpers.begin();
        for (index, answer) in self.helpers.take() {
            if index == Job::ALARM {
                self.deadlines.alarm_is_over();
            } else {
                self.finish(index, answer);
            }
        }
        self.show();
        self.ready.len() > before
    }

    /// Notes the kernel's answer to a posted call.
    fn answered(&mut self, done: Completion) {
        let index = self.by_slot[done.slot.index()];
        let flight = self.flights[index as usize].as_mut();
        let flight = flight.expect("it is in flight until its results are there");
        let mut first = (done.result, done.reason);
        if let (Calls::Chain(_), At::Posted(slots)) = (&flight.prepared.calls, flight.at) {
            if let Some(nth) = slots.position(done.slot) {
                flight.results[nth] = Some(first);
            }
            // The kernel must execute none of its calls any more when the chain is made plainly.
            if flight.results.contains(&None) {
                return;
            }
            first = flight.results[0].unwrap_or(first);
        }
        let (result, reason) = first;
        self.refusing = fallback::applies(result, reason);
        if self.refusing {
            flight.reason = reason;
            self.push(index, reason == Reason::Thread);
            return;
        }
        let executed = |answer: &Option<(i64, Reason)>| {
            let (result, reason) = answer.unwrap_or((0, Reason::None));
            (result, matches!(reason, Reason::None | Reason::Bound))
        };
        let chain = flight.results.iter().map(executed).collect();
        self.finish(index, Answer::new(result, reason).with_chain(chain));
    }

    /// Makes the descriptor readable if there are results and the program polls it.
    pub(super) fn show(&self) {
        if self.descriptor.watched.get() && !self.ready.is_empty() {
            self.helpers.signal();
        }
    }

    /// Finishes a flight, which stays where it is until it is taken.
    pub(super) fn finish(&mut self, index: u32, mut answer: Answer) {
        let flight = self.flights[index as usize].as_mut();
        let flight = flight.expect("there is one for each call in flight");
        if let Some(until) = flight.deadline.take() {
            self.deadlines.forget(until, index);
        }
        flight.name_timeout(&mut answer);
        if let Calls::Chain(chain) = &flight.prepared.calls {
            self.linked -= chain.len() - 1;
        }
        flight.end(answer);
        self.ready.push_back(index);
    }

    /// Takes the next operation that has ended.
    pub(super) fn take_done(&mut self) -> Option<Done> {
        let index = self.ready.pop_front()?;
        self.held += 1;
        Some(self.take_held(index))
    }

    /// Returns the token and the index of the next operation that has ended, which the caller
    /// takes later. It no longer counts as in flight.
    #[inline]
    pub(crate) fn hold_ready(&mut self) -> Option<(u64, u32)> {
        let index = self.ready.pop_front()?;
        self.held += 1;
        let flight = self.flights[index as usize].as_ref();
        Some((flight.expect("it has ended").token, index))
    }

    /// Takes an operation of [`hold_ready`](Self::hold_ready).
    pub(crate) fn take_held(&mut self, index: u32) -> Done {
        let flight = self.flights[index as usize].take();
        self.let_go(index);
        flight.expect("it has ended").into_done()
    }

    /// As [`take_held`](Self::take_held), if it is an operation of this type. Moves less.
    pub(crate) fn take_output<O: Operation>(&mut self, index: u32) -> (O, End) {
        let flight = self.flights[index as usize].as_mut();
        let flight = flight.expect("it has ended");
        let operation = flight.kept.take_out::<O>();
        let end = flight.end.take().expect("it has ended");
        self.flights[index as usize] = None;
        self.let_go(index);
        (operation, end)
    }

    #[inline]
    fn let_go(&mut self, index: u32) {
        self.held -= 1;
        self.free.push(index);
    }
}

impl Flight {
    /// Notes how it has ended.
    fn end(&mut self, answer: Answer) {
        let made = answer.reason == Reason::None;
        let mut fd = answer.fd;
        if let Calls::Chain(_) = &self.prepared.calls {
            let ends = (answer.chain.first(), answer.chain.last());
            if let (true, (Some((opened, true)), Some((_, false)))) = (self.prepared.opens, ends) {
                // SAFETY: the chain has opened the descriptor, and not closed it.
                drop(unsafe { plain::own(*opened) });
            }
        } else if self.prepared.opens && made && fd.is_none() {
            // SAFETY: the call has opened the descriptor for this operation.
            fd = unsafe { plain::own(answer.result) };
        }
        if !made {
            self.reason = answer.reason;
        }
        // SAFETY: they are the results of the flight's own calls.
        let end = unsafe { End::with(answer.result, made, fd, answer.chain) };
        self.kept.settle(self.end.insert(end));
        self.at = At::Ended;
    }

    fn into_done(self) -> Done {
        let Flight {
            token,
            mut kept,
            prepared,
            reason,
            end,
            ..
        } = self;
        let end = end.expect("it has ended");
        let result = match end.number() {
            number if prepared.opens => number.min(0),
            number => number,
        };
        Done {
            token,
            result: call::to_io(result).map(|number| number as usize),
            reason,
            buf: kept.take_vec(),
            kept,
            end,
        }
    }
}
