// SPDX-License-Identifier: MIT OR Apache-2.0
//! Opens an engine with settings.

use std::path::PathBuf;
use std::time::Duration;

use crate::engine::DEVICE;
use crate::{CpuSet, Engine, Error, Order, Param};

/// Settings of an [`Engine`] that is to be opened: see [`Engine::builder`].
#[derive(Clone, Debug)]
#[must_use = "settings do nothing until the engine is opened"]
pub struct EngineBuilder {
    path: PathBuf,
    params: Vec<(Param, u64)>,
    poll_cpus: Option<CpuSet>,
}

/// A number of the kernel's, at most its largest.
fn number(value: u128) -> u64 {
    u64::try_from(value).unwrap_or(u64::MAX)
}

impl EngineBuilder {
    pub(crate) fn new() -> Self {
        EngineBuilder {
            path: DEVICE.into(),
            params: Vec::new(),
            poll_cpus: None,
        }
    }

    /// The device, instead of [`DEVICE`].
    pub fn path(mut self, path: impl Into<PathBuf>) -> Self {
        self.path = path.into();
        self
    }

    /// Sets a parameter, as [`Engine::set`].
    pub fn param(mut self, param: Param, value: u64) -> Self {
        self.params.push((param, value));
        self
    }

    /// The CPUs whose pollers watch the doorbells, as [`Engine::set_poll_cpus`].
    pub fn poll_cpus(mut self, cpus: CpuSet) -> Self {
        self.poll_cpus = Some(cpus);
        self
    }

    /// How long a poller finds nothing before it sleeps ([`Param::IdleNs`]).
    pub fn idle(self, time: Duration) -> Self {
        self.param(Param::IdleNs, number(time.as_nanos()))
    }

    /// Maximum number of syscall threads ([`Param::MaxThreads`]).
    pub fn max_threads(self, count: u64) -> Self {
        self.param(Param::MaxThreads, count)
    }

    /// How long a syscall thread is idle before it ends ([`Param::RetireMs`]).
    pub fn retire(self, time: Duration) -> Self {
        self.param(Param::RetireMs, number(time.as_millis()))
    }

    /// Number of pollers that may be recruited for a backlog ([`Param::ExtraPollers`]).
    pub fn extra_pollers(self, count: u64) -> Self {
        self.param(Param::ExtraPollers, count)
    }

    /// The order in which the calls of a batch start ([`Param::Order`]).
    pub fn order(self, order: Order) -> Self {
        self.param(Param::Order, order as u64)
    }

    /// Maximum number of rounds of a chain's loop ([`Param::LoopMax`]).
    pub fn loop_max(self, rounds: u64) -> Self {
        self.param(Param::LoopMax, rounds)
    }

    /// Opens the engine.
    ///
    /// # Errors
    ///
    /// Those of [`Engine::open`], [`Engine::set`] and [`Engine::set_poll_cpus`].
    pub fn open(self) -> Result<Engine, Error> {
        let engine = Engine::open_path(&self.path)?;
        for (param, value) in self.params {
            engine.set(param, value)?;
        }
        if let Some(cpus) = &self.poll_cpus {
            engine.set_poll_cpus(cpus)?;
        }
        Ok(engine)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_those_of_the_device() {
        let all = Engine::builder()
            .idle(Duration::from_micros(5))
            .retire(Duration::MAX)
            .max_threads(7)
            .extra_pollers(1)
            .order(Order::IoFirst)
            .loop_max(9);
        let expected = [
            (Param::IdleNs, 5000),
            (Param::RetireMs, u64::MAX),
            (Param::MaxThreads, 7),
            (Param::ExtraPollers, 1),
            (Param::Order, Order::IoFirst as u64),
            (Param::LoopMax, 9),
        ];
        assert_eq!(all.params, expected);
    }

    #[test]
    fn a_device_that_is_not_there_is_absent() {
        let error = Engine::builder()
            .path("/nowhere/flexsc")
            .open()
            .unwrap_err();
        assert!(error.is_absent(), "{error}");
    }
}
