// SPDX-License-Identifier: MIT OR Apache-2.0
//! A ring whose operations are futures.

#![expect(unsafe_code, reason = "lends a descriptor that is behind a RefCell")]

use std::cell::{RefCell, RefMut};
use std::collections::VecDeque;
use std::fmt;
use std::mem;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::rc::Rc;
use std::task::{Context, Waker};

use super::Submitted;
use crate::ops::Operation;
use crate::ops::private::End;
use crate::ring::Done;
use crate::{Error, Ring, Wait};

/// A [`Ring`] whose operations are futures. Clones share the ring, which is dropped with the
/// last of them and of the futures. Like a ring it belongs to one thread.
#[derive(Clone)]
pub struct Reactor {
    shared: Rc<RefCell<Inner>>,
}

/// # Invariants
///
/// The token of an operation in `ring` is the index of its element of `flights`, which is
/// neither free nor ended. The index of an element that has ended is that of an operation that
/// the ring holds.
pub(super) struct Inner {
    ring: Ring,
    flights: Vec<State>,
    /// Indices of the free elements of `flights`.
    free: Vec<u32>,
    /// Futures that wait for room, in ascending order of their tickets.
    queue: VecDeque<(Ticket, Waker)>,
    next_ticket: Ticket,
    /// Room that only [`Inner::start_urgent`] may use.
    spare: usize,
    /// The flight of the urgent operation, which needs no spare room while it is in flight.
    urgent: Option<u32>,
    /// Turns the reactor after a submission.
    driver: Option<Waker>,
}

type Ticket = u64;

/// The operation of a future.
enum State {
    Free,
    InFlight {
        /// Its index in the ring.
        index: u32,
        waker: Waker,
    },
    /// It has ended, and the ring holds it under this index.
    Ended(u32),
    /// Its future was dropped.
    Dropped,
}

/// The place of a future's operation.
pub(super) enum Place<O> {
    /// In the future, which may have a place in the queue for room.
    Held(O, Option<Ticket>),
    InFlight(u32),
    /// The future has returned its output.
    Taken,
}

impl Reactor {
    /// Makes a reactor of this ring. Results of operations that are in flight already are
    /// dropped, so take them first.
    #[must_use]
    pub fn new(ring: Ring) -> Self {
        Reactor {
            shared: Rc::new(RefCell::new(Inner {
                ring,
                flights: Vec::new(),
                free: Vec::new(),
                queue: VecDeque::new(),
                next_ticket: 0,
                spare: 0,
                urgent: None,
                driver: None,
            })),
        }
    }

    /// Makes a reactor of [`Ring::open`].
    ///
    /// # Errors
    ///
    /// Those of [`Ring::open`].
    pub fn open(pages: u32) -> Result<Self, Error> {
        Ok(Reactor::new(Ring::open(pages)?))
    }

    /// Returns a future with the output of the operation. It submits the operation when it is
    /// first polled and there is room.
    pub fn submit<O: Operation>(&self, operation: O) -> Submitted<O> {
        Submitted::new(self.clone(), operation)
    }

    /// Starts the submitted operations, waits as [`Ring::wait`] does, and wakes the tasks of
    /// the operations that have ended. Returns the number of these operations.
    ///
    /// # Errors
    ///
    /// Those of [`Ring::wait`]. Tasks are woken even then.
    pub fn wait(&self, wait: Wait) -> Result<usize, Error> {
        let waited = self.wait_only(wait);
        let ended = self.deliver();
        waited.map(|()| ended)
    }

    /// Waits without waking anything.
    pub(super) fn wait_only(&self, wait: Wait) -> Result<(), Error> {
        self.inner().ring.wait(wait).map(drop)
    }

    /// Starts the submitted operations, lets the kernel execute them, wakes the tasks of the
    /// operations that have ended, and returns the number of these operations. Never blocks.
    /// The task of `cx` is woken when something is submitted later; it must also be woken
    /// when the reactor's descriptor ([`AsFd`]) becomes readable, and then turn the reactor
    /// again.
    ///
    /// # Errors
    ///
    /// Those of [`Ring::wait`], except that a signal is not an error.
    pub fn poll_turn(&self, cx: &mut Context<'_>) -> Result<usize, Error> {
        // Before the turn: a task that `deliver` runs at once may submit.
        let old = self.inner().driver.replace(cx.waker().clone());
        drop(old);
        match self.wait(Wait::none()) {
            Err(Error::Interrupted) => Ok(0),
            other => other,
        }
    }

    /// Lets any thread wait for the reactor's descriptor: see
    /// [`Ring::share_descriptor`].
    ///
    /// # Errors
    ///
    /// Those of [`Ring::share_descriptor`].
    pub fn share_descriptor(&self) -> Result<(), Error> {
        self.inner().ring.share_descriptor()
    }

    /// Returns how many operations are in flight, including those of dropped futures.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.inner().ring.in_flight()
    }

    /// As [`Ring::is_plain`].
    #[must_use]
    pub fn is_plain(&self) -> bool {
        self.inner().ring.is_plain()
    }

    /// As [`Ring::plain_calls`].
    #[must_use]
    pub fn plain_calls(&self) -> u64 {
        self.inner().ring.plain_calls()
    }

    #[inline]
    pub(super) fn inner(&self) -> RefMut<'_, Inner> {
        self.shared.borrow_mut()
    }

    /// Gives the results to their futures. No waker and no destructor of the program runs
    /// while the ring is borrowed, because they may use the reactor.
    pub(super) fn deliver(&self) -> usize {
        let mut count = 0;
        loop {
            let mut inner = self.inner();
            let Some((token, index)) = inner.ring.hold_ready() else {
                break;
            };
            count += 1;
            if let Some(waker) = inner.end(token, index) {
                drop(inner);
                waker.wake();
            } else {
                let unwanted = inner.ring.take_held(index);
                drop(inner);
                drop(unwanted);
            }
        }
        if count > 0 {
            self.offer_room();
        }
        count
    }

    /// Wakes as many futures of the queue as there is room for.
    pub(super) fn offer_room(&self) {
        let mut room = self.inner().room();
        while room > 0 {
            room -= 1;
            let Some((_, waker)) = self.inner().queue.pop_front() else {
                return;
            };
            waker.wake();
        }
    }

    /// Turns the reactor soon.
    #[inline]
    pub(super) fn wake_driver(&self) {
        let driver = self.inner().driver.take();
        if let Some(driver) = driver {
            driver.wake();
        }
    }
}

impl Inner {
    #[inline]
    pub(super) fn in_same_process(&self) -> bool {
        self.ring.in_same_process()
    }

    #[inline]
    fn room(&self) -> usize {
        self.ring.free().saturating_sub(self.spare)
    }

    /// Keeps room for one urgent operation.
    pub(super) fn reserve(&mut self) {
        self.spare = 1;
    }

    /// Takes over an operation.
    ///
    /// # Errors
    ///
    /// The operation, if there is no room.
    pub(super) fn start<O: Operation>(&mut self, operation: O, waker: &Waker) -> Result<u32, O> {
        if self.room() < operation.size() {
            return Err(operation);
        }
        self.put(operation, waker)
    }

    /// As [`Inner::start`], in the reserved room.
    pub(super) fn start_urgent<O: Operation>(&mut self, operation: O) -> Result<u32, O> {
        let key = self.put(operation, Waker::noop())?;
        self.urgent = Some(key);
        self.spare = 0;
        Ok(key)
    }

    fn put<O: Operation>(&mut self, operation: O, waker: &Waker) -> Result<u32, O> {
        let key = self.free.last().copied();
        let key = key.unwrap_or(self.flights.len() as u32);
        let index = self.ring.start(operation, u64::from(key))?;
        let waker = waker.clone();
        let flight = State::InFlight { index, waker };
        if self.free.pop().is_some() {
            self.flights[key as usize] = flight;
        } else {
            self.flights.push(flight);
        }
        Ok(key)
    }

    /// Puts a future into the queue for room, in its old place if it has a ticket. The
    /// caller must drop the waker that comes back.
    pub(super) fn queue(
        &mut self,
        ticket: Option<Ticket>,
        waker: &Waker,
    ) -> (Ticket, Option<Waker>) {
        let ticket = ticket.unwrap_or_else(|| {
            self.next_ticket += 1;
            self.next_ticket
        });
        let old = self.leave_queue(ticket);
        let at = self.queue.partition_point(|(other, _)| *other < ticket);
        self.queue.insert(at, (ticket, waker.clone()));
        (ticket, old)
    }

    /// Takes a future out of the queue for room. Returns `None` if it is not there, because it
    /// was woken.
    pub(super) fn leave_queue(&mut self, ticket: Ticket) -> Option<Waker> {
        let at = self
            .queue
            .binary_search_by_key(&ticket, |(ticket, _)| *ticket);
        Some(self.queue.remove(at.ok()?)?.1)
    }

    /// Returns the operation and its end, or notes the waker of its task. The caller must
    /// drop the waker that comes back.
    pub(super) fn poll<O: Operation>(
        &mut self,
        key: u32,
        waker: &Waker,
    ) -> Result<(O, End), Option<Waker>> {
        match &mut self.flights[key as usize] {
            State::InFlight { waker: old, .. } => {
                let new = (!old.will_wake(waker)).then(|| waker.clone());
                Err(new.map(|new| mem::replace(old, new)))
            }
            State::Ended(index) => {
                let index = *index;
                self.let_go(key);
                Ok(self.ring.take_output(index))
            }
            State::Free | State::Dropped => {
                unreachable!("the future has its flight until it takes the result")
            }
        }
    }

    #[inline]
    fn let_go(&mut self, key: u32) {
        self.flights[key as usize] = State::Free;
        self.free.push(key);
    }

    /// The future of an operation is gone: cancels the operation, whose memory the ring
    /// keeps. Returns what the caller must drop.
    pub(super) fn abandon(&mut self, key: u32) -> (Option<Waker>, Option<Done>) {
        match mem::replace(&mut self.flights[key as usize], State::Dropped) {
            State::InFlight { index, waker } => {
                // An operation that cannot be cancelled ends by itself, or with the ring.
                let _ = self.ring.cancel_at(index);
                (Some(waker), None)
            }
            State::Ended(index) => {
                self.let_go(key);
                (None, Some(self.ring.take_held(index)))
            }
            State::Free | State::Dropped => {
                unreachable!("the future has its flight until it is gone")
            }
        }
    }

    /// Notes the end of an operation that the ring holds. Returns the waker of its task, or
    /// `None` if its future is gone, so that nobody wants the result.
    fn end(&mut self, token: u64, index: u32) -> Option<Waker> {
        let key = token as u32;
        if self.urgent == Some(key) {
            self.urgent = None;
            self.reserve();
        }
        match self.flights.get_mut(token as usize) {
            Some(flight @ State::InFlight { .. }) => {
                match mem::replace(flight, State::Ended(index)) {
                    State::InFlight { waker, .. } => return Some(waker),
                    _ => unreachable!("it was in flight"),
                }
            }
            Some(State::Dropped) => self.let_go(key),
            // The operation was submitted before the ring became a reactor's.
            _ => {}
        }
        None
    }
}

/// Readable while there are results, or operations that only a turn starts: see the
/// descriptor of [`Ring`]. Turn the reactor before you wait for it again.
impl AsFd for Reactor {
    fn as_fd(&self) -> BorrowedFd<'_> {
        let fd = self.as_raw_fd();
        // SAFETY: the ring keeps its descriptors as long as it exists, and is never taken out
        // of the reactor.
        unsafe { BorrowedFd::borrow_raw(fd) }
    }
}

impl AsRawFd for Reactor {
    fn as_raw_fd(&self) -> RawFd {
        self.inner().ring.as_fd().as_raw_fd()
    }
}

impl fmt::Debug for Reactor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut all = f.debug_struct("Reactor");
        if let Ok(inner) = self.shared.try_borrow() {
            all.field("ring", &inner.ring);
        }
        all.finish_non_exhaustive()
    }
}
