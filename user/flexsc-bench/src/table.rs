// SPDX-License-Identifier: MIT OR Apache-2.0
//! CSV as readable tables, with ratios.

use std::io;
use std::path::{Path, PathBuf};

use crate::goals::{self, find};
use crate::report::{Row, read};

/// Returns the distinct values of a column in the order of their first appearance.
pub fn distinct<T: PartialEq>(rows: &[&Row], column: impl Fn(&Row) -> T) -> Vec<T> {
    let mut all = Vec::new();
    for row in rows {
        let value = column(row);
        if !all.contains(&value) {
            all.push(value);
        }
    }
    all
}

/// Prints all tables of these files.
///
/// # Errors
///
/// A file cannot be read.
pub fn show(files: &[PathBuf]) -> io::Result<()> {
    let mut all = Vec::new();
    for file in files {
        all.extend(read(file)?);
    }
    // The report has the quartiles.
    let all: Vec<_> = all.iter().filter(|row| !row.is_quartile()).collect();
    for (suite, metric, op, cpus, unit) in distinct(&all, |row| {
        (
            row.suite.clone(),
            row.metric.clone(),
            row.op.clone(),
            row.cpus,
            row.unit.clone(),
        )
    }) {
        let rows: Vec<_> = all
            .iter()
            .copied()
            .filter(|row| row.suite == suite && row.metric == metric && row.op == op)
            .filter(|row| row.cpus == cpus && row.unit == unit)
            .collect();
        println!();
        println!("{suite}: {op}, {metric} {unit}, {cpus} CPU");
        if suite == "absent" {
            print!("{}", kernels(&rows));
        } else {
            print!("{}", batches(&rows));
        }
    }
    let goals = goals(&all);
    if !goals.is_empty() {
        println!();
        println!("goals");
        print!("{goals}");
    }
    Ok(())
}

/// Prints values, and in brackets the ratio to the first column.
fn batches(rows: &[&Row]) -> String {
    let backends = distinct(rows, |row| row.backend.clone());
    let mut text = format!("{:>7}", "batch");
    for backend in &backends {
        text += &format!("{backend:>19}");
    }
    text += "\n";
    for batch in distinct(rows, |row| row.batch) {
        text += &format!("{batch:>7}");
        let base = find(rows, &backends[0], batch);
        for (column, backend) in backends.iter().enumerate() {
            let cell = match (find(rows, backend, batch), base) {
                (Some(value), _) if column == 0 => format!("{value:.1}"),
                (Some(value), Some(base)) if base > 0.0 => {
                    format!("{value:.1} ({:.2})", value / base)
                }
                (Some(value), _) => format!("{value:.1}"),
                (None, _) => "-".into(),
            };
            text += &format!("{cell:>19}");
        }
        text += "\n";
    }
    text
}

/// Prints the values of each kernel, and the difference to the first.
fn kernels(rows: &[&Row]) -> String {
    let mut text = String::new();
    let base = rows[0].value;
    for row in rows {
        let more = (row.value / base - 1.0) * 100.0;
        text += &format!("{:>19} {:>12.2}", row.backend, row.value);
        text += &if row == &rows[0] {
            "\n".to_owned()
        } else {
            format!("  {more:+.2} %\n")
        };
    }
    text
}

fn goals(all: &[&Row]) -> String {
    let mut text = String::new();
    for goal in goals::goals(all) {
        text += &format!(
            "  {:<40} batch {:<4}{:<24}{:>9}  goal {:<14}{}\n",
            goal.what,
            goal.batch,
            goal.against,
            goal.measured,
            goal.goal,
            goal.verdict()
        );
    }
    text
}

/// Prints where two files differ, and the largest difference.
///
/// # Errors
///
/// A file cannot be read.
pub fn diff(one: &Path, other: &Path) -> io::Result<()> {
    let (one, other) = (read(one)?, read(other)?);
    let mut worst = 0.0_f64;
    let (mut same, mut different, mut alone) = (0, 0, 0);
    for row in &one {
        let Some(twin) = other.iter().find(|twin| twin.key() == row.key()) else {
            alone += 1;
            continue;
        };
        if row.value.to_bits() == twin.value.to_bits() {
            same += 1;
            continue;
        }
        different += 1;
        let by = (twin.value / row.value - 1.0) * 100.0;
        worst = worst.max(by.abs());
        println!("  {row} and {:.2} ({by:+.2} %)", twin.value);
    }
    println!(
        "{same} figures are the same, {different} differ (by {worst:.2} % at most), {alone} are in one file only"
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(backend: &str, batch: usize, value: f64) -> Row {
        Row {
            suite: "calls".into(),
            op: "getppid".into(),
            backend: backend.into(),
            cpus: 1,
            batch,
            metric: "instructions".into(),
            value,
            unit: "per call".into(),
        }
    }

    #[test]
    fn ratios_are_to_the_first_backend() {
        let rows = [row("plain", 2, 200.0), row("io_uring", 2, 500.0)];
        let text = batches(&rows.iter().collect::<Vec<_>>());
        assert!(text.contains("200.0") && text.contains("500.0 (2.50)"));
    }

    #[test]
    fn kernels_are_compared_with_the_first() {
        let rows = [row("nopatch", 1, 200.0), row("off", 1, 201.0)];
        assert!(kernels(&rows.iter().collect::<Vec<_>>()).contains("+0.50 %"));
    }
}
