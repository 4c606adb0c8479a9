// SPDX-License-Identifier: MIT OR Apache-2.0
//! Waits of user-level threads: for words, for a time, for signals.

use crate::sys::kernel::{self, CLOCK_MONOTONIC, CLOCK_REALTIME};
use crate::sys::{copy, inside};
use crate::ult::core::Core;
use crate::ult::futex::WakeOp;
use crate::ult::nr::{CLOCK_NANOSLEEP, EAGAIN, EINTR, EINVAL, ENOSYS, ETIMEDOUT, FUTEX};
use crate::ult::signals::{self, Delivered};
use crate::ult::{Answer, blocking, inherit, park};

const SECOND: u64 = 1_000_000_000;

/// Reads a `struct timespec`, in nanoseconds.
fn time(address: u64) -> Result<u64, i64> {
    let [seconds, nanoseconds] = copy::read::<[u64; 2]>(address)?;
    if seconds > i64::MAX as u64 || nanoseconds >= SECOND {
        return Err(-EINVAL);
    }
    // Three hundred years are as good as forever.
    Ok(seconds.saturating_mul(SECOND).saturating_add(nanoseconds))
}

/// The moment on the monotonic clock that is `time` on another one, now.
fn from_real_time(time: u64) -> u64 {
    let left = time.saturating_sub(kernel::now(CLOCK_REALTIME));
    kernel::now(CLOCK_MONOTONIC).saturating_add(left)
}

impl Core {
    /// Wakes up to `count` threads that wait for a word, and returns how many.
    pub(crate) fn wake(&mut self, address: u64, count: u64, bits: u32) -> u64 {
        let mut woken = 0;
        while woken < count {
            let Some(id) = self.futexes.take(&mut self.ults, address, bits) else {
                break;
            };
            self.unpark(id, 0);
            woken += 1;
        }
        woken
    }

    /// Returns true if the kernel would clear this word at the end of a thread with the number `tid`.
    /// Those who wait for that use the word as a shared one.
    fn is_word_of_thread(&mut self, address: u64, tid: u32) -> bool {
        self.find(tid)
            .is_some_and(|id| self.ult(id).clear_tid == address)
    }
}

/// futex(2)
pub(crate) fn futex(args: &[u64; 6]) -> Answer {
    const PRIVATE: u64 = 128;
    const REAL_TIME: u64 = 256;
    let [address, operation, value, time_or_count, second, third] = *args;
    let value = value as u32;
    let is_private = operation & PRIVATE != 0;
    let command = operation & 127;
    if address & 3 != 0 {
        return Answer::Is(-EINVAL);
    }
    // Counts are ints; a negative one is none.
    let count = |count: u64| (count as i32).max(0) as u64;
    let wake = |address, count, bits| inside::with(|core| core.wake(address, count, bits) as i64);
    match command {
        // FUTEX_WAIT, FUTEX_WAIT_BITSET
        0 | 9 => {
            let is_ours = is_private || inside::with(|core| core.is_word_of_thread(address, value));
            if !is_ours {
                return Answer::Is(blocking::post(FUTEX, *args, time_or_count == 0));
            }
            let bits = if command == 9 { third as u32 } else { !0 };
            if bits == 0 {
                return Answer::Is(-EINVAL);
            }
            let deadline = match time_or_count {
                0 => None,
                at => match time(at) {
                    Err(error) => return Answer::Is(error),
                    Ok(time) if command == 0 => {
                        Some(kernel::now(CLOCK_MONOTONIC).saturating_add(time))
                    }
                    Ok(time) if operation & REAL_TIME != 0 => Some(from_real_time(time)),
                    Ok(time) => Some(time),
                },
            };
            Answer::Is(wait(address, value, bits, deadline))
        }
        // Others share the word: the kernel knows who waits. None of these waits.
        1 | 3 | 4 | 5 | 10 if !is_private => Answer::Plain,
        // FUTEX_WAKE, FUTEX_WAKE_BITSET. At least one is woken.
        1 => Answer::Is(wake(address, count(u64::from(value)).max(1), !0)),
        10 if third as u32 == 0 => Answer::Is(-EINVAL),
        10 => Answer::Is(wake(address, count(u64::from(value)).max(1), third as u32)),
        // FUTEX_REQUEUE, FUTEX_CMP_REQUEUE
        3 | 4 => {
            if command == 4 {
                match copy::load(address) {
                    Ok(now) if now == third as u32 => {}
                    Ok(_) => return Answer::Is(-EAGAIN),
                    Err(error) => return Answer::Is(error),
                }
            }
            Answer::Is(inside::with(|core| {
                let woken = core.wake(address, count(u64::from(value)), !0);
                let most = count(time_or_count);
                let moved = core.futexes.requeue(&mut core.ults, address, second, most);
                (woken + if command == 4 { moved } else { 0 }) as i64
            }))
        }
        // FUTEX_WAKE_OP. No other thread of the program runs meanwhile.
        5 => {
            let change = WakeOp(third as u32);
            let changed = copy::load(second).and_then(|old| {
                let new = change.apply(old).ok_or(-ENOSYS)?;
                copy::write(second, &new)?;
                change.compare(old).ok_or(-ENOSYS)
            });
            match changed {
                Err(error) => Answer::Is(error),
                Ok(also_second) => {
                    let mut woken = wake(address, count(u64::from(value)).max(1), !0);
                    if also_second {
                        woken += wake(second, count(time_or_count).max(1), !0);
                    }
                    Answer::Is(woken)
                }
            }
        }
        // FUTEX_LOCK_PI, FUTEX_TRYLOCK_PI, FUTEX_LOCK_PI2, FUTEX_UNLOCK_PI
        6 | 8 | 13 if is_private => {
            let deadline = match time_or_count {
                0 => None,
                at => match time(at) {
                    Err(error) => return Answer::Is(error),
                    Ok(time) if command == 6 || operation & REAL_TIME != 0 => {
                        Some(from_real_time(time))
                    }
                    Ok(time) => Some(time),
                },
            };
            Answer::Is(inherit::lock(address, command == 8, deadline).unwrap_or_else(|error| error))
        }
        7 if is_private => Answer::Is(inherit::unlock(address).unwrap_or_else(|error| error)),
        _ => Answer::Is(-ENOSYS),
    }
}

/// Waits for a word that is `value`.
fn wait(address: u64, value: u32, bits: u32, deadline: Option<u64>) -> i64 {
    loop {
        match copy::load(address) {
            Ok(now) if now == value => {}
            Ok(_) => return -EAGAIN,
            Err(error) => return error,
        }
        inside::with(|core| {
            let id = core.running;
            core.park();
            core.futexes.add(&mut core.ults, id, address, bits);
            if let Some(deadline) = deadline {
                core.timers.add(&mut core.ults, id, deadline);
            }
        });
        let result = park();
        if !was_interrupted() {
            return result;
        }
        if signals::deliver() == Delivered::Interrupt || deadline.is_some() {
            return -EINTR;
        }
    }
}

/// Whether a signal has ended the running thread's wait.
pub(crate) fn was_interrupted() -> bool {
    inside::with(|core| core.current().is_interrupted)
}

/// nanosleep(2), clock_nanosleep(2)
pub(crate) fn sleep(nr: u64, args: &[u64; 6]) -> i64 {
    const ABSOLUTE: u64 = 1;
    let (clock, flags, request, rest) = if nr == CLOCK_NANOSLEEP {
        (args[0], args[1], args[2], args[3])
    } else {
        (CLOCK_MONOTONIC, 0, args[0], args[1])
    };
    let is_absolute = flags & ABSOLUTE != 0;
    let is_ours = clock == CLOCK_MONOTONIC || clock == CLOCK_REALTIME && !is_absolute;
    if !is_ours {
        return blocking::post(nr, *args, false);
    }
    let time = match time(request) {
        Ok(time) => time,
        Err(error) => return error,
    };
    let deadline = if is_absolute {
        time
    } else {
        kernel::now(CLOCK_MONOTONIC).saturating_add(time)
    };
    loop {
        if kernel::now(CLOCK_MONOTONIC) >= deadline {
            return 0;
        }
        inside::with(|core| {
            let id = core.running;
            core.park();
            core.timers.add(&mut core.ults, id, deadline);
        });
        let result = park();
        if !was_interrupted() {
            debug_assert!(result == -ETIMEDOUT);
            return 0;
        }
        if signals::deliver() == Delivered::Nothing {
            continue;
        }
        if is_absolute || rest == 0 {
            return -EINTR;
        }
        let left = deadline.saturating_sub(kernel::now(CLOCK_MONOTONIC));
        let left = [left / SECOND, left % SECOND];
        return copy::write(rest, &left).err().unwrap_or(-EINTR);
    }
}

/// Waits until a handler has run: pause(2).
pub(crate) fn pause() -> i64 {
    loop {
        inside::with(Core::park);
        // What is pending already interrupts at once.
        inside::with(|core| {
            let id = core.running;
            let mask = core.current().mask;
            if core.pending.set(id) & !mask != 0 {
                core.interrupt(id);
            }
        });
        park();
        if signals::deliver() != Delivered::Nothing {
            return -EINTR;
        }
    }
}

/// Does something with another mask: sigsuspend, ppoll and so on.
pub(crate) fn with_mask(mask: u64, work: impl FnOnce() -> i64) -> i64 {
    let old = inside::with(|core| {
        let old = core.current().mask;
        core.set_mask(mask);
        old
    });
    let result = work();
    inside::with(|core| core.set_mask(old));
    result
}
