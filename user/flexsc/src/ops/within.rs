// SPDX-License-Identifier: MIT OR Apache-2.0
//! A time limit for one operation.

use std::time::Duration;

use super::Operation;
use super::private::{End, Prepared, Sealed};

/// Another operation with a time limit. [`Operation::within`] makes this operation.
///
/// If the operation has not ended when its time is over, the ring cancels it as
/// [`Ring::cancel`](crate::Ring::cancel) does: it ends with the number of bytes that it has
/// moved so far, or with ETIMEDOUT if there are none. So it may end later than its limit, and
/// a plain call can be ended only while it waits for its file. The time is counted from the
/// submission, and is over only when the program waits for results or asks for one.
///
/// Gives back the output of the other operation.
///
/// ```
/// use std::os::unix::net::UnixStream;
/// use std::time::Duration;
/// use flexsc::ops::{Operation, Recv, Within};
/// use flexsc::{Fd, Ring};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let (near, _far) = UnixStream::pair()?;
/// let mut ring = Ring::open(1)?;
/// let recv = Recv::new(Fd::from(near), Vec::with_capacity(16));
/// ring.submit(recv.within(Duration::from_millis(10)), 0).unwrap();
/// let done = ring.next_or_wait()?.expect("one is in flight");
/// let (count, _buf) = done.output::<Within<Recv>>();
/// assert_eq!(count.unwrap_err().kind(), std::io::ErrorKind::TimedOut);
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
#[must_use = "an operation does nothing until it is submitted"]
pub struct Within<O> {
    operation: O,
    time: Duration,
}

impl<O: Operation> Within<O> {
    pub(super) fn new(operation: O, time: Duration) -> Self {
        Within { operation, time }
    }
}

impl<O: Operation> Sealed for Within<O> {
    fn prepare(&mut self) -> Prepared {
        Prepared {
            time: Some(self.time),
            ..self.operation.prepare()
        }
    }

    fn settle(&mut self, end: &End) {
        self.operation.settle(end);
    }

    fn vec(&mut self) -> Option<&mut Vec<u8>> {
        self.operation.vec()
    }

    fn size(&self) -> usize {
        self.operation.size()
    }
}

impl<O: Operation> Operation for Within<O> {
    type Output = O::Output;

    fn output(self, end: End) -> Self::Output {
        self.operation.output(end)
    }
}
