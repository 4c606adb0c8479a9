// SPDX-License-Identifier: MIT OR Apache-2.0
//! The file with the parameters of processors and their sources.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::cost::Cost;

/// A number with its source.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct Figure {
    /// The number.
    pub value: f64,
    /// Where it comes from.
    pub source: String,
    /// The source does not say it: it is a guess that the source supports.
    #[serde(default)]
    pub estimate: bool,
}

/// A property with its source.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct Property {
    /// Whether the processor has it.
    pub value: bool,
    /// Where that comes from.
    pub source: String,
}

/// A cache.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct Size {
    /// Kibibytes. Lines have 64 bytes.
    pub kib: usize,
    /// Lines in a set.
    pub ways: usize,
    /// Where that comes from.
    pub source: String,
}

impl Size {
    /// Returns the number of sets.
    #[must_use]
    pub fn sets(&self) -> usize {
        self.kib * 1024 / 64 / self.ways
    }
}

/// A TLB.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct Entries {
    /// Number of entries.
    pub entries: usize,
    /// Entries in a set.
    pub ways: usize,
    /// Where that comes from.
    pub source: String,
}

impl Entries {
    /// Returns the number of sets.
    #[must_use]
    pub fn sets(&self) -> usize {
        self.entries / self.ways
    }
}

/// A table of the branch predictor.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct Bits {
    /// It has 2^`bits` entries.
    pub bits: u32,
    /// Where that comes from.
    pub source: String,
}

/// The sizes of a processor's structures.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct Sizes {
    /// First level, code.
    pub l1i: Size,
    /// First level, data.
    pub l1d: Size,
    /// Second level.
    pub l2: Size,
    /// Third level: what one processor can use of it.
    pub l3: Size,
    /// Small pages of code.
    pub itlb: Entries,
    /// Large pages of code.
    pub itlb_large: Entries,
    /// Small pages of data.
    pub dtlb: Entries,
    /// Large pages of data.
    pub dtlb_large: Entries,
    /// The second level of TLBs.
    pub stlb: Entries,
    /// The second level has entries for large pages.
    pub stlb_holds_large: Property,
    /// A switch of page tables leaves entries of other address spaces in place.
    pub pcid: Property,
    /// Counters that predict directions.
    pub directions: Bits,
    /// Targets of indirect branches.
    pub targets: Bits,
    /// The stack that predicts returns.
    pub returns: Entries,
}

impl Sizes {
    /// Checks that the structures can be built.
    fn check(&self) -> Result<(), String> {
        let caches = [
            ("l1i", &self.l1i),
            ("l1d", &self.l1d),
            ("l2", &self.l2),
            ("l3", &self.l3),
        ];
        for (name, size) in caches {
            if size.ways == 0 || !size.sets().is_power_of_two() {
                return Err(format!("{name}: the number of sets must be a power of two"));
            }
        }
        let tlbs = [
            ("itlb", &self.itlb),
            ("itlb_large", &self.itlb_large),
            ("dtlb", &self.dtlb),
            ("dtlb_large", &self.dtlb_large),
            ("stlb", &self.stlb),
        ];
        for (name, size) in tlbs {
            if size.ways == 0 || !size.sets().is_power_of_two() {
                return Err(format!("{name}: the number of sets must be a power of two"));
            }
        }
        for (name, table) in [("directions", &self.directions), ("targets", &self.targets)] {
            if !(1..=24).contains(&table.bits) {
                return Err(format!("{name}: between 1 and 24 bits are possible"));
            }
        }
        Ok(())
    }
}

/// A processor in the file.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    about: String,
    /// Another processor, whose sizes it has, and whose costs unless it has its own.
    like: Option<String>,
    sizes: Option<Sizes>,
    costs: BTreeMap<String, Figure>,
}

/// A processor.
#[derive(Clone, Debug)]
pub struct Processor {
    /// The name in the file.
    pub name: String,
    /// What it is.
    pub about: String,
    /// The processor in the file that has these sizes.
    pub sizes_of: String,
    /// The sizes of its structures.
    pub sizes: Sizes,
    /// Each cost.
    pub costs: BTreeMap<Cost, Figure>,
}

/// Reads the processors in a file.
///
/// # Errors
///
/// The text is not TOML, or a processor is not complete.
pub fn parse(text: &str) -> Result<Vec<Processor>, String> {
    let entries: BTreeMap<String, Entry> = toml::from_str(text).map_err(|why| why.to_string())?;
    let mut processors = Vec::new();
    for (name, entry) in &entries {
        processors.push(complete(&entries, name, entry).map_err(|why| format!("{name}: {why}"))?);
    }
    if processors.is_empty() {
        return Err("there is no processor".into());
    }
    Ok(processors)
}

fn complete(
    entries: &BTreeMap<String, Entry>,
    name: &str,
    entry: &Entry,
) -> Result<Processor, String> {
    let base = match &entry.like {
        None => entry,
        Some(like) => entries
            .get(like)
            .filter(|base| base.like.is_none())
            .ok_or_else(|| format!("there is no '{like}' with sizes of its own"))?,
    };
    if entry.like.is_some() == entry.sizes.is_some() {
        return Err("needs sizes, or the name of another processor in 'like'".into());
    }
    let sizes = base.sizes.clone().ok_or("needs sizes")?;
    sizes.check()?;
    let all = base.costs.iter().chain(&entry.costs);
    let mut costs = BTreeMap::new();
    for (key, figure) in all {
        let cost = Cost::parse(key).ok_or_else(|| format!("there is no cost '{key}'"))?;
        if figure.value < 0.0 || !figure.value.is_finite() {
            return Err(format!("{key} must not be negative"));
        }
        costs.insert(cost, figure.clone());
    }
    if let Some(missing) = Cost::ALL.iter().find(|cost| !costs.contains_key(cost)) {
        return Err(format!("the cost '{}' is missing", missing.name()));
    }
    Ok(Processor {
        name: name.to_owned(),
        about: entry.about.clone(),
        sizes_of: entry.like.clone().unwrap_or_else(|| name.to_owned()),
        sizes,
        costs,
    })
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// The file of the repository.
    pub(crate) const FILE: &str = include_str!("../processors.toml");

    /// The sizes of the first processor of FlexSC's authors.
    pub(crate) fn sizes() -> Sizes {
        let all = parse(FILE).expect("the file is right");
        let found = all
            .into_iter()
            .find(|processor| processor.name == "nehalem");
        found.expect("it is there").sizes
    }

    #[test]
    fn every_figure_has_a_source() {
        let all = parse(FILE).unwrap();
        assert!(all.len() >= 4, "{}", all.len());
        for processor in &all {
            assert!(!processor.about.is_empty());
            for (cost, figure) in &processor.costs {
                assert!(!figure.source.is_empty(), "{} {cost:?}", processor.name);
                // What is our own choice is a guess.
                let own = figure.source.starts_with("model");
                assert!(figure.estimate || !own, "{} {cost:?}", processor.name);
            }
        }
    }

    #[test]
    fn a_variation_has_the_costs_of_its_base_unless_it_has_its_own() {
        let all = parse(FILE).unwrap();
        let find = |name: &str| all.iter().find(|one| one.name == name).unwrap();
        let (base, mitigated) = (find("skylake"), find("skylake-mitigated"));
        assert_eq!(mitigated.sizes_of, "skylake");
        assert_eq!(mitigated.sizes, base.sizes);
        let cost = |one: &Processor, cost| one.costs[&cost].value;
        assert_eq!(
            cost(mitigated, Cost::Mispredict),
            cost(base, Cost::Mispredict)
        );
        assert!(cost(mitigated, Cost::EntryExtra) > cost(base, Cost::EntryExtra));
    }

    #[test]
    fn wrong_files_are_refused() {
        for (from, to, why) in [
            ("kib = 32, ways = 4", "kib = 32, ways = 5", "power of two"),
            (
                "mispredict = ",
                "misprediction = ",
                "no cost 'misprediction'",
            ),
            ("l1i = ", "l0 = ", "unknown field"),
            ("like = \"skylake\"", "like = \"lake\"", "no 'lake'"),
        ] {
            let wrong = FILE.replacen(from, to, 1);
            assert_ne!(wrong, FILE, "{from}");
            let said = parse(&wrong).unwrap_err();
            assert!(said.contains(why), "{said}");
        }
        assert!(parse("").unwrap_err().contains("no processor"));
    }
}
