// SPDX-License-Identifier: MIT OR Apache-2.0
//! Waiting for results: by flexsc_wait(2), by the ioctl, or without a trap.

use std::os::fd::{AsFd, BorrowedFd};
use std::sync::atomic::Ordering;

use nix::errno::Errno;

use super::Pages;
use crate::sys::device;
use crate::{Error, Wait, wait};

impl Pages {
    /// Posts staged calls, lets the kernel execute them, and sleeps until the policy is
    /// satisfied. Returns how many results can be taken. Costs one trap, or none if nothing
    /// was staged, nothing is left to execute, and the results are already available.
    ///
    /// The trap is flexsc_wait(2), or the ioctl if the kernel or a seccomp filter refuses
    /// that call with an error. If a filter kills instead, the program must choose the
    /// ioctl ([`set_wait_by_ioctl`](Self::set_wait_by_ioctl)).
    ///
    /// # Errors
    ///
    /// [`Error::TimedOut`], [`Error::Interrupted`], [`Error::NothingToWaitFor`],
    /// [`Error::Filtered`], [`Error::NotTheOwner`] in a forked child.
    #[inline(always)]
    pub fn wait(&mut self, wait: Wait) -> Result<usize, Error> {
        if !self.in_same_process() {
            return Err(Error::NotTheOwner);
        }
        let posted_some = self.queue.ring();
        self.queue.publish_reaped();
        if !posted_some {
            return self.wait_idle(wait.parts());
        }
        if !(self.by_call && wait.is_timeless()) {
            return self.wait_by_ioctl(wait.parts());
        }
        let there = device::wait_call(self.fd, wait.fast(self.id()));
        if there >= 0 {
            return Ok(there as usize);
        }
        self.wait_failed(wait.parts(), there)
    }

    /// Waits when nothing was staged. Needs a trap only if the available results are not
    /// enough or a call is left to execute.
    #[cold]
    #[inline(never)]
    fn wait_idle(&mut self, wait: wait::Parts) -> Result<usize, Error> {
        let look = self.queue.look();
        let full = Wait::from_parts(wait);
        if !look.pending && full.satisfied(look.finished, look.all) {
            return Ok(look.finished);
        }
        if !(self.by_call && full.is_timeless()) {
            return self.wait_by_ioctl(wait);
        }
        let there = device::wait_call(self.fd, full.fast(self.id()));
        usize::try_from(there).or_else(|_| self.wait_failed(wait, there))
    }

    /// Handles a failure of flexsc_wait(2).
    #[cold]
    #[inline(never)]
    fn wait_failed(&mut self, wait: wait::Parts, result: i64) -> Result<usize, Error> {
        let errno = Errno::from_raw(-result as i32);
        // ENOSYS: the kernel has no such call. ENOTTY: the module does not serve it. EPERM:
        // a filter, or the caller is not the owner.
        if !matches!(errno, Errno::ENOSYS | Errno::ENOTTY | Errno::EPERM) {
            return Err(self.wait_error(errno));
        }
        let result = self.wait_by_ioctl(wait);
        let same = matches!(&result, Err(error) if error.errno() == errno as i32);
        if !same {
            self.engine().by_ioctl.store(true, Ordering::Relaxed);
            self.by_call = false;
        }
        result
    }

    #[cold]
    #[inline(never)]
    fn wait_by_ioctl(&mut self, wait: wait::Parts) -> Result<usize, Error> {
        let wait = Wait::from_parts(wait);
        let fd = self.engine().fd.as_fd();
        let result = if wait.is_timeless() && self.id() <= 0xffff {
            device::wait_fast(fd, wait.fast(self.id()))
        } else {
            device::wait(fd, wait.full(self.id()))
        };
        result.map_err(|errno| self.wait_error(errno))
    }

    fn wait_error(&self, errno: Errno) -> Error {
        match errno {
            Errno::ETIME => Error::TimedOut,
            Errno::EINTR => Error::Interrupted,
            Errno::EDEADLK => Error::NothingToWaitFor,
            errno => self.engine().error("wait", errno),
        }
    }

    /// Sets the eventfd(2) that the kernel signals when there are results of these pages;
    /// `None` removes it. The kernel keeps its own reference.
    ///
    /// # Errors
    ///
    /// [`Error::BadEventFd`] if the descriptor is not an eventfd, [`Error::NotTheOwner`],
    /// [`Error::Filtered`], [`Error::TooOld`].
    pub fn set_eventfd(&self, eventfd: Option<BorrowedFd<'_>>) -> Result<(), Error> {
        let fd = self.engine().fd.as_fd();
        device::eventfd(fd, self.id(), eventfd).map_err(|errno| match errno {
            Errno::EBADF | Errno::EINVAL => Error::BadEventFd,
            Errno::ENOTTY => Error::TooOld("EVENTFD"),
            errno => self.engine().error("set an eventfd", errno),
        })
    }

    /// Sets whether [`wait`](Self::wait) uses only the ioctl: for programs under a seccomp
    /// filter that kills on unknown calls, and for comparisons. If flexsc_wait(2) fails
    /// with an error, the crate changes to the ioctl by itself.
    pub fn set_wait_by_ioctl(&mut self, on: bool) {
        self.by_call = !on && self.id() <= 0xffff;
    }
}
