// SPDX-License-Identifier: MIT OR Apache-2.0
//! `--verify` finds every difference.

use std::fs;
use std::os::unix::fs::symlink;
use std::os::unix::process::CommandExt;
use std::path::Path;

use crate::tree::{age, attribute, chmod, chown, fifo, file, has_attributes, set_time};
use crate::{Case, is_root};

fn plant(root: &Path) {
    fs::create_dir(root.join("dir")).unwrap();
    file(&root.join("dir/file"), 1000);
    file(&root.join("file"), 400_000);
    symlink("file", root.join("link")).unwrap();
    fifo(&root.join("fifo"), 0o600);
    file(&root.join("one"), 10);
    fs::hard_link(root.join("one"), root.join("two")).unwrap();
    file(&root.join("three"), 10);
    fs::hard_link(root.join("three"), root.join("four")).unwrap();
    age(root);
}

/// Changes the copy of a tree and expects exactly these differences.
fn finds(name: &str, change: impl Fn(&Path), lines: &[&str]) {
    let case = Case::new(&format!("verify-{name}"));
    plant(&case.a);
    case.copy(&["a", "b"]).is_good();
    case.copy(&["--verify", "a", "b"]).is_good();
    change(&case.b);
    let said = case.copy(&["--verify", "a", "b"]);
    said.is_bad(lines);
    let count = format!(": {} differences\n", lines.len());
    assert!(said.out.ends_with(&count), "{said:#?}");
}

/// Changes the content of a directory and restores its time.
fn quietly(root: &Path, change: impl Fn()) {
    change();
    age(root);
}

#[test]
fn content() {
    let change = |b: &Path| {
        let mut bytes = fs::read(b.join("file")).unwrap();
        bytes[399_999] ^= 1;
        fs::write(b.join("file"), bytes).unwrap();
        age(b);
    };
    finds(
        "content",
        change,
        &["a/file differs in the copy from byte 399999 on"],
    );
}

#[test]
fn what_is_missing_and_too_much() {
    let change = |b: &Path| {
        fs::remove_file(b.join("fifo")).unwrap();
        file(&b.join("dir/new"), 1);
        age(b);
    };
    let lines = [
        "a/fifo is missing in the copy",
        "a/dir/new is in the copy and not in the source",
    ];
    finds("missing", change, &lines);
}

#[test]
fn types() {
    let change = |b: &Path| {
        quietly(b, || {
            for name in ["fifo", "link"] {
                fs::remove_file(b.join(name)).unwrap();
                file(&b.join(name), 0);
            }
        });
    };
    let lines = [
        "a/fifo is a FIFO, in the copy a regular file",
        "a/link is a symbolic link, in the copy a regular file",
    ];
    finds("types", change, &lines);
}

#[test]
fn permissions_and_times() {
    let change = |b: &Path| {
        chmod(&b.join("file"), 0o4755);
        chmod(&b.join("file"), 0o4600);
        chmod(&b.join("fifo"), 0o620);
        set_time(&b.join("link"), 5, 5);
        set_time(&b.join("dir"), 5, 5);
        set_time(b, 5, 5);
    };
    let lines = [
        "a has another modification time",
        "a/dir has another modification time",
        "a/file has mode 0644, in the copy 4600",
        "a/fifo has mode 0600, in the copy 0620",
        "a/link has another modification time",
    ];
    finds("modes", change, &lines);
}

#[test]
fn owners() {
    if !is_root() {
        println!("note: owners need root and were left out");
        return;
    }
    let change = |b: &Path| {
        chown(&b.join("link"), 3, 0);
        chown(&b.join("dir"), 0, 4);
    };
    let lines = [
        "a/dir belongs to 0:0, in the copy to 0:4",
        "a/link belongs to 0:0, in the copy to 3:0",
    ];
    finds("owners", change, &lines);
}

#[test]
fn links() {
    let change = |b: &Path| {
        quietly(b, || {
            // One link is missing, and one is wrong.
            fs::remove_file(b.join("two")).unwrap();
            file(&b.join("two"), 10);
            fs::remove_file(b.join("three")).unwrap();
            fs::remove_file(b.join("four")).unwrap();
            fs::hard_link(b.join("one"), b.join("three")).unwrap();
            fs::hard_link(b.join("one"), b.join("four")).unwrap();
            fs::remove_file(b.join("link")).unwrap();
            symlink("fale", b.join("link")).unwrap();
        });
        // The last of the names has set the time.
        set_time(&b.join("one"), 0, 0);
    };
    let case = Case::new("verify-links");
    plant(&case.a);
    case.copy(&["a", "b"]).is_good();
    change(&case.b);
    for name in ["one", "two", "three"] {
        set_time(&case.a.join(name), 0, 0);
        set_time(&case.b.join(name), 0, 0);
    }
    case.copy(&["--verify", "a", "b"]).is_bad(&[
        "a/link points elsewhere in the copy",
        "a/one is one file with another one in the copy",
        "a/two is the same file as a/one, in the copy another one",
    ]);
}

#[test]
fn attributes() {
    let probe = Case::new("verify-probe");
    if !has_attributes(&probe.a) {
        println!("note: files there have no attributes, this was left out");
        return;
    }
    let change = |b: &Path| {
        attribute(&b.join("file"), "user.new", b"1");
        attribute(&b.join("dir"), "user.new", b"1");
    };
    let lines = [
        "a/file has the attribute user.new only in the copy",
        "a/dir has the attribute user.new only in the copy",
    ];
    finds("attributes", change, &lines);
    if is_root() {
        let change = |b: &Path| {
            attribute(&b.join("link"), "trusted.new", b"1");
            attribute(&b.join("fifo"), "trusted.new", b"1");
        };
        let lines = [
            "a/link has the attribute trusted.new only in the copy",
            "a/fifo has the attribute trusted.new only in the copy",
        ];
        finds("attributes-of-links", change, &lines);
    }
}

#[test]
fn what_cannot_be_read_as_nobody() {
    let Some(case) = Case::as_nobody("verify-nobody") else {
        return;
    };
    plant(&case.a);
    let copied = crate::Said::of(case.copying(&["a", "b"]).uid(0).output().unwrap());
    copied.is_good();
    for name in ["dir", "file"] {
        chmod(&case.a.join(name), 0o700);
        chmod(&case.b.join(name), 0o700);
    }
    case.copy(&["--verify", "a", "b"]).is_bad(&[
        "a/dir cannot be compared: Permission denied",
        "a/file cannot be compared: Permission denied",
    ]);
}
