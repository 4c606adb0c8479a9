// SPDX-License-Identifier: MIT OR Apache-2.0
//! CANCEL at random while many calls run: it never hits the wrong one.

use std::sync::atomic::{AtomicBool, AtomicU16, Ordering};
use std::time::{Duration, Instant};

use nix::errno::Errno;

use crate::check::{Check, Ret};
use crate::kit::abi::{REASON_CANCELLED, REASON_NONE};
use crate::kit::engine::{self, Engine};
use crate::kit::files::{pipe, write_all};
use crate::kit::mode::Mode;
use crate::kit::ring::{Call, Done, Ring};
use crate::kit::{Random, memory, patience, rounds, sys};

tests! { "cancel":
    never_the_wrong_call => "two threads cancel calls in even slots at random: odd slots succeed";
}

/// Slots in use; only even ones are cancelled.
const SLOTS: usize = 64;
const ZEROS: usize = 8192;

/// The expected result of a call that is not cancelled.
#[derive(Clone, Copy, Debug)]
struct Expect {
    result: i64,
    /// If the call succeeds, it takes a word out of the pipe.
    takes_word: bool,
}

struct Hammer<'a> {
    ring: Ring,
    random: Random,
    posted: [Option<Expect>; SLOTS],
    words: &'a [AtomicU16; SLOTS],
    nap: [i64; 2],
    zero: std::os::fd::OwnedFd,
    zeros: *mut u8,
    from: std::os::fd::OwnedFd,
    to: std::os::fd::OwnedFd,
    /// Reads in flight for which there are no words.
    owed: usize,
    /// Words that cancelled reads have left in the pipe.
    spare: usize,
    cancelled: u64,
    well: u64,
}

impl Hammer<'_> {
    fn call(&mut self, slot: usize) -> (Call, Expect) {
        let expect = |result: i64| Expect {
            result,
            takes_word: false,
        };
        match self.random.below(5) {
            0 => {
                self.owed += 1;
                let read = call!(SYS_read, &self.from, self.words[slot].as_ptr(), 2);
                let expect = Expect {
                    result: 2,
                    takes_word: true,
                };
                (read, expect)
            }
            1 => (call!(SYS_nanosleep, self.nap.as_ptr(), 0), expect(0)),
            2 => {
                let read = call!(SYS_read, &self.zero, self.zeros, ZEROS);
                (read, expect(ZEROS as i64))
            }
            3 => {
                let pid = i64::from(std::process::id());
                (call!(SYS_getpid).asynchronous(), expect(pid))
            }
            _ => (call!(SYS_getpid), expect(i64::from(std::process::id()))),
        }
    }

    fn post_some(&mut self) {
        let count = 1 + self.random.below(12) as usize;
        let mut bits = 0;
        for _ in 0..count {
            let slot = self.random.below(SLOTS as u64) as usize;
            if !self.ring.is_free(slot) || (bits >> slot) & 1 == 1 {
                continue;
            }
            let (call, expect) = self.call(slot);
            self.posted[slot] = Some(expect);
            let call = match self.ring.mode {
                Mode::Async => call.asynchronous(),
                _ => call,
            };
            self.ring.stage(slot, &call);
            bits |= 1 << slot;
        }
        self.ring.ring_bell(0, bits);
    }

    fn check(&mut self, done: Done) -> Check {
        let Some(expect) = self.posted[done.slot].take() else {
            fail!("a result for an entry that was not posted: {done:?}");
        };
        if done.result == expect.result && done.reason == REASON_NONE {
            self.well += 1;
            return Ok(());
        }
        let interrupted = done.result == -i64::from(libc::EINTR) && done.reason == REASON_NONE;
        let dropped = done.result == -i64::from(libc::ECANCELED) && done.reason == REASON_CANCELLED;
        let partial = done.reason == REASON_NONE && (1..expect.result).contains(&done.result);
        check!(
            done.slot % 2 == 0 && (interrupted || dropped || partial),
            "slot {}: {} reason {}, expected {expect:?}",
            done.slot,
            Ret(done.result),
            done.reason
        );
        self.cancelled += 1;
        if expect.takes_word {
            self.spare += 1;
        }
        Ok(())
    }

    /// Writes a word for each read in flight, less the words that cancelled reads have left.
    fn pay(&mut self) -> Check {
        let words = self.owed.saturating_sub(std::mem::take(&mut self.spare));
        self.owed = 0;
        write_all(&self.to, &vec![1; words * 2])
    }

    fn step(&mut self) -> Check {
        self.post_some();
        match self.ring.mode {
            Mode::Inline | Mode::Async => {
                let short = Duration::from_micros(self.random.below(500));
                let got = self.ring.wait_for(crate::kit::abi::Policy::Any, 0, short);
                let good = matches!(got, Ok(_) | Err(Errno::ETIME | Errno::EDEADLK));
                check!(good, "ANY: {got:?}");
            }
            Mode::Kick => self.ring.kicked()?,
            Mode::Poller if self.ring.needs_kick() => self.ring.kicked()?,
            Mode::Poller => {}
        }
        if self.random.below(3) == 0 {
            self.pay()?;
        }
        while let Some(done) = self.ring.poll() {
            self.check(done)?;
        }
        Ok(())
    }

    fn finish(&mut self) -> Check {
        // Writes enough words for all reads, however many words cancelled reads have left.
        write_all(&self.to, &[1; SLOTS * 2])?;
        let slots: Vec<usize> = (0..SLOTS)
            .filter(|&slot| self.posted[slot].is_some())
            .collect();
        for done in self.ring.finish(&slots)? {
            self.check(done)?;
        }
        Ok(())
    }
}

/// Cancels even slots until `stop` is set.
fn cancel_at_random(fd: i32, id: u32, mut random: Random, stop: &AtomicBool) -> Check {
    while !stop.load(Ordering::Relaxed) {
        let slot = random.below(SLOTS as u64 / 2) as usize * 2;
        let got = engine::cancel(fd, id, slot);
        check!(matches!(got, Ok(0) | Err(Errno::ENOENT)), "CANCEL: {got:?}");
        if random.below(4) == 0 {
            sys::yield_now();
        }
    }
    Ok(())
}

fn hammer(mode: Mode, random: &mut Random, words: &[AtomicU16; SLOTS]) -> Check {
    let (engine, ring) = mode.start(1)?;
    let (from, to) = pipe()?;
    let mut hammer = Hammer {
        random: random.split(),
        posted: [None; SLOTS],
        words,
        nap: [0, 100_000],
        zero: ok!("/dev/zero", sys::open(c"/dev/zero", libc::O_RDONLY, 0)),
        zeros: memory::pages(ZEROS)?,
        from,
        to,
        owed: 0,
        spare: 0,
        cancelled: 0,
        well: 0,
        ring,
    };
    let (fd, id, stop) = (engine.fd(), hammer.ring.id, AtomicBool::new(false));
    std::thread::scope(|scope| {
        let cancellers: Vec<_> = (0..2)
            .map(|_| {
                let (random, stop) = (random.split(), &stop);
                scope.spawn(move || cancel_at_random(fd, id, random, stop))
            })
            .collect();
        let end = Instant::now() + Duration::from_millis(400) * rounds(1);
        // On a busy machine it may take longer before a CANCEL is in time.
        let last = end + patience();
        let mut outcome = Ok(());
        while outcome.is_ok()
            && (Instant::now() < end || hammer.cancelled == 0 && Instant::now() < last)
        {
            outcome = hammer.step();
        }
        outcome = outcome.and_then(|()| hammer.finish());
        stop.store(true, Ordering::Relaxed);
        let ends = cancellers.into_iter().map(|c| c.join().expect("no panic"));
        ends.fold(outcome, Result::and)
    })?;
    println!(
        "# {mode:?}: {} cancelled, {} succeeded, {:?}",
        hammer.cancelled,
        hammer.well,
        engine.stats()?.cancels
    );
    check!(hammer.cancelled > 0, "nothing was cancelled in time");
    // No cancellation is left behind in any thread.
    let pid = i64::from(std::process::id());
    let nap = [0i64, 1_000];
    for call in [call!(SYS_getpid), call!(SYS_nanosleep, nap.as_ptr(), 0)] {
        for done in hammer.ring.run_all(&[call.asynchronous(); SLOTS])? {
            check!(
                done.result == pid || done.result == 0,
                "afterwards: {done:?}"
            );
        }
    }
    Engine::stats(&engine).map(|_| ())
}

fn never_the_wrong_call() -> Check {
    let mut random = Random::new();
    let words = std::array::from_fn(|_| AtomicU16::new(0));
    for mode in Mode::ALL {
        hammer(mode, &mut random, &words)
            .map_err(|failure| failure.within(format_args!("mode {mode:?}")))?;
    }
    Ok(())
}
