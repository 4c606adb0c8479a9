// SPDX-License-Identifier: MIT OR Apache-2.0
//! Calls by name, plain and posted, with arguments of any type that fits.

/// `plain!(SYS_read, fd, pointer, length)`: a plain system call.
macro_rules! plain {
    ($nr:ident $(, $arg:expr)* $(,)?) => {
        $crate::kit::sys::syscall(
            libc::$nr,
            $crate::kit::sys::args(&[$($crate::kit::sys::Arg::word($arg)),*]),
        )
    };
}

/// `call!(SYS_read, fd, pointer, length)`: a call to post.
macro_rules! call {
    ($nr:ident $(, $arg:expr)* $(,)?) => {
        $crate::kit::ring::Call::new(
            libc::$nr as u16,
            $crate::kit::sys::args(&[$($crate::kit::sys::Arg::word($arg)),*]),
        )
    };
}
