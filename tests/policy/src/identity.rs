// SPDX-License-Identifier: MIT OR Apache-2.0

//! docs/security.md says of each field of `struct task_struct` what posted calls do with it: the
//! table is compared with the kernel's source.

use crate::table::kernel_tables;
use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Write};
use std::path::Path;

const DOCUMENT: &str = include_str!("../../../docs/security.md");
const TITLE: &str = "### What a call reads of its caller\n";
const SCHED: &str = "include/linux/sched.h";

/// The text without comments and without lines of the preprocessor.
fn bare(text: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some((before, comment)) = rest.split_once("/*") {
        out.push_str(before);
        rest = comment.split_once("*/").map_or("", |(_, after)| after);
    }
    out.push_str(rest);
    out.lines()
        .map(|line| line.split_once("//").map_or(line, |(code, _)| code).trim())
        .filter(|line| !line.starts_with('#') && !line.starts_with("randomized_struct_fields"))
        .collect::<Vec<_>>()
        .join("\n")
}

/// The names that a declaration declares; an unnamed bit-field declares none.
fn declared(declaration: &str) -> Vec<String> {
    let mut names = Vec::new();
    for (place, part) in declaration.split(',').enumerate() {
        let end = part.find(['[', ':']).unwrap_or(part.len());
        let words = part[..end].trim();
        let start = words
            .rfind(|c: char| !c.is_ascii_alphanumeric() && c != '_')
            .map_or(0, |at| at + 1);
        // The type is in front of the first.
        if start != 0 || place != 0 {
            names.push(words[start..].to_owned());
        }
    }
    names
}

/// The fields of `struct task_struct` in any configuration.
fn fields(sched: &str) -> Vec<String> {
    let (_, body) = sched
        .split_once("\nstruct task_struct {\n")
        .expect("sched.h has struct task_struct");
    let (body, _) = body.split_once("\n};").expect("the struct has an end");
    let bare = bare(body);
    let declarations = bare.split(';').map(str::trim).filter(|d| !d.is_empty());
    declarations.flat_map(declared).collect()
}

/// How many rows of the document's table name each field.
fn documented(document: &str) -> BTreeMap<String, usize> {
    let (_, section) = document.split_once(TITLE).expect("the section is there");
    let rows = section
        .lines()
        .skip_while(|line| !line.starts_with('|'))
        .skip(2)
        .take_while(|line| line.starts_with('|'));
    let mut found = BTreeMap::new();
    for row in rows {
        let mut cells = row.split(" | ");
        let names = cells.next().unwrap_or_default();
        let rest: Vec<&str> = cells.collect();
        assert_eq!(rest.len(), 2, "three cells: {row}");
        assert!(rest.iter().all(|cell| !cell.trim().is_empty()), "{row}");
        for name in names.split('`').skip(1).step_by(2) {
            *found.entry(name.to_owned()).or_default() += 1;
        }
    }
    found
}

#[test]
fn declarations_are_understood() {
    let text =
        "\nstruct task_struct {\n#ifdef X\n\tunsigned a:1; /* b; */\n#endif\n\tunsigned :0;\n\
                struct foo __rcu\t*c; // d\n\tint e[3][N];\n\trandomized_struct_fields_start\n\
                \tu64 f : 1,\n\t\th : 2;\n};\nint g;\n";
    assert_eq!(fields(text), ["a", "c", "e", "f", "h"]);
}

#[test]
fn every_row_is_whole() {
    let documented = documented(DOCUMENT);
    assert!(documented.len() > 250, "{} fields", documented.len());
    for (name, rows) in documented {
        assert_eq!(rows, 1, "rows of docs/security.md with {name}");
    }
}

#[test]
fn every_field_of_a_task_has_a_row() {
    let documented = documented(DOCUMENT);
    let mut compared = 0;
    for table in kernel_tables() {
        // arch/x86/entry/syscalls/syscall_64.tbl
        let root = table.ancestors().nth(5).unwrap_or(Path::new("/"));
        let Ok(text) = fs::read_to_string(root.join(SCHED)) else {
            continue;
        };
        compared += 1;
        let fields = fields(&text);
        assert!(fields.len() > 250, "{} fields", fields.len());
        for field in &fields {
            assert!(
                documented.contains_key(field),
                "docs/security.md says nothing of {field} of {}",
                root.join(SCHED).display()
            );
        }
        for name in documented.keys() {
            assert!(
                fields.contains(name),
                "docs/security.md has a row for {name}, which no task has"
            );
        }
    }
    if compared == 0 {
        // Not by eprintln!, which the test harness swallows.
        let _ = writeln!(
            io::stderr(),
            "SKIPPED: docs/security.md was not compared with struct task_struct: there is no \
             {SCHED} in the cache; run scripts/build-kernel.sh or set FLEXSC_KERNEL_TBL."
        );
    }
}
