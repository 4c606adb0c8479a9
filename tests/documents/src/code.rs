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

/// What a compiler says about C code, with the headers in this directory.
fn compile(compiler: &str, headers: &str, code: &str) -> (bool, String) {
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
        .arg(root().join(headers))
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
fn the_examples_in_c_compile() {
    let Some(compiler) = compiler() else {
        // Not with eprintln!, because the test harness captures its output.
        let _ = writeln!(io::stderr(), "SKIPPED: there is no C compiler.");
        return;
    };
    let programs = blocks(&read("docs/abi.md"), "c");
    assert_eq!(programs.len(), 1);
    let kernel = "kernel/include/uapi";
    let (good, said) = compile(compiler, kernel, &programs[0]);
    assert!(good, "{said}");
    // The check can fail: a field that the header does not have.
    let wrong = programs[0].replace(".pages = 1", ".sheets = 1");
    assert_ne!(wrong, programs[0]);
    let (good, said) = compile(compiler, kernel, &wrong);
    assert!(!good && said.contains("sheets"), "{said}");

    let library = "user/flexsc-c/include";
    let example = man_example(&read("docs/man/flexsc.7"));
    let (good, said) = compile(compiler, library, &example);
    assert!(good, "{said}");
    let wrong = example.replace("flexsc_seen(queue", "flexsc_saw(queue");
    assert_ne!(wrong, example);
    assert!(!compile(compiler, library, &wrong).0);
}

/// The example of a man page as a function.
fn man_example(page: &str) -> String {
    let (_, example) = page.split_once(".EX\n").expect("it has an example");
    let (example, _) = example.split_once(".EE\n").expect("it ends");
    let example = example.replace(r"\e", r"\");
    let includes = "#include <flexsc.h>\n#include <stdio.h>\n";
    format!("{includes}int main(void)\n{{\n{example}return 0;\n}}\n")
}

/// The documents.
fn documents() -> Vec<String> {
    let docs = fs::read_dir(root().join("docs")).expect("there are documents");
    let docs = docs.filter_map(|file| file.ok()?.file_name().into_string().ok());
    let docs = docs.filter(|name| name.ends_with(".md"));
    let mut all: Vec<_> = docs.map(|name| format!("docs/{name}")).collect();
    all.extend(["README.md", "CHANGELOG.md"].map(String::from));
    all.sort();
    all
}

/// The languages of the blocks of a document.
fn languages(document: &str) -> Vec<&str> {
    let fences = document.lines().filter_map(|line| line.strip_prefix("```"));
    fences.step_by(2).collect()
}

/// Other tests compile the blocks in Rust and C, or this one has a shell parse them.
#[test]
fn every_block_of_code_is_compiled() {
    let compiled_here = include_str!("lib.rs");
    let mut count = 0;
    for name in documents() {
        let text = read(&name);
        for language in languages(&text) {
            count += 1;
            let good = match language {
                "rust" | "rust,no_run" => compiled_here.contains(&format!("/{name}\")")),
                "c" => name == "docs/abi.md",
                "sh" | "console" | "text" => true,
                // The dependencies of a program.
                "toml" => name == "docs/tutorial.md",
                _ => false,
            };
            assert!(good, "{name}: nothing compiles a block in {language:?}");
        }
        for script in blocks(&text, "sh") {
            let parsed = Command::new("bash").args(["-n", "-c", &script]).output();
            let said = parsed.expect("there is a shell").stderr;
            assert!(
                said.is_empty(),
                "{name}: {}",
                String::from_utf8_lossy(&said)
            );
        }
    }
    assert!(count > 30, "only {count} blocks");
    assert_eq!(
        languages("```rust\nlet x;\n```\n\n```\ny\n```\n"),
        ["rust", ""]
    );
}

#[test]
fn readme_shows_the_example() {
    let example = read("user/flexsc/examples/hello.rs");
    let (_, example) = example
        .split_once('\n')
        .expect("it begins with its licence");
    assert_eq!(blocks(&read("README.md"), "rust,no_run"), [example]);
}
