// SPDX-License-Identifier: MIT OR Apache-2.0
//! Timers of the kernel whose signal is for one thread (SIGEV_THREAD_ID, on which SIGEV_THREAD rests):
//! the kernel sends it to the core's thread, and the library passes it on.

use crate::sys::kernel::Info;
use crate::sys::{copy, inside};
use crate::ult::Answer;
use crate::ult::blocking::plain;
use crate::ult::core::Core;
use crate::ult::nr::{EAGAIN, EINVAL, TIMER_CREATE};
use crate::ult::signals::bit;

const MOST: usize = 64;

/// Which timer is for which thread.
pub(crate) struct TimersOfThreads {
    /// Timer, number of the thread.
    rows: [(i32, u32); MOST],
    len: usize,
    signals: u64,
}

impl TimersOfThreads {
    pub(crate) const fn new() -> Self {
        TimersOfThreads {
            rows: [(0, 0); MOST],
            len: 0,
            signals: 0,
        }
    }

    pub(crate) fn clear(&mut self) {
        self.len = 0;
    }

    /// All signals that a timer of a thread has ever had.
    pub(crate) fn signals(&self) -> u64 {
        self.signals
    }

    /// The number of the thread for which a timer's signal is.
    pub(crate) fn target(&self, info: &Info) -> Option<u32> {
        const SI_TIMER: i32 = -2;
        let timer = info.0[2] as i32;
        let mut rows = self.rows[..self.len].iter();
        let row = rows.find(|row| info.code() == SI_TIMER && row.0 == timer)?;
        Some(row.1)
    }

    fn forget(&mut self, timer: i32) {
        if let Some(index) = self.rows[..self.len].iter().position(|row| row.0 == timer) {
            self.len -= 1;
            self.rows[index] = self.rows[self.len];
        }
    }
}

/// timer_create(2)
pub(crate) fn create(args: [u64; 6]) -> Answer {
    const SIGEV_THREAD_ID: u64 = 4;
    if args[1] == 0 {
        return Answer::Plain;
    }
    let Ok(mut event) = copy::read::<[u64; 8]>(args[1]) else {
        return Answer::Plain;
    };
    // Value; signal and kind; thread.
    if event[1] >> 32 != SIGEV_THREAD_ID {
        return Answer::Plain;
    }
    let signal = event[1] as u32;
    let tid = event[2] as u32;
    let found = inside::with(|core| {
        let has_room = core.timers_of_threads.len < MOST;
        (
            core.find(tid).is_some() && (1..=64).contains(&signal),
            has_room,
            core.tid,
        )
    });
    let of_kernel = match found {
        (false, ..) => return Answer::Is(-EINVAL),
        (true, false, _) => return Answer::Is(-EAGAIN),
        (true, true, of_kernel) => of_kernel,
    };
    event[2] = u64::from(of_kernel);
    inside::with(|core| core.expect_timers(signal));
    let result = plain(
        TIMER_CREATE,
        [args[0], event.as_ptr() as u64, args[2], 0, 0, 0],
    );
    if result == 0 {
        if let Ok(timer) = copy::load(args[2]) {
            inside::with(|core| {
                let timers = &mut core.timers_of_threads;
                timers.rows[timers.len] = (timer as i32, tid);
                timers.len += 1;
            });
        }
    }
    Answer::Is(result)
}

/// timer_delete(2)
pub(crate) fn delete(args: [u64; 6]) -> Answer {
    inside::with(|core| core.timers_of_threads.forget(args[0] as i32));
    Answer::Plain
}

impl Core {
    /// From now on the library decides who gets this signal.
    fn expect_timers(&mut self, signal: u32) {
        self.timers_of_threads.signals |= bit(signal);
        let action = self.actions[signal as usize];
        let _ = self.set_action(signal, &action);
        self.sync_mask();
    }
}
