// SPDX-License-Identifier: MIT OR Apache-2.0
//! The fuzzer: programs that own syscall pages and do with them, with the device and with
//! themselves whatever comes into their heads, all at once.
//!
//! The init of their process namespace starts them, kills some, starts others in their place,
//! until the module has accepted enough entries. It counts what the module's statistics say,
//! which the programs report. Nothing is left out of the calls but what the policy refuses; so
//! programs end at any moment, and that is part of it.
//!
//! Besides, there are runs of programs with one thing in mind each (`profile.rs`): a few dozen of
//! their lives find what random calls alone would not meet in hours.

mod attacks;
mod cell;
mod jail;
mod keeper;
mod memory;
mod outside;
mod owner;
mod profile;
mod program;
mod results;
mod signals;
mod tables;
mod values;

use self::keeper::{Board, keep, until_end};
use self::profile::Profile;
use crate::check::{Check, Failure};
use crate::kit::cgroup::Cgroup;
use crate::kit::child::spawn;
use crate::kit::files::TempDir;
use crate::kit::kernel::Watch;
use crate::kit::{Random, limits, process};

tests! { "hostile":
    fuzz => "programs with random entries, doorbells, ioctls, mappings, signals, forks, ends";
    fuzz_private_tables => "engines closed and unmapped by their own entries, in threads with tables of their own";
    fuzz_signals => "owners end while syscall threads take signals for them, from timers and all sides";
    fuzz_results => "calls that return what looks like a restart code: results as plainly, and soon";
    fuzz_memory => "registrations come and go, their work waits, memory is slow: all is charged, all ends";
}

/// Two control groups, or none where the machine has none.
fn groups() -> Check<Option<[Cgroup; 2]>> {
    let group = |name| match Cgroup::named(name, None) {
        Ok(group) => Ok(Some(group)),
        Err(Failure::Skip(why)) => {
            println!("# without control groups: {why}");
            Ok(None)
        }
        Err(failure) => Err(failure),
    };
    Ok(match (group("a")?, group("b")?) {
        (Some(a), Some(b)) => Some([a, b]),
        _ => None,
    })
}

fn run(profile: Profile) -> Check {
    limits::need_root()?;
    let base = process::refcnt();
    let mut random = Random::new();
    let board = Board::new()?;
    let dir = TempDir::new()?;
    let watch = Watch::new()?;
    watch.note(&format!("{}: seed {}", profile.name(), random.state()));
    let groups = groups()?;
    let jailer = spawn(|_| {
        if let Some(groups) = &groups {
            jail::open_groups(groups)?;
        }
        jail::leave()?;
        let keeper = spawn(|_| keep(profile, &board, &dir, &watch, &mut random))?;
        until_end(keeper)
    })?;
    until_end(jailer)?;
    process::until_refcnt(base)?;
    // The machine is as good as before.
    super::harmless(|| Ok(()))
}

fn fuzz() -> Check {
    run(Profile::Anything)
}

fn fuzz_private_tables() -> Check {
    run(Profile::PrivateTables)
}

fn fuzz_signals() -> Check {
    run(Profile::Signals)
}

fn fuzz_results() -> Check {
    run(Profile::Results)
}

fn fuzz_memory() -> Check {
    run(Profile::Memory)
}
