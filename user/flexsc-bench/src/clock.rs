// SPDX-License-Identifier: MIT OR Apache-2.0
//! Counts instructions, nanoseconds or events of the processor, and turns samples into one
//! figure.

use std::arch::asm;
use std::arch::x86_64::_rdtsc;
use std::io;
use std::ops::RangeInclusive;
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use clap::ValueEnum;
use nix::time::{ClockId, clock_gettime};
use perf_event::events::{Cache, CacheOp, CacheResult, Event, Hardware, Software, WhichCache};
use perf_event::{Builder, Counter};

use crate::marker;

/// The quantity of a measurement.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Metric {
    /// Instructions of all CPUs for this program, in user space and in the kernel. An emulator
    /// whose time stamp counter counts them (`-icount shift=0`) makes them exact.
    Instructions,
    /// Nanoseconds of CLOCK_MONOTONIC
    Ns,
    /// Cycles of all CPUs for this program
    Cycles,
    /// Misses of the last level of caches
    CacheMisses,
    /// Misses of the TLB for data
    TlbMisses,
    /// Mispredicted branches
    BranchMisses,
    /// Context switches
    ContextSwitches,
}

/// The counter of events that is read, if the metric is neither of the two clocks.
static COUNTER: OnceLock<Mutex<Counter>> = OnceLock::new();

/// Loops of [`counted_loop`], and its instructions.
const LOOPS: u64 = 10_000;
const LOOP_INSTRUCTIONS: RangeInclusive<u64> = 2 * LOOPS..=2 * LOOPS + 99;

/// Counts down a register, with two instructions each time.
fn counted_loop() {
    // SAFETY: changes only the register.
    unsafe {
        asm!("2:", "dec {n}", "jnz 2b", n = inout(reg) LOOPS => _, options(nomem, nostack));
    }
}

/// Returns the time stamp counter.
#[inline(always)]
fn time_stamp() -> u64 {
    // SAFETY: every x86-64 processor has this instruction.
    unsafe { _rdtsc() }
}

/// Returns true if the time stamp counter counts instructions.
fn time_stamp_counts_instructions() -> bool {
    let counted = |_| {
        let start = time_stamp();
        counted_loop();
        time_stamp() - start
    };
    let least = (0..9).map(counted).min().unwrap_or(0);
    LOOP_INSTRUCTIONS.contains(&least)
}

impl Metric {
    /// The name in the CSV and on the command line.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Metric::Instructions => "instructions",
            Metric::Ns => "ns",
            Metric::Cycles => "cycles",
            Metric::CacheMisses => "cache-misses",
            Metric::TlbMisses => "tlb-misses",
            Metric::BranchMisses => "branch-misses",
            Metric::ContextSwitches => "context-switches",
        }
    }

    /// The current reading, counted from some time in the past.
    #[inline(always)]
    #[must_use]
    pub fn now(self) -> u64 {
        if self == Metric::Ns {
            return clock_gettime(ClockId::CLOCK_MONOTONIC).map_or(0, |now| {
                now.tv_sec() as u64 * 1_000_000_000 + now.tv_nsec() as u64
            });
        }
        match COUNTER.get() {
            None => time_stamp(),
            Some(counter) => read(counter),
        }
    }

    /// Returns true if the same work can give another reading, so that a figure needs a spread.
    #[must_use]
    pub fn varies(self) -> bool {
        self != Metric::Instructions || COUNTER.get().is_some()
    }

    fn event(self) -> Event {
        match self {
            Metric::Instructions | Metric::Ns => Hardware::INSTRUCTIONS.into(),
            Metric::Cycles => Hardware::CPU_CYCLES.into(),
            Metric::CacheMisses => Hardware::CACHE_MISSES.into(),
            Metric::BranchMisses => Hardware::BRANCH_MISSES.into(),
            Metric::TlbMisses => Event::Cache(Cache {
                which: WhichCache::DTLB,
                operation: CacheOp::READ,
                result: CacheResult::MISS,
            }),
            Metric::ContextSwitches => Software::CONTEXT_SWITCHES.into(),
        }
    }

    /// Prepares for readings. All processes and threads that are started from now on are
    /// counted, including the engine's threads in the kernel.
    ///
    /// # Errors
    ///
    /// The machine does not count this.
    pub fn open(self) -> io::Result<()> {
        let clock =
            self == Metric::Ns || self == Metric::Instructions && time_stamp_counts_instructions();
        if clock || COUNTER.get().is_some() {
            return Ok(());
        }
        let mut builder = Builder::new().kind(self.event()).observe_self().any_cpu();
        builder.inherit(true).include_kernel();
        let opened = builder.build().and_then(|mut counter| {
            counter.enable()?;
            Ok(counter)
        });
        let counter = opened.map_err(|why| {
            io::Error::other(format!(
                "{} cannot be counted here ({why}): use --metric ns, run as root or with \
                 kernel.perf_event_paranoid=1, or count instructions in an emulator with -icount \
                 shift=0 (scripts/ktest.sh --icount)",
                self.name()
            ))
        })?;
        COUNTER.get_or_init(|| Mutex::new(counter));
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

/// Reads a counter. A reading that fails is 0, and makes the sample absurd instead of wrong.
#[cold]
fn read(counter: &Mutex<Counter>) -> u64 {
    let mut counter = counter.lock().unwrap_or_else(PoisonError::into_inner);
    counter.read().unwrap_or(0)
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

/// A median and the quartiles beside it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Spread {
    /// The first quartile: a quarter of the samples is below.
    pub low: f64,
    /// The median.
    pub median: f64,
    /// The third quartile: a quarter of the samples is above.
    pub high: f64,
}

impl Spread {
    /// Of these samples.
    #[must_use]
    pub fn of(samples: &mut [f64]) -> Spread {
        let median = median(samples);
        // The samples are sorted by now.
        let at = |part: f64| {
            let place = part * samples.len().saturating_sub(1) as f64;
            let below = samples.get(place as usize).copied().unwrap_or(f64::NAN);
            let above = samples.get(place.ceil() as usize).copied().unwrap_or(below);
            below + (above - below) * place.fract()
        };
        Spread {
            low: at(0.25),
            median,
            high: at(0.75),
        }
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
    /// Take one sample, and mark it for the processor model.
    pub mark: bool,
}

impl Effort {
    /// After this time fewer samples are sufficient, but no fewer than five.
    const PATIENCE: Duration = Duration::from_millis(1500);

    /// Returns the median cost of one call. `round` makes `calls` calls.
    ///
    /// # Errors
    ///
    /// Those of `round`.
    pub fn measure(&self, calls: usize, round: impl FnMut() -> io::Result<()>) -> io::Result<f64> {
        Ok(self.spread(calls, round)?.median)
    }

    /// Like [`Effort::measure`], with the quartiles of the samples.
    ///
    /// # Errors
    ///
    /// Those of `round`.
    pub fn spread(
        &self,
        calls: usize,
        mut round: impl FnMut() -> io::Result<()>,
    ) -> io::Result<Spread> {
        let rounds = self.calls.div_ceil(calls).max(1);
        let overhead = self.metric.overhead();
        for _ in 0..rounds.div_ceil(4).max(2) {
            round()?;
        }
        if self.mark {
            marker::add_calls(rounds * calls);
            let sample = marker::region(|| self.sample(rounds, &mut round))?;
            let spent = sample.saturating_sub(overhead);
            return Ok(Spread::of(&mut [spent as f64 / (rounds * calls) as f64]));
        }
        let begun = Instant::now();
        let mut samples = Vec::with_capacity(self.samples);
        for _ in 0..self.samples {
            let sample = self.sample(rounds, &mut round)?;
            // An event that did not happen is less than the overhead now and then.
            let spent = sample.saturating_sub(overhead);
            samples.push(spent as f64 / (rounds * calls) as f64);
            let late = || self.metric.varies() && begun.elapsed() > Self::PATIENCE;
            if samples.len() >= 5 && late() {
                break;
            }
        }
        Ok(Spread::of(&mut samples))
    }

    #[inline(always)]
    fn sample(&self, rounds: usize, round: &mut impl FnMut() -> io::Result<()>) -> io::Result<u64> {
        let start = self.metric.now();
        for _ in 0..rounds {
            round()?;
        }
        Ok(self.metric.now() - start)
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use nix::poll::{PollFd, PollFlags, poll};

    use super::*;

    #[test]
    fn the_median_is_in_the_middle() {
        assert_eq!(median(&mut [3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(&mut [4.0, 1.0, 2.0, 3.0]), 2.5);
        assert!(median(&mut []).is_nan());
    }

    #[test]
    fn half_of_the_samples_are_between_the_quartiles() {
        let spread = Spread::of(&mut [5.0, 1.0, 3.0, 2.0, 4.0]);
        assert_eq!((spread.low, spread.median, spread.high), (2.0, 3.0, 4.0));
        let spread = Spread::of(&mut [2.0, 1.0]);
        assert_eq!((spread.low, spread.median, spread.high), (1.25, 1.5, 1.75));
        let spread = Spread::of(&mut [7.0]);
        assert_eq!((spread.low, spread.high), (7.0, 7.0));
        assert!(Spread::of(&mut []).low.is_nan());
    }

    #[test]
    fn names_are_those_of_the_command_line() {
        for metric in Metric::value_variants() {
            assert_eq!(
                metric.to_possible_value().unwrap().get_name(),
                metric.name()
            );
        }
    }

    /// The only test that opens a counter, as there is one for each process.
    #[test]
    fn events_are_counted_or_refused_with_a_reason() {
        if let Err(why) = Metric::ContextSwitches.open() {
            assert!(why.to_string().contains("perf_event_paranoid"), "{why}");
            return;
        }
        let (silent, _open) = nix::unistd::pipe().unwrap();
        let before = Metric::ContextSwitches.now();
        // This thread switches as soon as it waits for a pipe to which nobody writes.
        let switched = (0..1000).any(|_| {
            let mut wanted = [PollFd::new(silent.as_fd(), PollFlags::POLLIN)];
            assert_eq!(poll(&mut wanted, 1_u8), Ok(0));
            Metric::ContextSwitches.now() > before
        });
        assert!(switched);
        assert!(Metric::ContextSwitches.varies());
    }

    #[test]
    fn a_sample_has_enough_calls() {
        let effort = Effort {
            metric: Metric::Ns,
            samples: 3,
            calls: 10,
            mark: false,
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
