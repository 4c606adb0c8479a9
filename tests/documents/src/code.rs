// SPDX-License-Identifier: MIT OR Apache-2.0
//! Tests code in documents that is not Rust, or that repeats a file.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

fn root() -> PathBuf {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
    manifest.ancestors().nth(2).unwrap_or(manifest).to_owned()
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|err| panic!("{path}: {err}"))
}

/// The blocks of a document that are in this language.
fn blocks(document: &str, language: &str) -> Vec<String> {
    let fence = format!("```{language}\n");
    let parts = document.split(&fence).skip(1);
    parts
        .filter_map(|part| Some(part.split_once("```")?.0.to_owned()))
        .collect()
}

/// A C compiler, if the machine has one.
fn compiler() -> Option<&'static str> {
    ["cc", "gcc", "clang", "clang-19"].into_iter().find(|name| {
        let mut command = Command::new(name);
        command
            .arg("--version")
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        command.status().is_ok_and(|status| status.success())
    })
}

/// What a compiler says about C code.
fn compile(compiler: &str, code: &str) -> (bool, String) {
    let mut child = Command::new(compiler)
        .args([
            "-std=gnu11",
            "-Wall",
            "-Wextra",
            "-Werror",
            "-fsyntax-only",
            "-x",
            "c",
            "-",
        ])
        .arg("-I")
        .arg(root().join("kernel/include/uapi"))
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the compiler starts");
    let mut stdin = child.stdin.take().expect("it has an input");
    stdin
        .write_all(code.as_bytes())
        .expect("it reads its input");
    drop(stdin);
    let output = child.wait_with_output().expect("it ends");
    (
        output.status.success(),
        String::from_utf8_lossy(&output.stderr).into_owned(),
    )
}

#[test]
fn the_example_in_c_compiles() {
    let Some(compiler) = compiler() else {
        // Not with eprintln!, because the test harness captures its output.
        let _ = writeln!(
            io::stderr(),
            "SKIPPED: there is no C compiler for docs/abi.md."
        );
        return;
    };
    let programs: Vec<String> = blocks(&read("docs/abi.md"), "c")
        .into_iter()
        .filter(|block| block.contains("int main("))
        .collect();
    assert_eq!(programs.len(), 1);
    let (good, said) = compile(compiler, &programs[0]);
    assert!(good, "{said}");
    // The check can fail: a field that the header does not have.
    let wrong = programs[0].replace(".pages = 1", ".sheets = 1");
    assert_ne!(wrong, programs[0]);
    let (good, said) = compile(compiler, &wrong);
    assert!(!good && said.contains("sheets"), "{said}");
}

#[test]
fn readme_shows_the_example() {
    let example = read("user/flexsc/examples/hello.rs");
    let (_, example) = example
        .split_once('\n')
        .expect("it begins with its licence");
    assert_eq!(blocks(&read("README.md"), "rust,no_run"), [example]);
}
