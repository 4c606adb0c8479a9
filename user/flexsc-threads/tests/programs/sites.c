/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * An object with `syscall` instructions in all surroundings. Each function makes getppid (number
 * 110), fills the other registers before and compares them afterwards; it returns 0 if a register
 * has changed.
 */
#include <string.h>
#include <unistd.h>

/* Registers, vector registers, red zone: filled before BODY and compared after it. */
#define SITE(name, body)                                                       \
	long name(void);                                                       \
	asm(".text\n.p2align 4\n.globl " #name "\n.hidden " #name "\n.type " #name \
	    ",@function\n" #name ":\n.cfi_startproc\n"                         \
	    "push %rbx\n.cfi_adjust_cfa_offset 8\n"                            \
	    "push %r12\n.cfi_adjust_cfa_offset 8\n"                            \
	    "movabs $0x1122334455667788, %rbx\n"                               \
	    "mov %rbx, -8(%rsp)\nmov %rbx, -120(%rsp)\nmov %rbx, -128(%rsp)\n" \
	    "mov %rbx, %rdi\nmov %rbx, %rsi\nmov %rbx, %rdx\nmov %rbx, %r8\n"  \
	    "mov %rbx, %r9\nmov %rbx, %r10\nmov %rbx, %r12\n"                  \
	    "movq %rbx, %xmm0\nmovq %rbx, %xmm7\nmovq %rbx, %xmm15\n"          \
	    "punpcklqdq %xmm15, %xmm15\n" body "\n"                            \
	    "cmp %rbx, %rdi\njne 9f\ncmp %rbx, %rsi\njne 9f\n"                 \
	    "cmp %rbx, %rdx\njne 9f\ncmp %rbx, %r8\njne 9f\n"                  \
	    "cmp %rbx, %r9\njne 9f\ncmp %rbx, %r10\njne 9f\n"                  \
	    "cmp %rbx, %r12\njne 9f\n"                                         \
	    "cmp %rbx, -8(%rsp)\njne 9f\ncmp %rbx, -120(%rsp)\njne 9f\n"       \
	    "cmp %rbx, -128(%rsp)\njne 9f\n"                                   \
	    "movq %xmm0, %rcx\ncmp %rbx, %rcx\njne 9f\n"                       \
	    "movq %xmm7, %rcx\ncmp %rbx, %rcx\njne 9f\n"                       \
	    "movhlps %xmm15, %xmm15\nmovq %xmm15, %rcx\ncmp %rbx, %rcx\njne 9f\n" \
	    "jmp 8f\n9: xor %eax, %eax\n8:\n"                                  \
	    "pop %r12\n.cfi_adjust_cfa_offset -8\n"                            \
	    "pop %rbx\n.cfi_adjust_cfa_offset -8\nret\n.cfi_endproc\n"         \
	    ".size " #name ", . - " #name "\n")

/* The usual one: five bytes in front. */
SITE(constant, "mov $110, %eax\nsyscall");
/* Seven bytes in front. */
SITE(wide, "mov $110, %rax\nsyscall");
/* Short instructions in front. */
SITE(shorts, "xor %eax, %eax\nmov $110, %al\nnop\nsyscall");
/* Relative to the instruction pointer. */
asm(".section .rodata\nflexsc_number: .long 110\n.text\n");
SITE(relative, "mov flexsc_number(%rip), %eax\nsyscall");
/* A jump leads to the syscall itself: the window begins there. */
SITE(target, "mov $110, %eax\njmp 1f\n.p2align 4\nmov $39, %eax\n1: syscall\nmov %rax, %rax\nnop");
/* A jump leads between the instructions in front. */
SITE(between, "mov $110, %ecx\nxor %eax, %eax\njmp 1f\nnop\nnop\nxor %ecx, %ecx\n"
	      "1: mov %ecx, %eax\nsyscall\nmov %rax, %rax\nnop");
/* From behind, in a loop: the second round makes the call again. */
SITE(loop, "mov $2, %r12d\n1: mov $110, %eax\nsyscall\ndec %r12d\njnz 1b\nmov %rbx, %r12");
/* Directly behind a call of a function. */
SITE(behind, "sub $136, %rsp\ncall flexsc_nothing\nmov $110, %eax\nsyscall\nadd $136, %rsp");
asm(".text\n.hidden flexsc_nothing\nflexsc_nothing: .cfi_startproc\nret\n.cfi_endproc\n");
/* The flags are compared afterwards. */
SITE(flags, "mov $110, %eax\nsyscall\ntest %rax, %rax\njns 2f\nxor %edi, %edi\n2:");
/* Nothing can be replaced: the jumps lead to everything. */
SITE(crowded, "mov $110, %eax\njmp 1f\n.p2align 4\n3: jmp 2f\n1: syscall\njmp 2f\n.p2align 4\n2:");
/* The stack pointer changes in front. */
SITE(lowered, "mov $110, %eax\nlea -64(%rsp), %rsp\nsyscall\nnop\nnop\nnop\nlea 64(%rsp), %rsp");

int test_sites(void)
{
	long (*const sites[])(void) = {
		constant, wide, shorts, relative, target, between, loop, behind, flags, lowered,
#ifndef ONLY_PATCHED
		crowded,
#endif
	};
	int good = 0;

	for (unsigned i = 0; i < sizeof(sites) / sizeof(sites[0]); i++)
		good += sites[i]() == getppid();
	return good;
}
