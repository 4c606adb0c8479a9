// SPDX-License-Identifier: MIT OR Apache-2.0
//! Counters of an engine.

use crate::sys::abi::flexsc_stats;

macro_rules! stats {
    ($($(#[$doc:meta])* $field:ident,)*) => {
        /// Counters of one engine since it was opened, and its present sizes.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        #[non_exhaustive]
        pub struct Stats {
            $($(#[$doc])* pub $field: u64,)*
        }

        impl Stats {
            pub(crate) fn from_raw(raw: &flexsc_stats) -> Stats {
                Stats { $($field: raw.$field,)* }
            }

            /// Name and value of each field, in the header's order.
            pub fn fields(&self) -> impl Iterator<Item = (&'static str, u64)> + use<> {
                [$((stringify!($field), self.$field),)*].into_iter()
            }
        }
    };
}

stats! {
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
    /// Most syscall threads that were ever executing at once in one pool.
    max_active,
    /// Most calls that were ever blocked at once.
    max_blocked,
    /// Syscall pages now.
    pages,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_counter_of_the_header_is_there() {
        let words = size_of::<flexsc_stats>() / size_of::<u64>() - 1;
        assert_eq!(Stats::default().fields().count(), words);
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
