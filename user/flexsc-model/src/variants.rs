// SPDX-License-Identifier: MIT OR Apache-2.0
//! The parameters halved and doubled, one at a time.

use crate::cost::{Cost, Costs};
use crate::params::{Entries, Processor, Size, Sizes};

/// Sizes under a name: that of a processor, and the change to it.
#[derive(Clone, Debug)]
pub struct Variant {
    /// The name of the processor; a slash and the change follow.
    pub name: String,
    /// The sizes.
    pub sizes: Sizes,
}

/// Half or twice as much.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// Half of it.
    Halved,
    /// Twice as much.
    Doubled,
}

impl Change {
    /// Both.
    pub const ALL: [Change; 2] = [Change::Halved, Change::Doubled];

    /// The end of a variant's name.
    #[must_use]
    pub fn suffix(self) -> &'static str {
        match self {
            Change::Halved => "/2",
            Change::Doubled => "*2",
        }
    }

    fn of(self, number: usize) -> usize {
        match self {
            Change::Halved => (number / 2).max(1),
            Change::Doubled => number * 2,
        }
    }

    /// Changes the number of sets; a cache with one set changes the length of that set.
    fn cache(self, size: &mut Size) {
        if size.sets() == 1 {
            size.ways = self.of(size.ways);
        }
        size.kib = self.of(size.kib);
    }

    fn tlb(self, size: &mut Entries) {
        if size.sets() == 1 {
            size.ways = self.of(size.ways);
        }
        size.entries = self.of(size.entries);
    }

    fn bits(self, bits: u32) -> u32 {
        match self {
            Change::Halved => (bits - 1).max(1),
            Change::Doubled => bits + 1,
        }
    }
}

/// The sizes that change. Small and large pages change together.
const SIZES: [&str; 9] = [
    "l1i",
    "l1d",
    "l2",
    "l3",
    "itlb",
    "dtlb",
    "stlb",
    "directions",
    "targets",
];

fn change(sizes: &mut Sizes, name: &str, change: Change) {
    match name {
        "l1i" => change.cache(&mut sizes.l1i),
        "l1d" => change.cache(&mut sizes.l1d),
        "l2" => change.cache(&mut sizes.l2),
        "l3" => change.cache(&mut sizes.l3),
        "itlb" => {
            change.tlb(&mut sizes.itlb);
            change.tlb(&mut sizes.itlb_large);
        }
        "dtlb" => {
            change.tlb(&mut sizes.dtlb);
            change.tlb(&mut sizes.dtlb_large);
        }
        "stlb" => change.tlb(&mut sizes.stlb),
        "directions" => sizes.directions.bits = change.bits(sizes.directions.bits),
        _ => sizes.targets.bits = change.bits(sizes.targets.bits),
    }
}

/// Returns the sizes of all processors, each once; with `changed`, also halved and doubled.
#[must_use]
pub fn of_sizes(processors: &[Processor], changed: bool) -> Vec<Variant> {
    let mut variants = Vec::new();
    for processor in processors.iter().filter(|one| one.sizes_of == one.name) {
        let mut add = |name: String, sizes: Sizes| variants.push(Variant { name, sizes });
        add(processor.name.clone(), processor.sizes.clone());
        if !changed {
            continue;
        }
        for name in SIZES {
            for by in Change::ALL {
                let mut sizes = processor.sizes.clone();
                change(&mut sizes, name, by);
                add(format!("{}/{name}{}", processor.name, by.suffix()), sizes);
            }
        }
        let mut sizes = processor.sizes.clone();
        sizes.pcid.value = !sizes.pcid.value;
        add(format!("{}/pcid-other", processor.name), sizes);
    }
    variants
}

/// Returns the costs of a processor, and with each one halved and doubled, with names.
#[must_use]
pub fn of_costs(processor: &Processor) -> Vec<(String, Costs)> {
    let value = |(cost, figure): (&Cost, &crate::params::Figure)| (*cost, figure.value);
    let base: Costs = processor.costs.iter().map(value).collect();
    let mut all = vec![(String::new(), base.clone())];
    for cost in Cost::ALL {
        for by in Change::ALL {
            let mut changed = base.clone();
            let factor = match by {
                Change::Halved => 0.5,
                Change::Doubled => 2.0,
            };
            changed.entry(*cost).and_modify(|value| *value *= factor);
            all.push((format!("{}{}", cost.name(), by.suffix()), changed));
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::params::{parse, tests::FILE};
    use crate::processor::Processor as Model;

    #[test]
    fn each_size_is_changed_alone_and_can_be_built() {
        let processors = parse(FILE).unwrap();
        let variants = of_sizes(&processors, true);
        let bases = of_sizes(&processors, false);
        assert_eq!(variants.len(), bases.len() * (2 * SIZES.len() + 2));
        for variant in &variants {
            let base = variant.name.split('/').next().unwrap();
            let base = bases.iter().find(|one| one.name == base).unwrap();
            let same = variant.sizes == base.sizes;
            assert_eq!(same, variant.name == base.name, "{}", variant.name);
            drop(Model::new(&variant.sizes));
        }
        let l1i = |name: &str| {
            let found = variants.iter().find(|one| one.name == name);
            found.unwrap().sizes.l1i.kib
        };
        assert_eq!(
            (l1i("nehalem/l1i/2"), l1i("nehalem"), l1i("nehalem/l1i*2")),
            (16, 32, 64)
        );
    }

    #[test]
    fn each_cost_is_changed_alone() {
        let processors = parse(FILE).unwrap();
        let all = of_costs(&processors[0]);
        assert_eq!(all.len(), 1 + 2 * Cost::ALL.len());
        let (_, base) = &all[0];
        for (name, costs) in &all[1..] {
            for (cost, value) in costs {
                let factor = match name.strip_prefix(cost.name()) {
                    Some("/2") => 0.5,
                    Some("*2") => 2.0,
                    _ => 1.0,
                };
                assert_eq!(*value, base[cost] * factor, "{name} {cost:?}");
            }
        }
    }
}
