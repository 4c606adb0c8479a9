// SPDX-License-Identifier: MIT OR Apache-2.0
//! The repository: its files, and the names that they define.

use crate::source::{Language, Names, Source, words};
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::fs;
use std::path::{Path, PathBuf};

/// The contents of the repository.
#[derive(Default)]
pub(crate) struct Repository {
    root: PathBuf,
    /// All files and directories, relative to the root.
    pub(crate) paths: BTreeSet<String>,
    /// The module, the UAPI header and the patches.
    pub(crate) kernel: Names,
    /// The names in `user/`.
    pub(crate) user: Names,
    /// The names in `tests/`.
    pub(crate) tests: Names,
    /// Words of scripts, of configurations and of the Makefile.
    pub(crate) scripts: Names,
    /// The texts of scripts, by path.
    pub(crate) script_texts: BTreeMap<String, String>,
    /// The guest tests, as `area.name`.
    pub(crate) guest_tests: BTreeSet<String>,
    pub(crate) parameters: BTreeSet<String>,
    pub(crate) targets: BTreeSet<String>,
    /// Names that are defined elsewhere.
    pub(crate) outside: HashMap<String, String>,
    /// The messages of the patches, by path.
    pub(crate) messages: BTreeMap<String, String>,
    /// Rust and C files with comments to check, and what the patches add to such files, by path.
    pub(crate) sources: BTreeMap<String, Source>,
}

/// The repository that this test belongs to.
fn root() -> PathBuf {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
    manifest.ancestors().nth(2).unwrap_or(manifest).to_owned()
}

impl Repository {
    pub(crate) fn load() -> Self {
        let mut this = Repository {
            root: root(),
            ..Repository::default()
        };
        this.walk("");
        let paths: Vec<String> = this.paths.iter().cloned().collect();
        for path in paths {
            this.add_file(&path);
        }
        this.add_outside(include_str!("outside.txt"));
        this
    }

    pub(crate) fn read(&self, path: &str) -> String {
        fs::read_to_string(self.root.join(path)).unwrap_or_default()
    }

    fn walk(&mut self, dir: &str) {
        let entries = fs::read_dir(self.root.join(dir)).expect("the repository can be read");
        for entry in entries.flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            if matches!(name.as_str(), ".git" | "target" | "build") {
                continue;
            }
            let path = if dir.is_empty() {
                name
            } else {
                format!("{dir}/{name}")
            };
            let is_dir = entry.file_type().is_ok_and(|kind| kind.is_dir());
            self.paths.insert(path.clone());
            if is_dir {
                self.walk(&path);
            }
        }
    }

    fn add_file(&mut self, path: &str) {
        // These tests plant wrong names.
        if path.starts_with("tests/documents/") {
            return;
        }
        let (dir, name) = path.split_once('/').unwrap_or(("", path));
        let extension = name.rsplit_once('.').map_or("", |(_, extension)| extension);
        match (dir, extension) {
            ("kernel" | "user" | "tests", "rs") => self.add_rust(dir, path),
            ("kernel", "c" | "h") => {
                let text = self.read(path);
                let source = Source::new(&text, Language::C);
                self.kernel.add_words(&source.code);
                self.add_parameters(&source.code);
                self.sources.insert(path.to_owned(), source);
            }
            ("kernel", "patch") => {
                let text = self.read(path);
                self.kernel.add_words(&patched(&text));
                let message = text.split("\n---\n").next().unwrap_or_default();
                self.messages.insert(path.to_owned(), message.to_owned());
                let source = Source::new(&added(&text), Language::C);
                self.sources.insert(path.to_owned(), source);
                // Files of the patched kernel.
                let files = text.lines().filter_map(|line| line.strip_prefix("+++ b/"));
                self.paths.extend(files.map(str::to_owned));
            }
            ("kernel", "config" | "perf") | ("tests", "sh" | "py" | "ere") | ("scripts", _) => {
                self.add_script(path);
            }
            _ if matches!(path, "Makefile" | ".ci/run" | "Kconfig" | "kernel/Kbuild") => {
                self.add_script(path);
                if path == "Makefile" {
                    self.add_targets();
                }
            }
            _ => {}
        }
    }

    fn add_rust(&mut self, dir: &str, path: &str) {
        let text = self.read(path);
        let source = Source::new(&text, Language::Rust);
        let mut parts = path.trim_end_matches(".rs").rsplit('/');
        let module = match parts.next() {
            Some("mod" | "lib" | "main") => parts.next().unwrap_or(""),
            Some(name) => name,
            None => "",
        };
        let names = match dir {
            "kernel" => &mut self.kernel,
            "user" => &mut self.user,
            _ => &mut self.tests,
        };
        names.add_rust(&source, module);
        // A table of rows, each of which declares a call.
        if path == "kernel/policy/table.rs" {
            names.add_words(&source.code);
            let calls = source.words().map(str::to_owned);
            names.functions.extend(calls);
        }
        self.add_guest_tests(&source.code);
        self.sources.insert(path.to_owned(), source);
    }

    /// The names in `tests! { "area": name => …; … }`.
    fn add_guest_tests(&mut self, code: &str) {
        for part in code.split("tests! {").skip(1) {
            let Some((area, rest)) = part.trim_start().trim_start_matches('"').split_once('"')
            else {
                continue;
            };
            if !area.chars().all(|c| c.is_ascii_lowercase() || c == '_') {
                continue;
            }
            let end = rest.find("\n}").unwrap_or(rest.len());
            for line in rest[..end].lines() {
                let (name, about) = line.split_once("=>").unwrap_or(("", ""));
                if !about.is_empty() && words(name).eq([name.trim()]) {
                    self.guest_tests.insert(format!("{area}.{}", name.trim()));
                }
            }
        }
    }

    fn add_parameters(&mut self, code: &str) {
        for macro_name in ["module_param(", "module_param_cb("] {
            for part in code.split(macro_name).skip(1) {
                self.parameters
                    .extend(words(part).next().map(str::to_owned));
            }
        }
    }

    fn add_script(&mut self, path: &str) {
        let text = self.read(path);
        let code: String = text
            .lines()
            .filter(|line| !line.trim_start().starts_with('#') || line.contains("CONFIG_"))
            .flat_map(|line| [line, "\n"])
            .collect();
        self.scripts.add_words(&code);
        self.script_texts.insert(path.to_owned(), text);
    }

    fn add_targets(&mut self) {
        for line in self.read("Makefile").lines() {
            let (target, _) = line.split_once(':').unwrap_or(("", ""));
            if !target.is_empty() && target.chars().all(|c| c.is_ascii_lowercase() || c == '-') {
                self.targets.insert(target.to_owned());
            }
        }
    }

    fn add_outside(&mut self, text: &str) {
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            let mut parts = line.split_whitespace();
            let (Some(name), Some(place)) = (parts.next(), parts.next()) else {
                continue;
            };
            let before = self.outside.insert(name.to_owned(), place.to_owned());
            assert!(before.is_none(), "outside.txt has {name} twice");
        }
    }

    /// The areas of the guest tests.
    pub(crate) fn areas(&self) -> HashSet<&str> {
        let names = self.guest_tests.iter();
        names
            .filter_map(|name| Some(name.split_once('.')?.0))
            .collect()
    }

    /// Returns true if there is a file or directory with this name, which may lack leading
    /// directories.
    pub(crate) fn has_path(&self, path: &str) -> bool {
        let path = path.trim_end_matches('/').trim_start_matches("./");
        if let Some((before, after)) = path.split_once('*') {
            return self.paths.iter().any(|p| {
                p.strip_suffix(after)
                    .is_some_and(|p| p.contains(before.trim_start_matches('/')))
            });
        }
        self.paths.contains(path)
            || self
                .paths
                .iter()
                .any(|p| p.strip_suffix(path).is_some_and(|p| p.ends_with('/')))
    }
}

/// The lines that a patch adds, each at its place; the other lines are empty.
fn added(patch: &str) -> String {
    let begin = patch.find("\ndiff ").unwrap_or(patch.len());
    let (message, diff) = patch.split_at(begin);
    let blank = message.lines().map(|_| "");
    let lines = diff
        .lines()
        .skip(1)
        .map(|line| match line.strip_prefix('+') {
            Some(line) if !line.starts_with("++ ") => line,
            _ => "",
        });
    blank.chain(lines).flat_map(|line| [line, "\n"]).collect()
}

/// The code that a patch leaves in the files that it changes, as far as the patch shows the
/// code, without comments.
fn patched(patch: &str) -> String {
    let diff = patch.find("\ndiff ").map_or("", |at| &patch[at..]);
    let lines = diff.lines().filter_map(|line| {
        let line = line
            .strip_prefix(['+', ' '])
            .or_else(|| line.strip_prefix("@@ "))?;
        let code = line.trim_start();
        let is_comment = code.starts_with("/*") || code.starts_with("* ") || code.starts_with("//");
        (!is_comment).then_some(line)
    });
    lines.flat_map(|line| [line, "\n"]).collect()
}
