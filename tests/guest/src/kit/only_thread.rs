// SPDX-License-Identifier: MIT OR Apache-2.0
//! An engine whose only syscall thread is blocked, so that no thread takes over anything.

use std::os::fd::OwnedFd;

use super::abi::Param;
use super::engine::Engine;
use super::files::{BlockedReads, pipe};
use super::ring::{Call, Ring};
use crate::check::Check;

/// The read in which the thread is blocked.
pub struct OnlyThread {
    ring: Ring,
    reads: BlockedReads,
    slots: Vec<usize>,
    _from: OwnedFd,
    to: OwnedFd,
}

impl OnlyThread {
    /// Allows the engine one thread, and blocks it.
    pub fn block(engine: &Engine) -> Check<OnlyThread> {
        engine.set(Param::MaxThreads, 1)?;
        let (from, to) = pipe()?;
        let reads = BlockedReads::new(&from, 1);
        let mut ring = engine.ring(1)?;
        // With ASYNC a thread waits in the read.
        let calls: Vec<_> = reads.calls().into_iter().map(Call::asynchronous).collect();
        let slots = ring.post_blocked(&calls)?;
        engine.until_pool(0, "the only thread blocked", |pool| pool.blocked == 1)?;
        Ok(OnlyThread {
            ring,
            reads,
            slots,
            _from: from,
            to,
        })
    }

    /// Lets the read end.
    pub fn release(mut self) -> Check {
        self.reads.release(&self.to)?;
        self.ring.finish(&self.slots)?;
        self.reads.check()
    }
}
