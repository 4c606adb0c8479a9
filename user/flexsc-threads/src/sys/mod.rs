// SPDX-License-Identifier: MIT OR Apache-2.0
//! Everything unsafe: machine code, raw system calls, memory of the program.

pub(crate) mod area;
pub(crate) mod arena;
pub(crate) mod copy;
pub(crate) mod engine;
pub(crate) mod entry;
pub(crate) mod helpers;
pub(crate) mod image;
pub(crate) mod inside;
pub(crate) mod kernel;
pub(crate) mod lock;
#[cfg(panic = "abort")]
mod memory;
pub(crate) mod once;
pub(crate) mod raw;
pub(crate) mod signal;
pub(crate) mod start;
pub(crate) mod switch;
pub(crate) mod text;
pub(crate) mod vdso;
pub(crate) mod vector;
