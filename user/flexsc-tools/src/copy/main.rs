// SPDX-License-Identifier: MIT OR Apache-2.0
//! Copies a directory tree through syscall pages, many files at a time, or with plain calls
//! for comparison.

#![deny(unsafe_code)]

mod advance;
mod arena;
mod attributes;
mod backend;
mod call;
mod complaint;
mod content;
mod copier;
mod counts;
mod dents;
mod directory;
mod interrupt;
mod job;
mod last;
mod limits;
mod links;
#[cfg(test)]
#[path = "../manual.rs"]
mod manual;
mod meta;
mod node;
mod roots;
#[cfg(test)]
mod tests;
mod verify;

use std::fmt::Write as _;
use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::{CommandFactory, FromArgMatches, Parser};
use clap_complete::Shell;
use nix::errno::Errno;
use nix::sys::stat::{Mode, umask};

use backend::{Backend, Flexsc, Plain};
use complaint::{complain, io_error, reason, say, shown_path};
use copier::{Copier, Stop};
use counts::Counts;
use roots::Roots;
use verify::Verdict;

/// Copies a directory tree: files of all types, with permissions, owners, times, extended
/// attributes, hard links and holes, like "cp -aT".
///
/// An existing file in the target is replaced if it has the same type and is not read-only.
/// Files that are not in the source are kept.
#[derive(Parser)]
#[command(name = "flexsc-copy", version)]
struct Options {
    /// Directory to copy
    source: PathBuf,
    /// The copy itself, not a directory to put it into; created if it does not exist
    target: PathBuf,
    /// Make plain system calls
    #[arg(long, conflicts_with = "flexsc")]
    plain: bool,
    /// Make the calls through syscall pages (default)
    #[arg(long)]
    flexsc: bool,
    /// Syscall pages, of 64 calls each
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..=64))]
    pages: u32,
    /// Files and directories to work on at once [default: as many as the pages hold]
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=4096))]
    in_flight: Option<u32>,
    /// Size of reads and writes in KiB
    #[arg(long, default_value_t = 32, value_parser = clap::value_parser!(u32).range(4..=1024))]
    buffer: u32,
    /// CPUs whose pollers execute the calls, such as 1,3 [default: none]
    #[arg(long, value_name = "CPU", value_delimiter = ',')]
    poll_cpus: Vec<u16>,
    /// Do not copy, but compare the two trees: bytes and everything that is copied, except
    /// access times and holes
    ///
    /// Reports differences of content, type, permissions, owner, modification time, device
    /// number, target of a symbolic link, extended attributes, and of the names that are links
    /// to one file; and files that are missing, that are only in the target, or that could not
    /// be read. Reading changes access times.
    #[arg(long)]
    verify: bool,
    /// Write the figures to this file, as key=value lines
    #[arg(long)]
    report: Option<PathBuf>,
    /// Show progress
    #[arg(long)]
    progress: bool,
    /// Print the completions of a shell, to be sourced by it, and do nothing else
    #[arg(long, value_name = "SHELL", exclusive = true)]
    completions: Option<Shell>,
}

impl Options {
    /// Parses the command line. Completions need no other argument: returns their shell.
    fn from_command_line() -> Result<Result<Self, Shell>, clap::Error> {
        let mut matches = Options::command().try_get_matches()?;
        if let Some(shell) = matches.get_one("completions") {
            return Ok(Err(*shell));
        }
        Options::from_arg_matches_mut(&mut matches).map(Ok)
    }
}

/// Prints the completions of a shell.
fn complete(shell: Shell) -> ExitCode {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Options::command(), "flexsc-copy", &mut script);
    match io::stdout().write_all(&script) {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            let why = io_error(&why);
            complain(&format_args!("cannot write to the standard output: {why}"));
            ExitCode::FAILURE
        }
    }
}

fn main() -> ExitCode {
    let options = match Options::from_command_line() {
        Ok(Ok(options)) => options,
        Ok(Err(shell)) => return complete(shell),
        Err(usage) => {
            let code = u8::try_from(usage.exit_code()).unwrap_or(2);
            // Help that was requested, or a usage error.
            return match usage.print() {
                Err(why) if !usage.use_stderr() => {
                    let why = io_error(&why);
                    complain(&format_args!("cannot write to the standard output: {why}"));
                    ExitCode::FAILURE
                }
                _ => code.into(),
            };
        }
    };
    let done = if options.verify {
        limits::reserve(0);
        verify(&options)
    } else {
        begin(&options)
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(why) => {
            complain(&why);
            ExitCode::FAILURE
        }
    }
}

/// Copies with the requested backend.
fn begin(options: &Options) -> Result<bool, String> {
    if options.plain {
        return copy(options, Plain::new(options.pages));
    }
    // Before syscall threads share the descriptor table.
    let entries = options.pages * flexsc::abi::FLEXSC_PAGE_ENTRIES;
    limits::reserve(options.in_flight.unwrap_or(entries) as usize);
    let backend = Flexsc::new(options.pages, &options.poll_cpus.iter().copied().collect())
        .map_err(|error| format!("{error}; or copy with --plain"))?;
    copy(options, backend)
}

/// Compares the trees. Returns true if they are equal.
fn verify(options: &Options) -> Result<bool, String> {
    let verdict = Verdict::of(&options.source, &options.target)?;
    for difference in &verdict.differences {
        complain(difference);
    }
    let special = extra(verdict.special, "special files");
    say(&format_args!(
        "compared {} files, {} directories, {} links{special}, {} bytes: {} differences",
        verdict.files,
        verdict.dirs,
        verdict.links,
        verdict.bytes,
        verdict.differences.len()
    ))?;
    Ok(verdict.differences.is_empty())
}

/// Formats an element of a list, if the count is not zero.
fn extra(count: u64, what: &str) -> String {
    match count {
        0 => String::new(),
        _ => format!(", {count} {what}"),
    }
}

/// Copies the tree. Returns true if everything was copied.
fn copy(options: &Options, backend: impl Backend) -> Result<bool, String> {
    let wanted = options
        .in_flight
        .map_or(backend.capacity() - 1, |jobs| jobs as usize);
    let limits = limits::reserve(wanted);
    // The copy gets the modes of the source.
    let mask = umask(Mode::empty());
    let roots = Roots::open(&options.source, &options.target)?;
    interrupt::note_signals();
    let data = options.buffer as usize * 1024;
    let (source, target) = (&options.source, &options.target);
    let mut copier = Copier::new(backend, source, target, limits, data);
    if options.progress {
        copier.show_progress();
    }
    let start = Instant::now();
    let stopped = copier.run(roots);
    let took = start.elapsed();
    umask(mask);
    let (backend, counts) = copier.finish();
    let stopped = stopped.map_err(|error| {
        format!("{error}; the copy is not complete: run it again, or with --plain")
    })?;
    if let Some(Stop::Signal(signal)) = stopped {
        complain(&format_args!(
            "interrupted: the copy is not complete, but its files are; run it again"
        ));
        interrupt::end_by(signal);
        return Ok(false);
    }
    tell_errors(stopped, &counts);
    notes(&counts);
    if let Some(path) = &options.report {
        let text = report(options, &backend, &counts, took)?;
        write_report(path, &text)?;
    }
    say(&format_args!(
        "copied {} files, {} directories, {} links{}{}, {} bytes in {:.3} s: {} calls, {} waits",
        counts.files,
        counts.dirs,
        counts.links,
        extra(counts.hard_links, "hard links"),
        extra(counts.special, "special files"),
        counts.bytes,
        took.as_secs_f64(),
        counts.calls(),
        backend.waits()
    ))?;
    Ok(counts.errors == 0 && stopped.is_none())
}

/// Explains what the errors mean for the whole copy.
fn tell_errors(stopped: Option<Stop>, counts: &Counts) {
    if let Some(Stop::Full(errno)) = stopped {
        let make = match errno {
            Errno::EROFS => "make it writable",
            _ => "make room",
        };
        complain(&format_args!(
            "stopped ({}): the copy is not complete, but its files are; {make} and run it again",
            reason(errno)
        ));
    } else if counts.errors > 0 {
        complain(&format_args!(
            "errors: {}; the files named above were not copied, all others were",
            counts.errors
        ));
    }
}

/// Mentions what only root could have copied. This is not an error.
fn notes(counts: &Counts) {
    if counts.kept_owner > 0 {
        complain(&format_args!(
            "note: {} files belong to you in the copy, because only root can give files away",
            counts.kept_owner
        ));
    }
    if counts.attributes_left > 0 {
        complain(&format_args!(
            "note: {} security or system attributes were left out, because they cannot be set there",
            counts.attributes_left
        ));
    }
}

fn report(
    options: &Options,
    backend: &impl Backend,
    counts: &Counts,
    took: Duration,
) -> Result<String, String> {
    let mut out = String::with_capacity(2048);
    let mode = if options.plain { "plain" } else { "flexsc" };
    let stats = backend.stats().map_err(|error| error.to_string())?;
    let written = (|| {
        writeln!(out, "mode={mode}")?;
        writeln!(out, "pages={}", options.pages)?;
        writeln!(out, "seconds={:.6}", took.as_secs_f64())?;
        counts.report(&mut out)?;
        writeln!(out, "waits={}", backend.waits())?;
        writeln!(out, "fallbacks={}", backend.fallbacks())?;
        for (name, value) in stats.iter().flat_map(flexsc::Stats::fields) {
            writeln!(out, "engine_{name}={value}")?;
        }
        Ok(())
    })();
    written
        .map(|()| out)
        .map_err(|_: std::fmt::Error| "cannot write the report".to_owned())
}

fn write_report(path: &Path, text: &str) -> Result<(), String> {
    fs::write(path, text).map_err(|why| {
        let (path, why) = (shown_path(path), io_error(&why));
        format!("cannot write the report {path}: {why}")
    })
}
