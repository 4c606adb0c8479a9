// SPDX-License-Identifier: MIT OR Apache-2.0
//! From one user-level thread to another: stack pointer, callee-saved registers, floating-point
//! control, FS base. Everything else is saved by the entry, or by the kernel if a signal interrupts.

use core::arch::{asm, global_asm};
use core::mem::offset_of;

use crate::sys::area::Zeroed;
use crate::sys::entry::Frame;

/// Where a thread that does not run goes on.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub(crate) struct Context {
    sp: u64,
    fs: u64,
}

// SAFETY: Two numbers.
unsafe impl Zeroed for Context {}

impl Context {
    pub(crate) const NONE: Context = Context { sp: 0, fs: 0 };
}

/// The registers with which a new thread begins: those of its maker, except rax and rsp.
#[repr(C, align(16))]
pub(crate) struct Start {
    frame: Frame,
    /// rbx, rbp, r12 to r15: the entry fills them in when the handler has returned to it.
    saved: [u64; 6],
    /// The new thread's stack pointer in the stub, and the stub's next instruction.
    sp: u64,
    resume: u64,
}

/// What `flexsc_threads_switch` keeps on the stack.
#[repr(C)]
struct Kept {
    mxcsr: u32,
    control: u32,
    registers: [u64; 6],
    resume: u64,
}

global_asm!(
    ".pushsection .text.flexsc_threads_switch,\"ax\",@progbits",
    ".p2align 5",
    ".globl flexsc_threads_switch",
    ".hidden flexsc_threads_switch",
    ".type flexsc_threads_switch,@function",
    "flexsc_threads_switch:",
    ".cfi_startproc",
    "push rbp",
    ".cfi_adjust_cfa_offset 8",
    ".cfi_rel_offset rbp, 0",
    "push rbx",
    ".cfi_adjust_cfa_offset 8",
    ".cfi_rel_offset rbx, 0",
    "push r12",
    ".cfi_adjust_cfa_offset 8",
    ".cfi_rel_offset r12, 0",
    "push r13",
    ".cfi_adjust_cfa_offset 8",
    ".cfi_rel_offset r13, 0",
    "push r14",
    ".cfi_adjust_cfa_offset 8",
    ".cfi_rel_offset r14, 0",
    "push r15",
    ".cfi_adjust_cfa_offset 8",
    ".cfi_rel_offset r15, 0",
    "sub rsp, 8",
    ".cfi_adjust_cfa_offset 8",
    "stmxcsr [rsp]",
    "fnstcw [rsp + 4]",
    "rdfsbase rax",
    "mov [rdi + {fs}], rax",
    "mov [rdi + {sp}], rsp",
    // On the other stack everything is at the same distances.
    "mov rsp, [rsi + {sp}]",
    "mov rax, [rsi + {fs}]",
    "wrfsbase rax",
    "ldmxcsr [rsp]",
    "fldcw [rsp + 4]",
    "add rsp, 8",
    ".cfi_adjust_cfa_offset -8",
    ".irp register, r15, r14, r13, r12, rbx, rbp",
    "pop \\register",
    ".cfi_adjust_cfa_offset -8",
    ".cfi_restore \\register",
    ".endr",
    "ret",
    ".cfi_endproc",
    ".size flexsc_threads_switch, . - flexsc_threads_switch",
    // A new thread; rsp is its `Start`. The unwinder stops here: there is no caller.
    ".globl flexsc_threads_begin",
    ".hidden flexsc_threads_begin",
    ".type flexsc_threads_begin,@function",
    "flexsc_threads_begin:",
    ".cfi_startproc",
    ".cfi_undefined rip",
    "call {first}",
    ".irp n, 0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15",
    "movaps xmm\\n, [rsp + {xmm} + 16 * \\n]",
    ".endr",
    "mov rdi, [rsp + {args}]",
    "mov rsi, [rsp + {args} + 8]",
    "mov rdx, [rsp + {args} + 16]",
    "mov r10, [rsp + {args} + 24]",
    "mov r8, [rsp + {args} + 32]",
    "mov r9, [rsp + {args} + 40]",
    "mov rbx, [rsp + {saved}]",
    "mov rbp, [rsp + {saved} + 8]",
    "mov r12, [rsp + {saved} + 16]",
    "mov r13, [rsp + {saved} + 24]",
    "mov r14, [rsp + {saved} + 32]",
    "mov r15, [rsp + {saved} + 40]",
    "mov r11, [rsp + {resume}]",
    "mov rsp, [rsp + {start_sp}]",
    "xor eax, eax",
    // Clears ZF: the call has been made.
    "test rsp, rsp",
    "jmp r11",
    ".cfi_endproc",
    ".size flexsc_threads_begin, . - flexsc_threads_begin",
    ".popsection",
    sp = const offset_of!(Context, sp),
    fs = const offset_of!(Context, fs),
    xmm = const offset_of!(Start, frame) + Frame::XMM,
    args = const offset_of!(Start, frame) + offset_of!(Frame, args),
    saved = const offset_of!(Start, saved),
    resume = const offset_of!(Start, resume),
    start_sp = const offset_of!(Start, sp),
    first = sym first,
);

unsafe extern "C" {
    fn flexsc_threads_switch(from: *mut Context, to: *const Context);
    fn flexsc_threads_begin();
}

/// A new thread's first step.
extern "C" fn first() {
    crate::ult::begin();
}

/// Leaves the running thread and goes on with another one. Returns when somebody comes back.
///
/// # Safety
///
/// `to` is where a thread left, or where `prepare` has put it, and nothing has continued it since.
/// No reference into the scheduler's state lives across the call.
pub(super) unsafe fn switch(from: *mut Context, to: *const Context) {
    // SAFETY: The caller's promise.
    unsafe { flexsc_threads_switch(from, to) };
}

/// The room below the new stack pointer that a new thread needs to begin.
pub(crate) const START: u64 = (size_of::<Start>() + size_of::<Kept>() + 256) as u64;

/// Prepares a new thread: it returns 0 from the call in `frame`, on the stack `sp` and with the thread
/// pointer `fs`. The frame's `start` tells the entry where to put the registers that it has.
///
/// # Safety
///
/// The memory below `sp` belongs to the new thread, `START` bytes of it.
pub(super) unsafe fn prepare(frame: &mut Frame, sp: u64, fs: u64) -> Context {
    const RED_ZONE: u64 = 128;
    let start_at = (sp - RED_ZONE - size_of::<Start>() as u64) & !15;
    let start = start_at as *mut Start;
    // SAFETY: The memory is the new thread's, and aligned.
    unsafe {
        start.write(Start {
            frame: frame.copy(),
            saved: [0; 6],
            sp: sp - RED_ZONE,
            resume: frame.stub(),
        });
    }
    let kept_at = start_at - size_of::<Kept>() as u64;
    let (mxcsr, control) = control_words();
    // SAFETY: As above.
    unsafe {
        (kept_at as *mut Kept).write(Kept {
            mxcsr,
            control: u32::from(control),
            registers: [0; 6],
            resume: flexsc_threads_begin as usize as u64,
        });
    }
    frame.start = start_at + offset_of!(Start, saved) as u64;
    Context { sp: kept_at, fs }
}

/// The floating-point control of the running thread, which a new one inherits.
fn control_words() -> (u32, u16) {
    let mut mxcsr = 0_u32;
    let mut control = 0_u16;
    // SAFETY: Stores four bytes.
    unsafe { asm!("stmxcsr [{}]", in(reg) &raw mut mxcsr, options(nostack)) };
    // SAFETY: Stores two bytes.
    unsafe { asm!("fnstcw [{}]", in(reg) &raw mut control, options(nostack)) };
    (mxcsr, control)
}

/// The running thread's FS base.
pub(crate) fn fs_base() -> u64 {
    let fs: u64;
    // SAFETY: The processor has the instruction, or there are no user-level threads.
    unsafe { asm!("rdfsbase {}", out(reg) fs, options(nomem, nostack)) };
    fs
}
