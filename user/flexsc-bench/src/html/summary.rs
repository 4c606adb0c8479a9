// SPDX-License-Identifier: MIT OR Apache-2.0
//! The beginning of the report: gains, losses, and from which batch on a way pays.

use maud::{Markup, html};

use super::figure::{Figure, Series};
use super::origin::How;
use crate::markdown::number;

/// Explains the three kinds of figures.
#[must_use]
pub fn kinds() -> Markup {
    html! {
        p {
            "Each figure says how it was made. " strong { "Counted" } ": an exact number of events. "
            strong { "Timed" } ": read from a clock; under emulation only a hint. "
            strong { "Modelled" } ": calculated, and no measurement. Plots and tables have losses in \
            the same place and size as gains."
        }
    }
}

/// A way compared with the usual one.
struct Comparison<'a> {
    figure: &'a Figure<'a>,
    backend: &'a str,
    /// Batches, and ratios to the usual way.
    ratios: Vec<(usize, f64)>,
}

impl<'a> Comparison<'a> {
    fn of(figure: &'a Figure<'a>, series: &'a Series<'a>) -> Comparison<'a> {
        let ratio = |&batch: &usize| {
            let base = figure.base(batch).filter(|&base| base > 0.0)?;
            Some((batch, series.value(batch)? / base))
        };
        Comparison {
            figure,
            backend: &series.backend,
            ratios: figure.batches.iter().filter_map(ratio).collect(),
        }
    }

    fn best(&self) -> Option<(usize, f64)> {
        self.ratios
            .iter()
            .copied()
            .min_by(|a, b| a.1.total_cmp(&b.1))
    }

    fn worst(&self) -> Option<(usize, f64)> {
        self.ratios
            .iter()
            .copied()
            .max_by(|a, b| a.1.total_cmp(&b.1))
    }

    /// The batch from which on the way costs no more than the usual one.
    fn break_even(&self) -> Option<usize> {
        let pays = |(_, ratio): &&(usize, f64)| *ratio <= 1.0;
        self.ratios
            .iter()
            .rev()
            .take_while(pays)
            .last()
            .map(|&(batch, _)| batch)
    }

    fn name(&self) -> Markup {
        let Figure {
            suite,
            op,
            metric,
            cpus,
            source,
            ..
        } = self.figure;
        html! {
            td.text { (op) }
            td.text { (self.backend) " / " (self.figure.series[0].backend) }
            td.text { (metric) ", " (cpus) " CPU, " (source.how(suite, metric)) }
        }
    }
}

/// Returns all comparisons of ways that are FlexSC's.
fn comparisons<'a>(figures: &'a [Figure<'a>]) -> Vec<Comparison<'a>> {
    figures
        .iter()
        .filter(|figure| figure.is_comparison())
        .filter(|figure| matches!(&*figure.metric, "instructions" | "ns" | "cycles"))
        .flat_map(|figure| {
            let ours = figure
                .series
                .iter()
                .filter(|series| series.backend.starts_with("flexsc") || figure.suite == "absent");
            ours.filter(|series| series.backend != figure.series[0].backend)
                .map(|series| Comparison::of(figure, series))
        })
        .collect()
}

/// Returns gains and losses, and the break-even points.
#[must_use]
pub fn of(figures: &[Figure]) -> Markup {
    let all = comparisons(figures);
    let mut gains: Vec<_> = all
        .iter()
        .filter_map(|one| Some((one, one.best()?)))
        .collect();
    gains.retain(|(_, (_, ratio))| *ratio < 1.0);
    gains.sort_by(|a, b| a.1.1.total_cmp(&b.1.1));
    let mut losses: Vec<_> = all
        .iter()
        .filter_map(|one| Some((one, one.worst()?)))
        .collect();
    losses.retain(|(_, (_, ratio))| *ratio > 1.0);
    losses.sort_by(|a, b| b.1.1.total_cmp(&a.1.1));
    html! {
        h2 id="gains" { "Where FlexSC gains: " (gains.len()) " of " (all.len()) " comparisons" }
        p { "The best batch of each, compared with what the same work costs the usual way." }
        (extremes(&gains, "win"))
        h2 id="losses" { "Where FlexSC loses: " (losses.len()) " of " (all.len()) " comparisons" }
        p { "The worst batch of each. Most are batches of one or two; some never gain." }
        (extremes(&losses, "loss"))
        h2 id="break-even" { "Break-even, latency, throughput" }
        p {
            "From the batch in the fourth column on, a call costs no more than a plain one. Latency is \
            until all results of a batch are there; one batch is in flight."
        }
        (break_even(&all))
    }
}

fn extremes(rows: &[(&Comparison, (usize, f64))], class: &str) -> Markup {
    html! {
        table {
            tr { th { "operation" } th { "way" } th { "metric" } th { "batch" } th { "ratio" } }
            @for (one, (batch, ratio)) in rows {
                tr {
                    (one.name())
                    td { (batch) }
                    td class=(class) { (number(*ratio, if (ratio - 1.0).abs() < 0.02 { 4 } else { 2 })) }
                }
            }
        }
    }
}

fn break_even(all: &[Comparison]) -> Markup {
    let suites = ["calls", "cores", "pipeline"];
    let rows = all
        .iter()
        .filter(|one| suites.contains(&&*one.figure.suite));
    html! {
        table {
            tr {
                th { "operation" } th { "way" } th { "metric" } th { "breaks even at" }
                th { "latency, batch of 1" } th { "latency, largest batch" }
                th { "calls in a second, best batch" } th { "plain" }
            }
            @for one in rows {
                @let timed = one.figure.source.how(&one.figure.suite, &one.figure.metric) == How::Timed;
                @let series = one.figure.series(one.backend);
                @let value = |batch: usize| series.and_then(|series| series.value(batch));
                @let batches = [one.ratios.first(), one.ratios.last()];
                tr {
                    (one.name())
                    td.win[one.break_even().is_some()].loss[one.break_even().is_none()] {
                        @match one.break_even() { Some(batch) => { (batch) }, None => { "not up to " (one.ratios.last().map_or(0, |&(batch, _)| batch)) } }
                    }
                    @for ends in batches {
                        td { @if let Some((batch, value)) = ends.and_then(|&(batch, _)| Some((batch, value(batch)?))) {
                            (number(value * batch as f64, 0)) " " (one.figure.metric) " (" (batch) ")"
                        } @else { "-" } }
                    }
                    @if timed {
                        @let least = one.ratios.iter().filter_map(|&(batch, _)| value(batch)).min_by(f64::total_cmp);
                        @let plain = one.ratios.iter().filter_map(|&(batch, _)| one.figure.base(batch)).min_by(f64::total_cmp);
                        @for ns in [least, plain] {
                            td { @match ns { Some(ns) => { (number(1e9 / ns, 0)) }, None => { "-" } } }
                        }
                    } @else { td { "-" } td { "-" } }
                }
            }
        }
    }
}
