// SPDX-License-Identifier: MIT OR Apache-2.0
//! Figures as lines of CSV.

use std::fmt;
use std::fs::File;
use std::io::{self, Write};
use std::path::Path;

/// The first line of the CSV.
pub const HEADER: &str = "suite,op,backend,cpus,batch,metric,value,unit";

/// One figure.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    /// The suite that measured the figure.
    pub suite: String,
    /// The operation.
    pub op: String,
    /// The backend.
    pub backend: String,
    /// Processors of the machine.
    pub cpus: usize,
    /// Calls posted, submitted or made at a time.
    pub batch: usize,
    /// The metric.
    pub metric: String,
    /// The value.
    pub value: f64,
    /// The unit.
    pub unit: String,
}

impl Row {
    /// Parses a line of the CSV. Returns `None` for the header and for anything that is not
    /// a row.
    #[must_use]
    pub fn parse(line: &str) -> Option<Row> {
        let mut fields = line.trim_end().split(',');
        let mut text = || fields.next().map(str::to_owned);
        let row = Row {
            suite: text()?,
            op: text()?,
            backend: text()?,
            cpus: text()?.parse().ok()?,
            batch: text()?.parse().ok()?,
            metric: text()?,
            value: text()?.parse().ok()?,
            unit: text()?,
        };
        fields.next().is_none().then_some(row)
    }
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{},{},{},{},{},{},{:.2},{}",
            self.suite,
            self.op,
            self.backend,
            self.cpus,
            self.batch,
            self.metric,
            self.value,
            self.unit
        )
    }
}

/// The destination of rows.
pub struct Report {
    out: Box<dyn Write>,
}

impl Report {
    /// Writes to a file, or to stdout.
    ///
    /// # Errors
    ///
    /// The file cannot be written.
    pub fn new(file: Option<&Path>) -> io::Result<Report> {
        let mut out: Box<dyn Write> = match file {
            Some(path) => Box::new(File::create(path)?),
            None => Box::new(io::stdout()),
        };
        writeln!(out, "{HEADER}")?;
        Ok(Report { out })
    }

    /// Writes to stdout without a header, as a part of another report.
    #[must_use]
    pub fn part() -> Report {
        Report {
            out: Box::new(io::stdout()),
        }
    }

    /// Adds a figure.
    ///
    /// # Errors
    ///
    /// The file cannot be written.
    pub fn row(&mut self, row: &Row) -> io::Result<()> {
        writeln!(self.out, "{row}")?;
        self.out.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_survive_the_csv() {
        let line = "calls,getppid,plain,1,64,instructions,233.50,per call";
        assert_eq!(Row::parse(line).unwrap().to_string(), line);
        assert_eq!(Row::parse(HEADER), None);
        assert_eq!(Row::parse(&format!("{line},more")), None);
    }
}
