// SPDX-License-Identifier: GPL-2.0

//! The adaptive wait policy: the number of results to wait for follows the rate at which they come.
//!
//! A thread that sleeps for each result pays for a sleep and a wake-up each time; a thread that
//! waits for many pays less for each result and gets the first one late. While results come slowly,
//! waiting for a second one gains nothing. So the number is the results expected in the time that a
//! sleep costs ([`SLEEP_NS`]): the sleeps then take about half of the time at most, and no result
//! waits for longer than about that time. If the rate falls, the time runs out
//! ([`Choice::linger_ns`]), and the next choice takes that into account. Each WAIT learns from its
//! own results.
//!
//! Cluster Calls (Rittinghaus 2010) left this open and uses fixed numbers. Pure logic,
//! shared with the tests of the host.

/// Rough cost of a sleep and a wake-up, caches included, in nanoseconds.
pub(crate) const SLEEP_NS: u64 = 20_000;

/// The largest number of results to wait for: a full page.
pub(crate) const MOST: u32 = 64;

/// Weight of a new gap in the mean: one part in this many.
const WEIGHT: u64 = 4;

/// Longer gaps count as this long: results come slowly.
const LONGEST_NS: u64 = 1_000_000_000;

/// The number of results and the time to wait for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Choice {
    /// Number of results.
    pub(crate) results: u32,
    /// Nanoseconds after the first result from which on fewer results are enough; 0: at once.
    pub(crate) linger_ns: u64,
}

/// The rate of results, as far as known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Rate {
    /// Mean time between two results, in nanoseconds; 0: not known yet.
    gap_ns: u64,
}

impl Rate {
    /// From [`Self::to_raw`].
    pub(crate) const fn from_raw(gap_ns: u64) -> Self {
        Rate { gap_ns }
    }

    pub(crate) const fn to_raw(self) -> u64 {
        self.gap_ns
    }

    /// Returns what to wait for now.
    pub(crate) fn choose(self) -> Choice {
        if self.gap_ns == 0 || self.gap_ns >= SLEEP_NS {
            return Choice {
                results: 1,
                linger_ns: 0,
            };
        }
        let results = core::cmp::min(SLEEP_NS / self.gap_ns, MOST.into()) as u32;
        Choice {
            results,
            linger_ns: if results > 1 { 2 * SLEEP_NS } else { 0 },
        }
    }

    /// Learns that `results` results came in `ns` nanoseconds.
    pub(crate) fn learn(self, results: u32, ns: u64) -> Self {
        if results == 0 {
            return self;
        }
        let gap = (ns / u64::from(results)).clamp(1, LONGEST_NS);
        let old = self.gap_ns;
        let mean = if old == 0 {
            gap
        } else {
            (old * (WEIGHT - 1) + gap) / WEIGHT
        };
        // Lets the mean fall down to the last nanosecond.
        let mean = if mean == old && gap < old {
            old - 1
        } else {
            mean
        };
        Rate {
            gap_ns: core::cmp::max(mean, 1),
        }
    }
}
