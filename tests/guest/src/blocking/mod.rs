// SPDX-License-Identifier: MIT OR Apache-2.0
//! Calls that block: hand-off, wait policies, signals during WAIT.

pub mod adaptive;
pub mod clock;
pub mod fifos;
pub mod handoff;
pub mod interrupted;
pub mod mounts;
pub mod policies;
pub mod returned;
pub mod rt_mutex;
pub mod silent;
pub mod silent_files;
pub mod slow;
pub mod threads;
pub mod wait_call;
pub mod waiting;
pub mod waking;
