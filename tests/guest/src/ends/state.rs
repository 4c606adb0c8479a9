// SPDX-License-Identifier: MIT OR Apache-2.0
//! The calls that are in flight at an ending, and the threads that execute them.

use std::ffi::CStr;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use super::owner::{Canceller, Command, Owner};
use crate::check::{Check, Ret};
use crate::kit::abi::{
    ENTRY_LINK, ENTRY_LOOP, MAX_ROUNDS, Param, Policy, REASON_CHAIN, REASON_NONE, REASON_STARVED,
};
use crate::kit::engine::Engine;
use crate::kit::files::{BlockedReads, Leased, pipe, write_all};
use crate::kit::memory;
use crate::kit::mode::Mode;
use crate::kit::ring::{Call, Done, Ring};
use crate::kit::{process, signals, sys, until};

/// The calls in flight.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Load {
    /// Reads of an empty pipe, each of which holds a syscall thread.
    Blocked,
    /// Reads, a poll and a sleep that wait without a thread.
    Parked,
    /// Long reads of /dev/zero, which need a CPU.
    Running,
    /// With two threads, both blocked: entries that wait for a thread, and entries that were not
    /// taken.
    Queued,
    /// Loops of chains, one that runs and one that sleeps, which never end by themselves.
    Looping,
    /// Blocked, running and queued calls in two pools of their own, one of them with one thread.
    Pools,
    /// As Blocked, while a thread cancels calls at random.
    Cancelling,
    /// An inline call that blocks the owner in WAIT: the open of a leased file.
    Inside,
}

/// One column of the matrix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct State {
    pub mode: Mode,
    pub load: Load,
}

impl State {
    /// All columns.
    pub fn all() -> impl Iterator<Item = State> {
        let loads = [Load::Blocked, Load::Running, Load::Queued];
        let each = move |mode| loads.map(|load| State { mode, load });
        let more = [
            (Mode::Kick, Load::Looping),
            (Mode::Poller, Load::Looping),
            (Mode::Kick, Load::Pools),
            (Mode::Poller, Load::Pools),
            (Mode::Inline, Load::Cancelling),
            (Mode::Poller, Load::Cancelling),
            (Mode::Inline, Load::Inside),
            (Mode::Inline, Load::Parked),
        ];
        let more = more.map(|(mode, load)| State { mode, load });
        Mode::ALL.into_iter().flat_map(each).chain(more)
    }

    /// Returns true if a thread beside the main one owns pages and sleeps in WAIT.
    pub fn has_owner(self) -> bool {
        match self.load {
            Load::Queued => false,
            Load::Inside => true,
            _ => matches!(self.mode, Mode::Inline | Mode::Async),
        }
    }
}

/// The result that a call must have.
#[derive(Clone, Copy)]
pub enum Expect {
    /// The process ID.
    Pid,
    /// A word from the pipe.
    Word,
    /// Zeros, as many as asked for unless a signal came.
    Zeros,
    /// A descriptor, which is closed.
    Descriptor,
    /// The last result of a loop or of a call that may not end by itself, or a cancellation.
    Looped,
}

/// Bytes of a long read.
const ZEROS: usize = 1 << 20;
/// Long reads in one page.
const LONG_READS: usize = 8;

/// How far results may differ from those of an undisturbed call.
#[derive(Clone, Copy, Default)]
pub struct Tolerance {
    /// A stop or a freeze has interrupted calls, as it does with plain ones.
    pub partial: bool,
    /// There may have been too few threads.
    pub starved: bool,
    /// Calls may have been cancelled.
    pub cancelled: bool,
}

/// Checks a result.
pub fn check_result(done: Done, expect: Expect, allow: Tolerance) -> Check {
    let Done { result, reason, .. } = done;
    if allow.starved && reason == REASON_STARVED && result == -i64::from(libc::EAGAIN) {
        return Ok(());
    }
    let interrupted = result == -i64::from(libc::EINTR) && reason == REASON_NONE;
    let dropped = result == -i64::from(libc::ECANCELED) && reason >= REASON_CHAIN;
    let cancelled = interrupted || dropped;
    if cancelled && (allow.cancelled || matches!(expect, Expect::Looped)) {
        return Ok(());
    }
    let good = reason == REASON_NONE
        && match expect {
            Expect::Pid => result == i64::from(std::process::id()),
            Expect::Word => result == 2,
            Expect::Zeros if allow.partial => (1..=ZEROS as i64).contains(&result),
            Expect::Zeros => result == ZEROS as i64,
            Expect::Looped => result >= 0,
            Expect::Descriptor => plain!(SYS_close, result) == 0,
        };
    check!(good, "result {} reason {reason}", Ret(result));
    Ok(())
}

/// Files and buffers of the calls in flight. Keep it as long as the calls.
pub struct Stock {
    _from: OwnedFd,
    to: OwnedFd,
    /// A pipe that nobody reads.
    full: (OwnedFd, OwnedFd),
    zero: OwnedFd,
    timer: OwnedFd,
    /// The time of a sleep, and the `struct pollfd` of a poll().
    asked: [AtomicU64; 3],
    /// An address to which zeros are read.
    zeros: usize,
    reads: [BlockedReads; 2],
    leased: Leased,
}

impl Stock {
    fn new(leased: &CStr) -> Check<Stock> {
        let (from, to) = pipe()?;
        let timer = sys::own(plain!(SYS_timerfd_create, libc::CLOCK_MONOTONIC, 0) as i32);
        let every = [0i64, 1_000_000, 0, 1_000_000];
        let set = plain!(SYS_timerfd_settime, &timer, 0, every.as_ptr(), 0);
        check_ret!("timerfd_settime", set, 0);
        let zero = ok!("/dev/zero", sys::open(c"/dev/zero", libc::O_RDONLY, 0));
        Ok(Stock {
            reads: [BlockedReads::new(&from, 5), BlockedReads::new(&from, 3)],
            asked: [
                3600,
                0,
                ((libc::POLLIN as u64) << 32) | from.as_raw_fd() as u64,
            ]
            .map(AtomicU64::new),
            _from: from,
            to,
            full: pipe()?,
            zero,
            timer,
            zeros: memory::pages(ZEROS)? as usize,
            leased: Leased::at(leased.to_owned())?,
        })
    }

    /// Calls for the main thread (0) or the other owner (1), and the results that they must have.
    pub fn calls(&self, state: State, owner: usize) -> Vec<(Call, Expect)> {
        let State { mode, load } = state;
        let pid = (call!(SYS_getpid), Expect::Pid);
        let words = self.reads[owner].calls().into_iter();
        let words = words.map(|read| (read, Expect::Word));
        match load {
            Load::Looping if owner == 0 => {
                let read = call!(SYS_read, &self.zero, self.zeros, 64);
                let tick = call!(SYS_read, &self.timer, self.zeros, 8);
                let looped = |call: Call, more: u8| Call {
                    flags: call.flags | ENTRY_LOOP | more,
                    ..call
                };
                let chain = |second| [looped(read, ENTRY_LINK), looped(second, 0)];
                // A loop that runs without a pause would keep a poller from polling.
                let running = match mode {
                    Mode::Poller => tick,
                    _ => read,
                };
                let calls = [chain(tick), chain(running)].concat().into_iter();
                calls.map(|call| (call, Expect::Looped)).collect()
            }
            Load::Pools if owner == 0 => {
                let long = call!(SYS_read, &self.zero, self.zeros, ZEROS);
                let others = [(long, Expect::Zeros), pid, (long, Expect::Zeros), pid, pid];
                let numbered = words.chain(others).enumerate();
                let in_pools = |(n, (call, expect)): (usize, (Call, _))| {
                    (call.in_pool(1 + n as u8 % 2), expect)
                };
                numbered.map(in_pools).collect()
            }
            Load::Parked if owner == 0 => {
                let others = [
                    call!(SYS_nanosleep, self.asked[0].as_ptr(), 0),
                    call!(SYS_poll, self.asked[2].as_ptr(), 1, -1),
                    // More than there is room for: a part is sent.
                    call!(SYS_write, &self.full.1, self.zeros, ZEROS),
                ];
                words
                    .chain(others.map(|call| (call, Expect::Looped)))
                    .collect()
            }
            Load::Blocked | Load::Looping | Load::Pools | Load::Cancelling | Load::Parked => {
                words.chain([pid; 4]).collect()
            }
            Load::Running => {
                let read = call!(SYS_read, &self.zero, self.zeros, ZEROS);
                vec![(read, Expect::Zeros); LONG_READS]
            }
            Load::Queued => {
                let queued = (call!(SYS_getpid).asynchronous(), Expect::Pid);
                words.chain([queued; 12]).collect()
            }
            Load::Inside if owner == 0 => words.take(2).collect(),
            Load::Inside => {
                vec![pid, (self.leased.open(), Expect::Descriptor), pid, pid]
            }
        }
    }

    /// Lets all blocked calls go on.
    pub fn release(&self) -> Check {
        let words: usize = self.reads.iter().map(|reads| reads.words.len()).sum();
        let bytes: Vec<u8> = (0..words as u16).flat_map(u16::to_ne_bytes).collect();
        write_all(&self.to, &bytes)?;
        self.leased.release()
    }
}

/// An engine in one of the states.
pub struct Flight {
    pub state: State,
    pub engine: Engine,
    pub ring: Ring,
    pub stock: Arc<Stock>,
    /// Slots and expected results of the main thread's calls.
    pub posted: Vec<(usize, Expect)>,
    pub owner: Option<Owner>,
    canceller: Option<Canceller>,
    pub allow: Tolerance,
}

impl Flight {
    /// Starts, and returns when everything is in flight. `leased` is a path for a
    /// file.
    pub fn start(state: State, leased: &CStr) -> Check<Flight> {
        signals::count_signal(libc::SIGUSR1, 0)?;
        let stock = Arc::new(Stock::new(leased)?);
        let (engine, mut ring) = state.mode.start(1)?;
        match state.load {
            Load::Queued => engine.set(Param::MaxThreads, 2)?,
            Load::Looping => engine.set(Param::LoopMax, MAX_ROUNDS)?,
            Load::Pools => {
                engine.set_pool(1, Param::PoolNice, 5)?;
                engine.set_pool(2, Param::PoolConcurrency, 1)?;
            }
            _ => {}
        }
        let (calls, expect): (Vec<_>, Vec<_>) = stock.calls(state, 0).into_iter().unzip();
        let slots = ring.post_all(&calls);
        if state.load == Load::Parked {
            ok!("WAIT for nothing", ring.wait(Policy::None));
            check_eq!("parked", engine.stats()?.parked, slots.len() as u64);
        } else {
            ring.kicked()?;
        }
        ring.until_taken(&slots)?;
        let mut posted: Vec<_> = slots.into_iter().zip(expect).collect();
        if state.load == Load::Queued {
            engine.until_stats("two blocked threads", |stats| stats.peak_blocked >= 2)?;
            // The kernel is not told about these calls.
            let more = ring.post_all(&[call!(SYS_getpid); 6]);
            posted.extend(more.into_iter().map(|slot| (slot, Expect::Pid)));
        }
        let owner = match state.has_owner() {
            true => Some(Owner::start(&engine, state, &stock)?),
            false => None,
        };
        let allow = Tolerance {
            partial: false,
            starved: state.load == Load::Queued,
            cancelled: state.load == Load::Cancelling,
        };
        let canceller = match state.load {
            Load::Cancelling => {
                let slots = posted.len();
                Some(Canceller::start(&engine, &ring, slots, owner.as_ref()))
            }
            _ => None,
        };
        let flight = Flight {
            state,
            engine,
            ring,
            stock,
            posted,
            owner,
            canceller,
            allow,
        };
        flight.until_blocked()?;
        Ok(flight)
    }

    fn until_blocked(&self) -> Check {
        let want = match self.state.load {
            Load::Blocked | Load::Pools => 5,
            Load::Inside => 3,
            Load::Looping => 1,
            Load::Cancelling | Load::Running | Load::Queued | Load::Parked => return Ok(()),
        };
        self.engine
            .until_stats("blocked calls", |stats| stats.peak_blocked >= want)?;
        Ok(())
    }

    /// Lets all calls go on, and checks that each has succeeded and that nothing is left.
    pub fn end(mut self) -> Check {
        if let Some(canceller) = self.canceller.take() {
            canceller.stop();
        }
        for &(slot, expect) in &self.posted {
            if let Expect::Looped = expect {
                let _ = self.ring.cancel(slot);
            }
        }
        self.stock.release()?;
        let slots: Vec<usize> = self.posted.iter().map(|&(slot, _)| slot).collect();
        let done = self.ring.finish(&slots)?;
        for (done, &(_, expect)) in done.into_iter().zip(&self.posted) {
            check_result(done, expect, self.allow)?;
        }
        if let Some(owner) = self.owner.take() {
            owner.allow(self.allow);
            owner.tell(Command::Finish);
            owner.join()?;
        }
        check_eq!("pages", self.engine.stats()?.pages, 1);
        check_eq!("UNREGISTER", self.ring.unregister(), Ok(0));
        check_eq!("pages", self.engine.stats()?.pages, 0);
        // The memory counts as long as it is mapped, and until all threads that poll the pages or
        // have just finished one of their calls have let go of them. REGISTER waits for that.
        let kib = self.ring.base().1 as u64 / 1024;
        until("pinned memory of the mapping only", || {
            process::pinned_kib() == Some(kib)
        })?;
        drop(self.ring);
        until("no pinned memory", || process::pinned_kib() == Some(0))?;
        drop(self.engine);
        gone()
    }

    /// The mappings: address and length.
    pub fn mappings(&self) -> Vec<(*mut u8, usize)> {
        let other = self.owner.iter().map(Owner::mapping);
        other.chain([self.ring.base()]).collect()
    }

    /// Gives up descriptor and mappings without closing anything: the caller does that.
    pub fn into_parts(self) -> Parts {
        let mappings = self.mappings();
        let fd = self.engine.fd();
        std::mem::forget(self.engine);
        self.ring.leak();
        Parts {
            fd,
            mappings,
            owner: self.owner,
            canceller: self.canceller,
            _stock: self.stock,
        }
    }
}

/// A flight whose descriptor and mappings the ending itself handles.
pub struct Parts {
    pub fd: i32,
    pub mappings: Vec<(*mut u8, usize)>,
    owner: Option<Owner>,
    canceller: Option<Canceller>,
    _stock: Arc<Stock>,
}

impl Parts {
    pub fn unmap(&self) -> Check {
        for &(at, len) in &self.mappings {
            ok!("munmap", sys::munmap(at, len));
        }
        Ok(())
    }

    pub fn close(&self) -> Check {
        check_ret!("close", plain!(SYS_close, self.fd), 0);
        Ok(())
    }

    /// Ends the other threads: the owner's WAIT holds the engine, as every call holds its file.
    pub fn stop_threads(&mut self) -> Check {
        if let Some(canceller) = self.canceller.take() {
            canceller.stop();
        }
        match self.owner.take() {
            Some(owner) => owner.stop(),
            None => Ok(()),
        }
    }

    /// Checks that nothing is left, and then drops the files and buffers of the calls.
    pub fn gone(self) -> Check {
        gone()
    }
}

/// Checks that this process has nothing left of any engine.
pub fn gone() -> Check {
    process::until_tasks(1)?;
    until("pinned memory given back", || {
        process::pinned_kib() == Some(0)
    })
}
