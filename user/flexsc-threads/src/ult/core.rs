// SPDX-License-Identifier: MIT OR Apache-2.0
//! User-level threads and the core that runs them: the one thread of the kernel that the program began
//! with.

use ::core::sync::atomic::{AtomicBool, Ordering::Relaxed};

use crate::sys::area::{Area, Zeroed};
use crate::sys::copy;
use crate::sys::kernel::{self, Action, CLOCK_MONOTONIC, Tick};
use crate::sys::raw::{self, Errno};
use crate::sys::signal::TICK;
use crate::sys::switch::{Context, fs_base};
use crate::ult::blocking::plain;
use crate::ult::futex::Futexes;
use crate::ult::list::{Id, Links, List};
use crate::ult::masks::Masks;
use crate::ult::nr::{EINTR, ENOMEM, ETIMEDOUT, PRCTL};
use crate::ult::pages::{Backends, Outcome};
use crate::ult::pool::{Backend, Call, Token};
use crate::ult::posix_timers::TimersOfThreads;
use crate::ult::signals::{HAS_TICKED, Pending};
use crate::ult::timers::Timers;

/// How many threads there can be at once.
const MOST: usize = 1 << 17;
/// After so long another ready thread gets its turn.
const SLICE: u64 = 5_000_000;
/// The same while threads spin: what they wait for does not happen before others run.
const SHORT_SLICE: u64 = 200_000;
/// How many slices stay short after a thread has spun.
const SHORT_SLICES: u32 = 16;
/// After so many slices without any call nobody spins: the threads compute.
const COMPUTING: u32 = 64;

/// A call has been made since the last tick.
static HAS_CALLED: AtomicBool = AtomicBool::new(false);

/// The running thread makes a call.
pub(crate) fn note_call() {
    HAS_CALLED.store(true, Relaxed);
}

/// What a thread is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum State {
    /// There is none.
    Free = 0,
    Running,
    Ready,
    /// Waits for a word, a deadline, a call, a signal, or several of them.
    Parked,
}

/// A user-level thread.
pub(crate) struct Ult {
    pub(crate) context: Context,
    pub(crate) state: State,
    /// A signal has ended its wait, or is about to.
    pub(crate) is_interrupted: bool,
    /// The engine does not make its call.
    pub(crate) is_refused: bool,
    /// It has used up its slice without a call.
    is_spinning: bool,
    pub(crate) links: Links,
    pub(crate) tid: u32,
    /// What its wait returns.
    pub(crate) result: i64,
    /// Its place in the heap of timers; 0: none.
    pub(crate) timer: u32,
    pub(crate) deadline: u64,
    /// The word that it waits for; 0: none.
    pub(crate) futex: u64,
    pub(crate) futex_bits: u32,
    pub(crate) token: Token,
    /// The signals for which sigwait waits.
    pub(crate) wanted: u64,
    pub(crate) mask: u64,
    pub(crate) alternate_stack: [u64; 3],
    /// To be cleared, and its waiters woken, at the end of the thread.
    pub(crate) clear_tid: u64,
    /// The robust list, and its length as given.
    pub(crate) robust: (u64, u64),
    pub(crate) name: [u8; 16],
}

// SAFETY: Zeros: no thread.
unsafe impl Zeroed for Ult {}

pub(crate) struct Core {
    pub(crate) ults: Area<Ult>,
    /// Places of threads that have ended.
    free: List,
    used: u32,
    pub(crate) live: u32,
    pub(crate) running: Id,
    ready: List,
    /// How many of the ready threads are not spinning.
    ready_to_work: u32,
    pub(crate) futexes: Futexes,
    pub(crate) timers: Timers,
    pub(crate) backend: Backends,
    pub(crate) masks: Masks,
    pub(crate) kernel_mask: u64,
    pub(crate) actions: [Action; 65],
    pub(crate) pending: Pending,
    pub(crate) timers_of_threads: TimersOfThreads,
    pub(crate) pid: u32,
    /// The thread of the kernel.
    pub(crate) tid: u32,
    pub(crate) next_tid: u32,
    /// The alternate signal stack that the kernel knows.
    pub(crate) installed_stack: [u64; 3],
    tick: Option<Tick>,
    is_ticking: bool,
    slice: u64,
    short_slices: u32,
    /// Slices in which no thread has made a call, one after the other.
    quiet_slices: u32,
    /// Ticks since a thread has run.
    idle_ticks: u32,
    turns: u32,
    /// Where threads leave that never come back.
    nowhere: Context,
    /// Descriptors that were no sockets when they were last read or written.
    pub(crate) no_socket: [bool; 1024],
}

impl Core {
    pub(crate) const fn new() -> Self {
        const NO_ACTION: Action = Action {
            handler: 0,
            flags: 0,
            restorer: 0,
            mask: 0,
        };
        Core {
            ults: Area::none(),
            free: List::EMPTY,
            used: 0,
            live: 0,
            running: Id::NONE,
            ready: List::EMPTY,
            ready_to_work: 0,
            futexes: Futexes::new(),
            timers: Timers::new(),
            backend: Backends::new(),
            masks: Masks::new(),
            kernel_mask: 0,
            actions: [NO_ACTION; 65],
            pending: Pending::new(),
            timers_of_threads: TimersOfThreads::new(),
            pid: 0,
            tid: 0,
            next_tid: 0,
            installed_stack: [0; 3],
            tick: None,
            is_ticking: false,
            slice: SLICE,
            short_slices: 0,
            quiet_slices: 0,
            idle_ticks: 0,
            turns: 0,
            nowhere: Context::NONE,
            no_socket: [false; 1024],
        }
    }

    /// Makes the tables, and the running thread the first user-level thread.
    /// Returns why there is no engine.
    pub(crate) fn begin(&mut self) -> Result<Result<(), Errno>, Errno> {
        self.ults = Area::new(MOST)?;
        self.timers.set_room(Area::new(MOST + 1)?);
        self.pid = raw::getpid();
        self.tid = kernel::gettid();
        let engine = self.backend.begin(self.tid)?;
        self.tick = Some(Tick::new(TICK, self.tid)?);
        self.next_tid = first_tid(self.pid);
        self.used = 1;
        let id = self.add().ok_or(Errno(ENOMEM as i32))?;
        assert!(id == Id::MAIN);
        self.kernel_mask = kernel::set_mask(!0);
        kernel::set_mask(self.kernel_mask);
        self.installed_stack = kernel::alternate_stack();
        let (mask, tid, stack) = (self.kernel_mask, self.tid, self.installed_stack);
        let ult = self.ult(id);
        ult.state = State::Running;
        ult.mask = mask;
        ult.tid = tid;
        ult.alternate_stack = stack;
        ult.clear_tid = word_of_first_thread(tid);
        self.masks.add(mask);
        self.running = id;
        Ok(engine)
    }

    /// Goes on in a child process with the running thread alone.
    pub(crate) fn begin_child(&mut self) {
        let running = self.running;
        for index in 1..self.used {
            if index != running.0 {
                self.ults[index as usize].state = State::Free;
            }
        }
        // Their places are not used again: the C library knows which of its threads are gone.
        self.free = List::EMPTY;
        self.ready = List::EMPTY;
        self.ready_to_work = 0;
        self.live = 1;
        self.futexes.clear();
        self.timers.clear();
        self.backend.forget();
        self.pending.clear();
        self.timers_of_threads.clear();
        self.pid = raw::getpid();
        self.tid = kernel::gettid();
        self.next_tid = first_tid(self.pid);
        // Timers belong to the parent.
        self.tick = Tick::new(TICK, self.tid).ok();
        self.is_ticking = false;
        let tid = self.tid;
        let ult = self.current();
        ult.tid = tid;
        let mask = ult.mask;
        self.masks.clear();
        self.masks.add(mask);
        self.sync_mask();
    }

    pub(crate) fn ult(&mut self, id: Id) -> &mut Ult {
        &mut self.ults[id.0 as usize]
    }

    /// The running thread.
    pub(crate) fn current(&mut self) -> &mut Ult {
        let id = self.running;
        self.ult(id)
    }

    /// A new thread, in no queue; None if there are too many.
    pub(crate) fn add(&mut self) -> Option<Id> {
        let id = match self.free.pop(&mut self.ults) {
            Some(id) => id,
            None if (self.used as usize) < MOST => {
                self.used += 1;
                Id(self.used - 1)
            }
            None => return None,
        };
        *self.ult(id) = Ult {
            context: Context::NONE,
            state: State::Parked,
            is_interrupted: false,
            is_refused: false,
            is_spinning: false,
            links: Links::default(),
            tid: 0,
            result: 0,
            timer: 0,
            deadline: 0,
            futex: 0,
            futex_bits: 0,
            token: Token::NONE,
            wanted: 0,
            mask: 0,
            alternate_stack: [0, SS_DISABLE, 0],
            clear_tid: 0,
            robust: (0, 0),
            name: [0; 16],
        };
        self.live += 1;
        Some(id)
    }

    /// The running thread ends. It must not return.
    pub(crate) fn end_running(&mut self) {
        let id = self.running;
        let mask = self.current().mask;
        self.masks.remove(mask);
        self.current().state = State::Free;
        self.live -= 1;
        self.free.push(&mut self.ults, id);
        self.running = Id::NONE;
        self.sync_mask();
    }

    /// All places of threads that there may be.
    pub(crate) fn ids(&self) -> impl Iterator<Item = Id> + use<> {
        (1..self.used).map(Id)
    }

    /// The thread with this number.
    pub(crate) fn find(&mut self, tid: u32) -> Option<Id> {
        self.ids().find(|id| {
            let ult = self.ult(*id);
            ult.tid == tid && ult.state != State::Free
        })
    }

    pub(crate) fn make_ready(&mut self, id: Id) {
        self.ult(id).state = State::Ready;
        self.ready_to_work += u32::from(!self.ult(id).is_spinning);
        self.ready.push(&mut self.ults, id);
        // The running thread may never wait.
        if !self.is_ticking {
            self.set_ticking(true);
        }
    }

    /// Ends a thread's wait.
    pub(crate) fn unpark(&mut self, id: Id, result: i64) {
        self.futexes.remove(&mut self.ults, id);
        self.timers.remove(&mut self.ults, id);
        self.ult(id).result = result;
        self.ult(id).token = Token::NONE;
        self.make_ready(id);
    }

    /// The running thread waits, for whatever its caller has arranged.
    pub(crate) fn park(&mut self) {
        let ult = self.current();
        ult.state = State::Parked;
        ult.is_interrupted = false;
        ult.is_refused = false;
        ult.is_spinning = false;
        ult.result = 0;
    }

    /// Returns true if no other thread is about to make calls, so that there is nobody to share a batch
    /// with.
    pub(crate) fn is_alone(&self) -> bool {
        self.ready_to_work == 0
    }

    /// The running thread hands over a call and waits for its result.
    pub(crate) fn submit(&mut self, call: Call, to_helper: bool) -> Result<(), Errno> {
        let id = self.running;
        let token = if to_helper {
            self.backend.submit_to_helper(id, call)?
        } else {
            self.backend.submit(id, call)?
        };
        self.park();
        self.current().token = token;
        Ok(())
    }

    /// A signal is there for a thread: ends its wait.
    pub(crate) fn interrupt(&mut self, id: Id) {
        let ult = self.ult(id);
        if ult.state != State::Parked || ult.is_interrupted {
            return;
        }
        ult.is_interrupted = true;
        let token = ult.token;
        if token == Token::NONE {
            self.unpark(id, -EINTR);
        } else {
            self.backend.cancel(token);
        }
    }

    /// Puts the running thread behind all that are ready. Returns false if there are none.
    pub(crate) fn give_way(&mut self) -> bool {
        // Even if nobody else is ready: the running thread may wait, without a call, for one whose call
        // is posted.
        self.backend.flush();
        self.look(true);
        if self.ready.is_empty() {
            return false;
        }
        let id = self.running;
        self.make_ready(id);
        true
    }

    /// The next thread to run.
    pub(crate) fn next(&mut self) -> Option<Id> {
        /// How often the clock is read while there is something to do anyway.
        const TURNS: u32 = 32;
        self.turns = self.turns.wrapping_add(1);
        let is_due = self.ready.is_empty() || self.turns % TURNS == 0;
        self.look(is_due);
        let id = self.ready.pop(&mut self.ults)?;
        if self.ult(id).is_spinning {
            // It may run for long, and what has been posted may be what it waits for.
            self.backend.flush();
        } else {
            self.ready_to_work -= 1;
        }
        if !self.is_ticking && self.may_get_ready() {
            self.set_ticking(true);
        }
        self.idle_ticks = 0;
        Some(id)
    }

    /// Returns true if another thread may have to run before the running one waits.
    pub(crate) fn may_get_ready(&self) -> bool {
        !self.ready.is_empty() || self.timers.first(&self.ults).is_some() || self.backend.is_busy()
    }

    /// Looks for results, signals and deadlines.
    fn look(&mut self, with_clock: bool) {
        if with_clock && !self.ready.is_empty() {
            self.backend.flush();
        }
        while let Some((id, outcome)) = self.backend.reap() {
            match outcome {
                Outcome::Result(result) => self.unpark(id, result),
                Outcome::Refused => {
                    self.ult(id).is_refused = true;
                    self.unpark(id, 0);
                }
            }
        }
        self.take_notes();
        if with_clock && self.timers.first(&self.ults).is_some() {
            let now = kernel::now(CLOCK_MONOTONIC);
            while let Some(id) = self.timers.pop(&mut self.ults, now) {
                self.unpark(id, -ETIMEDOUT);
            }
        }
    }

    fn set_ticking(&mut self, on: bool) {
        self.is_ticking = on;
        if let Some(tick) = self.tick {
            tick.set(if on { self.slice } else { 0 });
        }
    }

    /// The tick has come. Returns true if the running thread gives way.
    pub(crate) fn tick(&mut self) -> bool {
        let spins = !HAS_CALLED.swap(false, Relaxed);
        self.current().is_spinning = spins;
        let gives_way = self.give_way();
        if gives_way {
            self.fit_slice(spins);
        }
        if !gives_way && !self.may_get_ready() {
            self.set_ticking(false);
        }
        gives_way
    }

    /// A thread has used up its slice, with or without a call: how long is the next one?
    fn fit_slice(&mut self, spins: bool) {
        if spins {
            self.quiet_slices += 1;
            self.short_slices = SHORT_SLICES;
        } else {
            self.quiet_slices = 0;
            self.short_slices = self.short_slices.saturating_sub(1);
        }
        let slice = if self.short_slices > 0 && self.quiet_slices < COMPUTING {
            SHORT_SLICE
        } else {
            SLICE
        };
        if self.slice != slice {
            self.slice = slice;
            self.set_ticking(true);
        }
    }

    /// Sleeps until something happens, with nothing to run.
    pub(crate) fn idle(&mut self, seen: u32) {
        /// Setting the timer is a call: it stays on through short waits.
        const IDLE_TICKS: u32 = 2;
        if self.is_ticking && HAS_TICKED.swap(false, Relaxed) {
            self.idle_ticks += 1;
            if self.idle_ticks >= IDLE_TICKS {
                self.set_ticking(false);
            }
        }
        let deadline = self.timers.first(&self.ults);
        self.backend.wait(seen, deadline);
    }

    /// The next thread is the running one. Returns whose contexts to exchange, if it is another one.
    pub(crate) fn set_running(&mut self, to: Id) -> Option<(*mut Context, *const Context)> {
        let from = self.running;
        self.running = to;
        self.ult(to).state = State::Running;
        if from == to {
            return None;
        }
        let old: *mut Context = if from.is_none() {
            &raw mut self.nowhere
        } else {
            &raw mut self.ult(from).context
        };
        Some((old, &raw const self.ult(to).context))
    }

    /// The running thread has just come back: gives the kernel its alternate stack.
    pub(crate) fn came_back(&mut self) {
        let stack = self.current().alternate_stack;
        if stack != self.installed_stack {
            self.installed_stack = stack;
            kernel::set_alternate_stack(&stack);
        }
    }
}

/// A `stack_t` without a stack.
pub(crate) const SS_DISABLE: u64 = 2;

/// The word that the C library has told the kernel to clear at the end of the running thread; 0: unknown.
fn word_of_first_thread(tid: u32) -> u64 {
    const PR_GET_TID_ADDRESS: u64 = 40;
    /// In `struct pthread` of every glibc for x86-64, from the thread pointer on.
    const TID: u64 = 0x2d0;
    let mut word = 0_u64;
    let at = &raw mut word as u64;
    let result = plain(PRCTL, [PR_GET_TID_ADDRESS, at, 0, 0, 0, 0]);
    let at = if result == 0 { word } else { fs_base() + TID };
    // Not every kernel tells, and not every library is glibc.
    if copy::load(at) == Ok(tid) { at } else { 0 }
}

/// Numbers of threads that the kernel never gives to its own, which are below 2^22, and from which the
/// C library can still make clocks of threads. Other processes begin elsewhere.
fn first_tid(pid: u32) -> u32 {
    const FIRST: u32 = 1 << 22;
    const END: u32 = 1 << 28;
    const BLOCK: u32 = 64;
    FIRST + (pid % ((END - FIRST) / BLOCK)) * BLOCK
}

/// The number behind this one.
pub(crate) fn next_tid(tid: u32) -> u32 {
    const FIRST: u32 = 1 << 22;
    const END: u32 = 1 << 28;
    if tid + 1 < END { tid + 1 } else { FIRST }
}
