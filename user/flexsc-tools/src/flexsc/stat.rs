// SPDX-License-Identifier: MIT OR Apache-2.0
//! `flexsc stat`: the counters that the module shows in fdinfo.

use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use flexsc::DEVICE;

use crate::out::{Out, complain};

/// The prefix of the module's lines.
const PREFIX: &str = "flexsc-";

/// An open engine of a process.
#[derive(Debug, PartialEq, Eq)]
struct Found {
    fd: u32,
    lines: Vec<(String, String)>,
}

/// Prints the counters. Returns true if there were any.
pub fn print(out: &mut Out, pid: Option<u32>) -> bool {
    match pid {
        Some(pid) => print_one(out, pid),
        None => print_all(out),
    }
}

fn print_one(out: &mut Out, pid: u32) -> bool {
    match engines(pid) {
        Ok(found) if found.is_empty() => {
            complain(format_args!("process {pid} has no engine open"));
            false
        }
        Ok(found) => {
            show(out, pid, &found);
            true
        }
        Err(why) if why.kind() == ErrorKind::NotFound => {
            complain(format_args!("there is no process {pid}"));
            false
        }
        Err(why) => {
            complain(format_args!(
                "cannot examine process {pid}: {why}; try as root"
            ));
            false
        }
    }
}

fn print_all(out: &mut Out) -> bool {
    let processes = match fs::read_dir("/proc") {
        Ok(processes) => processes,
        Err(why) => {
            complain(format_args!("cannot read /proc: {why}"));
            return false;
        }
    };
    let (mut any, mut hidden) = (false, false);
    for entry in processes.flatten() {
        let Some(pid) = number(&entry.path()) else {
            continue;
        };
        match engines(pid) {
            Ok(found) if !found.is_empty() => {
                show(out, pid, &found);
                any = true;
            }
            Ok(_) => {}
            Err(why) => hidden |= why.kind() == ErrorKind::PermissionDenied,
        }
    }
    if !any {
        let more = if hidden {
            ", among those that this user may see; try as root"
        } else {
            ""
        };
        complain(format_args!("no process has an engine open{more}"));
    }
    any
}

/// Returns the number at the end of a path.
fn number(path: &Path) -> Option<u32> {
    path.file_name()?.to_str()?.parse().ok()
}

/// Returns the engines that a process has open.
fn engines(pid: u32) -> io::Result<Vec<Found>> {
    let proc = PathBuf::from(format!("/proc/{pid}"));
    let mut found = Vec::new();
    for entry in fs::read_dir(proc.join("fd"))?.flatten() {
        // The descriptor may be closed in the meantime.
        let is_engine = fs::read_link(entry.path()).is_ok_and(|to| to == Path::new(DEVICE));
        let Some(fd) = number(&entry.path()).filter(|_| is_engine) else {
            continue;
        };
        if let Ok(text) = fs::read_to_string(proc.join(format!("fdinfo/{fd}"))) {
            found.push(Found {
                fd,
                lines: lines(&text),
            });
        }
    }
    found.sort_by_key(|found| found.fd);
    Ok(found)
}

/// Returns the module's lines of an fdinfo file, without their prefix.
fn lines(fdinfo: &str) -> Vec<(String, String)> {
    fdinfo
        .lines()
        .filter_map(|line| line.strip_prefix(PREFIX)?.split_once(':'))
        .map(|(key, value)| (key.to_owned(), value.trim().to_owned()))
        .collect()
}

/// Formats a line. Numbers are aligned; the line of a pool has words and numbers.
fn line(key: &str, value: &str) -> String {
    if value.contains(' ') {
        format!("  {key:<16} {value}")
    } else {
        format!("  {key:<16} {value:>12}")
    }
}

fn show(out: &mut Out, pid: u32, found: &[Found]) {
    let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
    for Found { fd, lines } in found {
        out.line(format_args!("{pid} {} fd {fd}", name.trim()));
        for (key, value) in lines {
            out.line(format_args!("{}", line(key, value)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_modules_lines_are_shown() {
        let fdinfo = "pos:\t0\nflags:\t02\nmnt_id:\t15\nflexsc-posted:\t64\nflexsc-waits:\t1\n";
        let pair = |key: &str, value: &str| (key.to_owned(), value.to_owned());
        assert_eq!(lines(fdinfo), [pair("posted", "64"), pair("waits", "1")]);
    }

    #[test]
    fn pools_and_lines_of_later_modules_are_shown_too() {
        let fdinfo = "flexsc-pool-3:\tcpus 0x3 nice 5 active 0/2\nflexsc-new-thing:\t7\n";
        let shown: Vec<_> = lines(fdinfo)
            .iter()
            .map(|(key, value)| line(key, value))
            .collect();
        assert_eq!(shown[0], "  pool-3           cpus 0x3 nice 5 active 0/2");
        assert_eq!(shown[1], "  new-thing                   7");
    }

    #[test]
    fn other_files_are_no_engines() {
        assert_eq!(engines(std::process::id()).unwrap(), []);
        assert_eq!(engines(u32::MAX).unwrap_err().kind(), ErrorKind::NotFound);
    }
}
