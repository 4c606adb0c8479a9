// SPDX-License-Identifier: MIT OR Apache-2.0
//! Plain calls with the concurrency of an engine: none of them holds up another, or delays
//! a wait with a timeout.
//!
//! Calls that start together form a burst. Helper threads make them: the owner starts the
//! first helper, each helper starts the next one before it enters a call that may block,
//! and all end with the burst. So there are never more helpers than calls in flight, and
//! each has the credentials, filters, files and namespaces that the owner had when it
//! started the burst. Idle threads would keep old ones.
//!
//! Before a call that may block, a helper polls the file; this is where the call can be
//! cancelled. If no helper can be started, the owner makes the calls itself while it waits,
//! as their files become ready.

use std::collections::VecDeque;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};
use std::{io, process};

use nix::errno::Errno;

use super::job::{Answer, Job};
use crate::call::Reason;
use crate::sys::guard::ForkGuard;
use crate::sys::poll::{self, EventFd, Readiness};

/// The owner's side.
///
/// # Invariants
///
/// The memory and the descriptor of a job are valid until its answer is taken. The caller
/// of [`Helpers::push`] has promised it.
#[derive(Debug)]
pub(super) struct Helpers {
    shared: Arc<Shared>,
    /// Jobs of the next burst.
    fresh: Vec<Job>,
    /// Jobs that only the owner may make.
    own: Vec<Job>,
    burst: u64,
    outstanding: usize,
    made: u64,
    guard: Option<ForkGuard>,
    pid: u32,
}

#[derive(Debug)]
struct Shared {
    /// Signalled when there are answers, or when no helper could be started.
    eventfd: EventFd,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Jobs that were not started, each with its burst.
    queue: VecDeque<(u64, Job)>,
    running: Vec<Running>,
    /// Each with its flight.
    answers: Vec<(u32, Answer)>,
    /// Bursts whose new helper has not yet started to work.
    starting: Vec<u64>,
    /// True if a helper could not be started, so that the owner makes the queued calls.
    short: bool,
    /// Maximum number of helpers.
    limit: usize,
}

impl State {
    /// Returns true if there may be one more helper.
    fn has_room(&self) -> bool {
        self.running.len() + self.starting.len() < self.limit
    }
}

/// A call that a helper is making.
#[derive(Debug)]
struct Running {
    flight: u32,
    cancelled: bool,
    /// Wakes the helper from its poll.
    eventfd: Option<Arc<EventFd>>,
}

/// The stack of a helper: most use a few hundred bytes.
const STACK: usize = 64 << 10;

/// How often a helper checks for cancellation if it has no eventfd.
const CANCEL_CHECK: Duration = Duration::from_millis(50);

const EINTR: i64 = -(libc::EINTR as i64);

impl Helpers {
    /// # Errors
    ///
    /// The errors of eventfd(2).
    pub(super) fn new() -> Result<Self, Errno> {
        Ok(Helpers {
            shared: Arc::new(Shared {
                eventfd: EventFd::new()?,
                state: Mutex::new(State {
                    limit: usize::MAX,
                    ..State::default()
                }),
            }),
            fresh: Vec::new(),
            own: Vec::new(),
            burst: 0,
            outstanding: 0,
            made: 0,
            guard: ForkGuard::new().ok(),
            pid: process::id(),
        })
    }

    /// Returns false in a forked child, in which no helper works and a lock may be held
    /// forever.
    #[inline]
    pub(super) fn in_same_process(&self) -> bool {
        match &self.guard {
            Some(guard) => guard.in_same_process(),
            None => self.pid == process::id(),
        }
    }

    /// Returns how many pushed calls have an answer that was not taken.
    pub(super) fn outstanding(&self) -> usize {
        self.outstanding
    }

    /// Sets the maximum number of helpers. With none, the owner makes all calls.
    pub(super) fn set_limit(&mut self, limit: usize) {
        self.shared.lock().limit = limit;
    }

    /// Returns how many calls were made.
    pub(super) fn made(&self) -> u64 {
        self.made
    }

    /// Readable while there may be answers, and after [`Helpers::signal`].
    pub(super) fn eventfd(&self) -> BorrowedFd<'_> {
        self.shared.eventfd.as_fd()
    }

    pub(super) fn signal(&self) {
        self.shared.eventfd.signal();
    }

    /// Undoes [`Helpers::signal`].
    pub(super) fn clear(&self) {
        self.shared.eventfd.clear();
    }

    /// Adds a call to the next burst.
    ///
    /// # Safety
    ///
    /// The call must be valid in any thread until its answer is taken.
    #[expect(unsafe_code, reason = "a promise about memory")]
    pub(super) unsafe fn push(&mut self, job: Job) {
        self.fresh.push(job);
        self.outstanding += 1;
    }

    /// Adds a call that the owner itself makes when its file is ready.
    ///
    /// # Safety
    ///
    /// The call must be valid until its answer is taken.
    #[expect(unsafe_code, reason = "a promise about memory")]
    pub(super) unsafe fn push_own(&mut self, job: Job) {
        self.own.push(job);
        self.outstanding += 1;
    }

    /// Starts the pushed calls.
    pub(super) fn begin(&mut self) {
        if self.fresh.is_empty() {
            return;
        }
        self.burst += 1;
        let burst = self.burst;
        // Without an alarm, a program that waits for the descriptor would miss its time.
        let needed = self.fresh.iter().any(|job| job.flight == Job::ALARM);
        let mut state = self.shared.lock();
        let jobs = self.fresh.drain(..).map(|job| (burst, job));
        state.queue.extend(jobs);
        if needed || state.has_room() {
            state.starting.push(burst);
            drop(state);
            start(&self.shared, burst);
        } else {
            state.short = true;
            self.shared.eventfd.signal();
        }
    }

    /// Makes the owner's calls whose files are ready.
    pub(super) fn make_ready(&mut self) {
        while let Some(at) = self.own.iter().position(Job::is_ready) {
            let job = self.own.swap_remove(at);
            if let Some(job) = self.make(job) {
                self.own.push(job);
            }
        }
        loop {
            // A helper may take the job first, so it is removed under the lock.
            let mut state = self.shared.lock();
            let ready = |(_, job): &(u64, Job)| job.is_ready();
            let at = state.queue.iter().position(ready).filter(|_| state.short);
            let Some((burst, job)) = at.and_then(|at| state.queue.remove(at)) else {
                return;
            };
            drop(state);
            if let Some(job) = self.make(job) {
                self.shared.lock().queue.push_back((burst, job));
            }
        }
    }

    /// Makes a call. Returns the job if it must wait again.
    fn make(&mut self, job: Job) -> Option<Job> {
        let Some(answer) = job.attempt() else {
            return Some(job);
        };
        self.shared.lock().answers.push((job.flight, answer));
        None
    }

    /// Takes all available answers.
    pub(super) fn take(&mut self) -> Vec<(u32, Answer)> {
        if self.outstanding == 0 {
            return Vec::new();
        }
        // Cleared before the answers are taken, because a later answer signals again.
        self.shared.eventfd.clear();
        let mut state = self.shared.lock();
        state.short &= !state.queue.is_empty();
        let answers = std::mem::take(&mut state.answers);
        drop(state);
        self.outstanding -= answers.len();
        for (_, answer) in answers.iter().filter(|(flight, _)| *flight != Job::ALARM) {
            self.made += match answer.chain.as_slice() {
                [] => u64::from(answer.reason != Reason::Cancelled),
                chain => chain.iter().filter(|(_, made)| *made).count() as u64,
            };
        }
        answers
    }

    /// Returns the files to poll while there are no answers: first the eventfd, then
    /// those of the owner's calls.
    pub(super) fn wanted(&self) -> Vec<libc::pollfd> {
        let eventfd = poll::wanted(self.eventfd().as_raw_fd(), Readiness::Readable);
        let mut wanted = vec![eventfd];
        let mut want = |job: &Job| wanted.push(job.wanted());
        self.own.iter().for_each(&mut want);
        let state = self.shared.lock();
        if state.short {
            state.queue.iter().for_each(|(_, job)| want(job));
        }
        wanted
    }

    /// Returns the time at which the first of the owner's calls stops waiting for its file.
    pub(super) fn until(&self) -> Option<Instant> {
        let state = self.shared.lock();
        let queued = state.queue.iter().filter(|_| state.short);
        let queued = queued.filter_map(|(_, job)| job.until);
        let own = self.own.iter().filter_map(|job| job.until);
        own.chain(queued).min()
    }

    /// Cancels a call: prevents it from starting, or interrupts it while it waits for its
    /// file. Returns true if the call was found without an answer.
    pub(super) fn cancel(&mut self, flight: u32) -> bool {
        let mut state = self.shared.lock();
        let queued = |(_, job): &(u64, Job)| job.flight == flight;
        let withdrawn = match state.queue.iter().position(queued) {
            Some(at) => state.queue.remove(at).is_some(),
            None => [&mut self.own, &mut self.fresh].into_iter().any(|jobs| {
                let at = jobs.iter().position(|job| job.flight == flight);
                at.map(|at| jobs.remove(at)).is_some()
            }),
        };
        if withdrawn {
            state.answers.push((flight, Answer::cancelled()));
            self.shared.eventfd.signal();
            return true;
        }
        let running = state.running.iter_mut().find(|call| call.flight == flight);
        running.is_some_and(|call| {
            call.cancelled = true;
            if let Some(eventfd) = &call.eventfd {
                eventfd.signal();
            }
            true
        })
    }

    /// Returns how many calls helpers are making.
    #[cfg(test)]
    pub(super) fn running(&self) -> usize {
        self.shared.lock().running.len()
    }

    /// Returns a reference that is dead when the owner and all helpers have ended.
    #[cfg(test)]
    pub(super) fn watch(&self) -> std::sync::Weak<impl Sized + use<>> {
        Arc::downgrade(&self.shared)
    }

    /// In a forked child: leaks the state that the lock protects.
    pub(super) fn abandon(&self) {
        std::mem::forget(Arc::clone(&self.shared));
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Starts a helper for the burst, which is in `starting`.
fn start(shared: &Arc<Shared>, burst: u64) {
    let theirs = Arc::clone(shared);
    let made: io::Result<_> = poll::without_signals(|| {
        let thread = thread::Builder::new().name("flexsc-plain".to_owned());
        thread.stack_size(STACK).spawn(move || help(&theirs, burst))
    });
    if made.is_err() {
        let mut state = shared.lock();
        state.starting.retain(|&other| other != burst);
        state.short = true;
        shared.eventfd.signal();
    }
}

/// The body of a helper: makes calls of its burst until there are no more.
fn help(shared: &Arc<Shared>, burst: u64) {
    let mut eventfd = None;
    let mut state = shared.lock();
    state.starting.retain(|&other| other != burst);
    loop {
        let of_burst = |(of, _): &(u64, Job)| *of == burst;
        let at = state.queue.iter().position(of_burst);
        let Some((_, job)) = at.and_then(|at| state.queue.remove(at)) else {
            return;
        };
        state.running.push(Running {
            flight: job.flight,
            cancelled: false,
            eventfd: None,
        });
        // If this call blocks, another helper must make the remaining calls.
        let more = state.queue.iter().any(of_burst) && !state.starting.contains(&burst);
        let next = more && state.has_room();
        if next {
            state.starting.push(burst);
        } else if more {
            state.short = true;
            shared.eventfd.signal();
        }
        drop(state);
        if next {
            start(shared, burst);
        }
        let answer = loop {
            if !wait_for(&job, shared, &mut eventfd) {
                break Answer::new(EINTR, Reason::None);
            }
            if let Some(answer) = job.attempt() {
                break answer;
            }
        };
        state = shared.lock();
        state.running.retain(|call| call.flight != job.flight);
        state.answers.push((job.flight, answer));
        shared.eventfd.signal();
    }
}

/// Waits until the call would not block. Returns false if it is cancelled.
fn wait_for(job: &Job, shared: &Shared, eventfd: &mut Option<Arc<EventFd>>) -> bool {
    while !job.is_ready() {
        if eventfd.is_none() {
            *eventfd = EventFd::new().ok().map(Arc::new);
        }
        if !announce(job, shared, eventfd.as_ref()) {
            return false;
        }
        let mut fds = vec![job.wanted()];
        fds.extend(
            eventfd
                .as_ref()
                .map(|eventfd| poll::wanted(eventfd.as_fd().as_raw_fd(), Readiness::Readable)),
        );
        let left = |until: Instant| until.saturating_duration_since(Instant::now());
        let check = eventfd.is_none().then_some(CANCEL_CHECK);
        let time = [check, job.until.map(left)].into_iter().flatten().min();
        // The loop checks the reason again.
        let _ = poll::poll(&mut fds, time);
        if let Some(eventfd) = eventfd {
            // Cleared before `cancelled` is read again, which is set before the signal.
            eventfd.clear();
        }
    }
    true
}

/// Publishes the eventfd that wakes the helper. Returns false if the call is cancelled.
fn announce(job: &Job, shared: &Shared, eventfd: Option<&Arc<EventFd>>) -> bool {
    let mut state = shared.lock();
    let mut running = state.running.iter_mut();
    let Some(call) = running.find(|call| call.flight == job.flight) else {
        return true;
    };
    call.eventfd = eventfd.cloned();
    !call.cancelled
}
