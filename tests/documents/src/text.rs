// SPDX-License-Identifier: MIT OR Apache-2.0
//! Finds the quotes in documents, man pages and comments.

/// Something that a text quotes.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Quote {
    /// `code` in a sentence.
    Code(String),
    /// A line of a block of commands.
    Command(String),
    /// The target of a link.
    Link(String),
    /// Any line, quoted or not.
    Line(String),
}

/// A quote, and the line of the text that it begins on, from 1.
pub(crate) type Quoted = (usize, Quote);

/// Blocks in these languages are compiled or are not commands.
const NO_COMMANDS: &[&str] = &["rust", "c", "text", "rust,no_run", "no_run", "ignore"];

/// Returns the quotes in a Markdown text. Blocks in comments are Rust, which is compiled.
pub(crate) fn markdown(text: &str, is_comment: bool) -> Vec<Quoted> {
    let mut found = Vec::new();
    // The sentences, with blocks blanked.
    let mut prose = String::new();
    let mut block: Option<String> = None;
    for (line, content) in text.lines().enumerate() {
        let line = line + 1;
        found.push((line, Quote::Line(content.to_owned())));
        if let Some(language) = content.trim_start().strip_prefix("```") {
            block = match block {
                None => Some(language.trim().to_owned()),
                Some(_) => None,
            };
        } else if let Some(language) = &block {
            if !is_comment && !NO_COMMANDS.contains(&language.as_str()) {
                found.push((line, Quote::Command(content.to_owned())));
            }
        } else {
            prose.push_str(content);
        }
        prose.push('\n');
    }
    spans(&prose, &mut found);
    links(&prose, &mut found);
    found
}

fn line_at(text: &str, at: usize) -> usize {
    text[..at].matches('\n').count() + 1
}

/// Returns quotes in back ticks, which may span lines but not paragraphs.
fn spans(prose: &str, found: &mut Vec<Quoted>) {
    let mut at = 0;
    while let Some(begin) = prose[at..].find('`').map(|i| at + i) {
        let ticks = prose[begin..].chars().take_while(|c| *c == '`').count();
        let inside = begin + ticks;
        let fence = "`".repeat(ticks);
        let Some(len) = prose[inside..].find(&fence) else {
            return;
        };
        let content = &prose[inside..inside + len];
        if content.contains("\n\n") {
            at = inside;
            continue;
        }
        let content = content.split_whitespace().collect::<Vec<_>>().join(" ");
        found.push((line_at(prose, begin), Quote::Code(content)));
        at = inside + len + ticks;
    }
}

fn links(prose: &str, found: &mut Vec<Quoted>) {
    let mut at = 0;
    while let Some(begin) = prose[at..].find("](").map(|i| at + i + 2) {
        let Some(len) = prose[begin..].find(')') else {
            return;
        };
        let target = &prose[begin..begin + len];
        found.push((line_at(prose, begin), Quote::Link(target.to_owned())));
        at = begin + len;
    }
}

/// Returns the quotes in a comment of Rust or C code: as Markdown, and in links without a target.
pub(crate) fn comment(text: &str) -> Vec<Quoted> {
    let mut found = markdown(text, true);
    // [`Type::method`](target) names an item in its target.
    for (_, quote) in &mut found {
        match quote {
            Quote::Link(target) if !target.contains(['/', '.', '#']) => {
                *quote = Quote::Code(target.clone());
            }
            _ => {}
        }
    }
    for (line, content) in text.lines().enumerate() {
        for name in calls(content).into_iter().chain(fields(content)) {
            found.push((line + 1, Quote::Code(name.to_owned())));
        }
    }
    found
}

/// `name()` in a line, without back ticks.
fn calls(line: &str) -> Vec<&str> {
    let mut found = Vec::new();
    for (end, _) in line.match_indices("()") {
        let begin = line[..end]
            .rfind(|c: char| !c.is_ascii_alphanumeric() && c != '_' && c != ':')
            .map_or(0, |i| i + 1);
        if end - begin > 2 && !line[..begin].ends_with(['.', '>', '`']) {
            found.push(&line[begin..end + 2]);
        }
    }
    found
}

/// `@name` in a line: a field or an argument, in the kernel's comments.
fn fields(line: &str) -> Vec<&str> {
    let mut found = Vec::new();
    for (at, _) in line.match_indices('@') {
        let rest = &line[at + 1..];
        let end = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_');
        let name = &rest[..end.unwrap_or(rest.len())];
        // In an e-mail address, the `@` follows a word.
        if !name.is_empty() && !line[..at].ends_with(|c: char| c.is_ascii_alphanumeric()) {
            found.push(name);
        }
    }
    found
}

/// Returns the quotes in a man page: words in bold or italics that are names, and options.
pub(crate) fn man(text: &str) -> Vec<Quoted> {
    let mut found = Vec::new();
    for (line, content) in text.lines().enumerate() {
        let plain = unescape(content);
        found.push((line + 1, Quote::Line(plain.clone())));
        let is_font = [".B", ".I", ".TP", ".SY", ".OP"]
            .iter()
            .any(|font| plain.starts_with(font));
        if content.starts_with(".\\\"") || !is_font {
            continue;
        }
        for word in plain
            .split(|c: char| c.is_whitespace() || "\"|[],;()".contains(c))
            .skip(1)
        {
            let word = word.trim_end_matches(['.', ':']);
            if word.contains('_') || word.starts_with("--") {
                found.push((line + 1, Quote::Code(word.to_owned())));
            }
        }
    }
    found
}

fn unescape(line: &str) -> String {
    let mut line = line.to_owned();
    for (from, to) in [
        ("\\-", "-"),
        ("\\(dq", "\""),
        ("\\(lq", "\""),
        ("\\(rq", "\""),
        ("\\|", ""),
        ("\\fB", ""),
        ("\\fI", ""),
        ("\\fP", ""),
        ("\\fR", ""),
        ("\\c", ""),
        ("\\&", ""),
    ] {
        line = line.replace(from, to);
    }
    line
}

/// A command line in words, each with whether it was quoted.
pub(crate) fn shell_words(line: &str) -> Vec<(String, bool)> {
    let mut found = Vec::new();
    let mut word = String::new();
    let mut quoted = false;
    let mut quote = None;
    for c in line.chars() {
        match quote {
            Some(q) if c == q => quote = None,
            Some(_) => word.push(c),
            None if c == '\'' || c == '"' => {
                quote = Some(c);
                quoted = true;
            }
            None if c.is_whitespace() => {
                if !word.is_empty() {
                    found.push((std::mem::take(&mut word), quoted));
                }
                quoted = false;
            }
            None if c == '#' && word.is_empty() => break,
            None => word.push(c),
        }
    }
    if !word.is_empty() {
        found.push((word, quoted));
    }
    found
}

/// The anchor that a heading has on the pages of a forge.
pub(crate) fn anchor(heading: &str) -> String {
    heading
        .trim_start_matches('#')
        .trim()
        .to_lowercase()
        .chars()
        .filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'))
        .map(|c| if c == ' ' { '-' } else { c })
        .collect()
}
