// SPDX-License-Identifier: MIT OR Apache-2.0
//! libflexsc: the crate for C, in the manner of liburing. The header is generated from this
//! source; the man pages are `docs/man/flexsc.7` and the pages that it names.
//!
//! A queue is a [`Ring`](flexsc::Ring) of one thread. The program gets calls from it, prepares
//! them, submits them, and takes their results. Without an engine the ring makes plain calls.

#![allow(
    non_camel_case_types,
    clippy::missing_safety_doc,
    reason = "C names, and the man pages document the requirements"
)]

pub mod call;
pub mod pool;
pub mod prep;
pub mod queue;
