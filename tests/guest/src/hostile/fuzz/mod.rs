// SPDX-License-Identifier: MIT OR Apache-2.0
//! The fuzzer: programs that own syscall pages and do random things to them, to the device and to
//! themselves, all at once.
//!
//! The init of their PID namespace starts them, kills some and starts others in their place, until
//! the module has accepted enough entries according to its statistics, which the programs report.
//! The programs make any call that the policy does not refuse. So they may end at any moment, which
//! is part of the test.
//!
//! There are also runs of programs that try one thing each (`profile.rs`): a few dozen of their
//! lives reach what random calls alone would not reach in hours.

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
    fuzz_private_tables => "entries close and unmap their engine, in threads with private tables";
    fuzz_signals => "owners end while syscall threads take signals for them from timers and others";
    fuzz_results => "calls with results that look like restart codes: as in plain calls, and soon";
    fuzz_memory => "registrations come and go, work waits, memory is slow: all is charged and ends";
}

/// Two control groups, or none if the machine has none.
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
    // Checks that the machine still works as before.
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
