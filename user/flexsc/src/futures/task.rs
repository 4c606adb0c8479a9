// SPDX-License-Identifier: MIT OR Apache-2.0
//! A spawned task, as seen by a task that waits for its output.

use std::cell::RefCell;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use super::executor::Core;
use super::remote::Entry;

/// A task of an [`Executor`](super::Executor): the future of its output, which is `None` if
/// the task was cancelled, or dropped by the executor. If this value is dropped, the task
/// continues.
pub struct Task<T> {
    pub(super) output: Rc<Output<T>>,
    pub(super) core: Weak<Core>,
    pub(super) entry: Arc<Entry>,
}

pub(super) struct Output<T> {
    state: RefCell<State<T>>,
}

enum State<T> {
    Unfinished(Option<Waker>),
    Finished(Option<T>),
}

impl<T> Output<T> {
    pub(super) fn new() -> Rc<Self> {
        Rc::new(Output {
            state: RefCell::new(State::Unfinished(None)),
        })
    }

    /// The task has finished with this, or was dropped.
    pub(super) fn finish(&self, output: Option<T>) {
        let mut state = self.state.borrow_mut();
        if let State::Unfinished(waker) = &mut *state {
            let waker = waker.take();
            *state = State::Finished(output);
            drop(state);
            if let Some(waker) = waker {
                waker.wake();
            }
        }
    }
}

impl<T> Task<T> {
    /// Drops the task's future, which cancels its operations. The task then has no output,
    /// unless it has finished before.
    pub fn cancel(&self) {
        if let Some(core) = self.core.upgrade() {
            core.cancel(&self.entry);
        }
    }
}

impl<T> Future for Task<T> {
    type Output = Option<T>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<T>> {
        let mut state = self.output.state.borrow_mut();
        match &mut *state {
            State::Finished(output) => Poll::Ready(output.take()),
            State::Unfinished(waker) => {
                let old = waker.replace(cx.waker().clone());
                drop(state);
                drop(old);
                Poll::Pending
            }
        }
    }
}

impl<T> fmt::Debug for Task<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Task").field(&self.entry.key).finish()
    }
}
