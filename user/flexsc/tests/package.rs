// SPDX-License-Identifier: MIT OR Apache-2.0
//! Checks that the package of the crate builds in an empty directory, without the
//! rest of the repository and without libclang.

use std::env;
use std::fs;
use std::path::Path;
use std::process::Command;

fn run(command: &mut Command) -> String {
    let output = command.output().unwrap();
    assert!(
        output.status.success(),
        "{command:?}\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn cargo(dir: &Path) -> Command {
    let mut cargo = Command::new(env!("CARGO"));
    cargo
        .current_dir(dir)
        .arg("--offline")
        .env("LIBCLANG_PATH", "/nonexistent")
        .env_remove("CARGO_TARGET_DIR");
    cargo
}

#[test]
fn the_package_builds_in_an_empty_directory() {
    let crate_dir = Path::new(env!("CARGO_MANIFEST_DIR"));
    if !crate_dir.join("../../kernel").exists() {
        // This is the package itself, or a vendored copy of it.
        eprintln!("skipped: not in the repository");
        return;
    }
    // Outside the repository, since cargo looks for a workspace in parent directories.
    let empty = env::temp_dir().join(format!("flexsc-package-{}", std::process::id()));
    let _ = fs::remove_dir_all(&empty);
    fs::create_dir_all(&empty).unwrap();
    let target = empty.join("target");
    run(cargo(crate_dir)
        .args([
            "package",
            "--allow-dirty",
            "--no-verify",
            "--quiet",
            "--target-dir",
        ])
        .arg(&target));
    let version = env!("CARGO_PKG_VERSION");
    let archive = target.join(format!("package/flexsc-{version}.crate"));
    run(Command::new("tar")
        .current_dir(&empty)
        .arg("xzf")
        .arg(&archive));
    let unpacked = empty.join(format!("flexsc-{version}"));
    // A user sees neither tests nor their dependencies.
    run(cargo(&unpacked)
        .args(["build", "--quiet", "--target-dir"])
        .arg(&target));
    let tree = run(cargo(&unpacked).args(["tree", "--edges", "normal,build", "--prefix", "none"]));
    assert!(!tree.contains("bindgen"), "{tree}");
    // The same search finds existing dependencies, and bindgen among those of the tests.
    assert!(tree.contains("libc"), "{tree}");
    let tree = run(cargo(crate_dir).args(["tree", "--edges", "dev", "--prefix", "none"]));
    assert!(tree.contains("bindgen"), "{tree}");
    fs::remove_dir_all(&empty).unwrap();
}
