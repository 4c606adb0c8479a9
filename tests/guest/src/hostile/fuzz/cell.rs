// SPDX-License-Identifier: MIT OR Apache-2.0
//! The reports of a hostile program, in memory that the program may overwrite by mistake.
//!
//! Two banks are written in turn, each closed by a seal that only the program and its parent can
//! make. A bank with a broken seal is ignored, so at most one report is lost.

use std::sync::atomic::{AtomicU64, Ordering};

use nix::errno::Errno;

/// Words in a report.
const WORDS: usize = 11;

/// A report.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Number of the report.
    pub number: u64,
    /// Entries that the module has accepted, by its own statistics.
    pub posted: u64,
    /// Entries among these that were executed.
    pub executed: u64,
    /// Engines opened.
    pub engines: u64,
    /// Registrations that were all zeros at their beginning.
    pub fresh: u64,
    /// Registrations without a kernel address at their end.
    pub scanned: u64,
    /// Lives that have come to their end.
    pub lives: u64,
    /// 0, or a [`Finding`], and three words with details.
    pub finding: [u64; 4],
}

/// A finding: an event that must not happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u64)]
pub enum Finding {
    /// A word of a new registration is not zero.
    NotZero = 1,
    /// A kernel address is in a page.
    Address = 2,
    /// The kernel's reserved words are not zero.
    Reserved = 3,
    /// More results than entries, or statistics that run backwards.
    Statistics = 4,
    /// A call's result differs from that of a plain one.
    Result = 5,
    /// A call that cannot wait has not ended before CANCEL.
    Endless = 6,
    /// A call has not ended, not even after CANCEL.
    Unstoppable = 7,
    /// A registration that no thread may end has ended.
    Lost = 8,
}

impl Report {
    fn words(&self) -> [u64; WORDS] {
        let [kind, a, b, c] = self.finding;
        [
            self.number,
            self.posted,
            self.engines,
            self.fresh,
            self.scanned,
            kind,
            a,
            b,
            self.executed,
            c,
            self.lives,
        ]
    }

    fn from_words(w: [u64; WORDS]) -> Self {
        Report {
            number: w[0],
            posted: w[1],
            engines: w[2],
            fresh: w[3],
            scanned: w[4],
            finding: [w[5], w[6], w[7], w[9]],
            executed: w[8],
            lives: w[10],
        }
    }

    /// The finding in words.
    pub fn complaint(&self) -> Option<String> {
        let [kind, a, b, c] = self.finding;
        match kind {
            0 => None,
            1 => Some(format!("{b:#x} at byte {a} of a new registration")),
            2 => Some(format!("a kernel address, {b:#x}, at byte {a} of a page")),
            3 => Some(format!("{a:#x} in the kernel's reserved words")),
            4 => Some(format!("statistics: {b} results of {a} entries")),
            5 => Some(format!(
                "call {} with argument {}: result {} reason {}, unlike a plain call",
                a as u32,
                b as i64,
                c as i64,
                a >> 32
            )),
            6 => Some(format!(
                "call {a} with argument {}: not at its end after {c} s, and then only after CANCEL",
                b as i64
            )),
            7 => Some(format!(
                "call {a} with argument {:#x}: not at its end after {c} s, nor after CANCEL",
                b
            )),
            8 => Some(format!(
                "registration {a} of a thread that lives is gone: {:?}",
                Errno::from_raw(b as i32)
            )),
            _ => Some(format!("finding {kind}: {a:#x} {b:#x}")),
        }
    }
}

/// FNV-1a over words.
fn seal(words: &[u64; WORDS], key: u64) -> u64 {
    words
        .iter()
        .fold(0xcbf2_9ce4_8422_2325 ^ key, |sum, &word| {
            (sum ^ word)
                .wrapping_mul(0x0000_0100_0000_01b3)
                .rotate_left(23)
        })
}

/// The memory for a program's reports.
#[derive(Default)]
pub struct Cell([Bank; 2]);

#[derive(Default)]
struct Bank {
    words: [AtomicU64; WORDS],
    seal: AtomicU64,
}

impl Cell {
    /// Writes a report.
    pub fn write(&self, report: &Report, key: u64) {
        let bank = &self.0[report.number as usize % 2];
        let words = report.words();
        bank.seal.store(0, Ordering::Release);
        for (place, word) in bank.words.iter().zip(words) {
            place.store(word, Ordering::Relaxed);
        }
        bank.seal.store(seal(&words, key), Ordering::Release);
    }

    /// Returns the last complete report, once its program has ended.
    pub fn read(&self, key: u64) -> Report {
        let whole = self.0.iter().filter_map(|bank| {
            let mut words = [0; WORDS];
            for (word, place) in words.iter_mut().zip(&bank.words) {
                *word = place.load(Ordering::Relaxed);
            }
            let good = bank.seal.load(Ordering::Acquire) == seal(&words, key);
            good.then(|| Report::from_words(words))
        });
        whole.max_by_key(|report| report.number).unwrap_or_default()
    }

    /// Forgets everything.
    pub fn clear(&self) {
        for bank in &self.0 {
            bank.seal.store(0, Ordering::Relaxed);
        }
    }
}
