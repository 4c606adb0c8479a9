// SPDX-License-Identifier: MIT OR Apache-2.0
//! Trees that are copied over others.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use crate::tree::{Tree, age, attribute, chmod, chown, fifo, file, has_attributes, text};
use crate::{Case, is_root, root_for};

/// Copies over an existing target, and expects a failure with exactly these lines and one
/// that counts the errors.
///
/// `kept` are paths that the copy lacks or keeps as they were. `cp_refuses` says whether cp
/// refuses the same; it does some things that a careful program should not.
fn is_refused(case: &Case, lines: &[&str], kept: &[&str], cp_refuses: bool) {
    let (source, before) = (Tree::of(&case.a), Tree::of(&case.b));
    let mut lines = lines.to_vec();
    let count = format!(
        "errors: {}; the files named above were not copied",
        lines.len()
    );
    lines.push(&count);
    case.copy(&["a", "b"]).is_bad(&lines);
    let expected = before.under(&source.clone().without(kept));
    Tree::of(&case.b).assert_is(&expected, "the copy");
    Tree::of(&case.a).assert_is(&source, "the source afterwards");
    if let Some(said) = case.cp(&["a", "c"]) {
        assert_eq!(said.code == Some(1), cp_refuses, "{said:#?}");
    }
}

fn plant(case: &Case, source: impl Fn(&Path), target: impl Fn(&Path)) {
    case.plant(&case.a, &source);
    for root in [&case.b, &case.c] {
        fs::create_dir(root).unwrap();
        case.plant(root, &target);
    }
}

#[test]
fn a_symlinked_directory_is_not_followed() {
    let case = Case::new("symlinked");
    fs::create_dir(case.dir.join("out")).unwrap();
    fs::write(case.dir.join("out/file"), "precious").unwrap();
    plant(
        &case,
        |a| {
            fs::create_dir(a.join("s")).unwrap();
            file(&a.join("s/file"), 10);
            file(&a.join("rest"), 10);
            age(a);
        },
        |b| symlink("../out", b.join("s")).unwrap(),
    );
    let line = "b/s is not a directory, its source is; remove it first";
    is_refused(&case, &[line], &["s", "s/file"], true);
    let kept = fs::read_to_string(case.dir.join("out/file")).unwrap();
    assert_eq!(kept, "precious");
}

#[test]
fn a_symlinked_file_is_not_written_through() {
    let case = Case::new("through");
    fs::create_dir(case.dir.join("out")).unwrap();
    for name in ["small", "large"] {
        fs::write(case.dir.join("out").join(name), "precious").unwrap();
    }
    plant(
        &case,
        |a| {
            file(&a.join("small"), 10);
            file(&a.join("large"), 200_000);
            file(&a.join("dangling"), 10);
            // Each name of a file, because it is random which is found first.
            for name in ["one", "two"] {
                fs::hard_link(a.join("small"), a.join(name)).unwrap();
            }
            age(a);
        },
        |b| {
            for name in ["small", "one", "two", "large", "dangling"] {
                let to = Path::new("../out").join(name);
                symlink(to, b.join(name)).unwrap();
            }
        },
    );
    let lines = [
        "b/small is a symbolic link, its source a regular file; remove it first",
        "b/one is a symbolic link, its source a regular file; remove it first",
        "b/two is a symbolic link, its source a regular file; remove it first",
        "b/large is a symbolic link, its source a regular file; remove it first",
        "b/dangling is a symbolic link, its source a regular file; remove it first",
    ];
    // cp refuses only the dangling one.
    let kept = ["small", "one", "two", "large", "dangling"];
    is_refused(&case, &lines, &kept, true);
    assert_eq!(fs::read_dir(case.dir.join("out")).unwrap().count(), 2);
}

#[test]
fn other_kinds_in_the_way_of_files_and_directories() {
    let case = Case::new("kinds");
    plant(
        &case,
        |a| {
            fs::create_dir(a.join("dir")).unwrap();
            file(&a.join("dir/file"), 10);
            file(&a.join("file"), 10);
            symlink("file", a.join("link")).unwrap();
            file(&a.join("rest"), 10);
            age(a);
        },
        |b| {
            fs::create_dir(b.join("file")).unwrap();
            fs::create_dir(b.join("link")).unwrap();
            file(&b.join("dir"), 3);
            age(b);
        },
    );
    let lines = [
        "b/dir is not a directory, its source is; remove it first",
        "b/file is a directory, its source a regular file; remove it first",
        "b/link is a directory, its source a symbolic link; remove it first",
    ];
    is_refused(&case, &lines, &["dir", "dir/file", "file", "link"], true);
}

#[test]
fn a_fifo_in_the_way_of_a_file() {
    let case = Case::new("fifo");
    case.plant(&case.a, &|a: &Path| {
        file(&a.join("file"), 10);
        age(a);
    });
    fs::create_dir(&case.b).unwrap();
    fifo(&case.b.join("file"), 0o600);
    // cp would wait for a reader.
    let lines = [
        "b/file is a FIFO, its source a regular file; remove it first",
        "errors: 1;",
    ];
    case.copy(&["a", "b"]).is_bad(&lines);
}

#[test]
fn a_hard_link_to_itself() {
    let case = Case::new("itself");
    plant(
        &case,
        |a| {
            file(&a.join("file"), 10);
            file(&a.join("rest"), 10);
            age(a);
        },
        |_| {},
    );
    for root in [&case.b, &case.c] {
        fs::hard_link(case.a.join("file"), root.join("file")).unwrap();
    }
    is_refused(
        &case,
        &["a/file and b/file are the same file"],
        &["file"],
        true,
    );
    assert_eq!(fs::read(case.a.join("file")).unwrap(), text(10));
}

#[test]
fn read_only_files_as_nobody() {
    let Some(case) = Case::as_nobody("read-only") else {
        return;
    };
    plant(
        &case,
        |a| {
            file(&a.join("file"), 10);
            file(&a.join("rest"), 10);
            age(a);
        },
        |b| {
            file(&b.join("file"), 7);
            chmod(&b.join("file"), 0o444);
        },
    );
    let line = "b/file is read-only; make it writable or remove it";
    is_refused(&case, &[line], &["file"], true);
}

#[test]
fn a_read_only_file_with_attributes_as_nobody() {
    let Some(case) = Case::as_nobody("read-only-attributes") else {
        return;
    };
    if !has_attributes(&case.a) {
        println!("note: files there have no attributes, this was left out");
        return;
    }
    case.plant(&case.a, &|a: &Path| {
        file(&a.join("file"), 10);
        attribute(&a.join("file"), "user.one", b"1");
        chmod(&a.join("file"), 0o444);
        age(a);
    });
    case.copy(&["a", "b"]).is_good();
    Tree::of(&case.b).assert_is(&Tree::of(&case.a), "the copy");
}

#[test]
fn files_that_cannot_be_read_as_nobody() {
    let Some(case) = Case::as_nobody("unreadable") else {
        return;
    };
    plant(
        &case,
        |a| {
            fs::create_dir(a.join("dir")).unwrap();
            file(&a.join("dir/below"), 10);
            file(&a.join("file"), 10);
            file(&a.join("rest"), 10);
            age(a);
        },
        |_| {},
    );
    for name in ["dir", "file"] {
        chown(&case.a.join(name), 0, 0);
        chmod(&case.a.join(name), 0o700);
    }
    let lines = [
        "cannot open a/dir: Permission denied",
        "cannot open a/file: Permission denied",
    ];
    is_refused(&case, &lines, &["dir", "dir/below", "file"], true);
}

#[test]
fn devices_as_nobody() {
    let Some(case) = Case::as_nobody("device") else {
        return;
    };
    let null = rustix::fs::makedev(1, 3);
    plant(
        &case,
        |a| {
            let kind = rustix::fs::FileType::CharacterDevice;
            crate::tree::node(&a.join("null"), kind, 0o666, null);
            file(&a.join("rest"), 10);
            age(a);
        },
        |_| {},
    );
    let line = "cannot make b/null: Operation not permitted; only root can make device nodes";
    is_refused(&case, &[line], &["null"], true);
}

#[test]
fn files_of_others_as_nobody() {
    let Some(case) = Case::as_nobody("others") else {
        return;
    };
    plant(
        &case,
        |a| {
            file(&a.join("file"), 10);
            fs::create_dir(a.join("dir")).unwrap();
        },
        |_| {},
    );
    for name in ["file", "dir"] {
        chown(&case.a.join(name), 0, 0);
        chmod(&case.a.join(name), 0o6755);
    }
    age(&case.a);
    // As with cp, the copies are ours and run with our rights. The program says so, and
    // `--verify` finds it.
    let said = case.copy(&["a", "b"]);
    assert_eq!(said.code, Some(0), "{said:#?}");
    let [note] = &said.errors[..] else {
        panic!("{said:#?}")
    };
    assert!(note.contains("note: 2 files belong to you"), "{note}");
    if let Some(said) = case.cp(&["a", "c"]) {
        said.is_good();
        Tree::of(&case.b).assert_is(&Tree::of(&case.c), "the copy");
    }
    let verified = case.copy(&["--verify", "a", "b"]);
    assert_eq!(verified.code, Some(1), "{verified:#?}");
    assert!(verified.out.ends_with(": 4 differences\n"), "{verified:#?}");
}

#[test]
fn what_is_replaced() {
    Case::new("replaced").is_as_cp_over(
        |a| {
            file(&a.join("longer"), 100_000);
            file(&a.join("shorter"), 10);
            file(&a.join("linked"), 10);
            fs::create_dir(a.join("dir")).unwrap();
            file(&a.join("dir/file"), 10);
            for name in ["was-link", "was-file", "was-fifo"] {
                symlink("to", a.join(name)).unwrap();
            }
            fifo(&a.join("fifo"), 0o644);
            fifo(&a.join("fifo-file"), 0o644);
            for name in ["one", "two"] {
                fs::hard_link(a.join("dir/file"), a.join(name)).unwrap();
            }
            // cp replaces nothing in this directory, except as root.
            chmod(&a.join("dir"), if is_root() { 0o555 } else { 0o755 });
            chmod(&a.join("shorter"), 0o4755);
            age(a);
        },
        |b| {
            file(&b.join("longer"), 10);
            file(&b.join("shorter"), 100_000);
            file(&b.join("linked"), 20);
            fs::hard_link(b.join("linked"), b.join("other-name")).unwrap();
            fs::create_dir(b.join("dir")).unwrap();
            file(&b.join("dir/too-much"), 10);
            file(&b.join("dir/file"), 10);
            chmod(&b.join("dir"), 0o777);
            symlink("elsewhere", b.join("was-link")).unwrap();
            file(&b.join("was-file"), 10);
            fifo(&b.join("was-fifo"), 0o600);
            fifo(&b.join("fifo"), 0o600);
            file(&b.join("fifo-file"), 10);
            file(&b.join("one"), 10);
            file(&b.join("two"), 20);
            file(&b.join("untouched"), 10);
            age(b);
        },
    );
}

#[test]
fn read_only_files_are_replaced_by_root() {
    if !root_for("replacing what is read-only") {
        return;
    }
    Case::new("replaced-by-root").is_as_cp_over(
        |a| {
            file(&a.join("file"), 10);
            chown(&a.join("file"), 7, 8);
            chmod(&a.join("file"), 0o640);
            age(a);
        },
        |b| {
            file(&b.join("file"), 20);
            chmod(&b.join("file"), 0o400);
            age(b);
        },
    );
}

#[test]
fn a_directory_of_another_group() {
    if !root_for("a directory of another group") {
        return;
    }
    // New files in this directory get its group at first.
    let case = Case::new("group");
    // cp leaves the set-group-ID bit in directories.
    case.is_copied_over(
        |a| {
            fs::create_dir_all(a.join("dir/below")).unwrap();
            file(&a.join("dir/below/file"), 10);
            file(&a.join("dir/file"), 10);
            symlink("file", a.join("dir/link")).unwrap();
            age(a);
        },
        |b| {
            fs::create_dir(b.join("dir")).unwrap();
            chown(&b.join("dir"), 3, 4);
            chmod(&b.join("dir"), 0o2775);
            age(b);
        },
    );
}
