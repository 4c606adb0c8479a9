// SPDX-License-Identifier: MIT OR Apache-2.0
//! The path from a stub to the handler, and the memory of the stubs.
//!
//! The entry keeps all registers except those that a system call changes (rax, rcx, r11) and the flags,
//! which no compiler keeps across assembly code. It saves xmm0 to xmm15 because the handler is compiled code. Instructions that are not
//! encoded with VEX leave the upper parts of vector registers alone, so that they survive too.
//!
//! The stubs lie in this library's own memory, so that unwinders find the one entry that describes
//! them all: the site's stack pointer is that of the stub, 128 higher between ENTER and LEAVE, and
//! the site's address stands in the stub.

use core::arch::global_asm;
use core::mem::offset_of;

use crate::handler::{Verdict, handle};
use crate::stub;
use crate::sys::raw::{self, Errno, PROT_EXEC, PROT_READ};

/// A call on its way: the program's registers.
#[repr(C, align(16))]
pub(crate) struct Frame {
    /// The number; finally the result.
    pub(crate) rax: u64,
    pub(crate) args: [u64; 6],
    /// The address behind the stub's call of the entry.
    stub: u64,
    /// For [`Verdict::Begin`]: where to put rbx, rbp, r12 to r15.
    pub(crate) start: u64,
    xmm: [u128; 16],
}

impl Frame {
    /// Where the vector registers are.
    pub(super) const XMM: usize = offset_of!(Frame, xmm);

    /// The stub's instruction behind its call of the entry.
    pub(super) fn stub(&self) -> u64 {
        self.stub
    }

    /// A frame that belongs to nobody, with the same registers.
    pub(super) fn copy(&self) -> Frame {
        Frame {
            rax: self.rax,
            args: self.args,
            stub: self.stub,
            start: 0,
            xmm: self.xmm,
        }
    }

    /// The flags of the site's stub.
    pub(crate) fn site_flags(&self) -> u8 {
        let at = (self.stub & !(stub::LEN as u64 - 1)) as usize + stub::FLAGS;
        // SAFETY: Only stubs call the entry, and every stub has its flags at this address.
        unsafe { (at as *const u8).read() }
    }
}

/// A page of stubs: the unit in which they become executable.
pub(crate) const STUBS_OF_PAGE: usize = 4096 / stub::LEN;
/// The number of pages for stubs.
pub(crate) const STUB_PAGES: usize = 256;

global_asm!(
    ".pushsection .text.flexsc_threads_entry,\"ax\",@progbits",
    ".p2align 6",
    ".globl flexsc_threads_entry",
    ".hidden flexsc_threads_entry",
    ".type flexsc_threads_entry,@function",
    "flexsc_threads_entry:",
    ".cfi_startproc",
    "push rbp",
    ".cfi_def_cfa_offset 16",
    ".cfi_offset rbp, -16",
    "mov rbp, rsp",
    ".cfi_def_cfa_register rbp",
    "sub rsp, {size}",
    "and rsp, -16",
    "mov [rsp], rax",
    "mov [rsp + {args}], rdi",
    "mov [rsp + {args} + 8], rsi",
    "mov [rsp + {args} + 16], rdx",
    "mov [rsp + {args} + 24], r10",
    "mov [rsp + {args} + 32], r8",
    "mov [rsp + {args} + 40], r9",
    "mov rcx, [rbp + 8]",
    "mov [rsp + {stub}], rcx",
    ".irp n, 0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15",
    "movaps [rsp + {xmm} + 16 * \\n], xmm\\n",
    ".endr",
    "mov rdi, rsp",
    "call {handler}",
    ".irp n, 0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15",
    "movaps xmm\\n, [rsp + {xmm} + 16 * \\n]",
    ".endr",
    "mov rdi, [rsp + {args}]",
    "mov rsi, [rsp + {args} + 8]",
    "mov rdx, [rsp + {args} + 16]",
    "mov r10, [rsp + {args} + 24]",
    "mov r8, [rsp + {args} + 32]",
    "mov r9, [rsp + {args} + 40]",
    "mov ecx, eax",
    "mov rax, [rsp]",
    "cmp cl, {plain}",
    "ja 3f",
    "jb 2f",
    ".globl flexsc_threads_call",
    ".hidden flexsc_threads_call",
    "flexsc_threads_call:",
    "syscall",
    "2:",
    "leave",
    ".cfi_remember_state",
    ".cfi_def_cfa rsp, 8",
    // Clears ZF: the call has been made.
    "test rsp, rsp",
    "ret",
    ".cfi_restore_state",
    "3:",
    "cmp cl, {begin}",
    "jne 4f",
    // The new thread begins with these registers.
    "mov rcx, [rsp + {start}]",
    "mov [rcx], rbx",
    "mov r11, [rbp]",
    "mov [rcx + 8], r11",
    "mov [rcx + 16], r12",
    "mov [rcx + 24], r13",
    "mov [rcx + 32], r14",
    "mov [rcx + 40], r15",
    "jmp 2b",
    "4:",
    "leave",
    ".cfi_def_cfa rsp, 8",
    // Sets ZF: the stub makes the call.
    "cmp eax, eax",
    "ret",
    ".cfi_endproc",
    ".size flexsc_threads_entry, . - flexsc_threads_entry",
    ".popsection",
    size = const size_of::<Frame>(),
    args = const offset_of!(Frame, args),
    stub = const offset_of!(Frame, stub),
    xmm = const offset_of!(Frame, xmm),
    start = const offset_of!(Frame, start),
    plain = const Verdict::Plain as u8,
    begin = const Verdict::Begin as u8,
    handler = sym enter,
);

// The unwind entry, in DWARF's expressions. "pc" is the program counter in the stub.
//
// Frame address: rsp + ((pc & 127) >= ENTER + 5 && (pc & 127) < LEAVE ? 128 : 0)
// Return address: saved at (pc & -128) + RESUME
global_asm!(
    ".pushsection .bss.flexsc_threads_stubs,\"aw\",@nobits",
    ".p2align 12",
    ".globl flexsc_threads_stubs",
    ".hidden flexsc_threads_stubs",
    ".type flexsc_threads_stubs,@function",
    "flexsc_threads_stubs:",
    ".cfi_startproc",
    // DW_CFA_def_cfa_expression, 19 bytes: breg7 (rsp) 0, breg16 (pc) 0, const1u 127, and, dup,
    // const1u, ge, swap, const1u, lt, and, lit7, shl, plus.
    ".cfi_escape 0x0f, 19, 0x77, 0, 0x80, 0, 0x08, 127, 0x1a, 0x12, 0x08, {lowered}, 0x2a, 0x16, 0x08, {leave}, 0x2d, 0x1a, 0x37, 0x24, 0x22",
    // DW_CFA_expression for register 16, 7 bytes: breg16 0, const1s -128, and, plus_uconst RESUME.
    ".cfi_escape 0x10, 16, 7, 0x80, 0, 0x09, 0x80, 0x1a, 0x23, {resume}",
    ".skip {len}",
    ".cfi_endproc",
    ".size flexsc_threads_stubs, . - flexsc_threads_stubs",
    ".popsection",
    lowered = const stub::ENTER + 5,
    leave = const stub::LEAVE,
    resume = const stub::RESUME,
    len = const STUB_PAGES * STUBS_OF_PAGE * stub::LEN,
);

unsafe extern "C" {
    fn flexsc_threads_entry();
    fn flexsc_threads_call();
    fn flexsc_threads_stubs();
    /// The library's first byte, defined by the linker.
    fn __ehdr_start();
}

/// The handler, in the form that the entry calls.
///
/// # Safety
///
/// `frame` is a frame that only this call uses.
unsafe extern "C" fn enter(frame: *mut Frame) -> Verdict {
    // SAFETY: The entry has made the frame on the stack, and waits.
    let frame = unsafe { &mut *frame };
    handle(frame)
}

/// The address of the entry, which stubs call.
pub(crate) fn entry() -> u64 {
    flexsc_threads_entry as usize as u64
}

/// The address of the instruction that makes plain calls.
pub(crate) fn call() -> u64 {
    flexsc_threads_call as usize as u64
}

/// The length of that instruction.
pub(crate) const SYSCALL_LEN: u64 = 2;

/// The address of the first stub.
pub(crate) fn stubs() -> u64 {
    flexsc_threads_stubs as usize as u64
}

/// The end of the stubs.
pub(crate) fn stubs_end() -> u64 {
    stubs() + (STUB_PAGES * STUBS_OF_PAGE * stub::LEN) as u64
}

/// The beginning of the library. There is no code behind its stubs.
pub(crate) fn library() -> u64 {
    __ehdr_start as usize as u64
}

/// Returns true if an address is in the stubs.
pub(crate) fn is_stub(address: u64) -> bool {
    (stubs()..stubs_end()).contains(&address)
}

/// Pages of stubs that are being written. No thread executes them.
pub(crate) struct Page {
    index: usize,
    count: usize,
}

impl Page {
    /// Makes `count` pages from the page `index` on writable.
    pub(crate) fn new(index: usize, count: usize) -> Result<Self, Errno> {
        assert!(index + count <= STUB_PAGES, "no such pages of stubs");
        let page = Page { index, count };
        // Memory that is already writable is left alone: this is the common case.
        page.protect(PROT_READ | raw::PROT_WRITE)?;
        Ok(page)
    }

    fn protect(&self, prot: usize) -> Result<(), Errno> {
        let at = stubs() as usize + self.index * STUBS_OF_PAGE * stub::LEN;
        let len = self.count * STUBS_OF_PAGE * stub::LEN;
        // SAFETY: No thread executes the pages, and only `write` writes to them.
        unsafe { raw::protect(at, len, prot) }
    }

    /// The address of a stub on these pages.
    pub(crate) fn address(&self, stub: usize) -> u64 {
        assert!(stub < self.count * STUBS_OF_PAGE, "no such stub");
        stubs() + ((self.index * STUBS_OF_PAGE + stub) * stub::LEN) as u64
    }

    pub(crate) fn write(&mut self, stub: usize, code: &[u8; stub::LEN]) {
        let at = self.address(stub) as *mut [u8; stub::LEN];
        // SAFETY: The stub is on these pages, which are writable and not used by anything else.
        unsafe { at.write(*code) };
    }

    /// Makes the pages executable, and constant.
    pub(crate) fn finish(self) -> Result<(), Errno> {
        self.protect(PROT_READ | PROT_EXEC)
    }
}
