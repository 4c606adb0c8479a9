// SPDX-License-Identifier: MIT OR Apache-2.0
//! Ctrl-C and similar signals: the copy ends as soon as incomplete files are removed. A
//! second signal ends the program at once.

#![expect(unsafe_code, reason = "signal handlers")]

use std::sync::atomic::{AtomicI32, Ordering};

use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, raise, sigaction};

static CAME: AtomicI32 = AtomicI32::new(0);

const SIGNALS: [Signal; 3] = [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP];

extern "C" fn note(signal: i32) {
    CAME.store(signal, Ordering::Relaxed);
}

/// Starts to record signals.
pub fn note_signals() {
    for signal in SIGNALS {
        // The second signal has its default effect. Calls are interrupted.
        let action = SigAction::new(
            SigHandler::Handler(note),
            SaFlags::SA_RESETHAND,
            SigSet::empty(),
        );
        // SAFETY: the handler stores one atomic number.
        let before = unsafe { sigaction(signal, &action) };
        // An ignored signal stays ignored, for nohup.
        if let Ok(before) = before {
            if matches!(before.handler(), SigHandler::SigIgn) {
                // SAFETY: restores the previous action.
                let _ = unsafe { sigaction(signal, &before) };
            }
        }
    }
}

/// Returns the signal that has arrived.
pub fn came() -> Option<i32> {
    match CAME.load(Ordering::Relaxed) {
        0 => None,
        signal => Some(signal),
    }
}

/// Ends the program by this signal, as if it had not been caught.
pub fn end_by(signal: i32) {
    let Ok(signal) = Signal::try_from(signal) else {
        return;
    };
    let usual = SigAction::new(SigHandler::SigDfl, SaFlags::empty(), SigSet::empty());
    // SAFETY: removes the handler.
    if unsafe { sigaction(signal, &usual) }.is_ok() {
        let _ = raise(signal);
    }
}
