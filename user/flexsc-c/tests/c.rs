// SPDX-License-Identifier: MIT OR Apache-2.0
//! The library in C: builds it as `make install` does, and runs the example and the tests in C
//! with the static library and with the shared one.

use std::env;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn run(command: &mut Command) -> Output {
    let output = command.output().unwrap();
    assert!(
        output.status.success(),
        "{command:?}\n{}\n{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    output
}

#[test]
fn programs_in_c_run_with_both_libraries() {
    if Command::new("cc").arg("--version").output().is_err() {
        eprintln!("skipped: there is no C compiler");
        return;
    }
    let dir = env::temp_dir().join(format!("flexsc-c-{}", std::process::id()));
    let _ = std::fs::remove_dir_all(&dir);
    let prefix = dir.join("usr");
    let mut install = Command::new(root().join("scripts/libflexsc.sh"));
    // The programs of this test were built in this directory.
    let target = env::current_exe().unwrap();
    let target = target.ancestors().nth(3).unwrap();
    install
        .arg("--debug")
        .arg(&prefix)
        .env("CARGO", env!("CARGO"))
        .env("CARGO_TARGET_DIR", target);
    run(&mut install);
    let pkg_config = std::fs::read_to_string(prefix.join("lib/pkgconfig/flexsc.pc")).unwrap();
    assert!(pkg_config.contains(&format!("prefix={}\n", prefix.display())));
    // The shared library has versions, and nothing else.
    let shared = prefix.join("lib/libflexsc.so");
    let symbols = run(Command::new("nm")
        .args(["-D", "--defined-only"])
        .arg(&shared));
    let symbols = String::from_utf8(symbols.stdout).unwrap();
    let is_ours = |line: &str| {
        line.ends_with("FLEXSC_0.1") && line.contains(" flexsc_") || line.ends_with(" A FLEXSC_0.1")
    };
    let others: Vec<_> = symbols
        .lines()
        .filter(|line| !is_ours(line) && !line.ends_with("@@FLEXSC_0.1"))
        .collect();
    assert!(
        others.is_empty() && symbols.lines().count() > 60,
        "{others:?}"
    );
    for source in [
        "user/flexsc-c/tests/calls.c",
        "user/flexsc-c/examples/hello.c",
    ] {
        let program = dir.join(Path::new(source).file_stem().unwrap());
        for kind in ["static", "shared"] {
            let mut cc = Command::new("cc");
            cc.args(["-std=gnu11", "-Wall", "-Wextra", "-Werror", "-I"])
                .arg(prefix.join("include"))
                .arg("-o")
                .arg(&program)
                .arg(root().join(source));
            if kind == "static" {
                cc.arg(prefix.join("lib/libflexsc.a"))
                    .args(["-lpthread", "-ldl", "-lm"]);
            } else {
                cc.arg("-L").arg(prefix.join("lib")).arg("-lflexsc");
            }
            run(&mut cc);
            let mut program = Command::new(&program);
            program.env("LD_LIBRARY_PATH", prefix.join("lib"));
            let output = run(&mut program);
            assert!(!output.stdout.is_empty());
        }
    }
    std::fs::remove_dir_all(&dir).unwrap();
}
