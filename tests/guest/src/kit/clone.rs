// SPDX-License-Identifier: MIT OR Apache-2.0
//! Tasks that share memory but not everything else: vfork children, and threads with tables of
//! their own.
#![expect(unsafe_code, reason = "clone with shared memory is unsafe")]

use super::child::{End, reap};
use super::{memory, sys, until};
use crate::check::{Check, Ret};

const STACK: usize = 256 * 1024;

struct Work<'a> {
    run: &'a mut dyn FnMut(),
}

extern "C" fn start(work: *mut libc::c_void) -> libc::c_int {
    // SAFETY: `clone_and_wait` passes a `Work` that lives until the task ends.
    let work = unsafe { &mut *work.cast::<Work>() };
    (work.run)();
    0
}

/// Runs work in a new task that shares all memory, while this thread sleeps in the kernel. Returns
/// the result of clone(2).
fn clone_and_wait(flags: i32, run: &mut dyn FnMut()) -> Check<i32> {
    let base = memory::pages(STACK)?;
    let top = base.wrapping_add(STACK);
    let mut arg = Work { run };
    let arg = std::ptr::from_mut(&mut arg).cast();
    let flags = flags | libc::CLONE_VM | libc::CLONE_VFORK;
    // SAFETY: the stack is fresh memory, and CLONE_VFORK keeps this thread
    // asleep, so that no other code uses `arg` or this thread's data meanwhile.
    let tid = unsafe { libc::clone(start, top.cast(), flags, arg) };
    // Once the task has given up its memory map, it no longer uses the stack.
    let _ = sys::munmap(base, STACK);
    check!(tid > 0, "clone: {:?}", nix::errno::Errno::last());
    Ok(tid)
}

/// Runs work in a process that shares all memory, while this thread waits.
pub fn in_vm_child<T>(work: impl FnOnce() -> T) -> Check<T> {
    let mut work = Some(work);
    let mut result = None;
    let pid = clone_and_wait(libc::SIGCHLD, &mut || {
        result = work.take().map(|work| work());
    })?;
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

/// Runs work in another thread of this process, while this one waits. Of the tables of CLONE_FILES,
/// CLONE_FS and CLONE_SYSVSEM the new thread shares only those that `shared` names, and has copies
/// of the others.
pub fn in_apart_thread(shared: i32, mut work: impl FnMut()) -> Check {
    let flags = libc::CLONE_SIGHAND | libc::CLONE_THREAD | shared;
    clone_and_wait(flags, &mut work).map(drop)
}

/// fork(2) with a chosen ID in the caller's PID namespace, which takes privileges there. Call it
/// only while this process has one thread.
pub fn fork_as(pid: i32) -> Check<i32> {
    let pid = u64::from(pid.unsigned_abs());
    let at = std::ptr::from_ref(&pid) as u64;
    // struct clone_args: exit_signal, set_tid and set_tid_size.
    let args = [0, 0, 0, 0, libc::SIGCHLD as u64, 0, 0, 0, at, 1, 0];
    let ret = plain!(SYS_clone3, args.as_ptr(), size_of_val(&args));
    check!(ret >= 0, "clone3 as {pid}: {}", Ret(ret));
    Ok(ret as i32)
}
