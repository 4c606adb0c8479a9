// SPDX-License-Identifier: MIT OR Apache-2.0
//! Puts figures into a document: replaces the text between `<!-- figures: … -->` and `<!--
//! end -->` and leaves the rest unchanged.
//!
//! These figures exist:
//!
//! * `meta`: the origin of the figures
//! * `goals`: goals and whether they are reached
//! * `batches SUITE OP METRIC CPUS BATCH,BATCH,… [BACKEND,…]`: a line for each
//!   batch, a column for each backend, with ratios to the first
//! * `even SUITE METRIC CPUS BACKEND OTHER BATCH,BATCH,…`: a line for each operation, with the
//!   ratios of the backend to plain calls, the batch from which on it pays, and the ratio of
//!   another backend
//! * `metrics SUITE OP METRIC,METRIC,…`: a line for each batch and backend
//! * `kernels SUITE METRIC`: a line for each operation, a column for each kernel

use std::fs;
use std::io;
use std::path::Path;

use crate::goals::{self, find, select};
use crate::report::{Row, read};
use crate::table::distinct;

const BEGIN: &str = "<!-- figures: ";
const CLOSE: &str = " -->";
const END: &str = "<!-- end -->";

/// Rewrites the document with the figures of a CSV and of the meta file beside it.
///
/// # Errors
///
/// A file cannot be read or written, or the document asks for figures that do not exist.
pub fn fill(csv: &Path, document: &Path) -> io::Result<()> {
    let rows = read(csv)?;
    let meta = fs::read_to_string(csv.with_extension("meta")).unwrap_or_default();
    let text = fs::read_to_string(document)
        .map_err(|why| io::Error::other(format!("{}: {why}", document.display())))?;
    let filled = filled(&text, &rows.iter().collect::<Vec<_>>(), &meta)
        .map_err(|why| io::Error::other(format!("{}: {why}", document.display())))?;
    fs::write(document, filled)
}

fn filled(text: &str, rows: &[&Row], meta: &str) -> Result<String, String> {
    let mut out = String::with_capacity(text.len());
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        out += line;
        out.push('\n');
        let Some(what) = line
            .strip_prefix(BEGIN)
            .and_then(|rest| rest.strip_suffix(CLOSE))
        else {
            continue;
        };
        out.push('\n');
        out += &figures(what, rows, meta).map_err(|why| format!("{line}: {why}"))?;
        if !lines.any(|line| line == END) {
            return Err(format!("{line}: there is no {END} behind it"));
        }
        out.push('\n');
        out += END;
        out.push('\n');
    }
    Ok(out)
}

fn figures(what: &str, rows: &[&Row], meta: &str) -> Result<String, String> {
    let words: Vec<_> = what.split(' ').collect();
    let table = match words[..] {
        ["meta"] => about(meta),
        ["goals"] => goal_table(rows),
        ["batches", suite, op, metric, cpus, batches] => {
            batch_table(&of_cpus(rows, suite, op, metric, cpus), batches, None)
        }
        ["batches", suite, op, metric, cpus, batches, backends] => {
            let rows = of_cpus(rows, suite, op, metric, cpus);
            batch_table(&rows, batches, Some(backends))
        }
        ["even", suite, metric, cpus, backend, other, batches] => {
            let of_suite = rows.iter().copied();
            let rows: Vec<_> = of_suite
                .filter(|row| row.suite == suite && row.metric == metric)
                .filter(|row| row.cpus.to_string() == cpus)
                .collect();
            even_table(&rows, backend, other, batches)
        }
        ["metrics", suite, op, metrics] => metric_table(rows, suite, op, metrics),
        ["kernels", suite, metric] => kernel_table(rows, suite, metric),
        _ => return Err("not one of meta, goals, batches, even, metrics, kernels".into()),
    };
    Ok(if table.is_empty() {
        "Not measured in this run.\n".into()
    } else {
        table
    })
}

fn of_cpus<'a>(rows: &[&'a Row], suite: &str, op: &str, metric: &str, cpus: &str) -> Vec<&'a Row> {
    let mut rows = select(rows, suite, op, metric);
    rows.retain(|row| row.cpus.to_string() == cpus);
    rows
}

fn line(cells: &[String]) -> String {
    format!("| {} |\n", cells.join(" | "))
}

/// A table: headings, the first `left` of them over text, and rows.
fn table(headings: &[&str], left: usize, lines: &[Vec<String>]) -> String {
    if lines.is_empty() {
        return String::new();
    }
    let mut text = line(&headings.iter().map(|&cell| cell.into()).collect::<Vec<_>>());
    for column in 0..headings.len() {
        text += if column < left { "|---" } else { "|--:" };
    }
    text += "|\n";
    lines.iter().for_each(|cells| text += &line(cells));
    text
}

/// Formats a number with commas between thousands.
pub fn number(value: f64, digits: usize) -> String {
    let text = format!("{value:.digits$}");
    let whole = text.find('.').unwrap_or(text.len());
    let sign = usize::from(text.starts_with('-'));
    let mut out = String::new();
    for (at, digit) in text.char_indices() {
        if at > sign && at < whole && (whole - at) % 3 == 0 {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

fn about(meta: &str) -> String {
    // Readers do not need the checksums.
    let pairs = meta.lines().filter(|line| !line.contains("sha256"));
    let cells = pairs.filter_map(|line| {
        let (key, value) = line.split_once(": ")?;
        Some(vec![key.to_owned(), value.to_owned()])
    });
    table(&["", ""], 2, &cells.collect::<Vec<_>>())
}

fn goal_table(rows: &[&Row]) -> String {
    let cells = |goal: &goals::Goal| {
        vec![
            goal.what.clone(),
            goal.batch.to_string(),
            goal.against.clone(),
            goal.measured.clone(),
            goal.goal.clone(),
            goal.verdict().to_owned(),
        ]
    };
    let lines: Vec<_> = goals::goals(rows).iter().map(cells).collect();
    let headings = ["what", "batch", "against", "measured", "goal", ""];
    table(&headings, 1, &lines)
}

fn batch_table(rows: &[&Row], batches: &str, backends: Option<&str>) -> String {
    let mut columns = distinct(rows, |row| row.backend.clone());
    if let Some(wanted) = backends {
        columns.retain(|column| wanted.split(',').any(|backend| backend == column));
    }
    let mut lines = Vec::new();
    for batch in batches.split(',').filter_map(|batch| batch.parse().ok()) {
        let Some(base) = columns.first().and_then(|first| find(rows, first, batch)) else {
            continue;
        };
        let mut cells = vec![batch.to_string(), number(base, 0)];
        cells.extend(columns[1..].iter().map(|column| {
            find(rows, column, batch).map_or("-".into(), |value| {
                format!("{} ({:.2})", number(value, 0), value / base)
            })
        }));
        lines.push(cells);
    }
    let headings: Vec<_> = std::iter::once("batch")
        .chain(columns.iter().map(String::as_str))
        .collect();
    table(&headings, 0, &lines)
}

fn even_table(rows: &[&Row], backend: &str, other: &str, batches: &str) -> String {
    let batches: Vec<usize> = batches
        .split(',')
        .filter_map(|batch| batch.parse().ok())
        .collect();
    let last = batches.last().copied().unwrap_or(1);
    let mut lines = Vec::new();
    for op in distinct(rows, |row| row.op.clone()) {
        let rows: Vec<_> = rows.iter().copied().filter(|row| row.op == op).collect();
        let ratio = |backend: &str, batch: usize| {
            let ratio = find(&rows, backend, batch)? / find(&rows, "plain", batch)?;
            Some(number(ratio, 2))
        };
        let ratio = |backend, batch| ratio(backend, batch).unwrap_or("-".into());
        let pays = goals::break_even(&rows, backend).map(|batch| batch.to_string());
        let mut cells = vec![op];
        cells.extend(batches.iter().map(|&batch| ratio(backend, batch)));
        cells.push(pays.unwrap_or("never".into()));
        cells.push(ratio(other, last));
        lines.push(cells);
    }
    let titles: Vec<_> = batches.iter().map(usize::to_string).collect();
    let titles = titles.iter().map(String::as_str);
    let end = format!("{other}, {last}");
    let headings: Vec<_> = std::iter::once("operation")
        .chain(titles)
        .chain(["breaks even at", &end])
        .collect();
    table(&headings, 1, &lines)
}

fn metric_table(rows: &[&Row], suite: &str, op: &str, metrics: &str) -> String {
    let metrics: Vec<_> = metrics.split(',').collect();
    let columns: Vec<_> = metrics
        .iter()
        .map(|metric| select(rows, suite, op, metric))
        .collect();
    let all: Vec<_> = columns.iter().flatten().copied().collect();
    let unit = |rows: &Vec<&Row>| rows.first().map_or(String::new(), |row| row.unit.clone());
    let titles: Vec<_> = metrics
        .iter()
        .zip(&columns)
        .map(|(metric, rows)| format!("{metric}, {}", unit(rows)))
        .collect();
    let mut lines = Vec::new();
    for batch in distinct(&all, |row| row.batch) {
        let here: Vec<_> = all
            .iter()
            .copied()
            .filter(|row| row.batch == batch)
            .collect();
        for backend in distinct(&here, |row| row.backend.clone()) {
            let mut cells = vec![backend.clone(), batch.to_string()];
            cells.extend(columns.iter().map(|rows| {
                find(rows, &backend, batch).map_or("-".into(), |value| {
                    number(value, if value.abs() < 1000.0 { 2 } else { 0 })
                })
            }));
            lines.push(cells);
        }
    }
    let headings: Vec<_> = ["", "batch"]
        .into_iter()
        .chain(titles.iter().map(String::as_str))
        .collect();
    table(&headings, 1, &lines)
}

fn kernel_table(rows: &[&Row], suite: &str, metric: &str) -> String {
    let rows: Vec<_> = rows
        .iter()
        .copied()
        .filter(|row| row.suite == suite && row.metric == metric)
        .collect();
    let kernels = distinct(&rows, |row| row.backend.clone());
    let mut lines = Vec::new();
    for op in distinct(&rows, |row| row.op.clone()) {
        let rows = select(&rows, suite, &op, metric);
        let mut cells = vec![op];
        let base = kernels.first().and_then(|kernel| find(&rows, kernel, 1));
        cells.extend(kernels.iter().enumerate().map(|(column, kernel)| {
            match (find(&rows, kernel, 1), base) {
                (Some(value), Some(base)) if column > 0 => {
                    let more = (value / base - 1.0) * 100.0;
                    format!("{} ({more:+.2} %)", number(value, 2))
                }
                (Some(value), _) => number(value, 2),
                (None, _) => "-".into(),
            }
        }));
        lines.push(cells);
    }
    let headings: Vec<_> = std::iter::once("operation")
        .chain(kernels.iter().map(String::as_str))
        .collect();
    table(&headings, 1, &lines)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(backend: &str, batch: usize, value: f64) -> Row {
        let line = format!("calls,getppid,{backend},1,{batch},instructions,{value},per call");
        Row::parse(&line).unwrap()
    }

    #[test]
    fn only_what_is_marked_is_replaced() {
        let rows = [row("plain", 1, 1000.0), row("flexsc-inline", 1, 1500.0)];
        let rows: Vec<_> = rows.iter().collect();
        let text = "before\n\
            <!-- figures: batches calls getppid instructions 1 1,2 -->\n\
            old\n<!-- end -->\nafter\n";
        let new = filled(text, &rows, "").unwrap();
        assert!(new.starts_with("before\n") && new.ends_with("<!-- end -->\nafter\n"));
        assert!(new.contains("| 1 | 1,000 | 1,500 (1.50) |") && !new.contains("old"));
        // Filling the document again changes nothing.
        assert_eq!(filled(&new, &rows, "").unwrap(), new);
    }

    #[test]
    fn mistakes_in_the_document_are_named() {
        let rows = [row("plain", 1, 1.0)];
        let rows: Vec<_> = rows.iter().collect();
        let open = "<!-- figures: goals -->\nno end\n";
        assert!(
            filled(open, &rows, "")
                .unwrap_err()
                .contains("<!-- end -->")
        );
        let unknown = "<!-- figures: nonsense -->\n<!-- end -->\n";
        assert!(filled(unknown, &rows, "").unwrap_err().contains("nonsense"));
    }

    #[test]
    fn what_was_not_measured_is_said() {
        let text = "<!-- figures: kernels absent instructions -->\n<!-- end -->\n";
        assert!(filled(text, &[], "").unwrap().contains("Not measured"));
    }

    #[test]
    fn break_even_is_that_of_each_operation() {
        let rows = [
            row("plain", 1, 100.0),
            row("plain", 8, 100.0),
            row("flexsc-inline", 1, 250.0),
            row("flexsc-inline", 8, 50.0),
            row("io_uring", 8, 75.0),
        ];
        let rows: Vec<_> = rows.iter().collect();
        let what = "even calls instructions 1 flexsc-inline io_uring 1,8";
        let text = figures(what, &rows, "").unwrap();
        assert!(
            text.contains("| getppid | 2.50 | 0.50 | 8 | 0.75 |"),
            "{text}"
        );
        let what = "even calls instructions 1 io_uring plain 1,8";
        assert!(
            figures(what, &rows, "")
                .unwrap()
                .contains("| - | 0.75 | 8 | 1.00 |")
        );
    }

    /// The documents have the figures of `results/quick.csv`, and README those of getppid.
    #[test]
    fn documents_have_the_published_figures() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        let csv = root.join("results/quick.csv");
        let rows = read(&csv).unwrap();
        let rows: Vec<_> = rows.iter().collect();
        let meta = fs::read_to_string(csv.with_extension("meta")).unwrap();
        for document in ["docs/benchmarks.md", "docs/results.md"] {
            let text = fs::read_to_string(root.join(document)).unwrap();
            let again = filled(&text, &rows, &meta).unwrap();
            let stale = text
                .lines()
                .zip(again.lines())
                .find(|(old, new)| old != new);
            assert_eq!(
                stale, None,
                "{document}: run flexsc-bench fill results/quick.csv {document}"
            );
            assert_eq!(text.len(), again.len(), "{document}");
        }
        let readme = fs::read_to_string(root.join("README.md")).unwrap();
        let rows = of_cpus(&rows, "calls", "getppid", "instructions", "1");
        for batch in [1, 8, 64] {
            let ours = find(&rows, "flexsc-inline", batch).unwrap();
            let ratio = number(ours / find(&rows, "plain", batch).unwrap(), 2);
            assert!(
                readme.contains(&ratio),
                "README does not say {ratio} for a batch of {batch}"
            );
        }
    }

    #[test]
    fn thousands_are_separated() {
        assert_eq!(number(1_234_567.0, 0), "1,234,567");
        assert_eq!(number(-1234.5, 2), "-1,234.50");
        assert_eq!(number(999.0, 0), "999");
    }
}
