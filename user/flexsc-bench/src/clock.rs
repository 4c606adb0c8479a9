// SPDX-License-Identifier: MIT OR Apache-2.0
//! Counts instructions or nanoseconds, and turns samples into one figure.

use std::arch::asm;
use std::arch::x86_64::_rdtsc;
use std::io;

use nix::time::{ClockId, clock_gettime};

/// The quantity of a measurement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Metric {
    /// Instructions executed by the machine's only CPU. Needs an emulator whose time stamp
    /// counter counts them (`-icount shift=0`).
    Instructions,
    /// Nanoseconds of CLOCK_MONOTONIC.
    Ns,
}

impl Metric {
    /// The name in the CSV.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Metric::Instructions => "instructions",
            Metric::Ns => "ns",
        }
    }

    /// The current reading, counted from some time in the past.
    #[inline(always)]
    #[must_use]
    pub fn now(self) -> u64 {
        match self {
            // SAFETY: every x86-64 processor has this instruction.
            Metric::Instructions => unsafe { _rdtsc() },
            Metric::Ns => clock_gettime(ClockId::CLOCK_MONOTONIC).map_or(0, |now| {
                now.tv_sec() as u64 * 1_000_000_000 + now.tv_nsec() as u64
            }),
        }
    }

    /// Checks that the counter counts instructions, if they are the metric.
    ///
    /// # Errors
    ///
    /// The time stamp counter counts something else.
    pub fn check(self) -> io::Result<()> {
        const LOOPS: u64 = 10_000;
        let counted = |_| {
            let start = self.now();
            // SAFETY: counts down a register, with two instructions each time.
            unsafe {
                asm!("2:", "dec {n}", "jnz 2b", n = inout(reg) LOOPS => _, options(nomem, nostack));
            }
            self.now() - start
        };
        let least = (0..9).map(counted).min().unwrap_or(0);
        if self == Metric::Instructions && !(2 * LOOPS..2 * LOOPS + 100).contains(&least) {
            return Err(io::Error::other(format!(
                "{} instructions were counted as {least}: use --metric ns here, or an \
                 emulator with -icount shift=0 (scripts/ktest.sh --icount)",
                2 * LOOPS
            )));
        }
        Ok(())
    }

    /// Returns the cost of two readings with nothing in between.
    #[must_use]
    pub fn overhead(self) -> u64 {
        let empty = |_| {
            let start = self.now();
            self.now() - start
        };
        (0..99).map(empty).min().unwrap_or(0)
    }
}

/// Returns the median of the samples.
#[must_use]
pub fn median(samples: &mut [f64]) -> f64 {
    samples.sort_by(f64::total_cmp);
    let middle = samples.len() / 2;
    match samples.len() {
        0 => f64::NAN,
        n if n % 2 == 1 => samples[middle],
        _ => (samples[middle - 1] + samples[middle]) / 2.0,
    }
}

/// How much to measure.
#[derive(Clone, Copy, Debug)]
pub struct Effort {
    /// The metric.
    pub metric: Metric,
    /// Number of samples, of which the median counts.
    pub samples: usize,
    /// Minimum number of calls in a sample.
    pub calls: usize,
}

impl Effort {
    /// Nanoseconds after which fewer samples are sufficient, but no fewer than five.
    const PATIENCE: u64 = 1_500_000_000;

    /// Returns the median cost of one call. `round` makes `calls` calls.
    ///
    /// # Errors
    ///
    /// Those of `round`.
    pub fn measure(
        &self,
        calls: usize,
        mut round: impl FnMut() -> io::Result<()>,
    ) -> io::Result<f64> {
        let rounds = self.calls.div_ceil(calls).max(1);
        let overhead = self.metric.overhead();
        for _ in 0..rounds.div_ceil(4).max(2) {
            round()?;
        }
        let begun = self.metric.now();
        let mut samples = Vec::with_capacity(self.samples);
        for _ in 0..self.samples {
            let start = self.metric.now();
            for _ in 0..rounds {
                round()?;
            }
            let end = self.metric.now();
            samples.push((end - start - overhead) as f64 / (rounds * calls) as f64);
            let late = self.metric == Metric::Ns && end - begun > Self::PATIENCE;
            if late && samples.len() >= 5 {
                break;
            }
        }
        Ok(median(&mut samples))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_in_the_middle() {
        assert_eq!(median(&mut [3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(&mut [4.0, 1.0, 2.0, 3.0]), 2.5);
        assert!(median(&mut []).is_nan());
    }

    #[test]
    fn a_sample_has_enough_calls() {
        let effort = Effort {
            metric: Metric::Ns,
            samples: 3,
            calls: 10,
        };
        let mut rounds = 0;
        effort
            .measure(4, || {
                rounds += 1;
                Ok(())
            })
            .unwrap();
        assert_eq!(rounds, 2 + 3 * 3);
    }
}
