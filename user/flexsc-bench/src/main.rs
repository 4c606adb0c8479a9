// SPDX-License-Identifier: MIT OR Apache-2.0
//! Measures system calls: plain, posted in syscall pages, and through io_uring,
//! with one source for all of them.

mod backend;
mod clock;
mod compare;
mod goals;
mod here;
mod html;
mod machine;
mod markdown;
mod marker;
mod model;
mod report;
mod request;
mod suite;
mod table;

use std::io;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

use backend::Kind;
use clock::{Effort, Metric};
use here::Here;
use report::Report;
use suite::{Options, SUITES};

/// Measures system calls: plain, posted in syscall pages, and through io_uring.
#[derive(Parser)]
#[command(name = "flexsc-bench", max_term_width = 90)]
struct Cli {
    #[command(subcommand)]
    command: Do,
}

#[derive(Subcommand)]
enum Do {
    /// List the suites, their operations and the backends
    List,
    /// Run a suite and print the figures as CSV
    Run(Run),
    /// Measure on this machine, without a virtual machine, and write CSV, meta file and report
    Here(Here),
    /// Show CSV files as tables with ratios
    Table {
        /// CSV files
        #[arg(required = true)]
        files: Vec<PathBuf>,
    },
    /// Put the figures into a document, between its marks
    Fill {
        /// CSV file; the meta file next to it is read as well
        csv: PathBuf,
        /// Document, such as docs/benchmarks.md
        document: PathBuf,
    },
    /// Make a report of CSV files: one file of HTML with plots, which needs no network
    Report {
        /// CSV files; the meta files next to them are read as well
        #[arg(required = true)]
        files: Vec<PathBuf>,
        /// The file to write
        #[arg(short, long, default_value = "report.html")]
        out: PathBuf,
    },
    /// Show what the counts of the processor model come to
    Model(model::Model),
    /// Show where two CSV files differ
    Diff {
        /// CSV file
        one: PathBuf,
        /// Other CSV file
        other: PathBuf,
    },
    /// Compare the figures of two revisions; fail if a count got worse
    Compare {
        /// CSV file of the first revision, with a row for each round
        one: PathBuf,
        /// CSV file of the second revision
        other: PathBuf,
        /// How much a count may grow, in percent
        #[arg(long, default_value_t = 1.0)]
        limit: f64,
    },
    #[command(hide = true)]
    OneEcho {
        op: String,
        way: String,
        connections: usize,
        #[arg(long)]
        metric: Metric,
    },
    #[command(hide = true)]
    OneBlocked {
        way: String,
        count: usize,
        #[arg(long)]
        metric: Metric,
    },
}

#[derive(Args)]
struct Run {
    /// Suite to run
    suite: String,
    /// Only these operations (separated by commas)
    #[arg(long, value_delimiter = ',')]
    ops: Vec<String>,
    /// Only these backends
    #[arg(long, value_delimiter = ',', value_parser = Kind::parse)]
    backends: Vec<Kind>,
    /// Only these numbers of calls at a time
    #[arg(long, value_delimiter = ',')]
    batches: Vec<usize>,
    /// Metric to measure
    #[arg(long, default_value = "ns")]
    metric: Metric,
    /// Number of samples, of which the median counts
    #[arg(long, default_value_t = 21)]
    samples: usize,
    /// Minimum number of calls in a sample
    #[arg(long, default_value_t = 1024)]
    calls: usize,
    /// Suite calls: under a seccomp filter that allows all calls
    #[arg(long)]
    filter: bool,
    /// Mark each measurement for the processor model; take one sample
    #[arg(long)]
    mark: bool,
    /// Name of the kernel in the CSV, for suites that compare kernels
    #[arg(long, default_value = "this")]
    label: String,
    /// Write the CSV to this file
    #[arg(long)]
    csv: Option<PathBuf>,
}

fn list() {
    println!("suites:");
    for suite in SUITES {
        println!("  {:<16} {}", suite.name, suite.about);
        println!("  {:<16} operations: {}", "", suite.ops.join(", "));
    }
    println!("backends:");
    for kind in Kind::ALL {
        println!("  {:<16} {}", kind.name(), kind.about());
    }
}

fn run(run: Run) -> io::Result<()> {
    let wanted = SUITES.into_iter().find(|suite| suite.name == run.suite);
    let Some(suite) = wanted else {
        return Err(io::Error::other(format!(
            "no suite '{}': see `flexsc-bench list`",
            run.suite
        )));
    };
    if let Some(op) = run.ops.iter().find(|op| !suite.ops.contains(&op.as_str())) {
        return Err(io::Error::other(format!(
            "the suite {} has no operation '{op}'",
            suite.name
        )));
    }
    if run.batches.contains(&0) || run.calls == 0 || run.samples == 0 {
        return Err(io::Error::other(
            "batches, calls and samples must be at least 1",
        ));
    }
    run.metric.open()?;
    if !machine::wait_until_idle()? {
        eprintln!("# the machine is busy: the figures are worse than they could be");
    }
    let options = Options {
        effort: Effort {
            metric: run.metric,
            samples: run.samples,
            calls: run.calls,
            mark: run.mark,
        },
        ops: run.ops,
        backends: run.backends,
        batches: run.batches,
        filter: run.filter,
        label: run.label,
    };
    let result = (suite.run)(&options, &mut Report::new(run.csv.as_deref())?);
    if run.mark {
        marker::pause();
    }
    result
}

fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Do::List => {
            list();
            Ok(())
        }
        Do::Run(what) => run(what),
        Do::Here(here) => here::run(&here),
        Do::Table { files } => table::show(&files),
        Do::Fill { csv, document } => markdown::fill(&csv, &document),
        Do::Report { files, out } => html::write(&files, &out),
        Do::Model(what) => model::show(&what),
        Do::Diff { one, other } => table::diff(&one, &other),
        Do::Compare { one, other, limit } => compare::show(&one, &other, limit),
        Do::OneEcho {
            op,
            way,
            connections,
            metric,
        } => suite::echo::one(&op, &way, connections, metric, &mut Report::part()),
        Do::OneBlocked { way, count, metric } => {
            suite::blocked::one(&way, count, metric, &mut Report::part())
        }
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("flexsc-bench: {why}");
            ExitCode::FAILURE
        }
    }
}
