// SPDX-License-Identifier: MIT OR Apache-2.0
//! The cost of a call by where it is executed: on the processor of the program, on others, or on
//! both. These are the settings of the papers' figures.

use std::io;

use flexsc::CpuSet;

use super::apart::apart;
use super::operations;
use super::{Of, Options, Suite, by_turns, write_medians};
use crate::backend::flexsc::{By, Flexsc, failed};
use crate::backend::plain::Plain;
use crate::clock::Effort;
use crate::machine;
use crate::report::Report;

/// See the module.
pub const SUITE: Suite = Suite {
    name: "cores",
    about: "cost of one call, by the processors that execute it and the number of calls at a time",
    ops: &["getppid", "pread64"],
    run,
};

const BATCHES: [usize; 6] = [1, 4, 16, 64, 256, 1024];

/// How often the ways take turns.
const TURNS: usize = 5;

/// The processors that execute the calls. The program is on the first one.
#[derive(Clone, Copy)]
enum Place {
    /// The program itself traps for each call.
    Plain,
    /// The waiting program.
    Waiter,
    /// Syscall threads on these of the processors.
    Threads(&'static [usize]),
    /// Pollers on these of the processors.
    Pollers(&'static [usize]),
}

const WAYS: [(&str, Place); 10] = [
    ("plain", Place::Plain),
    ("flexsc-inline", Place::Waiter),
    ("flexsc-same", Place::Threads(&[0])),
    ("flexsc-other", Place::Threads(&[1])),
    ("flexsc-same-other", Place::Threads(&[0, 1])),
    ("flexsc-others-2", Place::Threads(&[1, 2])),
    ("flexsc-others-3", Place::Threads(&[1, 2, 3])),
    ("flexsc-poller", Place::Pollers(&[1])),
    ("flexsc-pollers-2", Place::Pollers(&[1, 2])),
    ("flexsc-pollers-3", Place::Pollers(&[1, 2, 3])),
];

/// A measurement that takes turns: an operation, a place in [`WAYS`] and a batch.
type Way = (&'static str, usize, usize);

fn run(options: &Options, report: &mut Report) -> io::Result<()> {
    let cpus = machine::cpus()?;
    let mut effort = options.effort;
    effort.samples = effort.samples.div_ceil(TURNS);
    let mut ways = Vec::new();
    for &op in SUITE.ops.iter().filter(|op| options.wants(op)) {
        for &batch in options.batches_or(&BATCHES) {
            ways.extend((0..WAYS.len()).map(|way| (op, way, batch)));
        }
    }
    let name = |(op, way, _): Way| (op, WAYS[way].0);
    let figures = by_turns(TURNS, &ways, name, |way| apart(|| one(effort, &cpus, way)));
    let measured = ways.into_iter().zip(figures);
    write_medians(
        report,
        &SUITE,
        effort.metric,
        cpus.len(),
        measured,
        |(op, way, batch)| Of {
            op,
            backend: WAYS[way].0,
            batch,
            unit: "per call",
        },
    )
}

fn one(effort: Effort, cpus: &[usize], (op, way, batch): Way) -> io::Result<f64> {
    let mut backend = match WAYS[way].1 {
        Place::Plain => {
            machine::bind(&cpus[..1])?;
            return operations::measure(effort, false, &mut Plain, op, batch);
        }
        Place::Waiter => Flexsc::new(batch, By::Waiter)?,
        Place::Threads(places) => {
            let on = chosen(cpus, places)?;
            let backend = Flexsc::new(batch, By::Thread)?;
            backend.engine().set_pool_cpus(0, &on).map_err(failed)?;
            backend
        }
        Place::Pollers(places) => {
            let on = chosen(cpus, places)?;
            let backend = Flexsc::new(batch, By::Poller(cpus[places[0]]))?;
            backend.engine().set_poll_cpus(&on).map_err(failed)?;
            backend
        }
    };
    // Only now: the engine's threads run on the CPUs of the thread that opens it.
    machine::bind(&cpus[..1])?;
    operations::measure(effort, false, &mut backend, op, batch)
}

fn chosen(cpus: &[usize], places: &[usize]) -> io::Result<CpuSet> {
    let cpu = |&place: &usize| cpus.get(place).map(|&cpu| cpu as u16);
    let on: Option<Vec<_>> = places.iter().map(cpu).collect();
    let on = on.ok_or_else(|| io::Error::other("this needs more CPUs"))?;
    Ok(CpuSet::from_iter(on))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_processors_that_exist_are_chosen() {
        assert_eq!(chosen(&[3, 5], &[0, 1]).unwrap().to_string(), "3,5");
        assert!(chosen(&[3, 5], &[1, 2]).is_err());
    }
}
