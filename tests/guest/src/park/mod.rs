// SPDX-License-Identifier: MIT OR Apache-2.0
//! Calls that wait for their file without a thread.

pub mod away;
pub mod calls;
pub mod ends;
pub mod meanwhile;
pub mod nothing;
pub mod once;
pub mod one_of_many;
pub mod parts;
pub mod polls;
pub mod races;
pub mod room;
pub mod sends;
pub mod sleeps;
pub mod times;

use std::cell::Cell;
use std::os::fd::OwnedFd;

use crate::check::Check;
use crate::kit::abi::Policy;
use crate::kit::engine::{Engine, Stats};
use crate::kit::ring::{Call, Done, Ring};

/// Room for the data that some calls receive, a word for each.
struct Words(Vec<Cell<u64>>);

impl Words {
    fn new(count: usize) -> Words {
        Words(vec![Cell::new(0); count])
    }

    fn at(&self, index: usize) -> *mut u64 {
        self.0[index].as_ptr()
    }

    fn bytes(&self, index: usize) -> [u8; 8] {
        self.0[index].get().to_ne_bytes()
    }

    /// A recvfrom of up to eight bytes.
    fn receive(&self, index: usize, from: &OwnedFd) -> Call {
        call!(SYS_recvfrom, from, self.at(index), 8, 0, 0, 0)
    }

    /// A read of up to `len` bytes, at most eight.
    fn read(&self, index: usize, from: &OwnedFd, len: usize) -> Call {
        call!(SYS_read, from, self.at(index), len)
    }
}

impl Drop for Words {
    fn drop(&mut self) {
        // If the test has failed and tries again, a call may still be in flight.
        std::mem::forget(std::mem::take(&mut self.0));
    }
}

/// Sends one message, or writes its bytes.
fn send(to: &OwnedFd, bytes: &[u8]) -> Check {
    let sent = plain!(SYS_write, to, bytes.as_ptr(), bytes.len());
    check_ret!("write", sent, bytes.len() as i64);
    Ok(())
}

/// Posts calls, and lets the owner execute them without waiting.
fn post_and_look(ring: &mut Ring, calls: &[Call]) -> Check<Vec<usize>> {
    let slots = ring.post_all(calls);
    ok!("WAIT for nothing", ring.wait(Policy::None));
    Ok(slots)
}

/// Posts calls that are not ready, and checks that all are parked.
fn park(engine: &Engine, ring: &mut Ring, calls: &[Call]) -> Check<Vec<usize>> {
    let before = engine.stats()?;
    let slots = post_and_look(ring, calls)?;
    let after = engine.stats()?;
    let (parked, woken) = (after.parked - before.parked, after.woken - before.woken);
    let wanted = calls.len() as u64;
    // A short time may be over before the call is parked.
    let late = after.timed_out - before.timed_out;
    // A call that was woken is parked again: TCP delivers a part of what is sent, soon or late.
    check!(
        (wanted.saturating_sub(late)..=wanted + woken).contains(&parked),
        "{parked} times parked, {woken} times woken, {late} times over, {wanted} calls"
    );
    check_eq!("handoffs", after.handoffs, before.handoffs);
    check_eq!("blocked calls", engine.pool(0)?.blocked, 0);
    let done = |&&slot: &&usize| ring.is_done(slot);
    if let Some(&slot) = slots.iter().find(done) {
        let done = slots.iter().filter(done).count() as u64;
        // A short time may be over by now.
        let late = engine.stats()?.timed_out - before.timed_out;
        check!(done <= late, "{late} times over; {}", ring.show(slot));
    }
    Ok(slots)
}

/// Lets the owner wait for all results, and calls `event` once the owner sleeps.
fn finish_asleep(
    engine: &Engine,
    ring: &mut Ring,
    slots: &[usize],
    event: impl FnOnce() -> Check + Send,
) -> Check<Vec<Done>> {
    let before = engine.stats()?;
    std::thread::scope(|scope| {
        let other = scope.spawn(|| {
            engine.until_stats("the owner sleeps", |s| s.sleeps > before.sleeps)?;
            event()
        });
        let done = ring.finish(slots);
        other.join().expect("no panic")?;
        done
    })
}

/// Checks that threads have finished no call since `before`. Others may have held the lock of a pipe
/// or a socket, so that a task slept for a moment.
fn check_by_owner(engine: &Engine, before: &Stats) -> Check {
    check_eq!(
        "by threads",
        engine.stats()?.thread_done,
        before.thread_done
    );
    Ok(())
}

/// Checks that no thread has executed anything since `before`.
fn check_no_thread(engine: &Engine, before: &Stats) -> Check {
    let after = engine.stats()?;
    check_eq!("by threads", after.thread_done, before.thread_done);
    check_eq!("threads", after.threads, before.threads);
    check_eq!("most blocked", after.peak_blocked, before.peak_blocked);
    Ok(())
}
