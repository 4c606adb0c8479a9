// SPDX-License-Identifier: MIT OR Apache-2.0
//! Exception-less system calls: a program writes calls into memory that it
//! shares with the kernel, and reads the results there.
//!
//! The thin layer, close to the device:
//!
//! * [`Engine`] is the open device, one for a process;
//! * [`Pages`] are syscall pages of one thread: [`post`](Pages::post) calls,
//!   [`poll`](Pages::poll) for results without a trap, [`wait`](Pages::wait)
//!   when there is nothing left to do;
//! * [`Call`] and [`calls`] build what is posted, [`Chain`] calls that need each
//!   other's results, [`Wait`] says how to wait.
//!
//! ```no_run
#![doc = include_str!("../examples/hello.rs")]
//! ```
//!
//! On top of it, [`Ring`] is the safe layer: it owns buffers until their
//! operation has finished, and makes plain calls where there is no engine.
//!
//! What it does not do: schedule, allocate while it posts or polls, start
//! threads, print. Posting is `unsafe` because the kernel follows the call's
//! pointers later.

#![deny(unsafe_code)]

pub mod calls;
pub mod doorbell;
pub mod ops;

mod board;
mod call;
mod cancel;
mod chain;
mod engine;
mod error;
mod fallback;
mod pages;
mod ring;
mod stats;
mod sys;
mod wait;

pub use call::{Call, Completion, Reason, Slot};
pub use cancel::Canceller;
pub use chain::{Chain, Slots};
pub use engine::{DEVICE, Engine, Order, Param, PoolParam};
pub use error::Error;
pub use pages::{Drain, Pages, RawPages};
pub use ring::{Done, Ring};
pub use stats::{PoolStats, Stats};
pub use sys::abi;
pub use wait::Wait;
