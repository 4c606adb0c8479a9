// SPDX-License-Identifier: MIT OR Apache-2.0
//! No way of posting a call gets around the checks and records that the kernel makes for a plain
//! one.

pub mod alike;
pub mod answers;
pub mod audit;
pub mod between;
pub mod caller;
pub mod cores;
pub mod domain;
pub mod filters;
pub mod identity;
pub mod idle;
pub mod killed;
pub mod late;
pub mod lsm;
pub mod members;
pub mod owner_ends;
pub mod parked;
pub mod pending;
pub mod terminal;
pub mod thread;
pub mod told;
pub mod traces;

use crate::check::{Check, Ret};
use crate::kit::abi::{self, ENTRY_LINK, Param, REASON_CHAIN, REASON_GUARDED};
use crate::kit::child::in_child;
use crate::kit::engine::Engine;
use crate::kit::mode::Mode;
use crate::kit::ring::{Call, Done, Ring};
use crate::kit::sys;

/// How an entry gets executed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Path {
    Mode(Mode),
    /// As a link of a chain, executed by the owner or by a syscall thread.
    Chain(Mode),
    /// By the threads of a separate pool.
    Pool(Mode),
}

impl Path {
    /// All of them.
    pub const ALL: [Path; 8] = [
        Path::Mode(Mode::Inline),
        Path::Mode(Mode::Async),
        Path::Mode(Mode::Kick),
        Path::Mode(Mode::Poller),
        Path::Chain(Mode::Inline),
        Path::Chain(Mode::Kick),
        Path::Pool(Mode::Inline),
        Path::Pool(Mode::Kick),
    ];

    pub fn mode(self) -> Mode {
        match self {
            Path::Mode(mode) | Path::Chain(mode) | Path::Pool(mode) => mode,
        }
    }

    /// An engine for this path.
    pub fn start(self) -> Check<(Engine, Ring)> {
        let (engine, ring) = self.mode().start(1)?;
        if matches!(self, Path::Pool(_)) {
            ok!("SET of a pool", make_pool(&engine));
        }
        Ok((engine, ring))
    }

    /// The entries for a call: two of them for a chain.
    pub fn entries(self, call: Call) -> Vec<Call> {
        let (mut first, second) = (call, call);
        match self {
            Path::Mode(_) => vec![first],
            Path::Pool(_) => {
                first.pool = 1;
                vec![first]
            }
            Path::Chain(_) => {
                first.flags |= ENTRY_LINK;
                vec![first, second]
            }
        }
    }

    /// Posts a call, in a chain twice, and waits for the results.
    pub fn run(self, ring: &mut Ring, call: Call) -> Check<Vec<Done>> {
        ring.run_all(&self.entries(call))
    }
}

fn make_pool(engine: &Engine) -> Result<u64, nix::errno::Errno> {
    let mut arg = abi::ParamArg::new(Param::PoolConcurrency, 2);
    arg.pool = 1;
    sys::ioctl_with(engine.fd(), abi::IOC_SET, &mut arg)
}

/// Runs a test on every path, each in a process of its own.
pub fn on_each_path(test: impl Fn(Path) -> Check) -> Check {
    on_paths(|_| true, test)
}

/// Runs a test on the paths whose index in [`Path::ALL`] is wanted, each in a process of its own.
pub fn on_paths(wanted: impl Fn(usize) -> bool, test: impl Fn(Path) -> Check) -> Check {
    for (place, path) in Path::ALL.into_iter().enumerate() {
        if !wanted(place) {
            continue;
        }
        in_child(|| test(path)).map_err(|failure| failure.within(format_args!("{path:?}")))?;
    }
    Ok(())
}

/// Checks that a call was not made because a filter or a tracer decides about the call.
pub fn check_guarded(done: &[Done]) -> Check {
    for (place, done) in done.iter().enumerate() {
        let refused = -i64::from(libc::EOPNOTSUPP);
        let cancelled = -i64::from(libc::ECANCELED);
        let good = match done.reason {
            REASON_GUARDED => done.result == refused,
            // Behind another entry that was refused.
            REASON_CHAIN => place != 0 && done.result == cancelled,
            _ => false,
        };
        check!(
            good,
            "guarded call: {} reason {}, expected {} reason {REASON_GUARDED}",
            Ret(done.result),
            done.reason,
            Ret(refused)
        );
    }
    Ok(())
}
