// SPDX-License-Identifier: GPL-2.0

//! Kernel cores: which CPUs poll the doorbells, and the sleep of those that found nothing.

use super::{table::State, Pool};
use crate::sys::process;
use core::sync::atomic::Ordering;

/// Polling kernel cores.
impl Pool {
    /// CPUs that shall poll.
    pub(crate) fn spin_mask(&self) -> u64 {
        self.spin_mask.load(Ordering::Relaxed)
    }

    /// Sets the CPUs that shall poll. The caller provides threads for those that have none.
    pub(crate) fn set_spin_mask(&self, mask: u64) {
        self.spin_mask.store(mask, Ordering::Relaxed);
        self.wake_spinners();
        for _ in 0..mask.count_ones() {
            let mut inner = self.lock();
            if mask & !inner.spinning == 0 {
                break;
            }
            if let Some(i) = inner.pop_idle() {
                inner.activate(i);
                inner.wake(i);
            }
        }
    }

    /// CPUs that shall poll and have no thread that does.
    pub(crate) fn vacant(&self) -> u32 {
        (self.spin_mask() & !self.lock().spinning).count_ones()
    }

    /// Wakes all threads that gave up polling. Returns whether any polls now.
    pub(crate) fn wake_spinners(&self) -> bool {
        let mut inner = self.lock();
        for cpu in 0..u64::BITS {
            if inner.spinning & (1 << cpu) != 0 {
                inner.wake_spinner(cpu);
            }
        }
        inner.spinning != 0
    }

    /// `cpu` can't be used for polling.
    pub(crate) fn spin_failed(&self, cpu: u32) {
        self.spin_mask.fetch_and(!(1 << cpu), Ordering::Relaxed);
    }

    /// The thread no longer polls on `cpu`. Returns whether any other still polls.
    pub(crate) fn spin_end(&self, cpu: u32) -> bool {
        let mut inner = self.lock();
        inner.spinning &= !(1 << cpu);
        inner.spinning != 0
    }

    /// Thread `i` gives up polling on `cpu` and sleeps, unless `look` finds something to do after
    /// the thread was marked as sleeping.
    pub(crate) fn spin_sleep(&self, i: u32, cpu: u32, rounds: u64, look: impl Fn() -> bool) {
        {
            let mut inner = self.lock();
            inner.counters.spin_rounds += rounds;
            inner.counters.spin_sleeps += 1;
            inner.set_state(i, State::SpinSleep(cpu));
            inner.active -= 1;
        }
        loop {
            process::sleep_prepare();
            let awake = self.lock().state(i) == State::Active;
            let stay = awake
                || self.is_stopping()
                || process::signal_pending()
                || self.spin_mask() & (1 << cpu) == 0
                || self.has_work.load(Ordering::Relaxed)
                || look();
            if stay {
                process::sleep_cancel();
                break;
            }
            process::sleep(None);
        }
        let mut inner = self.lock();
        if inner.state(i) != State::Active {
            inner.activate(i);
        }
    }
}
