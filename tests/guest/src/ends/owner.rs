// SPDX-License-Identifier: MIT OR Apache-2.0
//! Threads beside the main one: one that owns pages and waits for its calls, one that cancels.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU32, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use nix::errno::Errno;

use super::state::{State, Stock, Tolerance, check_result};
use crate::check::Check;
use crate::kit::abi::Policy;
use crate::kit::engine::{Engine, cancel, register};
use crate::kit::ring::Ring;
use crate::kit::{signals, sys, until};

/// What the thread does when its WAIT has ended.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum Command {
    /// Not decided yet.
    Stay = 0,
    /// Check the results, unregister, end.
    Finish = 1,
    /// End without reading the pages, which may be gone.
    Stop = 2,
}

#[derive(Default)]
struct Shared {
    tid: AtomicI32,
    id: AtomicU32,
    base: AtomicUsize,
    len: AtomicUsize,
    command: AtomicU32,
    partial: AtomicBool,
    cancelled: AtomicBool,
}

impl Shared {
    fn is_told(&self, command: Command) -> bool {
        self.command.load(Ordering::Acquire) == command as u32
    }
}

/// See the module's documentation.
pub struct Owner {
    shared: Arc<Shared>,
    thread: JoinHandle<Check>,
}

fn body(fd: i32, state: State, stock: &Stock, shared: &Shared) -> Check {
    let registered = ok!("REGISTER", register(fd, 1));
    let mut ring = Ring::map(fd, &registered)?;
    ring.mode = state.mode;
    let (calls, expect): (Vec<_>, Vec<_>) = stock.calls(state, 1).into_iter().unzip();
    let slots = ring.post_all(&calls);
    let (base, len) = ring.base();
    shared.base.store(base as usize, Ordering::Relaxed);
    shared.len.store(len, Ordering::Relaxed);
    shared.id.store(ring.id, Ordering::Relaxed);
    shared.tid.store(sys::gettid(), Ordering::Release);
    let mut waited = ring.wait_fast(Policy::All, 0);
    while waited == Err(Errno::EINTR) && !shared.is_told(Command::Stop) {
        waited = ring.wait_fast(Policy::All, 0);
    }
    while shared.is_told(Command::Stay) {
        std::thread::sleep(Duration::from_millis(1));
    }
    if shared.is_told(Command::Stop) {
        ring.leak();
        return Ok(());
    }
    check_eq!("WAIT", waited, Ok(slots.len() as u64));
    let allow = Tolerance {
        partial: shared.partial.load(Ordering::Relaxed),
        starved: false,
        cancelled: shared.cancelled.load(Ordering::Relaxed),
    };
    for (slot, expect) in slots.into_iter().zip(expect) {
        check_result(ring.reap(slot), expect, allow)
            .map_err(|failure| failure.within("the other owner's call"))?;
    }
    check_eq!("UNREGISTER", ring.unregister(), Ok(0));
    Ok(())
}

impl Owner {
    /// Starts the thread, and returns when its calls are posted.
    pub fn start(engine: &Engine, state: State, stock: &Arc<Stock>) -> Check<Owner> {
        let shared = Arc::new(Shared::default());
        let fd = engine.fd();
        let (mine, stock) = (Arc::clone(&shared), Arc::clone(stock));
        let thread = std::thread::spawn(move || body(fd, state, &stock, &mine));
        let owner = Owner { shared, thread };
        until("the other owner's calls posted", || {
            owner.tid() != 0 || owner.thread.is_finished()
        })?;
        if owner.thread.is_finished() {
            owner.join()?;
            fail!("the other owner has ended");
        }
        Ok(owner)
    }

    fn tid(&self) -> i32 {
        self.shared.tid.load(Ordering::Acquire)
    }

    /// The number of its registration.
    pub fn id(&self) -> u32 {
        self.shared.id.load(Ordering::Relaxed)
    }

    /// Address and length of its mapping.
    pub fn mapping(&self) -> (*mut u8, usize) {
        let base = self.shared.base.load(Ordering::Relaxed);
        (base as *mut u8, self.shared.len.load(Ordering::Relaxed))
    }

    /// Allows its calls further results.
    pub fn allow(&self, allow: Tolerance) {
        let Tolerance {
            partial, cancelled, ..
        } = allow;
        self.shared.partial.store(partial, Ordering::Relaxed);
        self.shared.cancelled.store(cancelled, Ordering::Relaxed);
    }

    pub fn tell(&self, command: Command) {
        self.shared.command.store(command as u32, Ordering::Release);
    }

    /// Waits for its end, and checks that it has succeeded.
    pub fn join(self) -> Check {
        until("the end of the other owner", || self.thread.is_finished())?;
        self.thread.join().expect("no panic")
    }

    /// Interrupts its WAIT and makes it end.
    pub fn stop(self) -> Check {
        self.tell(Command::Stop);
        until("the end of the other owner", || {
            signals::send(self.tid(), libc::SIGUSR1);
            self.thread.is_finished()
        })?;
        self.join()
    }
}

/// A thread that cancels calls in the first slots of some registrations, one after the other: calls
/// in flight, not those that an ending posts later.
pub struct Canceller {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

impl Canceller {
    pub fn start(engine: &Engine, ring: &Ring, slots: usize, owner: Option<&Owner>) -> Canceller {
        let ids: Vec<u32> = owner
            .iter()
            .map(|owner| owner.id())
            .chain([ring.id])
            .collect();
        let (fd, stop) = (engine.fd(), Arc::new(AtomicBool::new(false)));
        let stopped = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            for slot in (0..slots).cycle() {
                // The engine may go at any time.
                let gone = |id: &u32| !matches!(cancel(fd, *id, slot), Ok(_) | Err(Errno::ENOENT));
                if stopped.load(Ordering::Relaxed) || ids.iter().any(gone) {
                    return;
                }
                std::thread::sleep(Duration::from_micros(200));
            }
        });
        Canceller { stop, thread }
    }

    pub fn stop(self) {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().expect("no panic");
    }
}
