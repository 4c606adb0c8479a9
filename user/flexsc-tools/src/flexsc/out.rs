// SPDX-License-Identifier: MIT OR Apache-2.0
//! Standard output that may be full or closed: that is one sentence, not a panic.

use std::fmt::Arguments;
use std::io::{self, Write};

/// Lines for standard output; after the first that fails none is tried.
pub struct Out {
    failure: Option<io::Error>,
}

impl Out {
    pub fn new() -> Out {
        Out { failure: None }
    }

    pub fn line(&mut self, text: Arguments<'_>) {
        if self.failure.is_none() {
            self.failure = writeln!(io::stdout(), "{text}").err();
        }
    }

    /// Says on standard error what went wrong; returns whether all was written.
    pub fn finish(mut self) -> bool {
        if self.failure.is_none() {
            self.failure = io::stdout().flush().err();
        }
        if let Some(failure) = &self.failure {
            complain(format_args!("cannot write to standard output: {failure}"));
        }
        self.failure.is_none()
    }
}

/// A sentence on standard error, if that can be had.
pub fn complain(sentence: Arguments<'_>) {
    let _ = writeln!(io::stderr(), "flexsc: {sentence}");
}
