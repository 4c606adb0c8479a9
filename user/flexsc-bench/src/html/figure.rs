// SPDX-License-Identifier: MIT OR Apache-2.0
//! The rows of a CSV file grouped into figures: one for each suite, operation, metric and number
//! of processors.

use super::origin::Source;
use crate::report::{HIGH, LOW, Row};

/// One figure.
#[derive(Debug)]
pub struct Figure<'a> {
    /// The suite.
    pub suite: String,
    /// The operation.
    pub op: String,
    /// The metric.
    pub metric: String,
    /// The unit of its values.
    pub unit: String,
    /// Processors of the machine.
    pub cpus: usize,
    /// The batches in ascending order.
    pub batches: Vec<usize>,
    /// One for each backend; the first is what the others are compared with.
    pub series: Vec<Series<'a>>,
    /// The file.
    pub source: &'a Source,
}

/// The points of one backend.
#[derive(Debug)]
pub struct Series<'a> {
    /// The backend.
    pub backend: String,
    /// Its points, in the order of the file.
    pub points: Vec<Point<'a>>,
}

/// A median and its quartiles.
#[derive(Debug)]
pub struct Point<'a> {
    /// The row of the median.
    pub row: &'a Row,
    /// The rows of the first and third quartile.
    pub quartiles: [Option<&'a Row>; 2],
}

impl<'a> Figure<'a> {
    /// Returns the series of a backend.
    #[must_use]
    pub fn series(&self, backend: &str) -> Option<&Series<'a>> {
        self.series.iter().find(|series| series.backend == backend)
    }

    /// Returns the value of the series that others are compared with.
    #[must_use]
    pub fn base(&self, batch: usize) -> Option<f64> {
        self.series.first()?.value(batch)
    }

    /// Returns true if the figure compares ways to do the same, the first of which is the usual
    /// one. Less is better.
    #[must_use]
    pub fn is_comparison(&self) -> bool {
        let first = self.series.first().map(|series| series.backend.as_str());
        self.series.len() > 1 && matches!(first, Some("plain" | "threads" | "nopatch"))
    }

    /// The title.
    #[must_use]
    pub fn title(&self) -> String {
        let Figure {
            op,
            metric,
            unit,
            cpus,
            ..
        } = self;
        format!("{op}: {metric} {unit}, {cpus} CPU")
    }

    fn is_of(&self, row: &Row, metric: &str) -> bool {
        self.suite == row.suite
            && self.op == row.op
            && self.metric == metric
            && self.unit == row.unit
            && self.cpus == row.cpus
    }
}

impl Series<'_> {
    /// Returns the value of a batch.
    #[must_use]
    pub fn value(&self, batch: usize) -> Option<f64> {
        self.point(batch).map(|point| point.row.value)
    }

    /// Returns the point of a batch.
    #[must_use]
    pub fn point(&self, batch: usize) -> Option<&Point<'_>> {
        self.points.iter().find(|point| point.row.batch == batch)
    }
}

/// Groups the rows of all files. Figures of the same file and suite are adjacent.
#[must_use]
pub fn figures(sources: &[Source]) -> Vec<Figure<'_>> {
    let mut all = Vec::new();
    for source in sources {
        let mut figures: Vec<Figure> = Vec::new();
        let (quartiles, medians): (Vec<_>, Vec<_>) =
            source.rows.iter().partition(|row| row.is_quartile());
        for row in medians {
            add(&mut figures, row, source);
        }
        for row in quartiles {
            add_quartile(&mut figures, row, source);
        }
        for figure in &mut figures {
            figure.batches.sort_unstable();
        }
        all.extend(figures);
    }
    all
}

fn add<'a>(figures: &mut Vec<Figure<'a>>, row: &'a Row, source: &'a Source) {
    let known = figures
        .iter()
        .position(|figure| figure.is_of(row, &row.metric));
    let figure = match known {
        Some(place) => &mut figures[place],
        None => {
            figures.push(Figure {
                suite: row.suite.clone(),
                op: row.op.clone(),
                metric: row.metric.clone(),
                unit: row.unit.clone(),
                cpus: row.cpus,
                batches: Vec::new(),
                series: Vec::new(),
                source,
            });
            figures.last_mut().expect("it was pushed above")
        }
    };
    if !figure.batches.contains(&row.batch) {
        figure.batches.push(row.batch);
    }
    let point = Point {
        row,
        quartiles: [None, None],
    };
    match figure
        .series
        .iter_mut()
        .find(|series| series.backend == row.backend)
    {
        Some(series) => series.points.push(point),
        None => figure.series.push(Series {
            backend: row.backend.clone(),
            points: vec![point],
        }),
    }
}

/// Adds a quartile to its median. One without a median is a figure of its own, so that it is not
/// lost.
fn add_quartile<'a>(figures: &mut Vec<Figure<'a>>, row: &'a Row, source: &'a Source) {
    let (metric, place) = match row.metric.strip_suffix(LOW) {
        Some(metric) => (metric, 0),
        None => (row.metric.strip_suffix(HIGH).unwrap_or(&row.metric), 1),
    };
    let point = figures
        .iter_mut()
        .filter(|figure| figure.is_of(row, metric))
        .flat_map(|figure| &mut figure.series)
        .filter(|series| series.backend == row.backend)
        .flat_map(|series| &mut series.points)
        .find(|point| point.row.batch == row.batch && point.quartiles[place].is_none());
    match point {
        Some(point) => point.quartiles[place] = Some(row),
        None => add(figures, row, source),
    }
}
