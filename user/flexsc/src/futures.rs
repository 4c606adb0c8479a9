// SPDX-License-Identifier: MIT OR Apache-2.0
//! Operations as futures.
//!
//! A [`Reactor`] is a [`Ring`](crate::Ring) whose operations are futures. It has no threads
//! and no executor of its own: any executor can poll the futures, as long as something
//! turns the reactor. There are two ways.
//!
//! * [`Executor`] is a small executor for one thread. It runs the tasks that are ready, and
//!   then executes everything that they have submitted with one wait, so a busy program
//!   makes large batches by itself.
//! * Under another executor (tokio, smol, …) one task polls [`Reactor::poll_turn`] and waits
//!   for the reactor's descriptor. The examples `tokio` and `smol` show how.
//!
//! The features `futures-io` and `tokio` add a `Stream`, for code that reads and writes
//! through the traits of these crates.
//!
//! Without an engine the same futures make plain calls, as a ring does.
//!
//! ```
//! use flexsc::Fd;
//! use flexsc::futures::Executor;
//! use flexsc::ops::{OFlag, OpenAt, Read};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let executor = Executor::open(1)?;
//! let reactor = executor.reactor().clone();
//! let text = executor.block_on(async move {
//!     let flags = OFlag::O_RDONLY | OFlag::O_CLOEXEC;
//!     let (file, _path) = reactor.submit(OpenAt::new(Fd::cwd(), c"/proc/self/comm", flags)).await;
//!     let (count, buf) = reactor.submit(Read::new(file?, Vec::with_capacity(64))).await;
//!     count.map(|_| buf)
//! })??;
//! println!("{}", String::from_utf8_lossy(&text));
//! # Ok(())
//! # }
//! ```
//!
//! # Dropping a future
//!
//! A future that was never polled has submitted nothing. Dropping one whose operation is in
//! flight cancels the operation and leaves buffer, path and descriptors to the ring, which
//! frees them when the kernel has finished. A descriptor that the operation opens too late is
//! closed, and bytes that it reads too late are lost.
//!
//! In a forked child an operation ends with ECANCELED, as a ring has no room there.

mod executor;
mod reactor;
mod remote;
#[cfg(any(feature = "futures-io", feature = "tokio"))]
mod stream;
mod submitted;
mod task;

pub use executor::Executor;
pub use reactor::Reactor;
#[cfg(any(feature = "futures-io", feature = "tokio"))]
pub use stream::Stream;
pub use submitted::Submitted;
pub use task::Task;
