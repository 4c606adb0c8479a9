// SPDX-License-Identifier: MIT OR Apache-2.0
//! Decides about one call of the program.
//!
//! Runs on the program's stack with the program's thread pointer, at any moment: see the crate's
//! rules. The usual path is short, because every call takes it.

use crate::calls::{self, CLONE, CLONE3, Class, EXIT_GROUP, MMAP};
use crate::process;
use crate::stub;
use crate::sys::entry::Frame;
use crate::sys::raw;
use crate::ult;

/// The entry's next step for a call. The entry compares the numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Verdict {
    /// The handler has made the call; the frame has the result.
    Done = 0,
    /// The entry makes the call.
    Plain = 1,
    /// The stub makes the call, with all registers unchanged.
    Reissue = 2,
    /// As `Done`, and a new user-level thread begins with the registers of this one.
    Begin = 3,
}

/// Decides about the call in `frame`.
pub(crate) fn handle(frame: &mut Frame) -> Verdict {
    let class = calls::class(frame.rax);
    process::count(class);
    if ult::is_on() {
        return of_user_thread(frame, class);
    }
    match class {
        Class::Reissue => reissue(frame),
        Class::Post if frame.rax == MMAP && maps_code(frame) => map_code(frame),
        Class::Plain if frame.rax == EXIT_GROUP => end(),
        _ if frame.site_flags() & stub::AT_SITE != 0 => Verdict::Reissue,
        _ => Verdict::Plain,
    }
}

// Rare cases are out of line: otherwise their registers would be saved for every call.

#[inline(never)]
fn reissue(frame: &mut Frame) -> Verdict {
    if process::has_one_thread() && makes_thread(frame) {
        process::make_thread();
        if ult::is_on() {
            return ult::handle(frame, Class::Reissue);
        }
    }
    Verdict::Reissue
}

#[inline(never)]
fn of_user_thread(frame: &mut Frame, class: Class) -> Verdict {
    match class {
        Class::Post if frame.rax == MMAP && maps_code(frame) => map_code(frame),
        Class::Plain if frame.rax == EXIT_GROUP => end(),
        _ => ult::handle(frame, class),
    }
}

#[inline(never)]
fn end() -> Verdict {
    process::end();
    Verdict::Plain
}

/// Returns true if the call makes a thread that shares the program's memory and runs beside it.
#[inline(never)]
fn makes_thread(frame: &Frame) -> bool {
    const VM: u64 = 0x100;
    const VFORK: u64 = 0x4000;
    let flags = match frame.rax {
        CLONE => frame.args[0],
        // The flags are the first word. If the word cannot be read, there may be a thread.
        CLONE3 => raw::peek(frame.args[0]).unwrap_or(VM),
        _ => 0,
    };
    flags & (VM | VFORK) == VM
}

/// Returns true if the call maps a file as code, into memory of the process's own: changes of a
/// shared mapping would reach the file.
fn maps_code(frame: &Frame) -> bool {
    const EXEC: u64 = raw::PROT_EXEC as u64;
    const SHARED_PRIVATE_ANONYMOUS: u64 = 0x23;
    const PRIVATE: u64 = 2;
    frame.args[2] & EXEC != 0 && frame.args[3] & SHARED_PRIVATE_ANONYMOUS == PRIVATE
}

#[inline(never)]
fn map_code(frame: &mut Frame) -> Verdict {
    let result = raw::call_of_program(frame.rax, frame.args);
    frame.rax = result;
    // A negative number is an error.
    if (result as i64) >= 0 {
        let [_, len, _, _, fd, offset] = frame.args;
        process::code_was_mapped(fd as i32, offset, result..result.saturating_add(len));
    }
    Verdict::Done
}
