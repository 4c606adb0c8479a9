// SPDX-License-Identifier: MIT OR Apache-2.0
//! Any other system call, and chains of them.

#![expect(unsafe_code, reason = "a promise about a call")]

use std::io;
use std::os::fd::RawFd;

use super::Operation;
use super::private::{End, Prepared, Sealed};
use super::transfer;
use crate::sys::poll::Readiness;
use crate::{Call, Chain, Error};

/// Any system call, by its number and its arguments
/// ([syscall(2)](https://man7.org/linux/man-pages/man2/syscall.2.html)), with a value that
/// lives as long as the call. Gives back the return value of the call, and the value.
///
/// ```
/// use std::fs::File;
/// use std::os::fd::AsRawFd;
/// use flexsc::ops::Raw;
/// use flexsc::{Ring, calls};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let mut ring = Ring::open(1)?;
/// let file = File::open("/proc/self/exe")?;
/// let seek = calls::lseek(file.as_raw_fd(), -4, libc::SEEK_END);
/// // SAFETY: the file stays open, and there is no memory.
/// ring.submit(unsafe { Raw::new(seek, file) }, 0).unwrap();
/// let (position, _file) = ring.next_or_wait()?.expect("one is in flight").output::<Raw<File>>();
/// assert!(position? > 4);
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
#[must_use = "an operation does nothing until it is submitted"]
pub struct Raw<T> {
    call: Call,
    keep: T,
}

impl<T: Send + 'static> Raw<T> {
    /// Makes this call and keeps a value until the call has finished, or forever if its result is
    /// never taken.
    ///
    /// # Safety
    ///
    /// The call must be valid in any thread of the process until its result is taken, or forever
    /// if it never is. The same holds for the memory that its arguments point to, which must not
    /// be used otherwise. Memory that belongs to `keep` is valid if it stays at the same address
    /// when `keep` moves, and is not that of a `Box` that moved since the pointer was made. The
    /// call must not be part of a chain.
    pub unsafe fn new(call: Call, keep: T) -> Self {
        Raw { call, keep }
    }
}

impl<T: Send + 'static> Sealed for Raw<T> {
    fn prepare(&mut self) -> Prepared {
        let (fd, readiness) = waits_for(&self.call);
        Prepared {
            fd,
            readiness,
            ..Prepared::new(self.call)
        }
    }
}

/// Returns the file or time that a plain call waits for, so that the call can be cancelled
/// meanwhile.
fn waits_for(call: &Call) -> (RawFd, Readiness) {
    let args = call.args();
    let flags = |nth: usize, needed| transfer::readiness(args[nth] as libc::c_int, needed);
    let readiness = match i64::from(call.nr()) {
        libc::SYS_read | libc::SYS_readv | libc::SYS_accept | libc::SYS_accept4 => {
            Readiness::Readable
        }
        libc::SYS_write | libc::SYS_writev => Readiness::Writable,
        libc::SYS_recvfrom => flags(3, Readiness::Readable),
        libc::SYS_recvmsg => flags(2, Readiness::Readable),
        libc::SYS_sendto => flags(3, Readiness::Writable),
        libc::SYS_sendmsg => flags(2, Readiness::Writable),
        _ => return (-1, Readiness::Always),
    };
    (args[0] as RawFd, readiness)
}

impl<T: Send + 'static> Operation for Raw<T> {
    type Output = (io::Result<i64>, T);

    fn output(self, end: End) -> Self::Output {
        (end.result(), self.keep)
    }
}

/// A [`Chain`] of any system calls, with a value that lives as long as the chain. Gives
/// back the result of each call and whether it was made, and the value. A call that was not
/// made has ECANCELED.
///
/// ```
/// use flexsc::ops::RawChain;
/// use flexsc::{Chain, Ring, calls};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let mut ring = Ring::open(1)?;
/// let chain = Chain::new()
///     .then(calls::openat(libc::AT_FDCWD, c"/".as_ptr(), libc::O_PATH, 0))
///     .then(calls::close(-1).take(0, 1));
/// // SAFETY: the path is static.
/// ring.submit(unsafe { RawChain::new(chain, ()) }?, 0).unwrap();
/// let done = ring.next_or_wait()?.expect("one is in flight");
/// let (results, ()) = done.output::<RawChain<()>>();
/// assert!(results.iter().all(|(result, made)| *made && result.is_ok()));
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
#[must_use = "an operation does nothing until it is submitted"]
pub struct RawChain<T> {
    chain: Chain,
    keep: T,
}

impl<T: Send + 'static> RawChain<T> {
    /// Makes these calls and keeps a value, as [`Raw::new`] does.
    ///
    /// # Errors
    ///
    /// [`Error::BadChain`].
    ///
    /// # Safety
    ///
    /// As for [`Raw::new`], for each call.
    pub unsafe fn new(chain: Chain, keep: T) -> Result<Self, Error> {
        chain.check()?;
        Ok(RawChain { chain, keep })
    }
}

impl<T: Send + 'static> Sealed for RawChain<T> {
    fn prepare(&mut self) -> Prepared {
        Prepared::chain(self.chain.clone())
    }

    fn size(&self) -> usize {
        self.chain.len()
    }
}

impl<T: Send + 'static> Operation for RawChain<T> {
    type Output = (Vec<(io::Result<i64>, bool)>, T);

    fn output(self, end: End) -> Self::Output {
        let ends = (0..self.chain.len()).map(|nth| end.nth(nth));
        let results = ends.map(|end| (end.result(), end.made())).collect();
        (results, self.keep)
    }
}
