// SPDX-License-Identifier: MIT OR Apache-2.0
//! Standard output that may be full or closed. A failure is reported in one sentence and
//! does not panic.

use std::fmt::Arguments;
use std::io::{self, Write};

/// Writes lines to standard output and stops after the first failure.
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

    /// Shows the lines so far.
    pub fn flush(&mut self) {
        if self.failure.is_none() {
            self.failure = io::stdout().flush().err();
        }
    }

    /// Returns true if everything was written so far.
    pub fn is_fine(&self) -> bool {
        self.failure.is_none()
    }

    /// Reports a failure on standard error. Returns true if everything was written.
    pub fn finish(mut self) -> bool {
        self.flush();
        if let Some(failure) = &self.failure {
            complain(format_args!("cannot write to standard output: {failure}"));
        }
        self.failure.is_none()
    }
}

/// Writes a sentence to standard error, if possible.
pub fn complain(sentence: Arguments<'_>) {
    let _ = writeln!(io::stderr(), "flexsc: {sentence}");
}
