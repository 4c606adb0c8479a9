// SPDX-License-Identifier: MIT OR Apache-2.0
//! Marks regions for the processor model: see `docs/model.md`.
//!
//! A marker is a no-op with a displacement that the model's plugin looks for. Without the plugin it
//! has no effect.

use std::arch::asm;
use std::io;

use flexsc_model::marker::{MAGIC, Marker};

macro_rules! execute {
    ($marker:expr) => {
        // SAFETY: a no-op of seven bytes, the last four of which are the marker's displacement.
        unsafe {
            asm!(".byte 0x0f, 0x1f, 0x80", ".long {0}", const MAGIC + $marker as u32,
                options(nostack, preserves_flags));
        }
    };
}

/// Sends text to the label of the next region.
fn send(text: &str) {
    for byte in text.bytes() {
        for bit in 0..8 {
            if (byte >> bit) & 1 == 0 {
                execute!(Marker::Zero);
            } else {
                execute!(Marker::One);
            }
        }
    }
}

/// Begins the label of the next region: suite, operation and backend, then processors and batch.
pub fn begin_label(names: &[&str], numbers: &[usize]) {
    for name in names {
        send(name);
        send(",");
    }
    for number in numbers {
        send(&number.to_string());
        send(",");
    }
}

/// Completes the label.
pub fn add_calls(calls: usize) {
    send(&calls.to_string());
}

/// Runs a region.
///
/// # Errors
///
/// Those of the region.
#[inline(always)]
pub fn region(run: impl FnOnce() -> io::Result<u64>) -> io::Result<u64> {
    execute!(Marker::Start);
    let result = run();
    execute!(Marker::Stop);
    result
}

/// Fills the model's caches with lines of another program.
#[inline(always)]
pub fn prime() {
    execute!(Marker::Prime);
}

/// No region follows: the model may ignore what the machine does.
pub fn pause() {
    execute!(Marker::Pause);
}
