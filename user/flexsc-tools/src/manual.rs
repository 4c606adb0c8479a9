// SPDX-License-Identifier: MIT OR Apache-2.0
//! Keeps the man pages of the tools as their options are: clap_mangen makes two sections of
//! each page, and the text around them names only options that exist.

use std::env;
use std::fs;
use std::path::Path;

use clap::Command;
use clap_mangen::Man;

/// Fails if the page in docs/man disagrees with the options. With FLEXSC_BLESS=1 it writes
/// the two sections.
pub(crate) fn check(command: Command, page: &str) {
    // The help of each subcommand goes without saying.
    let mut command = command.mut_subcommands(|sub| sub.disable_help_flag(true));
    command.build();
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/man");
    let path = path.join(page);
    let text = fs::read_to_string(&path).unwrap();
    let made = with_section(&text, "SYNOPSIS", &synopsis(&command));
    let made = with_section(&made, "OPTIONS", &options(&command));
    if env::var_os("FLEXSC_BLESS").is_some() {
        fs::write(&path, &made).unwrap();
    }
    assert!(
        fs::read_to_string(&path).unwrap() == made,
        "docs/man/{page} is not made from the options: run FLEXSC_BLESS=1 cargo test -p flexsc-tools"
    );
    for name in long_options(&made) {
        assert!(knows(&command, &name), "docs/man/{page} has --{name}");
    }
}

/// The commands that a user types.
fn commands(command: &Command) -> impl Iterator<Item = &Command> {
    let subcommands = command.get_subcommands();
    let alone = (!command.has_subcommands()).then_some(command);
    subcommands
        .filter(|sub| sub.get_name() != "help")
        .chain(alone)
}

/// A section without what comes before its first line.
fn body(section: &str, render: impl FnOnce(&mut Vec<u8>)) -> String {
    let mut roff = Vec::new();
    render(&mut roff);
    let roff = String::from_utf8(roff).unwrap();
    let heading = format!(".SH {section}\n");
    let (_, body) = roff.split_once(&heading).unwrap_or_default();
    let lines = body.lines().map(str::trim_end);
    let lines = lines.map(|line| line.replace(r"\*(Aq", r"\(aq"));
    lines.flat_map(|line| [line, "\n".into()]).collect()
}

fn synopsis(command: &Command) -> String {
    let lines: Vec<_> = commands(command)
        .map(|command| {
            let man = Man::new(command.clone());
            body("SYNOPSIS", |roff| {
                man.render_synopsis_section(roff).unwrap();
            })
        })
        .collect();
    lines.join(".br\n")
}

fn options(command: &Command) -> String {
    let render = |command: &Command| {
        let man = Man::new(command.clone());
        body("OPTIONS", |roff| man.render_options_section(roff).unwrap())
    };
    let mut all = render(command);
    for sub in commands(command).filter(|sub| sub.get_name() != command.get_name()) {
        let lines = render(sub);
        if !lines.is_empty() {
            let heading = format!(".SS {}\n", sub.get_bin_name().unwrap());
            all.extend([heading, lines]);
        }
    }
    all
}

/// Replaces the lines of a section.
fn with_section(page: &str, name: &str, lines: &str) -> String {
    let heading = format!("\n.SH {name}\n");
    let (before, after) = page.split_once(&heading).expect("it has the section");
    let is_heading = |line: &&str| line.starts_with(".SH ");
    let end = after
        .split_inclusive('\n')
        .take_while(|line| !is_heading(line));
    let end: usize = end.map(str::len).sum();
    format!("{before}{heading}{lines}{}", &after[end..])
}

/// The names behind "--".
fn long_options(page: &str) -> impl Iterator<Item = String> {
    page.split(r"\-\-").skip(1).map(|rest| {
        let rest = rest.replace(r"\-", "-");
        let end = rest.find(|c: char| c != '-' && !c.is_ascii_lowercase());
        rest[..end.unwrap_or(rest.len())].to_string()
    })
}

fn knows(command: &Command, name: &str) -> bool {
    let mut arguments = command.get_arguments();
    arguments.any(|argument| argument.get_long() == Some(name))
        || command.get_subcommands().any(|sub| knows(sub, name))
}

#[test]
fn a_page_with_an_old_option_is_noticed() {
    let command = Command::new("tool").arg(clap::Arg::new("new").long("new-name"));
    let names: Vec<_> = long_options(r"\fB\-\-new\-name\fP and \-\-old, not \-x").collect();
    assert_eq!(names, ["new-name", "old"]);
    assert!(knows(&command, "new-name") && !knows(&command, "old"));
    let page = "\n.SH A\nx\n.SH OPTIONS\nold\nmore\n.SH B\ny\n";
    let made = with_section(page, "OPTIONS", "new\n");
    assert_eq!(made, "\n.SH A\nx\n.SH OPTIONS\nnew\n.SH B\ny\n");
    assert_eq!(with_section(&made, "OPTIONS", "new\n"), made);
    let empty = with_section(&made, "OPTIONS", "");
    assert_eq!(with_section(&empty, "OPTIONS", "new\n"), made);
}
