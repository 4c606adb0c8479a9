// SPDX-License-Identifier: MIT OR Apache-2.0
//! Wait policies: how many results a wait is for, and how long.

use std::time::{Duration, Instant};

use nix::time::{ClockId, clock_gettime};

use crate::sys::abi;

/// What [`Pages::wait`](crate::Pages::wait) waits for.
///
/// Every wait lets the kernel execute what is posted; the policy says when it
/// returns.
///
/// ```
/// use std::time::Duration;
/// use flexsc::Wait;
///
/// // Half of 64 results, or fewer 50 µs after the first; an error after a second.
/// let wait = Wait::some(32)
///     .linger(Duration::from_micros(50))
///     .timeout(Duration::from_secs(1));
/// # let _ = wait;
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wait {
    policy: u32,
    min: u32,
    linger: Duration,
    timeout: Option<Duration>,
}

/// What a [`Wait`] consists of, so that it is passed in registers: policy and
/// number as in the fast word, then the times.
pub(crate) type Parts = (u64, Duration, Option<Duration>);

impl Wait {
    #[inline(always)]
    const fn policy(policy: u32) -> Wait {
        Wait {
            policy,
            min: 0,
            linger: Duration::ZERO,
            timeout: None,
        }
    }

    /// Do not sleep: execute what is posted and return.
    #[inline(always)]
    #[must_use]
    pub const fn none() -> Wait {
        Wait::policy(abi::FLEXSC_WAIT_NONE)
    }

    /// Until one result is there.
    #[inline(always)]
    #[must_use]
    pub const fn any() -> Wait {
        Wait::policy(abi::FLEXSC_WAIT_ANY)
    }

    /// Until `min` results are there; at least one.
    #[inline(always)]
    #[must_use]
    pub const fn some(min: u32) -> Wait {
        let mut wait = Wait::policy(abi::FLEXSC_WAIT_SOME);
        wait.min = min;
        wait
    }

    /// Until nothing that was posted is unfinished.
    #[inline(always)]
    #[must_use]
    pub const fn all() -> Wait {
        Wait::policy(abi::FLEXSC_WAIT_ALL)
    }

    /// As [`Wait::some`] with a number and a time that the kernel makes follow
    /// the rate at which calls finish; at least one.
    #[inline(always)]
    #[must_use]
    pub const fn adaptive() -> Wait {
        Wait::policy(abi::FLEXSC_WAIT_ADAPTIVE)
    }

    /// For [`Wait::some`], and without effect on the others: be content with
    /// fewer results when this time has passed since the first one. Zero, the
    /// default: never.
    #[must_use]
    pub const fn linger(mut self, linger: Duration) -> Wait {
        if self.policy == abi::FLEXSC_WAIT_SOME {
            self.linger = linger;
        }
        self
    }

    /// Give up with [`Error::TimedOut`](crate::Error::TimedOut) after this
    /// time, counted from the call of wait. Default: never.
    #[must_use]
    pub const fn timeout(mut self, timeout: Duration) -> Wait {
        self.timeout = Some(timeout);
        self
    }

    /// Whether `finished` results, all there are or not, are enough.
    pub(crate) const fn satisfied(&self, finished: usize, all: bool) -> bool {
        match self.policy {
            abi::FLEXSC_WAIT_NONE => true,
            abi::FLEXSC_WAIT_ANY => finished > 0,
            abi::FLEXSC_WAIT_SOME => finished > 0 && finished >= self.min as usize,
            // What is enough only the kernel knows.
            abi::FLEXSC_WAIT_ADAPTIVE => finished > 0 && all,
            _ => all,
        }
    }

    /// Whether there can ever be enough if there are `most` results at most.
    pub(crate) const fn possible(&self, most: usize) -> bool {
        match self.policy {
            abi::FLEXSC_WAIT_NONE | abi::FLEXSC_WAIT_ALL => true,
            abi::FLEXSC_WAIT_SOME if self.linger.is_zero() => most > 0 && most >= self.min as usize,
            _ => most > 0,
        }
    }

    /// The same for someone who has `there` results already.
    pub(crate) const fn less(mut self, there: usize) -> Wait {
        if there > 0 {
            match self.policy {
                abi::FLEXSC_WAIT_SOME if (self.min as usize) > there => self.min -= there as u32,
                abi::FLEXSC_WAIT_ALL => {}
                _ => self.policy = abi::FLEXSC_WAIT_NONE,
            }
        }
        self
    }

    /// When to be content with what is there if the first result came `first`.
    pub(crate) fn linger_end(&self, first: Instant) -> Option<Instant> {
        (!self.linger.is_zero())
            .then(|| first.checked_add(self.linger))
            .flatten()
    }

    /// The moment of the timeout, counted from now.
    pub(crate) fn end(&self) -> Option<Instant> {
        Instant::now().checked_add(self.timeout?)
    }

    /// With so much time, instead of what it has.
    pub(crate) const fn within(mut self, timeout: Option<Duration>) -> Wait {
        self.timeout = timeout;
        self
    }

    #[inline(always)]
    pub(crate) const fn parts(&self) -> Parts {
        (self.fast(0), self.linger, self.timeout)
    }

    pub(crate) const fn from_parts((fast, linger, timeout): Parts) -> Wait {
        Wait {
            policy: (fast >> 16) as u16 as u32,
            min: (fast >> 32) as u32,
            linger,
            timeout,
        }
    }

    /// Whether no times are to be kept.
    #[inline(always)]
    pub(crate) const fn is_timeless(&self) -> bool {
        self.timeout.is_none() && self.linger.is_zero()
    }

    /// The argument of WAIT_FAST, for waits that are timeless; `id` has 16 bits.
    #[inline(always)]
    pub(crate) const fn fast(&self, id: u32) -> u64 {
        ((self.min as u64) << 32) | ((self.policy as u64) << 16) | (id as u64)
    }

    /// The argument of WAIT.
    pub(crate) fn full(&self, id: u32) -> abi::flexsc_wait {
        abi::flexsc_wait {
            size: 0,
            id,
            policy: self.policy,
            min: self.min,
            timeout_ns: self.timeout.map_or(0, deadline),
            linger_ns: nanoseconds(self.linger),
        }
    }
}

fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

/// The CLOCK_MONOTONIC time in `timeout` from now; never 0, which means never.
fn deadline(timeout: Duration) -> u64 {
    let now = clock_gettime(ClockId::CLOCK_MONOTONIC).map_or(Duration::ZERO, Duration::from);
    // The kernel's times are signed.
    nanoseconds(now.saturating_add(timeout)).clamp(1, i64::MAX as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fast_word_is_the_headers() {
        // FLEXSC_WAIT_FAST_ARG(id, policy, min)
        assert_eq!(Wait::some(5).fast(7), (5 << 32) | (2 << 16) | 7);
        assert!(Wait::some(5).is_timeless());
        assert!(!Wait::any().timeout(Duration::MAX).is_timeless());
        let moment = Duration::from_nanos(1);
        assert!(!Wait::some(2).linger(moment).is_timeless());
        assert_eq!(Wait::all().linger(moment), Wait::all());
    }

    #[test]
    fn parts_make_the_whole() {
        let times = Wait::some(7)
            .linger(Duration::from_nanos(3))
            .timeout(Duration::from_secs(1));
        for wait in [times, Wait::none(), Wait::all(), Wait::adaptive()] {
            assert_eq!(Wait::from_parts(wait.parts()), wait);
        }
    }

    #[test]
    fn deadlines_are_absolute_and_never_zero() {
        let start = Wait::any().timeout(Duration::ZERO).full(0).timeout_ns;
        assert!(start > 0);
        let later = Wait::any()
            .timeout(Duration::from_secs(9))
            .full(0)
            .timeout_ns;
        assert!(later - start >= 9_000_000_000);
        let never = Wait::any().timeout(Duration::MAX).full(0).timeout_ns;
        assert_eq!(never, i64::MAX as u64);
        assert_eq!(Wait::any().full(0).timeout_ns, 0);
    }

    #[test]
    fn policies_know_when_they_are_satisfied() {
        assert!(Wait::none().satisfied(0, false));
        assert!(!Wait::any().satisfied(0, true));
        assert!(Wait::some(3).satisfied(3, false));
        assert!(!Wait::some(0).satisfied(0, true));
        assert!(!Wait::all().satisfied(3, false));
        assert!(Wait::all().satisfied(0, true));
        assert!(Wait::adaptive().satisfied(1, true));
        assert!(!Wait::adaptive().satisfied(1, false));
    }
}
