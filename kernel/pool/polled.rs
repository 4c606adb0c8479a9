// SPDX-License-Identifier: GPL-2.0

//! Kernel cores: which CPUs poll the doorbells, and the sleep of those that found nothing.
//!
//! Three sets: what the program wishes (SPIN_CPUS), what was recruited for a backlog
//! (SPIN_AUTO), and what may poll at the moment: online and in the cpuset. A CPU that may not
//! stays wished for, and polls when it may again.

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

// ORDERING: Read afresh in each round of polling, and again under the lock where it counts.
const RELAXED: Ordering = Ordering::Relaxed;

/// Which CPUs shall poll.
#[derive(Default)]
pub(super) struct PolledCpus {
    /// SPIN_CPUS.
    wished: AtomicU64,
    /// Changed under the pool's lock.
    recruited: AtomicU64,
    /// SPIN_AUTO.
    auto: AtomicU32,
    backlog: Backlog,
}

impl PolledCpus {
    pub(super) fn wanted(&self) -> u64 {
        self.wished.load(RELAXED) | self.recruited.load(RELAXED)
    }
}

/// Polling kernel cores.
impl Pool {
    /// SPIN_CPUS.
    pub(crate) fn wished_cpus(&self) -> u64 {
        self.polled.wished.load(RELAXED)
    }

    /// SPIN_AUTO.
    pub(crate) fn auto_pollers(&self) -> u32 {
        self.polled.auto.load(RELAXED)
    }

    /// Shall `cpu` poll?
    pub(crate) fn wants_poller(&self, cpu: u32) -> bool {
        self.polled.wanted() & (1 << cpu) != 0
    }

    /// CPUs that may poll, if any shall. Not in the scheduler's hook.
    pub(crate) fn may_poll(&self) -> u64 {
        if self.wants_pollers() {
            process::allowed_cpus()
        } else {
            0
        }
    }

    /// Shall any CPU poll?
    pub(crate) fn wants_pollers(&self) -> bool {
        self.polled.wanted() != 0
    }

    /// CPUs that shall and may poll and have no thread that does.
    pub(super) fn vacant(&self, inner: &Inner, may_poll: u64) -> u64 {
        self.polled.wanted() & may_poll & !inner.pollers.cpus()
    }

    /// See [`Self::vacant`].
    pub(super) fn has_vacant_cpu(&self, may_poll: u64) -> bool {
        may_poll != 0 && self.vacant(&self.lock(), may_poll) != 0
    }

    /// Sets the CPUs that shall poll, all of which may. Returns how many threads are missing.
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

    /// Sets how many CPUs may be recruited. Those that are too many go when they idle.
    pub(crate) fn set_auto_pollers(&self, auto: u32) {
        let mut inner = self.lock();
        self.polled.auto.store(auto, RELAXED);
        if auto == 0 {
            let released = self.polled.recruited.swap(0, RELAXED).count_ones();
            inner.counters.pollers.released += u64::from(released);
            self.wake_pollers_locked(&mut inner);
        }
    }

    /// CPUs with a thread that polls, asleep or not.
    pub(crate) fn polled_cpus(&self) -> u64 {
        self.lock().pollers.cpus()
    }

    /// Wakes all threads that gave up polling. Returns whether there is any that polls.
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

    /// Thread `i` no longer polls on `cpu`, unless another one has taken that over. False where
    /// nobody polls any more and programs have to be told.
    pub(crate) fn end_polling(&self, i: u32, cpu: u32) -> bool {
        let mut inner = self.lock();
        // A thread that dies in a call has been succeeded when it blocked there.
        if matches!(inner.state(i), State::Polling | State::PollerAsleep(_)) {
            inner.pollers.end(cpu);
        }
        inner.set_state(i, State::Woken);
        !inner.lost_poller()
    }

    /// A look at what waits: `found` where something was posted that nobody executes. True where
    /// that persists and a core may be recruited for it.
    pub(crate) fn note_backlog(&self, found: bool) -> bool {
        self.polled.backlog.note(found)
            && self.polled.recruited.load(RELAXED).count_ones() < self.auto_pollers()
    }

    /// Has a CPU of `usable` poll, `favourite` if possible. One is always left to the program.
    pub(crate) fn recruit(&self, usable: u64, favourite: u32) {
        let mut inner = self.lock();
        let free = usable & !self.polled.wanted() & !inner.pollers.cpus();
        let recruited = self.polled.recruited.load(RELAXED);
        if recruited.count_ones() >= self.auto_pollers() || free.count_ones() < 2 {
            return;
        }
        let cpu = if free & (1u64.checked_shl(favourite).unwrap_or(0)) != 0 {
            favourite
        } else {
            free.ilog2()
        };
        self.polled.backlog.forget();
        self.polled.recruited.store(recruited | (1 << cpu), RELAXED);
        if inner.wake_idle() {
            inner.counters.pollers.recruited += 1;
        } else {
            // No thread to do it.
            self.polled.recruited.store(recruited, RELAXED);
        }
    }

    /// `cpu` has nothing to do: gives it back where it was recruited.
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

    /// Thread `i` gives up polling on `cpu` after so many `rounds` in vain and sleeps. Where no
    /// other one polls it calls `tell`, so that programs kick. It does not sleep where `look`
    /// finds something to do after that.
    pub(crate) fn sleep_as_poller(
        &self,
        i: u32,
        cpu: u32,
        rounds: u64,
        tell: impl FnOnce(),
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
            tell();
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
