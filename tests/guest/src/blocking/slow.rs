// SPDX-License-Identifier: MIT OR Apache-2.0
//! Calls with a path that keep their owner waiting for a long time: later ones do not hold up WAIT.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::check::Check;
use crate::kit::abi::{Param, Policy, REASON_NONE};
use crate::kit::engine::Engine;
use crate::kit::files::{BlockedReads, Leased, TempDir, pipe};
use crate::kit::ring::{Done, Ring, check_done, linked};
use crate::kit::{patience, process, rounds, sys, until};

tests! { "blocking":
    slow_files => "after a call with a path has slept for long, the next one does not hold up WAIT";
    slow_files_asleep => "while a call with a path sleeps in a thread, no other one holds up WAIT";
    slow_files_together => "nor if the thread got its call while the owner slept in another one";
    slow_files_starved => "if no thread can make such calls, their owner makes them";
    slow_files_over => "a second later owners make such calls themselves again";
}

/// Returns true if this thread is asleep.
fn is_asleep(tid: i32) -> bool {
    let tasks = process::tasks(std::process::id() as i32);
    tasks
        .iter()
        .any(|task| task.tid == tid && matches!(task.state, 'S' | 'D'))
}

/// Waits until this thread is asleep.
pub(super) fn until_asleep(tid: i32) -> Check {
    until("the blocked owner", || is_asleep(tid))
}

/// Opens a leased file inline; the open sleeps for longer than a disk takes.
fn sleep_long(ring: &mut Ring) -> Check {
    sleep_long_in(ring, &TempDir::new()?)
}

/// As [`sleep_long`], with a file in this directory.
pub(super) fn sleep_long_in(ring: &mut Ring, dir: &TempDir) -> Check {
    let leased = Leased::at(dir.join("leased"))?;
    let me = sys::gettid();
    let slot = ring.post(leased.open());
    std::thread::scope(|scope| -> Check {
        let other = scope.spawn(|| {
            until_asleep(me)?;
            std::thread::sleep(Duration::from_millis(30));
            leased.release()
        });
        check_eq!("ANY", ring.wait(Policy::Any), Ok(1));
        other.join().expect("no panic")
    })?;
    close(ring.reap(slot))
}

/// Closes the file that this call has opened.
fn close(done: Done) -> Check {
    check!(done.result > 2, "open of a leased file: {done:?}");
    drop(sys::own(done.result as i32));
    Ok(())
}

/// Posts an open that waits, in a chain or by itself, and a call beside it. Returns true if WAIT
/// returned before the open did.
fn is_not_held_up(ring: &mut Ring, chain: bool) -> Check<bool> {
    let dir = TempDir::new()?;
    let leased = Leased::at(dir.join("leased"))?;
    let open = leased.open();
    let mut calls = vec![call!(SYS_getpid), open];
    if chain {
        calls = vec![call!(SYS_getpid), linked(call!(SYS_getppid)), open];
    }
    let slots = ring.post_all(&calls);
    let last = slots[slots.len() - 1];
    let returned = AtomicBool::new(false);
    let early = std::thread::scope(|scope| -> Check<bool> {
        let other = scope.spawn(|| {
            // Ends the open even if WAIT does not return.
            let limit = Instant::now() + Duration::from_secs(1);
            while !returned.load(Ordering::Acquire) && Instant::now() < limit {
                std::thread::sleep(Duration::from_millis(1));
            }
            leased.release()
        });
        let ready = ring.wait(Policy::Any);
        let early = !ring.is_done(last);
        returned.store(true, Ordering::Release);
        other.join().expect("no panic")?;
        check!(ready.is_ok(), "ANY: {ready:?}");
        Ok(early)
    })?;
    let dones = ring.finish(&slots)?;
    let (done, before) = dones.split_last().expect("not empty");
    check_done("getpid", before[0], std::process::id().into(), REASON_NONE)?;
    close(*done)?;
    Ok(early)
}

fn slow_files() -> Check {
    for chain in [false, true] {
        let engine = Engine::open()?;
        let mut ring = engine.ring(1)?;
        // A machine that loses a second between the two calls gets another chance.
        until("a WAIT that is not held up", || {
            sleep_long(&mut ring).is_ok() && is_not_held_up(&mut ring, chain).unwrap_or(false)
        })
        .map_err(|failure| failure.within(format_args!("chain {chain}")))?;
    }
    Ok(())
}

/// An open that waits for the end of a lease.
struct Opening {
    slot: usize,
    leased: Leased,
    is_apart: bool,
}

impl Opening {
    /// Posts a call and the open, and waits for one result. If there is none after a second, the
    /// open returns.
    fn start(ring: &mut Ring, leased: Leased) -> Check<Opening> {
        let slots = ring.post_all(&[call!(SYS_getpid), leased.open()]);
        let returned = AtomicBool::new(false);
        let is_apart = std::thread::scope(|scope| -> Check<bool> {
            let other = scope.spawn(|| {
                let limit = Instant::now() + Duration::from_secs(1);
                while Instant::now() < limit {
                    if returned.load(Ordering::Acquire) {
                        return Ok(true);
                    }
                    std::thread::sleep(Duration::from_millis(1));
                }
                leased.release().map(|()| false)
            });
            let ready = ring.wait(Policy::Any);
            returned.store(true, Ordering::Release);
            let is_apart = other.join().expect("no panic")?;
            check!(ready.is_ok(), "ANY: {ready:?}");
            Ok(is_apart)
        })?;
        let pid = std::process::id().into();
        check_done("getpid", ring.reap(slots[0]), pid, REASON_NONE)?;
        Ok(Opening {
            slot: slots[1],
            leased,
            is_apart,
        })
    }

    /// Returns true if the open has not held up WAIT.
    fn is_apart(&self) -> bool {
        self.is_apart
    }

    fn end(self, ring: &mut Ring) -> Check {
        if self.is_apart {
            self.leased.release()?;
        }
        close(ring.finish(&[self.slot])?[0])
    }
}

/// Returns true if neither open has held up WAIT. The later one comes more than a second after the
/// earlier one: for a second, calls go to threads in any case.
fn are_both_apart(ring: &mut Ring) -> Check<bool> {
    sleep_long(ring)?;
    let dir = TempDir::new()?;
    let first = Opening::start(ring, Leased::at(dir.join("first"))?)?;
    let mut good = first.is_apart();
    if good {
        std::thread::sleep(Duration::from_millis(1300));
        let second = Opening::start(ring, Leased::at(dir.join("second"))?)?;
        good = second.is_apart();
        second.end(ring)?;
    }
    first.end(ring)?;
    Ok(good)
}

fn slow_files_asleep() -> Check {
    let engine = Engine::open()?;
    let mut ring = engine.ring(1)?;
    // A machine that loses a second between two calls gets another chance.
    until("a WAIT that is not held up", || {
        are_both_apart(&mut ring).unwrap_or(false)
    })?;
    until("a call by its owner", || {
        is_inline(&engine, &mut ring).unwrap_or(false)
    })
}

/// Two opens wait, one of them in a thread when the other one ends. Returns true if a third one
/// does not hold up WAIT more than a second later: for a second, calls go to threads in any case.
fn is_third_apart(engine: &Engine, ring: &mut Ring) -> Check<bool> {
    let dir = TempDir::new()?;
    let one = Leased::at(dir.join("one"))?;
    let two = Leased::at(dir.join("two"))?;
    let slots = ring.post_all(&[one.open(), two.open()]);
    std::thread::scope(|scope| -> Check {
        let other = scope.spawn(|| {
            engine.until_pool(0, "a thread in the second open", |pool| pool.blocked == 1)?;
            std::thread::sleep(Duration::from_millis(30));
            one.release()
        });
        check_eq!("ANY", ring.wait(Policy::Any), Ok(1));
        other.join().expect("no panic")
    })?;
    close(ring.reap(slots[0]))?;
    std::thread::sleep(Duration::from_millis(1300));
    let third = Opening::start(ring, Leased::at(dir.join("third"))?)?;
    let good = third.is_apart();
    third.end(ring)?;
    two.release()?;
    close(ring.finish(&[slots[1]])?[0])?;
    Ok(good)
}

fn slow_files_together() -> Check {
    let engine = Engine::open()?;
    let mut ring = engine.ring(1)?;
    // A machine that loses a second between two calls gets another chance.
    until("a WAIT that is not held up", || {
        is_third_apart(&engine, &mut ring).unwrap_or(false)
    })
}

fn slow_files_starved() -> Check {
    let engine = Engine::open()?;
    engine.set(Param::MaxThreads, 1)?;
    let (from, to) = pipe()?;
    let reads = BlockedReads::new(&from, 1);
    let mut busy = engine.ring(1)?;
    let blocked = busy.post_blocked(&reads.calls())?;
    engine.until_pool(0, "the only thread blocked", |pool| pool.blocked == 1)?;
    let mut ring = engine.ring(1)?;
    for _ in 0..rounds(3) {
        sleep_long(&mut ring)?;
        let access = call!(SYS_access, c"/".as_ptr(), libc::F_OK);
        let slots = ring.post_all(&[access, linked(access), access, call!(SYS_getpid)]);
        let dones = ring.finish(&slots)?;
        for done in &dones[..3] {
            check_done("access", *done, 0, REASON_NONE)?;
        }
        check_done("getpid", dones[3], std::process::id().into(), REASON_NONE)?;
    }
    reads.release(&to)?;
    busy.finish(&blocked)?;
    Ok(())
}

/// Makes a call with a path, and returns true if its owner has executed it.
pub(super) fn is_inline(engine: &Engine, ring: &mut Ring) -> Check<bool> {
    let before = engine.stats()?.inline_done;
    let call = call!(SYS_access, c"/".as_ptr(), libc::F_OK);
    check_ret!("access", ring.result(call)?, 0);
    Ok(engine.stats()?.inline_done != before)
}

fn slow_files_over() -> Check {
    let engine = Engine::open()?;
    let mut ring = engine.ring(1)?;
    check!(
        is_inline(&engine, &mut ring)?,
        "access by a thread, and nothing was slow"
    );
    let end = Instant::now() + patience();
    // A machine that loses a second between the two calls gets another chance.
    loop {
        sleep_long(&mut ring)?;
        if !is_inline(&engine, &mut ring)? {
            break;
        }
        check!(Instant::now() < end, "inline behind a slow call");
    }
    while !is_inline(&engine, &mut ring)? {
        check!(Instant::now() < end, "never inline again");
        std::thread::sleep(Duration::from_millis(10));
    }
    // Other calls are not affected.
    sleep_long(&mut ring)?;
    let before = engine.stats()?.inline_done;
    check_ret!(
        "getpid",
        ring.result(call!(SYS_getpid))?,
        std::process::id()
    );
    check_eq!("executed inline", engine.stats()?.inline_done, before + 1);
    Ok(())
}
