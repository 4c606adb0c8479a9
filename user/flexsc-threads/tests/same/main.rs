// SPDX-License-Identifier: MIT OR Apache-2.0
//! Runs programs natively and under the library, and compares what they print; looks for calls that
//! the library has not caught; counts what it costs.

mod cost;
mod kit;
mod programs;
mod sites;
