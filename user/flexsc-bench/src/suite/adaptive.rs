// SPDX-License-Identifier: MIT OR Apache-2.0
//! Wait policies under a load that rises and falls. Another thread writes to pipes,
//! alternately slowly and as fast as it can. This thread keeps a read posted for each pipe.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::thread;
use std::time::Duration;

use flexsc::Wait;
use nix::unistd::pipe;

use super::{Options, Suite, by_turns};
use crate::backend::flexsc::{By, Flexsc, call_of, failed};
use crate::clock::{Metric, median};
use crate::machine;
use crate::report::{Report, Row};
use crate::request::Request;

/// See the module.
pub const SUITE: Suite = Suite {
    name: "adaptive",
    about: "wait policies on a load that rises and falls (batch = pipes)",
    ops: &["rise-and-fall"],
    run,
};

const PIPES: usize = 32;

/// How many times the load rises and falls, and the number of slow and fast writes each time.
const CYCLES: usize = 4;
const SLOW: usize = 60;
const FAST: usize = 3000;
const PAUSE: Duration = Duration::from_millis(2);

/// How often the policies take turns: results vary with which thread wakes which on which
/// CPU.
const TURNS: usize = 5;

/// Fixed policies, and the one that adapts to the load.
fn policies() -> [(&'static str, Wait); 5] {
    let linger = Duration::from_millis(5);
    [
        ("any", Wait::any()),
        ("some-4", Wait::some(4).linger(linger)),
        ("some-16", Wait::some(16).linger(linger)),
        ("some-32", Wait::some(32).linger(linger)),
        ("adaptive", Wait::adaptive()),
    ]
}

fn run(_: &Options, report: &mut Report) -> io::Result<()> {
    let cpus = machine::cpus()?.len();
    let policies = policies();
    let rounds = by_turns(
        TURNS,
        &policies,
        |(name, _)| (SUITE.ops[0], name),
        |(_, wait)| measure(wait),
    );
    for ((name, _), rounds) in policies.into_iter().zip(&rounds) {
        let Some(first) = rounds.first() else {
            continue;
        };
        for (at, &(metric, _, unit)) in first.iter().enumerate() {
            let mut values: Vec<f64> = rounds.iter().map(|round| round[at].1).collect();
            report.row(&Row {
                suite: SUITE.name.into(),
                op: SUITE.ops[0].into(),
                backend: name.into(),
                cpus,
                batch: PIPES,
                metric: metric.into(),
                value: median(&mut values),
                unit: unit.into(),
            })?;
        }
    }
    Ok(())
}

/// A write: its time, and whether the load was low.
#[derive(Clone, Copy, Default)]
#[repr(C)]
struct Stamp {
    time: u64,
    slow: u64,
}

const STAMP: usize = size_of::<Stamp>();

fn write_stamp(fd: &OwnedFd, slow: bool) -> io::Result<()> {
    let mut bytes = [0; STAMP];
    bytes[..8].copy_from_slice(&Metric::Ns.now().to_ne_bytes());
    bytes[8..].copy_from_slice(&u64::from(slow).to_ne_bytes());
    nix::unistd::write(fd, &bytes)?;
    Ok(())
}

fn write_all(ends: &[OwnedFd]) -> io::Result<()> {
    let mut next = ends.iter().cycle();
    for _ in 0..CYCLES {
        for fd in next.by_ref().take(SLOW) {
            thread::sleep(PAUSE);
            write_stamp(fd, true)?;
        }
        for fd in next.by_ref().take(FAST) {
            write_stamp(fd, false)?;
        }
    }
    Ok(())
}

/// Metric, value and unit.
type Figure = (&'static str, f64, &'static str);

/// Reads in flight, one for each pipe.
struct Readers {
    backend: Flexsc,
    ends: Vec<OwnedFd>,
    stamps: Vec<Stamp>,
    /// The pipe of the read in each slot.
    pipe_of: [usize; 64],
    /// Pipes whose read has finished.
    again: Vec<usize>,
}

impl Readers {
    fn new(ends: Vec<OwnedFd>) -> io::Result<Readers> {
        Ok(Readers {
            backend: Flexsc::new(PIPES, By::Waiter)?,
            ends,
            stamps: vec![Stamp::default(); PIPES],
            pipe_of: [0; 64],
            again: Vec::with_capacity(PIPES),
        })
    }

    fn stage(&mut self, pipe: usize) {
        let buffer = self.stamps.as_mut_ptr().wrapping_add(pipe).cast();
        let read = call_of(Request::Read(self.ends[pipe].as_raw_fd(), buffer, STAMP));
        // SAFETY: the pipes and their stamps outlive all results, since `finish` takes the
        // last ones. No code uses the stamp before the read has finished.
        let slot = unsafe { self.backend.pages().stage(read) };
        self.pipe_of[slot.map_or(0, |slot| slot.index())] = pipe;
    }

    /// Waits, takes the results, and passes their stamps on. Returns the number of results.
    fn round(&mut self, wait: Wait, mut take: impl FnMut(Stamp, u64)) -> io::Result<usize> {
        match self.backend.pages().wait(wait) {
            Ok(_) | Err(flexsc::Error::Interrupted) => {}
            Err(error) => return Err(failed(error)),
        }
        let now = Metric::Ns.now();
        let base = self.stamps.as_ptr();
        for done in self.backend.pages().drain() {
            let pipe = self.pipe_of[done.slot.index()];
            if done.result != STAMP as i64 {
                return Err(io::Error::other(format!("a read returned {}", done.result)));
            }
            // SAFETY: the read has finished, so nothing writes to the stamp.
            take(unsafe { base.wrapping_add(pipe).read_volatile() }, now);
            self.again.push(pipe);
        }
        Ok(self.again.len())
    }

    /// Stages again the reads that have finished.
    fn stage_again(&mut self) {
        for at in 0..self.again.len() {
            self.stage(self.again[at]);
        }
        self.again.clear();
    }

    fn waits(&self) -> io::Result<u64> {
        Ok(self.backend.engine().stats().map_err(failed)?.waits)
    }

    /// Takes the results of the last reads, which must have ended.
    fn finish(&mut self) -> io::Result<()> {
        self.backend.take(PIPES, |_| ())
    }
}

fn measure(wait: Wait) -> io::Result<[Figure; 3]> {
    let (ends, writes): (Vec<OwnedFd>, Vec<OwnedFd>) = (0..PIPES)
        .map(|_| pipe())
        .collect::<Result<Vec<_>, _>>()?
        .into_iter()
        .unzip();
    let mut readers = Readers::new(ends)?;
    let waits_before = readers.waits()?;
    (0..PIPES).for_each(|pipe| readers.stage(pipe));
    let writer = thread::spawn(move || write_all(&writes).map(|()| writes));
    let events = CYCLES * (SLOW + FAST);
    let mut left = events;
    let mut slow = Vec::with_capacity(CYCLES * SLOW);
    let mut bursts = Bursts::default();
    while left > 0 {
        let count = readers.round(wait, |stamp, now| {
            if stamp.slow == 1 {
                slow.push(now.saturating_sub(stamp.time) as f64);
                bursts.end();
            } else {
                bursts.result(stamp.time, now);
            }
        })?;
        left -= count.min(left);
        readers.stage_again();
    }
    bursts.end();
    let waits = readers.waits()? - waits_before;
    let writes = writer
        .join()
        .map_err(|_| io::Error::other("the writer has panicked"))??;
    // Ends the last reads.
    drop(writes);
    readers.finish()?;
    let ns_high = bursts.time as f64 / (CYCLES * FAST) as f64;
    Ok([
        ("delay-low", median(&mut slow), "ns per result"),
        ("ns-high", ns_high, "per result"),
        ("waits", waits as f64 / events as f64, "per result"),
    ])
}

/// Returns how long the bursts took, from the first write of each to its last result.
#[derive(Default)]
struct Bursts {
    time: u64,
    now: Option<(u64, u64)>,
}

impl Bursts {
    fn result(&mut self, written: u64, now: u64) {
        let begin = self.now.map_or(written, |(begin, _)| begin.min(written));
        self.now = Some((begin, now));
    }

    fn end(&mut self) {
        if let Some((begin, end)) = self.now.take() {
            self.time += end.saturating_sub(begin);
        }
    }
}
