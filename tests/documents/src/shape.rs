// SPDX-License-Identifier: MIT OR Apache-2.0
//! Checks the shape of the module: short files and functions, small structs, imports that only go
//! down in the order of the table in `kernel/flexsc_main.rs`, `unsafe` code only under `kernel/sys`
//! except for promises about code elsewhere, and no large circles
//! of Rust files and none of C files.

mod circles;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// Most lines of a file.
const FILE: usize = 450;
/// Most lines of a function, from its name to its last brace.
const FUNCTION: usize = 50;
/// Most fields of a struct.
const FIELDS: usize = 12;
/// Most files in a circle, in which each names items of the next.
const CIRCLE: usize = 3;

/// Items that may be larger: a file, a name, and the reason.
const EXCEPTIONS: &[(&str, &str, &str)] = &[(
    "kernel/policy.rs",
    "apply",
    "one row for each rule of the policy",
)];

fn root() -> PathBuf {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
    manifest.ancestors().nth(2).unwrap_or(manifest).to_owned()
}

fn collect(dir: &Path, into: &mut BTreeMap<String, String>) {
    for entry in fs::read_dir(dir).expect("a directory of the repository") {
        let path = entry.expect("its entry").path();
        if path.is_dir() {
            collect(&path, into);
        } else if path
            .extension()
            .is_some_and(|end| end == "rs" || end == "c")
        {
            let name = path.strip_prefix(root()).expect("within the repository");
            let text = fs::read_to_string(&path).expect("a text");
            into.insert(name.to_string_lossy().into_owned(), text);
        }
    }
}

/// The module's sources by path.
fn sources() -> BTreeMap<String, String> {
    let mut sources = BTreeMap::new();
    collect(&root().join("kernel"), &mut sources);
    assert!(sources.len() > 60, "only {} sources", sources.len());
    sources
}

fn is_exception(path: &str, name: &str) -> bool {
    EXCEPTIONS
        .iter()
        .any(|(file, item, _)| (*file, *item) == (path, name))
}

/// The word after `keyword` in a line that begins an item.
fn item<'a>(line: &'a str, keyword: &str) -> Option<&'a str> {
    let line = line.trim_start();
    if line.starts_with("//") {
        return None;
    }
    let mut words = line.split_whitespace();
    // In front of the keyword: pub, pub(…), const, unsafe, extern "C".
    let before = ["pub", "const", "unsafe", "extern", "\"C\""];
    let is_before =
        |word: &&str| before.contains(word) || word.starts_with("pub(") || *word == "crate)";
    let first = words.find(|word| !is_before(word))?;
    let name = words.next()?;
    let end = name.find(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    (first == keyword).then(|| &name[..end.unwrap_or(name.len())])
}

/// The items that begin with `keyword`, each with its lines. The code must be formatted by rustfmt:
/// the last line is a brace below the first letter of the first line.
fn items<'a>(text: &'a str, keyword: &str) -> Vec<(&'a str, Vec<&'a str>)> {
    let lines: Vec<&str> = text.lines().collect();
    let mut found = Vec::new();
    for (at, line) in lines.iter().enumerate() {
        let Some(name) = item(line, keyword) else {
            continue;
        };
        let indent = &line[..line.len() - line.trim_start().len()];
        let is_last = |line: &&&str| {
            line.strip_prefix(indent).is_some_and(|rest| {
                rest.starts_with('}') || rest.ends_with(';') && !rest.starts_with(' ')
            })
        };
        let rest = &lines[at..];
        let is_short = line.ends_with(';') || line.ends_with('}');
        let len = if is_short {
            0
        } else {
            rest.iter()
                .skip(1)
                .take_while(|line| !is_last(line))
                .count()
                + 1
        };
        found.push((name, rest[..=len.min(rest.len() - 1)].to_vec()));
    }
    found
}

/// The functions of a Rust file that are too long, with their lines.
fn long_functions(text: &str) -> Vec<(&str, usize)> {
    let functions = items(text, "fn").into_iter();
    functions
        .map(|(name, lines)| (name, lines.len()))
        .filter(|(_, len)| *len > FUNCTION)
        .collect()
}

/// The functions of a C file with their lines, from the first one of the head to the last brace.
fn c_functions(text: &str) -> Vec<(&str, usize)> {
    let lines: Vec<&str> = text.lines().collect();
    let begins_with = |line: &str, is: fn(char) -> bool| line.starts_with(is);
    let mut found = Vec::new();
    for (open, _) in lines.iter().enumerate().filter(|(_, line)| **line == "{") {
        let head = &lines[..open];
        let is_head = |line: &&&str| begins_with(line, |c| c == ' ' || c == '\t');
        let first = head.iter().rev().take_while(is_head).count() + 1;
        let Some(first) = open.checked_sub(first) else {
            continue;
        };
        let body = lines[open..].iter().take_while(|line| **line != "}");
        let name = lines[first].split('(').next().unwrap_or_default();
        let name = name.rsplit([' ', '*', '\t']).next().unwrap_or_default();
        found.push((name, open - first + body.count() + 1));
    }
    found
}

/// The structs of a Rust file that have too many fields, with their number.
fn large_structs(text: &str) -> Vec<(&str, usize)> {
    let is_field = |line: &&&str| {
        let line = line.trim_start();
        let line = line.strip_prefix("pub(crate) ").unwrap_or(line);
        let line = line.strip_prefix("pub(super) ").unwrap_or(line);
        line.split_once(": ").is_some_and(|(name, _)| {
            !name.is_empty() && name.chars().all(|c| c.is_ascii_lowercase() || c == '_')
        })
    };
    let structs = items(text, "struct").into_iter();
    structs
        .map(|(name, lines)| (name, lines.iter().filter(is_field).count()))
        .filter(|(_, fields)| *fields > FIELDS)
        .collect()
}

#[test]
fn files_functions_and_structs_are_small() {
    let sources = sources();
    let mut wrong = Vec::new();
    let (mut functions, mut c) = (0, 0);
    for (path, text) in &sources {
        let lines = text.lines().count();
        if lines > FILE {
            wrong.push(format!("{path} has {lines} lines"));
        }
        if path.ends_with(".c") {
            c += c_functions(text).len();
            let long = c_functions(text).into_iter();
            let long = long.filter(|(_, len)| *len > FUNCTION);
            wrong.extend(long.map(|(name, len)| format!("{path}: {name} has {len} lines")));
            continue;
        }
        functions += items(text, "fn").len();
        for (name, len) in long_functions(text) {
            if !is_exception(path, name) {
                wrong.push(format!("{path}: {name} has {len} lines"));
            }
        }
        for (name, fields) in large_structs(text) {
            if !is_exception(path, name) {
                wrong.push(format!("{path}: {name} has {fields} fields"));
            }
        }
    }
    assert!(
        functions > 500 && c > 80,
        "found only {functions} functions, and {c} in C"
    );
    assert!(wrong.is_empty(), "too large:\n{}", wrong.join("\n"));
    for (path, name, _) in EXCEPTIONS {
        let text = sources
            .get(*path)
            .unwrap_or_else(|| panic!("there is no {path}"));
        let large = [long_functions(text), large_structs(text)].concat();
        assert!(
            large.iter().any(|(large, _)| large == name),
            "{path}: {name} no longer needs an exception"
        );
    }
}

#[test]
fn what_is_large_is_found() {
    let body = |lines: usize| "        work();\n".repeat(lines);
    let method = |lines| {
        format!(
            "impl Some {{\n    pub(crate) fn long(\n        &self,\n    ) -> u32 {{\n{}    }}\n\n    fn short() {{}}\n}}\n",
            body(lines)
        )
    };
    assert_eq!(long_functions(&method(46)), []);
    assert_eq!(long_functions(&method(47)), [("long", 51)]);
    let shim = format!(
        "unsafe extern \"C\" fn shim(data: u32) {{\n{}}}\n",
        body(49)
    );
    assert_eq!(long_functions(&shim), [("shim", 51)]);
    let c = |lines: usize| {
        format!(
            "int *flexsc_long(int a,\n\t\t int b)\n{{\n{}}}\n\nstruct s {{\n}};\n",
            "\twork();\n".repeat(lines)
        )
    };
    assert_eq!(c_functions(&c(47)), [("flexsc_long", 51)]);
    let fields: Vec<String> = ('a'..='m')
        .map(|c| format!("    pub(crate) {c}: u32,\n"))
        .collect();
    let fields = fields.concat();
    let large = format!("/// See: nothing.\npub(crate) struct Large<'a> {{\n{fields}}}\n");
    assert_eq!(large_structs(&large), [("Large", 13)]);
    assert_eq!(
        large_structs(&large.replace("    pub(crate) a: u32,\n", "")),
        []
    );
}

/// The layers of the module, the highest first: the rows of the table that are not parts of others.
fn layers(main: &str) -> Vec<&str> {
    main.lines()
        .filter_map(|line| line.strip_prefix("//! | `")?.split_once('`'))
        .map(|(name, _)| name)
        .filter(|name| !name.contains("::"))
        .collect()
}

/// The names directly below `crate::` that a file mentions outside of comments.
fn imports(text: &str) -> BTreeSet<String> {
    let code: String = text
        .lines()
        .map(|line| line.split("//").next().unwrap_or(line))
        .flat_map(|line| [line, "\n"])
        .collect();
    let mut names = BTreeSet::new();
    for (at, _) in code.match_indices("crate::") {
        let rest = &code[at + "crate::".len()..];
        let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
        if !rest.starts_with('{') {
            let end = rest.find(|c| !is_name(c)).unwrap_or(rest.len());
            names.insert(rest[..end].to_owned());
            continue;
        }
        let (mut depth, mut name) = (0, String::new());
        for c in rest.chars() {
            match c {
                '{' => depth += 1,
                '}' => depth -= 1,
                _ => {}
            }
            if depth == 1 && is_name(c) {
                name.push(c);
            } else if depth == 1 && matches!(c, ':' | ',') || depth == 0 {
                names.insert(std::mem::take(&mut name));
                if c == ':' {
                    // The rest of this path does not count.
                    name.push(' ');
                }
            }
            if depth == 0 {
                break;
            }
        }
    }
    names.retain(|name| !name.is_empty() && !name.starts_with(' '));
    names
}

#[test]
fn imports_go_down() {
    let sources = sources();
    let main = &sources["kernel/flexsc_main.rs"];
    let layers = layers(main);
    let declared = items_of_main(main);
    assert_eq!(
        layers.iter().copied().collect::<BTreeSet<_>>(),
        declared,
        "layers and their modules"
    );
    let level = |name: &str| layers.iter().position(|layer| *layer == name);
    let mut pairs = BTreeSet::new();
    let mut wrong = Vec::new();
    for (path, text) in sources.iter().filter(|(path, _)| path.ends_with(".rs")) {
        let name = path.trim_start_matches("kernel/").trim_end_matches(".rs");
        let layer = name.split('/').next().unwrap_or(name);
        let Some(here) = level(layer) else {
            continue;
        };
        for import in imports(text) {
            match level(&import) {
                Some(there) if there < here => wrong.push(format!("{path} imports {import}")),
                Some(there) if there > here => drop(pairs.insert((here, there))),
                _ => {}
            }
        }
    }
    assert!(
        wrong.is_empty(),
        "imports that go up:\n{}",
        wrong.join("\n")
    );
    assert!(
        (20..=50).contains(&pairs.len()),
        "{} pairs of layers",
        pairs.len()
    );
}

#[test]
fn circles_are_small() {
    let sources = sources();
    let files = sources
        .iter()
        .filter_map(|(path, text)| {
            let name = path.strip_prefix("kernel/")?.strip_suffix(".rs")?;
            let name = name.strip_suffix("/mod").unwrap_or(name);
            (name != "flexsc_main").then_some((name, text.as_str()))
        })
        .collect();
    let edges = circles::edges(&files);
    let all: usize = edges.values().map(BTreeSet::len).sum();
    assert!(all > 200, "only {all} files name others");
    let circles = circles::circles(&edges);
    let large: Vec<_> = circles
        .iter()
        .filter(|circle| circle.len() > CIRCLE)
        .collect();
    assert!(large.is_empty(), "files name each other: {large:?}");
    let in_c = sources
        .iter()
        .filter(|(path, _)| path.ends_with(".c"))
        .map(|(path, text)| (path.as_str(), text.as_str()))
        .collect();
    let edges = circles::c_edges(&in_c);
    let all: usize = edges.values().map(BTreeSet::len).sum();
    assert!(all > 10, "only {all} C files name others");
    let circles = circles::circles(&edges);
    assert!(circles.is_empty(), "C files name each other: {circles:?}");
}

/// The modules that the module's main file declares.
fn items_of_main(main: &str) -> BTreeSet<&str> {
    let modules = main.lines().filter_map(|line| line.strip_prefix("mod "));
    modules.map(|name| name.trim_end_matches(';')).collect()
}

#[test]
fn imports_are_seen() {
    let text = "use crate::{\n    defs::{Bits, Role},\n    pages::Pages,\n    sys::process,\n};\n\
        /// As [`run`](crate::run).\nfn f() { crate::wait::wait() }\nuse crate::quota::{self, Quota};\n";
    let seen: Vec<String> = imports(text).into_iter().collect();
    assert_eq!(seen, ["defs", "pages", "quota", "sys", "wait"]);
    let main =
        "//! | file | what |\n//! | `device` | x |\n//! | `run::entry` | x |\n//! | `sys` | x |\n";
    assert_eq!(layers(main), ["device", "sys"]);
}

/// The lines of a file, without comments and without the contents of strings.
fn code(text: &str) -> impl Iterator<Item = String> + '_ {
    text.lines().map(|line| {
        let line = line.split("//").next().unwrap_or(line);
        let parts = line.split('"').enumerate();
        parts
            .filter(|(at, _)| at % 2 == 0)
            .map(|(_, part)| part)
            .collect()
    })
}

/// A file outside of `kernel/sys` that promises to keep the rules of a trait there, and the trait.
const PROMISES: &[(&str, &str)] = &[("kernel/run/handoff.rs", "Blocking")];

/// Returns true if this line is one of the file's [`PROMISES`].
fn is_promise(path: &str, line: &str) -> bool {
    PROMISES
        .iter()
        .any(|(file, name)| *file == path && line.starts_with(&format!("unsafe impl {name} for ")))
}

/// The words in code that are allowed only at the border to C.
fn border_words(path: &str, text: &str) -> Vec<&'static str> {
    let is_word = |c: char| !c.is_ascii_alphanumeric() && c != '_';
    let lines: Vec<String> = code(text).filter(|line| !is_promise(path, line)).collect();
    let has = |word: &str| {
        lines
            .iter()
            .any(|line| line.split(is_word).any(|part| part == word))
    };
    ["unsafe", "bindings"]
        .into_iter()
        .filter(|word| has(word))
        .collect()
}

/// Functions that C calls, and unsafe traits and functions, whose comment does not say what the
/// caller or the implementer must promise; and the number of all such functions and traits.
fn without_promise(text: &str) -> (Vec<String>, usize) {
    let lines: Vec<&str> = text.lines().collect();
    let mut wrong = Vec::new();
    let mut all = 0;
    for (at, line) in lines.iter().enumerate() {
        let line = line.trim_start();
        let is_item = ["unsafe fn ", "unsafe extern \"C\" fn ", "unsafe trait "]
            .iter()
            .any(|item| line.starts_with(item) || line.starts_with("pub") && line.contains(item));
        if !is_item {
            continue;
        }
        all += 1;
        let above = lines[..at].iter().rev().map(|line| line.trim_start());
        let mut comment = above.take_while(|line| line.starts_with("///") || line.starts_with('#'));
        if !comment.any(|line| line == "/// # Safety") {
            wrong.push(line.to_owned());
        }
    }
    (wrong, all)
}

#[test]
fn unsafe_code_is_at_the_border() {
    let mut wrong = Vec::new();
    let (mut files, mut promises) = (0, 0);
    for (path, text) in sources().iter().filter(|(path, _)| path.ends_with(".rs")) {
        let words = border_words(path, text);
        if path.starts_with("kernel/sys/") {
            files += usize::from(words.contains(&"unsafe"));
        } else if !words.is_empty() {
            wrong.push(format!("{path} uses {words:?}"));
        }
        let (without, all) = without_promise(text);
        promises += all;
        wrong.extend(
            without
                .iter()
                .map(|line| format!("{path}: no # Safety for {line}")),
        );
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(
        files > 15 && promises > 15,
        "{files} files, {promises} promises"
    );
    let sources = sources();
    for (path, name) in PROMISES {
        let text = sources
            .get(*path)
            .unwrap_or_else(|| panic!("there is no {path}"));
        let mut lines = text.lines().filter(|line| is_promise(path, line));
        assert!(lines.next().is_some(), "{path}: no promise of {name}");
    }
}

#[test]
fn unsafe_code_is_seen() {
    let words = |text| border_words("kernel/run.rs", text);
    assert_eq!(words("fn f() { unsafe { g() } }\n"), ["unsafe"]);
    assert_eq!(words("use kernel::bindings;\n"), ["bindings"]);
    assert_eq!(
        words("// unsafe\nlet a = \"unsafe bindings\"; // bindings\n"),
        [""; 0]
    );
    let promise = "unsafe impl Blocking for Batch<'_> {\n";
    assert_eq!(words(promise), ["unsafe"]);
    assert_eq!(border_words(PROMISES[0].0, promise), [""; 0]);
    assert_eq!(
        border_words(PROMISES[0].0, "unsafe impl Send for Batch<'_> {}\n"),
        ["unsafe"]
    );
    let shim = "/// Called.\nunsafe extern \"C\" fn run() {\n";
    assert_eq!(without_promise(shim).0.len(), 1);
    let shim =
        "/// Called.\n///\n/// # Safety\n///\n/// Once.\n#[cold]\nunsafe extern \"C\" fn run() {\n";
    assert_eq!(without_promise(shim), (vec![], 1));
}
