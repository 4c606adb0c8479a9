// SPDX-License-Identifier: MIT OR Apache-2.0
//! `flexsc`: checks and monitors FlexSC on a machine.

#![deny(unsafe_code)]

mod doctor;
mod filter;
mod out;
mod report;
mod run;
mod stat;
mod ways;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Checks and monitors FlexSC (exception-less system calls) on this machine.
#[derive(Parser)]
#[command(version)]
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
        /// Process ID
        pid: Option<u32>,
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

fn main() -> ExitCode {
    let mut out = out::Out::new();
    let fine = match Options::parse().command {
        Command::Doctor => doctor::examine(&mut out),
        Command::Stat { pid } => stat::print(&mut out, pid),
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
