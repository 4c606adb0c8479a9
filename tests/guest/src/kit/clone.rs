// SPDX-License-Identifier: MIT OR Apache-2.0
//! A child process that shares the address space, as after vfork.
#![expect(unsafe_code, reason = "clone with shared memory is unsafe")]

use super::child::{End, reap};
use super::{memory, until};
use crate::check::Check;

struct Work<'a> {
    run: &'a mut dyn FnMut(),
}

extern "C" fn start(work: *mut libc::c_void) -> libc::c_int {
    // SAFETY: `in_vm_child` passes a `Work` that lives until the child ends.
    let work = unsafe { &mut *work.cast::<Work>() };
    (work.run)();
    0
}

/// Runs work in a process that shares all memory, while this thread waits.
pub fn in_vm_child<T>(work: impl FnOnce() -> T) -> Check<T> {
    let mut work = Some(work);
    let mut result = None;
    let mut run = || result = work.take().map(|work| work());
    let mut arg = Work { run: &mut run };
    const STACK: usize = 256 * 1024;
    let top = memory::pages(STACK)?.wrapping_add(STACK);
    let flags = libc::CLONE_VM | libc::CLONE_VFORK | libc::SIGCHLD;
    let arg = std::ptr::from_mut(&mut arg).cast();
    // SAFETY: the stack is fresh memory, and CLONE_VFORK keeps this thread
    // asleep, so that nobody else uses `arg` or this thread's data meanwhile.
    let pid = unsafe { libc::clone(start, top.cast(), flags, arg) };
    check!(pid > 0, "clone: {:?}", nix::errno::Errno::last());
    let mut end = None;
    until("the end of a vfork child", || {
        end = reap(pid, libc::__WALL);
        end.is_some()
    })?;
    check_eq!("end of the vfork child", end, Some(End::Exit(0)));
    match result {
        Some(result) => Ok(result),
        None => fail!("the vfork child did nothing"),
    }
}
