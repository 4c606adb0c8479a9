// SPDX-License-Identifier: MIT OR Apache-2.0
//! The safe layer. It owns buffers and descriptors until their operation has finished, and
//! makes plain calls of those that the kernel cannot or will not execute.

#![expect(unsafe_code, reason = "posts calls on memory that it owns")]

use std::cell::Cell;
use std::collections::VecDeque;
use std::marker::PhantomData;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Instant;

use crate::ops::Operation;
use crate::ops::private::{Calls, End, Prepared};
use crate::sys::abi::{FLEXSC_MAX_PAGES, FLEXSC_PAGE_ENTRIES};
use crate::sys::kept::Kept;
use crate::sys::poll;
use crate::{Engine, Error, Pages, Reason, Slots};

use deadlines::Deadlines;
pub use done::Done;
use job::Job;
use plain::Helpers;

mod cancel;
mod deadlines;
mod done;
mod end;
mod finish;
mod job;
mod plain;
mod waiting;

/// A set of operations in flight. The kernel executes them from syscall pages, or the ring
/// makes plain calls.
///
/// Neither `Send` nor `Sync`: the kernel executes the calls as those of the thread that has
/// registered the pages, and refuses to let another one wait for them ([`Error::NotTheOwner`]).
///
/// ```compile_fail,E0277
/// fn assert_send<T: Send>() {}
/// assert_send::<flexsc::Ring>();
/// ```
///
/// ```
/// use std::fs::File;
/// use flexsc::{Fd, Ring, Wait, ops::Read};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let file: Fd = File::open("/proc/self/stat")?.into();
/// let mut ring = Ring::open(1)?; // plain calls if there is no engine
/// for part in 0..4 {
///     let read = Read::new(&file, vec![0; 16]).at(part * 16);
///     ring.submit(read, part as u64).expect("64 fit into a page");
/// }
/// ring.wait(Wait::all())?;
/// while let Some(done) = ring.next() {
///     println!("part {}: {} bytes", done.token, done.result?);
/// }
/// # Ok(())
/// # }
/// ```
///
/// # Plain calls
///
/// Without an engine ([`Error::is_absent`]), and for each operation that the kernel refuses
/// (the thread is traced or has a seccomp filter, no syscall thread can be created, …), the
/// ring makes the plain call instead, and counts it ([`plain_calls`](Self::plain_calls)).
/// The ring then behaves like an engine: no operation holds up another, timeouts are kept, and
/// [`cancel`](Self::cancel) works. For this the ring starts threads, never more than
/// operations in flight or than [`set_helper_limit`](Self::set_helper_limit) says, which end when
/// their calls have finished. They make an operation
/// that does not block more expensive than its plain call.
///
/// # Forgetting, dropping, forking
///
/// Forgetting a ring leaks buffers and descriptors, and does no other harm. Dropping it
/// ends the operations in flight: see its [`Drop`]. In a forked child a ring has no
/// operations and no room: nothing can be submitted, and waiting fails with
/// [`Error::NotTheOwner`].
pub struct Ring {
    pages: Option<Pages>,
    /// Why the device can no longer be used, if a filter forbids it. Operations in pages
    /// stay there, and new ones become plain calls.
    closed: Option<Error>,
    helpers: Helpers,
    /// How many calls can be in flight.
    capacity: usize,
    /// The operations in flight, and those that have ended until they are taken.
    flights: Vec<Option<Flight>>,
    /// Indices of the free elements of `flights`.
    free: Vec<u32>,
    /// The flight of each slot.
    by_slot: Vec<u32>,
    submitted: VecDeque<u32>,
    /// Number of calls in pages.
    posted: usize,
    /// The number of calls of the unfinished operations minus the number of these operations.
    linked: usize,
    /// The flights that have ended, in this order.
    ready: VecDeque<u32>,
    /// How many flights have ended, are not in `ready` and not taken.
    held: usize,
    /// True if the kernel refused the last operation that it answered.
    refusing: bool,
    descriptor: Descriptor,
    deadlines: Deadlines,
    _owner: PhantomData<*mut ()>,
}

/// The ring's descriptor for poll(2).
struct Descriptor {
    /// Readable when the engine or the helpers have results; `None` without an engine.
    either: Option<OwnedFd>,
    /// True if the engine signals the helpers' eventfd.
    shared: Cell<bool>,
    /// True if the program has asked for the descriptor.
    watched: Cell<bool>,
}

/// An operation in flight: keeps the memory and the descriptors of its calls until the calls
/// have finished.
struct Flight {
    token: u64,
    kept: Kept,
    prepared: Prepared,
    at: At,
    /// True if it was cancelled when the ring was dropped.
    cancelled: bool,
    /// When its time is over, if it has a limit.
    deadline: Option<Instant>,
    /// True if the ring has cancelled it because its time was over.
    expired: bool,
    /// Why the kernel refused the operation, if it did.
    reason: Reason,
    /// The results of a chain, as far as they are known.
    results: Vec<Option<(i64, Reason)>>,
    /// How it has ended.
    end: Option<End>,
}

/// The executor of a flight.
#[derive(Clone, Copy)]
enum At {
    Submitted,
    Posted(Slots),
    Helper,
    Ended,
}

impl Ring {
    /// Makes a ring on these pages, which must have nothing in flight.
    ///
    /// # Errors
    ///
    /// [`Error::Busy`] if calls are in flight; [`Error::Other`] if there are no more
    /// descriptors. The pages come back with the error.
    #[expect(clippy::result_large_err, reason = "the pages go back to the caller")]
    pub fn new(mut pages: Pages) -> Result<Self, (Pages, Error)> {
        if pages.in_flight() > 0 {
            return Err((pages, Error::Busy));
        }
        let made = Self::plain_with(pages.capacity()).and_then(|ring| {
            let either = poll::either([ring.helpers.eventfd(), pages.as_fd()])
                .map_err(|errno| Error::other("make an epoll instance", errno))?;
            Ok((ring, either))
        });
        match made {
            Ok((mut ring, either)) => {
                // The ring itself makes plain calls in place of refused ones, without
                // blocking.
                pages.set_fallback(false);
                ring.by_slot = vec![0; pages.capacity()];
                ring.descriptor.either = Some(either);
                ring.pages = Some(pages);
                Ok(ring)
            }
            Err(error) => Err((pages, error)),
        }
    }

    /// Opens an engine and makes a ring on this many pages (1 to 64). Uses plain calls if
    /// there is no engine for this program ([`Error::is_absent`]).
    ///
    /// # Errors
    ///
    /// The errors of [`Engine::open`] and [`Engine::register`] that are not absence; those
    /// of [`Ring::new`].
    pub fn open(pages: u32) -> Result<Self, Error> {
        Self::check(pages)?;
        match Engine::open().and_then(|engine| engine.register(pages)) {
            Ok(pages) => Self::new(pages).map_err(|(_, error)| error),
            Err(error) if error.is_absent() => Self::plain(pages),
            Err(error) => Err(error),
        }
    }

    /// Makes a ring that uses plain calls and has room for as many operations as this many
    /// pages (1 to 64).
    ///
    /// # Errors
    ///
    /// [`Error::PageCount`]; [`Error::Other`] if there are no more descriptors.
    pub fn plain(pages: u32) -> Result<Self, Error> {
        Self::check(pages)?;
        Self::plain_with((pages * FLEXSC_PAGE_ENTRIES) as usize)
    }

    fn check(pages: u32) -> Result<(), Error> {
        if (1..=FLEXSC_MAX_PAGES).contains(&pages) {
            Ok(())
        } else {
            Err(Error::PageCount(pages))
        }
    }

    fn plain_with(capacity: usize) -> Result<Self, Error> {
        let helpers = Helpers::new().map_err(|errno| Error::other("make an eventfd", errno))?;
        Ok(Ring {
            pages: None,
            closed: None,
            helpers,
            capacity,
            flights: (0..capacity).map(|_| None).collect(),
            free: (0..capacity as u32).rev().collect(),
            by_slot: Vec::new(),
            submitted: VecDeque::new(),
            posted: 0,
            linked: 0,
            ready: VecDeque::new(),
            held: 0,
            refusing: false,
            descriptor: Descriptor {
                either: None,
                shared: Cell::new(false),
                watched: Cell::new(false),
            },
            deadlines: Deadlines::default(),
            _owner: PhantomData,
        })
    }

    /// Returns the pages, to be used without the ring; `None` if the ring has none.
    ///
    /// # Errors
    ///
    /// The ring itself, if operations are in flight or results are not taken.
    pub fn into_pages(mut self) -> Result<Option<Pages>, Ring> {
        if self.in_flight() > 0 || !self.in_same_process() {
            return Err(self);
        }
        let mut pages = self.pages.take();
        if let Some(pages) = &mut pages {
            pages.set_fallback(true);
            if self.descriptor.shared.get() {
                // A filter may forbid it, which does no harm.
                let _ = pages.set_eventfd(None);
            }
        }
        Ok(pages)
    }

    /// Returns true if operations are made as plain calls: the ring has no engine, or the
    /// kernel refused the last operation that it answered.
    #[must_use]
    pub fn is_plain(&self) -> bool {
        self.pages.is_none() || self.closed.is_some() || self.refusing
    }

    /// Returns how many plain calls were made, because there is no engine or in place of
    /// refused operations.
    #[must_use]
    pub fn plain_calls(&self) -> u64 {
        self.helpers.made()
    }

    /// Sets the maximum number of threads that make plain calls. If there are no more, this
    /// thread makes them in [`wait`](Self::wait) and [`next`](Self::next), as their files
    /// become ready; calls on disks and paths then take as long as they take. With 0, all
    /// plain calls are synchronous. Default: as many as operations in flight.
    ///
    /// It does not change what an engine does.
    pub fn set_helper_limit(&mut self, most: usize) {
        self.helpers.set_limit(most);
    }

    /// Returns how many operations were submitted without their results being taken.
    #[inline]
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.flights.len() - self.free.len() - self.held
    }

    /// Returns how many operations have no known result yet.
    #[inline]
    fn unfinished(&self) -> usize {
        self.in_flight() - self.ready.len()
    }

    /// Returns how many more operations can be submitted; 0 in a forked child. An operation that
    /// makes several calls ([`WithFile`](crate::ops::WithFile)) counts as that many.
    #[inline]
    #[must_use]
    pub fn free(&self) -> usize {
        if self.in_same_process() {
            let used = self.in_flight() + self.linked;
            self.capacity.saturating_sub(used)
        } else {
            0
        }
    }

    /// Returns false in a forked child.
    #[inline]
    pub(crate) fn in_same_process(&self) -> bool {
        self.helpers.in_same_process()
    }

    /// Takes over an operation, which starts with the next [`ring`](Self::ring) or
    /// [`wait`](Self::wait). `token` comes back with its result.
    ///
    /// # Errors
    ///
    /// The operation itself, if there is no room, as in a forked child.
    pub fn submit<O: Operation>(&mut self, operation: O, token: u64) -> Result<(), O> {
        self.start(operation, token).map(drop)
    }

    /// As [`submit`](Self::submit). Returns the index of the flight, for
    /// [`cancel_at`](Self::cancel_at).
    pub(crate) fn start<O: Operation>(&mut self, operation: O, token: u64) -> Result<u32, O> {
        let size = operation.size();
        if self.free() < size {
            return Err(operation);
        }
        // A buffer's own code runs here and may panic.
        let mut kept = Kept::new(operation);
        let prepared = kept.prepare();
        let limit = prepared.time;
        let index = self.free.pop().unwrap_or_else(|| {
            self.flights.push(None);
            (self.flights.len() - 1) as u32
        });
        self.flights[index as usize] = Some(Flight {
            token,
            kept,
            prepared,
            at: At::Submitted,
            cancelled: false,
            deadline: None,
            expired: false,
            reason: Reason::None,
            results: Vec::new(),
            end: None,
        });
        self.linked += size - 1;
        self.submitted.push_back(index);
        self.start_time(index, limit);
        Ok(index)
    }

    /// Starts the submitted operations. With an engine this costs no trap: the kernel
    /// executes them with the next [`wait`](Self::wait) or [`next`](Self::next), or as soon
    /// as a poller sees them.
    pub fn ring(&mut self) {
        if self.in_same_process() {
            self.post();
        }
    }

    fn post(&mut self) {
        while let Some(index) = self.submitted.pop_front() {
            if !self.stage(index) {
                self.push(index, false);
            }
        }
        if let Some(pages) = &mut self.pages {
            pages.ring();
        }
        self.helpers.begin();
    }

    /// Stages a flight in a page, if there is one.
    fn stage(&mut self, index: u32) -> bool {
        let Some(pages) = self.pages.as_mut().filter(|_| self.closed.is_none()) else {
            return false;
        };
        let flight = self.flights[index as usize].as_mut();
        let flight = flight.expect("it was submitted");
        let slots = match &flight.prepared.calls {
            // SAFETY: the call points only to memory of `flight`, which owns it, and uses
            // descriptors that the flight owns or shares. The flight stays in `flights`
            // until the completion of the call is taken, or is leaked.
            Calls::One(call) => match unsafe { pages.stage(*call) } {
                Some(slot) => {
                    self.by_slot[slot.index()] = index;
                    Slots::new(slot, 1)
                }
                None => return false,
            },
            // SAFETY: as above, for each call.
            Calls::Chain(chain) => match unsafe { pages.stage_chain(chain) } {
                Ok(slots) => {
                    flight.results = vec![None; chain.len()];
                    for slot in slots.iter() {
                        self.by_slot[slot.index()] = index;
                    }
                    slots
                }
                Err(_) => return false,
            },
        };
        flight.at = At::Posted(slots);
        self.posted += slots.len();
        true
    }

    /// Makes a helper, or this thread if `own`, make the plain call.
    fn push(&mut self, index: u32, own: bool) {
        let flight = self.flights[index as usize].as_mut();
        let flight = flight.expect("it is in flight");
        flight.at = At::Helper;
        flight.cancelled = false;
        let job = Job::new(index, &flight.prepared);
        if own {
            // SAFETY: as in `stage`.
            unsafe { self.helpers.push_own(job) };
        } else {
            // SAFETY: as in `stage`.
            unsafe { self.helpers.push(job) };
        }
        self.expire_again(index);
    }

    /// Replaces the ring's descriptor ([`AsFd`]) by an eventfd that any thread may poll. The
    /// usual one shows a thread that has syscall pages only its own results: an event loop
    /// whose threads poll for each other, such as that of smol, would miss some. It may be
    /// readable without a result.
    ///
    /// # Errors
    ///
    /// Those of [`Pages::set_eventfd`].
    pub fn share_descriptor(&self) -> Result<(), Error> {
        if let Some(pages) = &self.pages {
            pages.set_eventfd(Some(self.helpers.eventfd()))?;
        }
        self.descriptor.shared.set(true);
        Ok(())
    }
}

/// Readable while there are results, for poll(2), epoll(7) and event loops. Take the results
/// with [`Ring::next`] until it returns `None`. The thread that polls must be the ring's own or
/// one that has no syscall pages, unless the ring [shares](Ring::share_descriptor) its
/// descriptor.
impl AsFd for Ring {
    fn as_fd(&self) -> BorrowedFd<'_> {
        if !self.descriptor.watched.replace(true) {
            self.show();
            if self.deadlines.next().is_some() {
                // The program asks for results, which sets the alarm.
                self.helpers.signal();
            }
        }
        match &self.descriptor.either {
            Some(either) if !self.descriptor.shared.get() => either.as_fd(),
            _ => self.helpers.eventfd(),
        }
    }
}

#[cfg(test)]
mod tests;
