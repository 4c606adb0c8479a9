// SPDX-License-Identifier: MIT OR Apache-2.0
//! How many syscall threads there are.

use crate::check::Check;
use crate::kit::abi::{Param, REASON_STARVED};
use crate::kit::engine::{Engine, Stats};
use crate::kit::files::{BlockedReads, pipe};
use crate::kit::mode::Mode;
use crate::kit::process;

tests! { "threads":
    counted => "QUERY counts the syscall threads that /proc shows";
    retire => "idle syscall threads end after RETIRE_MS; more are created when needed";
    limited => "there are never more threads than MAX_THREADS, and every call is done or EAGAIN";
    raised => "raising MAX_THREADS lets waiting calls go on";
    end_with_engine => "all syscall threads end when the engine does";
}

fn threads_in_proc() -> u64 {
    process::tasks(std::process::id() as i32).len() as u64 - 1
}

fn counted() -> Check {
    let engine = Engine::open()?;
    let mut ring = engine.ring(1)?;
    let (from, to) = pipe()?;
    let reads = BlockedReads::new(&from, 30);
    let slots = ring.post_blocked(&reads.calls())?;
    engine.until_stats("threads as in /proc", |s| {
        s.threads >= 30 && s.threads == threads_in_proc()
    })?;
    reads.release(&to)?;
    ring.finish(&slots)?;
    reads.check()
}

fn retire() -> Check {
    let engine = Engine::open()?;
    engine.set(Param::RetireMs, 20)?;
    let mut ring = engine.ring(1)?;
    let (from, to) = pipe()?;
    for _ in 0..3 {
        let reads = BlockedReads::new(&from, 40);
        let slots = ring.post_blocked(&reads.calls())?;
        engine.until_stats("40 threads", |s| s.threads >= 40)?;
        reads.release(&to)?;
        for done in ring.finish(&slots)? {
            check_ret!("read", done.result, 2);
        }
        // Once no thread is being created, the figures of each QUERY agree.
        let agree = |s: &Stats| s.threads_created - s.threads_retired == s.threads;
        engine.until_stats("every thread is created", agree)?;
        let mut differ = None;
        engine.until_stats("few threads after RETIRE_MS", |s| {
            if !agree(s) {
                differ = Some((s.threads_created, s.threads_retired, s.threads));
            }
            s.threads <= 4
        })?;
        check!(
            differ.is_none(),
            "created, retired, there: {differ:?} in one QUERY"
        );
    }
    let retired = engine.stats()?.threads_retired;
    check!(retired >= 100, "only {retired} retired");
    Ok(())
}

fn limited() -> Check {
    for mode in [Mode::Inline, Mode::Async, Mode::Kick] {
        let (engine, mut ring) = mode.start(1)?;
        engine.set(Param::MaxThreads, 3)?;
        let (from, to) = pipe()?;
        let reads = BlockedReads::new(&from, 40);
        let slots = ring.post_all(&reads.calls());
        ring.kicked()?;
        // The owner still executes calls that do not block.
        if mode == Mode::Inline {
            check_ret!(
                "getpid",
                ring.result(call!(SYS_getpid))?,
                std::process::id()
            );
        }
        let threads = engine.stats()?.threads;
        check!(threads <= 3, "{threads} threads, 3 allowed");
        reads.release(&to)?;
        let mut right = 0;
        for done in ring.finish(&slots)? {
            match (done.result, done.reason) {
                (2, 0) => right += 1,
                (result, REASON_STARVED) => check_ret!("starved", result, -libc::EAGAIN),
                _ => fail!("mode {mode:?}: {done:?}"),
            }
        }
        check!(right >= 3, "only {right} reads for 3 threads");
        let threads = engine.stats()?.threads;
        check!(threads <= 3, "{threads} threads, 3 allowed");
    }
    Ok(())
}

fn raised() -> Check {
    let engine = Engine::open()?;
    engine.set(Param::MaxThreads, 2)?;
    let mut ring = engine.ring(1)?;
    let (from, to) = pipe()?;
    let reads = BlockedReads::new(&from, 10);
    let slots = ring.post_all(&reads.calls());
    ring.kicked()?;
    engine.set(Param::MaxThreads, 4096)?;
    // The limit must not make the engine forget a posted entry.
    ring.kicked()?;
    reads.release(&to)?;
    for done in ring.finish(&slots)? {
        let starved = done.reason == REASON_STARVED && done.result == -i64::from(libc::EAGAIN);
        check!(done.result == 2 || starved, "{done:?}");
    }
    for done in ring.run_all(&[call!(SYS_getpid).asynchronous(); 64])? {
        check_ret!("getpid", done.result, std::process::id());
    }
    Ok(())
}

fn end_with_engine() -> Check {
    for mode in Mode::ALL {
        let (engine, mut ring) = mode.start(1)?;
        let (from, to) = pipe()?;
        let reads = BlockedReads::new(&from, 20);
        let slots = ring.post_blocked(&reads.calls())?;
        reads.release(&to)?;
        ring.finish(&slots)?;
        check!(threads_in_proc() >= 1, "no syscall thread in mode {mode:?}");
        drop(ring);
        drop(engine);
        process::until_tasks(1)?;
    }
    Ok(())
}
