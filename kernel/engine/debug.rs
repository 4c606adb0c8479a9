// SPDX-License-Identifier: GPL-2.0

//! `/sys/kernel/debug/flexsc/TGID-NUMBER`: an engine with its registrations, pools and threads.

use super::Engine;
use crate::{
    pool::{Pool, State},
    sys::{debugfs::Show, lines::Lines},
};
use kernel::fmt;

fn name(state: State) -> &'static str {
    match state {
        State::Free => "free",
        State::Starting => "starting",
        State::Idle => "idle",
        State::Woken => "woken",
        State::Working => "serving",
        State::Polling => "polling",
        State::Blocked => "blocked",
        State::Finishing => "finishing",
        State::Looping => "looping",
        State::PollerAsleep(_) => "sleeping",
    }
}

fn show_threads(pool: &Pool, lines: &Lines) {
    for slot in 0.. {
        // One slot at a time: the scheduler's hook takes the pool's lock.
        match pool.thread(slot) {
            None => break,
            Some((_, State::Free)) => (),
            Some((pid, state)) => lines.write(fmt!(
                "thread {} pool {} {}\n",
                pid,
                pool.number(),
                name(state)
            )),
        }
    }
}

impl Show for Engine {
    fn show(&self, lines: &Lines) {
        self.show_stats(lines);
        self.for_each(|pages| {
            let count = pages.count();
            lines.write(fmt!(
                "registration {} owner {} pages {} ready {} unfinished {}\n",
                pages.id(),
                pages.owner().pid(),
                pages.len(),
                count.ready,
                count.unfinished
            ));
        });
        for pool in self.pools.iter() {
            show_threads(pool, lines);
        }
    }
}
