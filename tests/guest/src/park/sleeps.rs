// SPDX-License-Identifier: MIT OR Apache-2.0
//! nanosleep() and clock_nanosleep() without a thread.

use std::fs;
use std::time::{Duration, Instant};

use super::{check_no_thread, park};
use crate::check::{Check, Ret, skip};
use crate::kit::child::{in_child, spawn};
use crate::kit::engine::Engine;
use crate::kit::mode::Mode;
use crate::kit::ring::{Call, Ring};
use crate::kit::trace::Trace;
use crate::kit::uffd::Slow;
use crate::kit::{in_some_try, patience, sys};

tests! { "park":
    sleeps => "nanosleep, and clock_nanosleep on each clock, hold no thread and take their time";
    sleeps_together => "64 sleeps at once hold no thread, and each takes its time";
    sleeps_end_softly => "the timers of parked calls expire outside of hard interrupts";
    sleep_of_nobody => "a sleep whose owner is not in WAIT ends in time";
    sleep_is_cancelled => "CANCEL ends a sleep with EINTR; a relative one tells its remaining time";
    sleep_fails => "a sleep with bad arguments fails like a plain one";
    memory_comes_late => "an owner that waits for memory as it parks a call holds up no other call";
    sleeps_in_namespace => "an absolute sleep follows the clocks of the time namespace";
}

const CLOCK_TAI: i32 = 11;
const CLOCKS: [i32; 4] = [
    libc::CLOCK_REALTIME,
    libc::CLOCK_MONOTONIC,
    libc::CLOCK_BOOTTIME,
    CLOCK_TAI,
];
const ABSOLUTE: i32 = libc::TIMER_ABSTIME;
const EVERY: Duration = Duration::from_millis(20);

fn start() -> Check<(Engine, Ring)> {
    Mode::Inline.start(1)
}

fn check_time(what: &str, begin: Instant, least: Duration) -> Check {
    let took = begin.elapsed();
    check!(took >= least && took < patience(), "{what}: {took:?}");
    Ok(())
}

/// The time that a clock will show after `wait`.
fn shows_after(clock: i32, wait: Duration) -> [i64; 2] {
    let mut time = [0i64; 2];
    plain!(SYS_clock_gettime, clock, time.as_mut_ptr());
    let ns = time[1] + i64::from(wait.subsec_nanos());
    [
        time[0] + wait.as_secs() as i64 + ns / 1_000_000_000,
        ns % 1_000_000_000,
    ]
}

/// Returns the result of a call that sleeps, and that is parked once.
fn sleep(engine: &Engine, ring: &mut Ring, call: Call) -> Check<i64> {
    let before = engine.stats()?.parked;
    let result = ring.result(call)?;
    check_eq!("parked", engine.stats()?.parked - before, 1);
    Ok(result)
}

fn sleep_on_all(engine: &Engine, ring: &mut Ring) -> Check {
    let before = engine.stats()?;
    let nap = [0i64, EVERY.subsec_nanos().into()];
    let begin = Instant::now();
    let slept = sleep(engine, ring, call!(SYS_nanosleep, nap.as_ptr(), 0))?;
    check_ret!("nanosleep", slept, 0);
    check_time("nanosleep", begin, EVERY)?;
    for clock in CLOCKS {
        let begin = Instant::now();
        let call = call!(SYS_clock_nanosleep, clock, 0, nap.as_ptr(), 0);
        check_ret!("clock_nanosleep", sleep(engine, ring, call)?, 0);
        check_time("clock_nanosleep", begin, EVERY)?;
        let begin = Instant::now();
        let until = shows_after(clock, EVERY);
        let call = call!(SYS_clock_nanosleep, clock, ABSOLUTE, until.as_ptr(), 0);
        check_ret!("clock_nanosleep until", ring.result(call)?, 0);
        check_time("clock_nanosleep until", begin, EVERY)?;
        let past = [1i64, 0];
        let call = call!(SYS_clock_nanosleep, clock, ABSOLUTE, past.as_ptr(), 0);
        check_ret!("clock_nanosleep in the past", ring.result(call)?, 0);
    }
    check_no_thread(engine, &before)
}

fn sleeps() -> Check {
    let (engine, mut ring) = start()?;
    sleep_on_all(&engine, &mut ring)?;
    let nothing = [0i64, 0];
    check_ret!(
        "nanosleep of no time",
        ring.result(call!(SYS_nanosleep, nothing.as_ptr(), 0))?,
        0
    );
    check!(engine.stats()?.timed_out >= 5, "too few times are over");
    Ok(())
}

fn sleeps_together() -> Check {
    let (engine, mut ring) = start()?;
    let before = engine.stats()?;
    let naps: Vec<[i64; 2]> = (0..64).map(|at| [0, (164 - at) * 1_000_000]).collect();
    let calls: Vec<_> = naps
        .iter()
        .map(|nap| call!(SYS_nanosleep, nap.as_ptr(), 0))
        .collect();
    let begin = Instant::now();
    let slots = park(&engine, &mut ring, &calls)?;
    let mut left: Vec<usize> = (0..naps.len()).collect();
    while !left.is_empty() {
        ok!("WAIT", ring.wait(crate::kit::abi::Policy::Any));
        let (done, rest): (Vec<_>, Vec<_>) =
            left.into_iter().partition(|&at| ring.is_done(slots[at]));
        check!(!done.is_empty(), "WAIT ANY returned, but no call has ended");
        // These come in no order: threads may end some while the owner is about to end others.
        for at in done {
            check_ret!("nanosleep", ring.reap(slots[at]).result, 0);
            check_time("nanosleep", begin, Duration::from_millis(164 - at as u64))?;
        }
        left = rest;
    }
    // None of them waits in a thread.
    check_eq!(
        "most blocked",
        engine.stats()?.peak_blocked,
        before.peak_blocked
    );
    Ok(())
}

fn sleeps_end_softly() -> Check {
    const COUNT: usize = 8;
    let (engine, mut ring) = start()?;
    let trace = Trace::watch(&["timer/hrtimer_expire_entry"])?;
    let time = [0i64, 20_000_000];
    let before = engine.stats()?.timed_out;
    for done in ring.run_all(&[call!(SYS_nanosleep, time.as_ptr(), 0); COUNT])? {
        check_ret!("nanosleep", done.result, 0);
    }
    let timed_out = engine.stats()?.timed_out - before;
    check!(timed_out >= 1, "no sleep was parked");
    // `TASK-TID [CPU] FLAGS TIME: ...`: the third flag tells hard interrupts from soft ones.
    let lines = trace.all_lines("function=flexsc_park_timer")?;
    check!(!lines.is_empty(), "no timer has expired");
    for line in lines {
        let flags = line
            .split_once("] ")
            .map_or("", |(_, rest)| rest.trim_start());
        check_eq!(line, flags.chars().nth(2), Some('s'));
    }
    Ok(())
}

fn sleep_of_nobody() -> Check {
    let (engine, mut ring) = start()?;
    in_some_try("a sleep that outlasts WAIT", |factor| {
        let (before, time) = (engine.stats()?.thread_done, EVERY * factor);
        let nap = [time.as_secs() as i64, time.subsec_nanos().into()];
        let begin = Instant::now();
        let slots = park(&engine, &mut ring, &[call!(SYS_nanosleep, nap.as_ptr(), 0)])?;
        ring.poll_until_done(&slots)?;
        check_ret!("nanosleep", ring.reap(slots[0]).result, 0);
        check_time("nanosleep", begin, time)?;
        Ok(engine.stats()?.thread_done == before + 1)
    })
}

fn sleep_is_cancelled() -> Check {
    let (engine, mut ring) = start()?;
    let before = engine.stats()?;
    let nap = [1000i64, 0];
    let until = shows_after(libc::CLOCK_MONOTONIC, Duration::from_secs(1000));
    let mut left = [[-1i64; 2]; 3];
    let at = left.as_mut_ptr();
    let calls = [
        call!(SYS_nanosleep, nap.as_ptr(), at),
        call!(
            SYS_clock_nanosleep,
            libc::CLOCK_BOOTTIME,
            0,
            nap.as_ptr(),
            at.wrapping_add(1)
        ),
        call!(
            SYS_clock_nanosleep,
            libc::CLOCK_MONOTONIC,
            ABSOLUTE,
            until.as_ptr(),
            at.wrapping_add(2)
        ),
        call!(SYS_nanosleep, nap.as_ptr(), 0),
        call!(SYS_nanosleep, nap.as_ptr(), 1u64 << 63),
    ];
    let slots = park(&engine, &mut ring, &calls)?;
    for (index, &slot) in slots.iter().enumerate() {
        check_eq!("CANCEL", ring.cancel(slot), Ok(0));
        let wants = if index == 4 {
            libc::EFAULT
        } else {
            libc::EINTR
        };
        let got = ring.reap(slot).result;
        check!(got == -i64::from(wants), "call {index}: {}", Ret(got));
    }
    for time in &left[..2] {
        check!(time[0] > 800 && time[0] < 1000, "left: {time:?}");
    }
    check_eq!("left of an absolute sleep", left[2], [-1, -1]);
    check_no_thread(&engine, &before)?;
    let after = engine.stats()?;
    check_eq!("by the owner", after.inline_done - before.inline_done, 5);
    Ok(())
}

fn sleep_fails() -> Check {
    let (engine, mut ring) = start()?;
    let bad = [0i64, 1_000_000_000];
    let nap = [0i64, 1];
    let nowhere = 1u64 << 63;
    let calls = [
        (call!(SYS_nanosleep, nowhere, 0), -libc::EFAULT),
        (call!(SYS_nanosleep, bad.as_ptr(), 0), -libc::EINVAL),
        (call!(SYS_clock_nanosleep, 1, 0, nowhere, 0), -libc::EFAULT),
        (
            call!(SYS_clock_nanosleep, 1, 0, bad.as_ptr(), 0),
            -libc::EINVAL,
        ),
        (
            call!(SYS_clock_nanosleep, 6, 0, nap.as_ptr(), 0),
            -libc::EOPNOTSUPP,
        ),
    ];
    for (at, (call, wants)) in calls.into_iter().enumerate() {
        let got = ring.result(call)?;
        check!(got == i64::from(wants), "call {at}: {}", Ret(got));
    }
    check_eq!("parked", engine.stats()?.parked, 0);
    Ok(())
}

fn memory_comes_late() -> Check {
    let (engine, mut ring) = start()?;
    let slow = Slow::page()?;
    // A sleep of no time, and a poll without an event, once the memory is there.
    for call in [
        call!(SYS_nanosleep, slow.at, 0),
        call!(SYS_poll, slow.at, 1, 10),
    ] {
        let before = engine.stats()?;
        let slots = ring.post_all(&[call, call!(SYS_getpid)]);
        let done = std::thread::scope(|scope| {
            let other = scope.spawn(|| {
                check!(slow.is_wanted(patience()), "nobody reads the memory");
                engine.until_stats("the other call", |s| s.thread_done > before.thread_done)?;
                slow.provide()
            });
            let done = ring.finish(&slots);
            other.join().expect("no panic")?;
            done
        })?;
        check!(done[0].result >= 0, "{done:?}");
        check_ret!("getpid", done[1].result, std::process::id());
        slow.forget();
    }
    Ok(())
}

const CLONE_NEWTIME: i32 = 0x80;

fn sleeps_in_namespace() -> Check {
    let uptime = sys::monotonic_ns() / 1_000_000_000;
    // Behind and ahead of the host's clocks, which must not become negative.
    for offset in [-(uptime as i64 / 2), 100_000_000] {
        check!(offset != 0, "the machine has just been started");
        in_child(|| {
            if plain!(SYS_unshare, CLONE_NEWTIME) != 0 {
                return skip("needs a time namespace");
            }
            let lines = format!("monotonic {offset} 0\nboottime {offset} 0");
            ok!("offset", fs::write("/proc/self/timens_offsets", lines));
            // Only children enter the new time namespace.
            spawn(|_| {
                let (engine, mut ring) = start()?;
                sleep_on_all(&engine, &mut ring)
            })?
            .join()
        })
        .map_err(|failure| failure.within(format_args!("offset {offset} s")))?;
    }
    Ok(())
}
