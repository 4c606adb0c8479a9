// SPDX-License-Identifier: MIT OR Apache-2.0
//! Finds the engines that processes have open, and the module's lines about them.

use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use flexsc::DEVICE;

/// The prefix of the module's lines.
const PREFIX: &str = "flexsc-";

/// An open engine of a process.
#[derive(Debug, PartialEq, Eq)]
pub struct Engine {
    pub pid: u32,
    /// The name of the process.
    pub name: String,
    pub fd: u32,
    /// The module's lines, without their prefix.
    pub lines: Vec<(String, String)>,
}

impl Engine {
    /// Returns the counter of this name.
    pub fn counter(&self, name: &str) -> Option<u64> {
        let found = self.lines.iter().find(|(key, _)| key == name);
        found.and_then(|(_, value)| value.parse().ok())
    }
}

/// The engines, and whether there may be others.
#[derive(Debug, Default)]
pub struct Found {
    pub engines: Vec<Engine>,
    /// True if this user may not see some processes.
    pub hidden: bool,
}

/// Why nothing was found.
#[derive(Debug)]
pub enum Trouble {
    NoProcess(u32),
    Hidden(u32, io::Error),
    NoProc(io::Error),
}

/// Finds the engines of a process, or of all processes.
pub fn find(pid: Option<u32>) -> Result<Found, Trouble> {
    let Some(pid) = pid else {
        return all();
    };
    match of(pid) {
        Ok(engines) => Ok(Found {
            engines,
            hidden: false,
        }),
        Err(why) if why.kind() == ErrorKind::NotFound => Err(Trouble::NoProcess(pid)),
        Err(why) => Err(Trouble::Hidden(pid, why)),
    }
}

fn all() -> Result<Found, Trouble> {
    let mut found = Found::default();
    for entry in fs::read_dir("/proc").map_err(Trouble::NoProc)?.flatten() {
        let Some(pid) = number(&entry.path()) else {
            continue;
        };
        match of(pid) {
            Ok(engines) => found.engines.extend(engines),
            Err(why) => found.hidden |= why.kind() == ErrorKind::PermissionDenied,
        }
    }
    found.engines.sort_by_key(|engine| (engine.pid, engine.fd));
    Ok(found)
}

/// Returns the number at the end of a path.
fn number(path: &Path) -> Option<u32> {
    path.file_name()?.to_str()?.parse().ok()
}

/// Returns the engines that a process has open.
fn of(pid: u32) -> io::Result<Vec<Engine>> {
    let proc = PathBuf::from(format!("/proc/{pid}"));
    let mut found = Vec::new();
    for entry in fs::read_dir(proc.join("fd"))?.flatten() {
        // The descriptor may be closed in the meantime.
        let is_engine = fs::read_link(entry.path()).is_ok_and(|to| to == Path::new(DEVICE));
        let Some(fd) = number(&entry.path()).filter(|_| is_engine) else {
            continue;
        };
        if let Ok(text) = fs::read_to_string(proc.join(format!("fdinfo/{fd}"))) {
            let name = fs::read_to_string(proc.join("comm")).unwrap_or_default();
            found.push(Engine {
                pid,
                name: name.trim().to_owned(),
                fd,
                lines: lines(&text),
            });
        }
    }
    found.sort_by_key(|engine| engine.fd);
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
    fn other_files_are_no_engines() {
        assert_eq!(of(std::process::id()).unwrap(), []);
        assert!(matches!(
            find(Some(u32::MAX)),
            Err(Trouble::NoProcess(u32::MAX))
        ));
    }
}
