// SPDX-License-Identifier: MIT OR Apache-2.0
//! Checks that documents, man pages and comments name only things that exist: `Type::method`,
//! files, guest tests, module parameters, ioctls and other constants, targets of make, options
//! of scripts, symbols, functions, patches.
//!
//! A name that is not defined in this repository has a line in `outside.txt`, which says where
//! it is defined.

mod check;
mod patches;
mod repository;
mod source;
mod text;

use check::Text;
use patches::Patches;
use repository::Repository;
use source::{Names, Source};
use std::collections::BTreeSet;
use std::env;
use std::fs;
use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::LazyLock;
use text::{Quote, Quoted};

/// Documents about the kernel side.
const KERNEL_DOCUMENTS: &[&str] = &[
    "docs/internals.md",
    "docs/lifecycle.md",
    "docs/locking.md",
    "docs/scheduling.md",
    "docs/security.md",
];

/// History, which may name things that no longer exist.
const HISTORY: &[&str] = &["CHANGELOG.md"];

/// A table of another project's names, which `flexsc-policy-tests` compares with that project.
const TASK_TABLE: &str = "### What a call reads about its caller";

/// Read once for all tests.
fn repository() -> &'static Repository {
    static REPOSITORY: LazyLock<Repository> = LazyLock::new(Repository::load);
    &REPOSITORY
}

/// Returns all that is wrong in a text, with line numbers.
fn check_text(
    repository: &Repository,
    text: Text<'_>,
    dir: &str,
    quotes: &[Quoted],
) -> BTreeSet<(usize, String)> {
    let mut wrong = BTreeSet::new();
    for (line, quote) in quotes {
        for sentence in repository.check(text, dir, quote) {
            wrong.insert((*line, sentence));
        }
    }
    wrong
}

fn check_document(repository: &Repository, path: &str, content: &str) -> BTreeSet<(usize, String)> {
    let kind = if KERNEL_DOCUMENTS.contains(&path) {
        Text::KernelDocument
    } else {
        Text::Document
    };
    let dir = path.rsplit_once('/').map_or("", |(dir, _)| dir);
    let content = without_task_table(content);
    check_text(repository, kind, dir, &text::markdown(&content, false))
}

/// The text with the rows of the table of a task's fields blanked.
fn without_task_table(content: &str) -> String {
    let mut inside = false;
    let lines = content.lines().map(|line| {
        inside = line == TASK_TABLE || inside && !line.starts_with('#');
        if inside && line.starts_with('|') {
            ""
        } else {
            line
        }
    });
    lines.flat_map(|line| [line, "\n"]).collect()
}

/// The documents and man pages of the repository.
fn documents(repository: &Repository) -> (Vec<String>, Vec<String>) {
    let paths = || {
        repository
            .paths
            .iter()
            .filter(|path| !HISTORY.contains(&path.as_str()))
    };
    (
        paths()
            .filter(|path| path.ends_with(".md"))
            .cloned()
            .collect(),
        paths()
            .filter(|path| path.contains("/man/") && path.ends_with(|c: char| c.is_ascii_digit()))
            .cloned()
            .collect(),
    )
}

fn report(path: &str, wrong: BTreeSet<(usize, String)>, all: &mut Vec<String>) {
    all.extend(
        wrong
            .into_iter()
            .map(|(line, sentence)| format!("{path}:{line}: {sentence}")),
    );
}

#[track_caller]
fn assert_none(wrong: &[String]) {
    assert!(
        wrong.is_empty(),
        "{} names that do not exist (tests/documents/src/outside.txt is for names from elsewhere):\n{}",
        wrong.len(),
        wrong.join("\n")
    );
}

#[test]
fn documents_name_what_exists() {
    let repository = repository();
    let (documents, _) = documents(repository);
    assert!(documents.len() > 8, "{documents:?}");
    let mut wrong = Vec::new();
    for path in documents {
        let content = repository.read(&path);
        report(
            &path,
            check_document(repository, &path, &content),
            &mut wrong,
        );
    }
    assert_none(&wrong);
}

#[test]
fn man_pages_name_what_exists() {
    let repository = repository();
    let (_, pages) = documents(repository);
    assert!(pages.len() > 2, "{pages:?}");
    let mut wrong = Vec::new();
    for path in pages {
        let quotes = text::man(&repository.read(&path));
        report(
            &path,
            check_text(repository, Text::Document, "", &quotes),
            &mut wrong,
        );
    }
    assert_none(&wrong);
}

#[test]
fn comments_name_what_exists() {
    let repository = repository();
    assert!(repository.sources.len() > 100);
    let mut wrong = Vec::new();
    for (path, source) in &repository.sources {
        let (kernel, user, tests) = (&repository.kernel, &repository.user, &repository.tests);
        let names: &[&Names] = match path.split('/').next() {
            Some("kernel") => &[kernel],
            Some("user") => &[user],
            _ => &[tests, kernel, user],
        };
        for comment in &source.comments {
            let quotes: Vec<Quoted> = text::comment(&comment.text)
                .into_iter()
                .map(|(line, quote)| (comment.line + line - 1, quote))
                .collect();
            let text = Text::Comment(source, names);
            report(path, check_text(repository, text, "", &quotes), &mut wrong);
        }
    }
    assert_none(&wrong);
}

#[test]
fn messages_of_patches_name_what_exists() {
    let repository = repository();
    assert!(repository.messages.len() > 8);
    let no_code = Source::default();
    let kernel = [&repository.kernel];
    let text = Text::Comment(&no_code, &kernel);
    let mut wrong = Vec::new();
    for (path, message) in &repository.messages {
        report(
            path,
            check_text(repository, text, "", &text::comment(message)),
            &mut wrong,
        );
    }
    assert_none(&wrong);
}

#[test]
fn patches_fit_their_numbers() {
    let repository = repository();
    let patches = Patches::new(&repository.messages);
    assert!(patches.len() > 8);
    let (documents, pages) = documents(repository);
    let mut wrong = Vec::new();
    for path in documents.iter().chain(&pages) {
        let found = patches.check(&repository.read(path));
        report(path, found.into_iter().collect(), &mut wrong);
    }
    for (path, source) in &repository.sources {
        for comment in &source.comments {
            let found = patches.check(&comment.text).into_iter();
            let found = found.map(|(line, said)| (comment.line + line - 1, said));
            report(path, found.collect(), &mut wrong);
        }
    }
    assert_none(&wrong);
}

/// The kernel's sources in the cache.
fn kernels() -> Vec<PathBuf> {
    let var = |name| env::var_os(name).map(PathBuf::from);
    let cache = var("FLEXSC_CACHE")
        .or_else(|| var("XDG_CACHE_HOME").map(|dir| dir.join("flexsc")))
        .or_else(|| var("HOME").map(|dir| dir.join(".cache/flexsc")));
    let entries = cache.and_then(|cache| fs::read_dir(cache.join("src")).ok());
    let paths = entries
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path());
    paths
        .filter(|path| path.join("kernel/fork.c").is_file())
        .collect()
}

#[test]
fn names_of_the_kernel_are_there() {
    let repository = repository();
    let kernels = kernels();
    if kernels.is_empty() {
        // Not with eprintln!, because the test harness captures its output.
        let _ = writeln!(
            io::stderr(),
            "SKIPPED: tests/documents/src/outside.txt was not compared with the kernel's source, which \
             is not in the cache; run scripts/build-kernel.sh."
        );
    }
    let mut wrong = Vec::new();
    for kernel in kernels {
        for (name, place) in &repository.outside {
            if !place.contains('/') {
                continue;
            }
            let text = fs::read_to_string(kernel.join(place)).unwrap_or_default();
            let is_file = place.ends_with(name.as_str()) && !text.is_empty();
            if !is_file && !source::words(&text).any(|word| word == name) {
                wrong.push(format!("{name} is not in {}", kernel.join(place).display()));
            }
        }
    }
    assert_none(&wrong);
}

#[test]
fn names_of_others_are_used() {
    let repository = repository();
    let (documents, pages) = documents(repository);
    let texts = documents
        .iter()
        .chain(&pages)
        .map(|path| repository.read(path));
    let comments = repository
        .sources
        .values()
        .flat_map(|source| &source.comments);
    let all: String = texts
        .chain(comments.map(|comment| comment.text.clone()))
        .map(|text| text.replace("\\-", "-") + "\n")
        .collect();
    let unused: Vec<&String> = repository
        .outside
        .keys()
        .filter(|name| !all.contains(name.as_str()))
        .collect();
    assert!(
        unused.is_empty(),
        "nothing uses these names in outside.txt: {unused:?}"
    );
}

#[test]
fn all_areas_of_guest_tests_are_listed() {
    let repository = repository();
    let document = repository.read("docs/testing.md");
    let (_, list) = document.split_once("\nAreas: ").expect("the list is there");
    let list = list.split("\n\n").next().unwrap_or(list);
    let mut listed: Vec<&str> = list.split('`').skip(1).step_by(2).collect();
    let mut areas: Vec<&str> = repository.areas().into_iter().collect();
    listed.sort_unstable();
    areas.sort_unstable();
    assert_eq!(listed, areas);
}

/// Every kind of wrong name is found, and the right one beside it is not.
#[test]
fn planted_names_are_found() {
    let repository = repository();
    for (kind, right, wrong) in [
        ("method", "`Engine::close`", "`Engine::shut`"),
        ("type", "`OwnedTable::remove`", "`SharedTable::remove`"),
        ("item of a module", "`quota::Charge`", "`quota::Debit`"),
        ("variant", "`Class::ByFile`", "`Class::ByName`"),
        ("field", "`flexsc_entry.reason`", "`flexsc_entry.excuse`"),
        (
            "function of the module",
            "`flexsc_may_open`",
            "`flexsc_must_open`",
        ),
        (
            "function of the core",
            "`syscall_invoke_self()`",
            "`syscall_invoke()`",
        ),
        (
            "constant in a sentence",
            "by FLEXSC_ENTRY_ASYNC",
            "by FLEXSC_ENTRY_SYNC",
        ),
        ("constants", "`FLEXSC_WAIT_*`", "`FLEXSC_SLEEP_*`"),
        ("ioctl", "`FLEXSC_IOC_KICK`", "`FLEXSC_IOC_PUSH`"),
        ("error", "fails with -EREMCHG", "fails with -ESYSCALLOWNER"),
        ("errors", "`-ERESTART*`", "`-ERESTARTED*`"),
        ("symbol in a sentence", "flexsc_wait(2)", "flexsc_sleepy(2)"),
        ("file", "`kernel/engine.rs`", "`kernel/motor.rs`"),
        ("file without its directory", "`engine.rs`", "`motor.rs`"),
        ("file in a sentence", "see docs/abi.md", "see docs/api.md"),
        ("directory", "`kernel/sys/`", "`kernel/border/`"),
        ("link", "[x](abi.md)", "[x](api.md)"),
        ("heading", "[x](abi.md#ioctls)", "[x](abi.md#calls)"),
        ("guest test", "`life.exec_fails`", "`life.exec_failed`"),
        ("guest tests", "`life.exec_*`", "`life.execve_*`"),
        (
            "guest test without its area",
            "`exec_fails`",
            "`exec_failed`",
        ),
        (
            "filter",
            "`scripts/ktest.sh -k 'life. ends.'`",
            "`scripts/ktest.sh -k 'life. end_s.'`",
        ),
        (
            "module parameter",
            "`insmod flexsc.ko max_pages=1`",
            "`insmod flexsc.ko max_sheets=1`",
        ),
        (
            "module parameter in sysfs",
            "`/sys/module/flexsc/parameters/enable`",
            "`/sys/module/flexsc/parameters/enabled`",
        ),
        ("target of make", "`make demo`", "`make demonstration`"),
        (
            "target in a block",
            "```\nmake test\n```",
            "```\nmake tests\n```",
        ),
        (
            "option of a script",
            "`scripts/ktest.sh --shell`",
            "`scripts/ktest.sh --snail`",
        ),
        (
            "option in a block",
            "```sh\nscripts/soak.sh --fuzz\n```",
            "```sh\nscripts/soak.sh --fizz\n```",
        ),
        ("option by itself", "`--icount`", "`--idcount`"),
        (
            "option of a tool",
            "`flexsc-copy --in-flight 3`",
            "`flexsc-copy --in-air 3`",
        ),
        ("script", "`scripts/bench.sh`", "`scripts/bank.sh`"),
        (
            "script with options",
            "`scripts/bench.sh --quick`",
            "`scripts/bank.sh --quick`",
        ),
        (
            "option of the configuration",
            "CONFIG_FLEXSC=n",
            "CONFIG_FLEXSCAN=n",
        ),
        (
            "quote in two lines",
            "`Engine::close\n`",
            "`Engine::shut\n`",
        ),
    ] {
        let found = check_document(repository, "docs/internals.md", right);
        assert!(found.is_empty(), "{kind}: {found:?}");
        let found = check_document(repository, "docs/internals.md", wrong);
        assert_eq!(found.len(), 1, "{kind}: {wrong}: {found:?}");
    }
}

#[test]
fn planted_names_in_man_pages_are_found() {
    let repository = repository();
    for (right, wrong) in [
        (".I ctrl_len", ".I ctrl_size"),
        (".BI \\-\\-buffer \" kib\"", ".BI \\-\\-bluffer \" kib\""),
        (".B FLEXSC_IOC_KICK", ".B FLEXSC_IOC_PUSH"),
        ("see docs/abi.md.", "see docs/api.md."),
    ] {
        let check = |content| check_text(repository, Text::Document, "", &text::man(content));
        assert_eq!(check(right), BTreeSet::new());
        assert!(!check(wrong).is_empty(), "{wrong}");
    }
}

#[test]
fn planted_names_in_comments_are_found() {
    let repository = repository();
    let code = "/// Calls [`Self::run`] with `bits`.\nimpl Worker { fn serve(bits: u64) {} }";
    let source = source::Source::new(code, source::Language::Rust);
    let check = |content| {
        check_text(
            repository,
            Text::Comment(&source, &[&repository.kernel]),
            "",
            &text::comment(content),
        )
    };
    for right in [
        "[`Self::run`]",
        "`bits`",
        "[x](crate::engine::Engine::close)",
        "see `engine.rs`",
        "as syscall_invoke_self() does",
        "as execve() does, and flexsc_wait()",
        " * @bits: entries",
    ] {
        assert_eq!(check(right), BTreeSet::new(), "{right}");
    }
    for wrong in [
        "[`Self::walk`]",
        "`bats`",
        "[x](crate::engine::Engine::shut)",
        "see `motor.rs`",
        "as syscall_invoke() does",
        // A struct and a variable.
        "as flexsc_parked() does",
        "as flexsc_tracers() does",
        " * @bats: entries",
    ] {
        assert!(!check(wrong).is_empty(), "{wrong}");
    }
    // A name that is quoted nowhere is not checked.
    assert!(source.comments.iter().all(|comment| {
        text::comment(&comment.text)
            .iter()
            .all(|(_, quote)| !matches!(quote, Quote::Link(_)))
    }));
}
