// SPDX-License-Identifier: MIT OR Apache-2.0
//! The compared ways to make system calls.

pub mod flexsc;
pub mod plain;
pub mod uring;

use std::io;

use crate::request::Request;

/// Makes batches of calls.
pub trait Backend {
    /// Makes the calls `request(0)` to `request(count - 1)` in any order and passes on each
    /// result, `-errno` on failure.
    ///
    /// # Safety
    ///
    /// The pointers of the requests must be valid, and not be used otherwise, until this
    /// function returns.
    ///
    /// # Errors
    ///
    /// The backend does not work. A failing call is not an error.
    unsafe fn batch(
        &mut self,
        count: usize,
        request: impl Fn(usize) -> Request,
        take: impl FnMut(i64),
    ) -> io::Result<()>;
}

/// The names on the command line and in the CSV.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// One trap for each call.
    Plain,
    /// Posted, and executed by the waiting thread.
    FlexscInline,
    /// The same, waiting by ioctl instead of flexsc_wait(2).
    FlexscIoctl,
    /// Posted, and executed by a syscall thread while the program waits.
    FlexscThread,
    /// Posted and polled, and executed by a poller on another CPU.
    FlexscPoller,
    /// Submitted and waited for with io_uring_enter.
    Uring,
    /// The same, with completions deferred to the waiting thread.
    UringDefer,
    /// Submitted to a polling kernel thread.
    UringSqpoll,
}

impl Kind {
    /// All backends.
    pub const ALL: [Kind; 8] = [
        Kind::Plain,
        Kind::FlexscInline,
        Kind::FlexscIoctl,
        Kind::FlexscThread,
        Kind::FlexscPoller,
        Kind::Uring,
        Kind::UringDefer,
        Kind::UringSqpoll,
    ];

    /// The name in the CSV.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Kind::Plain => "plain",
            Kind::FlexscInline => "flexsc-inline",
            Kind::FlexscIoctl => "flexsc-ioctl",
            Kind::FlexscThread => "flexsc-thread",
            Kind::FlexscPoller => "flexsc-poller",
            Kind::Uring => "io_uring",
            Kind::UringDefer => "io_uring-defer",
            Kind::UringSqpoll => "io_uring-sqpoll",
        }
    }

    /// The description for `list`.
    #[must_use]
    pub const fn about(self) -> &'static str {
        match self {
            Kind::Plain => "the syscall instruction, once for each call",
            Kind::FlexscInline => "post the batch, wait for all: the waiter executes it",
            Kind::FlexscIoctl => "the same, but the wait is an ioctl instead of flexsc_wait(2)",
            Kind::FlexscThread => "the same with the ASYNC flag: a syscall thread executes it",
            Kind::FlexscPoller => "post the batch, poll: a poller on the second CPU executes it",
            Kind::Uring => "fill the ring, io_uring_enter for all",
            Kind::UringDefer => "the same with DEFER_TASKRUN and SINGLE_ISSUER",
            Kind::UringSqpoll => "fill the ring, poll; SQPOLL on the second CPU",
        }
    }

    /// Returns true for the set-ups of io_uring.
    #[must_use]
    pub const fn is_uring(self) -> bool {
        matches!(self, Kind::Uring | Kind::UringDefer | Kind::UringSqpoll)
    }

    /// Finds a backend by its name.
    ///
    /// # Errors
    ///
    /// There is no backend of this name.
    pub fn parse(name: &str) -> Result<Kind, String> {
        Kind::ALL
            .into_iter()
            .find(|kind| kind.name() == name)
            .ok_or_else(|| format!("no backend '{name}': see `flexsc-bench list`"))
    }
}
