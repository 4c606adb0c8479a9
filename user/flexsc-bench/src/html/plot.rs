// SPDX-License-Identifier: MIT OR Apache-2.0
//! A figure as a plot, in SVG that is part of a page.

use std::io;

use plotters::coord::Shift;
use plotters::coord::ranged1d::ValueFormatter;
use plotters::prelude::*;

use super::figure::{Figure, Series};
use super::paper;
use crate::markdown::number;

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;
type Failed = Box<dyn std::error::Error>;

const SIZE: (u32, u32) = (900, 420);

/// A logarithmic axis is used if the largest value is this many times the smallest.
const WIDE: f64 = 12.0;

/// A backend has the same colour in all plots.
const COLOURS: [(&str, RGBColor); 9] = [
    ("plain", RGBColor(0, 0, 0)),
    ("threads", RGBColor(0, 0, 0)),
    ("flexsc-inline", RGBColor(0, 90, 200)),
    ("flexsc-thread", RGBColor(60, 170, 230)),
    ("flexsc-poller", RGBColor(0, 150, 110)),
    ("flexsc-chain", RGBColor(0, 150, 110)),
    ("io_uring", RGBColor(230, 150, 0)),
    ("io_uring-defer", RGBColor(210, 70, 20)),
    ("io_uring-sqpoll", RGBColor(150, 60, 160)),
];

/// The colours of others.
const OTHERS: [RGBColor; 6] = [
    RGBColor(90, 90, 90),
    RGBColor(0, 90, 200),
    RGBColor(0, 150, 110),
    RGBColor(210, 70, 20),
    RGBColor(150, 60, 160),
    RGBColor(170, 130, 0),
];

const PAPER: RGBColor = RGBColor(190, 0, 90);

fn colour(backend: &str, place: usize) -> RGBColor {
    let own = COLOURS.iter().find(|(name, _)| *name == backend);
    own.map_or(OTHERS[place % OTHERS.len()], |&(_, colour)| colour)
}

/// Draws a figure.
///
/// # Errors
///
/// The plot cannot be drawn.
pub fn svg(figure: &Figure) -> io::Result<String> {
    let mut text = String::new();
    let drawn = if figure.batches.len() > 1 {
        lines(
            figure,
            &SVGBackend::with_string(&mut text, SIZE).into_drawing_area(),
        )
    } else {
        let size = (SIZE.0, 60 + 30 * figure.series.len() as u32);
        bars(
            figure,
            &SVGBackend::with_string(&mut text, size).into_drawing_area(),
        )
    };
    drawn.map_err(|why| io::Error::other(format!("{}: {why}", figure.title())))?;
    Ok(embedded(&text))
}

/// Leaves out what only a file of its own needs.
fn embedded(svg: &str) -> String {
    let from = svg.find("<svg").unwrap_or(0);
    svg[from..].replacen(" xmlns=\"http://www.w3.org/2000/svg\"", "", 1)
}

/// Returns what the papers state, as batches and values: their ratio times the plain call here.
fn stated<'a>(figure: &'a Figure) -> impl Iterator<Item = (f64, f64)> + 'a {
    paper::stated(figure).filter_map(|reading| {
        let base = figure.base(reading.batch)?;
        Some((reading.batch as f64, reading.ratio * base))
    })
}

/// Returns the least and the greatest value, with the quartiles and the papers' numbers.
fn range(figure: &Figure) -> (f64, f64) {
    let points = figure.series.iter().flat_map(|series| &series.points);
    let values = points.flat_map(|point| {
        let quartiles = point.quartiles.into_iter().flatten();
        quartiles.chain([point.row]).map(|row| row.value)
    });
    let values = values.chain(stated(figure).map(|(_, value)| value));
    values.fold(
        (f64::INFINITY, f64::NEG_INFINITY),
        |(least, most), value| (least.min(value), most.max(value)),
    )
}

/// Plots values by batch, the batch on a logarithmic axis.
fn lines(figure: &Figure, area: &Area) -> Result<(), Failed> {
    area.fill(&WHITE)?;
    let (least, most) = range(figure);
    let last = figure.batches.last().copied().unwrap_or(1) as f64;
    let first = figure.batches.first().copied().unwrap_or(1).max(1) as f64;
    // The legend is to the right of the lines.
    let x = (first * 0.9..last * (last / first).powf(0.45))
        .log_scale()
        .base(2.0);
    let mut builder = ChartBuilder::on(area);
    builder
        .margin(10)
        .x_label_area_size(40)
        .y_label_area_size(75);
    if least > 0.0 && most / least > WIDE {
        let y = (least * 0.8..most * 1.25).log_scale().base(2.0);
        draw(figure, builder.build_cartesian_2d(x, y)?)
    } else {
        let low = least.min(0.0);
        let high = if most > low { most * 1.1 } else { low + 1.0 };
        draw(figure, builder.build_cartesian_2d(x, low..high)?)
    }
}

type Chart<'a, 'b, X, Y> = ChartContext<'a, SVGBackend<'b>, Cartesian2d<X, Y>>;

fn draw<'a, 'b: 'a, X, Y>(figure: &Figure, mut chart: Chart<'a, 'b, X, Y>) -> Result<(), Failed>
where
    X: Ranged<ValueType = f64> + ValueFormatter<f64> + 'a,
    Y: Ranged<ValueType = f64> + ValueFormatter<f64> + 'a,
{
    let last = figure.batches.last().map_or(0.0, |&batch| batch as f64);
    chart
        .configure_mesh()
        .max_light_lines(0)
        .x_desc("batch")
        .y_desc(format!("{} {}", figure.metric, figure.unit))
        .x_label_formatter(&|batch| {
            if *batch > last {
                String::new()
            } else {
                format!("{batch:.0}")
            }
        })
        .y_label_formatter(&|value| number(*value, if value.abs() < 10.0 { 1 } else { 0 }))
        .draw()?;
    for (place, series) in figure.series.iter().enumerate() {
        line(&mut chart, series, colour(&series.backend, place))?;
    }
    let stated: Vec<_> = stated(figure).collect();
    if !stated.is_empty() {
        let crosses = stated
            .iter()
            .map(|&at| Cross::new(at, 7, PAPER.stroke_width(3)));
        chart
            .draw_series(crosses)?
            .label("paper: its ratio times plain here")
            .legend(|(x, y)| Cross::new((x + 9, y), 5, PAPER.stroke_width(3)));
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::UpperRight)
        .background_style(WHITE.mix(0.8))
        .border_style(RGBColor(180, 180, 180))
        .draw()?;
    Ok(())
}

/// Draws the medians as a line and the quartiles as bars.
fn line<X, Y>(chart: &mut Chart<X, Y>, series: &Series, colour: RGBColor) -> Result<(), Failed>
where
    X: Ranged<ValueType = f64>,
    Y: Ranged<ValueType = f64>,
{
    let mut points: Vec<_> = series.points.iter().collect();
    points.sort_by_key(|point| point.row.batch);
    let at = |row: &crate::report::Row| (row.batch as f64, row.value);
    let medians: Vec<_> = points.iter().map(|point| at(point.row)).collect();
    chart
        .draw_series([PathElement::new(medians.clone(), colour.stroke_width(2))])?
        .label(&series.backend)
        .legend(move |(x, y)| PathElement::new([(x, y), (x + 18, y)], colour.stroke_width(2)));
    let dots = medians
        .into_iter()
        .map(|at| Circle::new(at, 3, colour.filled()));
    chart.draw_series(dots)?;
    let bars = points.iter().filter_map(|point| match point.quartiles {
        [Some(low), Some(high)] => Some(PathElement::new(
            [at(low), at(high)],
            colour.mix(0.5).stroke_width(5),
        )),
        _ => None,
    });
    chart.draw_series(bars)?;
    Ok(())
}

/// Plots the values of a single batch as bars.
fn bars(figure: &Figure, area: &Area) -> Result<(), Failed> {
    area.fill(&WHITE)?;
    let (least, most) = range(figure);
    let (low, high) = (least.min(0.0), most.max(0.0));
    let wide = if high > low { (high - low) * 1.4 } else { 1.0 };
    let count = figure.series.len() as f64;
    let mut chart = ChartBuilder::on(area)
        .margin(10)
        .x_label_area_size(30)
        .build_cartesian_2d(low..low + wide, 0.0..count)?;
    chart
        .configure_mesh()
        .disable_y_mesh()
        .disable_y_axis()
        .max_light_lines(0)
        .x_label_formatter(&|value| number(*value, if value.abs() < 10.0 { 1 } else { 0 }))
        .draw()?;
    for (place, series) in figure.series.iter().enumerate() {
        let top = count - place as f64;
        let colour = colour(&series.backend, place);
        let values = series.points.iter().map(|point| point.row.value);
        let bar = |value| {
            Rectangle::new(
                [(0.0, top - 0.15), (value, top - 0.85)],
                colour.mix(0.6).filled(),
            )
        };
        chart.draw_series(values.clone().map(bar))?;
        let label = |value: f64| {
            let text = format!(" {} {}", series.backend, number(value, 2));
            Text::new(text, (value.max(0.0), top - 0.3), ("sans-serif", 15))
        };
        chart.draw_series(values.map(label))?;
    }
    Ok(())
}
