// SPDX-License-Identifier: MIT OR Apache-2.0
//! The two ways to make the same calls: through syscall pages, or as plain calls.

#![expect(unsafe_code, reason = "posting is a promise about memory")]

use std::collections::VecDeque;
use std::hint;

use flexsc::{Call, CpuSet, Engine, Error, Pages, Stats, Wait};

/// Makes calls and returns results in any order.
pub trait Backend {
    /// Returns how many calls can be in flight.
    fn capacity(&self) -> usize;

    /// Makes a call before the next [`Backend::wait`] returns. `token` comes back with its
    /// result.
    ///
    /// # Safety
    ///
    /// The memory that the call points to must not be touched until its result is taken. No
    /// more than [`Backend::capacity`] calls may be in flight.
    unsafe fn submit(&mut self, token: u32, call: Call);

    /// Takes a result if there is one: the token and the call's result.
    fn ready(&mut self) -> Option<(u32, i64)>;

    /// Waits for results. May return `Ok` without a result.
    fn wait(&mut self) -> Result<(), Error>;

    /// Returns how many calls are in flight.
    fn in_flight(&self) -> usize;

    /// Returns how often [`Backend::wait`] has entered the kernel.
    fn waits(&self) -> u64;

    /// Returns the engine's counters; `None` without an engine.
    fn stats(&self) -> Result<Option<Stats>, Error>;

    /// Returns how many plain calls were made because the kernel refused a call.
    fn fallbacks(&self) -> u64;
}

/// Syscall pages.
pub struct Flexsc {
    // Dropped before the engine.
    pages: Pages,
    engine: Engine,
    /// The token of the call in each slot.
    tokens: Vec<u32>,
    waits: u64,
    /// How often to poll for results before a wait.
    patience: u32,
}

impl Flexsc {
    /// Makes a backend with `pages` syscall pages and a poller on each CPU of `poll_cpus`.
    pub fn new(pages: u32, poll_cpus: &CpuSet) -> Result<Self, Error> {
        let engine = Engine::open()?;
        if !poll_cpus.is_empty() {
            engine.set_poll_cpus(poll_cpus)?;
        }
        let mut pages = engine.register(pages)?;
        pages.set_fallback(true);
        Ok(Flexsc {
            tokens: vec![0; pages.capacity()],
            pages,
            engine,
            waits: 0,
            patience: if poll_cpus.is_empty() { 0 } else { 10_000 },
        })
    }
}

impl Backend for Flexsc {
    fn capacity(&self) -> usize {
        self.pages.capacity()
    }

    unsafe fn submit(&mut self, token: u32, call: Call) {
        // SAFETY: the caller's promise.
        let slot = unsafe { self.pages.stage(call) };
        let slot = slot.expect("no more calls in flight than there are entries");
        self.tokens[slot.index()] = token;
    }

    fn ready(&mut self) -> Option<(u32, i64)> {
        let done = self.pages.poll()?;
        Some((self.tokens[done.slot.index()], done.result))
    }

    fn wait(&mut self) -> Result<(), Error> {
        if self.patience > 0 {
            self.pages.ring();
            if !self.pages.needs_kick() {
                for _ in 0..self.patience {
                    if self.pages.has_result() {
                        return Ok(());
                    }
                    hint::spin_loop();
                }
            }
        }
        // Waits for most of the calls, so that the next batch is large and one slow call
        // does not hold up the others.
        let enough = (self.pages.in_flight() * 3 / 4).max(1) as u32;
        self.waits += 1;
        match self.pages.wait(Wait::some(enough)) {
            Ok(_) | Err(Error::Interrupted) => Ok(()),
            Err(error) => Err(error),
        }
    }

    fn in_flight(&self) -> usize {
        self.pages.in_flight()
    }

    fn waits(&self) -> u64 {
        self.waits
    }

    fn stats(&self) -> Result<Option<Stats>, Error> {
        self.engine.stats().map(Some)
    }

    fn fallbacks(&self) -> u64 {
        self.pages.fallbacks()
    }
}

/// Plain calls, which are made at once. Results are kept in order.
pub struct Plain {
    results: VecDeque<(u32, i64)>,
    capacity: usize,
}

impl Plain {
    /// Makes a backend with room for as many results as `pages` syscall pages hold.
    pub fn new(pages: u32) -> Self {
        let capacity = pages as usize * flexsc::abi::FLEXSC_PAGE_ENTRIES as usize;
        Plain {
            results: VecDeque::with_capacity(capacity),
            capacity,
        }
    }
}

impl Backend for Plain {
    fn capacity(&self) -> usize {
        self.capacity
    }

    unsafe fn submit(&mut self, token: u32, call: Call) {
        // SAFETY: the caller's promise.
        let result = unsafe { call.make() };
        self.results.push_back((token, result));
    }

    fn ready(&mut self) -> Option<(u32, i64)> {
        self.results.pop_front()
    }

    fn wait(&mut self) -> Result<(), Error> {
        Ok(())
    }

    fn in_flight(&self) -> usize {
        self.results.len()
    }

    fn waits(&self) -> u64 {
        0
    }

    fn stats(&self) -> Result<Option<Stats>, Error> {
        Ok(None)
    }

    fn fallbacks(&self) -> u64 {
        0
    }
}
