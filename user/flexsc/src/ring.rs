// SPDX-License-Identifier: MIT OR Apache-2.0
//! The safe layer: buffers and descriptors are owned until their operation has
//! finished, and what the kernel cannot or will not execute is done by plain
//! calls.

#![expect(unsafe_code, reason = "posts calls on buffers that it owns")]

use std::cell::Cell;
use std::collections::VecDeque;
use std::io;
use std::marker::PhantomData;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use crate::call;
use crate::ops::Operation;
use crate::ops::private::Parts;
use crate::sys::abi::{FLEXSC_MAX_PAGES, FLEXSC_PAGE_ENTRIES};
use crate::sys::poll;
use crate::{Engine, Error, Pages, Reason, Slot, fallback};

use plain::{Helpers, Job};

mod end;
mod plain;
mod waiting;

/// Operations in flight, executed by the kernel from syscall pages or, if it
/// cannot or will not do that, by plain calls. Not `Send`, because [`Pages`] are
/// not.
///
/// ```
/// use std::fs::File;
/// use flexsc::{Fd, Ring, Wait, ops::Read};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let file: Fd = File::open("/proc/self/stat")?.into();
/// let mut ring = Ring::open(1)?; // plain calls where there is no engine
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
/// Without an engine ([`Error::is_absent`]), and for each operation that the
/// kernel refuses (the thread is traced or has a seccomp filter, no syscall
/// thread can be made, …), the plain call is made instead, and counted
/// ([`plain_calls`](Self::plain_calls)). It behaves as the engine does: no
/// operation holds up another, timeouts are kept, [`cancel`](Self::cancel)
/// works. For that the ring makes threads, never more than operations are in
/// flight, that end when their calls have. What they cost an operation that
/// does not block is more than the plain call alone.
///
/// # Forgetting, dropping, forking
///
/// Forgetting a ring leaks buffers and descriptors, and nothing worse. Dropping
/// it ends what is in flight: see its [`Drop`]. In a child after fork it is
/// empty and full at once: nothing can be submitted, and waiting fails with
/// [`Error::NotTheOwner`].
pub struct Ring {
    pages: Option<Pages>,
    /// Why the device cannot be used any more, if a filter says so: what is in
    /// pages stays there, and what is new is done by plain calls.
    closed: Option<Error>,
    helpers: Helpers,
    /// What is in flight.
    flights: Vec<Option<Flight>>,
    /// Which of these are free.
    free: Vec<u32>,
    /// Which flight each slot is for.
    by_slot: Vec<u32>,
    submitted: VecDeque<u32>,
    /// How many flights are in pages.
    posted: usize,
    ready: VecDeque<Done>,
    /// The kernel has refused the last operation that it had an answer for.
    refusing: bool,
    /// Readable when either the engine or the helpers have results.
    either: Option<OwnedFd>,
    /// Somebody has asked for the descriptor.
    watched: Cell<bool>,
    _owner: PhantomData<*mut ()>,
}

/// Keeps the memory and the descriptor of a call until it has finished.
struct Flight {
    token: u64,
    parts: Parts,
    at: At,
    /// It is to end, and whoever executes it has been told.
    cancelled: bool,
    /// Why the kernel refused it, if it did.
    reason: Reason,
}

/// Where a flight is.
#[derive(Clone, Copy)]
enum At {
    Submitted,
    Posted(Slot),
    Helper,
}

/// A finished operation.
#[derive(Debug)]
#[non_exhaustive]
pub struct Done {
    /// The number that it was submitted with.
    pub token: u64,
    /// How many bytes were read or written.
    pub result: io::Result<usize>,
    /// Why the kernel refused it, if it did and the plain call was made instead;
    /// [`Reason::Cancelled`] if it was cancelled before it had begun.
    pub reason: Reason,
    /// Its buffer.
    pub buf: Vec<u8>,
}

impl Ring {
    /// On these pages, which must have nothing in flight.
    ///
    /// # Errors
    ///
    /// The pages, and [`Error::Busy`] if calls are in flight; [`Error::Other`]
    /// if there are no more descriptors.
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
                // What was refused is begun again without blocking.
                pages.set_fallback(false);
                ring.by_slot = vec![0; pages.capacity()];
                ring.either = Some(either);
                ring.pages = Some(pages);
                Ok(ring)
            }
            Err(error) => Err((pages, error)),
        }
    }

    /// On so many pages (1 to 64) of an engine of its own; with plain calls, if
    /// the machine has no engine for this program ([`Error::is_absent`]).
    ///
    /// # Errors
    ///
    /// As [`Engine::open`] and [`Engine::register`], but for those; as
    /// [`Ring::new`].
    pub fn open(pages: u32) -> Result<Self, Error> {
        Self::check(pages)?;
        match Engine::open().and_then(|engine| engine.register(pages)) {
            Ok(pages) => Self::new(pages).map_err(|(_, error)| error),
            Err(error) if error.is_absent() => Self::plain(pages),
            Err(error) => Err(error),
        }
    }

    /// With plain calls; as many in flight as so many pages (1 to 64) hold.
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
            flights: (0..capacity).map(|_| None).collect(),
            free: (0..capacity as u32).rev().collect(),
            by_slot: Vec::new(),
            submitted: VecDeque::new(),
            posted: 0,
            ready: VecDeque::new(),
            refusing: false,
            either: None,
            watched: Cell::new(false),
            _owner: PhantomData,
        })
    }

    /// Gives the pages back, to be used without the ring; `None` if it has none.
    ///
    /// # Errors
    ///
    /// The ring, while operations are in flight or results are not taken.
    #[expect(clippy::result_large_err, reason = "the ring goes back to the caller")]
    pub fn into_pages(mut self) -> Result<Option<Pages>, Ring> {
        if self.in_flight() > 0 || !self.in_same_process() {
            return Err(self);
        }
        let mut pages = self.pages.take();
        if let Some(pages) = &mut pages {
            pages.set_fallback(true);
        }
        Ok(pages)
    }

    /// Whether operations are executed by plain calls: there is no engine behind
    /// the ring, or the kernel has refused the last operation that it had an
    /// answer for.
    #[must_use]
    pub fn is_plain(&self) -> bool {
        self.pages.is_none() || self.closed.is_some() || self.refusing
    }

    /// How many plain calls were made, for want of an engine or in place of
    /// refused ones.
    #[must_use]
    pub fn plain_calls(&self) -> u64 {
        self.helpers.made()
    }

    /// How many operations are in flight, their results not taken.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.unfinished() + self.ready.len()
    }

    /// Those of them that have no result yet, as far as is known.
    fn unfinished(&self) -> usize {
        self.flights.len() - self.free.len()
    }

    /// How many more can be; none in a child after fork.
    #[must_use]
    pub fn free(&self) -> usize {
        if self.in_same_process() {
            self.flights.len() - self.in_flight()
        } else {
            0
        }
    }

    /// False in a child after fork.
    fn in_same_process(&self) -> bool {
        self.helpers.in_same_process()
    }

    /// Takes an operation over; [`ring`](Self::ring) or [`wait`](Self::wait)
    /// begins it. `token` comes back with its result.
    ///
    /// # Errors
    ///
    /// The operation, if there is no room for it, as in a child after fork.
    pub fn submit<O: Operation>(&mut self, operation: O, token: u64) -> Result<(), O> {
        if self.free() == 0 {
            return Err(operation);
        }
        let index = self
            .free
            .pop()
            .expect("fewer are in flight than there can be");
        self.flights[index as usize] = Some(Flight {
            token,
            parts: operation.into_parts(),
            at: At::Submitted,
            cancelled: false,
            reason: Reason::None,
        });
        self.submitted.push_back(index);
        Ok(())
    }

    /// Begins what was submitted. Costs no trap with an engine, whose calls begin
    /// with the next [`wait`](Self::wait) or [`next`](Self::next) unless a kernel
    /// core polls.
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

    /// Writes a flight into a page, if there is one.
    fn stage(&mut self, index: u32) -> bool {
        let Some(pages) = self.pages.as_mut().filter(|_| self.closed.is_none()) else {
            return false;
        };
        let flight = self.flights[index as usize].as_mut();
        let flight = flight.expect("it was submitted");
        // SAFETY: the call points to memory of `flight` alone, which owns it, and
        // names a descriptor that it owns or shares. It stays in `flights` until
        // the completion of the call was taken, and is leaked otherwise.
        let Some(slot) = (unsafe { pages.stage(flight.parts.call) }) else {
            return false;
        };
        flight.at = At::Posted(slot);
        self.by_slot[slot.index()] = index;
        self.posted += 1;
        true
    }

    /// Has the plain call made: by a helper, or by this thread alone.
    fn push(&mut self, index: u32, own: bool) {
        let flight = self.flights[index as usize].as_mut();
        let flight = flight.expect("it is in flight");
        flight.at = At::Helper;
        flight.cancelled = false;
        let parts = &flight.parts;
        let job = Job {
            flight: index,
            call: parts.call,
            fd: std::os::fd::AsRawFd::as_raw_fd(&parts.fd),
            readiness: parts.readiness,
        };
        if own {
            // SAFETY: as in `stage`.
            unsafe { self.helpers.push_own(job) };
        } else {
            // SAFETY: as in `stage`.
            unsafe { self.helpers.push(job) };
        }
    }

    /// Takes all results that are there into `ready`; what the kernel has
    /// refused is begun as a plain call. Whether something came of it.
    fn absorb(&mut self) -> bool {
        let before = self.ready.len();
        if self.watched.get() && before == 0 {
            self.helpers.clear();
        }
        while let Some(done) = self.pages.as_mut().and_then(Pages::poll) {
            let index = self.by_slot[done.slot.index()];
            self.posted -= 1;
            self.refusing = fallback::applies(done.result, done.reason);
            if self.refusing {
                if let Some(flight) = &mut self.flights[index as usize] {
                    flight.reason = done.reason;
                }
                self.push(index, done.reason == Reason::Thread);
            } else {
                self.finish(index, done.result, done.reason);
            }
        }
        self.helpers.begin();
        for (index, result, reason) in self.helpers.take() {
            self.finish(index, result, reason);
        }
        self.show();
        self.ready.len() > before
    }

    /// Makes the descriptor readable if there are results, for whoever polls it.
    fn show(&self) {
        if self.watched.get() && !self.ready.is_empty() {
            self.helpers.signal();
        }
    }

    /// A flight has a result.
    fn finish(&mut self, index: u32, result: i64, reason: Reason) {
        let flight = self.flights[index as usize].take();
        self.free.push(index);
        let flight = flight.expect("there is one for each call in flight");
        let Parts { mut buf, grows, .. } = flight.parts;
        let result = call::to_io(result).map(|len| len as usize);
        if let (true, Ok(len)) = (grows, &result) {
            let len = (*len).min(buf.capacity());
            // SAFETY: the call has written so many bytes from the beginning on,
            // and there is room for them.
            unsafe { buf.set_len(len) };
        }
        self.ready.push_back(Done {
            token: flight.token,
            result,
            reason: match reason {
                Reason::None => flight.reason,
                other => other,
            },
            buf,
        });
    }

    /// Ends an operation as a signal would end its call: with EINTR or a partial
    /// result; with ECANCELED and [`Reason::Cancelled`] if it has not begun; with
    /// its result if it is too late. The result comes as ever. Whether an
    /// operation with that token was found unfinished; all of them, if they are
    /// several.
    ///
    /// A plain call is interrupted while it waits for its file to become ready.
    ///
    /// # Errors
    ///
    /// As [`Pages::cancel`].
    pub fn cancel(&mut self, token: u64) -> Result<bool, Error> {
        if !self.in_same_process() {
            return Err(Error::NotTheOwner);
        }
        let mut found = false;
        for index in 0..self.flights.len() as u32 {
            let flight = self.flights[index as usize].as_ref();
            if let Some(at) = flight.filter(|flight| flight.token == token).map(|f| f.at) {
                found |= self.cancel_flight(index, at)?;
            }
        }
        Ok(found)
    }

    fn cancel_flight(&mut self, index: u32, at: At) -> Result<bool, Error> {
        match at {
            At::Submitted => {
                self.submitted.retain(|&other| other != index);
                self.finish(index, -i64::from(libc::ECANCELED), Reason::Cancelled);
                self.show();
                Ok(true)
            }
            At::Posted(slot) => match &self.pages {
                Some(pages) => pages.cancel(slot),
                None => Ok(false),
            },
            At::Helper => Ok(self.helpers.cancel(index)),
        }
    }
}

/// Polls readable while results are there, for poll(2), epoll(7) and event
/// loops: take them with [`Ring::next`] until it says `None`.
impl AsFd for Ring {
    fn as_fd(&self) -> BorrowedFd<'_> {
        if !self.watched.replace(true) {
            self.show();
        }
        match &self.either {
            Some(either) => either.as_fd(),
            None => self.helpers.eventfd(),
        }
    }
}

#[cfg(test)]
mod tests;
