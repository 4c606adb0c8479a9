// SPDX-License-Identifier: MIT OR Apache-2.0
//! The kernel's side of user-level threads: time, futexes, signals and masks of the thread of the
//! kernel that runs them all.

use core::ptr;
use core::sync::atomic::AtomicU32;

use crate::sys::raw::{self, Errno, call};
use crate::sys::vdso;

mod nr {
    pub(super) const RT_SIGACTION: usize = 13;
    pub(super) const SIGALTSTACK: usize = 131;
    pub(super) const GETTID: usize = 186;
    pub(super) const FUTEX: usize = 202;
    pub(super) const TIMER_CREATE: usize = 222;
    pub(super) const TIMER_SETTIME: usize = 223;
    pub(super) const CLOCK_GETTIME: usize = 228;
    pub(super) const RT_TGSIGQUEUEINFO: usize = 297;
}

pub(crate) const CLOCK_REALTIME: u64 = 0;
pub(crate) const CLOCK_MONOTONIC: u64 = 1;
const SECOND: u64 = 1_000_000_000;

/// Nanoseconds of a clock.
pub(crate) fn now(clock: u64) -> u64 {
    if let Some([seconds, ns]) = vdso::clock(clock) {
        return seconds * SECOND + ns;
    }
    let mut time = [0_u64; 2];
    let args = [clock as usize, time.as_mut_ptr() as usize, 0, 0, 0, 0];
    // SAFETY: The kernel writes 16 bytes.
    let _ = unsafe { call(nr::CLOCK_GETTIME, args) };
    time[0] * SECOND + time[1]
}

/// The kernel's `struct sigaction` of x86-64.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Action {
    pub(crate) handler: u64,
    pub(crate) flags: u64,
    pub(crate) restorer: u64,
    pub(crate) mask: u64,
}

/// The kernel's `siginfo_t`, in words: number and error, code, sender, value.
#[repr(transparent)]
#[derive(Clone, Copy, Debug)]
pub(crate) struct Info(pub(crate) [u64; 16]);

// SAFETY: Integers.
unsafe impl super::copy::Bytes for Info {}
// SAFETY: Integers.
unsafe impl super::copy::Bytes for Action {}

impl Info {
    pub(crate) fn new(signal: u32, code: i32, pid: u32, value: u64) -> Self {
        let mut words = [0; 16];
        words[0] = u64::from(signal);
        words[1] = u64::from(code as u32);
        words[2] = u64::from(pid);
        words[3] = value;
        Info(words)
    }

    pub(crate) fn signal(&self) -> u32 {
        self.0[0] as u32
    }

    pub(crate) fn code(&self) -> i32 {
        self.0[1] as i32
    }

    pub(crate) fn value(&self) -> u64 {
        self.0[3]
    }
}

pub(crate) fn action(signal: u32) -> Action {
    let mut action = Action::default();
    let args = [signal as usize, 0, &raw mut action as usize, 8, 0, 0];
    // SAFETY: The kernel writes the structure.
    let _ = unsafe { call(nr::RT_SIGACTION, args) };
    action
}

/// Sets an action whose handler is the program's, the library's, or none.
pub(crate) fn set_action(signal: u32, action: &Action) -> Result<(), Errno> {
    let args = [signal as usize, ptr::from_ref(action) as usize, 0, 8, 0, 0];
    // SAFETY: The kernel reads the structure. The handlers are ones of the program, or `on_signal`.
    unsafe { call(nr::RT_SIGACTION, args) }.map(drop)
}

pub(crate) fn set_mask(mask: u64) -> u64 {
    raw::set_signal_mask(mask).unwrap_or(0)
}

pub(crate) fn gettid() -> u32 {
    // SAFETY: The call does not touch memory.
    unsafe { call(nr::GETTID, [0; 6]) }.map_or(0, |tid| tid as u32)
}

/// Sends a signal with these words to a thread of this process.
pub(crate) fn queue(tid: u32, info: &Info) -> Result<(), Errno> {
    let args = [
        raw::getpid() as usize,
        tid as usize,
        info.signal() as usize,
        ptr::from_ref(info) as usize,
        0,
        0,
    ];
    // SAFETY: The kernel reads 128 bytes, the size of `info`.
    unsafe { call(nr::RT_TGSIGQUEUEINFO, args) }.map(drop)
}

const FUTEX_WAIT_BITSET_PRIVATE: usize = 9 | 128;
const FUTEX_WAKE: usize = 1;
const FUTEX_WAKE_PRIVATE: usize = FUTEX_WAKE | 128;

/// Sleeps while `word` is `value`, until the deadline on the monotonic clock.
pub(crate) fn sleep(word: &AtomicU32, value: u32, deadline: Option<u64>) {
    let time = deadline.map(|ns| [ns / SECOND, ns % SECOND]);
    let time = time.as_ref().map_or(0, |time| time.as_ptr() as usize);
    let args = [
        word.as_ptr() as usize,
        FUTEX_WAIT_BITSET_PRIVATE,
        value as usize,
        time,
        0,
        u32::MAX as usize,
    ];
    // SAFETY: The kernel reads the word and the time.
    let _ = unsafe { call(nr::FUTEX, args) };
}

pub(crate) fn rouse(word: &AtomicU32) {
    let args = [word.as_ptr() as usize, FUTEX_WAKE_PRIVATE, 1, 0, 0, 0];
    // SAFETY: The call does not touch memory.
    let _ = unsafe { call(nr::FUTEX, args) };
}

/// Wakes what sleeps in the kernel on a word that may be shared with other processes.
pub(crate) fn wake_shared(address: u64, count: u64) {
    let args = [address as usize, FUTEX_WAKE, count as usize, 0, 0, 0];
    // SAFETY: The call does not touch memory.
    let _ = unsafe { call(nr::FUTEX, args) };
}

/// `stack_t`: pointer, flags, size.
pub(crate) type AlternateStack = [u64; 3];

pub(crate) fn set_alternate_stack(stack: &AlternateStack) {
    let args = [stack.as_ptr() as usize, 0, 0, 0, 0, 0];
    // SAFETY: The kernel reads the structure; the stack is one that the program has given.
    let _ = unsafe { call(nr::SIGALTSTACK, args) };
}

pub(crate) fn alternate_stack() -> AlternateStack {
    let mut stack = [0; 3];
    let args = [0, stack.as_mut_ptr() as usize, 0, 0, 0, 0];
    // SAFETY: The kernel writes the structure.
    let _ = unsafe { call(nr::SIGALTSTACK, args) };
    stack
}

/// A timer that sends a signal to one thread of the kernel.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Tick(i32);

impl Tick {
    /// A timer that is not armed yet.
    pub(crate) fn new(signal: u32, tid: u32) -> Result<Self, Errno> {
        const SIGEV_THREAD_ID: u64 = 4;
        // `struct sigevent`: value, signal, kind, thread.
        let mut event = [0_u64; 8];
        event[1] = u64::from(signal) | (SIGEV_THREAD_ID << 32);
        event[2] = u64::from(tid);
        let mut id = 0_i32;
        let args = [
            CLOCK_MONOTONIC as usize,
            event.as_ptr() as usize,
            &raw mut id as usize,
            0,
            0,
            0,
        ];
        // SAFETY: The kernel reads 64 bytes and writes 4.
        unsafe { call(nr::TIMER_CREATE, args) }?;
        Ok(Tick(id))
    }

    /// Fires every `ns` nanoseconds from now on; 0: never.
    pub(crate) fn set(self, ns: u64) {
        let time = [0, ns, 0, ns];
        let args = [self.0 as usize, 0, time.as_ptr() as usize, 0, 0, 0];
        // SAFETY: The kernel reads 32 bytes.
        let _ = unsafe { call(nr::TIMER_SETTIME, args) };
    }
}
