// SPDX-License-Identifier: MIT OR Apache-2.0
//! Detects faults that the kernel reports while a test runs.

use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};

use crate::check::Check;

/// Bits of /proc/sys/kernel/tainted that a fault of the running kernel sets: bad page (KASAN's
/// too), oops, warning, soft lockup.
const FAULTS: u64 = (1 << 5) | (1 << 7) | (1 << 9) | (1 << 14);

/// Keeps the kernel's files open, so that they can be read from any root directory.
pub struct Watch {
    tainted: File,
    areas: File,
    log: Option<File>,
    before: Option<u64>,
    held_before: u64,
}

fn text(mut file: &File) -> String {
    let mut text = String::new();
    let _ = file.seek(SeekFrom::Start(0));
    let _ = file.read_to_string(&mut text);
    text
}

impl Watch {
    /// Watches from now on.
    pub fn new() -> Check<Watch> {
        Self::of(ok!("tainted", File::open("/proc/sys/kernel/tainted")))
    }

    /// As [`Watch::new`], with this file instead of the kernel's taint word.
    pub fn of(tainted: File) -> Check<Watch> {
        let mut watch = Watch {
            tainted,
            areas: ok!("vmallocinfo", File::open("/proc/vmallocinfo")),
            log: OpenOptions::new().write(true).open("/dev/kmsg").ok(),
            before: None,
            held_before: 0,
        };
        watch.before = watch.faults();
        check!(watch.before.is_some(), "the taint word is not a number");
        watch.held_before = watch.area_pages();
        Ok(watch)
    }

    fn faults(&self) -> Option<u64> {
        Some(text(&self.tainted).trim().parse::<u64>().ok()? & FAULTS)
    }

    /// A fault that the kernel has reported since [`Watch::new`].
    pub fn fault(&self) -> Option<&'static str> {
        let (Some(now), Some(before)) = (self.faults(), self.before) else {
            return Some("no taint word");
        };
        let new = now & !before;
        let words = [
            (1 << 7, "an oops"),
            (1 << 5, "a bad access to memory"),
            (1 << 14, "a soft lockup"),
            (1 << 9, "a warning"),
        ];
        words.iter().find(|(bit, _)| new & bit != 0).map(|w| w.1)
    }

    fn area_pages(&self) -> u64 {
        text(&self.areas)
            .lines()
            .filter(|line| line.contains("[flexsc]"))
            .filter_map(|line| {
                line.split("pages=")
                    .nth(1)?
                    .split(' ')
                    .next()?
                    .parse::<u64>()
                    .ok()
            })
            .sum()
    }

    /// Pages of memory that the module has allocated for registrations since [`Watch::new`].
    pub fn held(&self) -> u64 {
        self.area_pages().saturating_sub(self.held_before)
    }

    /// Writes a line to the kernel's log, which gets out of the machine even if it is about to
    /// hang.
    pub fn note(&self, line: &str) {
        if let Some(mut log) = self.log.as_ref() {
            let _ = log.write_all(format!("<5>flexsc-tests: {line}\n").as_bytes());
        }
    }
}
