// SPDX-License-Identifier: MIT OR Apache-2.0
//! The matrix of endings: each test is one way to end, tried in every state that calls in flight
//! can be in (`State::all`), each time in a process of its own; afterwards nothing may be left.

pub mod baseline;
pub mod descriptors;
pub mod machine;
pub mod owner;
pub mod processes;
pub mod state;

use std::cell::Cell;
use std::time::Instant;

use nix::errno::Errno;

use self::baseline::Baseline;
use self::state::{Flight, State};
use crate::check::Check;
use crate::kit::child::{Child, Link, spawn};
use crate::kit::files::TempDir;
use crate::kit::latency::Latency;
use crate::kit::limits::slow_kernel;
use crate::kit::{Random, rounds, sys};

/// Tries to remove the module, which must fail while it is in use.
fn remove_module() -> Result<u64, Errno> {
    sys::result(plain!(SYS_delete_module, c"flexsc", libc::O_NONBLOCK))
}

/// One life, as an ending sees it.
pub struct Life<'a> {
    pub state: State,
    pub round: u32,
    /// A directory for the files that the life needs.
    pub dir: &'a TempDir,
    base: &'a Baseline,
    /// When everything was in flight and the ending began. `None` if the ending's time means
    /// nothing.
    begun: Cell<Option<Instant>>,
}

impl Life<'_> {
    /// Tells that something else takes most of the time: do not compare it with other endings.
    fn is_slow(&self) {
        self.begun.set(None);
    }

    /// Runs a life: a child has its calls in flight, then runs `inside`; this process runs
    /// `outside`.
    ///
    /// Before these, with everything in flight, tries to remove the module.
    pub fn run(
        &self,
        inside: impl FnOnce(Flight, &Link) -> Check,
        outside: impl FnOnce(Child) -> Check,
    ) -> Check {
        self.run_prepared(|| Ok(()), inside, outside)
    }

    /// The same, but the child runs `prepare` first.
    pub fn run_prepared(
        &self,
        prepare: impl FnOnce() -> Check,
        inside: impl FnOnce(Flight, &Link) -> Check,
        outside: impl FnOnce(Child) -> Check,
    ) -> Check {
        let state = self.state;
        let leased = self.dir.join("leased");
        let mut child = spawn(|link| {
            prepare()?;
            let flight = Flight::start(state, &leased)?;
            link.ready();
            link.wait_go()?;
            inside(flight, link)
        })?;
        child.wait_ready()?;
        self.base.check_in_use()?;
        check_eq!(
            "delete_module with calls in flight",
            remove_module(),
            Err(Errno::EWOULDBLOCK)
        );
        if self.begun.get().is_some() {
            self.begun.set(Some(Instant::now()));
        }
        child.go();
        outside(child)
    }
}

/// Keeps its calls in flight until the parent goes on with the ending.
fn stay(_: Flight, link: &Link) -> Check {
    link.wait_go()
}

/// Tries an ending in every state, and checks that nothing is left.
fn in_every_state(ending: impl Fn(&Life) -> Check) -> Check {
    in_states(|_| true, ending)
}

fn in_states(wanted: impl Fn(State) -> bool, ending: impl Fn(&Life) -> Check) -> Check {
    let dir = TempDir::new()?;
    let mut lives = 0;
    let mut latency = Latency::default();
    let mut run = |base: &Baseline, state, round| {
        let life = Life {
            state,
            round,
            dir: &dir,
            base,
            begun: Cell::new(Some(Instant::now())),
        };
        ending(&life)
            .and_then(|()| base.until_exact())
            .and_then(|()| life.begun.get().map_or(Ok(()), |begun| latency.add(begun)))
            .map_err(|failure| failure.within(format_args!("{state:?}, round {round}")))
    };
    let mut states: Vec<State> = State::all().filter(|&state| wanted(state)).collect();
    if slow_kernel() && rounds(1) == 1 {
        // A sixth of the states, different ones in each run. The soak takes all.
        let mut random = Random::new();
        for left in (states.len().div_ceil(6)..states.len()).rev() {
            states.swap_remove(random.below(left as u64 + 1) as usize);
        }
    }
    // In a soak, endings that fit few states have as many lives as the others.
    let times = match rounds(1) {
        1 => 1,
        many => many * (State::all().count() / states.len()) as u32,
    };
    // One life comes first, after which the kernel has everything that it keeps for ever.
    run(&Baseline::exact(), states[0], 0)?;
    let base = Baseline::take()?;
    for round in 0..times {
        for &state in &states {
            run(&base, state, round)?;
            lives += 1;
        }
    }
    println!("# lives: {lives} in {} states", states.len());
    base.until_restored(lives)?;
    latency.print("an end");
    Ok(())
}
