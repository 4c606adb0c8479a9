// SPDX-License-Identifier: MIT OR Apache-2.0

//! docs/security.md says for each field of `struct task_struct`, `struct signal_struct` and
//! `struct thread_info` what posted calls do with the field. The tests compare its tables with the
//! kernel's source.

use crate::table::kernel_tables;
use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Write};
use std::path::Path;

const DOCUMENT: &str = include_str!("../../../docs/security.md");
const SECTION: &str = "\n### What a call reads about its caller\n";

/// A structure, and where it is declared and documented.
struct Struct {
    name: &'static str,
    file: &'static str,
    /// How the head of its table begins.
    head: &'static str,
    /// The least number of fields.
    least: usize,
}

const STRUCTS: [Struct; 3] = [
    Struct {
        name: "task_struct",
        file: "include/linux/sched.h",
        head: "| fields | ",
        least: 250,
    },
    Struct {
        name: "signal_struct",
        file: "include/linux/sched/signal.h",
        head: "| fields of the process | ",
        least: 60,
    },
    Struct {
        name: "thread_info",
        file: "arch/x86/include/asm/thread_info.h",
        head: "| fields of the thread | ",
        least: 4,
    },
];

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

/// The fields of a structure in any configuration.
fn fields(text: &str, name: &str) -> Vec<String> {
    let (_, body) = text
        .split_once(&format!("\nstruct {name} {{\n"))
        .unwrap_or_else(|| panic!("no struct {name}"));
    let (body, _) = body.split_once("\n}").expect("the struct has an end");
    let bare = bare(body);
    let declarations = bare.split(';').map(str::trim).filter(|d| !d.is_empty());
    declarations.flat_map(declared).collect()
}

/// Counts the rows of the structure's table in the document that name each field.
fn documented(document: &str, of: &Struct) -> BTreeMap<String, usize> {
    let (_, section) = document.split_once(SECTION).expect("the section is there");
    let rows = section
        .lines()
        .skip_while(|line| !line.starts_with(of.head))
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
    assert_eq!(fields(text, "task_struct"), ["a", "c", "e", "f", "h"]);
}

#[test]
fn every_row_is_whole() {
    for of in &STRUCTS {
        let documented = documented(DOCUMENT, of);
        let (count, name) = (documented.len(), of.name);
        assert!(count >= of.least, "{count} fields of {name}");
        for (field, rows) in documented {
            assert_eq!(rows, 1, "rows of docs/security.md with {field} of {name}");
        }
    }
}

/// Compares the table with the structure in a kernel's source. Returns false if the source has no
/// such file.
fn is_compared(root: &Path, of: &Struct) -> bool {
    let path = root.join(of.file);
    let Ok(text) = fs::read_to_string(&path) else {
        return false;
    };
    let (documented, fields) = (documented(DOCUMENT, of), fields(&text, of.name));
    let count = fields.len();
    assert!(count >= of.least, "{count} fields of {}", of.name);
    for field in &fields {
        assert!(
            documented.contains_key(field),
            "docs/security.md says nothing about {field} of {} in {}",
            of.name,
            path.display()
        );
    }
    for name in documented.keys() {
        assert!(
            fields.contains(name),
            "docs/security.md has a row for {name}, which no {} has",
            of.name
        );
    }
    true
}

#[test]
fn every_field_has_a_row() {
    for of in &STRUCTS {
        let mut compared = 0;
        for table in kernel_tables() {
            // arch/x86/entry/syscalls/syscall_64.tbl
            let root = table.ancestors().nth(5).unwrap_or(Path::new("/"));
            compared += usize::from(is_compared(root, of));
        }
        if compared == 0 {
            // Not with eprintln!, because the test harness captures its output.
            let _ = writeln!(
                io::stderr(),
                "SKIPPED: docs/security.md was not compared with struct {}: there is no {} in the \
                 cache; run scripts/build-kernel.sh or set FLEXSC_KERNEL_TBL.",
                of.name,
                of.file
            );
        }
    }
}
