// SPDX-License-Identifier: MIT OR Apache-2.0
//! Pools of syscall threads.

pub mod limit;
pub mod many;
pub mod settings;
pub mod watch;
pub mod work;
