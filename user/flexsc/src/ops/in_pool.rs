// SPDX-License-Identifier: MIT OR Apache-2.0
//! An operation that the threads of a pool execute.

use super::Operation;
use super::private::{Calls, End, Prepared, Sealed};

/// Another operation, which the kernel's threads of a pool execute, never the thread that
/// waits. [`Operation::in_pool`] makes this operation.
///
/// The pool must exist ([`Engine::set_pool`](crate::Engine::set_pool)): without it the
/// operation fails with EINVAL. Plain calls are made as without a pool.
///
/// Gives back the output of the other operation.
///
/// ```
/// use flexsc::ops::{Fsync, InPool, Operation};
/// use flexsc::{Engine, Fd, PoolParam, Ring};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let file: Fd = std::fs::File::open("/")?.into();
/// let mut ring = match Engine::open() {
///     Ok(engine) => {
///         // One thread at a time, and a lower priority than the program's.
///         engine.set_pool(1, PoolParam::Concurrency, 1)?;
///         engine.set_pool(1, PoolParam::Nice, 10)?;
///         Ring::new(engine.register(1)?).map_err(|(_pages, error)| error)?
///     }
///     Err(_) => Ring::plain(1)?,
/// };
/// ring.submit(Fsync::new(&file).in_pool(1), 0).unwrap();
/// let done = ring.next_or_wait()?.expect("one is in flight");
/// done.output::<InPool<Fsync>>()?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
#[must_use = "an operation does nothing until it is submitted"]
pub struct InPool<O> {
    operation: O,
    pool: u8,
}

impl<O: Operation> InPool<O> {
    pub(super) fn new(operation: O, pool: u8) -> Self {
        InPool { operation, pool }
    }
}

impl<O: Operation> Sealed for InPool<O> {
    fn prepare(&mut self) -> Prepared {
        let prepared = self.operation.prepare();
        let calls = match prepared.calls {
            Calls::One(call) => Calls::One(call.pool(self.pool)),
            Calls::Chain(chain) => Calls::Chain(chain.in_pool(self.pool)),
        };
        Prepared { calls, ..prepared }
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

impl<O: Operation> Operation for InPool<O> {
    type Output = O::Output;

    fn output(self, end: End) -> Self::Output {
        self.operation.output(end)
    }
}
