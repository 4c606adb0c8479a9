// SPDX-License-Identifier: MIT OR Apache-2.0
//! Runs `flexsc` as a user would.

use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output, Stdio};

fn flexsc(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_flexsc"))
        .args(args)
        .output()
        .unwrap()
}

#[test]
fn doctor_names_each_problem_and_fails() {
    if Path::new(flexsc::DEVICE).exists() {
        return;
    }
    let output = flexsc(&["doctor"]);
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(1));
    for problem in ["FAIL module", "FAIL device", "FAIL open"] {
        let found = text.lines().find(|line| line.starts_with(problem));
        assert!(found.is_some(), "{problem} in {text}");
    }
    assert!(text.contains("insmod flexsc.ko"));
}

#[test]
fn stat_fails_where_there_is_nothing_to_show() {
    let pid = std::process::id().to_string();
    let output = flexsc(&["stat", "-p", &pid]);
    assert_eq!(output.status.code(), Some(1));
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(text.contains("has no engine open"), "{text}");
    for more in [&["--json"][..], &["0.1", "1"]] {
        let args = [&["stat", "-p", "4294967295"], more].concat();
        assert_eq!(flexsc(&args).status.code(), Some(1), "{args:?}");
    }
}

#[test]
fn an_interval_is_a_number_of_seconds() {
    for interval in ["0", "-1", "x", "1e300"] {
        let output = flexsc(&["stat", interval]);
        assert_eq!(output.status.code(), Some(2), "{interval}");
    }
}

#[test]
fn trace_says_what_is_missing() {
    if Path::new("/sys/kernel/tracing/events/flexsc").exists() {
        return;
    }
    let output = flexsc(&["trace", "true"]);
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(said.lines().count(), 1, "{said}");
    let output = flexsc(&["trace", "-p", "4294967295"]);
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("there is no process 4294967295"), "{said}");
    let both = flexsc(&["trace", "-p", "1", "true"]);
    assert_eq!(both.status.code(), Some(2));
}

#[test]
fn bench_runs_the_program_beside_it_or_says_what_is_missing() {
    let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join("bench");
    let _ = fs::remove_dir_all(&dir);
    fs::create_dir(&dir).unwrap();
    let program = dir.join("flexsc");
    fs::copy(env!("CARGO_BIN_EXE_flexsc"), &program).unwrap();
    let bench = || {
        let mut command = Command::new(&program);
        command.args(["bench", "list", "--some"]).env("PATH", "");
        command.output().unwrap()
    };
    let output = bench();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(127));
    assert!(
        said.contains("cargo build --release -p flexsc-bench"),
        "{said}"
    );
    // A script in place of the program.
    let script = dir.join("flexsc-bench");
    fs::write(&script, "#!/bin/sh\necho \"$*\"\nexit 7\n").unwrap();
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
    let output = bench();
    assert_eq!(output.status.code(), Some(7));
    assert_eq!(output.stdout, b"list --some\n");
}

#[test]
fn completions_know_the_commands() {
    for shell in ["bash", "zsh", "fish"] {
        let output = flexsc(&["completions", shell]);
        assert_eq!(output.status.code(), Some(0));
        let script = String::from_utf8(output.stdout).unwrap();
        for word in ["doctor", "stat", "trace", "bench", "json"] {
            assert!(script.contains(word), "{word} for {shell}");
        }
    }
    assert_eq!(flexsc(&["completions", "no-shell"]).status.code(), Some(2));
}

#[test]
fn a_full_standard_output_is_one_sentence() {
    let full = File::options().write(true).open("/dev/full").unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_flexsc"))
        .arg("doctor")
        .stdout(full)
        .stderr(Stdio::piped())
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(said.lines().count(), 1, "{said}");
    assert!(
        said.starts_with("flexsc: cannot write to standard output"),
        "{said}"
    );
}

#[test]
fn a_full_standard_error_is_no_panic() {
    let full = File::options().write(true).open("/dev/full").unwrap();
    let status = Command::new(env!("CARGO_BIN_EXE_flexsc"))
        .args(["stat", "-p", "4294967295"])
        .stderr(full)
        .status()
        .unwrap();
    assert_eq!(status.code(), Some(1));
}

#[test]
fn it_knows_its_name() {
    let output = flexsc(&["--version"]);
    assert!(output.stdout.starts_with(b"flexsc 0."), "{output:?}");
}

#[test]
fn bad_arguments_are_a_usage_error() {
    assert_eq!(flexsc(&["no-such-thing"]).status.code(), Some(2));
    assert_eq!(flexsc(&[]).status.code(), Some(2));
}
