// SPDX-License-Identifier: MIT OR Apache-2.0
//! Wait policies: how many results to wait for, and how long.

use std::time::{Duration, Instant};

use nix::time::{ClockId, clock_gettime};

use crate::sys::abi;

/// What [`Pages::wait`](crate::Pages::wait) waits for.
///
/// Every wait lets the kernel execute posted calls. The policy says when the wait
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

/// The parts of a [`Wait`], which fit into registers: policy and number as in the fast
/// word, then the times.
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

    /// Executes posted calls and returns without sleeping.
    #[inline(always)]
    #[must_use]
    pub const fn none() -> Wait {
        Wait::policy(abi::FLEXSC_WAIT_NONE)
    }

    /// Waits until there is a result.
    #[inline(always)]
    #[must_use]
    pub const fn any() -> Wait {
        Wait::policy(abi::FLEXSC_WAIT_ANY)
    }

    /// Waits until there are `min` results, and at least one.
    #[inline(always)]
    #[must_use]
    pub const fn some(min: u32) -> Wait {
        let mut wait = Wait::policy(abi::FLEXSC_WAIT_SOME);
        wait.min = min;
        wait
    }

    /// Waits until all posted calls have finished.
    #[inline(always)]
    #[must_use]
    pub const fn all() -> Wait {
        Wait::policy(abi::FLEXSC_WAIT_ALL)
    }

    /// Like [`Wait::some`] with a number and a time that the kernel adapts to the rate at
    /// which calls finish. Waits for at least one result.
    #[inline(always)]
    #[must_use]
    pub const fn adaptive() -> Wait {
        Wait::policy(abi::FLEXSC_WAIT_ADAPTIVE)
    }

    /// Accepts fewer results once this time has passed since the first one. Only
    /// [`Wait::some`] uses it. Default zero: waits for all of them.
    #[must_use]
    pub const fn linger(mut self, linger: Duration) -> Wait {
        if self.policy == abi::FLEXSC_WAIT_SOME {
            self.linger = linger;
        }
        self
    }

    /// Fails with [`Error::TimedOut`](crate::Error::TimedOut) after this time, counted from
    /// the call of wait. Default: never.
    #[must_use]
    pub const fn timeout(mut self, timeout: Duration) -> Wait {
        self.timeout = Some(timeout);
        self
    }

    /// Returns true if `finished` results are enough. `all` says that no call is
    /// unfinished.
    pub(crate) const fn satisfied(&self, finished: usize, all: bool) -> bool {
        match self.policy {
            abi::FLEXSC_WAIT_NONE => true,
            abi::FLEXSC_WAIT_ANY => finished > 0,
            abi::FLEXSC_WAIT_SOME => finished > 0 && finished >= self.min as usize,
            // Only the kernel knows how many are enough.
            abi::FLEXSC_WAIT_ADAPTIVE => finished > 0 && all,
            _ => all,
        }
    }

    /// Returns true if `most` results can ever satisfy the policy.
    pub(crate) const fn possible(&self, most: usize) -> bool {
        match self.policy {
            abi::FLEXSC_WAIT_NONE | abi::FLEXSC_WAIT_ALL => true,
            abi::FLEXSC_WAIT_SOME if self.linger.is_zero() => most > 0 && most >= self.min as usize,
            _ => most > 0,
        }
    }

    /// Returns true if one result ends the wait, at once or after a while.
    pub(crate) const fn ends_with_one(&self) -> bool {
        self.policy != abi::FLEXSC_WAIT_ALL && self.possible(1)
    }

    /// The policy for a caller that already has `there` results.
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

    /// The end of the linger time if the first result came at `first`.
    pub(crate) fn linger_end(&self, first: Instant) -> Option<Instant> {
        (!self.linger.is_zero())
            .then(|| first.checked_add(self.linger))
            .flatten()
    }

    /// The deadline, counted from now.
    pub(crate) fn end(&self) -> Option<Instant> {
        Instant::now().checked_add(self.timeout?)
    }

    /// Replaces the timeout.
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
            policy: (fast >> 32) as u8 as u32,
            min: (fast >> 40) as u32,
            linger,
            timeout,
        }
    }

    /// Returns true if there is neither a timeout nor a linger time.
    #[inline(always)]
    pub(crate) const fn is_timeless(&self) -> bool {
        self.timeout.is_none() && self.linger.is_zero()
    }

    /// The argument of WAIT_FAST, for waits without times. `min` has room for more results
    /// than there can be.
    #[inline(always)]
    pub(crate) const fn fast(&self, id: u32) -> u64 {
        ((self.min as u64) << 40) | ((self.policy as u64) << 32) | (id as u64)
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
            ..abi::flexsc_wait::default()
        }
    }
}

fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

/// The CLOCK_MONOTONIC time `timeout` from now; never 0, which means no timeout.
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
        assert_eq!(Wait::some(5).fast(7), (5 << 40) | (2 << 32) | 7);
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
