// SPDX-License-Identifier: MIT OR Apache-2.0
//! Ctrl-C and its like: the copy ends as soon as what is half-written is
//! removed. A second one ends the program at once.

#![expect(unsafe_code, reason = "signal handlers")]

use std::sync::atomic::{AtomicI32, Ordering};

use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, raise, sigaction};

static CAME: AtomicI32 = AtomicI32::new(0);

const SIGNALS: [Signal; 3] = [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP];

extern "C" fn note(signal: i32) {
    CAME.store(signal, Ordering::Relaxed);
}

/// From now on signals are noted.
pub fn note_signals() {
    for signal in SIGNALS {
        // The second one has its usual effect. Calls are interrupted.
        let action = SigAction::new(
            SigHandler::Handler(note),
            SaFlags::SA_RESETHAND,
            SigSet::empty(),
        );
        // SAFETY: the handler stores one atomic number.
        let before = unsafe { sigaction(signal, &action) };
        // As nohup wants it.
        if let Ok(before) = before {
            if matches!(before.handler(), SigHandler::SigIgn) {
                // SAFETY: as it was.
                let _ = unsafe { sigaction(signal, &before) };
            }
        }
    }
}

/// The signal that has come.
pub fn came() -> Option<i32> {
    match CAME.load(Ordering::Relaxed) {
        0 => None,
        signal => Some(signal),
    }
}

/// Ends the program by this signal, as if it had not been noted.
pub fn end_by(signal: i32) {
    let Ok(signal) = Signal::try_from(signal) else {
        return;
    };
    let usual = SigAction::new(SigHandler::SigDfl, SaFlags::empty(), SigSet::empty());
    // SAFETY: no handler any more.
    if unsafe { sigaction(signal, &usual) }.is_ok() {
        let _ = raise(signal);
    }
}
