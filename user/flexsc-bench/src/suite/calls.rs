// SPDX-License-Identifier: MIT OR Apache-2.0
//! The cost of a call, by the number of calls made at a time.

use std::io;

use super::apart::apart;
use super::filter::allow_all;
use super::operations;
use super::{Of, Options, Suite, by_turns, write_medians};
use crate::backend::flexsc::{By, Flexsc};
use crate::backend::plain::Plain;
use crate::backend::uring::{Mode, Uring};
use crate::backend::{Backend, Kind};
use crate::clock::Effort;
use crate::machine;
use crate::marker;
use crate::report::Report;

/// See the module.
pub const SUITE: Suite = Suite {
    name: "calls",
    about: "cost of one call, by the number of calls made at a time",
    ops: &operations::OPS,
    run,
};

const BATCHES: [usize; 11] = [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024];

/// The largest batch for which the two ways to wait are compared.
const COMPARED: usize = 8;

/// How often the backends take turns if time is measured. Each turn has correspondingly
/// fewer samples.
const TURNS: usize = 5;

/// A measurement that takes turns: an operation, its backend and its batch.
type Way = (&'static str, Kind, usize);

fn run(options: &Options, report: &mut Report) -> io::Result<()> {
    let cpus = machine::cpus()?;
    let mut effort = options.effort;
    // Nothing disturbs exact counts.
    let turns = if effort.metric.varies() { TURNS } else { 1 };
    effort.samples = effort.samples.div_ceil(turns);
    let ways = ways(options);
    let name = |(op, kind, _): Way| (op, kind.name());
    let figures = by_turns(turns, &ways, name, |(op, kind, batch)| {
        let bench = Bench {
            kind,
            cpus: &cpus,
            effort,
        };
        apart(|| {
            if options.filter {
                allow_all()?;
            }
            if effort.mark {
                marker::begin_label(&[SUITE.name, op, kind.name()], &[cpus.len(), batch]);
            }
            bench.with_backend(op, batch)
        })
    });
    let measured = ways.into_iter().zip(figures);
    write_medians(
        report,
        &SUITE,
        effort.metric,
        cpus.len(),
        measured,
        |(op, kind, batch)| Of {
            op,
            backend: kind.name(),
            batch,
            unit: "per call",
        },
    )
}

/// All requested measurements. Those that are compared are adjacent.
fn ways(options: &Options) -> Vec<Way> {
    let mut ways = Vec::new();
    for &op in SUITE.ops.iter().filter(|op| options.wants(op)) {
        for &batch in options.batches_or(&BATCHES) {
            for kind in Kind::ALL.into_iter().filter(|&kind| options.uses(kind)) {
                // The two ways to wait differ by the same amount for every call.
                let compares = kind == Kind::FlexscIoctl && options.backends.is_empty();
                if !compares || op == "getppid" && batch <= COMPARED {
                    ways.push((op, kind, batch));
                }
            }
        }
    }
    ways
}

struct Bench<'a> {
    kind: Kind,
    cpus: &'a [usize],
    effort: Effort,
}

impl Bench<'_> {
    /// Makes a fresh backend with room for exactly this batch, on the first CPU.
    fn with_backend(&self, op: &str, batch: usize) -> io::Result<f64> {
        let here = &self.cpus[..1];
        let other = self.cpus.get(1).copied();
        match self.kind {
            Kind::Plain => {
                machine::bind(here)?;
                self.one(&mut Plain, op, batch)
            }
            Kind::FlexscInline | Kind::FlexscIoctl => {
                let by = match self.kind {
                    Kind::FlexscIoctl => By::WaiterByIoctl,
                    _ => By::Waiter,
                };
                let mut backend = Flexsc::new(batch, by)?;
                machine::bind(here)?;
                self.one(&mut backend, op, batch)
            }
            // The scheduler decides where the threads run.
            Kind::FlexscThread => self.one(&mut Flexsc::new(batch, By::Thread)?, op, batch),
            Kind::FlexscPoller => {
                let cpu = other.ok_or_else(|| io::Error::other("this needs a second CPU"))?;
                let mut backend = Flexsc::new(batch, By::Poller(cpu))?;
                machine::bind(here)?;
                self.one(&mut backend, op, batch)
            }
            Kind::Uring | Kind::UringDefer | Kind::UringSqpoll => {
                let mode = match self.kind {
                    Kind::Uring => Mode::Simple,
                    Kind::UringDefer => Mode::Defer,
                    _ => Mode::Sqpoll(other),
                };
                let mut backend = Uring::new(batch, mode)?;
                machine::bind(here)?;
                self.one(&mut backend, op, batch)
            }
        }
    }

    fn one(&self, backend: &mut impl Backend, op: &str, batch: usize) -> io::Result<f64> {
        operations::measure(self.effort, self.kind.is_uring(), backend, op, batch)
    }
}
