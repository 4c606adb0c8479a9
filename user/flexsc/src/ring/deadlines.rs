// SPDX-License-Identifier: MIT OR Apache-2.0
//! Time limits of single operations: when one is over, the ring cancels the operation.

#![expect(unsafe_code, reason = "a job without a call")]

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use super::job::{Answer, Job};
use super::{Flight, Ring};
use crate::Error;

/// How long after a cancellation that has found no call the next one follows: the kernel had
/// not yet accepted the call.
const AGAIN: Duration = Duration::from_millis(1);

/// The deadlines of the operations in flight.
#[derive(Debug, Default)]
pub(super) struct Deadlines {
    /// Each with the index of its flight.
    all: BTreeSet<(Instant, u32)>,
    /// When a helper makes the ring's descriptor readable, if one does.
    alarm: Option<Instant>,
}

impl Deadlines {
    /// Returns the first one.
    pub(super) fn next(&self) -> Option<Instant> {
        self.all.first().map(|&(time, _)| time)
    }

    /// Forgets the deadline of a flight.
    pub(super) fn forget(&mut self, until: Instant, index: u32) {
        self.all.remove(&(until, index));
    }

    /// The helper of the alarm has ended.
    pub(super) fn alarm_is_over(&mut self) {
        self.alarm = None;
    }
}

impl Flight {
    /// Puts ETIMEDOUT in place of the results of a cancellation if this was the ring's because
    /// of the time limit.
    pub(super) fn name_timeout(&self, answer: &mut Answer) {
        const TIMED_OUT: i64 = -(libc::ETIMEDOUT as i64);
        const EINTR: i64 = -(libc::EINTR as i64);
        const ECANCELED: i64 = -(libc::ECANCELED as i64);
        if !self.expired {
            return;
        }
        if matches!(answer.result, EINTR | ECANCELED) {
            answer.result = TIMED_OUT;
        }
        for (result, _) in &mut answer.chain {
            if *result == EINTR {
                *result = TIMED_OUT;
            }
        }
    }
}

impl Ring {
    /// Starts the time of a flight, if it has a limit.
    #[inline]
    pub(super) fn start_time(&mut self, index: u32, limit: Option<Duration>) {
        let Some(until) = limit.and_then(|limit| Instant::now().checked_add(limit)) else {
            return;
        };
        self.set_deadline(index, until);
        if self.descriptor.watched.get() {
            self.set_alarm();
        }
    }

    fn set_deadline(&mut self, index: u32, until: Instant) {
        if let Some(flight) = &mut self.flights[index as usize] {
            flight.deadline = Some(until);
            self.deadlines.all.insert((until, index));
        }
    }

    /// A flight whose time is over goes to a helper: cancels it there, too.
    pub(super) fn expire_again(&mut self, index: u32) {
        let flight = self.flights[index as usize].as_ref();
        if flight.is_some_and(|flight| flight.expired) {
            self.set_deadline(index, Instant::now());
        }
    }

    /// Cancels the operations whose time is over.
    pub(super) fn expire(&mut self) -> Result<(), Error> {
        if self.deadlines.all.is_empty() {
            return Ok(());
        }
        let now = Instant::now();
        while let Some(&(until, index)) = self.deadlines.all.first() {
            if until > now {
                break;
            }
            self.deadlines.all.pop_first();
            let Some(flight) = &mut self.flights[index as usize] else {
                continue;
            };
            flight.deadline = None;
            flight.expired = true;
            let at = flight.at;
            if !self.cancel_flight(index, at)? {
                self.set_deadline(index, now + AGAIN);
            }
        }
        if self.descriptor.watched.get() {
            self.set_alarm();
        }
        Ok(())
    }

    /// Makes a helper signal the ring's descriptor at the first deadline, for programs that
    /// wait for the descriptor.
    pub(super) fn set_alarm(&mut self) {
        let Some(next) = self.deadlines.next() else {
            return;
        };
        match self.deadlines.alarm {
            Some(alarm) if alarm <= next => return,
            // The next one follows when the helper has ended.
            Some(_) => {
                self.stop_alarm();
                return;
            }
            None => self.deadlines.alarm = Some(next),
        }
        // SAFETY: the job makes no call.
        unsafe { self.helpers.push(Job::alarm(next)) };
        self.helpers.begin();
    }

    pub(super) fn stop_alarm(&mut self) {
        if self.deadlines.alarm.is_some() {
            self.helpers.cancel(Job::ALARM);
        }
    }
}
