// SPDX-License-Identifier: MIT OR Apache-2.0
//! Open, use and close a file: one operation, which is a chain of calls.

use std::ffi::CString;
use std::io;

use super::private::{Calls, End, Prepared, Sealed};
use super::{
    Fallocate, Fstat, Fsync, Ftruncate, Getdents64, IoBuf, IoBufMut, OpenAt, Operation, Read,
    ReadVectored, Statx, Write, WriteVectored,
};
use crate::chain::Chain;
use crate::{Call, Fd, calls};

/// Opens a file, executes other operations on it in their order, and closes it. The
/// program never sees the descriptor. [`OpenAt::then`] makes this operation.
///
/// This operation is a [`Chain`] of calls, which the kernel executes one after the other
/// without returning to the program. An operation starts when the one before it has
/// succeeded; otherwise it fails with ECANCELED. The file is closed in any case, if it
/// was opened.
///
/// Gives back whether the file was opened and closed without error, the path, and the
/// outputs of the other operations.
///
/// ```
/// use flexsc::ops::{Fstat, OFlag, OpenAt, Read, WithFile};
/// use flexsc::{Fd, Ring};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let mut ring = Ring::open(1)?;
/// let read = OpenAt::new(Fd::cwd(), c"/proc/self/comm", OFlag::O_RDONLY | OFlag::O_CLOEXEC)
///     .then((Fstat::new(Fd::opened()), Read::new(Fd::opened(), Vec::with_capacity(64))));
/// ring.submit(read, 0).unwrap();
/// let done = ring.next_or_wait()?.expect("one is in flight");
/// let (file, path, (stat, (count, text))) = done.output::<WithFile<(Fstat, Read)>>();
/// file?;
/// println!("{path:?}: inode {}, {} bytes: {text:?}", stat?.st_ino, count?);
/// # Ok(())
/// # }
/// ```
///
/// It takes as much room in a [`Ring`](crate::Ring) as it has calls, all in one page: if no
/// page has so many adjacent free entries, the ring makes plain calls.
#[derive(Debug)]
#[must_use = "an operation does nothing until it is submitted"]
pub struct WithFile<O> {
    open: OpenAt,
    then: O,
}

impl OpenAt {
    /// Executes this operation, or a tuple of two to four operations, on the file, and
    /// closes it. The operations name the file by [`Fd::opened`].
    pub fn then<O: OnFile>(self, then: O) -> WithFile<O> {
        WithFile { open: self, then }
    }
}

/// An operation that [`OpenAt::then`] can execute, or a tuple of them.
pub trait OnFile: part::Part {}

impl<P: part::Part> OnFile for P {}

/// Operations whose first argument is their file.
trait FirstArgument: Operation {}

impl<B: IoBufMut> FirstArgument for Read<B> {}
impl<B: IoBuf> FirstArgument for Write<B> {}
impl<B: IoBufMut> FirstArgument for ReadVectored<B> {}
impl<B: IoBuf> FirstArgument for WriteVectored<B> {}
impl<B: IoBufMut> FirstArgument for Getdents64<B> {}
impl FirstArgument for Fsync {}
impl FirstArgument for Ftruncate {}
impl FirstArgument for Fallocate {}
impl FirstArgument for Fstat {}
impl FirstArgument for Statx {}

mod part {
    use super::{Call, End};

    /// The calls after the open.
    pub trait Part: Send + 'static {
        /// The outputs.
        type Outputs;

        /// The number of calls.
        const SIZE: usize;

        /// Appends the calls. `back` is the distance from the open to the first of them.
        fn calls(&mut self, back: u8, calls: &mut Vec<Call>);
        /// Adapts to the results, which are those of the chain from `nth` on.
        fn settle(&mut self, chain: &End, nth: usize);
        fn outputs(self, chain: &End, nth: usize) -> Self::Outputs;
    }
}

use part::Part;

impl<O: FirstArgument> Part for O {
    type Outputs = O::Output;

    const SIZE: usize = 1;

    fn calls(&mut self, back: u8, calls: &mut Vec<Call>) {
        let Calls::One(call) = self.prepare().calls else {
            unreachable!("the operations on a file make one call each");
        };
        let is_opened = call.args()[0] as i64 == i64::from(Fd::OPENED);
        calls.push(if is_opened { call.take(0, back) } else { call });
    }

    fn settle(&mut self, chain: &End, nth: usize) {
        Sealed::settle(self, &chain.nth(nth));
    }

    fn outputs(self, chain: &End, nth: usize) -> O::Output {
        self.output(chain.nth(nth))
    }
}

macro_rules! tuples {
    ($(($($type:ident $at:tt),*))*) => {
        $(impl<$($type: FirstArgument),*> Part for ($($type,)*) {
            type Outputs = ($($type::Output,)*);

            const SIZE: usize = [$($at),*].len();

            fn calls(&mut self, back: u8, calls: &mut Vec<Call>) {
                $(self.$at.calls(back + $at, calls);)*
            }

            fn settle(&mut self, chain: &End, nth: usize) {
                $(Part::settle(&mut self.$at, chain, nth + $at);)*
            }

            fn outputs(self, chain: &End, nth: usize) -> Self::Outputs {
                ($(self.$at.outputs(chain, nth + $at),)*)
            }
        })*
    };
}

tuples! {
    (A 0, B 1)
    (A 0, B 1, C 2)
    (A 0, B 1, C 2, D 3)
}

impl<O: OnFile> Sealed for WithFile<O> {
    fn prepare(&mut self) -> Prepared {
        let mut calls = Vec::new();
        if let Calls::One(open) = self.open.prepare().calls {
            calls.push(open);
        }
        self.then.calls(1, &mut calls);
        let close = calls::close(Fd::OPENED).take(0, calls.len() as u8);
        let chain = calls.into_iter().fold(Chain::new(), Chain::then);
        Prepared::chain(chain.then_always(close)).opens()
    }

    fn settle(&mut self, end: &End) {
        self.then.settle(end, 1);
    }

    fn size(&self) -> usize {
        O::SIZE + 2
    }
}

impl<O: OnFile> Operation for WithFile<O> {
    type Output = (io::Result<()>, CString, O::Outputs);

    fn output(self, end: End) -> Self::Output {
        let outputs = self.then.outputs(&end, 1);
        let closed = end.nth(O::SIZE + 1);
        let opened = end.unit();
        let result = if closed.made() {
            opened.and(closed.unit())
        } else {
            opened
        };
        (result, self.open.output(end).1, outputs)
    }
}
