// SPDX-License-Identifier: MIT OR Apache-2.0
//! Plain calls in place of an engine, with an engine's concurrency: none of them
//! holds up another, nor whoever waits with a timeout.
//!
//! What is begun together is a burst. Its calls are made by helper threads: the
//! first is made by the owner, each makes the next one before it enters a call
//! that may block, and all end with the burst. So there are never more than
//! there are calls in flight, and each has the credentials, filters, files and
//! namespaces that the owner had when it began the burst: idle threads that stay
//! would keep old ones.
//!
//! Before a call may wait for others, its file is polled; by that it can be
//! cancelled. If no helper can be made, the owner makes the calls itself, while
//! it waits, as their files become ready.

use std::collections::VecDeque;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;
use std::{io, process};

use nix::errno::Errno;

use crate::call::{Call, Reason};
use crate::fallback;
use crate::sys::guard::ForkGuard;
use crate::sys::poll::{self, EventFd, Readiness};

/// One call to be made.
#[derive(Clone, Copy, Debug)]
pub(super) struct Job {
    /// Whose result it is.
    pub(super) flight: u32,
    pub(super) call: Call,
    pub(super) fd: RawFd,
    pub(super) readiness: Readiness,
}

/// A call that was made, or was not to be.
pub(super) type Answer = (u32, i64, Reason);

/// The owner's side.
///
/// # Invariants
///
/// What a job points to and its descriptor are there until its answer was
/// taken: the caller of [`Helpers::push`] has promised it.
#[derive(Debug)]
pub(super) struct Helpers {
    shared: Arc<Shared>,
    /// Pushed and not begun.
    fresh: Vec<Job>,
    /// To be made by the owner and nobody else.
    own: Vec<Job>,
    burst: u64,
    outstanding: usize,
    made: u64,
    guard: Option<ForkGuard>,
    pid: u32,
}

#[derive(Debug)]
struct Shared {
    /// Rung when there are answers, or when helpers are short.
    eventfd: EventFd,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Not begun, each with its burst.
    queue: VecDeque<(u64, Job)>,
    running: Vec<Running>,
    answers: Vec<Answer>,
    /// Bursts for which a helper was made that has not come to work yet.
    starting: Vec<u64>,
    /// A helper could not be made: the owner makes what is in the queue.
    short: bool,
}

/// A call that a helper makes.
#[derive(Debug)]
struct Running {
    flight: u32,
    cancelled: bool,
    /// Wakes the helper while it polls.
    eventfd: Option<Arc<EventFd>>,
}

/// What most helpers need of their stack is a few hundred bytes.
const STACK: usize = 64 << 10;

/// How often a helper looks whether it is cancelled, for want of an eventfd.
const CANCEL_CHECK: Duration = Duration::from_millis(50);

const EINTR: i64 = -(libc::EINTR as i64);
const ECANCELED: i64 = -(libc::ECANCELED as i64);

impl Helpers {
    /// # Errors
    ///
    /// Those of eventfd(2).
    pub(super) fn new() -> Result<Self, Errno> {
        Ok(Helpers {
            shared: Arc::new(Shared {
                eventfd: EventFd::new()?,
                state: Mutex::default(),
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

    /// False in a child after fork, where no helper works and a lock may be
    /// held for ever.
    pub(super) fn in_same_process(&self) -> bool {
        match &self.guard {
            Some(guard) => guard.in_same_process(),
            None => self.pid == process::id(),
        }
    }

    /// Calls pushed whose answer was not taken.
    pub(super) fn outstanding(&self) -> usize {
        self.outstanding
    }

    /// Calls that were made.
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

    /// Ends what [`Helpers::signal`] began.
    pub(super) fn clear(&self) {
        self.shared.eventfd.clear();
    }

    /// Adds a call to the next burst.
    ///
    /// # Safety
    ///
    /// The call must be good until its answer was taken, for any thread.
    #[expect(unsafe_code, reason = "a promise about memory")]
    pub(super) unsafe fn push(&mut self, job: Job) {
        self.fresh.push(job);
        self.outstanding += 1;
    }

    /// Adds a call that the owner makes itself, when it can.
    ///
    /// # Safety
    ///
    /// The call must be good until its answer was taken.
    #[expect(unsafe_code, reason = "a promise about memory")]
    pub(super) unsafe fn push_own(&mut self, job: Job) {
        self.own.push(job);
        self.outstanding += 1;
    }

    /// Begins what was pushed.
    pub(super) fn begin(&mut self) {
        if self.fresh.is_empty() {
            return;
        }
        self.burst += 1;
        let burst = self.burst;
        let mut state = self.shared.lock();
        let jobs = self.fresh.drain(..).map(|job| (burst, job));
        state.queue.extend(jobs);
        state.starting.push(burst);
        drop(state);
        start(&self.shared, burst);
    }

    /// Makes those calls that are the owner's to make and whose files are ready.
    pub(super) fn make_ready(&mut self) {
        let is_ready = |job: &Job| poll::is_ready(job.fd, job.readiness);
        while let Some(at) = self.own.iter().position(is_ready) {
            let job = self.own.swap_remove(at);
            self.make(job);
        }
        loop {
            // A helper may have it first: what is taken is taken under the lock.
            let mut state = self.shared.lock();
            let ready = |(_, job): &(u64, Job)| is_ready(job);
            let at = state.queue.iter().position(ready).filter(|_| state.short);
            let Some((_, job)) = at.and_then(|at| state.queue.remove(at)) else {
                return;
            };
            drop(state);
            self.make(job);
        }
    }

    fn make(&mut self, job: Job) {
        let result = make(&job);
        self.shared
            .lock()
            .answers
            .push((job.flight, result, Reason::None));
    }

    /// Takes all answers that are there.
    pub(super) fn take(&mut self) -> Vec<Answer> {
        if self.outstanding == 0 {
            return Vec::new();
        }
        // Before the answers are taken: one that comes later rings again.
        self.shared.eventfd.clear();
        let mut state = self.shared.lock();
        state.short &= !state.queue.is_empty();
        let answers = std::mem::take(&mut state.answers);
        drop(state);
        self.outstanding -= answers.len();
        let made = |answer: &&Answer| answer.2 != Reason::Cancelled;
        self.made += answers.iter().filter(made).count() as u64;
        answers
    }

    /// What to poll while there are no answers: the eventfd first, then the files
    /// of calls that are the owner's to make.
    pub(super) fn wanted(&self) -> Vec<libc::pollfd> {
        let eventfd = poll::wanted(self.eventfd().as_raw_fd(), Readiness::Readable);
        let mut wanted = vec![eventfd];
        let mut want = |job: &Job| wanted.push(poll::wanted(job.fd, job.readiness));
        self.own.iter().for_each(&mut want);
        let state = self.shared.lock();
        if state.short {
            state.queue.iter().for_each(|(_, job)| want(job));
        }
        wanted
    }

    /// Ends a call: it is not begun, or it is interrupted while it waits for its
    /// file. Whether it was found without an answer.
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
            state.answers.push((flight, ECANCELED, Reason::Cancelled));
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

    /// In a child after fork: whatever the lock guards stays as it is.
    pub(super) fn abandon(&self) {
        std::mem::forget(Arc::clone(&self.shared));
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Makes a helper for the burst, which is in `starting`.
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

/// A helper: makes calls of its burst until there are no more.
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
        // Somebody must be there for the rest if this call blocks.
        let next = state.queue.iter().any(of_burst) && !state.starting.contains(&burst);
        if next {
            state.starting.push(burst);
        }
        drop(state);
        if next {
            start(shared, burst);
        }
        let result = if wait_for(&job, shared, &mut eventfd) {
            make(&job)
        } else {
            EINTR
        };
        state = shared.lock();
        state.running.retain(|call| call.flight != job.flight);
        state.answers.push((job.flight, result, Reason::None));
        shared.eventfd.signal();
    }
}

/// Waits until the call would not wait for others. False if it is cancelled.
fn wait_for(job: &Job, shared: &Shared, eventfd: &mut Option<Arc<EventFd>>) -> bool {
    while !poll::is_ready(job.fd, job.readiness) {
        if eventfd.is_none() {
            *eventfd = EventFd::new().ok().map(Arc::new);
        }
        if !announce(job, shared, eventfd.as_ref()) {
            return false;
        }
        let mut fds = vec![poll::wanted(job.fd, job.readiness)];
        fds.extend(
            eventfd
                .as_ref()
                .map(|eventfd| poll::wanted(eventfd.as_fd().as_raw_fd(), Readiness::Readable)),
        );
        let time = eventfd.is_none().then_some(CANCEL_CHECK);
        // Why it ends is looked at anew.
        let _ = poll::poll(&mut fds, time);
        if let Some(eventfd) = eventfd {
            // Before the next look at `cancelled`, which is set before the ring.
            eventfd.clear();
        }
    }
    true
}

/// Says by which eventfd the helper is woken. False if the call is cancelled.
fn announce(job: &Job, shared: &Shared, eventfd: Option<&Arc<EventFd>>) -> bool {
    let mut state = shared.lock();
    let mut running = state.running.iter_mut();
    let Some(call) = running.find(|call| call.flight == job.flight) else {
        return true;
    };
    call.eventfd = eventfd.cloned();
    !call.cancelled
}

/// Makes the call.
#[expect(unsafe_code, reason = "system calls by number")]
fn make(job: &Job) -> i64 {
    // SAFETY: by the invariant of `Helpers` it is good until its answer was
    // taken, which is not there yet.
    unsafe { fallback::make(&job.call) }
}
