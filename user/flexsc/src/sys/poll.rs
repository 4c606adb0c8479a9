// SPDX-License-Identifier: MIT OR Apache-2.0
//! Tools of the fallback for waiting without blocking: poll(2), eventfds, and threads
//! that receive no signals.

#![expect(unsafe_code, reason = "system calls")]

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::ptr;
use std::time::Duration;

use nix::errno::Errno;
use nix::libc;

/// The event that a call needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Readiness {
    /// The file can be read.
    Readable,
    /// The file can be written to.
    Writable,
    /// No event, because the call does not wait for others.
    Always,
    /// The file has one of these events of poll(2), whatever its flags.
    Events(libc::c_short),
    /// No event ever occurs: the call waits for its time.
    Never,
}

/// Makes an argument of [`poll`].
pub(crate) fn wanted(fd: RawFd, readiness: Readiness) -> libc::pollfd {
    let events = match readiness {
        Readiness::Readable => libc::POLLIN,
        Readiness::Writable => libc::POLLOUT,
        Readiness::Events(events) => events,
        Readiness::Always | Readiness::Never => 0,
    };
    libc::pollfd {
        fd,
        events,
        revents: 0,
    }
}

/// ppoll(2). Returns how many are ready. Waits forever without a timeout.
pub(crate) fn poll(fds: &mut [libc::pollfd], timeout: Option<Duration>) -> Result<usize, Errno> {
    let time = timeout.map(|time| libc::timespec {
        tv_sec: time.as_secs().min(i64::MAX as u64) as libc::time_t,
        tv_nsec: time.subsec_nanos().into(),
    });
    let time = time.as_ref().map_or(ptr::null(), ptr::from_ref);
    let count = fds.len() as libc::nfds_t;
    // SAFETY: the slice and the time outlive the call.
    let ready = unsafe { libc::ppoll(fds.as_mut_ptr(), count, time, ptr::null()) };
    Errno::result(ready).map(|ready| ready as usize)
}

/// Returns true if the call would not wait for others, or only for a time of its own: the
/// descriptor is non-blocking, or is a socket with a timeout or a terminal that does not
/// wait.
pub(crate) fn is_ready(fd: RawFd, readiness: Readiness) -> bool {
    match readiness {
        Readiness::Always => return true,
        Readiness::Never => return false,
        Readiness::Readable | Readiness::Writable | Readiness::Events(_) => {}
    }
    match poll(&mut [wanted(fd, readiness)], Some(Duration::ZERO)) {
        Ok(0) => {}
        // The call itself reports the error.
        _ => return true,
    }
    if matches!(readiness, Readiness::Events(_)) {
        return false;
    }
    // SAFETY: takes numbers, no memory.
    let flags = unsafe { libc::fcntl(fd, libc::F_GETFL) };
    flags < 0 || flags & libc::O_NONBLOCK != 0 || has_own_time(fd, readiness)
}

/// Returns true if the file itself ends a call, at once or after a while.
fn has_own_time(fd: RawFd, readiness: Readiness) -> bool {
    let option = match readiness {
        Readiness::Readable => libc::SO_RCVTIMEO,
        _ => libc::SO_SNDTIMEO,
    };
    let mut time = libc::timeval {
        tv_sec: 0,
        tv_usec: 0,
    };
    let mut len = size_of::<libc::timeval>() as libc::socklen_t;
    let to = (&raw mut time).cast();
    // SAFETY: `time` has room for `len` bytes.
    let got = unsafe { libc::getsockopt(fd, libc::SOL_SOCKET, option, to, &raw mut len) };
    if got == 0 {
        return time.tv_sec != 0 || time.tv_usec != 0;
    }
    readiness == Readiness::Readable && is_polled_terminal(fd)
}

/// Returns true for a terminal that is not read by lines and whose reads need not return any
/// byte: VMIN is 0.
fn is_polled_terminal(fd: RawFd) -> bool {
    // SAFETY: a termios is plain memory.
    let mut settings: libc::termios = unsafe { std::mem::zeroed() };
    // SAFETY: `settings` has room for it. Fails if the file is not a terminal.
    let got = unsafe { libc::tcgetattr(fd, &raw mut settings) };
    got == 0 && settings.c_lflag & libc::ICANON == 0 && settings.c_cc[libc::VMIN] == 0
}

/// An eventfd: readable from a signal on until it is cleared.
#[derive(Debug)]
pub(crate) struct EventFd(OwnedFd);

impl EventFd {
    /// # Errors
    ///
    /// EMFILE, ENFILE, ENOMEM.
    pub(crate) fn new() -> Result<Self, Errno> {
        // SAFETY: takes numbers, no memory.
        let fd = unsafe { libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) };
        let fd = Errno::result(fd)?;
        // SAFETY: just made, and owned by nothing else.
        Ok(EventFd(unsafe { OwnedFd::from_raw_fd(fd) }))
    }

    pub(crate) fn signal(&self) {
        let one = 1_u64.to_ne_bytes();
        // SAFETY: reads eight bytes. It fails only after 2^64 - 2 signals.
        unsafe { libc::write(self.0.as_raw_fd(), one.as_ptr().cast(), one.len()) };
    }

    pub(crate) fn clear(&self) {
        let mut count = [0_u8; 8];
        // SAFETY: writes eight bytes. It fails if there was no signal.
        unsafe { libc::read(self.0.as_raw_fd(), count.as_mut_ptr().cast(), count.len()) };
    }
}

impl AsFd for EventFd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Makes a descriptor that is readable while one of `fds` is.
pub(crate) fn either(fds: [BorrowedFd<'_>; 2]) -> Result<OwnedFd, Errno> {
    // SAFETY: takes a number, no memory.
    let epoll = unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) };
    let epoll = Errno::result(epoll)?;
    // SAFETY: just made, and owned by nothing else.
    let epoll = unsafe { OwnedFd::from_raw_fd(epoll) };
    for fd in fds {
        let mut event = libc::epoll_event {
            events: libc::EPOLLIN as u32,
            u64: 0,
        };
        let (add, fd) = (libc::EPOLL_CTL_ADD, fd.as_raw_fd());
        // SAFETY: the event is valid.
        let added = unsafe { libc::epoll_ctl(epoll.as_raw_fd(), add, fd, &raw mut event) };
        Errno::result(added)?;
    }
    Ok(epoll)
}

/// Runs `start` with all signals blocked, so that threads that it starts receive none:
/// handlers run in the program's own threads.
pub(crate) fn without_signals<R>(start: impl FnOnce() -> R) -> R {
    // SAFETY: a set of signals is plain memory.
    let mut all: libc::sigset_t = unsafe { std::mem::zeroed() };
    // SAFETY: as above.
    let mut before: libc::sigset_t = unsafe { std::mem::zeroed() };
    // SAFETY: the set is valid.
    unsafe { libc::sigfillset(&raw mut all) };
    // SAFETY: both sets are valid.
    unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &raw const all, &raw mut before) };
    let result = start();
    // SAFETY: as above; restores the previous mask.
    unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &raw const before, ptr::null_mut()) };
    result
}
