// SPDX-License-Identifier: MIT OR Apache-2.0
//! Runs `flexsc run` as a user would.

use std::env;
use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;

fn dir() -> PathBuf {
    PathBuf::from(env!("CARGO_TARGET_TMPDIR"))
}

/// The library, as users build it.
fn library() -> &'static Path {
    static LIBRARY: OnceLock<PathBuf> = OnceLock::new();
    LIBRARY.get_or_init(|| {
        let target = dir().join("cargo-threads");
        let manifest = concat!(env!("CARGO_MANIFEST_DIR"), "/../flexsc-threads/Cargo.toml");
        let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let output = Command::new(cargo)
            .args([
                "build",
                "--locked",
                "--profile",
                "threads",
                "--manifest-path",
                manifest,
            ])
            .arg("--target-dir")
            .arg(&target)
            .env_remove("RUSTFLAGS")
            .output()
            .unwrap();
        assert!(output.status.success(), "{output:?}");
        target.join("threads/libflexsc_threads.so")
    })
}

fn flexsc_run(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_flexsc"));
    command
        .arg("run")
        .args(args)
        .env("FLEXSC_THREADS_LIBRARY", library())
        .env_remove("LD_PRELOAD")
        .env_remove("FLEXSC_THREADS")
        .env_remove("FLEXSC_THREADS_LOG");
    command
}

/// Runs a program with a log, and returns its output and the log.
fn with_log(name: &str, program: &[&str]) -> (Output, String) {
    let log = dir().join(format!("run-{name}-{}.log", std::process::id()));
    let _ = fs::remove_file(&log);
    let args = [&["--log", log.to_str().unwrap()], program].concat();
    let output = flexsc_run(&args).output().unwrap();
    let text = fs::read_to_string(&log).unwrap_or_default();
    let _ = fs::remove_file(&log);
    (output, text)
}

/// Does not use eprintln!, because the test harness captures its output.
fn skipped(why: &str) {
    let _ = writeln!(io::stderr(), "SKIPPED: {why}");
}

#[test]
fn a_program_gets_its_arguments_and_the_library() {
    let (output, log) = with_log("sh", &["sh", "-c", "echo $0 $1; exit 3", "a", "--log"]);
    assert_eq!(output.status.code(), Some(3));
    assert_eq!(output.stdout, b"a --log\n");
    assert!(log.contains("waiting for a thread"), "{log}");
    // Without being asked it says nothing.
    let output = flexsc_run(&["true"]).output().unwrap();
    assert!(
        output.status.success() && output.stderr.is_empty(),
        "{output:?}"
    );
}

#[test]
fn other_libraries_stay() {
    let output = flexsc_run(&["sh", "-c", "echo $LD_PRELOAD"])
        .env("LD_PRELOAD", "/no/other.so")
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let expected = format!("{}:/no/other.so\n", library().display());
    assert_eq!(text, expected);
}

#[test]
fn a_static_program_runs_as_it_is() {
    let source = dir().join("static.c");
    fs::write(&source, "int main(void) { return 4; }\n").unwrap();
    let program = dir().join("static-program");
    let compiled = Command::new("cc")
        .arg("-static")
        .arg(&source)
        .arg("-o")
        .arg(&program)
        .status();
    if !compiled.is_ok_and(|status| status.success()) {
        skipped("there is no compiler for static programs");
        return;
    }
    let (output, log) = with_log("static", &[program.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(4));
    assert_eq!(log.lines().count(), 1, "{log}");
    assert!(
        log.contains("runs as it is: it is linked statically"),
        "{log}"
    );
    // Also as the interpreter of a script.
    let script = dir().join("static-script");
    fs::write(&script, format!("#! {}\n", program.display())).unwrap();
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
    let (output, log) = with_log("script", &[script.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(4));
    assert!(log.contains("linked statically"), "{log}");
}

#[test]
fn a_program_with_rights_of_its_own_runs_as_it_is() {
    let program = dir().join("set-user-id");
    let _ = fs::remove_file(&program);
    fs::copy("/bin/true", &program).unwrap();
    if chown(&program, Some(65534), None).is_err() {
        skipped("only root can make a program of another user");
        return;
    }
    fs::set_permissions(&program, fs::Permissions::from_mode(0o4755)).unwrap();
    let (output, log) = with_log("rights", &[program.to_str().unwrap()]);
    assert!(output.status.success());
    assert_eq!(log.lines().count(), 1, "{log}");
    assert!(log.contains("it gets rights of its file"), "{log}");
}

#[test]
fn what_is_missing_is_said() {
    let output = flexsc_run(&["/does/not/exist"]).output().unwrap();
    assert_eq!(output.status.code(), Some(127));
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(
        text.starts_with("flexsc: cannot run /does/not/exist: "),
        "{text}"
    );
    let output = flexsc_run(&["true"])
        .env("FLEXSC_THREADS_LIBRARY", "/no/library.so")
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(125));
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(text.contains("which is no file"), "{text}");
    let output = flexsc_run(&["true"])
        .env_remove("FLEXSC_THREADS_LIBRARY")
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(125));
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(text.contains("--profile threads"), "{text}");
}

#[test]
fn user_threads_are_asked_for_by_an_option() {
    let script = ["sh", "-c", "echo $FLEXSC_THREADS"];
    let (output, _) = with_log("none", &script);
    assert_eq!(output.stdout, b"\n");
    let output = flexsc_run(&[&["--user-threads"][..], &script].concat())
        .output()
        .unwrap();
    assert_eq!(output.stdout, b"user\n");
}
