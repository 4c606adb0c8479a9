// SPDX-License-Identifier: MIT OR Apache-2.0
//! The library's beginning: the dynamic linker calls it before the program's own code.

use core::ffi::{CStr, c_char, c_int};

use crate::process;
use crate::sys::image::Program;

#[cfg(panic = "abort")]
#[used]
#[unsafe(link_section = ".init_array")]
static START: unsafe extern "C" fn(c_int, *const *const c_char, *const *const c_char) = start;

/// # Safety
///
/// `environment` is the one on the process's initial stack, followed by the auxiliary vector.
unsafe extern "C" fn start(
    _count: c_int,
    _arguments: *const *const c_char,
    environment: *const *const c_char,
) {
    let mut log = None;
    let mut switch = None;
    let mut at = environment;
    loop {
        // SAFETY: The environment ends with a null pointer, which ends the loop.
        let text = unsafe { at.read() };
        // SAFETY: As above; the null pointer is followed by the auxiliary vector.
        at = unsafe { at.add(1) };
        if text.is_null() {
            break;
        }
        // SAFETY: The strings of the initial stack end with a zero and stay.
        let text: &'static CStr = unsafe { CStr::from_ptr(text) };
        log = log.or_else(|| value(text, b"FLEXSC_THREADS_LOG="));
        switch = switch.or_else(|| value(text, b"FLEXSC_THREADS="));
    }
    // SAFETY: The promise of `start`.
    let program = unsafe { program(at.cast()) };
    process::start(program, log.unwrap_or(c""), switch.unwrap_or(c""));
}

/// The rest of a text that begins with `name`.
fn value(text: &'static CStr, name: &[u8]) -> Option<&'static CStr> {
    let rest = text.to_bytes_with_nul().strip_prefix(name)?;
    CStr::from_bytes_with_nul(rest).ok()
}

/// Reads the auxiliary vector.
///
/// # Safety
///
/// `vector` is an auxiliary vector: pairs of words, up to a pair whose first word is 0.
unsafe fn program(vector: *const [u64; 2]) -> Program {
    const AT_PHDR: u64 = 3;
    const AT_PHNUM: u64 = 5;
    const AT_HWCAP2: u64 = 26;
    const HWCAP2_FSGSBASE: u64 = 2;
    const AT_SYSINFO_EHDR: u64 = 33;
    let mut program = Program {
        headers: (0, 0),
        vdso: 0,
        has_fsgsbase: false,
    };
    let mut at = vector;
    loop {
        // SAFETY: The caller's promise; the loop ends with the vector.
        let [kind, value] = unsafe { at.read() };
        match kind {
            0 => return program,
            AT_PHDR => program.headers.0 = value,
            AT_PHNUM => program.headers.1 = value as usize,
            AT_HWCAP2 => program.has_fsgsbase = value & HWCAP2_FSGSBASE != 0,
            AT_SYSINFO_EHDR => program.vdso = value,
            _ => {}
        }
        // SAFETY: As above.
        at = unsafe { at.add(1) };
    }
}
