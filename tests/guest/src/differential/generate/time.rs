// SPDX-License-Identifier: MIT OR Apache-2.0
//! Clocks, timers, sleeping, futexes.

use super::{Gen, reg};
use crate::differential::normal::Norm;
use crate::differential::op::{Buf, Ret, Val};

fn clock(g: &Gen) {
    let out = || Buf::out(16).like(Norm::Nothing);
    let which = g.pick(&[0, 1, 4, 5, 7, 11, 99]);
    g.push(
        match g.below(8) {
            0 | 1 => op!(SYS_clock_gettime, which, out()),
            2 => op!(SYS_clock_gettime, 3, out()).own(),
            3 => op!(SYS_clock_gettime, 2, out()),
            4 => op!(SYS_clock_getres, which, Buf::out(16)),
            5 => op!(SYS_gettimeofday, out(), Buf::out(8)),
            6 => op!(SYS_time, out()).ret(Ret::Success),
            _ => op!(SYS_times, Buf::out(32).like(Norm::Nothing)).ret(Ret::Success),
        }
        .pure(),
    );
}

fn sleep(g: &Gen) {
    let time = Buf::words(&[0, g.below(50_000)]);
    let bad = Buf::words(&[0, 1_000_000_000]);
    g.push(match g.below(5) {
        0 => op!(SYS_nanosleep, time, 0),
        1 => op!(SYS_clock_nanosleep, g.pick(&[0, 1, 7]), 0, time, 0),
        2 => op!(SYS_clock_nanosleep, 1, 1, Buf::words(&[1, 0]), 0),
        3 => op!(SYS_clock_nanosleep, 3, 0, time, 0).refused(),
        _ => op!(SYS_nanosleep, bad, 0),
    });
}

/// Timers that are due in hours: the remaining time differs between runs, but all of them run.
fn timer(g: &Gen) {
    let reg = g.pick(&reg::TIMERS);
    let id = Val::Reg(reg);
    let long = Buf::words(&[0, 0, 9000, 0]);
    let old = || Buf::out(32).like(Norm::Nothing);
    match g.below(9) {
        0 => {
            g.push(op!(SYS_timer_delete, id).ends(reg));
            // SIGEV_NONE, or SIGEV_SIGNAL with a signal of its own
            let event = Buf::zeroed(64).u32(8, 44).u32(12, g.pick(&[0, 1]));
            let clock = g.pick(&[0, 1, 7, 2]);
            g.push(op!(SYS_timer_create, clock, event, Buf::out(4)).save_from(reg, 1, 0));
        }
        1 => g.push(op!(SYS_timer_settime, id, 0, long, old())),
        2 => g.push(op!(SYS_timer_settime, id, 0, Buf::words(&[0; 4]), 0)),
        3 => g.push(op!(SYS_timer_gettime, id, old()).pure()),
        4 => g.push(op!(SYS_timer_getoverrun, id).pure()),
        5 => g.push(op!(
            SYS_setitimer,
            g.below(4),
            Buf::words(&[5, 0, 7000, 0]),
            old()
        )),
        6 => g.push(op!(SYS_getitimer, g.below(4), old()).pure()),
        7 => g.push(op!(SYS_setitimer, 0, Buf::words(&[0; 4]), 0)),
        _ => g.push(op!(SYS_alarm, g.pick(&[0, 9000])).ret(Ret::Success)),
    }
}

/// Futex words that no other task uses: none waits, and none wakes.
fn futex(g: &Gen) {
    let word = Buf::words(&[7]);
    let time = Buf::words(&[0, g.below(100_000)]);
    let expected = g.pick(&[7, 7, 8]);
    let wait = Buf::zeroed(24)
        .u64(0, expected)
        .field(8, 8, word.clone())
        .u32(16, 2);
    let until = Buf::words(&[1, 0]);
    g.push(match g.below(7) {
        0 => op!(SYS_futex, word, 0, expected, time, 0, 0),
        1 => op!(SYS_futex, word, g.pick(&[1, 129]), 5, 0, 0, 0),
        2 => op!(SYS_futex, word, 9, expected, until, 0, 3),
        3 => op!(SYS_futex, word.clone(), 4, 1, 1, word, expected),
        4 => op!(SYS_futex_waitv, wait, 1, 0, until, 1),
        5 => op!(SYS_futex_wake, word, 3, 1, 2),
        _ => op!(SYS_futex_wait, word, expected, 3, 2, until, 1),
    });
}

pub fn any(g: &Gen) {
    match g.below(100) {
        0..40 => {
            for _ in 0..=g.below(4) {
                clock(g);
            }
        }
        40..55 => sleep(g),
        55..80 => timer(g),
        _ => futex(g),
    }
}
