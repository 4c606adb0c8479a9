// SPDX-License-Identifier: MIT OR Apache-2.0
//! Builds the library and the programs in C, and runs programs with and without the library.

use std::env;
use std::ffi::OsStr;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

/// A directory for the files that the tests make.
fn dir() -> PathBuf {
    PathBuf::from(env!("CARGO_TARGET_TMPDIR"))
}

fn succeed(command: &mut Command) {
    let output = command.output().expect("the command runs");
    assert!(
        output.status.success(),
        "{command:?}:\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

/// The library, as users build it.
pub fn library() -> &'static Path {
    static LIBRARY: OnceLock<PathBuf> = OnceLock::new();
    LIBRARY.get_or_init(|| {
        let target = dir().join("cargo-threads");
        let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        succeed(
            Command::new(cargo)
                .args(["build", "--locked", "--profile", "threads", "--target-dir"])
                .arg(&target)
                .args([
                    "--manifest-path",
                    concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml"),
                ])
                .env_remove("RUSTFLAGS"),
        );
        target.join("threads/libflexsc_threads.so")
    })
}

/// Compiles a source of `tests/programs`; None, and a line, if there is no compiler.
pub fn compile(source: &str, args: &[&str]) -> Option<PathBuf> {
    let source = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/programs")
        .join(source);
    let compiler = match source.extension() {
        Some(end) if end == "cc" => "c++",
        _ => "cc",
    };
    if Command::new(compiler).arg("--version").output().is_err() {
        skipped(&format!("{} needs {compiler}", source.display()));
        return None;
    }
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let number = NUMBER.fetch_add(1, Relaxed);
    // The next run of the tests replaces it.
    let program = dir().join(format!("program-{number}"));
    succeed(
        Command::new(compiler)
            .args(["-O2", "-g", "-Wall", "-Wextra", "-Werror", "-pthread"])
            .arg(source)
            .args(args)
            .arg("-o")
            .arg(&program),
    );
    Some(program)
}

/// Says what is not tested, and why; not with eprintln!, because the test harness
/// captures its output.
pub fn skipped(why: &str) {
    let _ = writeln!(io::stderr(), "SKIPPED: {why}");
}

/// The log of one run.
pub struct Log(PathBuf);

impl Log {
    pub fn new() -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Relaxed);
        let path = dir().join(format!("log-{}-{number}", std::process::id()));
        let _ = fs::remove_file(&path);
        Log(path)
    }

    pub fn path(&self) -> &Path {
        &self.0
    }

    pub fn text(&self) -> String {
        fs::read_to_string(&self.0).unwrap_or_default()
    }

    /// The line that contains `part`.
    #[track_caller]
    pub fn line(&self, part: &str) -> String {
        let text = self.text();
        let line = text.lines().find(|line| line.contains(part));
        line.unwrap_or_else(|| panic!("no {part} in the log:\n{text}"))
            .to_owned()
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

/// Makes the library part of a command, with a log.
pub fn under(command: &mut Command, log: &Log) {
    command
        .env("LD_PRELOAD", library())
        .env_remove("FLEXSC_THREADS")
        .env("FLEXSC_THREADS_LOG", log.path());
}

/// As `under`, with user-level threads.
pub fn under_user(command: &mut Command, log: &Log) {
    under(command, log);
    command.env("FLEXSC_THREADS", "user");
}

pub fn command<P: AsRef<OsStr>>(program: P, args: &[&str]) -> Command {
    let mut command = Command::new(program);
    command.args(args).env_remove("LD_PRELOAD");
    command
}

/// Runs a program natively and under the library. Both must print the same, and end in the same way.
/// Returns the library's log.
#[track_caller]
pub fn same<P: AsRef<OsStr>>(program: P, args: &[&str]) -> Log {
    same_as(program, args, under)
}

/// As `same`; `how` makes the library part of a command.
#[track_caller]
pub fn same_as<P: AsRef<OsStr>>(program: P, args: &[&str], how: fn(&mut Command, &Log)) -> Log {
    let log = Log::new();
    let native = command(&program, args).output().expect("it runs");
    let mut ours = command(&program, args);
    how(&mut ours, &log);
    let ours = ours.output().expect("it runs");
    let text = |output: &Output| {
        format!(
            "{}\n--- stderr\n{}\n--- {}",
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr),
            output.status
        )
    };
    let (native, ours) = (text(&native), text(&ours));
    assert!(
        native == ours,
        "natively:\n{native}\nunder the library:\n{ours}\nlog:\n{}",
        log.text()
    );
    log
}

/// Programs that the tests themselves build must not fail at all.
#[track_caller]
pub fn same_and_good<P: AsRef<OsStr>>(program: P, args: &[&str]) -> Log {
    let native = command(&program, args).output().expect("it runs");
    assert!(
        native.status.success(),
        "natively: {}\n{}",
        native.status,
        String::from_utf8_lossy(&native.stdout)
    );
    same(program, args)
}
