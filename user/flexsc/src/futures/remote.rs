// SPDX-License-Identifier: MIT OR Apache-2.0
//! Tasks that are ready to run, and the way for other threads to wake a sleeping executor.

use std::collections::VecDeque;
use std::io::{self, Write};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Wake;

/// The part of an executor that wakers of any thread share.
#[derive(Debug)]
pub(super) struct Remote {
    state: Mutex<State>,
    /// The executor reads from the other end while it sleeps.
    bell: UnixStream,
}

#[derive(Debug, Default)]
struct State {
    ready: VecDeque<Arc<Entry>>,
    /// The executor sleeps, or is about to.
    sleeping: bool,
}

/// A task, for its wakers.
#[derive(Debug)]
pub(super) struct Entry {
    /// Its index, or [`Entry::ROOT`].
    pub(super) key: usize,
    /// True if the task is in `ready`.
    queued: AtomicBool,
    remote: Arc<Remote>,
}

impl Remote {
    /// Returns the wakers' part, and the socket to read from.
    ///
    /// # Errors
    ///
    /// Those of socketpair(2).
    pub(super) fn new() -> io::Result<(Arc<Self>, UnixStream)> {
        let (bell, heard) = UnixStream::pair()?;
        // A full socket has woken the executor already.
        bell.set_nonblocking(true)?;
        let state = Mutex::default();
        Ok((Arc::new(Remote { state, bell }), heard))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Swaps the ready tasks with an empty queue.
    pub(super) fn take(&self, ready: &mut VecDeque<Arc<Entry>>) {
        debug_assert!(ready.is_empty());
        std::mem::swap(&mut self.lock().ready, ready);
    }

    /// Notes that the executor will sleep, unless a task is ready. From then on a waker rings
    /// the bell.
    pub(super) fn sleep(&self) -> bool {
        let mut state = self.lock();
        state.sleeping = state.ready.is_empty();
        state.sleeping
    }

    pub(super) fn awake(&self) {
        self.lock().sleeping = false;
    }

    /// Forgets all ready tasks.
    pub(super) fn clear(&self) {
        let ready = std::mem::take(&mut self.lock().ready);
        drop(ready);
    }
}

impl Entry {
    /// The future of `block_on`.
    pub(super) const ROOT: usize = usize::MAX;

    pub(super) fn new(key: usize, remote: &Arc<Remote>) -> Arc<Self> {
        Arc::new(Entry {
            key,
            queued: AtomicBool::new(false),
            remote: Arc::clone(remote),
        })
    }

    /// Notes that the task runs: a waker must put it into the queue again.
    pub(super) fn begin(&self) {
        // ORDERING: acquire, pairs with the swap in `wake_by_ref`: what the waker's thread did
        // before it found the task queued already is visible to the task.
        self.queued.swap(false, Ordering::Acquire);
    }
}

impl Wake for Entry {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        // ORDERING: release, see `Entry::begin`. The lock below orders the rest.
        if self.queued.swap(true, Ordering::AcqRel) {
            return;
        }
        let mut state = self.remote.lock();
        state.ready.push_back(Arc::clone(self));
        let ring = std::mem::take(&mut state.sleeping);
        drop(state);
        if ring {
            // Fails only if the executor has ended, or has enough to read.
            let _ = (&self.remote.bell).write(&[1]);
        }
    }
}
