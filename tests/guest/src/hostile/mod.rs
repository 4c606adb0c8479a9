// SPDX-License-Identifier: MIT OR Apache-2.0
//! Programs that break the rules: they may harm only themselves.

pub mod fuzz;
pub mod ioctls;
pub mod leaks;
pub mod scribble;
pub mod target;

use crate::check::Check;
use crate::kit::child::{End, spawn};
use crate::kit::mode::Mode;
use crate::kit::process;

/// Runs hostile work in a child that must end by itself and leave nothing behind.
pub fn harmless(work: impl FnOnce() -> Check) -> Check {
    let base = process::refcnt();
    let mut child = spawn(|_| work())?;
    check_eq!("end of the hostile program", child.end()?, End::Exit(0));
    process::until_refcnt(base)?;
    // Checks that the machine still works as before.
    let (_engine, mut ring) = Mode::Inline.start(1)?;
    check_ret!(
        "getpid",
        ring.result(call!(SYS_getpid))?,
        std::process::id()
    );
    Ok(())
}
