// SPDX-License-Identifier: MIT OR Apache-2.0
//! Calls posted in syscall pages.

use std::hint;
use std::io;

use flexsc::{Call, CpuSet, Engine, Pages, Wait};

use super::Backend;
use crate::request::{Raw, Request};

/// The executor of the posted calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum By {
    /// The waiting thread.
    Waiter,
    /// The waiting thread, which waits by the ioctl instead of flexsc_wait(2).
    WaiterByIoctl,
    /// A syscall thread.
    Thread,
    /// A poller on this CPU.
    Poller(usize),
}

/// Syscall pages of this thread.
#[derive(Debug)]
pub struct Flexsc {
    engine: Engine,
    pages: Pages,
    by: By,
}

/// Converts an error of the crate.
pub fn failed(error: flexsc::Error) -> io::Error {
    io::Error::other(error)
}

/// Entries of a syscall page.
const ENTRIES: usize = flexsc::abi::FLEXSC_PAGE_ENTRIES as usize;

/// Makes a call with only the arguments that it has.
#[inline(always)]
pub fn call_of(request: Request) -> Call {
    let Raw { nr, args, used } = request.raw();
    let [a, b, c, d, e, f] = args;
    match used {
        0 => Call::with_args(nr, []),
        1 => Call::with_args(nr, [a]),
        2 => Call::with_args(nr, [a, b]),
        3 => Call::with_args(nr, [a, b, c]),
        4 => Call::with_args(nr, [a, b, c, d]),
        _ => Call::with_args(nr, [a, b, c, d, e, f]),
    }
}

impl Flexsc {
    /// Makes a backend with room for `calls` at a time.
    ///
    /// # Errors
    ///
    /// The engine cannot be used.
    pub fn new(calls: usize, by: By) -> io::Result<Flexsc> {
        let engine = Engine::open().map_err(failed)?;
        if let By::Poller(cpu) = by {
            let cpus = CpuSet::from_iter([cpu as u16]);
            engine.set_poll_cpus(&cpus).map_err(failed)?;
        }
        let mut pages = engine
            .register(calls.div_ceil(ENTRIES).max(1) as u32)
            .map_err(failed)?;
        pages.set_wait_by_ioctl(by == By::WaiterByIoctl);
        Ok(Flexsc { engine, pages, by })
    }

    /// The engine, to be set up.
    #[must_use]
    pub fn engine(&self) -> &Engine {
        &self.engine
    }

    /// The pages.
    pub fn pages(&mut self) -> &mut Pages {
        &mut self.pages
    }

    /// Posts the calls without waiting for them.
    ///
    /// # Safety
    ///
    /// The pointers of the requests must be valid until the results are taken.
    ///
    /// # Errors
    ///
    /// There is no room for all of them.
    #[inline(always)]
    pub unsafe fn post(
        &mut self,
        count: usize,
        request: impl Fn(usize) -> Request,
    ) -> io::Result<()> {
        if self.by == By::Thread {
            // SAFETY: the caller's promise.
            unsafe { self.stage(count, |index| call_of(request(index)).asynchronous()) }
        } else {
            // SAFETY: the caller's promise.
            unsafe { self.stage(count, |index| call_of(request(index))) }
        }
    }

    /// Like [`Flexsc::post`], for calls instead of requests.
    ///
    /// # Safety
    ///
    /// As for [`Flexsc::post`].
    ///
    /// # Errors
    ///
    /// There is no room for all of them.
    #[inline(always)]
    pub unsafe fn stage(&mut self, count: usize, call: impl Fn(usize) -> Call) -> io::Result<()> {
        for index in 0..count {
            // SAFETY: the caller's promise.
            if unsafe { self.pages.stage(call(index)) }.is_none() {
                return Err(io::Error::other("no entry is free"));
            }
        }
        Ok(())
    }

    /// Starts the posted calls without waiting for them.
    ///
    /// # Errors
    ///
    /// Those of the engine.
    pub fn begin(&mut self) -> io::Result<()> {
        self.pages.wait(Wait::none()).map(drop).map_err(failed)
    }

    /// Returns how many calls were blocked at once or were parked.
    ///
    /// # Errors
    ///
    /// Those of the engine.
    pub fn blocked(&self) -> io::Result<usize> {
        let stats = self.engine.stats().map_err(failed)?;
        Ok((stats.peak_blocked + stats.parked) as usize)
    }

    /// Waits for `count` results and takes them.
    ///
    /// # Errors
    ///
    /// Those of the engine.
    #[inline(always)]
    pub fn take(&mut self, count: usize, mut take: impl FnMut(i64)) -> io::Result<()> {
        if let By::Poller(_) = self.by {
            return self.take_polling(count, take);
        }
        self.pages.wait(Wait::all()).map_err(failed)?;
        for done in self.pages.drain() {
            take(done.result);
        }
        Ok(())
    }

    /// Like [`Flexsc::take`], for calls that a poller executes: makes no trap while the
    /// poller is awake.
    ///
    /// # Errors
    ///
    /// Those of the engine.
    #[inline(always)]
    pub fn take_polling(&mut self, count: usize, mut take: impl FnMut(i64)) -> io::Result<()> {
        self.pages.ring();
        let mut left = count;
        loop {
            let before = left;
            for done in self.pages.drain() {
                take(done.result);
                left -= 1;
            }
            if left == 0 {
                return Ok(());
            }
            if left == before {
                // The poller may have fallen asleep.
                if self.pages.needs_kick() {
                    self.pages.kick().map_err(failed)?;
                }
                hint::spin_loop();
            }
        }
    }
}

impl Backend for Flexsc {
    #[inline(always)]
    unsafe fn batch(
        &mut self,
        count: usize,
        request: impl Fn(usize) -> Request,
        take: impl FnMut(i64),
    ) -> io::Result<()> {
        // SAFETY: the caller's promise; the results are taken below.
        unsafe { self.post(count, request) }?;
        self.take(count, take)
    }
}
