// SPDX-License-Identifier: MIT OR Apache-2.0
//! The functions that the compiler calls for copies and comparisons, and the panic handler.
//!
//! The C library's versions use AVX registers, which the entry does not save, and the dynamic
//! linker would have to bind them first. The symbols are hidden: the program never sees them.

use core::fmt::Write;
use core::panic::PanicInfo;

use crate::log::Line;
use crate::sys::raw;

core::arch::global_asm!(
    ".pushsection .text.flexsc_memory,\"ax\",@progbits",
    ".macro hidden name",
    ".globl \\name",
    ".hidden \\name",
    ".type \\name,@function",
    "\\name:",
    ".endm",
    "hidden memcpy",
    "mov rax, rdi",
    "mov rcx, rdx",
    "rep movsb",
    "ret",
    "hidden memmove",
    "mov rax, rdi",
    "mov rcx, rdx",
    "mov r8, rdi",
    "sub r8, rsi",
    "cmp r8, rdx",
    "jb 2f",
    "rep movsb",
    "ret",
    // The destination begins inside the source: backwards.
    "2: lea rdi, [rdi + rcx - 1]",
    "lea rsi, [rsi + rcx - 1]",
    "std",
    "rep movsb",
    "cld",
    "ret",
    "hidden memset",
    "mov r8, rdi",
    "mov eax, esi",
    "mov rcx, rdx",
    "rep stosb",
    "mov rax, r8",
    "ret",
    "hidden bcmp",
    "hidden memcmp",
    "xor eax, eax",
    "xor r8d, r8d",
    "3: cmp r8, rdx",
    "jae 4f",
    "movzx eax, byte ptr [rdi + r8]",
    "movzx ecx, byte ptr [rsi + r8]",
    "inc r8",
    "sub eax, ecx",
    "jz 3b",
    "4: ret",
    "hidden strlen",
    "xor eax, eax",
    "5: cmp byte ptr [rdi + rax], 0",
    "je 6f",
    "inc rax",
    "jmp 5b",
    "6: ret",
    // Precompiled parts of the language refer to this symbol; nothing unwinds through them.
    "hidden rust_eh_personality",
    "ud2",
    ".purgem hidden",
    ".popsection",
);

#[panic_handler]
fn panic(info: &PanicInfo<'_>) -> ! {
    let mut line = Line::new();
    // A line that is too long is cut off.
    let _ = writeln!(line, "libflexsc_threads.so: internal error: {info}");
    raw::write(2, line.bytes());
    raw::abort()
}
