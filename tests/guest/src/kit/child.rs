// SPDX-License-Identifier: MIT OR Apache-2.0
//! Child processes of a test.

use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use super::files::{pipe, read_byte, readable};
use super::{patience, sys, until};
use crate::check::{Check, Failure};

/// Exit code of a skipped test.
pub const EXIT_SKIP: i32 = 77;

/// How a process ended, or that it stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    Exit(i32),
    Signal { signal: i32, core: bool },
    Stopped(i32),
}

impl End {
    fn from_status(status: i32) -> End {
        if libc::WIFSTOPPED(status) {
            End::Stopped(libc::WSTOPSIG(status))
        } else if libc::WIFSIGNALED(status) {
            End::Signal {
                signal: libc::WTERMSIG(status),
                core: libc::WCOREDUMP(status),
            }
        } else {
            End::Exit(libc::WEXITSTATUS(status))
        }
    }
}

/// wait4 without blocking.
pub fn reap(pid: i32, options: i32) -> Option<End> {
    let mut status = 0i32;
    let status_at = std::ptr::from_mut(&mut status);
    let ret = plain!(SYS_wait4, pid, status_at, options | libc::WNOHANG, 0);
    (ret > 0).then(|| End::from_status(status))
}

/// Sleeps until a child has ended, at most for `limit`. Polling would take much CPU time on a slow
/// kernel.
pub fn sleep_until_end(pid: i32, limit: Duration) {
    match sys::result(plain!(SYS_pidfd_open, pid, 0)) {
        Ok(fd) => drop(readable(&sys::own(fd as i32), limit)),
        Err(_) => std::thread::sleep(limit.min(Duration::from_millis(1))),
    }
}

/// As [`reap`], for any child that has ended or stopped.
pub fn reap_any() -> Option<(i32, End)> {
    let mut status = 0i32;
    let status_at = std::ptr::from_mut(&mut status);
    let ret = plain!(SYS_wait4, -1, status_at, libc::WNOHANG | libc::__WALL, 0);
    (ret > 0).then(|| (ret as i32, End::from_status(status)))
}

/// A child process, killed when dropped.
pub struct Child {
    pub pid: i32,
    ready: OwnedFd,
    go: OwnedFd,
    reaped: bool,
}

/// The child's end of the connection to its parent.
pub struct Link {
    ready: OwnedFd,
    go: OwnedFd,
}

impl Link {
    /// Tells the parent that it can go on.
    pub fn ready(&self) {
        plain!(SYS_write, &self.ready, b"r".as_ptr(), 1);
    }

    /// Waits until the parent calls `Child::go`.
    pub fn wait_go(&self) -> Check {
        check!(read_byte(&self.go).is_some(), "the parent is gone");
        Ok(())
    }
}

/// Prints the outcome of a process's work and returns its exit code.
pub fn exit_code(outcome: Check) -> i32 {
    match outcome {
        Ok(()) => 0,
        Err(Failure::Failed(text)) => {
            println!("# {text}");
            1
        }
        Err(Failure::Skip(text)) => {
            if !text.is_empty() {
                println!("# SKIP {text}");
            }
            EXIT_SKIP
        }
    }
}

fn fork() -> i32 {
    #[expect(unsafe_code, reason = "there is no safe fork")]
    // SAFETY: the callers have one thread, so the child's memory is consistent.
    unsafe {
        libc::fork()
    }
}

/// Starts a child. Call it only while this process has one thread.
pub fn spawn(work: impl FnOnce(&Link) -> Check) -> Check<Child> {
    let (ready, child_ready) = pipe()?;
    let (child_go, go) = pipe()?;
    let pid = fork();
    check!(pid >= 0, "fork: {:?}", nix::errno::Errno::last());
    if pid == 0 {
        plain!(SYS_prctl, libc::PR_SET_PDEATHSIG, libc::SIGKILL, 0, 0, 0);
        drop((ready, go));
        let link = Link {
            ready: child_ready,
            go: child_go,
        };
        let caught = std::panic::AssertUnwindSafe(|| work(&link));
        let code = std::panic::catch_unwind(caught).map_or(101, exit_code);
        sys::exit_now(code);
    }
    Ok(Child {
        pid,
        ready,
        go,
        reaped: false,
    })
}

/// Runs work in a child, and checks that it succeeds.
pub fn in_child(work: impl FnOnce() -> Check) -> Check {
    spawn(|_| work())?.join()
}

impl Child {
    /// Waits for `Link::ready`.
    pub fn wait_ready(&mut self) -> Check {
        let patience = patience();
        check!(
            readable(&self.ready, patience),
            "child not ready after {} s",
            patience.as_secs()
        );
        if read_byte(&self.ready).is_none() {
            let end = self.end()?;
            if end == End::Exit(EXIT_SKIP) {
                return crate::check::skip("");
            }
            fail!("the child ended before it was ready: {end:?}");
        }
        Ok(())
    }

    /// Lets `Link::wait_go` return.
    pub fn go(&self) {
        plain!(SYS_write, &self.go, b"g".as_ptr(), 1);
    }

    /// Notes that the child was waited for elsewhere.
    pub fn set_reaped(&mut self) {
        self.reaped = true;
    }

    /// Sends a signal.
    pub fn signal(&self, signal: i32) {
        plain!(SYS_kill, self.pid, signal);
    }

    /// Waits for the end, which must come soon.
    pub fn end(&mut self) -> Check<End> {
        self.end_within(patience())
    }

    fn end_within(&mut self, limit: Duration) -> Check<End> {
        let begin = Instant::now();
        loop {
            if let Some(end) = reap(self.pid, 0) {
                self.reaped = true;
                return Ok(end);
            }
            let left = limit.saturating_sub(begin.elapsed());
            if left.is_zero() {
                super::process::print_threads(self.pid);
                fail!("a child has not ended within {} s", limit.as_secs());
            }
            sleep_until_end(self.pid, left);
        }
    }

    /// Waits for the end, and checks that the child has succeeded. Its work may take as long as the
    /// whole test, whose end the supervisor watches.
    pub fn join(mut self) -> Check {
        match self.end_within(Duration::MAX)? {
            End::Exit(0) => Ok(()),
            End::Exit(EXIT_SKIP) => crate::check::skip(""),
            end => fail!("the child did not succeed: {end:?}"),
        }
    }

    /// Waits until the child is ready, lets it go on under a tracer that stops it at each system
    /// call, and checks that it succeeds.
    pub fn join_traced(mut self) -> Check {
        self.wait_ready()?;
        let pid = self.pid;
        let trace = |request: u32| plain!(SYS_ptrace, request, pid, 0, 0);
        check_ret!("PTRACE_ATTACH", trace(libc::PTRACE_ATTACH), 0);
        let mut end = None;
        until("a stop for the tracer", || {
            end = reap(pid, libc::__WALL);
            end.is_some()
        })?;
        check_eq!("state", end, Some(End::Stopped(libc::SIGSTOP)));
        check_ret!("PTRACE_SYSCALL", trace(libc::PTRACE_SYSCALL), 0);
        self.go();
        until("the end of the traced child", || {
            end = reap(pid, libc::__WALL);
            if let Some(End::Stopped(_)) = end {
                trace(libc::PTRACE_SYSCALL);
            }
            matches!(end, Some(End::Exit(_) | End::Signal { .. }))
        })?;
        self.set_reaped();
        check_eq!("end of the traced child", end, Some(End::Exit(0)));
        Ok(())
    }

    /// Sends SIGKILL and waits for the end.
    pub fn kill(mut self) -> Check {
        self.signal(libc::SIGKILL);
        let end = self.end()?;
        let wanted = End::Signal {
            signal: libc::SIGKILL,
            core: false,
        };
        check_eq!("end of the killed child", end, wanted);
        Ok(())
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        if !self.reaped {
            self.signal(libc::SIGKILL);
            let _ = until("the end of a killed child", || reap(self.pid, 0).is_some());
        }
    }
}
