// SPDX-License-Identifier: MIT OR Apache-2.0
//! `flexsc`: checks and monitors FlexSC on a machine.

#![deny(unsafe_code)]

mod doctor;
mod out;
mod report;
mod stat;
mod ways;

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
}

fn main() -> ExitCode {
    let mut out = out::Out::new();
    let fine = match Options::parse().command {
        Command::Doctor => doctor::examine(&mut out),
        Command::Stat { pid } => stat::print(&mut out, pid),
    };
    if out.finish() && fine {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}
