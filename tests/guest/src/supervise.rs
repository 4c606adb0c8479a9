// SPDX-License-Identifier: MIT OR Apache-2.0
//! Runs one test in a process of its own and checks that it leaves nothing behind.

use std::time::{Duration, Instant};

use crate::check::{Check, Failure};
use crate::kit::child::{EXIT_SKIP, End, exit_code, reap, sleep_until_end, spawn};
use crate::kit::{limits, process, rounds, speed};
use crate::registry::Test;

/// The limit on a machine of the usual speed. It is less than the harness's own limit, because the
/// harness prints nothing about threads.
fn usual_limit() -> Duration {
    let seconds = std::env::var("FLEXSC_TEST_LIMIT").ok();
    let usual = if limits::slow_kernel() { 160 } else { 50 };
    let seconds = seconds.and_then(|text| text.parse().ok()).unwrap_or(usual);
    Duration::from_secs(seconds) * rounds(1)
}

/// Runs a test and returns the exit code of this program.
pub fn run(test: &Test) -> i32 {
    exit_code(supervise(test))
}

/// Runs a test in a process of its own, and checks that it leaves nothing behind.
pub fn supervise(test: &Test) -> Check {
    let base = process::refcnt();
    plain!(SYS_prctl, libc::PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0);
    let begin = Instant::now();
    let mut limit = speed::scaled(usual_limit());
    let child = spawn(|_| (test.run)())?;
    let outcome = loop {
        match reap(child.pid, 0) {
            Some(outcome) => break outcome,
            None if begin.elapsed() < limit => {
                sleep_until_end(child.pid, limit.saturating_sub(begin.elapsed()));
            }
            None => {
                // The machine may have become slower since the start.
                let now = usual_limit() * speed::slow_now() / 100;
                if now > limit {
                    limit = now;
                    continue;
                }
                process::print_threads(child.pid);
                fail!("not at its end after {} s", limit.as_secs());
            }
        }
    };
    std::mem::forget(child);
    while reap(-1, 0).is_some() {}
    let left = process::children(std::process::id() as i32);
    for &pid in &left {
        plain!(SYS_kill, pid, libc::SIGKILL);
    }
    match outcome {
        End::Exit(0) => {}
        End::Exit(EXIT_SKIP) => return Err(Failure::Skip(String::new())),
        End::Exit(1) => return Err(Failure::Failed(format!("{} failed", test.name))),
        other => fail!("{} ended with {other:?}", test.name),
    }
    check!(left.is_empty(), "processes left behind: {left:?}");
    process::until_refcnt(base)
}
