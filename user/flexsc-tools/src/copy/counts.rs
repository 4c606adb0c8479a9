// SPDX-License-Identifier: MIT OR Apache-2.0
//! Counters, report and progress line.

use std::fmt::{self, Write as _};
use std::io::{self, Write as _};
use std::time::Duration;

use nix::time::{ClockId, clock_gettime};

/// The system calls of a copy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub enum Kind {
    Openat,
    Statx,
    Getdents64,
    Mkdirat,
    Read,
    Write,
    Pread64,
    Pwrite64,
    Close,
    Readlinkat,
    Symlinkat,
    Mknodat,
    Linkat,
    Renameat2,
    Unlinkat,
    Openat2,
    Lseek,
    Ftruncate,
    Faccessat2,
    Fchown,
    Fchownat,
    Fchmod,
    Fchmodat2,
    Utimensat,
    Flistxattr,
    Fgetxattr,
    Fsetxattr,
    Fremovexattr,
    Llistxattr,
    Lgetxattr,
    Lsetxattr,
    Lremovexattr,
    /// A write of the progress line.
    Progress,
}

const NAMES: [&str; 33] = [
    "openat",
    "statx",
    "getdents64",
    "mkdirat",
    "read",
    "write",
    "pread64",
    "pwrite64",
    "close",
    "readlinkat",
    "symlinkat",
    "mknodat",
    "linkat",
    "renameat2",
    "unlinkat",
    "openat2",
    "lseek",
    "ftruncate",
    "faccessat2",
    "fchown",
    "fchownat",
    "fchmod",
    "fchmodat2",
    "utimensat",
    "flistxattr",
    "fgetxattr",
    "fsetxattr",
    "fremovexattr",
    "llistxattr",
    "lgetxattr",
    "lsetxattr",
    "lremovexattr",
    "progress",
];

/// A counter for each [`Kind`].
#[derive(Clone, Copy, Debug)]
struct Calls([u64; NAMES.len()]);

impl Default for Calls {
    fn default() -> Self {
        Calls([0; NAMES.len()])
    }
}

/// Counters of one copy.
#[derive(Clone, Copy, Debug, Default)]
pub struct Counts {
    /// Indexed by [`Kind`].
    calls: Calls,
    pub files: u64,
    pub dirs: u64,
    /// Symbolic links.
    pub links: u64,
    /// FIFOs, sockets and devices.
    pub special: u64,
    /// Further names of files that were copied already.
    pub hard_links: u64,
    pub bytes: u64,
    /// Copies that belong to us because only root can give files away.
    pub kept_owner: u64,
    /// Attributes that only root can set, or that do not exist in the target.
    pub attributes_left: u64,
    /// Files and directories that were not started, or given up, because the copy stopped.
    pub left: u64,
    pub errors: u64,
}

impl Counts {
    pub fn call(&mut self, kind: Kind) {
        self.calls.0[kind as usize] += 1;
    }

    #[cfg(test)]
    pub fn calls_of(&self, kind: Kind) -> u64 {
        self.calls.0[kind as usize]
    }

    pub fn calls(&self) -> u64 {
        self.calls.0.iter().sum()
    }

    /// Writes the report's lines about calls and files.
    pub fn report(&self, out: &mut String) -> fmt::Result {
        writeln!(out, "calls={}", self.calls())?;
        for (name, calls) in NAMES.iter().zip(self.calls.0) {
            writeln!(out, "calls_{name}={calls}")?;
        }
        writeln!(out, "files={}", self.files)?;
        writeln!(out, "dirs={}", self.dirs)?;
        writeln!(out, "links={}", self.links)?;
        writeln!(out, "bytes={}", self.bytes)?;
        writeln!(out, "special={}", self.special)?;
        writeln!(out, "hard_links={}", self.hard_links)?;
        writeln!(out, "kept_owner={}", self.kept_owner)?;
        writeln!(out, "attributes_left={}", self.attributes_left)?;
        writeln!(out, "left={}", self.left)?;
        writeln!(out, "errors={}", self.errors)
    }
}

/// The shortest time between two progress lines.
const PERIOD: Duration = Duration::from_millis(200);

/// The progress line on standard error. It is written by a call like all others, so its
/// text must not change until that call has finished.
pub struct Progress {
    text: Box<[u8; 96]>,
    next: Duration,
    busy: bool,
    on: bool,
}

/// Returns the time of the last timer tick. Reading it never enters the kernel, whatever
/// the clock source.
fn coarse_now() -> Duration {
    clock_gettime(ClockId::CLOCK_MONOTONIC_COARSE).map_or(Duration::ZERO, Duration::from)
}

impl Progress {
    pub fn new(on: bool) -> Self {
        Progress {
            text: Box::new([0; 96]),
            next: if on {
                coarse_now() + PERIOD
            } else {
                Duration::MAX
            },
            busy: false,
            on,
        }
    }

    /// Returns the text of a new line when it is due.
    pub fn due(&mut self, counts: &Counts) -> Option<(*const u8, usize)> {
        if !self.on || self.busy {
            return None;
        }
        let now = coarse_now();
        if now < self.next {
            return None;
        }
        self.next = now + PERIOD;
        self.busy = true;
        let len = self.line(counts);
        Some((self.text.as_ptr(), len))
    }

    /// The call that wrote the line has finished.
    pub fn written(&mut self) {
        self.busy = false;
    }

    /// Ends the line.
    pub fn finish(&mut self, counts: &Counts) {
        if self.on && !self.busy {
            let len = self.line(counts);
            self.text[len] = b'\n';
            // A closed standard error does not affect the copy.
            let _ = io::stderr().write_all(&self.text[..=len]);
        }
    }

    fn line(&mut self, counts: &Counts) -> usize {
        let last = self.text.len() - 1;
        let mut room = &mut self.text[..last];
        let _ = write!(
            room,
            "\r{:>6} files {:>5} directories {:>6} MB {:>8} calls",
            counts.files,
            counts.dirs,
            counts.bytes / 1_000_000,
            counts.calls(),
        );
        let left = room.len();
        last - left
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_has_a_name() {
        assert_eq!(NAMES[Kind::Progress as usize], "progress");
        let mut counts = Counts::default();
        counts.call(Kind::Close);
        let mut out = String::new();
        counts.report(&mut out).unwrap();
        assert!(out.contains("calls=1\n") && out.contains("calls_close=1\n"));
    }

    #[test]
    fn the_line_fits() {
        let mut progress = Progress::new(true);
        let counts = Counts {
            files: u64::MAX,
            dirs: u64::MAX,
            bytes: u64::MAX,
            ..Counts::default()
        };
        assert!(progress.line(&counts) < 96);
        progress.next = Duration::ZERO;
        assert!(progress.due(&counts).is_some());
        assert!(progress.due(&counts).is_none());
    }
}
