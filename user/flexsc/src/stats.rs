// SPDX-License-Identifier: MIT OR Apache-2.0
//! Counters of an engine and of its pools.

use crate::sys::abi::{flexsc_pool_stats, flexsc_stats};

macro_rules! stats {
    ($(#[$about:meta])* $name:ident: $raw:ident; $($(#[$doc:meta])* $field:ident,)*) => {
        $(#[$about])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        #[non_exhaustive]
        pub struct $name {
            $($(#[$doc])* pub $field: u64,)*
        }

        impl $name {
            pub(crate) fn from_raw(raw: &$raw) -> $name {
                $name { $($field: raw.$field,)* }
            }

            /// Name and value of each field, in the header's order.
            pub fn fields(&self) -> impl Iterator<Item = (&'static str, u64)> + use<> {
                [$((stringify!($field), self.$field),)*].into_iter()
            }
        }
    };
}

stats! {
    /// Counters of an engine since it was opened, and its current sizes.
    Stats: flexsc_stats;

    /// Entries that the kernel accepted.
    posted,
    /// Entries that the waiting thread executed itself.
    inline_done,
    /// Entries that syscall threads executed.
    thread_done,
    /// Entries that were refused.
    refused,
    /// Number of times an executing thread blocked and another one took over.
    handoffs,
    /// KICK calls.
    kicks,
    /// WAIT calls.
    waits,
    /// WAIT calls that had to sleep.
    sleeps,
    /// Rounds of pollers over the doorbells that found nothing.
    idle_polls,
    /// Number of times a poller went to sleep.
    poller_sleeps,
    /// Current syscall threads.
    threads,
    /// How many of these are idle.
    threads_idle,
    /// Syscall threads created so far.
    threads_created,
    /// Syscall threads that ended because there was no work.
    threads_retired,
    /// Syscall threads that could not be created.
    create_failed,
    /// Peak number of syscall threads that executed entries at once.
    peak_running,
    /// Peak number of calls that were blocked at once.
    peak_blocked,
    /// Current syscall pages.
    pages,
    /// CANCEL calls that found their call.
    cancels,
    /// Chains executed to their end or failure.
    chains,
    /// Rounds of loops, not counting the first round of each loop.
    loop_rounds,
    /// Current pollers, awake or asleep, including recruited ones.
    pollers,
    /// Number of times a poller was recruited for a backlog.
    pollers_recruited,
    /// Number of times a recruited poller was released.
    pollers_released,
    /// Current pools.
    pools,
    /// Number of times a call was parked, to wait for its file without a thread.
    parked,
    /// Number of times a file has woken a parked call.
    woken,
    /// How many of these wake-ups were spurious, so that the call had to wait again.
    woken_in_vain,
    /// Exclusive wake-ups that parked calls passed on to other waiters.
    passed_on,
    /// Number of times the time of a parked call expired.
    timed_out,
}

stats! {
    /// Counters of a pool, and its current sizes.
    PoolStats: flexsc_pool_stats;

    /// Number of CPUs that its threads run on. [`Engine::pool_cpus`](crate::Engine::pool_cpus)
    /// returns the set.
    cpus,
    /// Its concurrency limit.
    concurrency,
    /// Nice value of its threads, as an i64.
    nice,
    /// Entries that its threads have executed.
    executed,
    /// Number of times an executing thread blocked and another one took over.
    handoffs,
    /// Its current threads.
    threads,
    /// How many of these are idle.
    threads_idle,
    /// Threads created so far.
    threads_created,
    /// Threads that ended because there was no work.
    threads_retired,
    /// Threads that could not be created.
    create_failed,
    /// Peak number of threads that executed entries at once.
    peak_running,
    /// Peak number of calls that were blocked at once.
    peak_blocked,
    /// Threads that are executing entries.
    running,
    /// Threads that are blocked in a call.
    blocked,
    /// Registrations that wait for a thread.
    queued,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_counter_of_the_header_is_there() {
        let words = size_of::<flexsc_stats>() / size_of::<u64>() - 1;
        assert_eq!(Stats::default().fields().count(), words);
        let words = size_of::<flexsc_pool_stats>() / size_of::<u64>() - 1;
        assert_eq!(PoolStats::default().fields().count(), words);
    }

    #[test]
    fn fields_keep_their_names() {
        let raw = flexsc_stats {
            handoffs: 5,
            ..Default::default()
        };
        let stats = Stats::from_raw(&raw);
        assert!(stats.fields().any(|field| field == ("handoffs", 5)));
    }
}
