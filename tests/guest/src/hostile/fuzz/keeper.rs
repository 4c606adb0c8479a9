// SPDX-License-Identifier: MIT OR Apache-2.0
//! The init of the programs' PID namespace. It starts programs, kills some and starts others in
//! their place, until the run has reached its goal. Meanwhile it watches the kernel.

use std::time::{Duration, Instant};

use super::cell::{Cell, Report};
use super::jail::{self, MEMLOCK};
use super::profile::{Goal, Profile};
use super::program;
use crate::check::Check;
use crate::kit::child::{Child, EXIT_SKIP, End, reap, reap_any, spawn};
use crate::kit::files::TempDir;
use crate::kit::kernel::Watch;
use crate::kit::memory::Shared;
use crate::kit::{Random, patience, process, sys};

/// Programs at a time.
const PROGRAMS: usize = 3;

/// The memory for the programs' reports.
pub type Board = Shared<[Cell; PROGRAMS]>;

/// The most memory that all programs together may have, in pages: as much as each may be charged
/// for, and as much again for programs that are just ending.
const MOST_HELD: u64 = 2 * PROGRAMS as u64 * (MEMLOCK / 4096);

/// A program while it runs.
struct Running {
    pid: i32,
    key: u64,
    killed_at: Instant,
}

/// The counts of a run.
#[derive(Default)]
struct Sum {
    posted: u64,
    executed: u64,
    engines: u64,
    fresh: u64,
    scanned: u64,
    lives: u64,
    programs: u64,
    by_signal: u64,
}

impl Sum {
    fn add(&mut self, report: &Report, end: End) {
        self.posted += report.posted;
        self.executed += report.executed;
        self.engines += report.engines;
        self.fresh += report.fresh;
        self.scanned += report.scanned;
        self.lives += report.lives;
        self.programs += 1;
        self.by_signal += u64::from(!matches!(end, End::Exit(_)));
    }

    fn has(&self, goal: Goal) -> bool {
        match goal {
            Goal::Entries(entries) => self.posted >= entries,
            Goal::Lives(lives) => self.lives >= lives,
        }
    }

    fn print(&self, profile: Profile, since: Instant) {
        println!(
            "# {}: {} entries accepted, {} of them executed, in {} s; {} programs ({} ended by a \
             signal), {} lives, {} engines, {} registrations found zero, {} scanned at their end",
            profile.name(),
            self.posted,
            self.executed,
            since.elapsed().as_secs(),
            self.programs,
            self.by_signal,
            self.lives,
            self.engines,
            self.fresh,
            self.scanned
        );
    }
}

fn start(profile: Profile, slot: usize, cell: &Cell, random: &mut Random) -> Check<Running> {
    let key = random.word();
    let own = random.split();
    // Some programs are killed long before their end.
    let life = Duration::from_millis(match random.below(4) {
        0 => 50 + random.below(2_000),
        _ if profile == Profile::Anything => 20_000,
        _ => 120_000,
    });
    cell.clear();
    let mut child = spawn(|_| {
        let file = ok!("own file", sys::open(c"/proc/self/exe", libc::O_RDONLY, 0));
        jail::become_prisoner(slot as u32)?;
        let fd = std::os::fd::IntoRawFd::into_raw_fd(file);
        program::run(profile, cell, key, own, fd);
        Ok(())
    })?;
    child.set_reaped();
    Ok(Running {
        pid: child.pid,
        key,
        killed_at: Instant::now() + life,
    })
}

/// The state that is checked from time to time.
struct Looks {
    began: Instant,
    said: Instant,
    measured: Instant,
    /// Samples in a row with too much memory.
    too_much: u32,
}

impl Looks {
    fn new() -> Looks {
        let now = Instant::now();
        Looks {
            began: now,
            said: now,
            measured: now,
            too_much: 0,
        }
    }

    /// Returns a fault of the kernel, if there is one.
    fn complaint(&mut self, watch: &Watch) -> Option<String> {
        if let Some(fault) = watch.fault() {
            return Some(format!("the kernel has reported {fault}"));
        }
        if self.measured.elapsed().as_millis() < 200 {
            return None;
        }
        self.measured = Instant::now();
        let held = watch.held();
        self.too_much = if held > MOST_HELD {
            self.too_much + 1
        } else {
            0
        };
        (self.too_much > 2).then(|| {
            format!(
                "registrations hold {held} pages of memory, more than the {} that {PROGRAMS} \
                 programs may be charged for",
                MOST_HELD / 2
            )
        })
    }
}

/// Runs programs until the goal is reached.
pub fn keep(
    profile: Profile,
    board: &Board,
    dir: &TempDir,
    watch: &Watch,
    random: &mut Random,
) -> Check {
    jail::lead_groups()?;
    jail::enter(dir)?;
    let mut looks = Looks::new();
    let mut sum = Sum::default();
    let mut running: [Option<Running>; PROGRAMS] = [const { None }; PROGRAMS];
    while !sum.has(profile.goal()) {
        // First of all, because a broken kernel might not return from the rest.
        if let Some(complaint) = looks.complaint(watch) {
            let complaint = format!("{complaint}, after {} s", looks.began.elapsed().as_secs());
            watch.note(&format!("{}: {complaint}", profile.name()));
            sum.print(profile, looks.began);
            fail!("{complaint}");
        }
        for (slot, (place, cell)) in running.iter_mut().zip(board.iter()).enumerate() {
            match place {
                None => *place = Some(start(profile, slot, cell, random)?),
                Some(program) => {
                    see(profile, program, &cell.read(program.key), &looks, watch)?;
                }
            }
        }
        // The init reaps orphans, too.
        while let Some((pid, end)) = reap_any() {
            if let End::Stopped(_) = end {
                // The program or its child is being traced.
                plain!(SYS_kill, pid, libc::SIGKILL);
                continue;
            }
            for (place, cell) in running.iter_mut().zip(board.iter()) {
                if let Some(program) = place.take_if(|program| program.pid == pid) {
                    let report = cell.read(program.key);
                    judge(profile, &report, &looks, watch)?;
                    sum.add(&report, end);
                }
            }
        }
        if looks.said.elapsed().as_secs() >= 30 {
            looks.said = Instant::now();
            sum.print(profile, looks.began);
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    sum.print(profile, looks.began);
    check!(sum.engines > 0, "nothing was done");
    check!(
        profile != Profile::Anything || sum.fresh > 0 && sum.scanned > 0,
        "no registration was examined"
    );
    Ok(())
}

fn judge(profile: Profile, report: &Report, looks: &Looks, watch: &Watch) -> Check {
    if let Some(complaint) = report.complaint() {
        let complaint = format!("{complaint}; after {} s", looks.began.elapsed().as_secs());
        watch.note(&format!("{}: {complaint}", profile.name()));
        fail!("{complaint}");
    }
    Ok(())
}

/// Checks a running program, and kills it when its time is over.
fn see(
    profile: Profile,
    program: &Running,
    report: &Report,
    looks: &Looks,
    watch: &Watch,
) -> Check {
    let judged = judge(profile, report, looks, watch);
    let late = Instant::now().saturating_duration_since(program.killed_at);
    if judged.is_err() || late > patience() {
        process::print_threads(program.pid);
    }
    judged?;
    if !late.is_zero() {
        plain!(SYS_kill, program.pid, libc::SIGKILL);
    }
    check!(
        late <= patience(),
        "a program has not ended {} s after SIGKILL",
        late.as_secs()
    );
    Ok(())
}

/// Waits for the end of a part of the test, without a limit: the test itself has one.
pub fn until_end(mut child: Child) -> Check {
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
