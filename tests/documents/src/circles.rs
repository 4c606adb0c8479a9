// SPDX-License-Identifier: MIT OR Apache-2.0
//! Finds circles among files that name each other's items.
//!
//! A file that implements a type of the file above it is a part of that file, so it may name that
//! file.

use std::collections::{BTreeMap, BTreeSet};

/// Files of the module by their paths in it: `pool/table` for `kernel/pool/table.rs`.
type Files<'a> = BTreeMap<&'a str, &'a str>;

/// The text without comments.
fn without_comments(text: &str) -> String {
    text.lines()
        .flat_map(|line| [line.split("//").next().unwrap_or(line), "\n"])
        .collect()
}

fn is_name(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_'
}

/// The paths of a tree of `use`, such as `a::{b, c::d}`.
fn expand(tree: &str, before: &str, into: &mut Vec<String>) {
    let Some((head, rest)) = tree.split_once('{') else {
        into.push(format!("{before}{}", tree.trim()));
        return;
    };
    let before = format!("{before}{}", head.trim());
    let inside = rest.rsplit_once('}').map_or(rest, |(inside, _)| inside);
    let (mut depth, mut from) = (0, 0);
    for (at, c) in inside.char_indices() {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 0 => {
                expand(&inside[from..at], &before, into);
                from = at + 1;
            }
            _ => {}
        }
    }
    if !inside[from..].trim().is_empty() {
        expand(&inside[from..], &before, into);
    }
}

/// All paths that begin with `crate`, `super`, `self` or a child, in `use` or elsewhere.
fn paths(code: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut rest = code;
    while let Some(at) = rest.find("use ") {
        let is_word = !rest[..at].ends_with(is_name);
        rest = &rest[at + "use ".len()..];
        let (tree, after) = rest.split_once(';').unwrap_or((rest, ""));
        if is_word {
            expand(tree, "", &mut found);
            rest = after;
        }
    }
    for word in code.split(|c: char| !is_name(c) && c != ':') {
        let begins = ["crate::", "super::", "self::"];
        // A path that ends in a colon begins a tree.
        if begins.iter().any(|begin| word.starts_with(begin)) && !word.ends_with(':') {
            found.push(word.to_owned());
        }
    }
    found
}

/// The file that `path`, as written in file `here`, leads to.
fn file_of<'a>(files: &Files<'a>, here: &str, path: &str) -> Option<&'a str> {
    let mut parts = path.split("::").peekable();
    let mut full: Vec<&str> = match parts.peek() {
        Some(&"crate") => Vec::new(),
        _ => here.split('/').collect(),
    };
    match parts.peek() {
        Some(&("crate" | "self")) => drop(parts.next()),
        _ => {
            while parts.next_if_eq(&"super").is_some() {
                full.pop();
            }
        }
    }
    full.extend(parts);
    while !full.is_empty() {
        if let Some((name, _)) = files.get_key_value(full.join("/").as_str()) {
            return Some(name);
        }
        full.pop();
    }
    None
}

/// The word after each `keyword` at the beginning of an item.
fn declared(code: &str) -> BTreeSet<&str> {
    let words: Vec<&str> = code
        .split(|c: char| !is_name(c))
        .filter(|word| !word.is_empty())
        .collect();
    words
        .windows(2)
        .filter(|pair| ["struct", "enum", "trait"].contains(&pair[0]))
        .map(|pair| pair[1])
        .collect()
}

/// The types that a file implements.
fn implemented(code: &str) -> BTreeSet<&str> {
    let heads = code.lines().filter_map(|line| {
        let line = line.strip_prefix("unsafe ").unwrap_or(line);
        let head = line.strip_prefix("impl")?;
        Some(head.split_once(" for ").map_or_else(
            || match head.strip_prefix('<') {
                Some(head) => head.split_once("> ").map_or(head, |(_, name)| name),
                None => head,
            },
            |(_, name)| name,
        ))
    });
    heads
        .filter_map(|name| name.trim().split(|c: char| !is_name(c)).next())
        .collect()
}

/// Returns for each file the files that it names, except those of which it is a part.
pub(crate) fn edges<'a>(files: &Files<'a>) -> BTreeMap<&'a str, BTreeSet<&'a str>> {
    let code: BTreeMap<&str, String> = files
        .iter()
        .map(|(name, text)| (*name, without_comments(text)))
        .collect();
    let is_part = |here: &str, of: &str| {
        here.strip_prefix(of)
            .is_some_and(|rest| rest.starts_with('/'))
            && !implemented(&code[here]).is_disjoint(&declared(&code[of]))
    };
    let named = |here: &str| {
        let paths = paths(&code[here]);
        let named = paths.iter().filter_map(|path| file_of(files, here, path));
        named
            .filter(|there| *there != here && !is_part(here, there))
            .collect()
    };
    files.keys().map(|here| (*here, named(here))).collect()
}

/// The functions that a C file defines for other files.
fn defined_in_c(text: &str) -> BTreeSet<&str> {
    let mut names = BTreeSet::new();
    let mut head = "";
    for line in text.lines() {
        let begins = line.starts_with(|c: char| c.is_ascii_alphabetic());
        if begins && line.contains('(') {
            head = line;
        } else if line == "{" && !head.starts_with("static ") {
            let before = head.split('(').next().unwrap_or(head);
            names.extend(before.rsplit(|c| !is_name(c)).next());
        } else if !line.starts_with(char::is_whitespace) {
            head = "";
        }
    }
    names
}

/// Returns for each C file the files whose functions it names.
pub(crate) fn c_edges<'a>(files: &Files<'a>) -> BTreeMap<&'a str, BTreeSet<&'a str>> {
    let defined: BTreeMap<&str, BTreeSet<&str>> = files
        .iter()
        .map(|(name, text)| (*name, defined_in_c(text)))
        .collect();
    let named = |here: &str, text: &str| {
        let lines = text.lines().map(str::trim_start);
        let code = lines.filter(|line| !line.starts_with(['*', '/']));
        let words: Vec<&str> = code.flat_map(|line| line.split(|c| !is_name(c))).collect();
        let words: BTreeSet<&str> = words
            .windows(2)
            .filter(|pair| pair[0] != "struct")
            .map(|pair| pair[1])
            .collect();
        let others = defined.iter().filter(|(there, _)| **there != here);
        others
            .filter(|(_, names)| !names.is_disjoint(&words))
            .map(|(there, _)| *there)
            .collect()
    };
    files
        .iter()
        .map(|(here, text)| (*here, named(here, text)))
        .collect()
}

/// Returns the sets of several files that can be reached from each other.
pub(crate) fn circles<'a>(
    edges: &BTreeMap<&'a str, BTreeSet<&'a str>>,
) -> BTreeSet<BTreeSet<&'a str>> {
    let reach = |from: &'a str| {
        let mut seen = BTreeSet::new();
        let mut todo = vec![from];
        while let Some(at) = todo.pop() {
            for next in &edges[at] {
                if seen.insert(*next) {
                    todo.push(next);
                }
            }
        }
        seen
    };
    let reached: BTreeMap<&str, BTreeSet<&str>> =
        edges.keys().map(|name| (*name, reach(name))).collect();
    reached
        .iter()
        .filter(|(name, reached)| reached.contains(*name))
        .map(|(name, there)| {
            there
                .iter()
                .copied()
                .filter(|other| reached[other].contains(name))
                .collect()
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(files: &[(&'static str, &'static str)]) -> Vec<Vec<&'static str>> {
        let files: Files<'static> = files.iter().copied().collect();
        let circles = circles(&edges(&files));
        circles
            .into_iter()
            .map(|circle| circle.into_iter().collect())
            .collect()
    }

    #[test]
    fn c_functions_are_seen() {
        let top = "struct low a;\nint top(void)\n{\n\treturn low();\n}\n";
        let low = "static int own(\n\tint a)\n{\n}\n\nint *\nlow(int a,\n    int b)\n{\n\tstruct top a;\n\t/* as in top */\n}\n";
        let back = "int low(void)\n{\n\treturn top();\n}\n";
        assert_eq!(defined_in_c(low).into_iter().collect::<Vec<_>>(), ["low"]);
        let found = |low| circles(&c_edges(&BTreeMap::from([("top", top), ("low", low)])));
        assert!(found(low).is_empty());
        assert_eq!(found(back), [["low", "top"].into()].into());
    }

    #[test]
    fn circles_are_found() {
        let circle = [
            ("a", "mod x; mod y; mod z;"),
            ("a/x", "use super::{\n    y::{self, Y},\n    Other,\n};\n"),
            ("a/y", "// use nothing\nfn f() { super::z::f() }\n"),
            ("a/z", "use crate::a::x::X;\n"),
        ];
        // The file above names none of the three.
        assert_eq!(found(&circle), [["a/x", "a/y", "a/z"]]);
        let mut open = circle;
        open[3].1 = "// use crate::a::x::X;\n";
        assert_eq!(found(&open), [[""; 0]; 0]);
    }

    #[test]
    fn a_part_may_name_its_file() {
        let files = [
            ("a", "use self::x::Helper;\npub(crate) struct Whole;\n"),
            (
                "a/x",
                "use super::Whole;\nstruct Helper;\nimpl<'a> Whole<'a> {\n}\n",
            ),
        ];
        assert_eq!(found(&files), [[""; 0]; 0]);
        let mut other = files;
        other[1].1 = "use super::Whole;\nstruct Helper;\nimpl From<Whole> for Helper {\n}\n";
        assert_eq!(found(&other), [["a", "a/x"]]);
    }
}
