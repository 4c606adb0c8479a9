// SPDX-License-Identifier: MIT OR Apache-2.0
//! Where figures come from: a CSV file and the meta file beside it.

use std::fmt;
use std::fs;
use std::io;
use std::path::Path;

use maud::{Markup, html};

use crate::report::{self, Row};

/// How a figure was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum How {
    /// Counted by an emulator, a processor or the kernel.
    Counted,
    /// Read from a clock.
    Timed,
    /// Calculated from counts by a model.
    Modelled,
}

impl fmt::Display for How {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            How::Counted => "counted",
            How::Timed => "timed",
            How::Modelled => "modelled",
        })
    }
}

/// A CSV file.
#[derive(Debug)]
pub struct Source {
    /// The name of the file.
    pub name: String,
    /// Its rows.
    pub rows: Vec<Row>,
    /// Keys and values of the meta file, which is empty if there is none.
    meta: Vec<(String, String)>,
}

impl Source {
    /// Reads a CSV file and the meta file beside it, if there is one.
    ///
    /// # Errors
    ///
    /// The CSV file cannot be read.
    pub fn read(file: &Path) -> io::Result<Source> {
        let meta = fs::read_to_string(file.with_extension("meta")).unwrap_or_default();
        let pairs = meta.lines().filter_map(|line| line.split_once(": "));
        let name = file.file_name().unwrap_or_default();
        Ok(Source {
            name: name.to_string_lossy().into_owned(),
            rows: report::read(file)?,
            meta: pairs
                .map(|(key, value)| (key.to_owned(), value.to_owned()))
                .collect(),
        })
    }

    /// Returns a value of the meta file.
    #[must_use]
    pub fn meta(&self, key: &str) -> Option<&str> {
        let pair = self.meta.iter().find(|(found, _)| found == key);
        pair.map(|(_, value)| value.as_str())
    }

    /// Returns how figures of this suite and metric were made.
    #[must_use]
    pub fn how(&self, suite: &str, metric: &str) -> How {
        let modelled = |text: &str| text.starts_with("model");
        if self.meta("figures").is_some_and(modelled) || modelled(&self.name) || modelled(suite) {
            How::Modelled
        } else if is_time(metric) {
            How::Timed
        } else {
            How::Counted
        }
    }

    /// Says in a sentence what made figures of this suite and metric.
    #[must_use]
    pub fn made_by(&self, suite: &str, metric: &str) -> String {
        let machine = |key| self.meta(key).unwrap_or("a machine that is not named");
        match self.how(suite, metric) {
            How::Modelled => "Calculated by a model of a processor; not a measurement.".into(),
            How::Timed => {
                let machine = machine("machine for ns");
                let emulated = if machine.contains("tcg") {
                    " This processor is emulated: ratios are hints, and the times say nothing about \
                     hardware."
                } else {
                    ""
                };
                format!("By the monotonic clock of {machine}.{emulated}")
            }
            How::Counted if metric.starts_with("memory") || metric.starts_with("switches") => {
                "By the kernel, for the whole machine.".into()
            }
            How::Counted if metric == "waits" => "By the program.".into(),
            How::Counted => match self.meta("machine for instructions") {
                Some(machine) if machine.contains("icount") && metric == "instructions" => format!(
                    "By the emulator, each instruction of program and kernel: {machine}. Caches, \
                     pipelines and the cost of a mode switch are not in these figures."
                ),
                _ => {
                    "By the counters of the processor (perf_event_open(2)), for all threads.".into()
                }
            },
        }
    }

    /// Returns the command that measures this suite, as the meta file has it.
    #[must_use]
    pub fn command(&self, suite: &str, metric: &str, cpus: usize) -> String {
        if self.how(suite, metric) == How::Modelled {
            // Its suites are processors.
            return self.meta("command").unwrap_or("make model").to_owned();
        }
        let effort = match (suite, cpus) {
            ("absent", _) => self.meta("calls for absent"),
            (_, 1) => self.meta("calls on one CPU"),
            _ => self.meta("calls on two CPUs"),
        };
        let metric = if is_time(metric) { "ns" } else { metric };
        let metric = match suite {
            "blocked" | "adaptive" => "ns",
            _ => metric,
        };
        let effort = effort.map(|text| format!(" {text}")).unwrap_or_default();
        format!("flexsc-bench run {suite} --metric {metric}{effort}")
    }

    /// Returns the meta file as a table.
    #[must_use]
    pub fn table(&self) -> Markup {
        html! {
            details open[self.meta.len() < 30] {
                summary { "Origin of " (self.name) ": " (self.rows.len()) " figures" }
                @if self.meta.is_empty() {
                    p { "There is no meta file: machine, kernel and commit are not known." }
                }
                table {
                    @for (key, value) in &self.meta {
                        tr { td.text { (key) } td.text { (value) } }
                    }
                }
            }
        }
    }
}

fn is_time(metric: &str) -> bool {
    matches!(metric, "ns" | "delay-low" | "ns-high")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(name: &str, meta: &[(&str, &str)]) -> Source {
        let pair = |&(key, value): &(&str, &str)| (key.to_owned(), value.to_owned());
        Source {
            name: name.into(),
            rows: Vec::new(),
            meta: meta.iter().map(pair).collect(),
        }
    }

    #[test]
    fn a_model_is_never_called_a_measurement() {
        let here = source("quick.csv", &[]);
        assert_eq!(here.how("calls", "instructions"), How::Counted);
        assert_eq!(here.how("calls", "ns"), How::Timed);
        let models = [
            here.how("model", "cycles"),
            source("model.csv", &[]).how("calls", "ns"),
            source("x.csv", &[("figures", "modelled")]).how("calls", "instructions"),
        ];
        assert_eq!(models, [How::Modelled; 3]);
    }

    #[test]
    fn the_command_is_that_of_the_figure() {
        let here = source("a.csv", &[("calls on one CPU", "--samples 3")]);
        let command = here.command("calls", "instructions", 1);
        assert_eq!(
            command,
            "flexsc-bench run calls --metric instructions --samples 3"
        );
        let command = here.command("adaptive", "waits", 2);
        assert_eq!(command, "flexsc-bench run adaptive --metric ns");
        let model = source("model.csv", &[]);
        assert_eq!(model.command("nehalem", "cycles", 1), "make model");
    }

    #[test]
    fn emulated_times_say_so() {
        let emulated = source("a.csv", &[("machine for ns", "2 CPU, 2G, tcg")]);
        assert!(emulated.made_by("calls", "ns").contains("emulated"));
        let real = source("a.csv", &[("machine for ns", "this machine, 8 CPU")]);
        assert!(!real.made_by("calls", "ns").contains("emulated"));
        assert!(
            real.made_by("calls", "instructions")
                .contains("perf_event_open")
        );
    }
}
