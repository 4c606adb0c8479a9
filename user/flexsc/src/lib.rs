// SPDX-License-Identifier: MIT OR Apache-2.0
//! Exception-less system calls. A program writes calls into memory that it shares with the
//! kernel, and reads the results from there.
//!
//! The thin layer is close to the device:
//!
//! * [`Engine`] is the open device, one for a process;
//! * [`Pages`] are the syscall pages of one thread: [`post`](Pages::post) calls,
//!   [`poll`](Pages::poll) for results without a trap, and [`wait`](Pages::wait) when there
//!   is nothing left to do;
//! * [`Call`] and [`calls`] build calls to post, a [`Chain`] links calls that need each
//!   other's results, and [`Wait`] says how to wait.
//!
//! ```no_run
#![doc = include_str!("../examples/hello.rs")]
//! ```
//!
//! [`Ring`] is the safe layer on top. It executes typed operations ([`ops`]), which own their
//! buffers, paths and descriptors until they have finished, and makes plain calls if there
//! is no engine. [`futures`] turns the operations into futures, for any executor, and has a
//! small executor of its own.
//!
//! Tracing and debugging: posted calls make no trap, so strace and gdb would not see them.
//! While a thread is traced, the kernel refuses the calls that it posts, so that no call
//! escapes the tracer. Both layers then make the plain call, which the tracer sees, and count
//! it ([`Pages::fallbacks`], [`Ring::plain_calls`]). The same holds under a seccomp filter.
//! [`Pages::set_fallback`] turns this off and shows the raw refusal.
//!
//! The thin layer does not schedule, start threads or print, and does not allocate when it
//! posts or polls. Posting is `unsafe` because the kernel follows the call's pointers
//! later.
//!
//! The feature `abi` adds the C header as Rust.

#![deny(unsafe_code)]

pub mod calls;
pub mod futures;
pub mod ops;

mod builder;
mod call;
mod cancel;
mod chain;
mod cpus;
mod doorbell;
mod engine;
mod error;
mod fallback;
mod fd;
mod memory;
mod page_queue;
mod pages;
mod ring;
mod stats;
mod sys;
mod wait;

pub use builder::EngineBuilder;
pub use call::{Call, Completion, Reason, Slot, UnknownReason};
pub use cancel::Canceller;
pub use chain::{Chain, Slots};
pub use cpus::CpuSet;
pub use engine::{DEVICE, Engine, Order, Param, PoolParam};
pub use error::Error;
pub use fd::Fd;
#[cfg(feature = "abi")]
pub use pages::RawPages;
pub use pages::{Drain, Pages};
pub use ring::{Done, Ring};
pub use stats::{PoolStats, Stats};
#[cfg(feature = "abi")]
pub use sys::abi;
pub use wait::Wait;
