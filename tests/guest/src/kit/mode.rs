// SPDX-License-Identifier: MIT OR Apache-2.0
//! The ways in which a posted call can be executed.

use super::abi::Param;
use super::engine::Engine;
use super::limits::poller_cpu;
use super::ring::Ring;
use crate::check::Check;

/// Which thread executes posted calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// The owner in WAIT, if calls do not block.
    Inline,
    /// Syscall threads, because each entry has the flag ASYNC. The owner waits.
    Async,
    /// Syscall threads, after a KICK. The owner only looks at the done words.
    Kick,
    /// A poller.
    Poller,
}

impl Mode {
    /// All of them.
    pub const ALL: [Mode; 4] = [Mode::Inline, Mode::Async, Mode::Kick, Mode::Poller];

    /// A new engine with one registration in this mode.
    pub fn start(self, pages: u32) -> Check<(Engine, Ring)> {
        let engine = Engine::open()?;
        let mut ring = engine.ring(pages)?;
        ring.mode = self;
        if self == Mode::Poller {
            engine.set(Param::IdleNs, 20_000_000)?;
            engine.set(Param::PollCpus, 1 << poller_cpu())?;
        }
        Ok((engine, ring))
    }
}

/// An engine with one registration in every mode, for tests that need them many times: on the debug
/// kernel it takes long to make them.
pub struct Modes(Vec<(Engine, Ring)>);

impl Modes {
    pub fn start(pages: u32) -> Check<Modes> {
        let all = Mode::ALL.into_iter().map(|mode| mode.start(pages));
        all.collect::<Check<_>>().map(Modes)
    }

    /// Runs a test in every mode.
    pub fn each(&mut self, mut test: impl FnMut(&Engine, &mut Ring) -> Check) -> Check {
        for (engine, ring) in &mut self.0 {
            test(engine, ring)
                .map_err(|failure| failure.within(format_args!("mode {:?}", ring.mode)))?;
        }
        Ok(())
    }
}

/// Runs a test in every mode, each time with a new engine.
pub fn in_modes(pages: u32, mut test: impl FnMut(&Engine, &mut Ring) -> Check) -> Check {
    for mode in Mode::ALL {
        mode.start(pages)
            .and_then(|(engine, mut ring)| test(&engine, &mut ring))
            .map_err(|failure| failure.within(format_args!("mode {mode:?}")))?;
    }
    Ok(())
}
