// SPDX-License-Identifier: MIT OR Apache-2.0
//! Tests the documents: their Rust code is compiled as the documentation tests of this crate,
//! `code.rs` compiles their C code, and `names.rs` checks the names in them. `shape.rs` measures
//! the module's sources.

/// The code of README.md.
#[cfg(doctest)]
#[doc = include_str!("../../../README.md")]
pub struct Readme;

/// The code of docs/tutorial.md.
#[cfg(doctest)]
#[doc = include_str!("../../../docs/tutorial.md")]
pub struct Tutorial;

/// The code of docs/coming-from.md.
#[cfg(doctest)]
#[doc = include_str!("../../../docs/coming-from.md")]
pub struct ComingFrom;
