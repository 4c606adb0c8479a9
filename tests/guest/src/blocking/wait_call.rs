// SPDX-License-Identifier: MIT OR Apache-2.0
//! flexsc_wait(2): WAIT_FAST as a system call of its own.

use nix::errno::Errno;

use crate::check::Check;
use crate::kit::abi::{NR_WAIT, Policy, REASON_THREAD};
use crate::kit::child::in_child;
use crate::kit::engine::Engine;
use crate::kit::files::{BlockedReads, memory_file, pipe};
use crate::kit::ring::Call;
use crate::kit::{rounds, sys};

tests! { "wait":
    call_executes => "flexsc_wait() executes a batch and returns the number of results";
    call_policies => "flexsc_wait() follows the policies of WAIT_FAST";
    call_errors => "flexsc_wait() on other files is ENOTTY or EBADF, with bad arguments EINVAL";
    call_by_others => "flexsc_wait() of a child or another thread is EPERM";
    call_posted => "a posted flexsc_wait() is refused";
}

fn call_executes() -> Check {
    let engine = Engine::open()?;
    let mut ring = engine.ring(2)?;
    for count in [1, 2, 64, 128] {
        for _ in 0..rounds(5) {
            let slots = ring.post_all(&vec![call!(SYS_getpid); count]);
            check_eq!(
                "flexsc_wait",
                ring.wait_call(Policy::All, 0),
                Ok(count as u64)
            );
            for slot in slots {
                check_ret!("getpid", ring.reap(slot).result, std::process::id());
            }
        }
    }
    check_eq!("waits", engine.stats()?.waits, u64::from(rounds(5)) * 4);
    Ok(())
}

fn call_policies() -> Check {
    let engine = Engine::open()?;
    let mut ring = engine.ring(1)?;
    check_eq!(
        "ALL with nothing posted",
        ring.wait_call(Policy::All, 0),
        Ok(0)
    );
    check_eq!(
        "ANY with nothing posted",
        ring.wait_call(Policy::Any, 0),
        Err(Errno::EDEADLK)
    );
    let (from, to) = pipe()?;
    let reads = BlockedReads::new(&from, 3);
    let slots = ring.post_all(&reads.calls());
    check_eq!("NONE", ring.wait_call(Policy::None, 0), Ok(0));
    check_eq!(
        "SOME(4)",
        ring.wait_call(Policy::Some, 4),
        Err(Errno::EDEADLK)
    );
    reads.release(&to)?;
    check_eq!("SOME(3)", ring.wait_call(Policy::Some, 3), Ok(3));
    for done in ring.finish(&slots)? {
        check_ret!("read", done.result, 2);
    }
    reads.check()
}

fn call_errors() -> Check {
    let engine = Engine::open()?;
    let ring = engine.ring(1)?;
    let file = memory_file()?;
    let fd = std::os::fd::AsRawFd::as_raw_fd(&file);
    check_eq!("on a file", sys::flexsc_wait(fd, 0), Err(Errno::ENOTTY));
    check_eq!("on nothing", sys::flexsc_wait(-1, 0), Err(Errno::EBADF));
    check_eq!(
        "on a far number",
        sys::flexsc_wait(1 << 30, 0),
        Err(Errno::EBADF)
    );
    let fd = engine.fd();
    for arg in [5 << 32, 15 << 32, 255 << 32] {
        check_eq!(
            format!("argument {arg:#x}"),
            sys::flexsc_wait(fd, arg),
            Err(Errno::EINVAL)
        );
    }
    for id in [u64::from(ring.id) + 1, 511, 0xffff, 1 << 20, 1 << 31] {
        check_eq!(
            format!("id {id}"),
            sys::flexsc_wait(fd, id),
            Err(Errno::ENOENT)
        );
    }
    Ok(())
}

fn call_by_others() -> Check {
    let engine = Engine::open()?;
    let ring = engine.ring(1)?;
    let (fd, arg) = (engine.fd(), u64::from(ring.id));
    in_child(|| {
        check_eq!("in a child", sys::flexsc_wait(fd, arg), Err(Errno::EPERM));
        Ok(())
    })?;
    let other = std::thread::spawn(move || sys::flexsc_wait(fd, arg));
    match other.join() {
        Ok(ret) => check_eq!("by another thread", ret, Err(Errno::EPERM)),
        Err(_) => fail!("the thread panicked"),
    }
    Ok(())
}

fn call_posted() -> Check {
    let engine = Engine::open()?;
    let mut ring = engine.ring(1)?;
    let arg = u64::from(ring.id);
    let done = ring.run(Call::new(
        NR_WAIT as u16,
        [engine.fd() as u64, arg, 0, 0, 0, 0],
    ))?;
    check_ret!("posted", done.result, -libc::EOPNOTSUPP);
    check_eq!("reason", done.reason, REASON_THREAD);
    Ok(())
}
