// SPDX-License-Identifier: MIT OR Apache-2.0
//! Throughput with so many calls in flight all the time: as results come, as
//! many calls are posted. What a kernel core is for.

use std::hint;
use std::io;

use super::{Options, Suite, skip};
use crate::backend::Kind;
use crate::backend::flexsc::{By, Flexsc, call_of, failed};
use crate::backend::plain;
use crate::backend::uring::{Mode, Uring};
use crate::machine;
use crate::report::{Report, Row};
use crate::request::Request;

/// See the module.
pub const SUITE: Suite = Suite {
    name: "pipeline",
    about: "throughput with so many calls in flight all the time (batch = in flight)",
    ops: &["getppid"],
    run,
};

const IN_FLIGHT: [usize; 5] = [4, 16, 32, 64, 128];

/// Results of one round, of which a sample has several.
const ROUND: usize = 1024;

/// So much of what is in flight is posted at once: small posts cost both sides.
const PART: usize = 4;

/// Polls in vain after which it is time to see whether the other core sleeps.
const PATIENCE: u32 = 64;

fn run(options: &Options, report: &mut Report) -> io::Result<()> {
    let cpus = machine::cpus()?;
    for kind in [Kind::Plain, Kind::FlexscSpin, Kind::UringSqpoll] {
        if !options.uses(kind) {
            continue;
        }
        for &batch in options.batches_or(&IN_FLIGHT) {
            machine::bind(&cpus)?;
            let value = match one(options, kind, batch, &cpus) {
                Ok(value) => value,
                Err(why) => {
                    skip(kind.name(), &why);
                    break;
                }
            };
            report.row(&Row {
                suite: SUITE.name.into(),
                op: SUITE.ops[0].into(),
                backend: kind.name().into(),
                cpus: cpus.len(),
                batch,
                metric: options.effort.metric.name().into(),
                value,
                unit: "per call".into(),
            })?;
        }
    }
    machine::bind(&cpus)
}

fn one(options: &Options, kind: Kind, batch: usize, cpus: &[usize]) -> io::Result<f64> {
    let parent = i64::from(nix::unistd::getppid().as_raw());
    let &[here, other, ..] = cpus else {
        return Err(io::Error::other("it needs a second CPU"));
    };
    match kind {
        Kind::FlexscSpin => {
            let mut backend = Flexsc::new(batch, By::Spinner(other))?;
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
        Kind::UringSqpoll => {
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

/// Fails where a bit of a result was not what it should be.
fn verdict(wrong: i64) -> io::Result<()> {
    match wrong {
        0 => Ok(()),
        _ => Err(io::Error::other("a call returned something else")),
    }
}

/// Takes a round of results, and posts a call for each.
/// `ahead` are results of the next round that were taken already.
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
                unsafe { pages.stage(call_of(Request::Getppid)) };
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
