// SPDX-License-Identifier: MIT OR Apache-2.0
//! User-level threads: FLEXSC_THREADS=user.
//!
//! All threads of the program run on the one thread of the kernel with which it began. The calls that
//! make threads and let them wait are answered here; a call that may block is handed to a helper
//! thread; everything else is made plainly.
//!
//! | file | what |
//! |---|---|
//! | `core` | threads, the run queue, who runs next |
//! | `list`, `timers`, `futex`, `masks` | the tables |
//! | `threads` | beginning and end of threads, fork and exec |
//! | `waiting` | futexes, sleep |
//! | `inherit` | mutexes with priority inheritance |
//! | `blocking` | calls that may block |
//! | `pool`, `pages` | who makes them: helper threads, or the engine |
//! | `signals` | who gets a signal, and when |
//! | `posix_timers` | timers whose signal is for one thread |
//! | `own` | calls about what belongs to a thread |

mod blocking;
pub(crate) mod core;
mod futex;
mod inherit;
pub(crate) mod list;
mod masks;
mod nr;
mod own;
mod pages;
mod pool;
mod posix_timers;
pub(crate) mod signals;
#[cfg(test)]
mod tests;
mod threads;
mod timers;
mod waiting;

use ::core::sync::atomic::{AtomicBool, AtomicU32, Ordering::Relaxed};

pub(crate) use self::core::Core;
pub(crate) use self::threads::begin;

use crate::calls::{self, Class};
use crate::handler::Verdict;
use crate::stub;
use crate::sys::entry::Frame;
use crate::sys::inside;
use crate::sys::raw::{self, Errno};
use crate::ult::nr::*;
use crate::ult::pages::Counts;
use crate::ult::pool::Backend;
use crate::ult::threads::{Clone, Making};

static IS_ON: AtomicBool = AtomicBool::new(false);
/// A child of vfork may be using our memory, or a process beside us.
static IS_SHARED: AtomicBool = AtomicBool::new(false);
/// It stays so.
static IS_SHARED_FOR_EVER: AtomicBool = AtomicBool::new(false);
static PID: AtomicU32 = AtomicU32::new(0);

/// What becomes of a call.
pub(crate) enum Answer {
    /// It has been made.
    Is(i64),
    /// It is made where it is.
    Plain,
}

/// Returns true if threads are user-level threads.
pub(crate) fn is_on() -> bool {
    IS_ON.load(Relaxed)
}

/// The program is about to make its first thread: from now on threads are user-level threads. Returns
/// why there is no engine.
pub(crate) fn start() -> Result<Result<(), Errno>, Errno> {
    PID.store(raw::getpid(), Relaxed);
    inside::enter();
    let begun = inside::with(Core::begin);
    if begun.is_ok() {
        inside::with(Core::take_actions);
        IS_ON.store(true, Relaxed);
    }
    inside::leave();
    begun
}

/// How many calls have been handed over.
pub(crate) fn counts() -> Counts {
    inside::enter();
    let counts = inside::with(|core| core.backend.counts());
    inside::leave();
    counts
}

/// Returns true in a process that only shares our memory: it is not the program's.
fn is_elsewhere() -> bool {
    if !IS_SHARED.load(Relaxed) {
        return false;
    }
    if raw::getpid() != PID.load(Relaxed) {
        return true;
    }
    if !IS_SHARED_FOR_EVER.load(Relaxed) {
        // The child of vfork is gone.
        IS_SHARED.store(false, Relaxed);
        inside::enter();
        inside::with(Core::sync_mask);
        inside::leave();
    }
    false
}

/// The running thread waits, or has ended: goes on with others until it is its turn again. Returns what
/// its wait returns.
pub(crate) fn park() -> i64 {
    loop {
        // First this, so that nothing that happens after the look is missed.
        let seen = inside::with(|core| core.backend.events());
        if let Some(next) = inside::with(Core::next) {
            inside::switch_to(next);
            return inside::with(|core| {
                core.came_back();
                core.current().result
            });
        }
        inside::with(|core| core.idle(seen));
    }
}

/// Decides about a call while threads are user-level threads.
#[inline(never)]
pub(crate) fn handle(frame: &mut Frame, class: Class) -> Verdict {
    let plain = if frame.site_flags() & stub::AT_SITE != 0 {
        Verdict::Reissue
    } else {
        Verdict::Plain
    };
    if is_elsewhere() {
        return match class {
            Class::Reissue => Verdict::Reissue,
            _ => plain,
        };
    }
    match frame.rax {
        CLONE | CLONE3 | FORK | VFORK => make(frame),
        EXECVE | EXECVEAT => inside(frame, threads::execute),
        EXIT => {
            inside::enter();
            threads::exit(frame.args[0])
        }
        nr => {
            if class == Class::Reissue {
                // The end of a handler, for example that of the tick.
                return Verdict::Reissue;
            }
            core::note_call();
            inside::enter();
            let answer = match class {
                Class::Emulate => own::call(nr, frame),
                Class::Post | Class::Plain => translated(nr, frame),
                Class::Bound | Class::Broadcast => bound(nr, frame),
                Class::Unknown | Class::Reissue => Answer::Plain,
            };
            signals::leave();
            match answer {
                Answer::Is(result) => {
                    frame.rax = result as u64;
                    Verdict::Done
                }
                Answer::Plain => plain,
            }
        }
    }
}

fn inside(frame: &mut Frame, work: impl FnOnce(&mut Frame) -> Verdict) -> Verdict {
    inside::enter();
    let verdict = work(frame);
    signals::leave();
    verdict
}

/// Calls that may block, and those in which the number of a thread can stand.
fn translated(nr: u64, frame: &mut Frame) -> Answer {
    let number_is_known = own::translate(nr, &mut frame.args);
    if !number_is_known {
        return Answer::Is(-ESRCH);
    }
    match nr {
        CLOSE if inside::with(|core| core.backend.has_fd(frame.args[0])) => Answer::Is(-EBADF),
        TIMER_CREATE => posix_timers::create(frame.args),
        TIMER_DELETE => posix_timers::delete(frame.args),
        FUTEX_WAITV | FUTEX_WAKE2 | FUTEX_WAIT2 | FUTEX_REQUEUE2 => Answer::Is(-ENOSYS),
        _ => blocking::call(nr, frame.args),
    }
}

/// Returns true if a helper can make this call instead of the core.
pub(crate) fn can_hand_over(nr: u64) -> bool {
    calls::class(nr) == Class::Post
}

/// Calls that change the thread of the kernel, and so all user-level threads.
fn bound(nr: u64, frame: &mut Frame) -> Answer {
    if nr == PRCTL {
        if let Some(result) = own::name(&frame.args) {
            return Answer::Is(result);
        }
    }
    if !own::translate(nr, &mut frame.args) {
        return Answer::Is(-ESRCH);
    }
    let result = blocking::plain(nr, frame.args);
    // Helpers keep what they were made with.
    inside::with(|core| core.backend.renew());
    Answer::Is(result)
}

/// Calls that make threads or processes.
fn make(frame: &mut Frame) -> Verdict {
    let making = match frame.rax {
        FORK => Making::Process,
        VFORK => Making::Vfork,
        _ => Clone::of(frame),
    };
    match making {
        Making::Thread(clone) => inside(frame, |frame| clone.make(frame)),
        Making::Process => inside(frame, |frame| {
            let verdict = threads::fork(frame);
            PID.store(raw::getpid(), Relaxed);
            verdict
        }),
        Making::Vfork | Making::Beside => {
            inside::enter();
            inside::with(Core::show_mask);
            inside::leave();
            if matches!(making, Making::Beside) {
                IS_SHARED_FOR_EVER.store(true, Relaxed);
            }
            IS_SHARED.store(true, Relaxed);
            Verdict::Reissue
        }
        Making::Failure(error) => {
            frame.rax = error as u64;
            Verdict::Done
        }
    }
}
