// SPDX-License-Identifier: MIT OR Apache-2.0
//! Throughput with a constant number of calls in flight: as many calls are posted as
//! results arrive. Pollers are made for this load.
//!
//! Two processors work together here, so a figure depends on their distance from each
//! other, which changes during a run if the host shares them. Therefore the backends are
//! measured in turns, and the round trip of a cache line is measured as well.

use std::hint;
use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use super::{Of, Options, Suite, by_turns, write_medians};
use crate::backend::Kind;
use crate::backend::flexsc::{By, Flexsc, call_of, failed};
use crate::backend::plain;
use crate::backend::uring::{Mode, Uring};
use crate::machine;
use crate::report::Report;
use crate::request::Request;

/// See the module.
pub const SUITE: Suite = Suite {
    name: "pipeline",
    about: "throughput with a constant number of calls in flight (batch = in flight)",
    ops: &["getppid", "cache-line"],
    run,
};

const IN_FLIGHT: [usize; 5] = [4, 16, 32, 64, 128];

/// Results of one round. A sample has several rounds.
const ROUND: usize = 1024;

/// How often the backends take turns.
const TURNS: usize = 7;

/// Minimum number of calls in a sample, which take some milliseconds.
const CALLS: usize = 16 * ROUND;

/// The share of the calls in flight that is posted at once: small posts cost both sides.
const PART: usize = 4;

/// Number of unsuccessful polls after which the program checks whether the poller sleeps.
const PATIENCE: u32 = 64;

/// A measurement that takes turns.
#[derive(Clone, Copy)]
enum Way {
    /// Calls of this backend, with this many in flight.
    Calls(Kind, usize),
    /// No calls, but the round trip of a cache line.
    CacheLine,
}

fn run(options: &Options, report: &mut Report) -> io::Result<()> {
    let cpus = machine::cpus()?;
    let mut options = options.clone();
    options.effort.calls = options.effort.calls.max(CALLS);
    let mut ways = Vec::new();
    if options.wants(SUITE.ops[0]) {
        for &batch in options.batches_or(&IN_FLIGHT) {
            for kind in [Kind::Plain, Kind::FlexscPoller, Kind::UringSqpoll] {
                if options.uses(kind) {
                    ways.push(Way::Calls(kind, batch));
                }
            }
        }
    }
    if options.wants(SUITE.ops[1]) && options.uses(Kind::Plain) {
        ways.push(Way::CacheLine);
    }
    let name = |way| match way {
        Way::Calls(kind, _) => (SUITE.ops[0], kind.name()),
        Way::CacheLine => (SUITE.ops[1], Kind::Plain.name()),
    };
    let figures = by_turns(TURNS, &ways, name, |way| {
        machine::bind(&cpus)?;
        one(&options, way, &cpus)
    });
    let measured = ways.into_iter().zip(figures);
    write_medians(
        report,
        &SUITE,
        options.effort.metric,
        cpus.len(),
        measured,
        |way| match way {
            Way::Calls(kind, batch) => Of {
                op: SUITE.ops[0],
                backend: kind.name(),
                batch,
                unit: "per call",
            },
            Way::CacheLine => Of {
                op: SUITE.ops[1],
                backend: Kind::Plain.name(),
                batch: 1,
                unit: "there and back",
            },
        },
    )?;
    machine::bind(&cpus)
}

fn one(options: &Options, way: Way, cpus: &[usize]) -> io::Result<f64> {
    let parent = i64::from(nix::unistd::getppid().as_raw());
    let &[here, other, ..] = cpus else {
        return Err(io::Error::other("this needs a second CPU"));
    };
    let Way::Calls(kind, batch) = way else {
        return cache_line(options, here, other);
    };
    match kind {
        Kind::FlexscPoller => with_poller(options, batch, parent, [here, other]),
        Kind::UringSqpoll => with_sqpoll(options, batch, [here, other]),
        _ => {
            machine::bind(&[here])?;
            options.effort.measure(ROUND, || {
                let mut wrong = 0;
                for _ in 0..ROUND {
                    // SAFETY: getppid() touches no memory.
                    wrong |= unsafe { plain::call(Request::Getppid) } ^ parent;
                }
                verdict(wrong)
            })
        }
    }
}

/// Measures calls in syscall pages, which this thread posts on one CPU and a poller executes
/// on the other.
fn with_poller(
    options: &Options,
    batch: usize,
    parent: i64,
    [here, other]: [usize; 2],
) -> io::Result<f64> {
    let mut backend = Flexsc::new(batch, By::Poller(other))?;
    // Bound only now: the engine's threads run on the CPUs of the thread that opens it.
    machine::bind(&[here])?;
    // SAFETY: getppid() touches no memory.
    unsafe { backend.post(batch, |_| Request::Getppid) }?;
    backend.pages().ring();
    let mut ahead = 0;
    let value = options
        .effort
        .measure(ROUND, || refill(&mut backend, batch, parent, &mut ahead))?;
    backend.take_polling(batch, |_| ())?;
    Ok(value)
}

/// Measures NOPs of io_uring, which this thread submits on one CPU and a kernel thread
/// executes on the other.
fn with_sqpoll(options: &Options, batch: usize, [here, other]: [usize; 2]) -> io::Result<f64> {
    let mut ring = Uring::new(batch, Mode::Sqpoll(Some(other)))?;
    machine::bind(&[here])?;
    // SAFETY: NOP touches no memory.
    unsafe { ring.post(batch, |_| Request::Getppid) }?;
    let mut ahead = 0;
    let value = options.effort.measure(ROUND, || {
        let (mut wrong, mut left, mut taken) = (0, ROUND - ahead, 0);
        while left > 0 {
            taken += ring.take_some(|result| wrong |= result);
            if taken * PART < batch {
                hint::spin_loop();
                continue;
            }
            // SAFETY: as above.
            unsafe { ring.post(taken, |_| Request::Getppid) }?;
            ahead = taken.saturating_sub(left);
            left = left.saturating_sub(taken);
            taken = 0;
        }
        verdict(wrong)
    })?;
    ring.take(batch, |_| ())?;
    Ok(value)
}

/// Returns the time in which one CPU sees another's store and answers it.
fn cache_line(options: &Options, here: usize, other: usize) -> io::Result<f64> {
    /// Alone in two cache lines, since processors fetch pairs of them.
    #[repr(align(128))]
    struct Line(AtomicUsize);
    let ball = Line(AtomicUsize::new(0));
    let end = usize::MAX;
    thread::scope(|scope| {
        let player = scope.spawn(|| {
            machine::bind(&[other])?;
            let mut seen = 0;
            loop {
                let now = ball.0.load(Ordering::Acquire);
                if now == end {
                    return Ok(());
                }
                // Odd numbers are for this side.
                if now != seen && now % 2 == 1 {
                    seen = now + 1;
                    ball.0.store(seen, Ordering::Release);
                }
                hint::spin_loop();
            }
        });
        let mut next = 1;
        let value = machine::bind(&[here]).and_then(|()| {
            options.effort.measure(ROUND, || {
                for _ in 0..ROUND {
                    ball.0.store(next, Ordering::Release);
                    while ball.0.load(Ordering::Acquire) == next {
                        hint::spin_loop();
                        if player.is_finished() {
                            return Err(io::Error::other("the other CPU does not answer"));
                        }
                    }
                    next += 2;
                }
                Ok(())
            })
        });
        ball.0.store(end, Ordering::Release);
        let played: io::Result<()> = player
            .join()
            .unwrap_or_else(|_| Err(io::Error::other("the other thread has panicked")));
        played.and(value)
    })
}

/// Fails if a bit of a result was wrong.
fn verdict(wrong: i64) -> io::Result<()> {
    match wrong {
        0 => Ok(()),
        _ => Err(io::Error::other("a call returned a wrong result")),
    }
}

/// Takes a round of results and posts a call for each. `ahead` results of the next round
/// were already taken.
fn refill(backend: &mut Flexsc, batch: usize, expected: i64, ahead: &mut usize) -> io::Result<()> {
    let pages = backend.pages();
    let (mut wrong, mut left, mut vain, mut taken) = (0, ROUND - *ahead, 0, 0);
    while left > 0 {
        let before = taken;
        for done in pages.drain() {
            wrong |= done.result ^ expected;
            taken += 1;
        }
        if taken * PART >= batch {
            for _ in 0..taken {
                // SAFETY: getppid() touches no memory.
                unsafe { pages.stage(call_of(Request::Getppid)) }.expect("a free entry");
            }
            pages.ring();
            *ahead = taken.saturating_sub(left);
            left = left.saturating_sub(taken);
            taken = 0;
            continue;
        }
        vain = if taken == before { vain + 1 } else { 0 };
        if vain == PATIENCE {
            vain = 0;
            if pages.needs_kick() {
                pages.kick().map_err(failed)?;
            }
        }
        hint::spin_loop();
    }
    verdict(wrong)
}
