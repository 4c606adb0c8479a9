// SPDX-License-Identifier: MIT OR Apache-2.0
//! The kinds of programs in a run.

use super::program::{self, Program};
use super::{memory, results, signals, tables};
use crate::kit::{Random, limits, rounds};

/// See the module's documentation.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Profile {
    /// Anything at all, and now and then one of the other kinds.
    Anything,
    /// `tables.rs`
    PrivateTables,
    /// `signals.rs`
    Signals,
    /// `results.rs`
    Results,
    /// `memory.rs`
    Memory,
}

/// The number of entries in a run of [`Profile::Anything`], unless the environment names another.
const ENTRIES: u64 = 150_000;
const ENTRIES_SLOW: u64 = 30_000;

/// The number of lives in a run of another profile.
const LIVES: u64 = 40;
const LIVES_SLOW: u64 = 6;

/// In a longer run of the fuzzer the number of such lives grows more slowly than that of entries,
/// by this factor.
const SHARE: u64 = 8;

/// The goal of a run.
#[derive(Clone, Copy)]
pub enum Goal {
    Entries(u64),
    Lives(u64),
}

/// The life of a program.
pub type Live = fn(&Program<'_>, &mut Random);

fn number_from(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

impl Profile {
    pub fn name(self) -> &'static str {
        match self {
            Profile::Anything => "fuzz",
            Profile::PrivateTables => "fuzz_private_tables",
            Profile::Signals => "fuzz_signals",
            Profile::Results => "fuzz_results",
            Profile::Memory => "fuzz_memory",
        }
    }

    /// The kind of a program's next life.
    pub fn live(self, random: &mut Random) -> Live {
        match self {
            Profile::Anything => match random.below(32) {
                0 => tables::live,
                1 => signals::live,
                2 => results::live,
                3 => memory::live,
                _ => program::live,
            },
            Profile::PrivateTables => tables::live,
            Profile::Signals => signals::live,
            Profile::Results => results::live,
            Profile::Memory => memory::live,
        }
    }

    /// The length of a run.
    pub fn goal(self) -> Goal {
        let slow = limits::slow_kernel();
        let usual = if slow { ENTRIES_SLOW } else { ENTRIES };
        let usual = usual * u64::from(rounds(1));
        let entries = number_from("FLEXSC_TEST_ENTRIES").unwrap_or(usual);
        if self == Profile::Anything {
            return Goal::Entries(entries);
        }
        let lives = if slow { LIVES_SLOW } else { LIVES } * u64::from(rounds(1));
        Goal::Lives(lives * (entries / usual / SHARE).max(1))
    }
}
