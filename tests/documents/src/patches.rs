// SPDX-License-Identifier: MIT OR Apache-2.0
//! Checks that "patch 3" in a sentence names a patch about the sentence's subject.
//!
//! The sentence, or the row of a table, has to share a word with the patch's Subject, the name of
//! its file or its message: one that hardly any other patch has there. This finds numbers that
//! were left behind when patches were renumbered.

use std::collections::{BTreeMap, BTreeSet};

/// How many patches may share a word that distinguishes them from the others.
const FEW: usize = 2;
/// How many letters of a word count: blocks, blocked and blocking are one word.
const STEM: usize = 5;
/// Words that distinguish nothing.
const COMMON: &[&str] = &["that", "what", "with", "from", "this", "when"];

/// The patches by number, each with the words that distinguish it from the others.
pub(crate) struct Patches(BTreeMap<usize, BTreeSet<String>>);

/// The words of a text: names as they are, others by their first letters.
fn stems(text: &str) -> BTreeSet<String> {
    let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
    text.split(|c| !is_name(c))
        .map(|word| (word.to_lowercase(), word.contains('_')))
        .filter(|(word, _)| word.len() >= 4 && word.starts_with(|c: char| c.is_ascii_lowercase()))
        .filter(|(word, _)| !COMMON.contains(&word.as_str()))
        .map(|(word, is_name)| match word.get(..STEM) {
            Some(stem) if !is_name => stem.to_owned(),
            _ => word,
        })
        .collect()
}

/// Of the words of each text, those that at most [`FEW`] texts have.
fn rare(texts: &[BTreeSet<String>]) -> Vec<BTreeSet<String>> {
    let is_rare = |word: &String| texts.iter().filter(|text| text.contains(word)).count() <= FEW;
    texts
        .iter()
        .map(|text| text.iter().filter(|word| is_rare(word)).cloned().collect())
        .collect()
}

/// The number in `Subject: [PATCH 3/15] …`, and the rest of the subject.
fn subject(message: &str) -> Option<(usize, String)> {
    let (_, rest) = message.split_once("Subject: [PATCH ")?;
    let (number, rest) = rest.split_once('/')?;
    let (_, rest) = rest.split_once("] ")?;
    let lines = rest.split("\n\n").next()?;
    Some((number.parse().ok()?, lines.replace('\n', "")))
}

impl Patches {
    /// From messages by path.
    pub(crate) fn new(messages: &BTreeMap<String, String>) -> Self {
        let mut numbers = Vec::new();
        let (mut subjects, mut bodies) = (Vec::new(), Vec::new());
        for (path, message) in messages {
            let Some((number, subject)) = subject(message) else {
                continue;
            };
            let file = path.rsplit('/').next().unwrap_or(path);
            let body = message.split_once("\n\n").map_or("", |(_, body)| body);
            let body = body.split("Signed-off-by").next().unwrap_or(body);
            subjects.push(stems(&format!("{subject} {}", file.replace('-', " "))));
            bodies.push(stems(&format!("{subject} {body}")));
            numbers.push(number);
        }
        let words = rare(&subjects)
            .into_iter()
            .zip(rare(&bodies))
            .map(|(mut words, more)| {
                words.extend(more);
                words
            });
        Patches(numbers.into_iter().zip(words).collect())
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// Returns what is wrong with the patch numbers in a text, with their lines.
    pub(crate) fn check(&self, text: &str) -> Vec<(usize, String)> {
        let mut wrong = Vec::new();
        for (line, block) in blocks(text) {
            for (at, number) in numbers(&block) {
                let line = line + block[..at].matches('\n').count();
                let sentence = stems(sentence(&block, at));
                match self.0.get(&number) {
                    None => wrong.push((line, format!("there is no patch {number}"))),
                    Some(words) if words.is_disjoint(&sentence) => {
                        wrong.push((line, format!("patch {number} is about something else")));
                    }
                    Some(_) => {}
                }
            }
        }
        wrong
    }
}

/// Paragraphs, items of lists and rows of tables, each with its first line.
fn blocks(text: &str) -> Vec<(usize, String)> {
    let mut found: Vec<(usize, String)> = Vec::new();
    let mut is_open = false;
    for (at, line) in text.lines().enumerate() {
        let trimmed = line.trim_start();
        let is_item = trimmed.starts_with("- ")
            || trimmed.starts_with("* ")
            || trimmed.split_once(". ").is_some_and(|(number, _)| {
                !number.is_empty() && number.bytes().all(|c| c.is_ascii_digit())
            });
        let is_row = trimmed.starts_with('|');
        if let (true, false, Some((_, block))) = (is_open, is_item || is_row, found.last_mut()) {
            block.push('\n');
            block.push_str(line);
        } else if !trimmed.is_empty() {
            found.push((at + 1, line.to_owned()));
        }
        is_open = !trimmed.is_empty() && !is_row;
    }
    found
}

/// The sentence around `at` in a block; a row of a table counts as one.
fn sentence(block: &str, at: usize) -> &str {
    if block.starts_with('|') {
        return block;
    }
    let ends = |(at, _): (usize, &str)| {
        let after = block[at + 1..].chars().next();
        after.is_none_or(char::is_whitespace).then_some(at + 1)
    };
    let ends: Vec<usize> = block.match_indices(['.', '?']).filter_map(ends).collect();
    let begin = ends.iter().rev().find(|end| **end <= at).copied();
    let end = ends.iter().find(|end| **end > at).copied();
    &block[begin.unwrap_or(0)..end.unwrap_or(block.len())]
}

/// The numbers after "patch" and "patches", and their places in each sentence. "patches 1 to 3"
/// names none in particular.
fn numbers(block: &str) -> Vec<(usize, usize)> {
    let lower = block.to_ascii_lowercase();
    let mut found = Vec::new();
    for (at, word) in lower.match_indices("patch") {
        let mut rest = &lower[at + word.len()..];
        let is_plural = rest.starts_with("es");
        rest = if is_plural { &rest[2..] } else { rest };
        let mut these = Vec::new();
        let begins = [" and ", "\nand ", ", ", " ", "\n"];
        while let Some(after) = begins.iter().find_map(|begin| rest.strip_prefix(begin)) {
            let end = after
                .find(|c: char| !c.is_ascii_digit())
                .unwrap_or(after.len());
            let Ok(number) = after[..end].parse() else {
                break;
            };
            // Only "patches 1, 2" continues after a comma.
            if !these.is_empty() && !is_plural {
                break;
            }
            these.push((at, number));
            rest = &after[end..];
        }
        if !rest.trim_start().starts_with("to ") {
            found.extend(these);
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn patches() -> Patches {
        let message = |number, subject: &str, body: &str| {
            let subject = subject.replace("in line", "in\n line");
            format!(
                "From: x\nSubject: [PATCH {number}/3] {subject}\n\n{body}\n\nSigned-off-by: x\n"
            )
        };
        let messages = [
            (
                "1-a.patch",
                message(
                    1,
                    "sched: tell who blocks",
                    "A hook tells. fget() it takes.",
                ),
            ),
            (
                "2-policy.patch",
                message(2, "tomoyo: look first", "Each ioctl() asks. fget() takes."),
            ),
            (
                "3-c.patch",
                message(
                    3,
                    "entry: find files in line",
                    "What fget() does takes long.",
                ),
            ),
        ];
        Patches::new(
            &messages
                .into_iter()
                .map(|(path, message)| (path.to_owned(), message))
                .collect(),
        )
    }

    #[test]
    fn numbers_are_found() {
        let found: Vec<usize> =
            numbers("Patch 1, 5 words; patches 2, 3 and 4, patch\n6; patches 7 to 9")
                .into_iter()
                .map(|(_, number)| number)
                .collect();
        assert_eq!(found, [1, 2, 3, 4, 6]);
    }

    #[test]
    fn numbers_fit_their_sentences() {
        let patches = patches();
        assert_eq!(patches.len(), 3);
        for right in [
            "A task that blocked is told (patch 1).",
            "TOMOYO, which asks. An ioctl\nis asked, by patch 2. It",
            "| the policy | patch 2 |",
            "Files are found inline, `patches 1\nand 3`: blocks.",
        ] {
            assert_eq!(patches.check(right), [], "{right}");
        }
        for (wrong, said) in [
            (
                "TOMOYO has it look first.\nPatch 1 does, takes.",
                (2, "patch 1 is about something else"),
            ),
            (
                "| the policy | patch 3 |",
                (1, "patch 3 is about something else"),
            ),
            // All three patches say this.
            (
                "What fget() takes (patch 3).",
                (1, "patch 3 is about something else"),
            ),
            ("A task blocks.\n\n- patch 4\n", (3, "there is no patch 4")),
        ] {
            assert_eq!(
                patches.check(wrong),
                [(said.0, said.1.to_owned())],
                "{wrong}"
            );
        }
    }
}
