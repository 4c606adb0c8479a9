// SPDX-License-Identifier: MIT OR Apache-2.0

//! Tests counts that a program can increase without end: the module is built with overflow
//! checks, so a count that overflows would stop the machine.

use std::sync::atomic::AtomicU32;

use crate::backlog::{Backlog, Streak, LOOKS, ROUNDS};

#[test]
fn busy_rounds_do_not_overflow() {
    let mut streak = Streak(u32::MAX - ROUNDS);
    let told = (0..10 * ROUNDS).filter(|_| streak.was_busy()).count();
    assert!((9..=10).contains(&told), "{told}");
    streak.was_idle();
    for _ in 1..ROUNDS {
        assert!(!streak.was_busy());
    }
    assert!(streak.was_busy());
}

#[test]
fn looks_at_a_backlog_do_not_overflow() {
    let backlog = Backlog(AtomicU32::new(u32::MAX - LOOKS));
    let found = (0..10 * LOOKS).filter(|_| backlog.note(true)).count();
    assert!(found >= 8 * LOOKS as usize, "{found}");
    assert!(!backlog.note(false));
    for _ in 1..LOOKS {
        assert!(!backlog.note(true));
    }
    assert!(backlog.note(true));
    backlog.forget();
    assert!(!backlog.note(true));
}
