// SPDX-License-Identifier: MIT OR Apache-2.0
//! Sleeping, and waiting for one file.

use std::io;
use std::os::fd::AsRawFd;
use std::ptr;
use std::time::{Duration, SystemTime};

use libc::{c_int, c_short, timespec};

use super::Operation;
use super::private::{End, Prepared, Sealed};
use crate::sys::poll::Readiness;
use crate::{Fd, calls};

/// Converts to the kernel's time, at most the latest that it has.
fn time(time: Duration) -> timespec {
    timespec {
        tv_sec: time.as_secs().min(i64::MAX as u64) as libc::time_t,
        tv_nsec: time.subsec_nanos().into(),
    }
}

/// Converts to milliseconds for poll(2), rounded up; -1 is for ever.
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

    /// How long it sleeps from now on.
    fn limit(&self) -> Duration {
        if self.flags == 0 {
            return self.time;
        }
        let until = SystemTime::UNIX_EPOCH.checked_add(self.time);
        let left = until.map(|until| until.duration_since(SystemTime::now()));
        left.map_or(Duration::MAX, Result::unwrap_or_default)
    }
}

impl Sealed for Sleep {
    fn prepare(&mut self) -> Prepared {
        let zero = Duration::ZERO;
        let times = Box::new([time(self.time), time(zero)]);
        let [asleep, none] = &**self.times.insert(times);
        let call = calls::clock_nanosleep(self.clock, self.flags, asleep, ptr::null_mut());
        let plain = calls::clock_nanosleep(libc::CLOCK_MONOTONIC, 0, none, ptr::null_mut());
        let limit = Some(self.limit());
        Prepared {
            readiness: Readiness::Never,
            ..Prepared::new(call).within(limit, plain)
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
/// are there, 0 after the timeout.
#[derive(Debug)]
#[must_use = "an operation does nothing until it is submitted"]
pub struct Poll {
    fd: Fd,
    events: c_short,
    timeout: Option<Duration>,
    record: Option<Box<libc::pollfd>>,
}

impl Poll {
    /// Waits until this file has one of these events (`libc::POLLIN`, …), an error, or no
    /// peer any more.
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
            .within(self.timeout, calls::poll(record, 1, 0))
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
        let limit = Sleep::until(far).limit().as_secs();
        assert!((990..=1000).contains(&limit), "{limit}");
        assert_eq!(Sleep::until(SystemTime::UNIX_EPOCH).limit(), Duration::ZERO);
        let before = SystemTime::UNIX_EPOCH - Duration::from_secs(1);
        assert_eq!(Sleep::until(before).limit(), Duration::ZERO);
    }
}
