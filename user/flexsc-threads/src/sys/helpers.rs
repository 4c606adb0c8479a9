// SPDX-License-Identifier: MIT OR Apache-2.0
//! Helper threads: threads of the kernel that make the calls of user-level threads which may block.
//!
//! They are raw clones, unknown to the C library, and never touch its thread-local storage. A helper
//! belongs to the core while its word is IDLE, and to itself while it is BUSY.

use core::arch::global_asm;
use core::cell::UnsafeCell;
use core::mem::offset_of;
use core::ops::Range;
use core::ptr;
use core::sync::atomic::{
    AtomicBool, AtomicU32, AtomicU64,
    Ordering::{Acquire, Relaxed, Release, SeqCst},
};

use crate::sys::area::Zeroed;
use crate::sys::kernel::{self, Info};
use crate::sys::raw::{self, Errno};

/// The signal that interrupts the call of a helper.
pub(crate) const CANCEL: u32 = 32;
/// Its value, by which the handler knows that it is for a helper.
pub(crate) const CANCEL_VALUE: u64 = 0x666c_6578_7363;
pub(crate) const SI_QUEUE: i32 = -1;

const IDLE: u32 = 0;
const BUSY: u32 = 1;
const END: u32 = 2;

const STACK: usize = 16 << 10;

/// A helper, or the place of one that has ended.
#[repr(C)]
pub(crate) struct Helper {
    is_cancelled: AtomicU32,
    word: AtomicU32,
    /// The kernel clears it when the thread has ended.
    tid: AtomicU32,
    index: AtomicU32,
    /// The next one in the list of those that are done.
    next: AtomicU32,
    /// Number and arguments of the call.
    call: UnsafeCell<[u64; 7]>,
    result: AtomicU64,
    stack: UnsafeCell<u64>,
}

// SAFETY: Zeros: no thread.
unsafe impl Zeroed for Helper {}
// SAFETY: `call` belongs to the core or to the helper, as the word says; `stack` to the core.
unsafe impl Sync for Helper {}

/// The helpers that are done: an index, plus 1.
static DONE: AtomicU32 = AtomicU32::new(0);
/// Grows with each event that the core may wait for.
static EVENTS: AtomicU32 = AtomicU32::new(0);
static IS_ASLEEP: AtomicBool = AtomicBool::new(false);

global_asm!(
    ".pushsection .text.flexsc_threads_helpers,\"ax\",@progbits",
    ".globl flexsc_threads_helper_start, flexsc_threads_helper_call",
    ".globl flexsc_threads_helper_begin, flexsc_threads_helper_end, flexsc_threads_helper_cancelled",
    ".hidden flexsc_threads_helper_start, flexsc_threads_helper_call",
    ".hidden flexsc_threads_helper_begin, flexsc_threads_helper_end, flexsc_threads_helper_cancelled",
    // (flags, stack, helper, address of the thread's number)
    "flexsc_threads_helper_start:",
    ".cfi_startproc",
    "mov r9, rdx",
    "mov r10, rcx",
    "xor r8d, r8d",
    "mov rdx, rcx",
    "mov eax, 56",
    "syscall",
    "test eax, eax",
    "jz 1f",
    "ret",
    "1:",
    ".cfi_undefined rip",
    "xor ebp, ebp",
    "mov rdi, r9",
    "call {run}",
    // Nothing touches the stack any more.
    "xor edi, edi",
    "mov eax, 60",
    "syscall",
    "ud2",
    ".cfi_endproc",
    // (is_cancelled, call)
    "flexsc_threads_helper_call:",
    ".cfi_startproc",
    "mov rcx, rdi",
    "mov rax, [rsi]",
    "mov rdi, [rsi + 8]",
    "mov rdx, [rsi + 24]",
    "mov r10, [rsi + 32]",
    "mov r8, [rsi + 40]",
    "mov r9, [rsi + 48]",
    "mov rsi, [rsi + 16]",
    "flexsc_threads_helper_begin:",
    "cmp dword ptr [rcx], 0",
    "jne flexsc_threads_helper_cancelled",
    "syscall",
    "flexsc_threads_helper_end:",
    "ret",
    // A signal between the comparison and the call goes here.
    "flexsc_threads_helper_cancelled:",
    "mov rax, -4",
    "ret",
    ".cfi_endproc",
    ".popsection",
    run = sym run,
);

unsafe extern "C" {
    fn flexsc_threads_helper_start(
        flags: u64,
        stack: u64,
        helper: *const Helper,
        tid: *const AtomicU32,
    ) -> i64;
    fn flexsc_threads_helper_call(is_cancelled: *const AtomicU32, call: *const [u64; 7]) -> u64;
    fn flexsc_threads_helper_begin();
    fn flexsc_threads_helper_end();
    fn flexsc_threads_helper_cancelled();
}

const _: () = assert!(offset_of!(Helper, is_cancelled) == 0);

/// Where a cancelled helper does not make its call any more.
pub(super) fn cancel_range() -> Range<u64> {
    flexsc_threads_helper_begin as usize as u64..flexsc_threads_helper_end as usize as u64
}

pub(super) fn cancelled_exit() -> u64 {
    flexsc_threads_helper_cancelled as usize as u64
}

/// A helper's life.
extern "C" fn run(helper: *const Helper) {
    // SAFETY: The table of helpers stays.
    let helper = unsafe { &*helper };
    loop {
        // ORDERING: The core has stored the call before.
        match helper.word.load(Acquire) {
            IDLE => kernel::sleep(&helper.word, IDLE, None),
            END => return,
            _ => {
                // SAFETY: The helper is BUSY, so that the call is its own. The program has asked for
                // the call and waits for it.
                let result = unsafe {
                    flexsc_threads_helper_call(&raw const helper.is_cancelled, helper.call.get())
                };
                helper.result.store(result, Relaxed);
                helper.word.store(IDLE, Release);
                let index = helper.index.load(Relaxed);
                let mut head = DONE.load(Relaxed);
                loop {
                    helper.next.store(head, Relaxed);
                    // ORDERING: SeqCst, so that a core that falls asleep sees it or is woken.
                    match DONE.compare_exchange(head, index + 1, SeqCst, Relaxed) {
                        Ok(_) => break,
                        Err(other) => head = other,
                    }
                }
                notify();
            }
        }
    }
}

/// Something was noted since `watch`.
static IS_NOTED: AtomicU32 = AtomicU32::new(0);
/// The core's thread of the kernel while it waits in a call of `call_unless_noted`; or 0.
static WAITER: AtomicU32 = AtomicU32::new(0);

/// Ends the core's sleep, or its next one. For helpers.
fn notify() {
    note();
    let waiter = WAITER.load(SeqCst);
    if waiter != 0 {
        let info = Info::new(CANCEL, SI_QUEUE, raw::getpid(), CANCEL_VALUE);
        let _ = kernel::queue(waiter, &info);
    }
}

/// As `notify`, for the handlers of signals on the core's own thread, whose call ends anyway.
pub(crate) fn note() {
    IS_NOTED.store(1, SeqCst);
    // ORDERING: The core says that it sleeps before it compares the number.
    EVENTS.fetch_add(1, SeqCst);
    if IS_ASLEEP.load(SeqCst) {
        kernel::rouse(&EVENTS);
    }
}

/// Ends the core's sleep among helpers. For the handlers of signals.
pub(crate) fn note_if_asleep() {
    if IS_ASLEEP.load(SeqCst) {
        note();
    }
}

/// Makes a call of the core that waits, unless something was noted since `events`: then, and if
/// something is noted during the call, it returns `-EINTR`.
pub(super) fn call_unless_noted(call: [u64; 7], tid: u32) -> i64 {
    WAITER.store(tid, SeqCst);
    // SAFETY: The callers answer for the call.
    let result = unsafe { flexsc_threads_helper_call(&raw const IS_NOTED, &raw const call) };
    WAITER.store(0, SeqCst);
    result as i64
}

/// The number of events so far. What is looked for after this call is not missed by `sleep`.
pub(crate) fn events() -> u32 {
    IS_NOTED.store(0, SeqCst);
    EVENTS.load(SeqCst)
}

/// Sleeps until there is another event than the first `seen`, or until the deadline.
pub(crate) fn sleep(seen: u32, deadline: Option<u64>) {
    IS_ASLEEP.store(true, SeqCst);
    kernel::sleep(&EVENTS, seen, deadline);
    IS_ASLEEP.store(false, SeqCst);
}

/// Takes the list of helpers that are done: the first one, plus 1.
pub(crate) fn take_done() -> u32 {
    if DONE.load(Relaxed) == 0 {
        return 0;
    }
    DONE.swap(0, SeqCst)
}

impl Helper {
    pub(crate) fn next(&self) -> u32 {
        self.next.load(Relaxed)
    }

    pub(crate) fn result(&self) -> i64 {
        self.result.load(Relaxed) as i64
    }

    /// Returns true if a new helper can have this place.
    pub(crate) fn is_free(&self) -> bool {
        self.tid.load(Acquire) == 0
    }

    /// Starts the thread of a helper whose place is free.
    pub(crate) fn start(&self, index: u32) -> Result<(), Errno> {
        assert!(self.is_free(), "a helper starts twice");
        // Memory, files, signals and identity of the process; the kernel stores and clears the number.
        const FLAGS: u64 =
            0x100 | 0x200 | 0x400 | 0x800 | 0x1_0000 | 0x4_0000 | 0x10_0000 | 0x20_0000;
        // SAFETY: Only the core uses the field.
        let stack = unsafe { &mut *self.stack.get() };
        if *stack == 0 {
            *stack = raw::map_memory(STACK)? as u64;
        }
        self.index.store(index, Relaxed);
        self.word.store(IDLE, Relaxed);
        // A helper takes no signal but the one that cancels.
        let mask = kernel::set_mask(!(1 << (CANCEL - 1)));
        // SAFETY: The new thread has a stack of its own and uses what `run` does.
        let tid = unsafe {
            flexsc_threads_helper_start(
                FLAGS,
                *stack + STACK as u64,
                ptr::from_ref(self),
                &raw const self.tid,
            )
        };
        kernel::set_mask(mask);
        if tid < 0 {
            return Err(Errno(-tid as i32));
        }
        Ok(())
    }

    /// Gives an idle helper a call.
    pub(crate) fn give(&self, call: [u64; 7]) {
        assert!(self.word.load(Acquire) == IDLE, "the helper is busy");
        // SAFETY: The helper is idle, so that the call is the core's.
        unsafe { *self.call.get() = call };
        self.is_cancelled.store(0, Relaxed);
        self.word.store(BUSY, Release);
        kernel::rouse(&self.word);
    }

    /// Interrupts the helper's call. Its result is EINTR unless it was there already.
    pub(crate) fn cancel(&self) {
        self.is_cancelled.store(1, SeqCst);
        let info = Info::new(CANCEL, SI_QUEUE, raw::getpid(), CANCEL_VALUE);
        let _ = kernel::queue(self.tid.load(Relaxed), &info);
    }

    /// Ends an idle helper.
    pub(crate) fn end(&self) {
        self.word.store(END, Release);
        kernel::rouse(&self.word);
    }

    /// Forgets a helper of the parent process.
    pub(crate) fn forget(&self) {
        self.tid.store(0, Relaxed);
        self.word.store(IDLE, Relaxed);
    }
}

/// Forgets what helpers of the parent process have done.
pub(crate) fn forget_done() {
    DONE.store(0, Relaxed);
    IS_ASLEEP.store(false, Relaxed);
    WAITER.store(0, Relaxed);
}
