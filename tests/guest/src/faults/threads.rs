// SPDX-License-Identifier: MIT OR Apache-2.0
//! Failures within syscall threads: executing entries, making other threads, polling.

use std::sync::atomic::{AtomicU32, Ordering};

use nix::errno::Errno::{self, EAGAIN, EFAULT, ENOMEM};

use super::{check_sound, close_both, one_page, swept};
use crate::check::{Check, Ret};
use crate::kit::abi::{Param, REASON_NONE, REASON_STARVED};
use crate::kit::engine::Engine;
use crate::kit::fault::{Faults, Nth, Prone};
use crate::kit::files::{BlockedReads, pipe};
use crate::kit::limits::poller_cpu;
use crate::kit::mode::Mode;
use crate::kit::ring::{Done, Ring};
use crate::kit::{process, rounds, until};

tests! { "faults":
    entries => "posted calls on a syscall thread: a failure is an error of that call only";
    spare_threads => "if a syscall thread fails to make the next one: progress or STARVED";
    poller_without_list => "a poller without memory for its list: programs are told to kick";
    rain => "allocations fail at random in all threads: no hang, no loss, and recovery";
}

/// The syscall threads of this process.
fn syscall_threads() -> Vec<i32> {
    let own = std::process::id() as i32;
    let all = process::tasks(own).into_iter();
    let ours = all.filter(|task| task.tid != own && task.name.starts_with("flexsc"));
    ours.map(|task| task.tid).collect()
}

/// Waits until a syscall thread exists and sleeps.
fn idle_thread() -> Check<i32> {
    let own = std::process::id() as i32;
    let mut found = None;
    until("an idle syscall thread", || {
        let threads = syscall_threads();
        found = process::tasks(own)
            .into_iter()
            .find(|task| threads.contains(&task.tid) && task.state == 'S')
            .map(|task| task.tid);
        found.is_some()
    })?;
    Ok(found.expect("until() has seen it"))
}

fn is_memory_error(done: &Done) -> bool {
    let error = Errno::from_raw(-done.result as i32);
    match done.reason {
        REASON_NONE => matches!(error, ENOMEM | EFAULT | EAGAIN | Errno::ENFILE),
        REASON_STARVED => error == EAGAIN,
        _ => false,
    }
}

/// Makes each operation that can fail in the idle syscall thread of a new engine fail once. `work`
/// returns how many of its calls have failed.
fn sweep_thread(
    what: &str,
    at_least: u32,
    mut work: impl FnMut(&Engine, &mut Ring) -> Check<usize>,
) -> Check {
    let (mut n, mut vain) = (1, 0);
    // Sometimes another thread may do the work.
    while vain < 3 {
        check!(n < 2000, "{what}: no end of failures");
        let (engine, mut ring) = one_page()?;
        ring.mode = Mode::Async;
        let nth = Nth::of(idle_thread()?)?;
        nth.arm(n)?;
        let failed = work(&engine, &mut ring)
            .map_err(|failure| failure.within(format_args!("{what}, failure {n}")))?;
        let injected = nth.disarm()?;
        check!(
            injected || failed == 0,
            "{what}: {failed} calls failed without an injected failure"
        );
        check_sound(&engine, &mut ring)
            .map_err(|failure| failure.within(format_args!("{what}, failure {n}")))?;
        drop((engine, ring));
        process::until_tasks(1)?;
        if injected {
            (n, vain) = (n + 1, 0);
        } else {
            vain += 1;
        }
    }
    swept(what, n - 1, at_least)
}

fn entries() -> Check {
    let _faults = Faults::new()?;
    let mut pair = [-1i32; 2];
    let mut buffer = [0u8; 256];
    sweep_thread("calls on a syscall thread", 8, |_, ring| {
        let calls = [
            call!(SYS_getpid),
            call!(
                SYS_openat,
                libc::AT_FDCWD,
                c"/proc/self/stat",
                libc::O_RDONLY
            ),
            call!(SYS_pipe2, pair.as_mut_ptr(), 0),
            call!(SYS_eventfd2, 0, 0),
            call!(SYS_getcwd, buffer.as_mut_ptr(), buffer.len()),
        ];
        let mut failed = 0;
        for (index, done) in ring.run_all(&calls)?.iter().enumerate() {
            if done.result < 0 {
                failed += 1;
                check!(is_memory_error(done), "call {index}: {done:?}");
                continue;
            }
            match index {
                1 | 3 => drop(plain!(SYS_close, done.result)),
                2 => close_both(&pair),
                _ => {}
            }
        }
        check!(failed <= 1, "{failed} calls failed because of one failure");
        Ok(failed)
    })
}

fn spare_threads() -> Check {
    let _faults = Faults::new()?;
    sweep_thread("making threads on demand", 8, |_, ring| {
        let (from, to) = pipe()?;
        let reads = BlockedReads::new(&from, 4);
        let slots = ring.post_all(&reads.calls());
        ring.kicked()?;
        // All calls are executed, or WAIT finds that no thread can execute them.
        let taken = ring.until_taken(&slots);
        reads.release(&to)?;
        taken?;
        let mut failed = 0;
        for done in ring.finish(&slots)? {
            if done.result == 2 {
                continue;
            }
            failed += 1;
            check!(is_memory_error(&done), "read: {done:?}");
        }
        Ok(failed)
    })
}

fn poller_without_list() -> Check {
    let _faults = Faults::new()?;
    let mut injected_once = 0;
    for n in 1..=4 {
        let (engine, mut ring) = one_page()?;
        engine.set(Param::IdleNs, 1_000_000)?;
        engine.set(Param::PollCpus, 1 << poller_cpu())?;
        ring.mode = Mode::Poller;
        check_ret!(
            "getpid",
            ring.result(call!(SYS_getpid))?,
            std::process::id()
        );
        // The thread that polls, and any other.
        let mut counters = Vec::new();
        for tid in syscall_threads() {
            // The thread may have ended by itself.
            if let Ok(nth) = Nth::of(tid) {
                nth.arm(n)?;
                counters.push(nth);
            }
        }
        // With another registration, the poller makes its list anew.
        let mut other = engine.ring(1)?;
        other.mode = Mode::Poller;
        for _ in 0..20 {
            for ring in [&mut ring, &mut other] {
                let done = ring.run(call!(SYS_getpid))?;
                check_ret!("getpid", done.result, std::process::id());
            }
        }
        for nth in counters {
            injected_once += u32::from(nth.disarm()?);
        }
        check_sound(&engine, &mut ring)?;
        check_sound(&engine, &mut other)?;
    }
    swept("pollers", injected_once, 1)
}

/// Makes calls of all kinds while allocations fail. Counts the calls that have succeeded.
fn work_in_rain(mode: Mode, random_calls: u32, succeeded: &AtomicU32) -> Check {
    let Ok(engine) = crate::kit::engine::try_open() else {
        return Ok(());
    };
    if mode == Mode::Poller {
        let _ = engine.try_set(Param::PollCpus, 1 << poller_cpu());
    }
    let Ok(registered) = engine.register(1) else {
        return Ok(());
    };
    let Ok(mut ring) = Ring::map(engine.fd(), &registered) else {
        return Ok(());
    };
    ring.mode = mode;
    for _ in 0..random_calls {
        let open = call!(SYS_openat, libc::AT_FDCWD, c"/dev/null", libc::O_RDONLY);
        for done in ring.run_all(&[open, call!(SYS_getpid), call!(SYS_eventfd2, 0, 0)])? {
            if done.result < 0 {
                check!(is_memory_error(&done), "mode {mode:?}: {done:?}");
                continue;
            }
            succeeded.fetch_add(1, Ordering::Relaxed);
            if done.result != i64::from(std::process::id()) {
                let ret = plain!(SYS_close, done.result);
                check!(ret == 0, "close: {}", Ret(ret));
            }
        }
    }
    Ok(())
}

fn rain() -> Check {
    let mut faults = Faults::new()?;
    faults.rain(1)?;
    let succeeded = AtomicU32::new(0);
    let mut outcome = Ok(());
    let prone = Prone::new()?;
    for round in 0..rounds(12) {
        let mode = Mode::ALL[round as usize % 4];
        outcome = work_in_rain(mode, 20, &succeeded);
        if outcome.is_err() {
            break;
        }
    }
    drop(prone);
    drop(faults);
    outcome?;
    check!(
        succeeded.load(Ordering::Relaxed) > 0,
        "nothing at all succeeded"
    );
    println!("# rain: {} calls succeeded", succeeded.into_inner());
    process::until_tasks(1)?;
    let (engine, mut ring) = one_page()?;
    check_sound(&engine, &mut ring)?;
    Ok(())
}
