// SPDX-License-Identifier: MIT OR Apache-2.0
//! Waiting for operations of a ring, both posted ones and plain calls.

use std::os::fd::{AsFd, AsRawFd};
use std::time::{Duration, Instant};

use nix::errno::Errno;

use super::{Done, Ring};
use crate::sys::poll::{self, Readiness};
use crate::{Error, Wait};

/// How long the ring ignores an engine whose descriptor is readable because of other
/// threads' results.
const FOREIGN_PAUSE: Duration = Duration::from_millis(1);

/// While plain calls and posted calls are in flight, how often the ring asks the kernel
/// whether a syscall thread is missing: the kernel reports that only to a wait that sleeps.
const STARVED_CHECK: Duration = Duration::from_millis(20);

/// The longest sleep while plain calls are in flight: a seccomp filter may prevent a helper
/// from signalling its result.
const LONGEST_SLEEP: Duration = Duration::from_secs(1);

/// The state of one wait.
struct WaitState {
    wait: Wait,
    /// The deadline.
    end: Option<Instant>,
    /// The end of the linger time.
    linger: Option<Instant>,
    /// True if the engine's descriptor was readable because of other threads' results.
    foreign_results: bool,
    /// True if the last poll found nothing.
    idle: bool,
}

impl WaitState {
    /// Returns how long to sleep at most; zero if the time has come. At `until`, the ring has
    /// something to do.
    fn remaining(&self, until: Option<Instant>) -> Option<Duration> {
        let until = [self.end, self.linger, until].into_iter().flatten().min();
        until.map(|until| until.saturating_duration_since(Instant::now()))
    }

    /// The same while plain calls are in flight, and possibly posted calls.
    fn remaining_with_helpers(&self, posted: bool, until: Option<Instant>) -> Duration {
        let most = match posted {
            true if self.foreign_results => FOREIGN_PAUSE,
            true => STARVED_CHECK,
            false => LONGEST_SLEEP,
        };
        self.remaining(until).map_or(most, |time| time.min(most))
    }
}

impl Ring {
    /// Starts the submitted operations and waits. Returns how many results can be taken.
    ///
    /// While plain calls are in flight, [`Wait::adaptive`] acts like [`Wait::any`].
    ///
    /// # Errors
    ///
    /// Those of [`Pages::wait`](crate::Pages::wait).
    pub fn wait(&mut self, wait: Wait) -> Result<usize, Error> {
        if !self.in_same_process() {
            return Err(Error::NotTheOwner);
        }
        self.post();
        let mut state = WaitState {
            wait,
            end: wait.end(),
            linger: None,
            foreign_results: false,
            idle: false,
        };
        let mut entered = false;
        loop {
            self.absorb();
            self.expire()?;
            if let Some(result) = self.outcome(&mut state, entered) {
                return result;
            }
            let waited = if self.helpers.outstanding() == 0 {
                self.wait_for_engine(&mut state)
            } else {
                self.wait_for_both(&mut state, entered)
            };
            if let Err(error) = waited {
                self.absorb();
                if matches!(error, Error::Filtered { .. }) {
                    self.closed = Some(error.clone());
                }
                return Err(error);
            }
            entered = true;
        }
    }

    /// Returns the result of the wait if it is over. A wait always lets the kernel execute
    /// posted calls, so it is not over before it has `entered` the kernel, unless a filter
    /// forbids that.
    fn outcome(&self, state: &mut WaitState, entered: bool) -> Option<Result<usize, Error>> {
        let (there, left) = (self.ready.len(), self.unfinished());
        let now = Instant::now();
        if there > 0 && state.linger.is_none() {
            state.linger = state.wait.linger_end(now);
        }
        if left > 0 && !entered && self.closed.is_none() {
            return None;
        }
        if state.wait.satisfied(there, left == 0) {
            return Some(Ok(there));
        }
        if !state.wait.possible(there + left) {
            return Some(Err(Error::NothingToWaitFor));
        }
        if there > 0 && state.linger.is_some_and(|end| end <= now || left == 0) {
            return Some(Ok(there));
        }
        if state.end.is_some_and(|end| end <= now) {
            return Some(Err(Error::TimedOut));
        }
        None
    }

    /// Waits if all operations in flight are in pages.
    fn wait_for_engine(&mut self, state: &mut WaitState) -> Result<(), Error> {
        if let Some(error) = &self.closed {
            return Err(error.clone());
        }
        state.foreign_results = false;
        let there = self.ready.len();
        let mut wait = state.wait.less(there);
        if state.linger.is_some() && !wait.satisfied(0, false) {
            // The kernel would count the linger time from the next result.
            wait = Wait::any();
        }
        if !wait.possible(self.posted) {
            wait = Wait::none();
        }
        let wait = wait.within(state.remaining(self.deadlines.next()));
        let Some(pages) = &mut self.pages else {
            return Ok(());
        };
        match pages.wait(wait) {
            Ok(_) => {
                if self.absorb() && there == 0 {
                    // The kernel has already waited for the linger time.
                    state.linger = state
                        .wait
                        .linger_end(Instant::now())
                        .map(|_| Instant::now());
                }
                Ok(())
            }
            // The caller checks the deadline next.
            Err(Error::TimedOut) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Waits if plain calls are in flight, and possibly posted calls. Does not sleep the
    /// first time, since the results that exist already may be enough.
    fn wait_for_both(&mut self, state: &mut WaitState, entered: bool) -> Result<(), Error> {
        if self.posted > 0 && self.closed.is_none() {
            if let Some(pages) = &mut self.pages {
                let wait = if state.idle {
                    Wait::any().timeout(FOREIGN_PAUSE)
                } else {
                    Wait::none()
                };
                match pages.wait(wait) {
                    Ok(_) | Err(Error::TimedOut | Error::NothingToWaitFor) => {}
                    Err(error) => return Err(error),
                }
            }
        }
        self.helpers.make_ready();
        if self.absorb() {
            state.foreign_results = false;
            return Ok(());
        }
        if !entered {
            return Ok(());
        }
        let mut fds = self.helpers.wanted();
        let engine = self.pages.as_ref().filter(|_| self.posted > 0);
        if let Some(pages) = engine.filter(|_| !state.foreign_results) {
            let fd = pages.as_fd().as_raw_fd();
            fds.push(poll::wanted(fd, Readiness::Readable));
        }
        let until = [self.helpers.until(), self.deadlines.next()];
        let until = until.into_iter().flatten().min();
        let time = state.remaining_with_helpers(self.posted > 0, until);
        match poll::poll(&mut fds, Some(time)) {
            Ok(ready) => {
                state.idle = ready == 0;
                let signalled = fds[..fds.len() - 1].iter().any(|fd| fd.revents != 0);
                let last = fds.last().is_some_and(|fd| fd.revents != 0);
                let looked = engine.is_some() && !state.foreign_results;
                state.foreign_results = looked && last && !signalled && !self.absorb();
                Ok(())
            }
            Err(Errno::EINTR) => Err(Error::Interrupted),
            Err(errno) => Err(Error::other("poll", errno)),
        }
    }

    /// Takes the next result, if there is one. Makes no trap, except to start calls that no
    /// poller has started, and while plain calls are in flight.
    #[expect(
        clippy::should_implement_trait,
        reason = "more may come after None, and a loop over it would keep the ring borrowed"
    )]
    pub fn next(&mut self) -> Option<Done> {
        if !self.in_same_process() {
            return None;
        }
        if self.ready.is_empty() {
            self.absorb();
        }
        if self.ready.is_empty() {
            self.make_progress();
        }
        self.take_done()
    }

    /// Lets started operations make progress without a wait.
    fn make_progress(&mut self) {
        if self.posted > 0 {
            if let Some(pages) = self.pages.as_ref().filter(|pages| pages.needs_kick()) {
                // The next wait reports the same error.
                let _ = pages.kick();
            }
        }
        if self.helpers.outstanding() > 0 {
            self.helpers.make_ready();
            self.absorb();
        }
        // The next wait reports the same error.
        let _ = self.expire();
    }

    /// Takes the next result, and waits for it if necessary. Returns `None` if nothing is
    /// in flight.
    ///
    /// # Errors
    ///
    /// Those of [`Pages::wait`](crate::Pages::wait), except that a signal does not end the
    /// wait.
    pub fn next_or_wait(&mut self) -> Result<Option<Done>, Error> {
        if !self.in_same_process() {
            return Err(Error::NotTheOwner);
        }
        loop {
            if let Some(done) = self.next() {
                return Ok(Some(done));
            }
            if self.in_flight() == 0 {
                return Ok(None);
            }
            match self.wait(Wait::any()) {
                Ok(_) | Err(Error::Interrupted) => {}
                Err(error) => return Err(error),
            }
        }
    }
}
