// SPDX-License-Identifier: MIT OR Apache-2.0
//! Calls posted in syscall pages.

use std::hint;
use std::io;

use flexsc::{Call, Engine, Pages, Param, Wait};

use super::Backend;
use crate::request::Request;

/// Who executes what is posted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum By {
    /// The thread that waits for it.
    Waiter,
    /// A syscall thread.
    Thread,
    /// A syscall thread that polls on this CPU.
    Spinner(usize),
}

/// Syscall pages of this thread.
#[derive(Debug)]
pub struct Flexsc {
    engine: Engine,
    pages: Pages,
    by: By,
}

fn failed(error: flexsc::Error) -> io::Error {
    io::Error::other(error)
}

impl Flexsc {
    /// With room for `calls` at a time.
    ///
    /// # Errors
    ///
    /// The engine says why it cannot be used.
    pub fn new(calls: usize, by: By) -> io::Result<Flexsc> {
        let engine = Engine::open().map_err(failed)?;
        if let By::Spinner(cpu) = by {
            engine.set(Param::SpinCpus, 1 << cpu).map_err(failed)?;
        }
        let pages = engine
            .register(calls.div_ceil(64).max(1) as u32)
            .map_err(failed)?;
        Ok(Flexsc { engine, pages, by })
    }

    /// Posts the calls without waiting for them.
    ///
    /// # Safety
    ///
    /// The requests' pointers are good until the results have been taken.
    ///
    /// # Errors
    ///
    /// They are more than there is room for.
    #[inline(always)]
    pub unsafe fn post(
        &mut self,
        count: usize,
        request: impl Fn(usize) -> Request,
    ) -> io::Result<()> {
        for index in 0..count {
            let raw = request(index).raw();
            let mut call = Call::new(raw.nr as u16, raw.args);
            if self.by == By::Thread {
                call = call.asynchronous();
            }
            // SAFETY: the caller's promise.
            if unsafe { self.pages.stage(call) }.is_none() {
                return Err(io::Error::other("no entry is free"));
            }
        }
        Ok(())
    }

    /// Has what was posted begun, and does not wait for it.
    ///
    /// # Errors
    ///
    /// The engine's.
    pub fn begin(&mut self) -> io::Result<()> {
        self.pages.wait(Wait::none()).map(drop).map_err(failed)
    }

    /// The most calls that were ever blocked at once.
    ///
    /// # Errors
    ///
    /// The engine's.
    pub fn blocked(&self) -> io::Result<usize> {
        let stats = self.engine.stats().map_err(failed)?;
        Ok(stats.max_blocked as usize)
    }

    /// Waits for `count` results and takes them.
    ///
    /// # Errors
    ///
    /// The engine's.
    #[inline(always)]
    pub fn take(&mut self, count: usize, mut take: impl FnMut(i64)) -> io::Result<()> {
        if let By::Spinner(_) = self.by {
            self.pages.ring();
            if self.pages.needs_kick() {
                self.pages.kick().map_err(failed)?;
            }
            let mut left = count;
            while left > 0 {
                match self.pages.poll() {
                    Some(done) => {
                        take(done.result);
                        left -= 1;
                    }
                    None => hint::spin_loop(),
                }
            }
            return Ok(());
        }
        self.pages.wait(Wait::all()).map_err(failed)?;
        while let Some(done) = self.pages.poll() {
            take(done.result);
        }
        Ok(())
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
