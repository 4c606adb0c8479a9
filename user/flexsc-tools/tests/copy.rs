// SPDX-License-Identifier: MIT OR Apache-2.0
//! Runs `flexsc-copy` as a user would.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// The program next to the directory of the tests. (The name of cargo's variable does not
/// survive a compiler behind a shell script.)
fn program() -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let dir = test.ancestors().nth(2).unwrap();
    dir.join("flexsc-copy")
}

fn run(args: &[&str], dirs: &[&Path]) -> Output {
    Command::new(program())
        .args(args)
        .args(dirs)
        .output()
        .unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn a_plain_copy_and_its_verification() {
    let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join("plain");
    let _ = fs::remove_dir_all(&dir);
    let (source, target, report) = (dir.join("a"), dir.join("b"), dir.join("report"));
    fs::create_dir_all(source.join("sub")).unwrap();
    fs::write(source.join("sub/file"), vec![7; 100_000]).unwrap();

    let report_arg = report.to_str().unwrap();
    let args = ["--plain", "--progress", "--report", report_arg];
    let copied = run(&args, &[&source, &target]);
    assert!(copied.status.success(), "{}", stderr(&copied));
    let text = fs::read_to_string(&report).unwrap();
    for line in [
        "mode=plain",
        "files=1",
        "dirs=2",
        "bytes=100000",
        "errors=0",
    ] {
        assert!(text.lines().any(|have| have == line), "{line} in {text}");
    }

    let same = run(&["--verify"], &[&source, &target]);
    assert!(same.status.success(), "{}", stderr(&same));

    let mut bytes = fs::read(target.join("sub/file")).unwrap();
    bytes[99_999] ^= 1;
    fs::write(target.join("sub/file"), bytes).unwrap();
    let differs = run(&["--verify"], &[&source, &target]);
    assert!(!differs.status.success());
    assert!(stderr(&differs).contains("from byte 99999 on"));
}

#[test]
fn completions_need_no_directories() {
    for shell in ["bash", "zsh", "fish"] {
        let output = run(&["--completions", shell], &[]);
        assert!(output.status.success(), "{}", stderr(&output));
        let script = String::from_utf8(output.stdout).unwrap();
        assert!(script.contains("in-flight"), "{shell}");
    }
    let dir = Path::new(".");
    for (args, dirs) in [
        (&["--completions", "no-shell"][..], &[][..]),
        (&["--completions", "bash", "--plain"], &[]),
        (&["--completions", "bash"], &[dir, dir]),
        (&["--plain"], &[dir]),
    ] {
        assert_eq!(run(args, dirs).status.code(), Some(2), "{args:?}");
    }
}

#[test]
fn without_the_module_it_says_what_to_do() {
    if Path::new(flexsc::DEVICE).exists() {
        return;
    }
    let dir = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let output = run(&[], &[dir, &dir.join("never")]);
    assert!(!output.status.success());
    assert!(stderr(&output).contains("insmod flexsc.ko"));
    assert!(stderr(&output).contains("--plain"));
}
