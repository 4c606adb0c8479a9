// SPDX-License-Identifier: MIT OR Apache-2.0
//! Copies a directory tree through syscall pages, many files at a time; or the
//! same way with plain calls, to compare.

#![deny(unsafe_code)]

mod advance;
mod arena;
mod backend;
mod copier;
mod counts;
mod dents;
mod job;
#[cfg(test)]
mod tests;
mod verify;

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Parser;
use nix::fcntl::{FcntlArg, fcntl};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::stat::{Mode, umask};

use backend::{Backend, Flexsc, Plain};
use copier::Copier;
use counts::Counts;
use verify::Verdict;

/// Copies a directory tree: files, directories, symbolic links, permissions.
#[derive(Parser)]
#[command(version)]
struct Options {
    /// Directory to copy
    source: PathBuf,
    /// Copy; made if it is not there
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
    /// Files and directories in work at once [default: all the pages hold]
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=4096))]
    in_flight: Option<u32>,
    /// KiB to read and write at once
    #[arg(long, default_value_t = 32, value_parser = clap::value_parser!(u32).range(4..=1024))]
    buffer: u32,
    /// Mask of the CPUs that execute calls without being asked, 0: none
    #[arg(long, default_value = "0", value_parser = mask)]
    spin_cpus: u64,
    /// Do not copy: compare the two trees byte by byte
    #[arg(long)]
    verify: bool,
    /// Write the figures to this file, as key=value lines
    #[arg(long)]
    report: Option<PathBuf>,
    /// Show how far it is
    #[arg(long)]
    progress: bool,
}

/// A mask in the usual notations.
fn mask(text: &str) -> Result<u64, String> {
    let parsed = match text.strip_prefix("0x") {
        Some(hex) => u64::from_str_radix(hex, 16),
        None => text.parse(),
    };
    parsed.map_err(|_| "a number such as 2 or 0x2 is needed".to_owned())
}

fn main() -> ExitCode {
    let options = Options::parse();
    let done = if options.verify {
        verify(&options)
    } else {
        reserve_descriptors(&options);
        begin(&options)
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(why) => {
            eprintln!("flexsc-copy: {why}");
            ExitCode::FAILURE
        }
    }
}

/// Grows the table of descriptors to what the copy needs, while nobody shares
/// it: later, with syscall threads, each growth would wait for all of them.
fn reserve_descriptors(options: &Options) {
    let entries = options.pages * flexsc::abi::FLEXSC_PAGE_ENTRIES;
    let wanted = options.in_flight.unwrap_or(entries) as usize;
    let last = i32::try_from(2 * jobs(wanted)).unwrap_or(1024);
    // Where it fails the table grows when it has to.
    if let Ok(fd) = fcntl(std::io::stderr(), FcntlArg::F_DUPFD_CLOEXEC(last)) {
        let _ = nix::unistd::close(fd);
    }
}

/// Copies in the way that was asked for.
fn begin(options: &Options) -> Result<bool, String> {
    if options.plain {
        return copy(options, Plain::new(options.pages));
    }
    let backend = Flexsc::new(options.pages, options.spin_cpus)
        .map_err(|error| format!("{error}; or copy with --plain"))?;
    copy(options, backend)
}

/// Compares; says whether the trees are equal.
fn verify(options: &Options) -> Result<bool, String> {
    let verdict = Verdict::of(&options.source, &options.target)
        .map_err(|why| format!("cannot compare: {why}"))?;
    for difference in &verdict.differences {
        eprintln!("flexsc-copy: {difference}");
    }
    println!(
        "compared {} files, {} directories, {} links, {} bytes: {} differences",
        verdict.files,
        verdict.dirs,
        verdict.links,
        verdict.bytes,
        verdict.differences.len()
    );
    Ok(verdict.differences.is_empty())
}

/// How many jobs there may be: each needs two descriptors.
fn jobs(wanted: usize) -> usize {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap_or((1024, 1024));
    // Standard streams, engine, the two roots, and some to spare.
    let needed = 2 * wanted as u64 + 16;
    if soft >= needed {
        return wanted;
    }
    let have = needed.min(hard);
    let have = setrlimit(Resource::RLIMIT_NOFILE, have, hard).map_or(soft, |()| have);
    (have.saturating_sub(16) / 2) as usize
}

/// Copies; says whether all went well.
fn copy(options: &Options, backend: impl Backend) -> Result<bool, String> {
    let wanted = options
        .in_flight
        .map_or(backend.capacity() - 1, |jobs| jobs as usize);
    // The copy has the modes of the source.
    umask(Mode::empty());
    let data = options.buffer as usize * 1024;
    let (source, target) = (&options.source, &options.target);
    let mut copier = Copier::new(backend, source, target, jobs(wanted), data);
    if options.progress {
        copier.show_progress();
    }
    let start = Instant::now();
    copier.run().map_err(|failure| failure.to_string())?;
    let took = start.elapsed();
    let (backend, counts) = copier.finish();
    println!(
        "copied {} files, {} directories, {} links, {} bytes in {:.3} s: {} calls, {} waits",
        counts.files,
        counts.dirs,
        counts.links,
        counts.bytes,
        took.as_secs_f64(),
        counts.calls(),
        backend.waits()
    );
    if counts.errors > 0 {
        eprintln!("flexsc-copy: {} errors", counts.errors);
    }
    if let Some(path) = &options.report {
        let text = report(options, &backend, &counts, took)?;
        write_report(path, &text)?;
    }
    Ok(counts.errors == 0)
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
    fs::write(path, text)
        .map_err(|why| format!("cannot write the report {}: {why}", path.display()))
}
