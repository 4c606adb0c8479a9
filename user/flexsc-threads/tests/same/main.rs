// SPDX-License-Identifier: MIT OR Apache-2.0
//! Runs programs natively and under the library, and compares their output; looks for calls that
//! the library has not caught; counts its cost.

mod cost;
mod kit;
mod programs;
mod sites;
mod user;
