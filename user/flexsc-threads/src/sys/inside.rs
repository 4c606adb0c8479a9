// SPDX-License-Identifier: MIT OR Apache-2.0
//! The scheduler's state, and who may use it.
//!
//! One thread of the kernel runs all user-level threads. It is *inside* from the moment at which a call
//! enters the library until it returns to the program. A signal that arrives meanwhile is only noted,
//! and no user-level thread is preempted. So the state has one user at a time, without a lock.

use core::cell::UnsafeCell;
use core::sync::atomic::{AtomicBool, Ordering::Relaxed, compiler_fence};

use crate::sys::switch::{self, Context};
use crate::ult::Core;
use crate::ult::list::Id;

struct State {
    core: UnsafeCell<Core>,
    is_inside: AtomicBool,
    is_borrowed: AtomicBool,
}

// SAFETY: Only the thread of the kernel that is inside uses the state, one borrow at a time.
unsafe impl Sync for State {}

static STATE: State = State {
    core: UnsafeCell::new(Core::new()),
    is_inside: AtomicBool::new(false),
    is_borrowed: AtomicBool::new(false),
};

/// Returns true if the library is at work.
pub(crate) fn is_inside() -> bool {
    STATE.is_inside.load(Relaxed)
}

pub(crate) fn enter() {
    STATE.is_inside.store(true, Relaxed);
    // ORDERING: The handlers of signals run on the same thread of the kernel.
    compiler_fence(core::sync::atomic::Ordering::SeqCst);
}

pub(crate) fn leave() {
    compiler_fence(core::sync::atomic::Ordering::SeqCst);
    STATE.is_inside.store(false, Relaxed);
}

/// Uses the state. `work` must not switch to another thread, and must not call `with` again.
pub(crate) fn with<R>(work: impl FnOnce(&mut Core) -> R) -> R {
    let was = STATE.is_borrowed.load(Relaxed);
    assert!(is_inside() && !was, "the scheduler's state is in use");
    STATE.is_borrowed.store(true, Relaxed);
    // SAFETY: This thread is inside, and nothing else has a reference.
    let core = unsafe { &mut *STATE.core.get() };
    let result = work(core);
    STATE.is_borrowed.store(false, Relaxed);
    result
}

/// Goes on with another thread. Returns when the thread that leaves goes on.
pub(crate) fn switch_to(to: Id) {
    let pair = with(|core| core.set_running(to));
    if let Some((from, to)) = pair {
        // SAFETY: The scheduler takes only threads from the run queue that have left their stacks or
        // are new, and each of them once. `with` has given its reference back.
        unsafe { switch::switch(from, to) };
    }
}

/// A thread's context that `prepare` fills in for a new thread. See there for the stack.
pub(crate) fn prepare(
    frame: &mut crate::sys::entry::Frame,
    sp: u64,
    fs: u64,
) -> Result<Context, i64> {
    let bottom = sp.wrapping_sub(switch::START);
    // A stack that is no memory is an error, as it would be for the kernel at the first push.
    let zeros = [0_u8; 8];
    super::copy::write(bottom, &zeros)?;
    super::copy::write(sp.wrapping_sub(8), &zeros)?;
    // SAFETY: The program gives the stack to the new thread, and it can be written to.
    Ok(unsafe { switch::prepare(frame, sp, fs) })
}
