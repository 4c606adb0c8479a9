// SPDX-License-Identifier: MIT OR Apache-2.0
//! The outcome of a test, and macros that compare values and report the difference.

use std::fmt;

use nix::errno::Errno;

/// Why a test did not succeed.
#[derive(Debug)]
pub enum Failure {
    /// A check failed: its place and the values.
    Failed(String),
    /// The environment lacks something that the test needs (empty if a child has printed the
    /// reason).
    Skip(String),
}

/// The outcome of a test or of a part of one.
pub type Check<T = ()> = Result<T, Failure>;

impl Failure {
    /// A failed check at a place in the source.
    pub fn at(file: &str, line: u32, text: impl fmt::Display) -> Self {
        Failure::Failed(format!("{file}:{line}: {text}"))
    }

    /// The same failure, preceded by the circumstances.
    pub fn within(self, context: impl fmt::Display) -> Self {
        match self {
            Failure::Failed(text) => Failure::Failed(format!("{context}: {text}")),
            Failure::Skip(text) => Failure::Skip(text),
        }
    }
}

/// Ends the test as skipped: the environment (never the module) lacks `what`.
pub fn skip<T>(what: impl fmt::Display) -> Check<T> {
    Err(Failure::Skip(what.to_string()))
}

/// The result of a system call in readable form: `-11 (EAGAIN)`.
pub struct Ret(pub i64);

impl fmt::Display for Ret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            -4095..=-1 => write!(f, "{} ({:?})", self.0, Errno::from_raw(-self.0 as i32)),
            other => write!(f, "{other}"),
        }
    }
}

/// `fail!("text {value}")`: ends the test as failed.
macro_rules! fail {
    ($($text:tt)+) => {
        return Err($crate::check::Failure::at(file!(), line!(), format_args!($($text)+)))
    };
}

/// `check!(condition, "text with the values")`.
macro_rules! check {
    ($condition:expr, $($text:tt)+) => {
        if !$condition {
            fail!($($text)+);
        }
    };
}

/// `check_eq!("what", got, want)`.
macro_rules! check_eq {
    ($what:expr, $got:expr, $want:expr) => {{
        let (got, want) = (&$got, &$want);
        if *got != *want {
            fail!("{}: {:?}, expected {:?}", $what, got, want);
        }
    }};
}

/// `check_ret!("what", got, want)` for results of system calls (`-errno`).
macro_rules! check_ret {
    ($what:expr, $got:expr, $want:expr) => {{
        let (got, want) = (i64::from($got), i64::from($want));
        if got != want {
            use $crate::check::Ret;
            fail!("{}: {}, expected {}", $what, Ret(got), Ret(want));
        }
    }};
}

/// `ok!("what", result)`: the value of a `Result`, or a failed check.
macro_rules! ok {
    ($what:expr, $result:expr) => {
        match $result {
            Ok(value) => value,
            Err(error) => fail!("{}: {:?}", $what, error),
        }
    };
}
