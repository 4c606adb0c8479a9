// SPDX-License-Identifier: MIT OR Apache-2.0
//! Parked calls that a thread parks again, whatever the owner does meanwhile.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use nix::errno::Errno;

use super::{Words, park, send};
use crate::check::Check;
use crate::kit::abi::{Param, Policy, REASON_NONE};
use crate::kit::files::socket_pair;
use crate::kit::limits::{need_root, need_two_cpus};
use crate::kit::mode::Mode;
use crate::kit::net;
use crate::kit::ring::check_done;
use crate::kit::{sys, until};

tests! { "park":
    parked_by_a_late_thread => "a call that a thread parks again, after the owner has left a WAIT, is ended without WAIT";
    time_of_centuries => "SO_RCVTIMEO of centuries is not over at once";
}

/// Sets SO_RCVTIMEO in seconds.
fn limit(socket: &std::os::fd::OwnedFd, seconds: i64) -> Check {
    let time = [seconds, 0];
    let set = net::set(socket, libc::SOL_SOCKET, libc::SO_RCVTIMEO, &time);
    check_ret!("SO_RCVTIMEO", set, 0);
    Ok(())
}

/// Keeps CPU 1 from all tasks that are not real-time, until it is dropped.
struct Hog<'a> {
    stop: &'a AtomicBool,
}

impl Drop for Hog<'_> {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
    }
}

fn hog(stop: &AtomicBool, begun: &AtomicBool) {
    let priority = 1i32;
    let at = std::ptr::from_ref(&priority);
    let set = plain!(SYS_sched_setscheduler, 0, libc::SCHED_FIFO, at);
    if set != 0 || sys::pin(1).is_err() {
        return;
    }
    begun.store(true, Ordering::Release);
    while !stop.load(Ordering::Acquire) {
        std::hint::spin_loop();
    }
}

/// A thread takes a parked call, and gets no CPU until the owner has been in WAIT once more. There
/// it parks a call that ends. Then the thread parks the first call again.
fn late_thread() -> Check<bool> {
    let (engine, mut ring) = Mode::Inline.start(1)?;
    engine.set(Param::PoolCpus, 1 << 1)?;
    ok!("sched_setaffinity", sys::pin(0));
    check_ret!(
        "getppid",
        ring.result(call!(SYS_getppid).asynchronous())?,
        plain!(SYS_getppid)
    );
    let (from, to) = socket_pair()?;
    // With a time, a thread tries the call and parks it again.
    limit(&from, 1000)?;
    let words = Words::new(1);
    let slots = park(&engine, &mut ring, &[words.receive(0, &from)])?;
    let (stop, begun) = (AtomicBool::new(false), AtomicBool::new(false));
    let was_late = std::thread::scope(|scope| -> Check<Option<bool>> {
        let hog_end = Hog { stop: &stop };
        scope.spawn(|| hog(&stop, &begun));
        until("the hog", || begun.load(Ordering::Acquire))?;
        send(&to, b"a")?;
        let mut byte = 0u8;
        let (at, flags) = (std::ptr::from_mut(&mut byte), libc::MSG_DONTWAIT);
        let read = plain!(SYS_recvfrom, &from, at, 1, flags, 0, 0);
        if read == -i64::from(libc::EAGAIN) {
            // In the end the kernel lets other tasks run beside a real-time task, too.
            return Ok(None);
        }
        check_ret!("read", read, 1);
        until("the call is left to a thread", || {
            let queued = engine.pool(0).map_or(0, |pool| pool.queued);
            queued == 1 || engine.stats().is_ok_and(|s| s.woken_in_vain >= 1)
        })?;
        let nap = [0i64, 1_000_000];
        let parked = engine.stats()?.parked;
        let sleep = ring.post(call!(SYS_nanosleep, nap.as_ptr(), 0));
        ok!("ANY", ring.wait(Policy::Any));
        check_done("nanosleep", ring.reap(sleep), 0, REASON_NONE)?;
        let was_late = engine.stats()?.parked == parked + 1 && engine.pool(0)?.queued == 1;
        drop(hog_end);
        Ok(Some(was_late))
    })?;
    let Some(was_late) = was_late else {
        ring.poll_until_done(&slots)?;
        check_done("receive", ring.reap(slots[0]), 1, REASON_NONE)?;
        return Ok(false);
    };
    engine.until_stats("the call is parked again", |stats| stats.woken_in_vain >= 1)?;
    send(&to, b"b")?;
    // Not by WAIT.
    ring.poll_until_done(&slots)?;
    check_done("receive", ring.reap(slots[0]), 1, REASON_NONE)?;
    check_eq!("received", words.bytes(0)[0], b'b');
    Ok(was_late)
}

fn parked_by_a_late_thread() -> Check {
    need_root()?;
    need_two_cpus()?;
    // The thread may get its CPU sooner than that.
    for _ in 0..20 {
        if late_thread()? {
            return Ok(());
        }
    }
    fail!("the thread was never late");
}

fn time_of_centuries() -> Check {
    let (engine, mut ring) = Mode::Inline.start(1)?;
    let (from, to) = socket_pair()?;
    // In nanoseconds this is a little more than 64 bits hold.
    limit(&from, 18_446_744_074)?;
    let words = Words::new(1);
    let slots = park(&engine, &mut ring, &[words.receive(0, &from)])?;
    let waited = ring.wait_for(Policy::Any, 0, Duration::from_millis(600));
    check_eq!(ring.show(slots[0]), waited, Err(Errno::ETIME));
    send(&to, b"a")?;
    check_done("receive", ring.finish(&slots)?[0], 1, REASON_NONE)
}
