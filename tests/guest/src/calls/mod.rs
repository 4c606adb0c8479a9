// SPDX-License-Identifier: MIT OR Apache-2.0
//! Real system calls through pages: the same results and effects as plain ones.

pub mod events;
pub mod files;
pub mod hammer;
pub mod identity;
pub mod results;
pub mod signals;
