// SPDX-License-Identifier: MIT OR Apache-2.0
//! Figures as lines of CSV.

use std::fmt;
use std::fs::File;
use std::io::{self, Write};
use std::path::Path;

use csv::{ReaderBuilder, Writer, WriterBuilder};
use serde::{Deserialize, Serialize, Serializer};

/// The columns of the CSV.
pub const HEADER: [&str; 8] = [
    "suite", "op", "backend", "cpus", "batch", "metric", "value", "unit",
];

/// What the metric of a row ends with if its value is the first quartile of the samples, whose
/// median is the row before.
pub const LOW: &str = ".q1";

/// The same for the third quartile.
pub const HIGH: &str = ".q3";

/// One figure.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
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
    #[serde(serialize_with = "two_digits")]
    pub value: f64,
    /// The unit.
    pub unit: String,
}

fn two_digits<S: Serializer>(value: &f64, to: S) -> Result<S::Ok, S::Error> {
    to.collect_str(&format_args!("{value:.2}"))
}

impl Row {
    /// Parses a line of the CSV. Returns `None` for the header and for anything that is not
    /// a row.
    #[must_use]
    pub fn parse(line: &str) -> Option<Row> {
        rows(line.as_bytes(), false).ok()?.pop()
    }

    /// Returns what the value is a figure of: all other columns.
    #[must_use]
    pub fn key(&self) -> String {
        let Row {
            suite,
            op,
            backend,
            cpus,
            batch,
            metric,
            value: _,
            unit,
        } = self;
        format!("{suite},{op},{backend},{cpus},{batch},{metric},{unit}")
    }

    /// Returns true if the value is a quartile of another row's samples.
    #[must_use]
    pub fn is_quartile(&self) -> bool {
        self.metric.ends_with(LOW) || self.metric.ends_with(HIGH)
    }
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut line = Vec::new();
        let mut writer = headless(&mut line);
        writer.serialize(self).map_err(|_| fmt::Error)?;
        drop(writer);
        f.write_str(String::from_utf8_lossy(&line).trim_end())
    }
}

fn headless<W: Write>(out: W) -> Writer<W> {
    WriterBuilder::new().has_headers(false).from_writer(out)
}

/// Reads rows; with `header`, the first line is one, and so may others be: several files in a row
/// are a file, too.
fn rows(from: impl io::Read, header: bool) -> Result<Vec<Row>, String> {
    let mut reader = ReaderBuilder::new().has_headers(header).from_reader(from);
    if header {
        let found = reader.headers().map_err(|why| why.to_string())?;
        if *found != HEADER[..] {
            return Err(format!("its first line is not {}", HEADER.join(",")));
        }
    }
    let mut rows = Vec::new();
    for record in reader.records() {
        let record = record.map_err(|why| why.to_string())?;
        if header && record == HEADER[..] {
            continue;
        }
        if record.len() != HEADER.len() {
            return Err(format!("{record:?} has {} columns", record.len()));
        }
        let row: Row = record.deserialize(None).map_err(|why| why.to_string())?;
        if !row.value.is_finite() {
            return Err(format!("'{row}' has no value"));
        }
        rows.push(row);
    }
    Ok(rows)
}

/// Reads the rows of a file.
///
/// # Errors
///
/// The file cannot be read, has other columns, has no rows, or one of its lines is not a row.
pub fn read(file: &Path) -> io::Result<Vec<Row>> {
    let failed = |why: &dyn fmt::Display| io::Error::other(format!("{}: {why}", file.display()));
    let open = File::open(file).map_err(|why| failed(&why))?;
    let rows = rows(open, true).map_err(|why| failed(&why))?;
    if rows.is_empty() {
        return Err(failed(&"there are no rows"));
    }
    Ok(rows)
}

/// The destination of rows.
pub struct Report {
    out: Writer<Box<dyn Write>>,
}

impl Report {
    /// Writes to a file, or to stdout.
    ///
    /// # Errors
    ///
    /// The file cannot be written.
    pub fn new(file: Option<&Path>) -> io::Result<Report> {
        let out: Box<dyn Write> = match file {
            Some(path) => Box::new(File::create(path)?),
            None => Box::new(io::stdout()),
        };
        let mut out = headless(out);
        out.write_record(HEADER)?;
        Ok(Report { out })
    }

    /// Writes to stdout without a header, as a part of another report.
    #[must_use]
    pub fn part() -> Report {
        Report {
            out: headless(Box::new(io::stdout())),
        }
    }

    /// Adds a figure.
    ///
    /// # Errors
    ///
    /// The file cannot be written.
    pub fn row(&mut self, row: &Row) -> io::Result<()> {
        self.out.serialize(row)?;
        self.out.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINE: &str = "calls,getppid,plain,1,64,instructions,233.50,per call";

    #[test]
    fn rows_survive_the_csv() {
        assert_eq!(Row::parse(LINE).unwrap().to_string(), LINE);
        assert_eq!(Row::parse(&HEADER.join(",")), None);
        assert_eq!(Row::parse(&format!("{LINE},more")), None);
        assert_eq!(Row::parse(""), None);
    }

    #[test]
    fn a_line_that_is_not_a_row_is_an_error() {
        let file = |text: String| rows(text.as_bytes(), true);
        let header = HEADER.join(",");
        assert_eq!(file(format!("{header}\n{LINE}\n")).unwrap().len(), 1);
        let twice = format!("{header}\n{LINE}\n").repeat(2);
        assert_eq!(file(twice).unwrap().len(), 2);
        // As a file that was cut off.
        assert!(file(format!("{header}\n{LINE}\ncalls,getp")).is_err());
        assert!(file(format!("{LINE}\n{LINE}\n")).is_err());
        let nan = LINE.replace("233.50", "NaN");
        assert!(
            file(format!("{header}\n{nan}\n"))
                .unwrap_err()
                .contains("no value")
        );
    }

    #[test]
    fn quartiles_are_told_from_figures() {
        let mut row = Row::parse(LINE).unwrap();
        assert!(!row.is_quartile());
        row.metric += LOW;
        assert!(row.is_quartile());
    }
}
