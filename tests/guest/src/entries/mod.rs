// SPDX-License-Identifier: MIT OR Apache-2.0
//! Entries and doorbells, refused and impossible calls.

pub mod refused;
pub mod states;
