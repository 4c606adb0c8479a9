// SPDX-License-Identifier: MIT OR Apache-2.0
//! The summary of `flexsc trace -c`.

use std::collections::BTreeMap;

use super::decode;
use super::events::{By, Call};
use crate::out::Out;

/// Counts of one system call.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Counts {
    calls: u64,
    errors: u64,
    owner: u64,
    thread: u64,
    parked: u64,
    seconds: f64,
}

/// Counts of each system call.
#[derive(Debug, Default)]
pub struct Summary {
    all: BTreeMap<u32, Counts>,
}

impl Summary {
    pub fn add(&mut self, call: &Call) {
        let counts = self.all.entry(call.nr).or_default();
        counts.calls += 1;
        counts.errors += u64::from((-4095..0).contains(&call.result));
        match call.by {
            By::Owner => counts.owner += 1,
            By::Thread(_) => counts.thread += 1,
            By::Parked => counts.parked += 1,
        }
        counts.seconds += call.took;
    }

    /// Prints a table, the call with the most time first.
    pub fn print(&self, out: &mut Out) {
        for line in self.lines() {
            out.line(format_args!("{line}"));
        }
    }

    fn lines(&self) -> Vec<String> {
        let mut rows: Vec<_> = self.all.iter().collect();
        rows.sort_by(|one, other| other.1.seconds.total_cmp(&one.1.seconds));
        let mut lines = vec![format!(
            "{:>12} {:>9} {:>9} {:>9} {:>9} {:>9} {}",
            "seconds", "calls", "errors", "owner", "thread", "parked", "call"
        )];
        for (&nr, counts) in rows {
            lines.push(format!(
                "{:>12.6} {:>9} {:>9} {:>9} {:>9} {:>9} {}",
                counts.seconds,
                counts.calls,
                counts.errors,
                counts.owner,
                counts.thread,
                counts.parked,
                decode::name(nr)
            ));
        }
        lines
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_are_counted_by_their_executors() {
        let mut summary = Summary::default();
        for (nr, result, by, took) in [
            (0, 5, By::Owner, 0.5),
            (0, -4, By::Thread(3), 1.0),
            (0, 0, By::Parked, 0.25),
            (39, 7, By::Owner, 2.0),
        ] {
            summary.add(&Call {
                process: 1,
                owner: 1,
                nr,
                args: None,
                result,
                by,
                blocked: false,
                took,
            });
        }
        let lines = summary.lines();
        let words = |nth: usize| lines[nth].split_whitespace().collect::<Vec<_>>();
        assert_eq!(words(1), ["2.000000", "1", "0", "1", "0", "0", "getpid"]);
        assert_eq!(words(2), ["1.750000", "3", "1", "1", "1", "1", "read"]);
    }
}
