// SPDX-License-Identifier: MIT OR Apache-2.0
//! epoll(7) and eventfd(2).

use std::io;
use std::os::fd::AsRawFd;
use std::time::Duration;

use libc::{c_int, epoll_event};

use super::Operation;
use super::private::{End, Limit, Prepared, Sealed};
use super::simple::simple;
use super::time::millis;
use crate::sys::buf;
use crate::sys::poll::Readiness;
use crate::{Fd, calls};

/// Changes what an epoll instance watches
/// ([epoll_ctl(2)](https://man7.org/linux/man-pages/man2/epoll_ctl.2.html)).
#[derive(Debug)]
#[must_use = "an operation does nothing until it is submitted"]
pub struct EpollCtl {
    epoll: Fd,
    op: c_int,
    fd: Fd,
    event: Box<epoll_event>,
}

impl EpollCtl {
    fn new(epoll: Fd, op: c_int, fd: Fd, events: u32, data: u64) -> Self {
        EpollCtl {
            epoll,
            op,
            fd,
            event: Box::new(epoll_event { events, u64: data }),
        }
    }

    /// Watches this file for these events (`libc::EPOLLIN`, …). They come with this number.
    pub fn add(epoll: impl Into<Fd>, fd: impl Into<Fd>, events: c_int, data: u64) -> Self {
        let op = libc::EPOLL_CTL_ADD;
        EpollCtl::new(epoll.into(), op, fd.into(), events as u32, data)
    }

    /// Watches a file that is watched already for these events instead.
    pub fn modify(epoll: impl Into<Fd>, fd: impl Into<Fd>, events: c_int, data: u64) -> Self {
        let op = libc::EPOLL_CTL_MOD;
        EpollCtl::new(epoll.into(), op, fd.into(), events as u32, data)
    }

    /// Stops watching this file.
    pub fn delete(epoll: impl Into<Fd>, fd: impl Into<Fd>) -> Self {
        EpollCtl::new(epoll.into(), libc::EPOLL_CTL_DEL, fd.into(), 0, 0)
    }
}

simple!(
    EpollCtl -> io::Result<()>,
    |this| {
        let event = &raw mut *this.event;
        calls::epoll_ctl(this.epoll.as_raw_fd(), this.op, this.fd.as_raw_fd(), event)
    },
    |_, end| end.unit()
);

/// Waits for events of an epoll instance
/// ([epoll_wait(2)](https://man7.org/linux/man-pages/man2/epoll_wait.2.html)). Gives back
/// their number, 0 after the timeout, and the events.
#[derive(Debug)]
#[must_use = "an operation does nothing until it is submitted"]
pub struct EpollWait {
    epoll: Fd,
    events: Vec<epoll_event>,
    timeout: Option<Duration>,
}

impl EpollWait {
    /// Waits for at most as many events as the `Vec` has room for, at least one. Its content
    /// is replaced.
    pub fn new(epoll: impl Into<Fd>, mut events: Vec<epoll_event>) -> Self {
        events.clear();
        EpollWait {
            epoll: epoll.into(),
            events,
            timeout: None,
        }
    }

    /// Waits no longer than this time, rounded up to milliseconds.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }
}

impl Sealed for EpollWait {
    fn prepare(&mut self) -> Prepared {
        let count = c_int::try_from(self.events.capacity()).unwrap_or(c_int::MAX);
        let (fd, events) = (self.epoll.as_raw_fd(), self.events.as_mut_ptr());
        let call = calls::epoll_wait(fd, events, count, millis(self.timeout));
        Prepared::when(call, &self.epoll, Readiness::Events(libc::POLLIN)).within(
            self.timeout.map(Limit::For),
            calls::epoll_wait(fd, events, count, 0),
        )
    }

    fn settle(&mut self, end: &End) {
        buf::counted(&mut self.events, end);
    }
}

impl Operation for EpollWait {
    type Output = (io::Result<usize>, Vec<epoll_event>);

    fn output(self, end: End) -> Self::Output {
        (end.count(), self.events)
    }
}

/// Waits until the counter of an eventfd is not zero, takes it and sets it to zero
/// ([eventfd(2)](https://man7.org/linux/man-pages/man2/eventfd.2.html)). Gives back the
/// counter, or 1 and decrements it if the eventfd is a semaphore. Of a timer
/// ([`Timerfd`](super::Timerfd)), the counter is how often it has expired.
#[derive(Debug)]
#[must_use = "an operation does nothing until it is submitted"]
pub struct EventfdRead {
    fd: Fd,
    counter: Box<u64>,
}

impl EventfdRead {
    /// Reads this eventfd.
    pub fn new(fd: impl Into<Fd>) -> Self {
        EventfdRead {
            fd: fd.into(),
            counter: Box::new(0),
        }
    }
}

impl Sealed for EventfdRead {
    fn prepare(&mut self) -> Prepared {
        let counter = &raw mut *self.counter;
        let call = calls::read(self.fd.as_raw_fd(), counter.cast(), size_of::<u64>());
        Prepared::when(call, &self.fd, Readiness::Readable)
    }
}

impl Operation for EventfdRead {
    type Output = io::Result<u64>;

    fn output(self, end: End) -> Self::Output {
        end.unit().map(|()| *self.counter)
    }
}

/// Adds to the counter of an eventfd, and waits while the sum is too large
/// ([eventfd(2)](https://man7.org/linux/man-pages/man2/eventfd.2.html)).
#[derive(Debug)]
#[must_use = "an operation does nothing until it is submitted"]
pub struct EventfdWrite {
    fd: Fd,
    counter: Box<u64>,
}

impl EventfdWrite {
    /// Adds this number, which must be less than 2^64 - 1 (EINVAL).
    pub fn new(fd: impl Into<Fd>, add: u64) -> Self {
        EventfdWrite {
            fd: fd.into(),
            counter: Box::new(add),
        }
    }
}

impl Sealed for EventfdWrite {
    fn prepare(&mut self) -> Prepared {
        let counter = &raw const *self.counter;
        let call = calls::write(self.fd.as_raw_fd(), counter.cast(), size_of::<u64>());
        if *self.counter == u64::MAX {
            // The call fails at once, whatever the sum would be.
            return Prepared::new(call);
        }
        Prepared::when(call, &self.fd, Readiness::Writable)
    }
}

impl Operation for EventfdWrite {
    type Output = io::Result<()>;

    fn output(self, end: End) -> Self::Output {
        end.unit()
    }
}
