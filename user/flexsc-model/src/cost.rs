// SPDX-License-Identifier: MIT OR Apache-2.0
//! Cycles from counts: each event has a fixed cost.
//!
//! A modern processor hides part of each latency behind other work. The model knows no dependencies
//! between instructions, so it takes a fixed share of a latency (`load_exposed`, `store_exposed`).

use std::collections::BTreeMap;

use crate::counts::{Count, Counts, Mode};

macro_rules! costs {
    ($($(#[$about:meta])* $name:ident = $text:literal,)*) => {
        /// The cost of an event, in cycles unless it says otherwise.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Cost { $($(#[$about])* $name,)* }

        impl Cost {
            /// All.
            pub const ALL: &[Cost] = &[$(Cost::$name,)*];

            /// The name in the file with the parameters.
            #[must_use]
            pub fn name(self) -> &'static str {
                match self { $(Cost::$name => $text,)* }
            }
        }
    };
}

costs! {
    /// An instruction that meets no obstacle.
    Instruction = "instruction",
    /// A string instruction, for its start.
    StringStart = "string_start",
    /// A step of a string instruction.
    StringStep = "string_step",
    /// The latency of the second level.
    L2 = "l2",
    /// The latency of the third level.
    L3 = "l3",
    /// The latency of memory.
    Memory = "memory",
    /// The share of the latency of a load that is not hidden: 0 to 1.
    LoadExposed = "load_exposed",
    /// The share of the latency of a store that is not hidden: 0 to 1.
    StoreExposed = "store_exposed",
    /// A translation that the second level of TLBs has.
    Stlb = "stlb",
    /// A walk of the page table.
    Walk = "walk",
    /// A branch that was not predicted.
    Mispredict = "mispredict",
    /// An atomic instruction.
    Locked = "locked",
    /// A fence.
    Serialise = "serialise",
    /// A write of a model-specific register.
    MsrWrite = "msr_write",
    /// A write of CR3 in the trace: another process.
    Cr3Write = "cr3_write",
    /// The `syscall` instruction.
    Syscall = "syscall",
    /// The `sysret` instruction.
    Sysret = "sysret",
    /// The way into the kernel at an interrupt or exception.
    Interrupt = "interrupt",
    /// The `iret` instruction.
    Iret = "iret",
    /// What mitigations add to each way into the kernel.
    EntryExtra = "entry_extra",
    /// What mitigations add to each way back to the program.
    ExitExtra = "exit_extra",
    /// What mitigations add to an indirect branch in the kernel.
    IndirectExtra = "indirect_extra",
    /// What mitigations add to a return in the kernel.
    ReturnExtra = "return_extra",
}

impl Cost {
    /// Finds a cost by its name.
    #[must_use]
    pub fn parse(name: &str) -> Option<Cost> {
        Cost::ALL.iter().copied().find(|cost| cost.name() == name)
    }
}

/// The costs of a processor.
pub type Costs = BTreeMap<Cost, f64>;

/// Returns the cycles for these counts of one mode. Costs that are missing are 0.
#[must_use]
pub fn cycles(costs: &Costs, mode: Mode, counts: &Counts) -> f64 {
    let cost = |cost: Cost| costs.get(&cost).copied().unwrap_or(0.0);
    let count = |count: Count| counts.get(count) as f64;
    let misses = |first, second, third| {
        count(first) * cost(Cost::L2)
            + count(second) * (cost(Cost::L3) - cost(Cost::L2)).max(0.0)
            + count(third) * (cost(Cost::Memory) - cost(Cost::L3)).max(0.0)
    };
    let code = misses(Count::L1iMisses, Count::L2CodeMisses, Count::L3CodeMisses);
    let loads = misses(
        Count::L1dLoadMisses,
        Count::L2LoadMisses,
        Count::L3LoadMisses,
    );
    let stores = misses(
        Count::L1dStoreMisses,
        Count::L2StoreMisses,
        Count::L3StoreMisses,
    );
    let walks = count(Count::CodeWalks) + count(Count::DataWalks);
    let second = count(Count::ItlbMisses) + count(Count::DtlbMisses) - walks;
    let ways_in = count(Count::Syscalls) + count(Count::Interrupts);
    let ways_out = count(Count::Sysrets) + count(Count::Irets);
    let mut all = code
        + loads * cost(Cost::LoadExposed).min(1.0)
        + stores * cost(Cost::StoreExposed).min(1.0)
        + second * cost(Cost::Stlb)
        + walks * cost(Cost::Walk)
        + ways_in * cost(Cost::EntryExtra)
        + ways_out * cost(Cost::ExitExtra);
    if mode == Mode::Kernel {
        all += count(Count::Indirects) * cost(Cost::IndirectExtra)
            + count(Count::Returns) * cost(Cost::ReturnExtra);
    }
    for (event, price) in [
        (Count::Instructions, Cost::Instruction),
        (Count::Strings, Cost::StringStart),
        (Count::StringSteps, Cost::StringStep),
        (Count::Mispredicts, Cost::Mispredict),
        (Count::Locked, Cost::Locked),
        (Count::Serialising, Cost::Serialise),
        (Count::MsrWrites, Cost::MsrWrite),
        (Count::Cr3Writes, Cost::Cr3Write),
        (Count::Syscalls, Cost::Syscall),
        (Count::Sysrets, Cost::Sysret),
        (Count::Interrupts, Cost::Interrupt),
        (Count::Irets, Cost::Iret),
    ] {
        all += count(event) * cost(price);
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(all: &[(Count, u64)]) -> Counts {
        let mut counts = Counts::default();
        for (count, number) in all {
            counts.add(*count, *number);
        }
        counts
    }

    fn costs(all: &[(Cost, f64)]) -> Costs {
        all.iter().copied().collect()
    }

    #[test]
    fn a_miss_costs_the_latency_of_the_level_that_has_the_line() {
        let costs = costs(&[
            (Cost::L2, 10.0),
            (Cost::L3, 40.0),
            (Cost::Memory, 250.0),
            (Cost::LoadExposed, 0.5),
        ]);
        let of = |all: &[(Count, u64)]| cycles(&costs, Mode::User, &counts(all));
        assert_eq!(of(&[(Count::L1iMisses, 2)]), 20.0);
        let two = [(Count::L1iMisses, 2), (Count::L2CodeMisses, 1)];
        assert_eq!(of(&two), 10.0 + 40.0);
        let all = [
            (Count::L1dLoadMisses, 1),
            (Count::L2LoadMisses, 1),
            (Count::L3LoadMisses, 1),
        ];
        assert_eq!(of(&all), 125.0);
        assert_eq!(of(&[(Count::L1dStoreMisses, 9)]), 0.0);
    }

    #[test]
    fn a_trap_costs_both_ways_and_the_mitigations() {
        let costs = costs(&[
            (Cost::Syscall, 60.0),
            (Cost::Sysret, 50.0),
            (Cost::EntryExtra, 100.0),
            (Cost::ExitExtra, 200.0),
            (Cost::IndirectExtra, 30.0),
        ]);
        let user = counts(&[(Count::Indirects, 7)]);
        assert_eq!(cycles(&costs, Mode::User, &user), 0.0);
        let kernel = counts(&[
            (Count::Syscalls, 1),
            (Count::Sysrets, 1),
            (Count::Indirects, 7),
        ]);
        assert_eq!(cycles(&costs, Mode::Kernel, &kernel), 160.0 + 250.0 + 210.0);
    }

    #[test]
    fn every_cost_has_an_effect() {
        let mut one = Counts::default();
        // As many misses of a level as of the levels above; the translations walk half the time.
        for count in Count::ALL {
            one.add(
                *count,
                if count.name().ends_with("walks") {
                    5
                } else {
                    10
                },
            );
        }
        let base: Costs = Cost::ALL
            .iter()
            .map(|cost| {
                let value = match cost {
                    Cost::L2 => 10.0,
                    Cost::L3 => 40.0,
                    Cost::Memory => 250.0,
                    _ => 0.25,
                };
                (*cost, value)
            })
            .collect();
        let before = cycles(&base, Mode::Kernel, &one);
        // With all lines from memory, only its latency matters.
        for cost in Cost::ALL
            .iter()
            .filter(|cost| !matches!(cost, Cost::L2 | Cost::L3))
        {
            let mut changed = base.clone();
            changed.insert(*cost, base[cost] * 2.0);
            assert!(cycles(&changed, Mode::Kernel, &one) > before, "{cost:?}");
        }
    }
}
