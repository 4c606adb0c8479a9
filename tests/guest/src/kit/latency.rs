// SPDX-License-Identifier: MIT OR Apache-2.0
//! Measures how soon operations end.

use std::time::{Duration, Instant};

use super::{patience, speed};
use crate::check::Check;

/// The limit: 100 ms.
pub const SOON: Duration = Duration::from_millis(100);

/// Returns true if the machine's clock counts instructions (`ktest.sh --icount`): then other work
/// of the host takes no time in the machine.
fn clock_is_exact() -> bool {
    std::env::var("FLEXSC_TEST_CLOCK").is_ok_and(|clock| clock == "instructions")
}

/// How long the slowest event may take. A host with other work may stop an emulated machine for
/// seconds.
fn at_last() -> Duration {
    if clock_is_exact() { SOON } else { patience() }
}

/// Returns true if `took` is soon enough on this machine.
fn is_within(took: Duration, usual: Duration) -> bool {
    took < usual || !clock_is_exact() && speed::is_within(took, usual)
}

/// The time that each of many events took, from its cause to its end.
#[derive(Default)]
pub struct Latency(Vec<Duration>);

impl Latency {
    /// Notes that an event that began at `begin` has ended now.
    pub fn add(&mut self, begin: Instant) -> Check {
        let took = begin.elapsed();
        check!(
            is_within(took, at_last()),
            "an event took {took:?}, not {:?}",
            at_last()
        );
        self.0.push(took);
        Ok(())
    }

    /// Prints the time that nine of ten took at most, and returns it.
    pub fn print(mut self, what: &str) -> Option<Duration> {
        self.0.sort_unstable();
        let count = self.0.len();
        let longest = self.0.last()?;
        let most = self.0[count - 1 - count / 10];
        println!("# {count} times {what}: within {most:?} for nine of ten, {longest:?} at most");
        Some(most)
    }

    /// Checks that the events were soon enough: all of them if the clock is exact (see
    /// [`Latency::add`]), otherwise nine of ten, because the host may have stopped the machine
    /// during one of them.
    pub fn check(self, what: &str) -> Check {
        let most = self.print(what);
        check!(
            most.is_some_and(|most| is_within(most, SOON)),
            "nine of ten within {most:?}"
        );
        Ok(())
    }
}
