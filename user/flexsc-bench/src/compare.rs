// SPDX-License-Identifier: MIT OR Apache-2.0
//! Compares the figures of two revisions, each measured several times in turn.
//!
//! A count is exact, so any difference is real, and one that gets worse by more than a limit is a
//! regression. A time is not: its ratio has a confidence interval, and only an interval that
//! excludes 1 says something.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::path::Path;

use crate::clock::median;
use crate::report::{self, Row};

/// The confidence that an interval needs to say something. It takes six rounds.
const CONFIDENCE: f64 = 0.95;

/// A figure of both revisions.
#[derive(Clone, Debug, PartialEq)]
pub struct Comparison {
    /// The first row of the figure.
    of: Row,
    /// Medians of the first and of the second revision.
    medians: [f64; 2],
    /// The median of the ratios of each round, second to first.
    ratio: f64,
    /// The interval of the ratio, and the probability that it contains the true one. `None` with
    /// only one round.
    interval: Option<Interval>,
}

/// An interval from order statistics.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Interval {
    low: f64,
    high: f64,
    confidence: f64,
}

/// What a comparison shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// A count that got worse by more than the limit.
    Regression,
    /// More than before, beyond doubt.
    Worse,
    /// Less than before, beyond doubt.
    Better,
    /// The same, or not to be told apart from the same.
    Same,
}

impl Comparison {
    fn of(ours: &[&Row], theirs: &[&Row]) -> Comparison {
        let values = |rows: &[&Row]| rows.iter().map(|row| row.value).collect::<Vec<_>>();
        let (mut first, mut second) = (values(ours), values(theirs));
        let rounds = first.iter().zip(&second);
        let mut ratios: Vec<_> = rounds.map(|(&a, &b)| ratio(a, b)).collect();
        let interval = Interval::of(&mut ratios);
        Comparison {
            of: ours[0].clone(),
            medians: [median(&mut first), median(&mut second)],
            ratio: median(&mut ratios),
            interval,
        }
    }

    /// Judges the ratio. `limit` is how much a count may grow, as a share of 1.
    #[must_use]
    pub fn verdict(&self, limit: f64) -> Verdict {
        if is_exact(&self.of) {
            return match self.ratio {
                ratio if ratio > 1.0 + limit => Verdict::Regression,
                ratio if ratio > 1.0 => Verdict::Worse,
                ratio if ratio < 1.0 => Verdict::Better,
                _ => Verdict::Same,
            };
        }
        let sure = |interval: &Interval| interval.confidence >= CONFIDENCE;
        match self.interval.filter(sure) {
            Some(Interval { low, .. }) if low > 1.0 => Verdict::Worse,
            Some(Interval { high, .. }) if high < 1.0 => Verdict::Better,
            _ => Verdict::Same,
        }
    }
}

/// Returns true if a figure is an exact count, which needs no confidence.
fn is_exact(row: &Row) -> bool {
    row.metric == "instructions" && row.cpus == 1
}

fn ratio(first: f64, second: f64) -> f64 {
    if first == second { 1.0 } else { second / first }
}

impl Interval {
    /// The interval between two of the sorted samples, for their median (David and Nagaraja,
    /// Order Statistics, 7.1). No distribution is assumed: of n samples, the number below the
    /// true median is binomial.
    fn of(samples: &mut [f64]) -> Option<Interval> {
        samples.sort_by(f64::total_cmp);
        let count = samples.len();
        let wide = |cut: usize| 1.0 - 2.0 * at_most(count, cut);
        // The narrowest that is sure enough, or the widest.
        let cut = (0..count / 2).rev().find(|&cut| wide(cut) >= CONFIDENCE);
        let cut = cut.unwrap_or(0);
        (count > 1).then(|| Interval {
            low: samples[cut],
            high: samples[count - 1 - cut],
            confidence: wide(cut),
        })
    }
}

/// The probability that at most `most` of `count` coins show heads.
fn at_most(count: usize, most: usize) -> f64 {
    let mut term = 0.5_f64.powi(count as i32);
    let mut sum = term;
    for heads in 1..=most {
        term *= (count + 1 - heads) as f64 / heads as f64;
        sum += term;
    }
    sum
}

/// The comparison of two files.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Changes {
    figures: Vec<Comparison>,
    /// Figures that only the first file has.
    gone: Vec<Row>,
    /// Figures that only the second file has.
    new: usize,
}

/// Compares the rows of two files. A figure may be there several times: once for each round.
#[must_use]
pub fn compare(first: &[Row], second: &[Row]) -> Changes {
    let (ours, theirs) = (by_key(first), by_key(second));
    let mut changes = Changes {
        new: theirs.keys().filter(|key| !ours.contains_key(*key)).count(),
        ..Changes::default()
    };
    for (key, rows) in &ours {
        match theirs.get(key) {
            Some(others) => changes.figures.push(Comparison::of(rows, others)),
            None => changes.gone.push(rows[0].clone()),
        }
    }
    changes
}

/// The rows of each figure, without quartiles.
fn by_key(rows: &[Row]) -> BTreeMap<String, Vec<&Row>> {
    let mut all: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for row in rows.iter().filter(|row| !row.is_quartile()) {
        all.entry(row.key()).or_default().push(row);
    }
    all
}

impl Changes {
    /// Returns an error if a count got worse by more than `limit`, or is gone.
    fn judge(&self, limit: f64) -> io::Result<()> {
        let worse = |one: &&Comparison| one.verdict(limit) == Verdict::Regression;
        let worse = self.figures.iter().filter(worse).count();
        let gone = self.gone.iter().filter(|row| is_exact(row)).count();
        if (worse, gone) == (0, 0) {
            return Ok(());
        }
        Err(io::Error::other(format!(
            "{worse} counts got worse by more than {:.1} %, {gone} are gone",
            limit * 100.0
        )))
    }

    /// The figures that changed, the worst first, and the sum of all.
    fn text(&self, limit: f64) -> String {
        let mut changed: Vec<_> = self.figures.iter().collect();
        changed.retain(|one| one.verdict(limit) != Verdict::Same);
        changed.sort_by(|a, b| b.ratio.total_cmp(&a.ratio));
        let mut text = String::new();
        for one in &changed {
            text += &format!("{one}  {}\n", one.verdict(limit));
        }
        for row in &self.gone {
            text += &format!("{:<62} gone\n", name(row));
        }
        let count = |verdict| {
            let all = self.figures.iter().map(|one| one.verdict(limit));
            all.filter(|&one| one == verdict).count()
        };
        text + &format!(
            "{} figures: {} the same, {} better, {} worse, {} of them by too much; {} gone, {} new\n",
            self.figures.len(),
            count(Verdict::Same),
            count(Verdict::Better),
            count(Verdict::Worse) + count(Verdict::Regression),
            count(Verdict::Regression),
            self.gone.len(),
            self.new
        )
    }
}

fn name(row: &Row) -> String {
    let Row {
        suite,
        op,
        backend,
        cpus,
        batch,
        metric,
        ..
    } = row;
    format!("{suite} {op} {backend}, batch {batch}, {metric}, {cpus} CPU")
}

impl fmt::Display for Comparison {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [first, second] = self.medians;
        write!(
            f,
            "{:<62} {first:>10.1} {second:>10.1} {:>7.3}",
            name(&self.of),
            self.ratio
        )?;
        match self.interval {
            _ if is_exact(&self.of) => write!(f, "  exact                 "),
            Some(Interval {
                low,
                high,
                confidence,
            }) => write!(f, "  {low:.3} to {high:.3} ({:.0} %)", confidence * 100.0),
            None => write!(f, "  one round: no confidence"),
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Verdict::Regression => "WORSE",
            Verdict::Worse => "worse",
            Verdict::Better => "better",
            Verdict::Same => "the same",
        })
    }
}

/// Prints the figures that changed from one file to the other.
///
/// # Errors
///
/// A file cannot be read; a count got worse by more than `percent`, or is gone.
pub fn show(first: &Path, second: &Path, percent: f64) -> io::Result<()> {
    let changes = compare(&report::read(first)?, &report::read(second)?);
    let limit = percent / 100.0;
    print!("{}", changes.text(limit));
    changes.judge(limit)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(metric: &str, cpus: usize, values: &[f64]) -> Vec<Row> {
        let line = |value| format!("calls,getppid,plain,{cpus},8,{metric},{value},per call");
        values
            .iter()
            .map(|value| Row::parse(&line(value)).unwrap())
            .collect()
    }

    fn counts(first: f64, second: f64) -> Changes {
        compare(
            &rows("instructions", 1, &[first]),
            &rows("instructions", 1, &[second]),
        )
    }

    fn times(first: &[f64], second: &[f64]) -> Comparison {
        let result = compare(&rows("ns", 2, first), &rows("ns", 2, second));
        result.figures[0].clone()
    }

    #[test]
    fn counts_may_grow_by_a_hundredth() {
        let verdict = |second| counts(1000.0, second).figures[0].verdict(0.01);
        assert_eq!(verdict(1000.0), Verdict::Same);
        assert_eq!(verdict(999.0), Verdict::Better);
        assert_eq!(verdict(1010.0), Verdict::Worse);
        assert_eq!(verdict(1011.0), Verdict::Regression);
        assert!(counts(1000.0, 1010.0).judge(0.01).is_ok());
        let why = counts(1000.0, 1011.0).judge(0.01).unwrap_err();
        assert!(
            why.to_string()
                .starts_with("1 counts got worse by more than 1.0 %")
        );
    }

    #[test]
    fn a_count_that_is_gone_is_an_error_and_a_new_one_is_not() {
        let some = rows("instructions", 1, &[7.0]);
        assert!(compare(&some, &[]).judge(0.01).is_err());
        assert!(compare(&some, &[]).text(0.01).contains("gone"));
        let result = compare(&[], &some);
        assert!(result.judge(0.01).is_ok());
        assert_eq!(result.new, 1);
        // Times come and go with the number of processors.
        assert!(compare(&rows("ns", 2, &[7.0]), &[]).judge(0.01).is_ok());
    }

    #[test]
    fn times_never_fail_and_need_several_rounds() {
        let one = times(&[100.0], &[300.0]);
        assert_eq!((one.verdict(0.01), one.interval), (Verdict::Same, None));
        // Five are sure to 94 % only.
        assert_eq!(times(&[100.0; 5], &[300.0; 5]).verdict(0.01), Verdict::Same);
        let result = compare(&rows("ns", 2, &[100.0; 6]), &rows("ns", 2, &[300.0; 6]));
        assert_eq!(result.figures[0].verdict(0.01), Verdict::Worse);
        assert!(result.judge(0.01).is_ok());
    }

    #[test]
    fn only_an_interval_without_1_says_something() {
        // The rounds are compared one by one: what slows down both sides does not count.
        let both = times(
            &[100.0, 200.0, 400.0, 100.0, 100.0, 100.0],
            &[90.0, 180.0, 360.0, 90.0, 90.0, 90.0],
        );
        assert!((both.ratio - 0.9).abs() < 1e-9);
        assert_eq!(both.verdict(0.01), Verdict::Better);
        let mixed = times(&[100.0; 6], &[80.0, 80.0, 80.0, 80.0, 80.0, 101.0]);
        assert_eq!(mixed.verdict(0.01), Verdict::Same);
        assert!(mixed.ratio < 1.0);
    }

    #[test]
    fn intervals_are_as_sure_as_they_say() {
        let of = |count: usize| {
            let mut samples: Vec<_> = (1..=count).rev().map(|sample| sample as f64).collect();
            Interval::of(&mut samples)
        };
        assert_eq!(of(1), None);
        let five = of(5).unwrap();
        assert_eq!((five.low, five.high, five.confidence), (1.0, 5.0, 0.9375));
        let six = of(6).unwrap();
        assert_eq!((six.low, six.high, six.confidence), (1.0, 6.0, 0.96875));
        // The second to the seventh of eight would be sure to 93 % only.
        let eight = of(8).unwrap();
        assert_eq!((eight.low, eight.high), (1.0, 8.0));
        // From tables of the sign test: of 10, the second to the ninth; of 20, the sixth to the
        // fifteenth.
        let ten = of(10).unwrap();
        assert_eq!((ten.low, ten.high), (2.0, 9.0));
        assert!((ten.confidence - 0.9785).abs() < 1e-4);
        let twenty = of(20).unwrap();
        assert_eq!((twenty.low, twenty.high), (6.0, 15.0));
    }

    #[test]
    fn quartiles_are_not_compared() {
        let mut some = rows("ns", 2, &[1.0, 2.0]);
        some[1].metric += ".q1";
        let result = compare(&some, &some);
        assert_eq!((result.figures.len(), result.gone.len()), (1, 0));
    }

    #[test]
    fn zero_stays_zero() {
        assert_eq!(counts(0.0, 0.0).figures[0].verdict(0.01), Verdict::Same);
        assert_eq!(
            counts(0.0, 1.0).figures[0].verdict(0.01),
            Verdict::Regression
        );
    }
}
