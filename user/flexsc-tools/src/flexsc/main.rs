// SPDX-License-Identifier: MIT OR Apache-2.0
//! `flexsc`: checks and monitors FlexSC on a machine.

#![deny(unsafe_code)]

mod bench;
mod doctor;
mod engines;
mod filter;
mod json;
#[cfg(test)]
#[path = "../manual.rs"]
mod manual;
mod out;
mod report;
mod run;
mod stat;
mod trace;
mod ways;

use std::ffi::OsString;
use std::process::ExitCode;
use std::time::Duration;

use clap::{CommandFactory, Parser, Subcommand};
use clap_complete::Shell;

/// Checks and monitors FlexSC (exception-less system calls) on this machine.
#[derive(Parser)]
#[command(name = "flexsc", version)]
struct Options {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Check whether programs can use FlexSC here, and what to do if not
    Doctor,
    /// Print the counters of the engines of a process, or of all processes
    Stat {
        /// Process ID; without it, all processes
        #[arg(short, long)]
        pid: Option<u32>,
        /// Print a JSON object for each engine
        #[arg(long)]
        json: bool,
        /// Print a line for each engine every so many seconds: rates in a second, and numbers of threads
        #[arg(value_parser = seconds)]
        interval: Option<Duration>,
        /// Print so many times; without it, until interrupted
        count: Option<u64>,
    },
    /// Show the posted calls of a process, which strace does not see
    ///
    /// Needs root and tracefs. Without a process and a command, shows those of all processes.
    Trace {
        /// Process ID
        #[arg(short, long, conflicts_with = "command")]
        pid: Option<u32>,
        /// Print only a table: how often each call was made, its errors and its time
        #[arg(short = 'c', long)]
        summary: bool,
        /// Show strings such as paths, read from the process when its call has ended: they may have changed by then
        #[arg(short, long)]
        strings: bool,
        /// A program to run, and its arguments
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        command: Vec<OsString>,
    },
    /// Compare posted calls with plain ones and with io_uring: runs flexsc-bench
    ///
    /// "flexsc bench list" names the suites, "flexsc bench run" runs them.
    Bench {
        /// Arguments of flexsc-bench
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<OsString>,
    },
    /// Print the completions of a shell, to be sourced by it
    Completions {
        /// Shell
        shell: Shell,
    },
    /// Run an unmodified program under libflexsc_threads.so, which catches its system calls
    Run {
        /// Append to this file what is patched, and what not and why; "stderr" for standard error
        #[arg(long, value_name = "FILE")]
        log: Option<OsString>,
        /// Make the program's threads user-level threads on one thread of the kernel (experimental)
        #[arg(long)]
        user_threads: bool,
        /// Program
        program: OsString,
        /// Its arguments
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<OsString>,
    },
}

/// Parses a time in seconds, more than zero.
fn seconds(text: &str) -> Result<Duration, String> {
    let time = text
        .parse()
        .ok()
        .and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    time.filter(|time| !time.is_zero())
        .ok_or_else(|| "not a number of seconds".into())
}

fn main() -> ExitCode {
    let mut out = out::Out::new();
    let fine = match Options::parse().command {
        Command::Doctor => doctor::examine(&mut out),
        Command::Stat {
            pid,
            json,
            interval,
            count,
        } => {
            let options = stat::Options {
                pid,
                json,
                interval,
                count,
            };
            stat::print(&mut out, &options)
        }
        Command::Trace {
            pid,
            summary,
            strings,
            command,
        } => {
            let options = trace::Options {
                pid,
                command,
                summary,
                strings,
            };
            trace::trace(&mut out, &options)
        }
        Command::Bench { args } => return bench::run(&args),
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Options::command(), "flexsc", &mut script);
            out.line(format_args!(
                "{}",
                String::from_utf8_lossy(&script).trim_end()
            ));
            true
        }
        Command::Run {
            log,
            user_threads,
            program,
            args,
        } => {
            return run::run(&program, &args, log.as_deref(), user_threads);
        }
    };
    if out.finish() && fine {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_man_page_has_the_options() {
        manual::check(Options::command(), "flexsc.1");
    }
}
