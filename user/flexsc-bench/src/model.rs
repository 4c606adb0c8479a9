// SPDX-License-Identifier: MIT OR Apache-2.0
//! Shows what the counts of the processor model come to.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use clap::Args;
use flexsc_model::counts::{Count, Mode, Record};
use flexsc_model::params::{self, Processor};
use flexsc_model::report::{Result as Modelled, STRUCTURES, conclusions, of_processor};

use crate::report::{self, Report, Row};

/// Arguments of `flexsc-bench model`.
#[derive(Args)]
pub struct Model {
    /// CSV that the model's plugin has written
    counts: PathBuf,
    /// Parameters of the processors, with which the counts were made
    #[arg(long)]
    params: PathBuf,
    /// Only these processors
    #[arg(long, value_delimiter = ',')]
    processors: Vec<String>,
    /// Write all figures to this file, as CSV
    #[arg(long)]
    csv: Option<PathBuf>,
    /// Fail unless the plugin has counted as many instructions as this CSV of the same run has
    #[arg(long)]
    check: Option<PathBuf>,
    /// Show which comparisons hold if a parameter is halved or doubled
    #[arg(long)]
    sensitivity: bool,
}

/// The share by which the plugin's instructions may differ from the machine's clock. The plugin
/// counts a run of instructions as a whole even if an exception ends it early.
const TOLERANCE: f64 = 0.01;

/// Lines and translations that a call evicts: FlexSC (OSDI 2010), Table 1. Instructions, IPC, then L1
/// code, L1 data, L2, L3 and TLB of data.
const PAPER: [(&str, [f64; 7]); 5] = [
    ("stat", [4972.0, 0.37, 32.0, 186.0, 660.0, 2559.0, 21.0]),
    ("pread", [3739.0, 0.30, 32.0, 294.0, 679.0, 2160.0, 20.0]),
    ("pwrite", [5689.0, 0.18, 50.0, 373.0, 985.0, 3160.0, 44.0]),
    (
        "open-close",
        [6631.0, 0.34, 47.0, 240.0, 900.0, 3534.0, 28.0],
    ),
    (
        "mmap-munmap",
        [8977.0, 0.47, 41.0, 233.0, 869.0, 3913.0, 7.0],
    ),
];

/// Runs the command.
///
/// # Errors
///
/// A file cannot be read or written, or the check fails.
pub fn show(model: &Model) -> io::Result<()> {
    let text = read(&model.counts)?;
    let records: Vec<Record> = text.lines().filter_map(Record::parse).collect();
    if records.is_empty() {
        let file = model.counts.display();
        return Err(io::Error::other(format!("{file} has no counts")));
    }
    let params = read(&model.params)?;
    let mut processors = params::parse(&params)
        .map_err(|why| io::Error::other(format!("{}: {why}", model.params.display())))?;
    if let Some(unknown) = model
        .processors
        .iter()
        .find(|name| !processors.iter().any(|one| one.name == **name))
    {
        return Err(io::Error::other(format!("no processor '{unknown}'")));
    }
    processors.retain(|one| model.processors.is_empty() || model.processors.contains(&one.name));
    if let Some(check) = &model.check {
        let compared = agree(&records, &report::read(check)?).map_err(io::Error::other)?;
        println!("instructions agree with the machine's clock in {compared} regions");
    }
    if let Some(csv) = &model.csv {
        write(&records, &processors, csv)?;
    }
    for processor in &processors {
        let results = of_processor(&records, processor);
        println!("\n{}: {}", processor.name, processor.about);
        show_calls(&results);
        show_footprints(&results);
        if model.sensitivity {
            show_conclusions(&records, processor);
        }
    }
    Ok(())
}

fn read(file: &Path) -> io::Result<String> {
    fs::read_to_string(file).map_err(|why| io::Error::other(format!("{}: {why}", file.display())))
}

/// Compares the plugin's instructions with those that the program read from the machine's clock.
/// Returns the number of regions.
fn agree(records: &[Record], rows: &[Row]) -> Result<usize, String> {
    let mut compared = 0;
    for row in rows.iter().filter(|row| row.metric == "instructions") {
        let same = |record: &&Record| {
            let label = &record.label;
            (&label.suite, &label.op, &label.backend, label.batch)
                == (&row.suite, &row.op, &row.backend, row.batch)
        };
        let Some(first) = records.iter().find(same) else {
            continue;
        };
        let both = |record: &&Record| same(record) && record.variant == first.variant;
        let counted: u64 = records
            .iter()
            .filter(both)
            .map(|record| {
                record
                    .counts
                    .sum(&[Count::Instructions, Count::StringSteps])
            })
            .sum();
        let counted = counted as f64 / first.label.calls as f64;
        if (counted / row.value - 1.0).abs() > TOLERANCE {
            return Err(format!(
                "the plugin counted {counted:.1} instructions a call, the machine's clock {:.1}: {row}",
                row.value
            ));
        }
        compared += 1;
    }
    if compared == 0 {
        return Err("the two files have no measurement in common".into());
    }
    Ok(compared)
}

fn write(records: &[Record], processors: &[Processor], csv: &Path) -> io::Result<()> {
    let mut report = Report::new(Some(csv))?;
    for processor in processors {
        for result in of_processor(records, processor) {
            for (metric, value, unit) in result.figures() {
                let label = &result.label;
                report.row(&Row {
                    suite: format!("model-{}", processor.name),
                    op: label.op.clone(),
                    backend: label.backend.clone(),
                    cpus: label.cpus,
                    batch: label.batch,
                    metric,
                    value,
                    unit: unit.into(),
                })?;
            }
        }
    }
    Ok(())
}

/// Misses of both modes, per thousand instructions of both.
fn misses(result: &Modelled, structure: usize) -> f64 {
    let sum = |counts: &[Count]| -> u64 { result.counts.iter().map(|one| one.sum(counts)).sum() };
    let (_, counts) = STRUCTURES[structure];
    sum(counts) as f64 * 1000.0 / sum(&[Count::Instructions]).max(1) as f64
}

fn show_calls(results: &[Modelled]) {
    let calls = || {
        results
            .iter()
            .filter(|result| result.label.suite == "calls")
    };
    if calls().next().is_none() {
        return;
    }
    println!(
        "  {:<9} {:<15} {:>5} {:>7} {:>7} {:>6}   {:^17}   misses per 1000 instructions",
        "", "", "", "modelled", "of", "", "IPC"
    );
    print!(
        "  {:<9} {:<15} {:>5} {:>8} {:>7} {:>6}   {:>5} {:>5} {:>5}  ",
        "call", "backend", "batch", "cycles", "plain", "traps", "all", "user", "kern"
    );
    for (name, _) in STRUCTURES {
        print!(" {name:>6}");
    }
    println!();
    for result in calls() {
        let label = &result.label;
        let plain = calls().find(|other| {
            let other = &other.label;
            other.backend == "plain" && other.op == label.op && other.batch == label.batch
        });
        let ratio = plain.map_or(String::new(), |plain| {
            format!("{:.2}", result.cycles_per_call() / plain.cycles_per_call())
        });
        print!(
            "  {:<9} {:<15} {:>5} {:>8.0} {:>7} {:>6.2}   {:>5.2} {:>5.2} {:>5.2}  ",
            label.op,
            label.backend,
            label.batch,
            result.cycles_per_call(),
            ratio,
            result.per_call(Count::Syscalls),
            result.ipc(None),
            result.ipc(Some(Mode::User)),
            result.ipc(Some(Mode::Kernel)),
        );
        for structure in 0..STRUCTURES.len() {
            print!(" {:>6.2}", misses(result, structure));
        }
        println!();
    }
}

fn show_footprints(results: &[Modelled]) {
    let primed = |result: &&Modelled| result.label.suite == "footprint";
    if !results.iter().any(|result| primed(&result)) {
        return;
    }
    println!("  what one call evicts of a program that fills all caches (below: FlexSC, Table 1)");
    println!(
        "  {:<12} {:>12} {:>6} {:>8} {:>8} {:>8} {:>8} {:>8}",
        "call", "instructions", "IPC", "L1 code", "L1 data", "L2", "L3", "data TLB"
    );
    for result in results.iter().filter(primed) {
        let show = |name: &str, figures: [f64; 7]| {
            let [instructions, ipc, rest @ ..] = figures;
            print!("  {name:<12} {instructions:>12.0} {ipc:>6.2}");
            for evicted in rest {
                print!(" {evicted:>8.0}");
            }
            println!();
        };
        let op = result.label.op.as_str();
        let kernel = result.counts[Mode::Kernel as usize].get(Count::Instructions);
        show(
            op,
            [
                kernel as f64 / result.label.calls as f64,
                result.ipc(Some(Mode::Kernel)),
                result.per_call(Count::EvictedL1i),
                result.per_call(Count::EvictedL1d),
                result.per_call(Count::EvictedL2),
                result.per_call(Count::EvictedL3),
                result.per_call(Count::EvictedDtlb),
            ],
        );
        if let Some((_, figures)) = PAPER.iter().find(|(name, _)| *name == op) {
            show("  paper", *figures);
        }
    }
}

fn show_conclusions(records: &[Record], processor: &Processor) {
    println!("  cycles of one way through those of another, each parameter halved and doubled");
    println!(
        "  {:<9} {:<32} {:>5} {:>6} {:>14}  reversed by",
        "call", "ways", "batch", "ratio", "range"
    );
    for conclusion in conclusions(records, processor) {
        let (least, most) = conclusion.range;
        println!(
            "  {:<9} {:<32} {:>5} {:>6.2} {:>6.2} to {:<5.2}  {}",
            conclusion.op,
            format!("{} : {}", conclusion.way, conclusion.with),
            conclusion.batch,
            conclusion.ratio,
            least,
            most,
            match conclusion.reversed_by.as_slice() {
                [] => "nothing".to_owned(),
                all => all.join(", "),
            }
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use flexsc_model::counts::{Counts, Label};

    fn record(mode: Mode, count: Count, number: u64) -> Record {
        let mut counts = Counts::default();
        counts.add(count, number);
        Record {
            label: Label::parse("calls,getppid,plain,1,8,100").unwrap(),
            variant: "nehalem".into(),
            mode,
            counts,
        }
    }

    #[test]
    fn plugin_and_clock_must_agree() {
        // 300 instructions a call, some of them steps of string instructions.
        let records = [
            record(Mode::User, Count::Instructions, 10_000),
            record(Mode::Kernel, Count::StringSteps, 20_000),
        ];
        let clock = |value: &str| {
            let line = format!("calls,getppid,plain,1,8,instructions,{value},per call");
            agree(&records, &[Row::parse(&line).unwrap()])
        };
        assert_eq!(clock("300"), Ok(1));
        assert_eq!(clock("302"), Ok(1));
        assert!(clock("304").unwrap_err().contains("300.0"));
        assert!(clock("296").is_err());
        assert!(agree(&records, &[]).is_err());
    }
}
