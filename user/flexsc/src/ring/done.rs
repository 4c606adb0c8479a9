// SPDX-License-Identifier: MIT OR Apache-2.0
//! A finished operation.

use std::io;

use crate::Reason;
use crate::ops::Operation;
use crate::ops::private::End;
use crate::sys::kept::Kept;

/// A finished operation.
///
/// [`Done::output`] returns the typed result together with the values that the operation took.
/// `result` and `buf` are enough for operations that move bytes to or from a `Vec<u8>`.
#[derive(Debug)]
#[non_exhaustive]
pub struct Done {
    /// The token of the submission.
    pub token: u64,
    /// The return value of the call, such as the number of bytes that were read or written; 0
    /// if the call opened a descriptor.
    pub result: io::Result<usize>,
    /// Why the kernel refused the operation, if it did and the plain call was made instead;
    /// [`Reason::Cancelled`] if the operation was cancelled before it started.
    pub reason: Reason,
    /// The operation's buffer, if this is a `Vec<u8>`; otherwise empty.
    pub buf: Vec<u8>,
    pub(super) kept: Kept,
    pub(super) end: End,
}

impl Done {
    /// Returns true if it was an operation of this type.
    #[must_use]
    pub fn is<O: Operation>(&self) -> bool {
        self.kept.is::<O>()
    }

    /// Returns the result, and the values that the operation took.
    ///
    /// ```
    /// use flexsc::ops::{OFlag, OpenAt};
    /// use flexsc::{Fd, Ring};
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let mut ring = Ring::open(1)?;
    /// ring.submit(OpenAt::new(Fd::cwd(), c"/dev/null", OFlag::O_RDONLY), 0).unwrap();
    /// let done = ring.next_or_wait()?.expect("one is in flight");
    /// let (file, path) = done.output::<OpenAt>();
    /// println!("{path:?} is {:?}", file?);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Panics
    ///
    /// Panics if it was an operation of another type: see [`Done::is`].
    #[must_use = "a descriptor is closed if nobody takes it"]
    #[track_caller]
    pub fn output<O: Operation>(self) -> O::Output {
        let mut operation = self.kept.take::<O>();
        if let Some(vec) = operation.vec() {
            *vec = self.buf;
        }
        operation.output(self.end)
    }
}
