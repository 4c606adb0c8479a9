// SPDX-License-Identifier: MIT OR Apache-2.0
//! The part of the report about one figure: plot, origin, papers, and a table of all values.

use maud::{Markup, PreEscaped, html};

use super::figure::{Figure, Point};
use super::paper;
use crate::markdown::number;
use crate::suite::SUITES;

/// Returns what a suite measures.
#[must_use]
pub fn about(suite: &str) -> Option<&'static str> {
    let known = SUITES.iter().find(|known| known.name == suite);
    known.map(|known| known.about)
}

/// Renders a figure with its plot.
#[must_use]
pub fn of(figure: &Figure, plot: &str) -> Markup {
    let Figure {
        suite,
        metric,
        cpus,
        source,
        ..
    } = figure;
    html! {
        figure {
            h3 { (figure.title()) }
            (PreEscaped(plot))
            p.origin {
                span.kind { (source.how(suite, metric)) } ". " (source.made_by(suite, metric)) " "
                (spread(figure)) " From " (source.name) ": "
                code { (source.command(suite, metric, *cpus)) }
            }
            (paper::beside(figure))
            (table(figure))
        }
    }
}

fn spread(figure: &Figure) -> &'static str {
    let mut points = figure.series.iter().flat_map(|series| &series.points);
    if points.any(|point| point.quartiles.iter().any(Option::is_some)) {
        "Medians; half of the samples are between the two small numbers."
    } else if figure.source.meta("two runs on one CPU").is_some() && figure.metric == "instructions"
    {
        "Medians; a count has no spread: see \"two runs on one CPU\" above."
    } else {
        "Medians; this file has no spread for them."
    }
}

fn table(figure: &Figure) -> Markup {
    html! {
        table {
            tr {
                th { "batch" }
                @for series in &figure.series { th { (series.backend) } }
            }
            @for &batch in &figure.batches {
                tr {
                    td { (batch) }
                    @for (column, series) in figure.series.iter().enumerate() {
                        @let points = series.points.iter().filter(|point| point.row.batch == batch);
                        (cell(figure, points.collect(), column))
                    }
                }
            }
        }
        @if figure.is_comparison() {
            p.note {
                "In brackets: the ratio to " (figure.series[0].backend) ". "
                span.win { "Less" } " is a gain, " span.loss { "more" } " a loss."
            }
        }
    }
}

/// A cell with all points of one backend and batch, and the ratio of the first to the base.
fn cell(figure: &Figure, points: Vec<&Point>, column: usize) -> Markup {
    let ratio = points.first().and_then(|point| {
        let base = figure.base(point.row.batch).filter(|&base| base > 0.0)?;
        (figure.is_comparison() && column > 0).then_some(point.row.value / base)
    });
    html! {
        td.win[ratio.is_some_and(|ratio| ratio < 0.995)].loss[ratio.is_some_and(|ratio| ratio > 1.005)] {
            @if points.is_empty() { "-" }
            @for point in points {
                (value(point.row))
                @if let Some(ratio) = ratio { " (" (number(ratio, 2)) ")" }
                @if point.quartiles.iter().any(Option::is_some) {
                    span.spread {
                        @for (place, quartile) in point.quartiles.iter().flatten().enumerate() {
                            @if place > 0 { " to " }
                            (value(quartile))
                        }
                    }
                }
            }
        }
    }
}

/// A value that names its row.
fn value(row: &crate::report::Row) -> Markup {
    html! { span data-figure=(row.key()) { (number(row.value, 2)) } }
}
