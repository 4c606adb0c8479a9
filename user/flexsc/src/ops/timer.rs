// SPDX-License-Identifier: MIT OR Apache-2.0
//! Making eventfds and timers, and setting timers.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::ptr;
use std::time::Duration;

use libc::{c_int, itimerspec};

use super::Operation;
use super::private::{End, Prepared, Sealed};
use super::time::time;
use crate::{Fd, calls};

/// Makes an eventfd
/// ([eventfd(2)](https://man7.org/linux/man-pages/man2/eventfd.2.html)), which is closed by
/// execve(2). Gives back its descriptor.
#[derive(Debug)]
#[must_use = "an operation does nothing until it is submitted"]
pub struct Eventfd {
    counter: u32,
    flags: c_int,
}

impl Eventfd {
    /// Makes an eventfd with this counter.
    pub fn new(counter: u32) -> Self {
        Eventfd {
            counter,
            flags: libc::EFD_CLOEXEC,
        }
    }

    /// Makes reads decrement the counter instead of setting it to zero.
    pub fn semaphore(mut self) -> Self {
        self.flags |= libc::EFD_SEMAPHORE;
        self
    }

    /// Makes reads and writes fail with EAGAIN instead of waiting.
    pub fn nonblocking(mut self) -> Self {
        self.flags |= libc::EFD_NONBLOCK;
        self
    }
}

impl Sealed for Eventfd {
    fn prepare(&mut self) -> Prepared {
        Prepared::new(calls::eventfd2(self.counter, self.flags)).opens()
    }
}

impl Operation for Eventfd {
    type Output = io::Result<OwnedFd>;

    fn output(self, end: End) -> Self::Output {
        end.into_fd()
    }
}

/// Makes a timer with a descriptor
/// ([timerfd_create(2)](https://man7.org/linux/man-pages/man2/timerfd_create.2.html)), which
/// is closed by execve(2). Gives back its descriptor. [`TimerfdSettime`] starts it, and
/// [`EventfdRead`](super::EventfdRead) waits until it expires, and returns how often it has
/// expired since the last read.
///
/// ```
/// use std::time::Duration;
/// use flexsc::ops::{EventfdRead, Timerfd, TimerfdSettime};
/// use flexsc::{Fd, Ring};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let mut ring = Ring::open(1)?;
/// ring.submit(Timerfd::new(libc::CLOCK_MONOTONIC), 0).unwrap();
/// let done = ring.next_or_wait()?.expect("one is in flight");
/// let timer = Fd::from(done.output::<Timerfd>()?);
/// ring.submit(TimerfdSettime::new(&timer, Duration::from_millis(1)), 1).unwrap();
/// ring.next_or_wait()?.expect("one is in flight").output::<TimerfdSettime>()?;
/// ring.submit(EventfdRead::new(&timer), 2).unwrap();
/// let done = ring.next_or_wait()?.expect("one is in flight");
/// assert_eq!(done.output::<EventfdRead>()?, 1);
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
#[must_use = "an operation does nothing until it is submitted"]
pub struct Timerfd {
    clock: libc::clockid_t,
    flags: c_int,
}

impl Timerfd {
    /// Makes a timer of this clock, such as `libc::CLOCK_MONOTONIC`.
    pub fn new(clock: libc::clockid_t) -> Self {
        Timerfd {
            clock,
            flags: libc::TFD_CLOEXEC,
        }
    }

    /// Makes reads fail with EAGAIN instead of waiting.
    pub fn nonblocking(mut self) -> Self {
        self.flags |= libc::TFD_NONBLOCK;
        self
    }
}

impl Sealed for Timerfd {
    fn prepare(&mut self) -> Prepared {
        Prepared::new(calls::timerfd_create(self.clock, self.flags)).opens()
    }
}

impl Operation for Timerfd {
    type Output = io::Result<OwnedFd>;

    fn output(self, end: End) -> Self::Output {
        end.into_fd()
    }
}

/// Starts or stops a timer
/// ([timerfd_settime(2)](https://man7.org/linux/man-pages/man2/timerfd_settime.2.html)).
#[derive(Debug)]
#[must_use = "an operation does nothing until it is submitted"]
pub struct TimerfdSettime {
    fd: Fd,
    flags: c_int,
    first: Duration,
    every: Duration,
    times: Option<Box<itimerspec>>,
}

impl TimerfdSettime {
    /// Lets the timer expire once, after this time. Zero stops the timer.
    pub fn new(fd: impl Into<Fd>, after: Duration) -> Self {
        TimerfdSettime {
            fd: fd.into(),
            flags: 0,
            first: after,
            every: Duration::ZERO,
            times: None,
        }
    }

    /// Lets the timer expire again and again, in this interval after the first time.
    pub fn every(mut self, interval: Duration) -> Self {
        self.every = interval;
        self
    }

    /// Takes the first time as one of the timer's clock, instead of counting from now.
    pub fn absolute(mut self) -> Self {
        self.flags |= libc::TFD_TIMER_ABSTIME;
        self
    }
}

impl Sealed for TimerfdSettime {
    fn prepare(&mut self) -> Prepared {
        let times = self.times.insert(Box::new(itimerspec {
            it_interval: time(self.every),
            it_value: time(self.first),
        }));
        let (fd, times) = (self.fd.as_raw_fd(), &raw const **times);
        let call = calls::timerfd_settime(fd, self.flags, times, ptr::null_mut());
        Prepared::new(call)
    }
}

impl Operation for TimerfdSettime {
    type Output = io::Result<()>;

    fn output(self, end: End) -> Self::Output {
        end.unit()
    }
}
