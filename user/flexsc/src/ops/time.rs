// SPDX-License-Identifier: MIT OR Apache-2.0
//! Sleeping, and waiting for one file.

use std::io;
use std::os::fd::AsRawFd;
use std::ptr;
use std::time::{Duration, Instant, SystemTime};

use libc::{c_int, c_short, timespec};

use super::Operation;
use super::private::{End, Limit, Prepared, Sealed};
use crate::sys::poll::Readiness;
use crate::{Fd, calls};

/// Converts to the kernel's time, at most the latest that it has.
pub(super) fn time(time: Duration) -> timespec {
    timespec {
        tv_sec: time.as_secs().min(i64::MAX as u64) as libc::time_t,
        tv_nsec: time.subsec_nanos().into(),
    }
}

/// Converts to milliseconds for poll(2), rounded up; -1 means forever.
pub(super) fn millis(time: Option<Duration>) -> c_int {
    let Some(time) = time else {
        return -1;
    };
    let millis = time.as_nanos().div_ceil(1_000_000);
    c_int::try_from(millis).unwrap_or(c_int::MAX)
}

/// Sleeps
/// ([clock_nanosleep(2)](https://man7.org/linux/man-pages/man2/clock_nanosleep.2.html)).
/// Fails with EINTR if it is cancelled.
#[derive(Debug)]
#[must_use = "an operation does nothing until it is submitted"]
pub struct Sleep {
    clock: libc::clockid_t,
    flags: c_int,
    time: Duration,
    /// The time, and zero.
    times: Option<Box<[timespec; 2]>>,
}

impl Sleep {
    /// Sleeps for this time, by the monotonic clock.
    pub fn new(time: Duration) -> Self {
        Sleep {
            clock: libc::CLOCK_MONOTONIC,
            flags: 0,
            time,
            times: None,
        }
    }

    /// Sleeps until this time of the system's clock, which may be set meanwhile.
    pub fn until(time: SystemTime) -> Self {
        Sleep {
            clock: libc::CLOCK_REALTIME,
            flags: libc::TIMER_ABSTIME,
            time: time
                .duration_since(SystemTime::UNIX_EPOCH)
                .unwrap_or_default(),
            times: None,
        }
    }

    /// The end of the sleep; `None` if it is too far away.
    fn limit(&self) -> Option<Limit> {
        if self.flags == 0 {
            return Some(Limit::For(self.time));
        }
        let until = SystemTime::UNIX_EPOCH.checked_add(self.time)?;
        let left = until.duration_since(SystemTime::now()).unwrap_or_default();
        Instant::now().checked_add(left).map(Limit::Until)
    }
}

impl Sealed for Sleep {
    fn prepare(&mut self) -> Prepared {
        let zero = Duration::ZERO;
        let times = Box::new([time(self.time), time(zero)]);
        let [asleep, none] = &**self.times.insert(times);
        let call = calls::clock_nanosleep(self.clock, self.flags, asleep, ptr::null_mut());
        let plain = if self.flags == 0 {
            calls::clock_nanosleep(self.clock, 0, none, ptr::null_mut())
        } else {
            // Waits for the rest if the clock was set back.
            call
        };
        Prepared {
            readiness: Readiness::Never,
            ..Prepared::new(call).within(self.limit(), plain)
        }
    }
}

impl Operation for Sleep {
    type Output = io::Result<()>;

    fn output(self, end: End) -> Self::Output {
        end.unit()
    }
}

/// Waits until a file is ready
/// ([poll(2)](https://man7.org/linux/man-pages/man2/poll.2.html)). Gives back the events that
/// have occurred, 0 after the timeout.
#[derive(Debug)]
#[must_use = "an operation does nothing until it is submitted"]
pub struct Poll {
    fd: Fd,
    events: c_short,
    timeout: Option<Duration>,
    record: Option<Box<libc::pollfd>>,
}

impl Poll {
    /// Waits until this file has one of these events (`libc::POLLIN`, …) or an error, or
    /// until its peer is gone.
    pub fn new(fd: impl Into<Fd>, events: c_short) -> Self {
        Poll {
            fd: fd.into(),
            events,
            timeout: None,
            record: None,
        }
    }

    /// Waits no longer than this time, rounded up to milliseconds.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }
}

impl Sealed for Poll {
    fn prepare(&mut self) -> Prepared {
        let record = self.record.insert(Box::new(libc::pollfd {
            fd: self.fd.as_raw_fd(),
            events: self.events,
            revents: 0,
        }));
        let record = &raw mut **record;
        let call = calls::poll(record, 1, millis(self.timeout));
        Prepared::when(call, &self.fd, Readiness::Events(self.events))
            .within(self.timeout.map(Limit::For), calls::poll(record, 1, 0))
    }
}

impl Operation for Poll {
    type Output = io::Result<c_short>;

    fn output(self, end: End) -> Self::Output {
        let events = self.record.map_or(0, |record| record.revents);
        end.unit().map(|()| events)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_rounded_up_and_bounded() {
        assert_eq!(millis(None), -1);
        assert_eq!(millis(Some(Duration::ZERO)), 0);
        assert_eq!(millis(Some(Duration::from_nanos(1))), 1);
        assert_eq!(millis(Some(Duration::from_millis(7))), 7);
        assert_eq!(millis(Some(Duration::MAX)), c_int::MAX);
        assert_eq!(time(Duration::MAX).tv_sec, i64::MAX);
    }

    #[test]
    fn absolute_times_end() {
        let far = SystemTime::now() + Duration::from_secs(1000);
        let left = |time| match Sleep::until(time).limit() {
            Some(Limit::Until(until)) => until.saturating_duration_since(Instant::now()),
            other => panic!("{other:?}"),
        };
        assert!((990..=1000).contains(&left(far).as_secs()));
        assert_eq!(left(SystemTime::UNIX_EPOCH), Duration::ZERO);
        let before = SystemTime::UNIX_EPOCH - Duration::from_secs(1);
        assert_eq!(left(before), Duration::ZERO);
    }
}
