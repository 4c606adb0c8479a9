// SPDX-License-Identifier: MIT OR Apache-2.0
//! Checks that the things that a text names exist.

use crate::repository::Repository;
use crate::source::{Names, Source, words};
use crate::text::{Quote, anchor, shell_words};

/// The kind of a text, which decides where names are looked up.
#[derive(Clone, Copy)]
pub(crate) enum Text<'a> {
    /// A document about the whole project.
    Document,
    /// A document about the kernel side, in which names are those of the module.
    KernelDocument,
    /// A comment in this file, which may use these roots' names.
    Comment(&'a Source, &'a [&'a Names]),
}

/// Extensions of files.
const EXTENSIONS: &[&str] = &[
    ".rs", ".c", ".h", ".md", ".sh", ".py", ".toml", ".config", ".patch", ".csv", ".meta", ".ere",
    ".txt",
];

/// Beginnings of paths that are not in the repository.
const ELSEWHERE: &[&str] = &[
    "/",
    "~",
    "$",
    "build/",
    "results/",
    "drivers/flexsc",
    "-",
    "<",
];

impl Repository {
    /// Returns what is wrong with a quote, one sentence for each name.
    pub(crate) fn check(&self, text: Text<'_>, dir: &str, quote: &Quote) -> Vec<String> {
        match quote {
            Quote::Line(line) => self.check_line(line),
            Quote::Link(target) => self.check_link(dir, target),
            Quote::Command(line) => self.check_command(line),
            Quote::Code(code) => self.check_code(text, code),
        }
    }

    fn roots<'a>(&'a self, text: Text<'a>) -> Vec<&'a Names> {
        match text {
            Text::Document => vec![&self.kernel, &self.user, &self.tests, &self.scripts],
            Text::KernelDocument => vec![&self.kernel],
            Text::Comment(_, names) => names.to_vec(),
        }
    }

    fn is_outside(&self, name: &str) -> bool {
        self.outside.contains_key(name)
    }

    /// Constants, C names, configuration options, wherever they stand.
    fn check_line(&self, line: &str) -> Vec<String> {
        let all = [&self.kernel, &self.user, &self.tests, &self.scripts];
        let is_word = |word: &str| all.iter().any(|names| names.words.contains(word));
        let is_prefix = |word: &str| {
            all.iter()
                .any(|names| names.words.iter().any(|name| name.starts_with(word)))
        };
        let mut wrong = Vec::new();
        for word in words(line) {
            if self.is_outside(word) {
                continue;
            }
            let known = if word.starts_with("FLEXSC_") || word.starts_with("flexsc_") {
                is_word(word) || word.ends_with('_') && is_prefix(word)
            } else if let Some(option) = word.strip_prefix("CONFIG_") {
                is_word(word) || is_word(option) || self.is_outside(option)
            } else {
                true
            };
            if !known {
                wrong.push(format!("there is no {word}"));
            }
        }
        // -ENOSYS
        let errors = line.match_indices("-E").filter(|(at, _)| {
            let before = line[..*at].chars().next_back();
            !before.is_some_and(|c| c.is_ascii_alphanumeric())
        });
        for word in errors.filter_map(|(at, _)| words(&line[at + 1..]).next()) {
            let is_error = word.len() > 2 && word.chars().all(|c| c.is_ascii_uppercase());
            if is_error && !is_prefix(word) && !self.is_outside(word) {
                wrong.push(format!("there is no error {word}"));
            }
        }
        for word in line.split(|c: char| c.is_whitespace() || "`()[],;\"'*=".contains(c)) {
            let word = word.trim_end_matches(['.', ':']);
            if word.contains('/') && EXTENSIONS.iter().any(|end| word.ends_with(end)) {
                wrong.extend(self.check_path(word));
            }
        }
        wrong
    }

    fn check_path(&self, path: &str) -> Option<String> {
        let path = path.split(':').next().unwrap_or(path);
        let path = path.trim_start_matches("../");
        let is_elsewhere = ELSEWHERE.iter().any(|begin| path.starts_with(begin))
            || path.contains("://")
            || path.contains(['{', '…', '<', '$']);
        let known = is_elsewhere
            || self.has_path(path)
            || self.is_outside(path)
            || self.outside.values().any(|place| place.ends_with(path));
        (!known).then(|| format!("there is no file {path}"))
    }

    fn check_link(&self, dir: &str, target: &str) -> Vec<String> {
        if target.contains("://") || target.starts_with("mailto:") {
            return Vec::new();
        }
        let (path, heading) = target.split_once('#').unwrap_or((target, ""));
        let mut full: Vec<&str> = dir.split('/').filter(|part| !part.is_empty()).collect();
        for part in path.split('/') {
            match part {
                ".." => drop(full.pop()),
                "." | "" => {}
                part => full.push(part),
            }
        }
        let full = full.join("/");
        if path.is_empty() {
            // A heading of the same text, but the caller does not say which text this is.
            return Vec::new();
        }
        if !self.paths.contains(&full) {
            return vec![format!("there is no file {target}")];
        }
        let has_heading = heading.is_empty()
            || self
                .read(&full)
                .lines()
                .any(|line| line.starts_with('#') && anchor(line) == heading);
        if has_heading {
            Vec::new()
        } else {
            vec![format!("{full} has no heading #{heading}")]
        }
    }

    /// Targets of make, scripts, their options, filters for guest tests, module parameters.
    fn check_command(&self, line: &str) -> Vec<String> {
        let mut wrong = Vec::new();
        let words = shell_words(line);
        let mut command = None;
        let mut is_insmod = false;
        let mut filter_follows = false;
        for (at, (word, quoted)) in words.iter().enumerate() {
            if std::mem::take(&mut filter_follows) {
                wrong.extend(self.check_filter(word));
                continue;
            }
            if *quoted {
                continue;
            }
            if word == "make" {
                command = None;
                wrong.extend(self.check_targets(&words[at + 1..]));
            } else if matches!(word.as_str(), "&&" | "|" | ";" | "||") {
                command = None;
            } else if let Some(texts) = self.command(word) {
                command = Some((word.clone(), texts));
            } else if word.starts_with("scripts/") && word.ends_with(".sh") && !word.contains('*') {
                wrong.extend(self.check_path(word));
            } else if word.ends_with("flexsc.ko") {
                is_insmod = true;
            } else if is_insmod && word.contains('=') {
                let name = word.split('=').next().unwrap_or(word);
                if !self.parameters.contains(name) {
                    wrong.push(format!("the module has no parameter {name}"));
                }
            } else if let Some((name, texts)) = &command {
                filter_follows = word == "-k" && (name.contains("ktest") || name.contains("soak"));
                let option = word.split('=').next().unwrap_or(word);
                let option = option.trim_matches(['[', ']', '.', ',']);
                if option.len() > 2 && option.starts_with("--") && !has_option(texts, option) {
                    wrong.push(format!("{name} has no option {option}"));
                }
            }
        }
        wrong
    }

    /// The texts that define the options of a command.
    fn command(&self, word: &str) -> Option<Vec<&str>> {
        let sources = |dir: &str| -> Vec<&str> {
            let files = self.sources.iter();
            files
                .filter(|(path, _)| path.starts_with(dir))
                .map(|(_, source)| source.code.as_str())
                .collect()
        };
        match word {
            "flexsc" | "flexsc-copy" => return Some(sources("user/flexsc-tools")),
            "flexsc-bench" => return Some(sources("user/flexsc-bench")),
            _ => {}
        }
        let name = word
            .rsplit('/')
            .next()
            .filter(|name| name.ends_with(".sh"))?;
        let (path, text) = self
            .script_texts
            .iter()
            .find(|(path, _)| path.rsplit('/').next() == Some(name))?;
        if word.contains('/') && !path.ends_with(word) {
            return None;
        }
        let helpers = ["scripts/lib.sh", "scripts/vm/run.py", "scripts/ktest.sh"];
        let shared = helpers
            .iter()
            .filter_map(|path| self.script_texts.get(*path));
        Some(
            [text]
                .into_iter()
                .chain(shared)
                .map(String::as_str)
                .collect(),
        )
    }

    fn check_targets(&self, words: &[(String, bool)]) -> Vec<String> {
        let own = words
            .iter()
            .take_while(|(word, _)| !matches!(word.as_str(), "&&" | "|" | ";"));
        let own: Vec<&str> = own.map(|(word, _)| word.as_str()).collect();
        // The kernel's make.
        if own.iter().any(|word| word.contains('=')) {
            return Vec::new();
        }
        own.iter()
            // A sentence may follow.
            .take(1)
            .map(|word| word.trim_end_matches(['.', ',', ':']))
            .filter(|word| {
                !word.is_empty() && word.chars().all(|c| c.is_ascii_lowercase() || c == '-')
            })
            .filter(|word| !self.targets.contains(*word))
            .map(|word| format!("make has no target {word}"))
            .collect()
    }

    fn check_filter(&self, filter: &str) -> Vec<String> {
        filter
            .split_whitespace()
            .filter(|word| !word.chars().any(|c| c.is_ascii_uppercase()) && !self.is_outside(word))
            .filter(|word| !self.guest_tests.iter().any(|name| name.contains(word)))
            .map(|word| format!("no guest test's name has {word}"))
            .collect()
    }

    /// Checks the text between back ticks.
    fn check_code(&self, text: Text<'_>, code: &str) -> Vec<String> {
        let code = code.trim();
        if code.contains(char::is_whitespace) {
            let mut parts = code.split_whitespace();
            return match (parts.next(), parts.next(), parts.next()) {
                (Some("struct" | "enum"), Some(name), None) => self.check_name(text, name),
                _ => self.check_command(code),
            };
        }
        if EXTENSIONS.iter().any(|end| code.ends_with(end)) || code.ends_with('/') {
            return self.check_path(code).into_iter().collect();
        }
        if self.command(code).is_some() {
            return Vec::new();
        }
        if code.starts_with("--") {
            return self.check_option(code);
        }
        let (area, name) = code.split_once('.').unwrap_or((code, ""));
        if code.contains('.') && self.areas().contains(area) {
            return self.check_guest_test(code, name);
        }
        if let Some(parameter) = code.strip_prefix("/sys/module/flexsc/parameters/") {
            let known = parameter.is_empty() || self.parameters.contains(parameter);
            return (!known)
                .then(|| format!("the module has no parameter {parameter}"))
                .into_iter()
                .collect();
        }
        if code.contains('/')
            && code
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || "/-_.".contains(c))
        {
            return self.check_path(code).into_iter().collect();
        }
        self.check_name(text, code)
    }

    fn check_option(&self, code: &str) -> Vec<String> {
        let option = code.split('=').next().unwrap_or(code);
        let scripts = self.script_texts.values().map(String::as_str);
        let sources = self.sources.iter();
        let tools = sources
            .filter(|(path, _)| path.starts_with("user/"))
            .map(|(_, source)| source.code.as_str());
        let texts: Vec<&str> = scripts.chain(tools).collect();
        if option.len() < 3 || has_option(&texts, option) || self.is_outside(option) {
            return Vec::new();
        }
        vec![format!("no program of ours has the option {option}")]
    }

    fn check_guest_test(&self, code: &str, name: &str) -> Vec<String> {
        let known = match code.split_once('*') {
            Some((begin, end)) => self
                .guest_tests
                .iter()
                .any(|test| test.starts_with(begin) && test.ends_with(end)),
            None => self.guest_tests.contains(code) || name.is_empty(),
        };
        if known {
            Vec::new()
        } else {
            vec![format!("there is no guest test {code}")]
        }
    }

    /// `Type::method`, `module::item`, `struct.field`, `name`, `name()`.
    fn check_name(&self, text: Text<'_>, code: &str) -> Vec<String> {
        let code = code.trim_start_matches('&').trim_end_matches('!');
        let name = code.split(['(', '[', '<', '{']).next().unwrap_or(code);
        if name.contains("::") {
            return self.check_member(text, name);
        }
        let parts: Vec<&str> = name.split("->").flat_map(|part| part.split('.')).collect();
        let is_name = |part: &str| {
            part.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
                && part.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
        };
        if !parts.iter().all(|part| is_name(part)) {
            return Vec::new();
        }
        let is_known = |part: &str| {
            self.is_name(text, part) && (!code.ends_with("()") || self.is_function(text, part))
        };
        parts
            .iter()
            .filter(|part| !is_known(part))
            .map(|part| format!("nothing is called {part}"))
            .collect()
    }

    /// Returns true if `name()` in a comment of the kernel is a function.
    fn is_function(&self, text: Text<'_>, name: &str) -> bool {
        let Text::Comment(source, [names]) = text else {
            return true;
        };
        let is_called = || source.code.contains(&format!("{name}("));
        !std::ptr::eq(*names, &self.kernel)
            || names.functions.contains(name)
            || self.is_outside(name)
            || is_called()
    }

    fn is_name(&self, text: Text<'_>, name: &str) -> bool {
        // Names with this prefix are checked wherever they stand.
        let is_prefixed = name.starts_with("FLEXSC_") || name.starts_with("flexsc_");
        if is_prefixed
            || self.is_outside(name)
            || self.targets.contains(name)
            || self.areas().contains(name)
        {
            return true;
        }
        if self
            .roots(text)
            .iter()
            .any(|names| names.declared.contains(name))
        {
            return true;
        }
        match text {
            Text::Comment(source, _) => source.words().any(|word| word == name),
            // Words that are not names may be output of a program.
            Text::Document => !name.contains('_') && self.is_printed(name),
            // A guest test without its area.
            Text::KernelDocument => name.contains('_') && self.tests.declared.contains(name),
        }
    }

    fn is_printed(&self, word: &str) -> bool {
        [&self.user, &self.tests, &self.scripts]
            .iter()
            .any(|names| names.words.contains(word))
    }

    fn check_member(&self, text: Text<'_>, path: &str) -> Vec<String> {
        let parts: Vec<&str> = path.split("::").filter(|part| !part.is_empty()).collect();
        let [.., owner, member] = parts.as_slice() else {
            return Vec::new();
        };
        if self.is_outside(owner)
            || self.is_outside(path)
            || parts.iter().any(|p| self.is_outside(p))
        {
            return Vec::new();
        }
        let known = self.roots(text).iter().any(|names| match *owner {
            "crate" | "super" | "self" | "flexsc" => names.declared.contains(*member),
            "Self" => match text {
                Text::Comment(source, _) => {
                    let types = source.implemented();
                    types.iter().any(|name| names.has_member(name, member))
                }
                _ => false,
            },
            owner => names.has_member(owner, member),
        });
        if known {
            Vec::new()
        } else {
            vec![format!("there is no {path}")]
        }
    }
}

/// Returns true if a program knows an option: literally, or as a field from which its parser
/// makes the option.
fn has_option(texts: &[&str], option: &str) -> bool {
    let field = option.trim_start_matches('-').replace('-', "_");
    let ends = |rest: &str| !rest.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '-');
    texts.iter().any(|text| {
        let mut literal = text.match_indices(option);
        literal.any(|(at, _)| ends(&text[at + option.len()..]))
            || words(text).any(|word| word == field) && text.contains("clap")
    })
}
