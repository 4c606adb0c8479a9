// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the counts of regions come to: figures, tables, and the conclusions that survive other
//! parameters.

use crate::cost::{Costs, cycles};
use crate::counts::{Count, Counts, Label, Mode, Record};
use crate::params::Processor;
use crate::variants::of_costs;

/// A structure that can miss, and the counts of its misses.
pub const STRUCTURES: [(&str, &[Count]); 8] = [
    ("l1i", &[Count::L1iMisses]),
    ("l1d", &[Count::L1dLoadMisses, Count::L1dStoreMisses]),
    (
        "l2",
        &[
            Count::L2CodeMisses,
            Count::L2LoadMisses,
            Count::L2StoreMisses,
        ],
    ),
    (
        "l3",
        &[
            Count::L3CodeMisses,
            Count::L3LoadMisses,
            Count::L3StoreMisses,
        ],
    ),
    ("itlb", &[Count::ItlbMisses]),
    ("dtlb", &[Count::DtlbMisses]),
    ("stlb", &[Count::CodeWalks, Count::DataWalks]),
    ("branch", &[Count::Mispredicts]),
];

/// What a call evicts of a program's lines.
const EVICTED: [(&str, Count); 5] = [
    ("evicted_l1i", Count::EvictedL1i),
    ("evicted_l1d", Count::EvictedL1d),
    ("evicted_l2", Count::EvictedL2),
    ("evicted_l3", Count::EvictedL3),
    ("evicted_dtlb", Count::EvictedDtlb),
];

/// A region on one processor.
#[derive(Clone, Debug)]
pub struct Result {
    /// The region.
    pub label: Label,
    /// The counts of user and kernel.
    pub counts: [Counts; 2],
    /// The cycles of user and kernel.
    pub cycles: [f64; 2],
}

impl Result {
    /// Returns instructions a cycle, of both modes or of one.
    #[must_use]
    pub fn ipc(&self, mode: Option<Mode>) -> f64 {
        let per_mode = |mode: Mode| {
            let counts = &self.counts[mode as usize];
            (
                counts.get(Count::Instructions) as f64,
                self.cycles[mode as usize],
            )
        };
        let (instructions, cycles) = match mode {
            Some(mode) => per_mode(mode),
            None => {
                let [user, kernel] = Mode::ALL.map(per_mode);
                (user.0 + kernel.0, user.1 + kernel.1)
            }
        };
        if cycles > 0.0 {
            instructions / cycles
        } else {
            0.0
        }
    }

    /// Returns modelled cycles for one call.
    #[must_use]
    pub fn cycles_per_call(&self) -> f64 {
        self.cycles.iter().sum::<f64>() / self.label.calls as f64
    }

    /// Returns the number of something for one call.
    #[must_use]
    pub fn per_call(&self, count: Count) -> f64 {
        let all: u64 = self.counts.iter().map(|counts| counts.get(count)).sum();
        all as f64 / self.label.calls as f64
    }

    /// Returns misses per thousand instructions of a mode.
    #[must_use]
    pub fn mpki(&self, mode: Mode, misses: &[Count]) -> f64 {
        let counts = &self.counts[mode as usize];
        let instructions = counts.get(Count::Instructions).max(1);
        counts.sum(misses) as f64 * 1000.0 / instructions as f64
    }

    /// Returns figures: metric, value, unit.
    #[must_use]
    pub fn figures(&self) -> Vec<(String, f64, &'static str)> {
        let calls = self.label.calls as f64;
        let mut all = vec![
            ("cycles".to_owned(), self.cycles_per_call(), "per call"),
            ("ipc".to_owned(), self.ipc(None), "per cycle"),
            (
                "syscalls".to_owned(),
                self.per_call(Count::Syscalls),
                "per call",
            ),
            (
                "interrupts".to_owned(),
                self.per_call(Count::Interrupts),
                "per call",
            ),
        ];
        for mode in Mode::ALL {
            let of = |metric: &str| format!("{metric}_{}", mode.name());
            let counts = &self.counts[mode as usize];
            let instructions = counts.get(Count::Instructions) as f64 / calls;
            all.push((of("instructions"), instructions, "per call"));
            all.push((of("cycles"), self.cycles[mode as usize] / calls, "per call"));
            all.push((of("ipc"), self.ipc(Some(mode)), "per cycle"));
            for (name, misses) in STRUCTURES {
                let metric = of(&format!("{name}_misses"));
                all.push((metric, self.mpki(mode, misses), "per 1000 instructions"));
            }
        }
        for (name, count) in EVICTED {
            if self.per_call(Count::EvictedL1i) > 0.0 {
                all.push((name.to_owned(), self.per_call(count), "per call"));
            }
        }
        all
    }
}

/// Applies costs to the counts of a variant.
#[must_use]
pub fn results(records: &[Record], variant: &str, costs: &Costs) -> Vec<Result> {
    let of_mode = |mode| {
        let wanted = move |record: &&Record| record.mode == mode && record.variant == variant;
        records.iter().filter(wanted)
    };
    let pairs = of_mode(Mode::User).zip(of_mode(Mode::Kernel));
    pairs
        .map(|(user, kernel)| Result {
            label: user.label.clone(),
            counts: [user.counts.clone(), kernel.counts.clone()],
            cycles: [
                cycles(costs, Mode::User, &user.counts),
                cycles(costs, Mode::Kernel, &kernel.counts),
            ],
        })
        .collect()
}

/// Returns the results for a processor as it is in its file.
#[must_use]
pub fn of_processor(records: &[Record], processor: &Processor) -> Vec<Result> {
    let (_, costs) = &of_costs(processor)[0];
    results(records, &processor.sizes_of, costs)
}

/// Two ways to make the same calls, and how their cycles compare.
#[derive(Clone, Debug)]
pub struct Conclusion {
    /// The operation.
    pub op: String,
    /// Calls at a time.
    pub batch: usize,
    /// The way that is compared.
    pub way: String,
    /// What it is compared with.
    pub with: String,
    /// Cycles of the way through those of the other.
    pub ratio: f64,
    /// The smallest and the largest ratio if one parameter is halved or doubled.
    pub range: (f64, f64),
    /// The parameters with which the other way is the better one.
    pub reversed_by: Vec<String>,
}

/// The comparisons that are made if both are in the counts.
const COMPARED: [(&str, &str); 5] = [
    ("flexsc-inline", "plain"),
    ("flexsc-thread", "plain"),
    ("io_uring", "plain"),
    ("flexsc-inline", "io_uring"),
    ("flexsc-inline", "io_uring-defer"),
];

fn ratio(results: &[Result], of: &Conclusion) -> Option<f64> {
    let cycles = |backend: &str| {
        let wanted = |result: &&Result| {
            let label = &result.label;
            label.op == of.op && label.batch == of.batch && label.backend == backend
        };
        results.iter().find(wanted).map(Result::cycles_per_call)
    };
    Some(cycles(&of.way)? / cycles(&of.with)?)
}

/// Compares ways to make calls, for all parameters of a processor halved and doubled. Sizes are
/// among them if the counts have such variants.
#[must_use]
pub fn conclusions(records: &[Record], processor: &Processor) -> Vec<Conclusion> {
    let costs = of_costs(processor);
    let (_, base) = &costs[0];
    let changed_costs = costs[1..]
        .iter()
        .map(|(name, costs)| (name.clone(), results(records, &processor.sizes_of, costs)));
    let prefix = format!("{}/", processor.sizes_of);
    let mut names: Vec<&str> = Vec::new();
    for record in records {
        if record.variant.starts_with(&prefix) && !names.contains(&record.variant.as_str()) {
            names.push(&record.variant);
        }
    }
    let changed_sizes = names.into_iter().map(|name| {
        let change = name.strip_prefix(&prefix).unwrap_or(name);
        (change.to_owned(), results(records, name, base))
    });
    let changed: Vec<_> = changed_costs.chain(changed_sizes).collect();
    let unchanged = results(records, &processor.sizes_of, base);
    let mut all = Vec::new();
    for (way, with) in COMPARED {
        for result in unchanged
            .iter()
            .filter(|result| result.label.backend == way)
        {
            let mut conclusion = Conclusion {
                op: result.label.op.clone(),
                batch: result.label.batch,
                way: way.to_owned(),
                with: with.to_owned(),
                ratio: 0.0,
                range: (0.0, 0.0),
                reversed_by: Vec::new(),
            };
            let Some(found) = ratio(&unchanged, &conclusion) else {
                continue;
            };
            conclusion.ratio = found;
            conclusion.range = (found, found);
            for (name, results) in &changed {
                let Some(other) = ratio(results, &conclusion) else {
                    continue;
                };
                let (least, most) = conclusion.range;
                conclusion.range = (least.min(other), most.max(other));
                if (other < 1.0) != (found < 1.0) {
                    conclusion.reversed_by.push(name.clone());
                }
            }
            all.push(conclusion);
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::params::{parse, tests::FILE};

    /// A region with only instructions and traps.
    fn records(backend: &str, variant: &str, instructions: u64, traps: u64) -> [Record; 2] {
        Mode::ALL.map(|mode| {
            let mut counts = Counts::default();
            if mode == Mode::Kernel {
                counts.add(Count::Instructions, instructions);
                counts.add(Count::Syscalls, traps);
                counts.add(Count::Sysrets, traps);
            }
            Record {
                label: Label::parse(&format!("calls,getppid,{backend},1,1,10")).unwrap(),
                variant: variant.to_owned(),
                mode,
                counts,
            }
        })
    }

    fn nehalem() -> Processor {
        let all = parse(FILE).unwrap();
        all.into_iter().find(|one| one.name == "nehalem").unwrap()
    }

    #[test]
    fn figures_are_those_of_one_call() {
        let all = records("plain", "nehalem", 3000, 10);
        let result = &of_processor(&all, &nehalem())[0];
        // Half a cycle for each instruction, and the way in and out.
        let cycles = 300.0 * 0.5 + 64.0 + 56.0;
        assert_eq!(result.cycles_per_call(), cycles);
        assert_eq!(result.ipc(Some(Mode::Kernel)), 300.0 / cycles);
        assert_eq!(result.ipc(Some(Mode::User)), 0.0);
        assert_eq!(result.per_call(Count::Syscalls), 1.0);
        let figures = result.figures();
        let of = |name| figures.iter().find(|(metric, ..)| metric == name);
        assert_eq!(of("instructions_kernel").unwrap().1, 300.0);
        assert!(of("evicted_l1d").is_none());
    }

    #[test]
    fn misses_are_per_thousand_instructions() {
        let mut all = records("plain", "nehalem", 3000, 10);
        all[1].counts.add(Count::L1dLoadMisses, 6);
        all[1].counts.add(Count::L1dStoreMisses, 3);
        let result = &of_processor(&all, &nehalem())[0];
        assert_eq!(result.mpki(Mode::Kernel, STRUCTURES[1].1), 3.0);
    }

    #[test]
    fn a_conclusion_says_what_reverses_it() {
        // 270 cycles against 245: a cheaper trap, or dearer instructions, turn it round.
        let mut all = records("plain", "nehalem", 3000, 10).to_vec();
        all.extend(records("flexsc-inline", "nehalem", 4900, 0));
        all.extend(records("plain", "nehalem/l1i*2", 3000, 10));
        all.extend(records("flexsc-inline", "nehalem/l1i*2", 9000, 0));
        let found = conclusions(&all, &nehalem());
        assert_eq!(found.len(), 1);
        assert!((found[0].ratio - 245.0 / 270.0).abs() < 1e-9);
        assert_eq!(
            found[0].reversed_by,
            ["instruction*2", "syscall/2", "sysret/2", "l1i*2"]
        );
        assert!((found[0].range.1 - 450.0 / 270.0).abs() < 1e-9);
    }
}
