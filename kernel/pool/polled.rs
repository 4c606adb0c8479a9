// SPDX-License-Identifier: GPL-2.0

//! Polled CPUs: the CPUs on which a poller watches the doorbells, and the sleep of pollers that
//! find nothing.
//!
//! There are three sets: CPUs that the program asks for (POLL_CPUS), CPUs that were recruited for a
//! backlog (EXTRA_POLLERS), and CPUs that may be polled now: online and in the cpuset. A CPU that
//! must not be polled now stays in the first set, and is polled again as soon as it may be.

use super::{
    backlog::Backlog,
    table::{Inner, State},
    Pool,
};
use crate::{
    defs::Bits,
    sys::{lock::Guard, process},
};
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};

// ORDERING: Read again in each round of polling, and under the lock before a decision.
const RELAXED: Ordering = Ordering::Relaxed;

/// The CPUs to be polled.
#[derive(Default)]
pub(super) struct PolledCpus {
    /// POLL_CPUS.
    wished: AtomicU64,
    /// Changed under the pool's lock.
    recruited: AtomicU64,
    /// EXTRA_POLLERS.
    extra: AtomicU32,
    backlog: Backlog,
}

impl PolledCpus {
    pub(super) fn wanted(&self) -> u64 {
        self.wished.load(RELAXED) | self.recruited.load(RELAXED)
    }
}

/// Pollers.
impl Pool {
    /// POLL_CPUS.
    pub(crate) fn wished_cpus(&self) -> u64 {
        self.polled.wished.load(RELAXED)
    }

    /// EXTRA_POLLERS.
    pub(crate) fn extra_pollers(&self) -> u32 {
        self.polled.extra.load(RELAXED)
    }

    /// Returns true if `cpu` should be polled.
    pub(crate) fn wants_poller(&self, cpu: u32) -> bool {
        self.polled.wanted() & (1 << cpu) != 0
    }

    /// Returns the CPUs that may be polled, none if no polling is wanted. Not for the hook.
    pub(crate) fn may_poll(&self) -> u64 {
        if self.wants_pollers() {
            process::allowed_cpus()
        } else {
            0
        }
    }

    /// Returns true if any CPU should be polled.
    pub(crate) fn wants_pollers(&self) -> bool {
        self.polled.wanted() != 0
    }

    /// Returns the CPUs that should be polled, may be polled, and have no poller.
    pub(super) fn vacant(&self, inner: &Inner, may_poll: u64) -> u64 {
        self.polled.wanted() & may_poll & !inner.pollers.cpus()
    }

    /// See [`Self::vacant`].
    pub(super) fn has_vacant_cpu(&self, may_poll: u64) -> bool {
        may_poll != 0 && self.vacant(&self.lock(), may_poll) != 0
    }

    /// Sets the CPUs to be polled, all of which may be polled. Returns how many threads are
    /// missing.
    pub(crate) fn set_wished_cpus(&self, wish: u64) -> u32 {
        let mut inner = self.lock();
        self.polled.wished.store(wish, RELAXED);
        self.polled.recruited.fetch_and(!wish, RELAXED);
        self.wake_pollers_locked(&mut inner);
        let mut missing = self.vacant(&inner, wish).count_ones();
        while missing != 0 && inner.wake_idle() {
            missing -= 1;
        }
        missing
    }

    /// Sets how many CPUs may be recruited. If there are too many, some are released when they
    /// idle.
    pub(crate) fn set_extra_pollers(&self, extra: u32) {
        let mut inner = self.lock();
        self.polled.extra.store(extra, RELAXED);
        if extra == 0 {
            let released = self.polled.recruited.swap(0, RELAXED).count_ones();
            inner.counters.pollers.released += u64::from(released);
            self.wake_pollers_locked(&mut inner);
        }
    }

    /// Returns the CPUs with a poller, asleep or not.
    pub(crate) fn polled_cpus(&self) -> u64 {
        self.lock().pollers.cpus()
    }

    /// Wakes all sleeping pollers. Returns true if there is any poller.
    pub(crate) fn wake_pollers(&self) -> bool {
        let mut inner = self.lock();
        self.wake_pollers_locked(&mut inner);
        inner.pollers.cpus() != 0
    }

    fn wake_pollers_locked(&self, inner: &mut Guard<'_, Inner>) {
        for cpu in Bits(inner.pollers.cpus()) {
            inner.wake_poller(cpu);
        }
    }

    /// Notes that thread `i` stops polling `cpu`, unless another thread has taken over. Returns
    /// false if this leaves no poller and programs must be told.
    pub(crate) fn end_polling(&self, i: u32, cpu: u32) -> bool {
        let mut inner = self.lock();
        // If a thread dies in a call, another one took over when the first one blocked.
        if matches!(inner.state(i), State::Polling | State::PollerAsleep(_)) {
            inner.pollers.end(cpu);
        }
        inner.set_state(i, State::Woken);
        !inner.lost_poller()
    }

    /// Notes whether a check `found` posted entries that no task executes. Returns true if
    /// several checks in a row did, and a CPU may be recruited.
    pub(crate) fn note_backlog(&self, found: bool) -> bool {
        self.polled.backlog.note(found)
            && self.polled.recruited.load(RELAXED).count_ones() < self.extra_pollers()
    }

    /// Recruits a CPU of `usable`, `favourite` if possible. One CPU is always left to the program.
    pub(crate) fn recruit(&self, usable: u64, favourite: u32) {
        let mut inner = self.lock();
        let free = usable & !self.polled.wanted() & !inner.pollers.cpus();
        let recruited = self.polled.recruited.load(RELAXED);
        if recruited.count_ones() >= self.extra_pollers() || free.count_ones() < 2 {
            return;
        }
        let cpu = if free & (1u64.checked_shl(favourite).unwrap_or(0)) != 0 {
            favourite
        } else {
            free.checked_ilog2().unwrap_or(favourite)
        };
        self.polled.backlog.forget();
        self.polled.recruited.store(recruited | (1 << cpu), RELAXED);
        if inner.wake_idle() {
            inner.counters.pollers.recruited += 1;
        } else {
            // No thread is available to poll the CPU.
            self.polled.recruited.store(recruited, RELAXED);
        }
    }

    /// Notes that `cpu` has nothing to do. Returns true if it was recruited and is now released.
    pub(crate) fn release(&self, cpu: u32) -> bool {
        if self.polled.recruited.load(RELAXED) & (1 << cpu) == 0 {
            return false;
        }
        let mut inner = self.lock();
        let old = self.polled.recruited.fetch_and(!(1 << cpu), RELAXED);
        let was = old & (1 << cpu) != 0;
        inner.counters.pollers.released += u64::from(was);
        was
    }

    /// Puts thread `i`, poller of `cpu`, to sleep after `rounds` idle rounds. If no other one is
    /// awake, it first calls `ask_for_kicks`. The thread does not sleep if `look` finds something
    /// to do afterwards.
    pub(crate) fn sleep_as_poller(
        &self,
        i: u32,
        cpu: u32,
        rounds: u64,
        ask_for_kicks: impl FnOnce(),
        look: impl Fn() -> bool,
    ) {
        let last = {
            let mut inner = self.lock();
            inner.counters.pollers.rounds += rounds;
            inner.counters.pollers.sleeps += 1;
            inner.set_state(i, State::PollerAsleep(cpu));
            inner.lost_poller()
        };
        if last {
            ask_for_kicks();
        }
        loop {
            process::sleep_prepare();
            let awake = self.lock().state(i) == State::Polling;
            let stay = awake
                || self.is_stopping()
                || process::signal_pending()
                || !self.wants_poller(cpu)
                || self.has_work()
                || look();
            if stay {
                process::sleep_cancel();
                break;
            }
            process::sleep(None);
        }
        self.lock().set_state(i, State::Polling);
    }
}
