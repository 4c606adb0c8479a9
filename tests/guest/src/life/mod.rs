// SPDX-License-Identifier: MIT OR Apache-2.0
//! Life and death: whatever ends, nothing is left behind and nothing hangs.

pub mod borrowed;
pub mod charges;
pub mod closing;
pub mod death;
pub mod exec;
pub mod family;
pub mod holding;
pub mod last;
pub mod leaving;
pub mod limited;
pub mod machine;
pub mod paying;
pub mod quota;
pub mod rights;
pub mod stopped;

use std::os::fd::OwnedFd;
use std::time::Duration;

use crate::check::Check;
use crate::kit::engine::Engine;
use crate::kit::files::{BlockedReads, pipe};
use crate::kit::limits::many;
use crate::kit::mode::Mode;
use crate::kit::ring::Ring;
use crate::kit::{in_some_try, in_time};

/// An engine with many calls in flight.
pub struct Busy {
    pub engine: Engine,
    pub ring: Ring,
    reads: BlockedReads,
    slots: Vec<usize>,
    /// The pipe; its read end stays open for the calls in flight.
    to: OwnedFd,
    _from: OwnedFd,
}

/// How long REGISTER waits at a limit for what is about to be given back.
const WAITS: Duration = Duration::from_secs(2);

/// Opens an engine and registers a page, at a limit that allows this only once the engine before it
/// has given everything back. REGISTER must not fail sooner than after [`WAITS`]. After that time
/// this tries again: a machine that stands still gives back late.
pub fn start_in_turn(mode: Mode) -> Check<(Engine, Ring)> {
    let mut started = None;
    in_some_try("what was given back within two seconds", |_| {
        in_time(WAITS, || {
            started = Some(mode.start(1)?);
            Ok(())
        })
    })?;
    Ok(started.expect("a try has succeeded"))
}

/// Ends an engine and its pages, in one order or in the other.
pub fn end_in_turn(round: u32, engine: Engine, ring: Ring) {
    if round % 2 == 0 {
        drop(ring);
        drop(engine);
    } else {
        drop(engine);
        drop(ring);
    }
}

impl Busy {
    /// 60 blocked reads of a pipe, in a page with four free entries; fewer on a slow kernel.
    pub fn start(mode: Mode) -> Check<Busy> {
        let (engine, mut ring) = mode.start(1)?;
        let (from, to) = pipe()?;
        let reads = BlockedReads::new(&from, many(60));
        let slots = ring.post_blocked(&reads.calls())?;
        Ok(Busy {
            engine,
            ring,
            reads,
            slots,
            to,
            _from: from,
        })
    }

    /// A call beside the blocked ones.
    pub fn call(&mut self) -> Check {
        let done = self.ring.run(call!(SYS_getpid))?;
        check_ret!(
            "getpid beside blocked calls",
            done.result,
            std::process::id()
        );
        Ok(())
    }

    /// Releases the reads and checks their data.
    pub fn end(mut self) -> Check {
        self.reads.release(&self.to)?;
        for done in self.ring.finish(&self.slots)? {
            check_ret!("read", done.result, 2);
        }
        self.reads.check()
    }
}
