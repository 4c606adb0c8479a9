// SPDX-License-Identifier: MIT OR Apache-2.0
//! The ring's view of an operation: how it becomes calls, and how it ends.

#![expect(unsafe_code, reason = "a promise about the kernel's results")]

use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::time::{Duration, Instant};

use crate::call::to_io;
use crate::chain::Chain;
use crate::sys::poll::Readiness;
use crate::{Call, Fd};

/// An operation, for the ring.
pub trait Sealed: Sized + Send + 'static {
    /// Makes the calls. They point only to memory that stays where it is when the operation
    /// moves: the content of its buffers and boxes, not its fields.
    fn prepare(&mut self) -> Prepared;

    /// Adapts the operation to the results of its calls, which have ended.
    fn settle(&mut self, _end: &End) {}

    /// Returns its buffer if this is a `Vec<u8>`.
    fn vec(&mut self) -> Option<&mut Vec<u8>> {
        None
    }

    /// Returns how many calls it makes.
    fn size(&self) -> usize {
        1
    }
}

/// The calls of an operation.
#[derive(Clone, Debug)]
pub(crate) enum Calls {
    One(Call),
    Chain(Chain),
}

/// The timeout of a call.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Limit {
    /// Counted from the start of the call.
    For(Duration),
    Until(Instant),
}

/// An operation that is ready to be posted or to be made plainly.
#[derive(Debug)]
pub struct Prepared {
    pub(crate) calls: Calls,
    /// The call that is made in place of a plain call that would wait, once the file is
    /// ready or the time has come.
    pub(crate) plain: Option<Call>,
    /// The file that a plain call waits for; negative if there is none.
    pub(crate) fd: RawFd,
    pub(crate) readiness: Readiness,
    /// How long a plain call waits for it.
    pub(crate) limit: Option<Limit>,
    /// The result is a descriptor.
    pub(crate) opens: bool,
    /// How long the operation may take; then the ring cancels it.
    pub(crate) time: Option<Duration>,
}

impl Prepared {
    /// A call that waits for nothing.
    pub(crate) fn new(call: Call) -> Self {
        Prepared {
            calls: Calls::One(call),
            plain: None,
            fd: -1,
            readiness: Readiness::Always,
            limit: None,
            opens: false,
            time: None,
        }
    }

    /// A call that waits until this file is ready.
    pub(crate) fn when(call: Call, fd: &Fd, readiness: Readiness) -> Self {
        Prepared {
            fd: fd.as_raw_fd(),
            readiness,
            ..Prepared::new(call)
        }
    }

    /// A call whose result is a descriptor, which belongs to the program.
    pub(crate) fn opens(self) -> Self {
        Prepared {
            opens: true,
            ..self
        }
    }

    /// The call has a timeout of its own. `plain` is the same call without waiting.
    pub(crate) fn within(self, limit: Option<Limit>, plain: Call) -> Self {
        Prepared {
            limit,
            plain: Some(plain),
            ..self
        }
    }

    /// The calls of a chain.
    pub(crate) fn chain(chain: Chain) -> Self {
        Prepared {
            calls: Calls::Chain(chain),
            ..Prepared::new(crate::calls::getpid())
        }
    }

    /// The first call.
    #[cfg(test)]
    pub(crate) fn first(&self) -> Call {
        match &self.calls {
            Calls::One(call) => *call,
            Calls::Chain(chain) => chain.calls()[0],
        }
    }
}

/// How an operation has ended.
///
/// # Invariants
///
/// `result` and `results` are those of the operation's own calls.
#[derive(Debug)]
pub struct End {
    /// `-errno` on failure.
    result: i64,
    /// True if the call was made. If not, `result` says why.
    made: bool,
    /// The descriptor that the call has opened.
    fd: Option<OwnedFd>,
    /// The results of a chain, each with whether its call was made.
    results: Vec<(i64, bool)>,
}

impl End {
    /// # Safety
    ///
    /// The result is that of the operation's own call.
    pub(crate) unsafe fn new(result: i64, made: bool) -> Self {
        End {
            result,
            made,
            fd: None,
            results: Vec::new(),
        }
    }

    /// As [`End::new`], with the descriptor that the call has opened and the results of a
    /// chain.
    ///
    /// # Safety
    ///
    /// All of them are those of the operation's own calls.
    pub(crate) unsafe fn with(
        result: i64,
        made: bool,
        fd: Option<OwnedFd>,
        results: Vec<(i64, bool)>,
    ) -> Self {
        End {
            result,
            made,
            fd,
            results,
        }
    }

    /// Returns the end of one call of a chain.
    pub(crate) fn nth(&self, nth: usize) -> End {
        let canceled = (-i64::from(libc::ECANCELED), false);
        let (result, made) = self.results.get(nth).copied().unwrap_or(canceled);
        End {
            result,
            made,
            fd: None,
            results: Vec::new(),
        }
    }

    /// The result as the kernel gave it.
    pub(crate) fn number(&self) -> i64 {
        self.result
    }

    #[inline]
    pub(crate) fn made(&self) -> bool {
        self.made
    }

    #[inline]
    pub(crate) fn result(&self) -> io::Result<i64> {
        to_io(self.result)
    }

    #[inline]
    pub(crate) fn count(&self) -> io::Result<usize> {
        to_io(self.result).map(|count| count as usize)
    }

    pub(crate) fn unit(&self) -> io::Result<()> {
        to_io(self.result).map(drop)
    }

    /// Returns the descriptor, which the caller owns.
    pub(crate) fn into_fd(self) -> io::Result<OwnedFd> {
        let failed = || match to_io(self.result) {
            Ok(_) => io::ErrorKind::Other.into(),
            Err(error) => error,
        };
        self.fd.ok_or_else(failed)
    }
}
