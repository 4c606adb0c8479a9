// SPDX-License-Identifier: MIT OR Apache-2.0
//! The suites. Each answers one question and writes rows.

pub mod absent;
pub mod adaptive;
mod apart;
pub mod blocked;
pub mod calls;
pub mod chains;
pub mod cores;
pub mod echo;
mod filter;
pub mod footprint;
mod operations;
pub mod order;
pub mod pipeline;
pub mod program;
pub mod scale;

use std::fs;
use std::io;
use std::process;

use crate::backend::Kind;
use crate::clock::{Effort, Metric, Spread};
use crate::report::{HIGH, LOW, Report, Row};

/// What a suite should measure. Empty lists mean all.
#[derive(Clone, Debug)]
pub struct Options {
    /// What to count, and how often.
    pub effort: Effort,
    /// Names of operations.
    pub ops: Vec<String>,
    /// Ways to make calls.
    pub backends: Vec<Kind>,
    /// Calls at a time.
    pub batches: Vec<usize>,
    /// Make the calls under a seccomp filter that allows all.
    pub filter: bool,
    /// The name of the kernel, in the column `backend` of suites that compare kernels.
    pub label: String,
}

impl Options {
    /// Returns true if this operation is requested.
    #[must_use]
    pub fn wants(&self, op: &str) -> bool {
        self.ops.is_empty() || self.ops.iter().any(|wanted| wanted == op)
    }

    /// Returns the requested batches, or `all` if none is requested.
    #[must_use]
    pub fn batches_or<'a>(&'a self, all: &'a [usize]) -> &'a [usize] {
        if self.batches.is_empty() {
            all
        } else {
            &self.batches
        }
    }

    /// Returns true if this backend is requested.
    #[must_use]
    pub fn uses(&self, kind: Kind) -> bool {
        self.backends.is_empty() || self.backends.contains(&kind)
    }
}

/// A suite.
#[derive(Clone, Copy)]
pub struct Suite {
    /// The name on the command line and in the CSV.
    pub name: &'static str,
    /// For `list`.
    pub about: &'static str,
    /// Its operations.
    pub ops: &'static [&'static str],
    /// Runs the suite.
    pub run: fn(&Options, &mut Report) -> io::Result<()>,
}

/// All suites.
pub const SUITES: [Suite; 12] = [
    calls::SUITE,
    cores::SUITE,
    program::SUITE,
    pipeline::SUITE,
    chains::SUITE,
    order::SUITE,
    adaptive::SUITE,
    blocked::SUITE,
    echo::SUITE,
    scale::SUITE,
    absent::SUITE,
    footprint::SUITE,
];

/// Prints on stderr why figures are missing.
fn skip(what: &str, why: &dyn std::fmt::Display) {
    eprintln!("# without {what}: {why}");
}

/// Makes all these measurements in turns, this many times, so that a temporary disturbance
/// of the machine affects all of them. `name` returns operation and backend. If one fails, prints
/// the reason and leaves out all of the same operation and backend from then on.
fn by_turns<W: Copy, R>(
    turns: usize,
    ways: &[W],
    name: impl Fn(W) -> (&'static str, &'static str),
    mut measure: impl FnMut(W) -> io::Result<R>,
) -> Vec<Vec<R>> {
    let mut results: Vec<Vec<R>> = ways.iter().map(|_| Vec::with_capacity(turns)).collect();
    let (mut without, mut said) = (Vec::new(), Vec::new());
    let total = turns * ways.len();
    let mut done = 0;
    for _ in 0..turns {
        for (&way, results) in ways.iter().zip(&mut results) {
            // Ten times, so that the output takes no time. Not among counts that are made once: the
            // console would interrupt them.
            if turns > 1 && done > 0 && done % total.div_ceil(10) == 0 {
                eprintln!("# {done} of {total} measurements");
            }
            done += 1;
            let (op, backend) = name(way);
            if without.contains(&(op, backend)) {
                continue;
            }
            match measure(way) {
                Ok(result) => results.push(result),
                Err(why) => {
                    // A backend that does not work at all says so once.
                    let why = (backend, why.to_string());
                    if !said.contains(&why) {
                        skip(&format!("{op} by {backend}"), &why.1);
                        said.push(why);
                    }
                    without.push((op, backend));
                }
            }
        }
    }
    results
}

/// The subject of the figures.
struct Of {
    op: &'static str,
    backend: &'static str,
    batch: usize,
    unit: &'static str,
}

/// Writes the median and the quartiles of the measurements of each backend that has some.
fn write_medians<W: Copy>(
    report: &mut Report,
    suite: &Suite,
    metric: Metric,
    cpus: usize,
    measured: impl Iterator<Item = (W, Vec<f64>)>,
    of: impl Fn(W) -> Of,
) -> io::Result<()> {
    for (way, mut figures) in measured {
        if figures.is_empty() {
            continue;
        }
        let of = of(way);
        let row = Row {
            suite: suite.name.into(),
            op: of.op.into(),
            backend: of.backend.into(),
            cpus,
            batch: of.batch,
            metric: metric.name().into(),
            value: f64::NAN,
            unit: of.unit.into(),
        };
        write_spread(report, metric, row, Spread::of(&mut figures))?;
    }
    Ok(())
}

/// Writes a row with the median, and two with the quartiles unless the metric has none.
fn write_spread(report: &mut Report, metric: Metric, row: Row, spread: Spread) -> io::Result<()> {
    let quartiles = [(LOW, spread.low), (HIGH, spread.high)];
    report.row(&Row {
        value: spread.median,
        ..row.clone()
    })?;
    for (suffix, value) in quartiles.into_iter().filter(|_| metric.varies()) {
        report.row(&Row {
            metric: format!("{}{suffix}", row.metric),
            value,
            ..row.clone()
        })?;
    }
    Ok(())
}

/// A file in memory, which is removed when the value is dropped.
struct Fresh(String);

impl Fresh {
    fn new(text: &str) -> io::Result<Fresh> {
        let path = format!("/tmp/flexsc-bench.{}", process::id());
        fs::write(&path, text)?;
        Ok(Fresh(path))
    }

    fn path(&self) -> &str {
        &self.0
    }
}

impl Drop for Fresh {
    fn drop(&mut self) {
        // The file may already be gone.
        let _ = fs::remove_file(&self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_fails_is_left_out() {
        let ways = [("a", "good"), ("a", "bad"), ("b", "bad"), ("b", "good")];
        let mut tried = 0;
        let results = by_turns(
            3,
            &ways,
            |way| way,
            |way| {
                tried += 1;
                match way {
                    ("a", "bad") => Err(io::Error::other("no such operation")),
                    _ => Ok(()),
                }
            },
        );
        let counts: Vec<_> = results.iter().map(Vec::len).collect();
        assert_eq!((counts, tried), (vec![3, 0, 3, 3], 10));
    }
}
