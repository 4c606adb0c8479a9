// SPDX-License-Identifier: MIT OR Apache-2.0
//! One operation of a ring that is made by plain calls, and its answer.

#![expect(unsafe_code, reason = "system calls by number")]

use std::os::fd::{OwnedFd, RawFd};
use std::time::Instant;

use crate::call::Reason;
use crate::fallback;
use crate::ops::private::{Calls, Limit, Prepared};
use crate::sys::plain;
use crate::sys::poll::{self, Readiness};

const ECANCELED: i64 = -(libc::ECANCELED as i64);

/// Calls to make, in this order.
#[derive(Debug)]
pub(super) struct Job {
    /// The flight that gets the result.
    pub(super) flight: u32,
    calls: Calls,
    /// The file that the calls wait for.
    fd: RawFd,
    readiness: Readiness,
    /// When the calls stop waiting.
    pub(super) until: Option<Instant>,
    /// True if the result is a descriptor.
    opens: bool,
}

impl Job {
    pub(super) fn new(flight: u32, prepared: &Prepared) -> Self {
        let Prepared { limit, .. } = *prepared;
        Job {
            flight,
            calls: match prepared.plain {
                Some(call) => Calls::One(call),
                None => prepared.calls.clone(),
            },
            fd: prepared.fd,
            readiness: prepared.readiness,
            until: limit.and_then(|limit| match limit {
                Limit::For(time) => Instant::now().checked_add(time),
                Limit::Until(until) => Some(until),
            }),
            opens: prepared.opens,
        }
    }

    /// The flight of an alarm, which is none.
    pub(super) const ALARM: u32 = u32::MAX;

    /// A job that makes no call and ends at this time.
    pub(super) fn alarm(until: Instant) -> Self {
        Job {
            flight: Job::ALARM,
            calls: Calls::One(crate::calls::getpid()),
            fd: -1,
            readiness: Readiness::Never,
            until: Some(until),
            opens: false,
        }
    }

    /// Returns true if the calls would not wait.
    pub(super) fn is_ready(&self) -> bool {
        self.is_late() || poll::is_ready(self.fd, self.readiness)
    }

    fn is_late(&self) -> bool {
        self.until.is_some_and(|until| until <= Instant::now())
    }

    /// Makes the calls. Returns `None` if the call has found no event before its time,
    /// because another thread was faster. The call must then wait again.
    pub(super) fn attempt(&self) -> Option<Answer> {
        if self.flight == Job::ALARM {
            return Some(Answer::cancelled());
        }
        let last = self.is_late() || !matches!(self.readiness, Readiness::Events(_));
        let answer = self.make();
        (last || answer.result != 0).then_some(answer)
    }

    /// The file to poll before the calls are made.
    pub(super) fn wanted(&self) -> libc::pollfd {
        poll::wanted(self.fd, self.readiness)
    }

    /// Makes the calls.
    fn make(&self) -> Answer {
        let chain = match &self.calls {
            Calls::One(call) => {
                // SAFETY: by the invariant of `Helpers` it is valid until its answer is
                // taken, and there is no answer yet.
                let result = unsafe { fallback::make(call) };
                let answer = Answer::new(result, Reason::None);
                if !self.opens {
                    return answer;
                }
                // Owned from here on, so that it is closed if nobody takes the answer.
                // SAFETY: the call has just made the descriptor.
                let fd = unsafe { plain::own(result) };
                return Answer { fd, ..answer };
            }
            Calls::Chain(chain) => chain,
        };
        let mut results = vec![0; chain.len()];
        // SAFETY: as above, for each call.
        let made = unsafe { chain.make(&mut results, 1) };
        if made.is_err() {
            return Answer::new(-i64::from(libc::EINVAL), Reason::Entry);
        }
        let made = results.iter().map(|&result| (result, result != ECANCELED));
        Answer::new(results[0], Reason::None).with_chain(made.collect())
    }
}

/// The answer of calls that were made or cancelled.
#[derive(Debug)]
pub(super) struct Answer {
    /// The result; for a chain, that of its first call.
    pub(super) result: i64,
    /// Why no call was made, if none was.
    pub(super) reason: Reason,
    /// The descriptor that was opened.
    pub(super) fd: Option<OwnedFd>,
    /// The results of a chain, each with whether the call was made.
    pub(super) chain: Vec<(i64, bool)>,
}

impl Answer {
    pub(super) fn new(result: i64, reason: Reason) -> Self {
        Answer {
            result,
            reason,
            fd: None,
            chain: Vec::new(),
        }
    }

    /// No call was started.
    pub(super) fn cancelled() -> Self {
        Answer::new(ECANCELED, Reason::Cancelled)
    }

    pub(super) fn with_chain(self, chain: Vec<(i64, bool)>) -> Self {
        Answer { chain, ..self }
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsRawFd;
    use std::os::unix::net::UnixStream;
    use std::time::Duration;

    use super::*;
    use crate::Fd;
    use crate::ops::Poll;
    use crate::ops::private::Sealed;

    #[test]
    fn a_call_that_has_found_no_event_waits_again() {
        let (near, far) = UnixStream::pair().unwrap();
        let (near, far) = (Fd::from(near), Fd::from(far));
        let mut for_ever_poll = Poll::new(&far, libc::POLLIN);
        let mut timed_poll = Poll::new(&far, libc::POLLIN).timeout(Duration::from_nanos(1));
        let for_ever = Job::new(0, &for_ever_poll.prepare());
        let timed = Job::new(1, &timed_poll.prepare());
        // As if another thread had taken the event.
        assert!(!for_ever.is_ready() && for_ever.attempt().is_none());
        std::thread::sleep(Duration::from_millis(1));
        assert!(timed.is_ready());
        assert_eq!(timed.attempt().map(|answer| answer.result), Some(0));
        // SAFETY: the byte is valid.
        let sent = unsafe { libc::write(near.as_raw_fd(), c"x".as_ptr().cast(), 1) };
        assert_eq!(sent, 1);
        assert!(for_ever.is_ready());
        assert_eq!(for_ever.attempt().map(|answer| answer.result), Some(1));
    }
}
