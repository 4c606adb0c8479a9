// SPDX-License-Identifier: MIT OR Apache-2.0
//! The findings of `flexsc doctor`, one line each.

use crate::out::Out;

/// The result of one check.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Finding {
    Good,
    /// It works, but could be better.
    Fair,
    Bad,
}

/// Prints the findings and keeps the worst.
pub struct Report<'a> {
    pub out: &'a mut Out,
    pub worst: Finding,
}

impl Report<'_> {
    pub fn say(&mut self, finding: Finding, what: &str, text: impl std::fmt::Display) {
        let mark = match finding {
            Finding::Good => "ok",
            Finding::Fair => "note",
            Finding::Bad => "FAIL",
        };
        self.out.line(format_args!("{mark:<5}{what:<11}{text}"));
        self.count(finding);
    }

    pub fn count(&mut self, finding: Finding) {
        if finding == Finding::Bad || self.worst == Finding::Good {
            self.worst = finding;
        }
    }

    pub fn good(&mut self, what: &str, text: impl std::fmt::Display) {
        self.say(Finding::Good, what, text);
    }

    pub fn fair(&mut self, what: &str, text: impl std::fmt::Display) {
        self.say(Finding::Fair, what, text);
    }

    pub fn bad(&mut self, what: &str, text: impl std::fmt::Display) {
        self.say(Finding::Bad, what, text);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_worst_finding_counts() {
        let mut out = Out::new();
        let mut report = Report {
            out: &mut out,
            worst: Finding::Good,
        };
        report.fair("test", "fair");
        report.good("test", "good");
        assert_eq!(report.worst, Finding::Fair);
        report.bad("test", "bad");
        report.fair("test", "fair");
        report.good("test", "good");
        assert_eq!(report.worst, Finding::Bad);
    }
}
