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
    /// Counters of one engine since it was opened, and its present sizes.
    Stats: flexsc_stats;

    /// Entries that the kernel accepted.
    posted,
    /// Entries that the waiting thread executed itself.
    inline_done,
    /// Entries that syscall threads executed.
    thread_done,
    /// Entries that were refused.
    refused,
    /// Times that an executing thread blocked and another went on.
    handoffs,
    /// KICK calls.
    kicks,
    /// WAIT calls.
    waits,
    /// Times that a WAIT call had to sleep.
    sleeps,
    /// Polls of the doorbells by kernel cores that found nothing.
    spin_rounds,
    /// Times that a kernel core gave up polling and slept.
    spin_sleeps,
    /// Syscall threads now.
    threads,
    /// Of these, idle.
    threads_idle,
    /// Syscall threads created so far.
    threads_created,
    /// Syscall threads that ended for want of work.
    threads_retired,
    /// Syscall threads that could not be created.
    create_failed,
    /// Most syscall threads that were ever taking entries at once.
    max_active,
    /// Most calls that were ever blocked at once.
    max_blocked,
    /// Syscall pages now.
    pages,
    /// CANCEL calls that found their call.
    cancels,
    /// Chains executed to their end or failure.
    chains,
    /// Rounds of loops, the first of each not counted.
    loop_rounds,
    /// Kernel cores that poll now, awake or not.
    spin_cpus,
    /// Times that a kernel core was recruited for a backlog.
    recruited,
    /// Times that a recruited core was given back.
    released,
    /// Pools now.
    pools,
}

stats! {
    /// Counters of one pool, and its present sizes.
    PoolStats: flexsc_pool_stats;

    /// Mask of the CPUs that its threads run on.
    cpus,
    /// Threads that may be active at once.
    active_limit,
    /// Nice value of its threads, as i64.
    nice,
    /// Entries that its threads have executed.
    executed,
    /// Times that an executing thread blocked and another went on.
    handoffs,
    /// Its threads now.
    threads,
    /// Of these, idle.
    threads_idle,
    /// Threads created so far.
    threads_created,
    /// Threads that ended for want of work.
    threads_retired,
    /// Threads that could not be created.
    create_failed,
    /// Most threads that were ever taking entries at once.
    max_active,
    /// Most calls that were ever blocked at once.
    max_blocked,
    /// Threads that are active now.
    active,
    /// Threads that are blocked in a call now.
    blocked,
    /// Registrations that wait for a thread now.
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
