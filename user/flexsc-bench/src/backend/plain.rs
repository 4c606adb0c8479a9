// SPDX-License-Identifier: MIT OR Apache-2.0
//! The syscall instruction, with as many arguments as the call has.

use std::arch::asm;
use std::io;

use super::Backend;
use crate::request::{Raw, Request};

/// Plain system calls.
#[derive(Debug)]
pub struct Plain;

macro_rules! trap {
    ($nr:expr $(, $register:tt = $arg:expr)*) => {{
        let result: i64;
        // SAFETY: the caller's promise; the call preserves all other registers.
        unsafe {
            asm!("syscall", inlateout("rax") $nr => result, $(in($register) $arg,)*
                lateout("rcx") _, lateout("r11") _, options(nostack));
        }
        result
    }};
}

/// Makes one system call.
///
/// # Safety
///
/// The arguments must be valid for this system call.
#[inline(always)]
#[must_use]
pub unsafe fn call(request: Request) -> i64 {
    let Raw { nr, args, used } = request.raw();
    let [a, b, c, d, e, f] = args;
    match used {
        0 => trap!(nr),
        1 => trap!(nr, "rdi" = a),
        2 => trap!(nr, "rdi" = a, "rsi" = b),
        3 => trap!(nr, "rdi" = a, "rsi" = b, "rdx" = c),
        4 => trap!(nr, "rdi" = a, "rsi" = b, "rdx" = c, "r10" = d),
        _ => trap!(
            nr,
            "rdi" = a,
            "rsi" = b,
            "rdx" = c,
            "r10" = d,
            "r8" = e,
            "r9" = f
        ),
    }
}

impl Backend for Plain {
    #[inline(always)]
    unsafe fn batch(
        &mut self,
        count: usize,
        request: impl Fn(usize) -> Request,
        mut take: impl FnMut(i64),
    ) -> io::Result<()> {
        for index in 0..count {
            // SAFETY: the caller's promise.
            take(unsafe { call(request(index)) });
        }
        Ok(())
    }
}
