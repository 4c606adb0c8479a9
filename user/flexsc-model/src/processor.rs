// SPDX-License-Identifier: MIT OR Apache-2.0
//! One processor: caches, TLBs and a branch predictor, and what happens in them.
//!
//! A miss brings the line into every level. Nothing is prefetched, no line leaves a level because
//! another one replaces it, and writing a changed line back costs nothing.

use crate::block::LINE;
use crate::branch::{Branch, Predictor};
use crate::cache::Cache;
use crate::counts::{Count, Counts, Mode};
use crate::params::Sizes;
use crate::tlb::{Found, Kind, Tlbs};

/// Who asks for a line, and the counts of misses in the three levels.
type Misses = [Count; 3];

const CODE: Misses = [Count::L1iMisses, Count::L2CodeMisses, Count::L3CodeMisses];
const LOAD: Misses = [
    Count::L1dLoadMisses,
    Count::L2LoadMisses,
    Count::L3LoadMisses,
];
const STORE: Misses = [
    Count::L1dStoreMisses,
    Count::L2StoreMisses,
    Count::L3StoreMisses,
];

/// An access to memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Access {
    /// The virtual address.
    pub virt: u64,
    /// The physical address.
    pub phys: u64,
    /// Bytes.
    pub bytes: u64,
    /// It writes.
    pub store: bool,
}

/// A processor.
#[derive(Clone, Debug)]
pub struct Processor {
    l1i: Cache,
    l1d: Cache,
    l2: Cache,
    l3: Cache,
    tlbs: Tlbs,
    predictor: Predictor,
    /// What happened in each mode since [`Processor::begin`].
    counts: [Counts; 2],
    primed: bool,
}

impl Processor {
    /// Makes a processor with empty structures.
    #[must_use]
    pub fn new(sizes: &Sizes) -> Processor {
        let cache = |size: &crate::params::Size| Cache::new(size.sets(), size.ways);
        Processor {
            l1i: cache(&sizes.l1i),
            l1d: cache(&sizes.l1d),
            l2: cache(&sizes.l2),
            l3: cache(&sizes.l3),
            tlbs: Tlbs::new(sizes),
            predictor: Predictor::new(
                sizes.directions.bits,
                sizes.targets.bits,
                sizes.returns.entries,
            ),
            counts: Default::default(),
            primed: false,
        }
    }

    /// Sets the counts to 0.
    pub fn begin(&mut self) {
        self.counts = Default::default();
        self.primed = false;
    }

    /// Returns the counts since [`Processor::begin`].
    pub fn end(&mut self) -> &[Counts; 2] {
        self.collect();
        self.primed = false;
        &self.counts
    }

    /// Fills everything with lines of another program, and counts how many of them get lost.
    pub fn prime(&mut self) {
        self.collect();
        for cache in [&mut self.l1i, &mut self.l1d, &mut self.l2, &mut self.l3] {
            cache.prime();
        }
        self.tlbs.prime();
        self.primed = true;
    }

    fn collect(&mut self) {
        if !self.primed {
            return;
        }
        let counts = &mut self.counts[Mode::Kernel as usize];
        for (count, evicted) in [
            (Count::EvictedL1i, self.l1i.evicted()),
            (Count::EvictedL1d, self.l1d.evicted()),
            (Count::EvictedL2, self.l2.evicted()),
            (Count::EvictedL3, self.l3.evicted()),
            (Count::EvictedDtlb, self.tlbs.evicted(Kind::Data)),
        ] {
            counts.add(count, evicted);
        }
    }

    /// Fetches a line of code.
    pub fn fetch(&mut self, mode: Mode, virt: u64, phys: u64) {
        self.translate(mode, Kind::Code, virt, phys);
        self.line(mode, CODE, phys >> LINE);
    }

    /// Reads or writes memory.
    pub fn access(&mut self, mode: Mode, access: &Access) {
        let Access {
            virt,
            phys,
            bytes,
            store,
        } = *access;
        self.translate(mode, Kind::Data, virt, phys);
        let misses = if store { STORE } else { LOAD };
        for line in phys >> LINE..=(phys + bytes.max(1) - 1) >> LINE {
            self.line(mode, misses, line);
        }
    }

    /// Learns from a branch.
    pub fn branch(&mut self, mode: Mode, branch: &Branch) {
        if !self.predictor.branch(branch) {
            self.counts[mode as usize].add(Count::Mispredicts, 1);
        }
    }

    /// Switches to another page table.
    pub fn switch(&mut self) {
        self.tlbs.switch();
    }

    fn translate(&mut self, mode: Mode, kind: Kind, virt: u64, phys: u64) {
        let (miss, walk) = match kind {
            Kind::Code => (Count::ItlbMisses, Count::CodeWalks),
            Kind::Data => (Count::DtlbMisses, Count::DataWalks),
        };
        let counts = &mut self.counts[mode as usize];
        match self.tlbs.look_up(kind, virt, phys) {
            Found::First => {}
            Found::Second => counts.add(miss, 1),
            Found::Walk => {
                counts.add(miss, 1);
                counts.add(walk, 1);
            }
        }
    }

    fn line(&mut self, mode: Mode, misses: Misses, line: u64) {
        let first = if misses == CODE {
            &mut self.l1i
        } else {
            &mut self.l1d
        };
        for (cache, miss) in [first, &mut self.l2, &mut self.l3].into_iter().zip(misses) {
            if cache.touch(line) {
                return;
            }
            self.counts[mode as usize].add(miss, 1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::params::tests::sizes;

    const KIB: u64 = 1024;

    fn load(virt: u64, bytes: u64) -> Access {
        Access {
            virt,
            phys: virt,
            bytes,
            store: false,
        }
    }

    /// Reads each line of so many bytes twice; returns the misses of the second turn in each level.
    fn second_turn(bytes: u64) -> [u64; 3] {
        let mut processor = Processor::new(&sizes());
        for _ in 0..2 {
            processor.begin();
            for line in 0..bytes / 64 {
                processor.access(Mode::User, &load(line * 64, 8));
            }
        }
        LOAD.map(|miss| processor.end()[Mode::User as usize].get(miss))
    }

    #[test]
    fn a_loop_is_served_by_the_smallest_level_that_holds_it() {
        let lines = |kib: u64| kib * KIB / 64;
        assert_eq!(second_turn(32 * KIB), [0, 0, 0]);
        assert_eq!(second_turn(64 * KIB), [lines(64), 0, 0]);
        assert_eq!(second_turn(512 * KIB), [lines(512), lines(512), 0]);
        let most = 16 * KIB;
        assert_eq!(
            second_turn(most * KIB),
            [lines(most), lines(most), lines(most)]
        );
    }

    #[test]
    fn an_access_can_touch_two_lines_and_modes_are_kept_apart() {
        let mut processor = Processor::new(&sizes());
        processor.access(Mode::Kernel, &load(60, 8));
        processor.access(Mode::User, &load(64, 8));
        processor.fetch(Mode::User, 64, 64);
        let [user, kernel] = processor.end();
        assert_eq!(kernel.get(Count::L1dLoadMisses), 2);
        assert_eq!(user.get(Count::L1dLoadMisses), 0);
        // Code has a first level of its own, and the second level in common with data.
        assert_eq!(user.get(Count::L1iMisses), 1);
        assert_eq!(user.get(Count::L2CodeMisses), 0);
        assert_eq!(user.get(Count::ItlbMisses), 1);
    }

    #[test]
    fn evicted_lines_are_counted_between_primes() {
        let mut processor = Processor::new(&sizes());
        processor.access(Mode::User, &load(0, 8));
        processor.begin();
        for _ in 0..3 {
            processor.prime();
            processor.access(Mode::User, &load(0, 8));
            processor.access(Mode::Kernel, &load(64, 8));
            processor.access(Mode::Kernel, &load(64, 8));
        }
        let counts = &processor.end()[Mode::Kernel as usize];
        assert_eq!(counts.get(Count::EvictedL1d), 6);
        assert_eq!(counts.get(Count::EvictedL3), 6);
        assert_eq!(counts.get(Count::EvictedL1i), 0);
        assert_eq!(counts.get(Count::EvictedDtlb), 3);
        processor.begin();
        processor.access(Mode::User, &load(640, 8));
        assert_eq!(
            processor.end()[Mode::Kernel as usize].get(Count::EvictedL1d),
            0
        );
    }
}
