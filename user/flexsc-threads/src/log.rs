// SPDX-License-Identifier: MIT OR Apache-2.0
//! The log that FLEXSC_THREADS_LOG asks for: a line for each object and site that was patched, or
//! was not patched and why.

use core::ffi::CStr;
use core::fmt::{self, Write};

use crate::sys::raw;

/// A line that is being written; text that does not fit is cut off.
pub(crate) struct Line {
    bytes: [u8; 512],
    len: usize,
}

impl Line {
    pub(crate) fn new() -> Self {
        Line {
            bytes: [0; 512],
            len: 0,
        }
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

impl Write for Line {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        // The last byte is for the end of the line.
        let room = &mut self.bytes[self.len..511];
        let len = text.len().min(room.len());
        room[..len].copy_from_slice(&text.as_bytes()[..len]);
        self.len += len;
        Ok(())
    }
}

/// The destination of the log.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Log {
    Off,
    /// Standard error.
    Stderr,
    /// A file, which is opened for each line: the program may close any descriptor.
    File(&'static CStr),
}

impl Log {
    /// The log that the variable's value asks for.
    pub(crate) fn new(value: &'static CStr) -> Self {
        match value.to_bytes() {
            b"" => Log::Off,
            b"stderr" => Log::Stderr,
            _ => Log::File(value),
        }
    }

    pub(crate) fn is_on(self) -> bool {
        !matches!(self, Log::Off)
    }

    /// Writes a line. Best effort: the program must not fail because of the log.
    pub(crate) fn line(self, text: fmt::Arguments<'_>) {
        if !self.is_on() {
            return;
        }
        let mut line = Line::new();
        let _ = write!(line, "flexsc-threads[{}]: {text}", raw::getpid());
        line.bytes[line.len] = b'\n';
        line.len += 1;
        match self {
            Log::Off => {}
            Log::Stderr => raw::write(2, line.bytes()),
            Log::File(path) => {
                if let Ok(fd) = raw::open_to_append(path) {
                    raw::write(fd, line.bytes());
                    raw::close(fd);
                }
            }
        }
    }
}
