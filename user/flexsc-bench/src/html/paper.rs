// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the papers say about the same experiment.
//!
//! Only what a paper's text states is here. The papers print no tables of these figures, and a
//! reading of a curve would be a guess.

use maud::{Markup, html};

use super::figure::Figure;
use crate::markdown::number;

/// A statement about one batch.
#[derive(Clone, Copy, Debug)]
pub struct Reading {
    /// Calls at a time.
    pub batch: usize,
    /// The cost of a call divided by that of a plain one.
    pub ratio: f64,
    /// What the text says.
    says: &'static str,
}

/// A figure of a paper.
#[derive(Debug)]
struct Paper {
    name: &'static str,
    what: &'static str,
    readings: &'static [Reading],
}

/// FlexSC on one core.
const SAME_CORE: Paper = Paper {
    name: "FlexSC (OSDI 2010), section 5.1 and Fig. 9",
    what: "getppid on one core of an Intel Nehalem. A syscall thread executes the calls, so \
           flexsc-thread and flexsc-same are the same design. The paper has times; where \
           instructions are shown here, a mode switch counts as its few instructions only.",
    readings: &[
        Reading {
            batch: 1,
            ratio: 1.43,
            says: "43 % slower than a plain call",
        },
        Reading {
            batch: 2,
            ratio: 1.0,
            says: "no overhead with 2 or more (1.00 at most)",
        },
        Reading {
            batch: 32,
            ratio: 1.0 / 2.3,
            says: "up to 130 % faster with 32 or more (0.43 at best)",
        },
    ],
};

/// FlexSC on two cores.
const OTHER_CORE: Paper = Paper {
    name: "FlexSC (OSDI 2010), section 5.1 and Fig. 10",
    what: "getppid executed on a remote core of the same processor, which an interrupt wakes up. \
           A poller, as here, needs no interrupt while it is awake.",
    readings: &[
        Reading {
            batch: 1,
            ratio: 10.0,
            says: "more than 10 times as slow in the worst case (10 or more)",
        },
        Reading {
            batch: 32,
            ratio: 1.0,
            says: "the overhead is recouped with 32 or more (1.00 at most)",
        },
    ],
};

/// The paper's figures of the same experiment.
fn papers(figure: &Figure) -> &'static [Paper] {
    let has = |backend| figure.series(backend).is_some();
    match (&*figure.suite, &*figure.op) {
        ("calls", "getppid") if has("flexsc-poller") => &[SAME_CORE, OTHER_CORE],
        ("calls", "getppid") if figure.cpus == 1 => &[SAME_CORE],
        ("cores", "getppid") => &[SAME_CORE, OTHER_CORE],
        ("pipeline", "getppid") => &[OTHER_CORE],
        _ => &[],
    }
}

/// Returns what can be marked in the plot of a figure.
pub fn stated(figure: &Figure) -> impl Iterator<Item = Reading> {
    papers(figure)
        .iter()
        .flat_map(|paper| paper.readings.iter().copied())
}

/// Returns the papers' numbers with those of the figure beside them.
#[must_use]
pub fn beside(figure: &Figure) -> Markup {
    let papers = papers(figure);
    let ours: Vec<_> = figure
        .series
        .iter()
        .filter(|series| series.backend.starts_with("flexsc"))
        .collect();
    html! {
        @if papers.is_empty() {
            p.note { "The papers have no such figure." }
        }
        @for paper in papers {
            div.paper {
                p { strong { (paper.name) } ": " (paper.what) }
                table {
                    tr {
                        th { "batch" } th { "the paper's text" } th { "its ratio to plain" }
                        @for series in &ours { th { (series.backend) " here" } }
                    }
                    @for reading in paper.readings {
                        tr {
                            td { (reading.batch) }
                            td.text { (reading.says) }
                            td { (number(reading.ratio, 2)) }
                            @for series in &ours {
                                @let ratio = series.value(reading.batch).zip(figure.base(reading.batch));
                                td { @match ratio {
                                    Some((value, base)) => { (number(value / base, 2)) },
                                    None => { "-" },
                                } }
                            }
                        }
                    }
                }
            }
        }
    }
}
