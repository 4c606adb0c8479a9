// SPDX-License-Identifier: MIT OR Apache-2.0
//! The future of one operation.

#![expect(
    unsafe_code,
    reason = "says how an operation ends that was never started"
)]

use std::fmt;
use std::future::Future;
use std::mem;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use super::Reactor;
use super::reactor::Place;
use crate::ops::Operation;
use crate::ops::private::End;

/// The future of an operation: see [`Reactor::submit`].
///
/// Dropping the future cancels the operation. The values that the operation took go to the
/// ring, which drops them when the kernel has finished.
#[must_use = "an operation does nothing until its future is polled"]
pub struct Submitted<O: Operation> {
    reactor: Reactor,
    place: Place<O>,
}

// No field is pinned.
impl<O: Operation> Unpin for Submitted<O> {}

impl<O: Operation> Submitted<O> {
    pub(super) fn new(reactor: Reactor, operation: O) -> Self {
        Submitted {
            reactor,
            place: Place::Held(operation, None),
        }
    }

    /// Starts the operation, or waits until there is room.
    fn start(&mut self, operation: O, ticket: Option<u64>, waker: &Waker) {
        let mut inner = self.reactor.inner();
        match inner.start(operation, waker) {
            Ok(key) => {
                self.place = Place::InFlight(key);
                let old = ticket.and_then(|ticket| inner.leave_queue(ticket));
                drop(inner);
                drop(old);
                self.reactor.wake_driver();
            }
            Err(operation) => {
                let (ticket, old) = inner.queue(ticket, waker);
                self.place = Place::Held(operation, Some(ticket));
                drop(inner);
                drop(old);
            }
        }
    }
}

impl<O: Operation> Future for Submitted<O> {
    type Output = O::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<O::Output> {
        let this = self.get_mut();
        match mem::replace(&mut this.place, Place::Taken) {
            Place::Held(operation, ticket) => {
                if !this.reactor.inner().in_same_process() {
                    let canceled = -i64::from(libc::ECANCELED);
                    // SAFETY: the operation makes no call.
                    let end = unsafe { End::new(canceled, false) };
                    return Poll::Ready(operation.output(end));
                }
                this.start(operation, ticket, cx.waker());
                Poll::Pending
            }
            Place::InFlight(key) => {
                let polled = this.reactor.inner().poll::<O>(key, cx.waker());
                match polled {
                    Ok((operation, end)) => Poll::Ready(operation.output(end)),
                    Err(old) => {
                        this.place = Place::InFlight(key);
                        drop(old);
                        Poll::Pending
                    }
                }
            }
            Place::Taken => panic!("the future has returned its output already"),
        }
    }
}

impl<O: Operation> Drop for Submitted<O> {
    fn drop(&mut self) {
        match mem::replace(&mut self.place, Place::Taken) {
            Place::Held(operation, Some(ticket)) => {
                let left = self.reactor.inner().leave_queue(ticket);
                if left.is_none() {
                    // This future was woken, and another one can have its room.
                    self.reactor.offer_room();
                }
                drop((left, operation));
            }
            Place::InFlight(key) => {
                let unwanted = self.reactor.inner().abandon(key);
                drop(unwanted);
                // The operation may already have a result, which must be dropped to make room.
                self.reactor.wake_driver();
            }
            Place::Held(_, None) | Place::Taken => {}
        }
    }
}

impl<O: Operation> fmt::Debug for Submitted<O> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let place = match &self.place {
            Place::Held(_, None) => "not submitted",
            Place::Held(_, Some(_)) => "waits for room",
            Place::InFlight(_) => "in flight",
            Place::Taken => "ended",
        };
        f.debug_tuple("Submitted").field(&place).finish()
    }
}
