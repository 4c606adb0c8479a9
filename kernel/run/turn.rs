// SPDX-License-Identifier: GPL-2.0

//! How a loop of entries takes turns with other tasks.

use crate::sys::process;

/// Entries of a loop between two reads of the clock.
const ENTRIES_PER_LOOK: u32 = 16;

/// How long a loop runs before it lets other tasks run: about a time slice of the scheduler.
/// The clock decides, because a task that is alone on its CPU is never asked to reschedule, and
/// a task that is preempted does not notice.
const TURN_NS: u64 = 4_000_000;

/// The time slice of a loop.
pub(super) struct Turn {
    entries: u32,
    since: u64,
}

impl Turn {
    pub(super) fn new() -> Self {
        Turn {
            entries: 0,
            since: process::now_ns(),
        }
    }

    /// Counts one more executed entry. Returns true if the slice is over, and begins the next one.
    pub(super) fn is_over(&mut self) -> bool {
        self.entries += 1;
        if self.entries < ENTRIES_PER_LOOK {
            return false;
        }
        self.entries = 0;
        let now = process::now_ns();
        let over = now.saturating_sub(self.since) >= TURN_NS;
        if over {
            self.since = now;
        }
        over
    }
}
