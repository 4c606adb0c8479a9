// SPDX-License-Identifier: MIT OR Apache-2.0
//! The design goals of the engine, and whether the figures reach them.

use crate::report::Row;

/// A goal and its measurement.
#[derive(Clone, Debug, PartialEq)]
pub struct Goal {
    /// The call or load.
    pub what: String,
    /// Calls at a time.
    pub batch: usize,
    /// The two things that are compared.
    pub against: String,
    /// The measured ratio, percentage or number.
    pub measured: String,
    /// The goal.
    pub goal: String,
    /// True if the goal is reached.
    pub reached: bool,
}

impl Goal {
    /// The measurement as text.
    #[must_use]
    pub fn verdict(&self) -> &'static str {
        if self.reached { "reached" } else { "missed" }
    }
}

/// Limits on instructions, on one CPU.
const INSTRUCTIONS: [(&str, usize, &str, f64); 6] = [
    ("getppid", 1, "plain", 1.6),
    ("getppid", 2, "plain", 1.1),
    ("getppid", 32, "plain", 0.45),
    ("getppid", 64, "plain", 0.40),
    ("getppid", 64, "io_uring", 0.40),
    ("pread64", 64, "io_uring", 0.40),
];

/// A pipeline with this many calls in flight has this many times the throughput.
const PIPELINE: (usize, f64) = (64, 1.5);

/// The batch from which a poller must pay off; the paper has 32.
const BREAK_EVEN: usize = 16;

/// How many percent more plain calls may cost on a kernel with FlexSC.
const ABSENT: f64 = 0.5;

/// The figure of a backend and batch.
#[must_use]
pub fn find(rows: &[&Row], backend: &str, batch: usize) -> Option<f64> {
    let row = rows
        .iter()
        .find(|row| row.backend == backend && row.batch == batch);
    row.map(|row| row.value)
}

/// Rows of one suite, operation and metric.
#[must_use]
pub fn select<'a>(all: &[&'a Row], suite: &str, op: &str, metric: &str) -> Vec<&'a Row> {
    all.iter()
        .copied()
        .filter(|row| row.suite == suite && row.op == op && row.metric == metric)
        .collect()
}

/// The smallest batch from which on `backend` costs no more than plain calls.
#[must_use]
pub fn break_even(rows: &[&Row], backend: &str) -> Option<usize> {
    let mut batches: Vec<_> = rows
        .iter()
        .filter(|row| row.backend == backend)
        .map(|row| row.batch)
        .collect();
    batches.sort_unstable();
    let pays = |batch: &usize| match (find(rows, backend, *batch), find(rows, "plain", *batch)) {
        (Some(ours), Some(plain)) => ours <= plain,
        _ => false,
    };
    batches.into_iter().rev().take_while(pays).last()
}

/// Returns all goals for which there are figures.
#[must_use]
pub fn goals(all: &[&Row]) -> Vec<Goal> {
    let mut goals = Vec::new();
    for (op, batch, base, goal) in INSTRUCTIONS {
        let rows = select(all, "calls", op, "instructions");
        let ours = find(&rows, "flexsc-inline", batch);
        let (Some(ours), Some(theirs)) = (ours, find(&rows, base, batch)) else {
            continue;
        };
        let ratio = ours / theirs;
        goals.push(Goal {
            what: format!("{op}, instructions"),
            batch,
            against: format!("flexsc-inline / {base}"),
            measured: format!("{ratio:.2}"),
            goal: format!("{goal:.2}"),
            reached: ratio <= goal,
        });
    }
    goals.extend(pipeline(all));
    for op in ["getppid", "pread64"] {
        let rows = select(all, "calls", op, "ns");
        if !rows.iter().any(|row| row.backend == "flexsc-poller") {
            continue;
        }
        let batch = break_even(&rows, "flexsc-poller");
        goals.push(Goal {
            what: format!("{op}, break-even of a poller"),
            batch: BREAK_EVEN,
            against: "flexsc-poller / plain".into(),
            measured: batch.map_or("none".into(), |batch| format!("batch {batch}")),
            goal: format!("batch {BREAK_EVEN}"),
            reached: batch.is_some_and(|batch| batch <= BREAK_EVEN),
        });
    }
    goals.extend(absent(all));
    goals
}

fn pipeline(all: &[&Row]) -> Option<Goal> {
    let (batch, goal) = PIPELINE;
    let rows = select(all, "pipeline", "getppid", "ns");
    let ours = find(&rows, "flexsc-poller", batch)?;
    let times = find(&rows, "plain", batch)? / ours;
    Some(Goal {
        what: "getppid, throughput in a pipeline".into(),
        batch,
        against: "plain / flexsc-poller".into(),
        measured: format!("{times:.2}"),
        goal: format!("{goal:.2} or more"),
        reached: times >= goal,
    })
}

/// Compares the kernel without the patches with the kernels that have them.
fn absent(all: &[&Row]) -> Vec<Goal> {
    let mut goals = Vec::new();
    for op in ["getppid", "read", "ping-pong"] {
        let rows = select(all, "absent", op, "instructions");
        let Some(base) = find(&rows, "nopatch", 1) else {
            continue;
        };
        for kernel in ["off", "perf"] {
            let Some(value) = find(&rows, kernel, 1) else {
                continue;
            };
            let more = (value / base - 1.0) * 100.0;
            goals.push(Goal {
                what: format!("{op}, FlexSC not used"),
                batch: 1,
                against: format!("{kernel} / nopatch"),
                measured: format!("{more:+.2} %"),
                goal: format!("{ABSENT:+.1} %"),
                reached: more <= ABSENT,
            });
        }
    }
    goals
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(suite: &str, backend: &str, batch: usize, metric: &str, value: f64) -> Row {
        Row {
            suite: suite.into(),
            op: "getppid".into(),
            backend: backend.into(),
            cpus: 1,
            batch,
            metric: metric.into(),
            value,
            unit: "per call".into(),
        }
    }

    fn goals_of(rows: &[Row]) -> Vec<Goal> {
        goals(&rows.iter().collect::<Vec<_>>())
    }

    #[test]
    fn goals_need_both_figures() {
        let rows = [
            row("calls", "plain", 64, "instructions", 200.0),
            row("calls", "flexsc-inline", 64, "instructions", 90.0),
        ];
        let goals = goals_of(&rows);
        assert_eq!(goals.len(), 1);
        assert_eq!((&*goals[0].measured, goals[0].reached), ("0.45", false));
        assert_eq!(goals_of(&rows[1..]), []);
    }

    #[test]
    fn throughput_is_the_more_the_better() {
        let rows = [
            row("pipeline", "plain", 64, "ns", 300.0),
            row("pipeline", "flexsc-poller", 64, "ns", 150.0),
        ];
        assert!(goals_of(&rows)[0].reached);
    }

    #[test]
    fn it_breaks_even_where_it_pays_from_there_on() {
        let batches = |ours: [f64; 3]| -> Vec<Row> {
            let both = |(batch, value)| {
                let plain = row("calls", "plain", batch, "ns", 100.0);
                [plain, row("calls", "flexsc-poller", batch, "ns", value)]
            };
            [1, 8, 64].into_iter().zip(ours).flat_map(both).collect()
        };
        let even = |rows: Vec<Row>| break_even(&rows.iter().collect::<Vec<_>>(), "flexsc-poller");
        assert_eq!(even(batches([90.0, 110.0, 90.0])), Some(64));
        assert_eq!(even(batches([190.0, 100.0, 90.0])), Some(8));
        assert_eq!(even(batches([90.0, 90.0, 190.0])), None);
    }

    #[test]
    fn unused_it_may_cost_half_a_percent() {
        let rows = [
            row("absent", "nopatch", 1, "instructions", 1000.0),
            row("absent", "off", 1, "instructions", 1005.0),
            row("absent", "perf", 1, "instructions", 1006.0),
        ];
        let reached: Vec<_> = goals_of(&rows).iter().map(|goal| goal.reached).collect();
        assert_eq!(reached, [true, false]);
    }
}
