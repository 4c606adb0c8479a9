// SPDX-License-Identifier: MIT OR Apache-2.0
//! The two directories of the command line: the same one, one inside the other, or not
//! directories.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use crate::tree::{Tree, age, file};
use crate::{Case, root_for};

/// A tree with some files.
fn planted(name: &str) -> Case {
    let case = Case::new(name);
    fs::create_dir(case.a.join("sub")).unwrap();
    file(&case.a.join("sub/file"), 1000);
    file(&case.a.join("large"), 100_000);
    age(&case.a);
    case
}

/// Expects a failure with one line and no change at all.
fn is_refused(case: &Case, source: &str, target: &str, line: &str) {
    let before = Tree::of(&case.dir);
    case.copy(&[source, target]).is_bad(&[line]);
    Tree::of(&case.dir).assert_is(&before, "everything");
}

#[test]
fn the_same_directory() {
    let case = planted("same");
    symlink("a", case.dir.join("link")).unwrap();
    for (source, target) in [
        ("a", "a"),
        ("a", "a/"),
        ("a/", "./a"),
        ("a", "a/sub/.."),
        ("link/", "a"),
        ("a", "link/"),
        (".", "."),
        ("a/sub", "link/sub"),
    ] {
        is_refused(&case, source, target, "are the same directory");
    }
    if let Some(said) = case.cp(&["a", "a"]) {
        assert_eq!(said.code, Some(1), "{said:#?}");
    }
}

#[test]
fn the_target_in_the_source() {
    let case = planted("inside");
    symlink("a/sub", case.dir.join("link")).unwrap();
    for (source, target) in [
        ("a", "a/new"),
        ("a", "a/sub"),
        ("a", "a/sub/new/"),
        ("a", "link/new"),
        (".", "new"),
        (".", "a/sub/new"),
    ] {
        is_refused(&case, source, target, "into itself");
    }
}

#[test]
fn the_target_in_the_source_by_a_mount() {
    if !root_for("a mount") {
        return;
    }
    let case = planted("mounted");
    fs::create_dir(case.dir.join("elsewhere")).unwrap();
    let mount = |args: &[&str]| case.command(Path::new(args[0]), &args[1..]).status();
    let mounted = mount(&["mount", "--bind", "a/sub", "elsewhere"]).unwrap();
    assert!(mounted.success());
    // The parents do not reveal the target, so the copier finds it while it copies.
    let said = case.copy(&["a", "elsewhere/new"]);
    let copy = Tree::of(&case.a.join("sub/new"));
    let unmounted = mount(&["umount", "elsewhere"]).unwrap();
    assert!(unmounted.success());
    said.is_bad(&["a/sub/new is the copy itself and is left out", "errors: 1;"]);
    fs::remove_dir_all(case.a.join("sub/new")).unwrap();
    age(&case.a);
    copy.assert_content_is(&Tree::of(&case.a), "the copy");
}

#[test]
fn the_source_in_the_target() {
    let case = Case::new("outside");
    fs::create_dir_all(case.a.join("in/a")).unwrap();
    file(&case.a.join("in/file"), 10);
    file(&case.a.join("in/a/file"), 10);
    age(&case.a);
    // Nothing in the target has the name of the source.
    case.copy(&["a/in/a", "a"]).is_good();
    assert!(case.a.join("file").exists());

    // It would be copied over itself.
    let case = Case::new("over-itself");
    fs::create_dir_all(case.a.join("in/in")).unwrap();
    file(&case.a.join("in/in/file"), 10);
    file(&case.a.join("in/file"), 20);
    file(&case.a.join("in/rest"), 20);
    age(&case.a);
    let before = Tree::of(&case.a.join("in"));
    let lines = [
        "a/in is the source itself and is not copied over",
        "errors: 1;",
    ];
    case.copy(&["a/in", "a"]).is_bad(&lines);
    Tree::of(&case.a.join("in")).assert_is(&before, "the source");
    assert!(case.a.join("rest").exists());
}

#[test]
fn no_directories() {
    let case = planted("none");
    symlink("a", case.dir.join("link")).unwrap();
    symlink("nothing", case.dir.join("dangling")).unwrap();
    fs::create_dir(&case.c).unwrap();
    symlink("c", case.dir.join("to-c")).unwrap();
    for (source, target, line) in [
        (
            "missing",
            "b",
            "cannot open missing: No such file or directory",
        ),
        (
            "a/large",
            "b",
            "a/large is a regular file; only directories are",
        ),
        ("link", "b", "link is a symbolic link; write link/ for"),
        ("dangling", "b", "dangling is a symbolic link"),
        ("a/large/", "b", "cannot open a/large/: Not a directory"),
        ("a", "a/large", "a/large is a regular file"),
        ("a", "a/large/x", "cannot open a/large/x: Not a directory"),
        ("a", "to-c", "to-c is a symbolic link; write to-c/ for"),
        ("a", "dangling", "dangling is a symbolic link"),
        ("a", "dangling/", "dangling/ is a symbolic link to nothing"),
        ("a", "no/where", "cannot make no/where in no: No such file"),
        ("a", "no/..", "cannot make no/..: No such file or directory"),
    ] {
        is_refused(&case, source, target, line);
    }
}

#[test]
fn through_a_link_with_a_slash() {
    let case = planted("slash");
    symlink("a", case.dir.join("link")).unwrap();
    fs::create_dir(&case.c).unwrap();
    symlink("c", case.dir.join("to-c")).unwrap();
    case.copy(&["link/", "to-c/"]).is_good();
    Tree::of(&case.c).assert_is(&Tree::of(&case.a), "the copy");
}

#[test]
fn a_target_that_is_made_has_one_line_of_parents() {
    let case = planted("parents");
    fs::create_dir_all(case.dir.join("x/y")).unwrap();
    case.copy(&["a/", "x/y/../new//"]).is_good();
    Tree::of(&case.dir.join("x/new")).assert_is(&Tree::of(&case.a), "the copy");
}
