// SPDX-License-Identifier: MIT OR Apache-2.0
//! Programs whose calls return numbers that have a meaning inside the kernel: `-ERESTART*` and
//! their like. A plain call returns them unchanged, so an entry must do so too, and soon.

use std::os::fd::RawFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::cell::Finding;
use super::jail::GROUPS;
use super::program::Program;
use crate::kit::abi::{self, Policy, REASON_NONE};
use crate::kit::mode::Mode;
use crate::kit::ring::{Call, Ring};
use crate::kit::{Random, signals, sys};

/// Longer than any of these calls may take, on the slowest machine.
pub const LONG: Duration = Duration::from_secs(20);

/// A call, and the result of the same plain call.
struct Known {
    call: Call,
    result: i64,
}

/// Files whose owner is a process group, which fcntl(F_GETOWN) returns as a negative number.
struct Owned {
    fd: RawFd,
    group: i32,
}

fn owned_files() -> Vec<Owned> {
    let mut all = Vec::new();
    for group in GROUPS {
        let fd = plain!(SYS_eventfd2, 0, libc::EFD_CLOEXEC) as RawFd;
        if fd < 0 {
            break;
        }
        // If the machine has no such group, there is nothing to ask for.
        if plain!(SYS_fcntl, fd, libc::F_SETOWN, -group) == 0
            && plain!(SYS_fcntl, fd, libc::F_GETOWN) == i64::from(-group)
        {
            all.push(Owned { fd, group });
        } else {
            plain!(SYS_close, fd);
        }
    }
    all
}

/// The file whose offset may be any number, even a negative one.
fn memory_file() -> Option<RawFd> {
    // After the process has changed its user, its own files in /proc belong to root.
    plain!(SYS_prctl, libc::PR_SET_DUMPABLE, 1, 0, 0, 0);
    let flags = libc::O_RDONLY | libc::O_CLOEXEC;
    let fd = plain!(SYS_openat, libc::AT_FDCWD, c"/proc/self/mem", flags);
    (fd >= 0).then_some(fd as RawFd)
}

fn offset(random: &mut Random) -> i64 {
    match random.below(8) {
        // From ERESTARTSYS to ERECALLCONFLICT, and this project's own number after them.
        0..=3 => -512 - random.below(21) as i64,
        4 => -(random.below(4096) as i64),
        5 => [-4, -11, -85, -125, -4095, -4096][random.below(6) as usize],
        6 => i64::MIN + random.below(4096) as i64,
        _ => random.below(1 << 40) as i64,
    }
}

fn known(memory: RawFd, owned: &[Owned], random: &mut Random) -> Known {
    let pid = i64::from(std::process::id());
    let (call, result) = match random.below(16) {
        0..=7 => {
            let at = offset(random);
            (call!(SYS_lseek, memory, at, libc::SEEK_SET), at)
        }
        8..=11 if !owned.is_empty() => {
            let file = &owned[random.below(owned.len() as u64) as usize];
            let get = call!(SYS_fcntl, file.fd, libc::F_GETOWN);
            (get, i64::from(-file.group))
        }
        12 => (call!(SYS_close, -1), -i64::from(libc::EBADF)),
        _ => (call!(SYS_getpid), pid),
    };
    let call = match random.below(4) {
        0 => call.asynchronous(),
        _ => call,
    };
    Known { call, result }
}

/// Drives the entries in these slots to their end. Returns false if they do not end.
pub fn drive(ring: &Ring, slots: &[usize], limit: Duration) -> bool {
    let end = Instant::now() + limit;
    let mut kicked = false;
    loop {
        if slots.iter().all(|&slot| ring.is_done(slot)) {
            return true;
        }
        if Instant::now() > end {
            return false;
        }
        match ring.mode {
            Mode::Inline | Mode::Async => {
                // Signals may interrupt WAIT, and results of other slots may satisfy it.
                let _ = ring.wait_for(Policy::All, 0, Duration::from_millis(500));
            }
            Mode::Kick if !kicked => kicked = ring.kick().is_ok(),
            Mode::Poller if ring.needs_kick() => drop(ring.kick()),
            Mode::Kick | Mode::Poller => std::thread::sleep(Duration::from_micros(100)),
        }
    }
}

/// Some call has not ended: cancels the calls, and reports a finding that says whether they ended
/// then.
pub fn endless(program: &Program<'_>, ring: &Ring, slots: &[usize]) {
    let Some(&slot) = slots.iter().find(|&&slot| !ring.is_done(slot)) else {
        return;
    };
    let entry = ring.entry(slot);
    let nr = u64::from(entry.nr.load(Ordering::Relaxed));
    let arg = entry.args[1].load(Ordering::Relaxed);
    for &slot in slots {
        let _ = ring.cancel(slot);
    }
    let what = if drive(ring, slots, LONG) {
        Finding::Endless
    } else {
        Finding::Unstoppable
    };
    program.found(what, [nr, arg, LONG.as_secs()]);
}

/// One life.
pub fn live(program: &Program<'_>, random: &mut Random) {
    let mode = Mode::ALL[random.below(4) as usize];
    // A filter that an earlier life has installed refuses some of these calls.
    if plain!(SYS_prctl, libc::PR_GET_SECCOMP, 0, 0, 0, 0) != 0 {
        return;
    }
    let Some(memory) = memory_file() else {
        return;
    };
    let owned = owned_files();
    if let Ok((engine, mut ring)) = mode.start(1) {
        program.report(|report| report.engines += 1);
        let noisy = random.below(4) == 0;
        if !noisy {
            // No signal comes that could explain another result.
            let never = [0i64; 4];
            plain!(SYS_setitimer, libc::ITIMER_REAL, never.as_ptr(), 0);
        }
        let over = AtomicBool::new(false);
        let owner = sys::gettid();
        std::thread::scope(|scope| {
            let over = &over;
            if noisy {
                scope.spawn(move || {
                    while !over.load(Ordering::Relaxed) {
                        signals::send(owner, libc::SIGUSR1);
                        std::thread::sleep(Duration::from_millis(1));
                    }
                });
            }
            for _ in 0..8 + random.below(24) {
                if !batch(program, &mut ring, noisy, memory, &owned, random) {
                    break;
                }
            }
            over.store(true, Ordering::Relaxed);
        });
        program.count(engine.fd(), true);
    }
    for file in owned {
        plain!(SYS_close, file.fd);
    }
    plain!(SYS_close, memory);
}

/// Posts calls and compares their results. Returns false after a finding.
fn batch(
    program: &Program<'_>,
    ring: &mut Ring,
    noisy: bool,
    memory: RawFd,
    owned: &[Owned],
    random: &mut Random,
) -> bool {
    let calls: Vec<Known> = (0..1 + random.below(32))
        .map(|_| known(memory, owned, random))
        .collect();
    let posted: Vec<Call> = calls.iter().map(|known| known.call).collect();
    let slots = ring.post_all(&posted);
    if !drive(ring, &slots, LONG) {
        endless(program, ring, &slots);
        return false;
    }
    for (known, &slot) in calls.iter().zip(&slots) {
        let done = ring.reap(slot);
        let excused = noisy && done.result == -i64::from(libc::EINTR);
        if !excused && (done.result != known.result || done.reason != REASON_NONE) {
            let [nr, arg] = [u64::from(known.call.nr), known.call.args[1]];
            // Without threads, only calls that the owner itself executes are executed.
            if done.reason == abi::REASON_STARVED {
                continue;
            }
            let reason = u64::from(done.reason) << 32;
            program.found(Finding::Result, [nr | reason, arg, done.result as u64]);
            return false;
        }
    }
    true
}
