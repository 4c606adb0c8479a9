// SPDX-License-Identifier: MIT OR Apache-2.0
//! Making eventfds and timers, and setting timers.

use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

use flexsc::Fd;
use flexsc::ops::{Eventfd, EventfdRead, EventfdWrite, Timerfd, TimerfdSettime};

use super::{assert_errno, ring, run};

#[test]
fn an_eventfd_counts() {
    let mut ring = ring();
    let fd = run(&mut ring, Eventfd::new(3)).unwrap();
    // SAFETY: asks for flags.
    let flags = unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_GETFD) };
    assert_eq!(flags, libc::FD_CLOEXEC);
    let fd = Fd::from(fd);
    run(&mut ring, EventfdWrite::new(&fd, 4)).unwrap();
    assert_eq!(run(&mut ring, EventfdRead::new(&fd)).unwrap(), 7);
    let fd = run(&mut ring, Eventfd::new(2).semaphore().nonblocking());
    let fd = Fd::from(fd.unwrap());
    for _ in 0..2 {
        assert_eq!(run(&mut ring, EventfdRead::new(&fd)).unwrap(), 1);
    }
    assert_errno(run(&mut ring, EventfdRead::new(&fd)), libc::EAGAIN);
}

#[test]
fn a_timer_expires_once_or_again_and_again() {
    let mut ring = ring();
    let timer = run(&mut ring, Timerfd::new(libc::CLOCK_MONOTONIC));
    let timer = Fd::from(timer.unwrap());
    let time = Duration::from_millis(20);
    let begun = Instant::now();
    run(&mut ring, TimerfdSettime::new(&timer, time)).unwrap();
    assert_eq!(run(&mut ring, EventfdRead::new(&timer)).unwrap(), 1);
    assert!(begun.elapsed() >= time);
    let begun = Instant::now();
    let every = TimerfdSettime::new(&timer, time).every(time);
    run(&mut ring, every).unwrap();
    let mut count = 0;
    while count < 3 {
        count += run(&mut ring, EventfdRead::new(&timer)).unwrap();
    }
    assert!(begun.elapsed() >= 3 * time);
    run(&mut ring, TimerfdSettime::new(&timer, Duration::ZERO)).unwrap();
}

#[test]
fn a_time_that_is_over_expires_at_once() {
    let mut ring = ring();
    let timer = Timerfd::new(libc::CLOCK_MONOTONIC).nonblocking();
    let timer = Fd::from(run(&mut ring, timer).unwrap());
    assert_errno(run(&mut ring, EventfdRead::new(&timer)), libc::EAGAIN);
    let timer = run(&mut ring, Timerfd::new(libc::CLOCK_MONOTONIC));
    let timer = Fd::from(timer.unwrap());
    let past = TimerfdSettime::new(&timer, Duration::from_nanos(1)).absolute();
    run(&mut ring, past).unwrap();
    assert_eq!(run(&mut ring, EventfdRead::new(&timer)).unwrap(), 1);
}
