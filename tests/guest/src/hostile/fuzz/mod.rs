// SPDX-License-Identifier: MIT OR Apache-2.0
//! The fuzzer: programs that own syscall pages and do with them, with the device and with
//! themselves whatever comes into their heads, all at once.
//!
//! The init of their process namespace starts them, kills some, starts others in their place,
//! until the module has accepted enough entries. It counts what the module's statistics say,
//! which the programs report. Nothing is left out of the calls but what the policy refuses; so
//! programs end at any moment, and that is part of it.

mod attacks;
mod cell;
mod jail;
mod owner;
mod program;
mod values;

use std::time::{Duration, Instant};

use self::cell::{Cell, Report};
use crate::check::Check;
use crate::kit::child::{Child, EXIT_SKIP, End, reap, reap_any, spawn};
use crate::kit::files::TempDir;
use crate::kit::memory::Shared;
use crate::kit::{Random, limits, process, rounds, sys};

tests! { "hostile":
    fuzz => "programs with random entries, doorbells, ioctls, mappings, signals, forks, ends";
}

/// Programs at a time.
const PROGRAMS: usize = 3;
/// Entries that a run has to have, without a word from outside.
const ENTRIES: u64 = 300_000;
const ENTRIES_SLOW: u64 = 60_000;

type Board = Shared<[Cell; PROGRAMS]>;

fn number_from(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

/// How many entries the module shall accept.
fn wanted() -> u64 {
    let usual = if limits::slow_kernel() {
        ENTRIES_SLOW
    } else {
        ENTRIES
    };
    number_from("FLEXSC_TEST_ENTRIES").unwrap_or(usual * u64::from(rounds(1)))
}

/// A program while it runs.
struct Running {
    pid: i32,
    key: u64,
    killed_at: Instant,
}

/// What a run has seen.
#[derive(Default)]
struct Sum {
    posted: u64,
    executed: u64,
    engines: u64,
    fresh: u64,
    scanned: u64,
    programs: u64,
    by_signal: u64,
}

impl Sum {
    fn add(&mut self, report: &Report, end: End) -> Check {
        if let Some(complaint) = report.complaint() {
            fail!("{complaint}");
        }
        self.posted += report.posted;
        self.executed += report.executed;
        self.engines += report.engines;
        self.fresh += report.fresh;
        self.scanned += report.scanned;
        self.programs += 1;
        self.by_signal += u64::from(!matches!(end, End::Exit(_)));
        Ok(())
    }

    fn print(&self, since: Instant) {
        println!(
            "# fuzz: {} entries accepted, {} of them executed, in {} s; {} programs ({} ended by a \
             signal), {} engines, {} registrations zero at first, {} scanned at last",
            self.posted,
            self.executed,
            since.elapsed().as_secs(),
            self.programs,
            self.by_signal,
            self.engines,
            self.fresh,
            self.scanned
        );
    }
}

fn start(slot: usize, cell: &Cell, random: &mut Random) -> Check<Running> {
    let key = random.word();
    let mut own = random.split();
    // Some are killed long before their end.
    let life = Duration::from_millis(match random.below(4) {
        0 => 50 + random.below(2_000),
        _ => 20_000,
    });
    cell.clear();
    let mut child = spawn(|_| {
        let file = ok!("own file", sys::open(c"/proc/self/exe", libc::O_RDONLY, 0));
        jail::become_prisoner(slot as u32)?;
        let lives = 1 + own.below(8);
        let fd = std::os::fd::IntoRawFd::into_raw_fd(file);
        program::run(cell, key, own, fd, lives);
        Ok(())
    })?;
    child.set_reaped();
    Ok(Running {
        pid: child.pid,
        key,
        killed_at: Instant::now() + life,
    })
}

/// The init of the namespace.
fn keep(board: &Board, dir: &TempDir, random: &mut Random) -> Check {
    jail::enter(dir)?;
    let began = Instant::now();
    let mut said = began;
    let mut sum = Sum::default();
    let mut running: [Option<Running>; PROGRAMS] = [const { None }; PROGRAMS];
    while sum.posted < wanted() {
        for (slot, (place, cell)) in running.iter_mut().zip(board.iter()).enumerate() {
            match place {
                None => *place = Some(start(slot, cell, random)?),
                Some(program) if Instant::now() > program.killed_at => {
                    plain!(SYS_kill, program.pid, libc::SIGKILL);
                }
                Some(_) => {}
            }
        }
        // Orphans come to the init, too.
        while let Some((pid, end)) = reap_any() {
            if let End::Stopped(_) = end {
                // It had itself traced, or a child.
                plain!(SYS_kill, pid, libc::SIGKILL);
                continue;
            }
            for (place, cell) in running.iter_mut().zip(board.iter()) {
                if let Some(program) = place.take_if(|program| program.pid == pid) {
                    sum.add(&cell.read(program.key), end)?;
                }
            }
        }
        if said.elapsed().as_secs() >= 30 {
            said = Instant::now();
            sum.print(began);
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    sum.print(began);
    check!(
        sum.engines > 0 && sum.fresh > 0 && sum.scanned > 0,
        "nothing was looked at"
    );
    Ok(())
}

fn until_end(mut child: Child) -> Check {
    // As long as it takes: the test has a limit.
    let end = loop {
        match reap(child.pid, 0) {
            Some(end) => break end,
            None => std::thread::sleep(Duration::from_millis(5)),
        }
    };
    child.set_reaped();
    match end {
        End::Exit(0) => Ok(()),
        End::Exit(EXIT_SKIP) => crate::check::skip(""),
        end => fail!("the keeper of the programs did not succeed: {end:?}"),
    }
}

fn fuzz() -> Check {
    limits::need_root()?;
    let base = process::refcnt();
    let mut random = Random::new();
    let board = Board::new()?;
    let dir = TempDir::new()?;
    let jailer = spawn(|_| {
        jail::leave()?;
        until_end(spawn(|_| keep(&board, &dir, &mut random))?)
    })?;
    until_end(jailer)?;
    process::until_refcnt(base)?;
    // The machine is as good as before.
    super::harmless(|| Ok(()))
}
