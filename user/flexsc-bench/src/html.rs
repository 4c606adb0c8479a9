// SPDX-License-Identifier: MIT OR Apache-2.0
//! A report of all figures of some CSV files: one file of HTML that opens without a network.

mod figure;
mod origin;
mod paper;
mod plot;
mod section;
mod summary;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use maud::{DOCTYPE, Markup, PreEscaped, html};

use figure::{Figure, figures};
use origin::Source;

const STYLE: &str = include_str!("html/style.css");

/// Writes the report of these CSV files and of the meta files beside them.
///
/// # Errors
///
/// A file cannot be read or written.
pub fn write(files: &[PathBuf], out: &Path) -> io::Result<()> {
    let sources: Vec<_> = files
        .iter()
        .map(|file| Source::read(file))
        .collect::<io::Result<_>>()?;
    let page = page(&sources)?.into_string();
    fs::write(out, page).map_err(|why| io::Error::other(format!("{}: {why}", out.display())))
}

fn page(sources: &[Source]) -> io::Result<Markup> {
    let figures = figures(sources);
    let plots: Vec<_> = figures.iter().map(plot::svg).collect::<io::Result<_>>()?;
    let suites = suites(&figures);
    Ok(html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width";
                title { "FlexSC for Linux: figures" }
                style { (PreEscaped(STYLE)) }
            }
            body {
                h1 { "FlexSC for Linux: what would I gain?" }
                (summary::kinds())
                @for source in sources { (source.table()) }
                nav {
                    @for suite in &suites { a href=(format!("#{suite}")) { (suite) } " " }
                }
                (summary::of(&figures))
                @for suite in &suites {
                    h2 id=(suite) { (suite) }
                    @if let Some(about) = section::about(suite) { p { (about) } }
                    @for (figure, plot) in figures.iter().zip(&plots) {
                        @if figure.suite == *suite { (section::of(figure, plot)) }
                    }
                }
            }
        }
    })
}

/// Returns the suites in the order of their figures.
fn suites(figures: &[Figure]) -> Vec<String> {
    let mut suites: Vec<String> = Vec::new();
    for figure in figures {
        if !suites.contains(&figure.suite) {
            suites.push(figure.suite.clone());
        }
    }
    suites
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report;

    fn published() -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../../results/quick.csv")
    }

    fn report_of(file: &Path) -> String {
        page(&[Source::read(file).unwrap()]).unwrap().into_string()
    }

    #[test]
    fn the_report_needs_no_network() {
        let text = report_of(&published());
        for outside in [
            "://", "src=", "url(", "@import", "<script", "<link", "<iframe", "<image",
        ] {
            assert!(!text.contains(outside), "the report has {outside}");
        }
        let links = text.split("href=\"").skip(1);
        assert!(links.clone().count() > 3);
        for target in links {
            let target = target.split('"').next().unwrap();
            let name = target.strip_prefix('#').expect("a link within the report");
            assert!(text.contains(&format!("id=\"{name}\"")), "{target}");
        }
    }

    #[test]
    fn every_figure_of_the_csv_appears_once() {
        let text = report_of(&published());
        let rows = report::read(&published()).unwrap();
        for row in &rows {
            let mark = format!("data-figure=\"{}\"", row.key());
            let cells: Vec<_> = text.match_indices(&mark).collect();
            assert_eq!(cells.len(), 1, "{row}");
            let cell = &text[cells[0].0 + mark.len()..];
            let shown = cell.trim_start_matches('>').split('<').next().unwrap();
            let shown: f64 = shown.replace(',', "").parse().unwrap();
            assert_eq!(shown, row.value, "{row}");
        }
        assert_eq!(text.matches("data-figure=").count(), rows.len());
        // Each figure with a plot, and with its origin.
        let figures = text.matches("<figure").count();
        assert!(figures > 30);
        assert_eq!(text.matches("<svg").count(), figures);
        assert_eq!(text.matches("class=\"origin\"").count(), figures);
    }

    #[test]
    fn quartiles_are_shown_at_their_median() {
        let dir = std::env::temp_dir().join(format!("flexsc-bench-html.{}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        let file = dir.join("one.csv");
        let header = report::HEADER.join(",");
        let line = |metric, value| format!("calls,<b>,plain,2,8,{metric},{value},per call\n");
        let rows = [
            line("ns", "20.50"),
            line("ns.q1", "19.25"),
            line("ns.q3", "22.75"),
        ]
        .concat();
        fs::write(&file, format!("{header}\n{rows}")).unwrap();
        let text = report_of(&file);
        let out = dir.join("report.html");
        write(&[file], &out).unwrap();
        assert_eq!(fs::read_to_string(out).unwrap(), text);
        fs::remove_dir_all(dir).unwrap();
        for value in ["20.50", "19.25", "22.75"] {
            assert_eq!(text.matches(&format!(">{value}<")).count(), 1);
        }
        assert_eq!(text.matches("<figure").count(), 1);
        // What a CSV contains is text.
        assert!(text.contains("&lt;b&gt;") && !text.contains("<b>"));
    }
}
