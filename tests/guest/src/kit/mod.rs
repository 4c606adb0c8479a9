// SPDX-License-Identifier: MIT OR Apache-2.0
//! The building blocks of the tests.
//!
//! The tests use the ABI directly instead of the `flexsc` crate: they need entries
//! and doorbells that the crate would never write, and a mistake in the crate must
//! not hide one in the module.

#[macro_use]
mod macros;

pub mod abi;
pub mod cgroup;
pub mod child;
pub mod clone;
pub mod cpu;
pub mod debug;
pub mod engine;
pub mod fault;
pub mod files;
pub mod kernel;
pub mod latency;
pub mod limits;
pub mod memory;
pub mod mode;
pub mod net;
pub mod only_thread;
pub mod process;
pub mod ring;
pub mod scm;
pub mod seccomp;
pub mod signals;
pub mod speed;
pub mod stream;
pub mod sys;
pub mod trace;
pub mod trap;
pub mod uffd;
pub mod uring;

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use crate::check::{Check, Failure};

/// The argument of `--rounds`.
pub static ROUNDS: AtomicU32 = AtomicU32::new(1);

/// Returns the number of rounds: `usual`, and a multiple in a soak.
pub fn rounds(usual: u32) -> u32 {
    usual.saturating_mul(ROUNDS.load(Ordering::Relaxed))
}

/// As [`rounds`], for tests in which each round may hit a rare moment: a third of them on a slow
/// kernel, but not in a soak.
pub fn chances(usual: u32) -> u32 {
    if limits::slow_kernel() && rounds(1) == 1 {
        usual.div_ceil(3)
    } else {
        rounds(usual)
    }
}

/// Returns how long to wait for something that should happen at once: long enough
/// for the debug kernel on an emulated machine.
pub fn patience() -> Duration {
    speed::scaled(Duration::from_secs(if limits::slow_kernel() {
        60
    } else {
        15
    }))
}

/// Waits until `condition` holds. Fails with `what` after the time of [`patience`].
pub fn until(what: &str, mut condition: impl FnMut() -> bool) -> Check {
    let begin = Instant::now();
    while !condition() {
        let took = begin.elapsed();
        check!(
            took < patience(),
            "{what}: not seen within {} s",
            patience().as_secs()
        );
        // Look less often as time passes, because each look takes CPU time from other threads.
        let pause = (took / 20).clamp(Duration::from_millis(1), Duration::from_millis(10));
        std::thread::sleep(pause);
    }
    Ok(())
}

/// How often [`in_some_try`] tries. Few: what fails often for another reason must not pass.
const TRIES: u32 = 4;

/// Calls `attempt` until it returns true. It returns false if the machine stood still at a moment at
/// which it must not, or so it seems. Its argument doubles with each try, for times that it chooses.
pub fn in_some_try(what: &str, mut attempt: impl FnMut(u32) -> Check<bool>) -> Check {
    let begin = Instant::now();
    for number in 0..TRIES {
        if attempt(1 << number)? {
            return Ok(());
        }
        println!("# {what}: not in try {number}");
        if begin.elapsed() > 2 * patience() {
            break;
        }
    }
    fail!("{what}: in no try");
}

/// For [`in_some_try`]: returns false if `work` has failed and has taken `most` or longer. It relies
/// on something that the kernel does not do before that time.
pub fn in_time(most: Duration, work: impl FnOnce() -> Check) -> Check<bool> {
    let begin = Instant::now();
    match work() {
        Err(Failure::Failed(text)) if begin.elapsed() >= most => {
            println!("# after {:?}: {text}", begin.elapsed());
            Ok(false)
        }
        outcome => outcome.map(|()| true),
    }
}

/// How long a pool may have no thread before a kworker fails its entries with STARVED.
pub const STARVING: Duration = Duration::from_millis(100);

/// A small generator of pseudo-random numbers (Marsaglia's xorshift64).
pub struct Random(u64);

impl Random {
    /// Makes a generator from the seed of this run, and prints the seed.
    pub fn new() -> Self {
        let seed = std::env::var("FLEXSC_TEST_SEED")
            .ok()
            .and_then(|seed| seed.parse().ok())
            .unwrap_or_else(|| sys::monotonic_ns() | 1);
        println!("# seed {seed} (repeat with FLEXSC_TEST_SEED={seed})");
        Random(seed.max(1))
    }

    /// The generator's state; before the first number this is the seed.
    pub fn state(&self) -> u64 {
        self.0
    }

    /// Another generator, for another thread.
    pub fn split(&mut self) -> Self {
        Random(self.word() | 1)
    }

    /// The next number.
    pub fn word(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    /// The next number below `limit`.
    pub fn below(&mut self, limit: u64) -> u64 {
        (self.word() >> 11) % limit
    }
}
