// SPDX-License-Identifier: MIT OR Apache-2.0
//! Measures on the machine that this program runs on: all suites by the clock, and the calls by
//! the counters of the processor as well. Writes CSV, meta file and report.

use std::env;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use clap::{Args, ValueEnum};
use nix::sys::utsname::uname;

use crate::clock::Metric;
use crate::html;
use crate::machine;
use crate::report::{Report, Row};

/// What to measure here.
#[derive(Args)]
pub struct Here {
    /// Take fewer samples, of fewer batches
    #[arg(long)]
    quick: bool,
    /// Only these suites (separated by commas)
    #[arg(
        long,
        value_delimiter = ',',
        default_value = "calls,cores,pipeline,chains,order,adaptive,blocked,echo,scale"
    )]
    suites: Vec<String>,
    /// Only this metric: without it, ns of all suites, and what the processor counts of the calls
    #[arg(long)]
    metric: Option<Metric>,
    /// Name of the files
    #[arg(long, default_value = "here")]
    name: String,
    /// Directory of the files
    #[arg(long, default_value = ".")]
    to: PathBuf,
}

/// The suite that is measured with each metric.
const ALL_METRICS: &str = "calls";

/// One run of a suite.
#[derive(Clone, Debug, PartialEq)]
struct Step {
    suite: String,
    metric: Metric,
}

impl Here {
    fn steps(&self) -> Vec<Step> {
        let step = |suite: &String, metric| Step {
            suite: suite.clone(),
            metric,
        };
        let first = self.metric.unwrap_or(Metric::Ns);
        let mut steps: Vec<_> = self.suites.iter().map(|suite| step(suite, first)).collect();
        let counts_too = |suite: &&String| *suite == ALL_METRICS && self.metric.is_none();
        for suite in self.suites.iter().filter(counts_too) {
            let counted = Metric::value_variants().iter().copied();
            steps.extend(
                counted
                    .filter(|&metric| metric != Metric::Ns)
                    .map(|metric| step(suite, metric)),
            );
        }
        steps
    }

    /// The options of each run.
    fn effort(&self) -> &'static [&'static str] {
        if self.quick {
            &[
                "--samples",
                "11",
                "--calls",
                "512",
                "--batches",
                "1,8,64,1024",
            ]
        } else {
            &["--samples", "51", "--calls", "4096"]
        }
    }

    fn file(&self, ending: &str) -> PathBuf {
        self.to.join(format!("{}.{ending}", self.name))
    }
}

/// Suites whose batches are something else, and so are not chosen by `--quick`.
fn has_own_batches(suite: &str) -> bool {
    !matches!(suite, "calls" | "cores")
}

/// Measures, and writes the files.
///
/// # Errors
///
/// A file cannot be written, or nothing could be measured.
pub fn run(here: &Here) -> io::Result<()> {
    if !Path::new(flexsc::DEVICE).exists() {
        eprintln!(
            "# there is no {}: only other ways are measured; see `flexsc doctor`",
            flexsc::DEVICE
        );
    }
    fs::create_dir_all(&here.to)?;
    let steps = here.steps();
    let begun = Instant::now();
    let mut rows = Vec::new();
    for (done, step) in steps.iter().enumerate() {
        let left = time_left(begun.elapsed(), done, steps.len());
        eprintln!(
            "# {} of {}: {}, {}{left}",
            done + 1,
            steps.len(),
            step.suite,
            step.metric.name()
        );
        rows.extend(measure(here, step)?);
    }
    if rows.is_empty() {
        return Err(io::Error::other(
            "nothing could be measured: the reasons are above",
        ));
    }
    let csv = here.file("csv");
    let mut report = Report::new(Some(&csv))?;
    rows.iter().try_for_each(|row| report.row(row))?;
    fs::write(here.file("meta"), meta(here)?)?;
    let page = here.file("html");
    html::write(&[csv.clone()], &page)?;
    println!(
        "{}, {}, {}",
        csv.display(),
        here.file("meta").display(),
        page.display()
    );
    Ok(())
}

/// Estimates what is left from the steps so far, once there are some.
fn time_left(spent: Duration, done: usize, steps: usize) -> String {
    if done == 0 {
        return String::new();
    }
    let left = spent.as_secs_f64() * (steps - done) as f64 / done as f64;
    format!("; about {:.0} min left", (left / 60.0).ceil())
}

/// Runs a suite in a process of its own. One that fails has no rows, and has said why.
fn measure(here: &Here, step: &Step) -> io::Result<Vec<Row>> {
    let mut effort = here.effort();
    if has_own_batches(&step.suite) {
        effort = &effort[..4];
    }
    let output = Command::new(env::current_exe()?)
        .args(["run", &step.suite, "--metric", step.metric.name()])
        .args(effort)
        .stderr(std::process::Stdio::inherit())
        .output()?;
    let text = String::from_utf8_lossy(&output.stdout);
    let rows: Vec<_> = text.lines().filter_map(Row::parse).collect();
    if !output.status.success() && rows.is_empty() {
        eprintln!(
            "# without {}, {}: {}",
            step.suite,
            step.metric.name(),
            output.status
        );
    }
    Ok(rows)
}

/// The text of a file of the kernel, or a word for what is not there.
fn read(file: &str) -> String {
    fs::read_to_string(file).map_or("unknown".into(), |text| text.trim().to_owned())
}

/// Describes this machine.
fn meta(here: &Here) -> io::Result<String> {
    let names = uname()?;
    let name = |name: &std::ffi::OsStr| name.to_string_lossy().into_owned();
    let info = read("/proc/cpuinfo");
    let field = |key| {
        let line = info.lines().find(|line| line.starts_with(key));
        line.and_then(|line| line.split_once(": "))
            .map_or("", |(_, value)| value)
    };
    let cpus = machine::cpus()?.len();
    let inside = if field("flags").split(' ').any(|flag| flag == "hypervisor") {
        ", a virtual machine"
    } else {
        ""
    };
    let module: String = match Path::new(flexsc::DEVICE).exists() {
        true => "loaded".into(),
        false => "not loaded".into(),
    };
    let date = Command::new("date").args(["-u", "+%Y-%m-%d"]).output();
    let date = date.map_or("unknown".into(), |output| {
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    });
    let effort = here.effort().join(" ");
    let command: Vec<_> = env::args().skip(1).collect();
    let lines = [
        ("date", date),
        ("command", format!("flexsc-bench {}", command.join(" "))),
        ("program", env!("CARGO_PKG_VERSION").to_owned()),
        (
            "processor",
            format!("{}, {cpus} of its CPUs", field("model name")),
        ),
        ("microcode", field("microcode").to_owned()),
        ("mitigations", mitigations()),
        (
            "governor",
            read("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"),
        ),
        (
            "kernel",
            format!(
                "{} {} {}",
                name(names.sysname()),
                name(names.release()),
                name(names.version())
            ),
        ),
        ("module", module),
        ("load", read("/proc/loadavg")),
        (
            "machine for ns",
            format!("this machine, {cpus} CPU{inside}"),
        ),
        ("calls on one CPU", effort.clone()),
        ("calls on two CPUs", effort),
    ];
    Ok(lines
        .map(|(key, value)| format!("{key}: {value}\n"))
        .concat())
}

/// What the kernel does against flaws of the processor, as they make traps more expensive.
fn mitigations() -> String {
    let Ok(files) = fs::read_dir("/sys/devices/system/cpu/vulnerabilities") else {
        return "unknown".into();
    };
    let mut all: Vec<_> = files
        .flatten()
        .filter_map(|file| {
            let text = fs::read_to_string(file.path()).ok()?;
            let text = text.trim().to_owned();
            (text != "Not affected")
                .then(|| format!("{}: {text}", file.file_name().to_string_lossy()))
        })
        .collect();
    all.sort();
    if all.is_empty() {
        "none are needed".into()
    } else {
        all.join("; ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn here(suites: &[&str], metric: Option<Metric>) -> Here {
        Here {
            quick: true,
            suites: suites.iter().map(|&suite| suite.into()).collect(),
            metric,
            name: "here".into(),
            to: PathBuf::new(),
        }
    }

    #[test]
    fn calls_are_measured_with_all_metrics() {
        let steps = here(&["calls", "chains"], None).steps();
        assert_eq!(steps.len(), 1 + Metric::value_variants().len());
        assert_eq!(
            steps
                .iter()
                .filter(|step| step.metric == Metric::Ns)
                .count(),
            2
        );
        let steps = here(&["calls", "chains"], Some(Metric::Cycles)).steps();
        assert!(steps.iter().all(|step| step.metric == Metric::Cycles));
        assert_eq!(steps.len(), 2);
    }

    #[test]
    fn the_time_left_is_that_of_the_steps_left() {
        assert_eq!(time_left(Duration::from_secs(90), 0, 4), "");
        assert_eq!(
            time_left(Duration::from_secs(120), 1, 4),
            "; about 6 min left"
        );
        assert_eq!(
            time_left(Duration::from_secs(6), 3, 4),
            "; about 1 min left"
        );
    }

    #[test]
    fn the_machine_is_described() {
        let text = meta(&here(&[], None)).unwrap();
        for key in [
            "date",
            "command",
            "processor",
            "mitigations",
            "kernel",
            "machine for ns",
        ] {
            let value = text
                .lines()
                .find_map(|line| line.strip_prefix(key)?.strip_prefix(": "));
            assert!(
                value.is_some_and(|value| !value.is_empty()),
                "{key} in {text}"
            );
        }
    }
}
