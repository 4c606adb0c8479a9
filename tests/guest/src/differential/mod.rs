// SPDX-License-Identifier: MIT OR Apache-2.0
//! The differential test: random sequences of calls give the same results plainly and from pages.
//!
//! Each sequence runs in two processes with the same surroundings (`sandbox`): first plainly, which
//! gives a trace of results, errors and outputs and the state that is left, then from pages, in one
//! of the ways in which an entry can be executed. The module `normal` says which results may
//! differ, and why.

#[macro_use]
mod op;
mod generate;
mod normal;
mod run;
mod sandbox;
mod shrink;
mod state;
mod tape;

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use crate::check::{Check, Failure, skip};
use crate::kit::child::{EXIT_SKIP, End, spawn};
use crate::kit::limits::{cpus, slow_kernel};
use crate::kit::mode::Mode;
use crate::kit::{Random, patience, rounds};
use op::Op;
use run::{Plant, Second, Way};
use sandbox::{Ground, Sandbox, Wants};
use tape::{Tape, Trace, Verdict};

tests! { "differential":
    plain_twice => "a sequence made plainly twice gives the same results: the comparison is fair";
    all_ways => "random sequences give the same results plainly and from pages, in every way";
    inline => "sequences executed by the owner, singly and in chains, give what plain calls give";
    without_rights => "sequences of a process without rights give what plain calls give";
    with_network => "sequences with a network give what plain calls give";
    under_filters => "the same under random seccomp filters, every way: denied calls are refused";
    by_threads => "sequences executed by threads give what plain calls give: ASYNC, KICK, a pool";
    by_poller => "sequences executed by a poller give what plain calls give";
    numbers => "the sequences make at least 120 different calls from pages";
    planted_result => "a wrong result is found, and the sequence shrunk";
    planted_byte => "a wrong output is found, and the sequence shrunk";
    planted_loss => "a call that was not made is found because its effects are missing";
    planted_repeat => "a call that was made twice is found";
}

/// Calls in a sequence. A slow kernel makes fewer.
fn len() -> usize {
    if slow_kernel() { 300 } else { 1000 }
}

/// The surroundings in which sequences run and are compared.
struct Bench {
    ground: Ground,
    tape: Tape,
}

impl Bench {
    fn new() -> Check<Bench> {
        Ok(Bench {
            ground: Ground::new()?,
            tape: Tape::new()?,
        })
    }

    /// Runs `work` in the sandbox. If `work` fails, names the call that it has reached.
    fn run(&self, ops: &[Op], wants: Wants, work: impl FnOnce(&Sandbox<'_>) -> Check) -> Check {
        let mut child = spawn(|_| work(&Sandbox::enter(&self.ground, wants)?))?;
        // If a result does not come, the run itself gives up, and prints more than this process
        // could.
        let end = child.end().or_else(|_| child.end());
        let at = self.ground.progress();
        let context = |failure: Failure| match ops.get(at) {
            Some(op) => failure.within(format_args!("call {at}: {op}")),
            None => failure,
        };
        match end.map_err(context)? {
            End::Exit(0) => Ok(()),
            End::Exit(EXIT_SKIP) => skip(""),
            end => Err(context(Failure::at(
                file!(),
                line!(),
                format_args!("a run's {end:?}"),
            ))),
        }
    }

    fn plain(&self, ops: &[Op], wants: Wants) -> Check<Trace> {
        self.run(ops, wants, |sandbox| {
            let _engine = sandbox::engine(Way::Plain)?;
            wants.filter()?;
            let steps = run::plain_run(ops, sandbox);
            let state = state::of(sandbox);
            self.tape.write_trace(&Trace { steps, state })
        })?;
        self.tape.read_trace()
    }

    fn second(
        &self,
        ops: &[Op],
        wants: Wants,
        trace: &Trace,
        way: Way,
        plant: Option<Plant>,
    ) -> Check<Verdict> {
        self.run(ops, wants, |sandbox| {
            let engine = sandbox::engine(way)?;
            wants.filter()?;
            let mut second = Second {
                ops,
                wants,
                steps: &trace.steps,
                sandbox,
                way,
                plant,
                counts: run::Counts::default(),
            };
            let (_engine, mut ring) = engine.unzip();
            let difference = second.run(ring.as_mut())?;
            let difference = difference.or_else(|| second.compare_state(&trace.state));
            let counts = second.counts;
            self.tape.write_verdict(&Verdict { difference, counts })
        })?;
        self.tape.read_verdict()
    }

    /// Makes both runs and compares them.
    fn both(&self, ops: &[Op], wants: Wants, way: Way, plant: Option<Plant>) -> Check<Verdict> {
        let trace = self.plain(ops, wants)?;
        self.second(ops, wants, &trace, way, plant)
    }

    /// Shrinks a failing sequence and prints it.
    fn explain(
        &self,
        ops: &[Op],
        wants: Wants,
        way: Way,
        plant: Option<Plant>,
        found: &run::Difference,
    ) -> Check<Vec<Op>> {
        println!("# {way:?}, {wants:?}: {}", found.text);
        // Less than the time that the test itself has left.
        let end = Instant::now() + patience();
        let mut ops = ops.to_vec();
        if let Some(at) = found.at {
            ops.truncate(at + 1);
        }
        let ops = shrink::shrink(ops, end, |ops| {
            Ok(self.both(ops, wants, way, plant)?.difference.is_some())
        })?;
        if ops.len() > 200 {
            println!("# it does not repeat each time, so it cannot be shrunk: use the seed");
            return Ok(ops);
        }
        println!("# these {} calls are enough:", ops.len());
        for (index, op) in ops.iter().enumerate() {
            println!("#   {index}: {op}");
        }
        if let Some(difference) = self.both(&ops, wants, way, plant)?.difference {
            println!("#   {}", difference.text);
        }
        Ok(ops)
    }
}

/// Properties of sequence `number`: every combination occurs.
fn wants(number: u32) -> Wants {
    Wants {
        network: number % 4 == 1,
        nobody: number % 5 == 2,
        filter: 0,
    }
}

/// All ways of the second run.
const WAYS: [Way; 6] = [
    Way::Paged(Mode::Inline),
    Way::Paged(Mode::Async),
    Way::Paged(Mode::Kick),
    Way::Paged(Mode::Poller),
    Way::Chain,
    Way::Pool,
];

fn plain_twice() -> Check {
    let bench = Bench::new()?;
    let mut random = Random::new();
    let (mut made, mut good) = (0, 0);
    for number in 0..rounds(if slow_kernel() { 1 } else { 10 }) {
        let wants = wants(number);
        let ops = generate::sequence(random.split(), len(), wants);
        let trace = bench.plain(&ops, wants)?;
        made += trace.steps.iter().filter(|step| !step.skipped).count();
        good += trace.steps.iter().filter(|step| step.is_good()).count();
        let second = bench.second(&ops, wants, &trace, Way::Plain, None)?;
        if let Some(difference) = second.difference {
            bench.explain(&ops, wants, Way::Plain, None, &difference)?;
            fail!(
                "sequence {number} made plainly twice differs: {}",
                difference.text
            );
        }
    }
    println!("# {good} of {made} calls succeeded");
    check!(
        good * 2 > made,
        "only {good} of {made} calls succeeded: the sequences are not valid"
    );
    Ok(())
}

/// Makes `sequences` sequences plainly and in all these ways, and compares them.
fn compare(ways: &[Way], sequences: u32, wants: impl Fn(u32) -> Wants) -> Check {
    let bench = Bench::new()?;
    let mut random = Random::new();
    let mut posted = vec![(0u64, Duration::ZERO); ways.len()];
    let mut refused = 0;
    for number in 0..rounds(sequences) {
        let wants = wants(number);
        let ops = generate::sequence(random.split(), len(), wants);
        let trace = bench.plain(&ops, wants)?;
        for (way, posted) in ways.iter().zip(&mut posted) {
            let context = |failure: Failure| {
                failure.within(format_args!("sequence {number}, {way:?}, {wants:?}"))
            };
            let begun = Instant::now();
            let verdict = bench
                .second(&ops, wants, &trace, *way, None)
                .map_err(context)?;
            if let Some(difference) = verdict.difference {
                bench.explain(&ops, wants, *way, None, &difference)?;
                fail!("sequence {number}, {way:?}: {}", difference.text);
            }
            posted.0 += verdict.counts.posted;
            posted.1 += begun.elapsed();
            refused += verdict.counts.refused;
        }
    }
    for (way, (calls, time)) in ways.iter().zip(&posted) {
        println!("# {way:?}: {calls} calls, {:.1} s", time.as_secs_f32());
    }
    let all: u64 = posted.iter().map(|(calls, _)| calls).sum();
    println!("# counted {all} calls compared");
    println!("# {refused} calls refused and made plainly");
    Ok(())
}

/// Returns the number of sequences: fewer on a slow kernel.
fn usual(sequences: u32) -> u32 {
    if slow_kernel() {
        sequences.div_ceil(30)
    } else {
        sequences
    }
}

fn all_ways() -> Check {
    compare(&WAYS, usual(3), wants)
}

/// The ways in which the owner executes the calls.
const BY_OWNER: [Way; 2] = [Way::Paged(Mode::Inline), Way::Chain];

fn inline() -> Check {
    compare(&BY_OWNER, usual(26), wants)
}

fn without_rights() -> Check {
    let wants = |_| Wants {
        network: false,
        nobody: true,
        filter: 0,
    };
    compare(&BY_OWNER, usual(5), wants)
}

fn with_network() -> Check {
    let wants = |_| Wants {
        network: true,
        nobody: false,
        filter: 0,
    };
    compare(&BY_OWNER, usual(5), wants)
}

fn under_filters() -> Check {
    let seed = Random::new().word();
    println!("# filters from {seed}");
    let wants = |number| Wants {
        filter: seed.wrapping_add(u64::from(number)) | 1,
        ..wants(number)
    };
    compare(&WAYS, usual(4), wants)
}

fn by_threads() -> Check {
    let ways = [Way::Paged(Mode::Async), Way::Paged(Mode::Kick), Way::Pool];
    compare(&ways, usual(9), wants)
}

fn by_poller() -> Check {
    compare(&[Way::Paged(Mode::Poller)], usual(3), wants)
}

fn numbers() -> Check {
    if slow_kernel() {
        return skip("tests the generator, not the kernel");
    }
    let bench = Bench::new()?;
    let mut random = Random::new();
    let mut seen = BTreeSet::new();
    let mut names = BTreeSet::new();
    // The modes differ in the threads that execute the calls.
    for (number, way) in (0..4).zip([Mode::Inline, Mode::Inline, Mode::Async, Mode::Kick]) {
        let wants = wants(number);
        let ops = generate::sequence(random.split(), len(), wants);
        let verdict = bench.both(&ops, wants, Way::Paged(way), None)?;
        if let Some(difference) = verdict.difference {
            fail!("{way:?}, {wants:?}: {}", difference.text);
        }
        let numbers = verdict.counts.numbers.iter().enumerate();
        seen.extend(numbers.filter(|(_, posted)| **posted).map(|(nr, _)| nr));
        names.extend(ops.iter().map(|op| (op.nr as usize, op.name)));
    }
    println!("# {} different calls made from pages", seen.len());
    let named = names.iter().filter(|(nr, _)| seen.contains(nr));
    let named: Vec<&str> = named.map(|(_, name)| *name).collect();
    for some in named.chunks(12) {
        println!("#   {}", some.join(" "));
    }
    check!(seen.len() >= 120, "only {} different calls", seen.len());
    Ok(())
}

/// Checks that a planted mistake is found, and that the sequence that shows it is shrunk.
fn planted(plant: Plant, way: Way, enough: usize) -> Check {
    if slow_kernel() {
        return skip("shows what the comparison can do, whatever the kernel: too slow on this one");
    }
    let bench = Bench::new()?;
    let mut random = Random::new();
    for number in 0..20 {
        let wants = Wants {
            network: false,
            nobody: false,
            filter: 0,
        };
        let ops = generate::sequence(random.split(), len(), wants);
        let verdict = bench.both(&ops, wants, way, Some(plant))?;
        if let Some(difference) = verdict.difference {
            let ops = bench.explain(&ops, wants, way, Some(plant), &difference)?;
            check!(
                ops.len() <= enough,
                "sequence {number} was shrunk to {} calls, not to {enough}",
                ops.len()
            );
            return Ok(());
        }
    }
    fail!("{plant:?} was not found in 20 sequences");
}

fn planted_result() -> Check {
    planted(Plant::Result(libc::SYS_umask), Way::Paged(Mode::Inline), 1)
}

fn planted_byte() -> Check {
    planted(Plant::Byte(libc::SYS_uname), Way::Paged(Mode::Async), 1)
}

fn planted_loss() -> Check {
    planted(Plant::Lost(libc::SYS_mkdir), Way::Paged(Mode::Inline), 4)
}

fn planted_repeat() -> Check {
    if cpus() < 2 {
        return planted(Plant::Twice(libc::SYS_write), Way::Paged(Mode::Kick), 8);
    }
    planted(Plant::Twice(libc::SYS_write), Way::Paged(Mode::Poller), 8)
}
