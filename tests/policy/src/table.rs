// SPDX-License-Identifier: MIT OR Apache-2.0

//! Checks that the table has a row for every call of the kernel, and that the document
//! agrees with the table.

use crate::{
    classes,
    document::document,
    policy::{classify, Class, Reason, Rule},
    ROWS,
};
use std::{
    collections::{BTreeMap, BTreeSet},
    env, fs,
    io::{self, Write},
    path::{Path, PathBuf},
};

const TBL: &str = "arch/x86/entry/syscalls/syscall_64.tbl";

/// The words of the document for a class.
fn class_name(class: Class) -> &'static str {
    match class {
        Class::Inline => "inline",
        Class::ByFile(..) => "by file",
        Class::MayBlock => "may block",
        Class::OwnThread => "own thread",
        Class::Refused(Reason::Life) => "refused (LIFE)",
        Class::Refused(Reason::Thread) => "refused (THREAD)",
        Class::Unknown => "no call",
    }
}

/// The reason of a row whose number the kernel answers with ENOSYS.
const NOT_IMPLEMENTED: &str = "not implemented: ENOSYS";

/// A line of the kernel's table.
struct Line {
    name: String,
    x32_only: bool,
    implemented: bool,
}

fn read(path: &Path) -> String {
    fs::read_to_string(path)
        .unwrap_or_else(|err| panic!("{} cannot be read: {err}", path.display()))
}

/// The line that our patches add to the table.
fn own_line() -> String {
    let patches = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../kernel/patches");
    let patch = read(&patches.join("0004-entry-flexsc-wait.patch"));
    let own = patch
        .lines()
        .filter_map(|line| line.strip_prefix('+'))
        .find(|line| line.contains("\tsys_flexsc_wait"));
    own.expect("the patch adds a line").to_owned()
}

/// The table at `path`, as our patches leave it.
fn parse(path: &Path) -> BTreeMap<u16, Line> {
    let text = read(path) + "\n" + &own_line();
    text.lines()
        .map(str::trim)
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .map(|line| {
            let words: Vec<&str> = line.split_whitespace().collect();
            let nr = words[0].parse().expect("a line begins with a number");
            assert!(
                ["common", "64", "x32"].contains(&words[1]),
                "ABI of \"{line}\""
            );
            let line = Line {
                name: words[2].to_owned(),
                x32_only: words[1] == "x32",
                implemented: words.get(3).is_some_and(|entry| *entry != "sys_ni_syscall"),
            };
            (nr, line)
        })
        .collect()
}

/// The table that FLEXSC_KERNEL_TBL names, or those of the kernel sources in the cache.
pub fn kernel_tables() -> Vec<PathBuf> {
    if let Some(path) = env::var_os("FLEXSC_KERNEL_TBL") {
        return vec![path.into()];
    }
    let var = |name| env::var_os(name).map(PathBuf::from);
    let cache = var("FLEXSC_CACHE")
        .or_else(|| var("XDG_CACHE_HOME").map(|dir| dir.join("flexsc")))
        .or_else(|| var("HOME").map(|dir| dir.join(".cache/flexsc")));
    let mut found: Vec<PathBuf> = cache
        .and_then(|cache| fs::read_dir(cache.join("src")).ok())
        .into_iter()
        .flatten()
        .filter_map(|entry| Some(entry.ok()?.path().join(TBL)))
        .filter(|path| path.is_file())
        .collect();
    found.sort();
    found
}

#[test]
fn every_call_of_the_kernel_has_a_row() {
    let tables = kernel_tables();
    if tables.is_empty() {
        // Not with eprintln!, because the test harness captures its output.
        let _ = writeln!(
            io::stderr(),
            "SKIPPED: the policy was not compared with the kernel's system calls: there is no \
             {TBL} in the cache; run scripts/build-kernel.sh or set FLEXSC_KERNEL_TBL."
        );
        return;
    }
    for path in tables {
        let table = parse(&path);
        assert!(table.len() > 300, "{} is too short", path.display());
        let x32 = table.values().filter(|line| line.x32_only).count();
        assert!(x32 > 30, "{}: {x32} calls for x32 only", path.display());

        for (nr, line) in &table {
            let row = ROWS.iter().find(|row| row.nr == *nr);
            if line.x32_only {
                assert!(row.is_none(), "{nr} {} is for x32 only", line.name);
                assert_eq!(classify(*nr, &[0; 6]), Class::Unknown, "{nr} {}", line.name);
                continue;
            }
            let row = row.unwrap_or_else(|| {
                panic!(
                    "kernel/policy/table.rs has no row for call {nr}, {}",
                    line.name
                )
            });
            assert_eq!(row.name, line.name, "name of call {nr}");
            assert_eq!(
                row.why == NOT_IMPLEMENTED,
                !line.implemented,
                "{nr} {}: is it implemented?",
                line.name
            );
        }
        for row in ROWS {
            assert!(
                table.contains_key(&row.nr),
                "{} {} is no call",
                row.nr,
                row.name
            );
        }
    }
}

#[test]
fn rows_are_in_order_and_names_are_unique() {
    for pair in ROWS.windows(2) {
        assert!(
            pair[0].nr < pair[1].nr,
            "{:?} before {:?}",
            pair[0],
            pair[1]
        );
    }
    let names: BTreeSet<_> = ROWS.iter().map(|row| row.name).collect();
    assert_eq!(names.len(), ROWS.len());
}

#[test]
fn what_is_not_plainly_inline_has_a_reason() {
    for row in ROWS {
        assert!(row.rule == Rule::Inline || !row.why.is_empty(), "{row:?}");
        assert!(row.rule != Rule::Gap, "{row:?}");
        assert!(
            !row.why.contains('|'),
            "{row:?} would break the document's table"
        );
    }
}

#[test]
fn numbers_without_a_row_are_unknown() {
    for nr in 0..=u16::MAX {
        let has_row = ROWS.iter().any(|row| row.nr == nr);
        let unknown = classify(nr, &[0; 6]) == Class::Unknown;
        assert_eq!(has_row, !unknown, "call {nr}");
    }
}

/// Checks that the classes that the document names for a call are those that some arguments give.
#[test]
fn the_document_names_exactly_the_classes_that_occur() {
    const WORDS: &[u64] = &[
        0,
        1,
        2,
        3,
        4,
        5,
        6,
        7,
        8,
        9,
        10,
        11,
        12,
        13,
        38,
        0x40,
        67,
        0o4000,
        0o20000,
        1024,
        1026,
        128 + 7,
        256 + 9,
        0x5401,
        0x8904,
        0xDA03,
        0x4028_DA02,
        0x2000_0000,
        0x2000_0001,
        0xFFFF_FFFB,
        0xFFFF_FFFF,
        0x1_0000_0000,
        0x7FFF_0000_1000,
        u64::MAX - 1,
        u64::MAX,
    ];
    for row in ROWS {
        let mut seen = BTreeSet::new();
        for first in 0..6 {
            for second in first + 1..6 {
                for (a, b) in WORDS
                    .iter()
                    .flat_map(|a| WORDS.iter().map(move |b| (*a, *b)))
                {
                    let mut args = [0; 6];
                    args[first] = a;
                    args[second] = b;
                    seen.insert(class_name(classify(row.nr, &args)));
                }
            }
        }
        let named: BTreeSet<_> = classes(row.rule).iter().copied().collect();
        assert_eq!(seen, named, "{row:?}");
    }
}

#[test]
fn a_row_is_one_byte() {
    assert_eq!(size_of::<Rule>(), 1);
    assert!(size_of::<Class>() <= 12);
}

#[test]
fn the_document_is_up_to_date() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/syscalls.md");
    let committed = fs::read_to_string(path).unwrap_or_default();
    assert!(
        committed == document(),
        "docs/syscalls.md does not agree with the table: \
         cargo run -q -p flexsc-policy-tests > docs/syscalls.md"
    );
}
