// SPDX-License-Identifier: MIT OR Apache-2.0
//! The handler that the kernel calls for every signal which the program handles, and for those of the
//! library: faults at addresses of the program, the preemption tick, the end of a helper's call.

use core::arch::global_asm;
use core::sync::atomic::{
    AtomicBool, AtomicU32,
    Ordering::{Acquire, Relaxed, Release},
};

use crate::sys::inside;
use crate::sys::kernel::{Action, Info};
use crate::sys::{copy, entry, helpers};
use crate::ult::signals::{self, Kind};

/// Parts of the kernel's `struct ucontext` of x86-64, in words.
const STACK: usize = 2;
const RIP: usize = 5 + 16;
const RAX: usize = 5 + 13;
/// rdi, rsi, rdx, r10, r8, r9
const ARGUMENTS: [usize; 6] = [5 + 8, 5 + 9, 5 + 12, 5 + 2, 5, 5 + 1];
const MASK: usize = 37;

pub(crate) const SIGILL: u32 = 4;
pub(crate) const SIGTRAP: u32 = 5;
pub(crate) const SIGBUS: u32 = 7;
pub(crate) const SIGFPE: u32 = 8;
pub(crate) const SIGSEGV: u32 = 11;
/// The preemption tick's signal, which the C library keeps to itself.
pub(crate) const TICK: u32 = 33;
const SI_TIMER: i32 = -2;

/// What a handler may see and change of the thread that it has interrupted.
pub(crate) struct Interrupted(*mut u64);

impl Interrupted {
    fn word(&self, index: usize) -> u64 {
        // SAFETY: The kernel has made the structure, which is longer.
        let at = unsafe { self.0.add(index) };
        // SAFETY: It has made it for this handler.
        unsafe { at.read() }
    }

    fn set_word(&mut self, index: usize, value: u64) {
        // SAFETY: As above.
        let at = unsafe { self.0.add(index) };
        // SAFETY: As above.
        unsafe { at.write(value) };
    }

    /// Number and arguments of the plain call that the program goes on with.
    pub(crate) fn plain_call(&self) -> Option<(u64, [u64; 6])> {
        if self.word(RIP) != entry::call() {
            return None;
        }
        let args = ARGUMENTS.map(|index| self.word(index));
        Some((self.word(RAX), args))
    }

    /// The program goes on behind its plain call.
    pub(crate) fn end_call(&mut self, result: i64) {
        self.set_word(RAX, result as u64);
        self.set_word(RIP, entry::call() + entry::SYSCALL_LEN);
    }

    /// The mask that the thread has after the handler.
    pub(crate) fn mask(&self) -> u64 {
        self.word(MASK)
    }

    pub(crate) fn set_mask(&mut self, mask: u64) {
        self.set_word(MASK, mask);
    }

    /// The alternate stack that the kernel sets after the handler.
    pub(crate) fn alternate_stack(&self) -> [u64; 3] {
        // The flags are an int.
        let flags = self.word(STACK + 1) & u64::from(u32::MAX);
        [self.word(STACK), flags, self.word(STACK + 2)]
    }
}

// The kernel returns from `on_signal` to here. Unwinders know the code by its bytes, because it has no
// unwind entry; they look at the byte before it too.
global_asm!(
    ".pushsection .text.flexsc_threads_restorer,\"ax\",@progbits",
    ".globl flexsc_threads_restorer",
    ".hidden flexsc_threads_restorer",
    "nop",
    "flexsc_threads_restorer:",
    ".byte 0x48, 0xc7, 0xc0, 0x0f, 0, 0, 0",
    "syscall",
    ".popsection",
);

unsafe extern "C" {
    fn flexsc_threads_restorer();
}

pub(crate) const SA_SIGINFO: u64 = 4;
pub(crate) const SA_RESTORER: u64 = 0x400_0000;
pub(crate) const SA_ONSTACK: u64 = 0x800_0000;
pub(crate) const SA_RESTART: u64 = 0x1000_0000;
pub(crate) const SA_NODEFER: u64 = 0x4000_0000;
pub(crate) const SA_RESETHAND: u64 = 0x8000_0000;

/// The action for the kernel behind an action of the program, or of the library alone. The program's
/// own way back from a handler stays: unwinders know it.
pub(crate) fn action_of_kernel(action: &Action) -> Action {
    let has_restorer = action.flags & SA_RESTORER != 0;
    Action {
        handler: on_signal as usize as u64,
        flags: action.flags & !SA_RESETHAND | SA_SIGINFO | SA_RESTORER | SA_NODEFER,
        restorer: if has_restorer {
            action.restorer
        } else {
            flexsc_threads_restorer as usize as u64
        },
        mask: 0,
    }
}

/// # Safety
///
/// Only the kernel calls it.
unsafe extern "C" fn on_signal(signal: i32, info: *const Info, context: *mut u64) {
    let signal = signal as u32;
    let mut interrupted = Interrupted(context);
    let rip = interrupted.word(RIP);
    // SAFETY: The kernel has made the structure for this handler.
    let words = unsafe { &*info };
    if signal == helpers::CANCEL
        && words.code() == helpers::SI_QUEUE
        && words.value() == helpers::CANCEL_VALUE
    {
        if helpers::cancel_range().contains(&rip) {
            interrupted.set_word(RIP, helpers::cancelled_exit());
        }
        return;
    }
    let is_fault = matches!(signal, SIGSEGV | SIGBUS) && words.code() > 0;
    if is_fault && copy::range().contains(&rip) {
        interrupted.set_word(RIP, copy::fault_exit());
        return;
    }
    let is_synchronous =
        words.code() > 0 && matches!(signal, SIGILL | SIGTRAP | SIGBUS | SIGFPE | SIGSEGV);
    let kind = if signal == TICK && words.code() == SI_TIMER {
        Kind::Tick
    } else if is_synchronous {
        Kind::Fault
    } else {
        Kind::Usual
    };
    if inside::is_inside() && kind != Kind::Fault {
        // The core waits no longer, so that it looks at what has come.
        if helpers::cancel_range().contains(&rip) {
            interrupted.set_word(RIP, helpers::cancelled_exit());
        }
        if kind == Kind::Usual {
            note(words);
            return;
        }
    }
    signals::arrived(kind, signal, words, &mut interrupted);
}

/// Calls a handler of the program.
pub(crate) fn call_handler(handler: u64, signal: u32, info: &Info, interrupted: &mut Interrupted) {
    // SAFETY: The program has given the address for this. A handler without SA_SIGINFO ignores the
    // second and third argument.
    let handler: extern "C" fn(i32, *const Info, *mut u64) =
        unsafe { core::mem::transmute(handler as usize) };
    handler(signal as i32, info, interrupted.0);
}

const NOTES: usize = 64;

/// A signal that has arrived while the library was at work.
struct Note {
    is_written: AtomicBool,
    info: core::cell::UnsafeCell<Info>,
}

// SAFETY: A note belongs to the handler that has taken its place until it is written, then to the core.
unsafe impl Sync for Note {}

static NOTE: [Note; NOTES] = [const {
    Note {
        is_written: AtomicBool::new(false),
        info: core::cell::UnsafeCell::new(Info([0; 16])),
    }
}; NOTES];
/// How many have been taken by handlers, and by the core.
static NOTED: AtomicU32 = AtomicU32::new(0);
static SEEN: AtomicU32 = AtomicU32::new(0);

fn note(info: &Info) {
    let place = NOTED.load(Relaxed);
    if place.wrapping_sub(SEEN.load(Relaxed)) as usize == NOTES {
        // More at once than there is room for: lost, as a signal that is pending already.
        return;
    }
    // Another signal can come in between, but on the same thread: it ends before this one goes on.
    let place = match NOTED.compare_exchange(place, place.wrapping_add(1), Relaxed, Relaxed) {
        Ok(place) => place,
        Err(_) => return note(info),
    };
    let note = &NOTE[place as usize % NOTES];
    // SAFETY: The place is this handler's.
    unsafe { *note.info.get() = *info };
    note.is_written.store(true, Release);
    helpers::note();
}

/// Returns true if there is a signal to take.
pub(crate) fn is_noted() -> bool {
    NOTED.load(Relaxed) != SEEN.load(Relaxed)
}

/// Takes the oldest noted signal.
pub(crate) fn take_note() -> Option<Info> {
    if !is_noted() {
        return None;
    }
    let seen = SEEN.load(Relaxed);
    let note = &NOTE[seen as usize % NOTES];
    if !note.is_written.swap(false, Acquire) {
        return None;
    }
    // SAFETY: The note is written, and its place is not used again before `SEEN` grows.
    let info = unsafe { *note.info.get() };
    SEEN.store(seen.wrapping_add(1), Relaxed);
    Some(info)
}
