// SPDX-License-Identifier: MIT OR Apache-2.0
//! Catches the system calls of an unmodified program.
//!
//! The dynamic linker loads the library in front of the program (`flexsc run PROGRAM`, or
//! LD_PRELOAD). At the program's first thread the library rewrites the `syscall` instructions of the
//! C library, the dynamic linker and all other shared objects into jumps to stubs. Every stub calls
//! the handler, which decides how the call is made. `docs/threads.md` says what works.
//!
//! | file | what |
//! |---|---|
//! | `process` | the phases of a process: loaded, patched, or left alone |
//! | `handler` | decides about one call |
//! | `calls` | a row for each call |
//! | `patch` | puts a plan into effect |
//! | `object` | objects, from memory or from their files |
//! | `plan` | the plan for each `syscall` instruction of an object |
//! | `stub` | the code of a stub |
//! | `window` | the instructions that a jump to a stub replaces |
//! | `flow` | instructions and jump targets of a function |
//! | `scan` | quick searches in machine code |
//! | `elf` | headers and function bounds of an object |
//! | `log` | the log that FLEXSC_THREADS_LOG asks for |
//! | `ult` | user-level threads |
//! | `sys` | everything unsafe |
//!
//! The handler runs in the middle of the program's own calls, on the program's stack and with its
//! thread pointer. So nothing here uses libc, thread-local storage, or locks that can outlive a
//! thread or a fork. The profile `threads` builds the library without std: the linker would report
//! an undefined symbol.

#![no_std]
// The other profiles cannot build the library: they only lint and test its parts.
#![cfg_attr(not(panic = "abort"), expect(dead_code, reason = "no entry point"))]

extern crate alloc;
#[cfg(any(test, not(panic = "abort")))]
extern crate std;

mod calls;
mod elf;
mod flow;
mod handler;
mod log;
mod object;
mod patch;
mod plan;
mod process;
mod scan;
mod stub;
mod sys;
mod ult;
mod window;

#[cfg(test)]
mod tests;
