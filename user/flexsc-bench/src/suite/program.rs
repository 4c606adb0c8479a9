// SPDX-License-Identifier: MIT OR Apache-2.0
//! The program's own cost of a posted call: posting it and taking its result, without the
//! kernel, the doorbell and the wait. Each figure includes a loop over the calls, which takes
//! three to six instructions for each of them.

use std::io;

use flexsc::ops::Raw;
use flexsc::{Engine, Ring, Wait, calls};

use super::{Options, Suite};
use crate::backend::flexsc::{By, Flexsc, failed};
use crate::clock::{Effort, median};
use crate::machine;
use crate::report::{Report, Row};

/// See the module.
pub const SUITE: Suite = Suite {
    name: "program",
    about: "the program's own cost of posting a call and of taking its result",
    ops: &["pages-post", "pages-take", "ring-submit", "ring-take"],
    run,
};

const BATCHES: [usize; 3] = [8, 64, 256];

/// Both halves of the cost of a call.
struct Cost {
    post: f64,
    take: f64,
}

fn run(options: &Options, report: &mut Report) -> io::Result<()> {
    let cpus = machine::cpus()?.len();
    for &batch in options.batches_or(&BATCHES) {
        let pages = pages(options.effort, batch)?;
        let ring = ring(options.effort, batch)?;
        for (op, value) in [
            ("pages-post", pages.post),
            ("pages-take", pages.take),
            ("ring-submit", ring.post),
            ("ring-take", ring.take),
        ] {
            if !options.wants(op) {
                continue;
            }
            report.row(&Row {
                suite: SUITE.name.into(),
                op: op.into(),
                backend: "flexsc".into(),
                cpus,
                batch,
                metric: options.effort.metric.name().into(),
                value,
                unit: "per call".into(),
            })?;
        }
    }
    Ok(())
}

/// Measures the parts of a round, which returns the readings before and after its two parts.
fn measure(
    effort: Effort,
    batch: usize,
    mut round: impl FnMut() -> io::Result<[u64; 4]>,
) -> io::Result<Cost> {
    let overhead = effort.metric.overhead();
    let (mut post, mut take) = (Vec::new(), Vec::new());
    for _ in 0..4 {
        round()?;
    }
    for _ in 0..effort.samples.max(1) {
        let [begun, posted, there, taken] = round()?;
        let each = |from: u64, to: u64| (to - from).saturating_sub(overhead) as f64 / batch as f64;
        post.push(each(begun, posted));
        take.push(each(there, taken));
    }
    Ok(Cost {
        post: median(&mut post),
        take: median(&mut take),
    })
}

fn check(wrong: i64) -> io::Result<()> {
    if wrong == 0 {
        Ok(())
    } else {
        Err(io::Error::other("a result is wrong"))
    }
}

fn parent() -> i64 {
    i64::from(nix::unistd::getppid().as_raw())
}

/// The raw layer: [`flexsc::Pages`].
fn pages(effort: Effort, batch: usize) -> io::Result<Cost> {
    let metric = effort.metric;
    let parent = parent();
    let mut backend = Flexsc::new(batch, By::Waiter)?;
    let pages = backend.pages();
    measure(effort, batch, || {
        let begun = metric.now();
        for _ in 0..batch {
            // SAFETY: getppid() touches no memory.
            if unsafe { pages.stage(calls::getppid()) }.is_none() {
                return Err(io::Error::other("no entry is free"));
            }
        }
        let posted = metric.now();
        pages.wait(Wait::all()).map_err(failed)?;
        let there = metric.now();
        let mut wrong = 0;
        for done in pages.drain() {
            wrong |= done.result ^ parent;
        }
        let taken = metric.now();
        check(wrong)?;
        Ok([begun, posted, there, taken])
    })
}

/// The safe layer: [`Ring`].
fn ring(effort: Effort, batch: usize) -> io::Result<Cost> {
    let metric = effort.metric;
    let parent = parent();
    let engine = Engine::open().map_err(failed)?;
    let pages = engine.register(batch.div_ceil(64).max(1) as u32);
    let ring = Ring::new(pages.map_err(failed)?);
    let mut ring = ring.map_err(|(_, error)| failed(error))?;
    measure(effort, batch, || {
        let begun = metric.now();
        for index in 0..batch {
            // SAFETY: getppid() touches no memory.
            let call = unsafe { Raw::new(calls::getppid(), ()) };
            if ring.submit(call, index as u64).is_err() {
                return Err(io::Error::other("the ring is full"));
            }
        }
        let posted = metric.now();
        ring.wait(Wait::all()).map_err(failed)?;
        let there = metric.now();
        let mut wrong = 0;
        while let Some(done) = ring.next() {
            wrong |= done.output::<Raw<()>>().0? ^ parent;
        }
        let taken = metric.now();
        check(wrong)?;
        Ok([begun, posted, there, taken])
    })
}
