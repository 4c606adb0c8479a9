// SPDX-License-Identifier: MIT OR Apache-2.0
//! Splits source files into code without comments and comments without code, and finds the names
//! that the code declares.

use std::collections::{HashMap, HashSet};

/// A block of comment lines, joined, and the line of the file on which it begins.
#[derive(Debug, PartialEq)]
pub(crate) struct Comment {
    pub(crate) line: usize,
    pub(crate) text: String,
}

/// A source file in two halves.
#[derive(Default)]
pub(crate) struct Source {
    /// Code with its string literals, without comments.
    pub(crate) code: String,
    /// The same with empty string literals.
    bare: String,
    pub(crate) comments: Vec<Comment>,
}

/// The language of a file, as far as it matters for comments.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Language {
    Rust,
    C,
}

impl Source {
    pub(crate) fn new(text: &str, language: Language) -> Self {
        let mut source = Source::default();
        let chars: Vec<char> = text.chars().collect();
        let at = |i: usize| chars.get(i).copied().unwrap_or('\0');
        let mut line = 1;
        let mut i = 0;
        while i < chars.len() {
            let start = i;
            if at(i) == '/' && at(i + 1) == '/' {
                while i < chars.len() && at(i) != '\n' {
                    i += 1;
                }
                source.add_line(line, &chars[start..i]);
            } else if at(i) == '/' && at(i + 1) == '*' {
                while i < chars.len() && !(at(i) == '*' && at(i + 1) == '/' && i > start + 1) {
                    i += 1;
                }
                i = (i + 2).min(chars.len());
                source.add_block(line, &chars[start..i]);
            } else if let Some(end) = string(&chars, i, language) {
                i = end;
                source.code.extend(&chars[start..i]);
                source.bare.push_str("\"\"");
            } else {
                i += 1;
                source.code.push(at(start));
                source.bare.push(at(start));
            }
            line += chars[start..i].iter().filter(|c| **c == '\n').count();
        }
        source
    }

    fn add_line(&mut self, line: usize, chars: &[char]) {
        let text: String = chars.iter().collect();
        let text = text.trim_start_matches(['/', '!']).trim();
        match self.comments.last_mut() {
            Some(last) if last.line + last.text.matches('\n').count() + 1 == line => {
                last.text.push('\n');
                last.text.push_str(text);
                return;
            }
            _ => {}
        }
        self.comments.push(Comment {
            line,
            text: text.to_owned(),
        });
    }

    fn add_block(&mut self, line: usize, chars: &[char]) {
        let text: String = chars.iter().collect();
        let text = text.trim_start_matches("/*").trim_end_matches("*/");
        let lines = text
            .lines()
            .map(|l| l.trim().trim_start_matches('*').trim());
        self.comments.push(Comment {
            line,
            text: lines.collect::<Vec<_>>().join("\n"),
        });
    }

    /// The types and traits whose items are in the file: `Self` is one of these.
    pub(crate) fn implemented(&self) -> Vec<String> {
        let tokens = tokens(&self.bare);
        let mut found = Vec::new();
        for (at, token) in tokens.iter().enumerate() {
            let end = tokens[at..]
                .iter()
                .position(|token| matches!(*token, "{" | ";"));
            match (*token, end) {
                ("impl", Some(end)) => found.push(implementor(&tokens[at + 1..at + end])),
                ("trait" | "struct" | "enum", _) => {
                    found.extend(tokens.get(at + 1).map(|name| (*name).to_owned()));
                }
                _ => {}
            }
        }
        found
    }

    /// The words of the code.
    pub(crate) fn words(&self) -> impl Iterator<Item = &str> {
        words(&self.code)
    }
}

/// The identifiers in a text.
pub(crate) fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_')
        .filter(|word| word.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_'))
}

/// Returns the end of the string or character literal that begins at `i`, if one does.
fn string(chars: &[char], i: usize, language: Language) -> Option<usize> {
    let at = |i: usize| chars.get(i).copied().unwrap_or('\0');
    let in_word = i > 0 && (at(i - 1).is_ascii_alphanumeric() || at(i - 1) == '_');
    if language == Language::Rust && at(i) == 'r' && !in_word {
        let hashes = chars[i + 1..].iter().take_while(|c| **c == '#').count();
        let begin = i + 1 + hashes;
        if at(begin) == '"' {
            let end = (begin + 1..chars.len())
                .find(|&end| at(end) == '"' && (1..=hashes).all(|n| at(end + n) == '#'))?;
            return Some(end + 1 + hashes);
        }
    }
    let quote = at(i);
    let is_char =
        quote == '\'' && (language == Language::C || at(i + 1) == '\\' || at(i + 2) == '\'');
    if quote != '"' && !is_char {
        return None;
    }
    let mut end = i + 1;
    while end < chars.len() && at(end) != quote {
        end += if at(end) == '\\' { 2 } else { 1 };
    }
    Some((end + 1).min(chars.len()))
}

/// The names that the code under one root declares.
#[derive(Default)]
pub(crate) struct Names {
    /// Items, fields, variants; for C all words.
    pub(crate) declared: HashSet<String>,
    /// Names that belong to a type, a trait or a module.
    pub(crate) members: HashMap<String, HashSet<String>>,
    /// All words of the code, those of string literals too.
    pub(crate) words: HashSet<String>,
    /// Names that are defined or called as functions.
    pub(crate) functions: HashSet<String>,
}

/// The kind of block that a brace has opened.
#[derive(Clone, PartialEq)]
enum Scope {
    Fields(String),
    Variants(String),
    Items(String),
    Other,
}

impl Names {
    /// Adds all words of a file, as if each were declared there.
    pub(crate) fn add_words(&mut self, text: &str) {
        for word in words(text) {
            self.words.insert(word.to_owned());
            self.declared.insert(word.to_owned());
        }
        let tokens = tokens(text);
        for (at, pair) in tokens.windows(2).enumerate() {
            let name = match pair {
                [name, "("] if name.starts_with("SYSCALL_DEFINE") => tokens.get(at + 2),
                [name, "("] if is_word(name) => Some(name),
                _ => None,
            };
            self.functions.extend(name.map(|name| (*name).to_owned()));
        }
    }

    fn declare(&mut self, owner: Option<&str>, name: &str) {
        self.declared.insert(name.to_owned());
        if let Some(owner) = owner {
            self.add_member(owner, name);
        }
    }

    fn add_member(&mut self, owner: &str, name: &str) {
        let members = self.members.entry(owner.to_owned()).or_default();
        members.insert(name.to_owned());
    }

    /// Returns true if a type, a trait or a module has this item, field or variant.
    pub(crate) fn has_member(&self, owner: &str, name: &str) -> bool {
        let members = self.members.get(owner);
        members.is_some_and(|members| members.contains(name))
    }

    /// Adds a Rust file, which is the module `module`.
    pub(crate) fn add_rust(&mut self, source: &Source, module: &str) {
        self.words.extend(source.words().map(str::to_owned));
        self.declared.insert(module.to_owned());
        let tokens = tokens(&source.bare);
        let mut scopes = vec![Scope::Items(module.to_owned())];
        let mut i = 0;
        while i < tokens.len() {
            i = self.add_token(&tokens, i, &mut scopes);
        }
    }

    /// Looks at the token `i`; returns the one to look at next.
    fn add_token(&mut self, tokens: &[&str], i: usize, scopes: &mut Vec<Scope>) -> usize {
        let at = |i: usize| tokens.get(i).copied().unwrap_or("");
        let scope = scopes.last().cloned().unwrap_or(Scope::Other);
        let owner = match &scope {
            Scope::Items(owner) => Some(owner.as_str()),
            _ => None,
        };
        match at(i) {
            "fn" | "type" | "static" | "const" | "macro_rules"
                if is_word(at(i + 1)) || at(i + 1) == "!" =>
            {
                let name = match at(i + 1) {
                    "mut" | "!" => at(i + 2),
                    name => name,
                };
                if at(i + 1) != "fn" && at(i + 1) != "unsafe" && at(i + 1) != "extern" {
                    self.declare(owner, name);
                }
                if at(i) == "fn" {
                    self.functions.insert(name.to_owned());
                }
                i + 1
            }
            "use" if at(i + 1) != "<" => {
                let end = (i..tokens.len()).find(|end| at(*end) == ";").unwrap_or(i);
                for token in &tokens[i + 1..end.max(i + 1)] {
                    if let (true, Some(owner)) = (is_word(token), owner) {
                        self.add_member(owner, token);
                    }
                }
                end + 1
            }
            kind @ ("struct" | "enum" | "union" | "trait" | "mod") if is_word(at(i + 1)) => {
                let name = at(i + 1).to_owned();
                self.declare(owner, &name);
                let end = (i..tokens.len()).find(|end| matches!(at(*end), "{" | ";" | "("));
                let end = end.unwrap_or(i + 1);
                if at(end) == "{" {
                    scopes.push(match kind {
                        "enum" => Scope::Variants(name),
                        "struct" | "union" => Scope::Fields(name),
                        _ => Scope::Items(name),
                    });
                    return end + 1;
                }
                end
            }
            "impl" if owner.is_some() && is_item(at(i.wrapping_sub(1))) => {
                let end = (i..tokens.len()).find(|end| matches!(at(*end), "{" | ";"));
                let end = end.unwrap_or(i);
                scopes.push(Scope::Items(implementor(&tokens[i + 1..end.max(i + 1)])));
                end + 1
            }
            "{" => {
                scopes.push(Scope::Other);
                i + 1
            }
            "}" => {
                scopes.pop();
                i + 1
            }
            "(" | "[" if matches!(scope, Scope::Variants(_) | Scope::Fields(_)) => {
                // The fields of a variant, an attribute, or the type of a field.
                let mut depth = 0;
                let mut end = i;
                while end < tokens.len() {
                    match at(end) {
                        "(" | "[" => depth += 1,
                        ")" | "]" => depth -= 1,
                        _ => {}
                    }
                    end += 1;
                    if depth == 0 {
                        break;
                    }
                }
                end
            }
            word if is_word(word) => {
                match &scope {
                    Scope::Fields(owner) if at(i + 1) == ":" && at(i + 2) != ":" => {
                        self.declare(Some(owner), word);
                    }
                    Scope::Variants(owner) if matches!(at(i + 1), "," | "}" | "(" | "{" | "=") => {
                        self.declare(Some(owner), word);
                    }
                    _ => {}
                }
                i + 1
            }
            _ => i + 1,
        }
    }
}

/// The type that an `impl` is for, given the tokens between `impl` and its brace.
fn implementor(tokens: &[&str]) -> String {
    let mut depth = 0;
    let mut name = "";
    for token in tokens {
        match *token {
            "<" => depth += 1,
            ">" => depth -= 1,
            "for" if depth == 0 => name = "",
            "where" if depth == 0 => break,
            word if depth == 0 && is_word(word) && word != "dyn" => name = word,
            _ => {}
        }
    }
    name.to_owned()
}

/// Returns true if an item may follow this token; `impl` in the type of a parameter is not an item.
fn is_item(before: &str) -> bool {
    matches!(before, "" | "{" | "}" | ";" | "]" | ")" | "unsafe")
}

fn is_word(token: &str) -> bool {
    token.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
}

/// Identifiers, numbers and single characters; `->` and `=>` are one token.
fn tokens(code: &str) -> Vec<&str> {
    let mut found = Vec::new();
    let mut rest = code.trim_start();
    while let Some(first) = rest.chars().next() {
        let len = if first.is_ascii_alphanumeric() || first == '_' {
            rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_')
                .unwrap_or(rest.len())
        } else if rest.starts_with("->") || rest.starts_with("=>") {
            2
        } else {
            first.len_utf8()
        };
        found.push(&rest[..len]);
        rest = rest[len..].trim_start();
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_are_told_from_code() {
        let text =
            "let a = \"// no\"; // yes `b`\n// and\nlet c = '\"'; /* d\n * e */ fn f<'a>() {}";
        let source = Source::new(text, Language::Rust);
        let comments: Vec<_> = source
            .comments
            .iter()
            .map(|c| (c.line, c.text.as_str()))
            .collect();
        assert_eq!(comments, [(1, "yes `b`\nand"), (3, "d\ne")]);
        assert!(!source.code.contains("yes") && source.code.contains("no"));
        assert!(source.code.contains("fn f<'a>"));
    }

    #[test]
    fn declarations_are_found() {
        let text = "use a::B; const C: u32 = 1; struct D { e: u32, #[f] pub(crate) g: H<I> }\n\
                    enum J { K, L(u32), M { n: u8 } } impl<T> o::P<T> for D { fn q(r: S) { let t = 1; } }\n\
                    trait U { fn v(); } mod w { pub fn x() {} } macro_rules! y { () => {} }";
        let mut names = Names::default();
        names.add_rust(&Source::new(text, Language::Rust), "file");
        for name in [
            "C", "D", "e", "g", "J", "K", "L", "M", "q", "U", "v", "w", "x", "y", "file",
        ] {
            assert!(names.declared.contains(name), "{name}");
        }
        for name in ["f", "H", "I", "T", "r", "S", "t", "P"] {
            assert!(!names.declared.contains(name), "{name}");
        }
        for (owner, name) in [
            ("D", "q"),
            ("D", "e"),
            ("J", "L"),
            ("w", "x"),
            ("file", "B"),
            ("U", "v"),
        ] {
            assert!(names.members[owner].contains(name), "{owner}::{name}");
        }
        assert!(!names.members["D"].contains("x"));
    }
}
