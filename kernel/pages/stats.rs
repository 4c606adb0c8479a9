// SPDX-License-Identifier: GPL-2.0

//! Statistics of a registration. Owner and syscall threads count separately, so the owner needs no
//! atomic read-modify-write.

use super::Pages;
use crate::sys::park::Counted;
use core::sync::atomic::{AtomicU64, Ordering};

/// Counts of parked calls.
#[derive(Clone, Copy, Default)]
pub(crate) struct ParkTotals {
    /// Number of times a call was parked.
    pub(crate) parked: u64,
    /// Number of times a file woke a parked call.
    pub(crate) woken: u64,
    /// Number of spurious wake-ups: the file was not ready after all.
    pub(crate) woken_in_vain: u64,
    /// Wake-ups that parked calls have passed on.
    pub(crate) passed_on: u64,
    /// Number of times the time of a parked call expired.
    pub(crate) timed_out: u64,
}

/// The counts of a registration.
#[derive(Clone, Copy, Default)]
pub(crate) struct Totals {
    /// Entries accepted.
    pub(crate) posted: u64,
    /// Entries executed by the owner.
    pub(crate) inline_done: u64,
    /// Entries executed by syscall threads.
    pub(crate) thread_done: u64,
    /// Entries finished without being executed.
    pub(crate) refused: u64,
    /// WAIT calls.
    pub(crate) waits: u64,
    /// Number of times the owner slept in WAIT.
    pub(crate) sleeps: u64,
    /// Entries that CANCEL found.
    pub(crate) cancels: u64,
    /// Chains executed.
    pub(crate) chains: u64,
    /// Rounds of loops in chains.
    pub(crate) rounds: u64,
    pub(crate) park: ParkTotals,
}

impl core::ops::AddAssign for Totals {
    fn add_assign(&mut self, other: Self) {
        for (sum, other) in [
            (&mut self.posted, other.posted),
            (&mut self.inline_done, other.inline_done),
            (&mut self.thread_done, other.thread_done),
            (&mut self.refused, other.refused),
            (&mut self.waits, other.waits),
            (&mut self.sleeps, other.sleeps),
            (&mut self.cancels, other.cancels),
            (&mut self.chains, other.chains),
            (&mut self.rounds, other.rounds),
            (&mut self.park.parked, other.park.parked),
            (&mut self.park.woken, other.park.woken),
            (&mut self.park.woken_in_vain, other.park.woken_in_vain),
            (&mut self.park.passed_on, other.park.passed_on),
            (&mut self.park.timed_out, other.park.timed_out),
        ] {
            *sum = sum.wrapping_add(other);
        }
    }
}

/// A number that only the owner changes, so it needs no atomic read-modify-write.
#[derive(Default)]
pub(super) struct OwnCount(AtomicU64);

impl OwnCount {
    #[inline(always)]
    pub(super) fn add(&self, n: u64) {
        // ORDERING: None needed: one writer.
        self.set(self.get().wrapping_add(n));
    }

    #[inline(always)]
    pub(super) fn set(&self, value: u64) {
        self.0.store(value, Ordering::Relaxed);
    }

    #[inline(always)]
    pub(super) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Counts that only the owner changes.
#[derive(Default)]
pub(super) struct OwnerStats {
    pub(super) done: OwnCount,
    pub(super) refused: OwnCount,
    pub(super) waits: OwnCount,
    pub(super) sleeps: OwnCount,
    /// State of the adaptive wait policy, and when it was updated.
    pub(super) rate: OwnCount,
    pub(super) rate_at: OwnCount,
    /// See `slow.rs`.
    pub(super) asleep_since: OwnCount,
}

/// Counts that syscall threads change.
#[derive(Default)]
pub(super) struct WorkerStats {
    pub(super) done: AtomicU64,
    pub(super) refused: AtomicU64,
    pub(super) chains: AtomicU64,
    pub(super) rounds: AtomicU64,
}

/// Counts.
impl Pages {
    #[cold]
    pub(super) fn count_refused(&self, n: u64, by_owner: bool) {
        if by_owner {
            self.owner_stats.refused.add(n);
        } else {
            self.worker_stats.refused.fetch_add(n, Ordering::Relaxed);
        }
    }

    /// Counts a chain that has ended after `rounds` rounds of its loop.
    pub(crate) fn count_chain(&self, rounds: u64) {
        self.worker_stats.chains.fetch_add(1, Ordering::Relaxed);
        self.worker_stats
            .rounds
            .fetch_add(rounds, Ordering::Relaxed);
    }

    /// Returns the counts so far.
    pub(crate) fn totals(&self) -> Totals {
        let inner = self.inner.lock();
        let others = &self.worker_stats;
        Totals {
            posted: inner.posted,
            inline_done: self.owner_stats.done.get(),
            thread_done: others.done.load(Ordering::Relaxed),
            refused: self
                .owner_stats
                .refused
                .get()
                .wrapping_add(others.refused.load(Ordering::Relaxed)),
            waits: self.owner_stats.waits.get(),
            sleeps: self.owner_stats.sleeps.get(),
            cancels: inner.cancels,
            chains: others.chains.load(Ordering::Relaxed),
            rounds: others.rounds.load(Ordering::Relaxed),
            park: ParkTotals {
                parked: self.parker.counted(Counted::Parked),
                woken: self.parker.counted(Counted::Woken),
                woken_in_vain: self.parker.counted(Counted::Vain),
                passed_on: self.parker.counted(Counted::Passed),
                timed_out: self.parker.counted(Counted::TimedOut),
            },
        }
    }
}
