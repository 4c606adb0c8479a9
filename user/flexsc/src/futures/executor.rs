// SPDX-License-Identifier: MIT OR Apache-2.0
//! An executor for one thread, which makes batches.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::fmt;
use std::future::Future;
use std::mem;
use std::os::unix::net::UnixStream;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use super::reactor::{Place, Reactor};
use super::remote::{Entry, Remote};
use super::task::{Output, Task};
use crate::ops::{Operation, Recv};
use crate::{Error, Fd, Ring, Wait};

/// How many tasks may run before the operations that they have submitted are executed.
const MOST_POLLS: usize = 1024;

/// An executor for one thread. It runs the tasks that are ready, and then executes everything
/// that they have submitted with one wait. Clones share it.
///
/// ```
/// use std::time::Duration;
/// use flexsc::futures::Executor;
/// use flexsc::ops::Sleep;
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let executor = Executor::open(1)?;
/// executor.block_on(async {
///     let sleep = |millis| executor.reactor().submit(Sleep::new(Duration::from_millis(millis)));
///     let tasks: Vec<_> = (0..10).map(|millis| executor.spawn(sleep(millis))).collect();
///     for task in tasks {
///         task.await.expect("nobody cancels it")?;
///     }
///     std::io::Result::Ok(())
/// })??;
/// # Ok(())
/// # }
/// ```
///
/// Wakers may be used in any thread, even while the executor sleeps. To be woken, it keeps one
/// operation in flight.
///
/// A panic of a task ends [`block_on`](Self::block_on).
#[derive(Clone)]
pub struct Executor {
    core: Rc<Core>,
}

/// A task's future, without its output.
type Run = Pin<Box<dyn Future<Output = ()>>>;

pub(super) struct Core {
    reactor: Reactor,
    remote: Arc<Remote>,
    tasks: RefCell<Tasks>,
    /// The wait policy if no task is ready.
    policy: Cell<Wait>,
    bell: RefCell<Bell>,
    running: Cell<bool>,
}

#[derive(Default)]
struct Tasks {
    all: Vec<Option<Spawned>>,
    /// Indices of the free elements of `all`.
    free: Vec<usize>,
}

struct Spawned {
    entry: Arc<Entry>,
    /// `None` while the task runs.
    run: Option<Run>,
}

/// The read that ends when another thread wakes a task.
struct Bell {
    fd: Fd,
    read: Place<Recv<Box<[u8; 64]>>>,
}

impl Executor {
    /// Makes an executor that drives this ring.
    ///
    /// # Errors
    ///
    /// [`Error::Other`] if there are no more descriptors.
    pub fn new(ring: Ring) -> Result<Self, Error> {
        let (remote, heard) = Remote::new().map_err(|error| Error::Other {
            doing: "make a socket pair",
            errno: error.raw_os_error().unwrap_or(libc::EIO),
        })?;
        let reactor = Reactor::new(ring);
        reactor.inner().reserve();
        Ok(Executor {
            core: Rc::new(Core {
                reactor,
                remote,
                tasks: RefCell::default(),
                policy: Cell::new(Wait::any()),
                bell: RefCell::new(Bell::new(heard)),
                running: Cell::new(false),
            }),
        })
    }

    /// Makes an executor that drives the ring of [`Ring::open`].
    ///
    /// # Errors
    ///
    /// Those of [`Ring::open`] and [`Executor::new`].
    pub fn open(pages: u32) -> Result<Self, Error> {
        Executor::new(Ring::open(pages)?)
    }

    /// The reactor, to submit operations.
    #[must_use]
    pub fn reactor(&self) -> &Reactor {
        &self.core.reactor
    }

    /// Sets the wait policy if no task is ready; [`Wait::any`] if not set. With
    /// [`Wait::adaptive`] or [`Wait::some`] and a linger time, more tasks become ready at
    /// once.
    ///
    /// # Panics
    ///
    /// Panics if one result could not end the wait, even after a while: tasks may wait for
    /// each other, and an operation of the executor itself is always in flight.
    pub fn set_wait(&self, policy: Wait) {
        let ends = policy.ends_with_one();
        assert!(ends, "a wait that one result does not end: {policy:?}");
        self.core.policy.set(policy);
    }

    /// Starts a task, which runs while the thread is in [`block_on`](Self::block_on).
    pub fn spawn<F>(&self, future: F) -> Task<F::Output>
    where
        F: Future + 'static,
        F::Output: 'static,
    {
        let output = Output::new();
        let finish = Finish(Rc::clone(&output));
        let run = async move {
            let output = future.await;
            finish.0.finish(Some(output));
        };
        let entry = self.core.add(Box::pin(run));
        Task {
            output,
            core: Rc::downgrade(&self.core),
            entry,
        }
    }

    /// Runs a future and all tasks until the future has finished, and returns its output.
    /// Then drops all other tasks, which cancels their operations.
    ///
    /// # Errors
    ///
    /// Those of [`Ring::wait`], except that neither a signal nor a timeout of
    /// [`set_wait`](Self::set_wait) is one.
    ///
    /// # Panics
    ///
    /// Panics if the thread is already in `block_on` of this executor.
    pub fn block_on<F: Future>(&self, future: F) -> Result<F::Output, Error> {
        let core = &*self.core;
        assert!(!core.running.replace(true), "the executor runs already");
        let _end = EndOfRun(core);
        let mut future = pin!(future);
        let root = Entry::new(Entry::ROOT, &core.remote);
        let waker = Waker::from(Arc::clone(&root));
        waker.wake_by_ref();
        let mut ready = VecDeque::new();
        loop {
            let mut polls = 0;
            while polls < MOST_POLLS {
                core.remote.take(&mut ready);
                if ready.is_empty() {
                    break;
                }
                polls += ready.len();
                for entry in ready.drain(..) {
                    entry.begin();
                    if entry.key != Entry::ROOT {
                        core.run(&entry);
                    } else if Arc::ptr_eq(&entry, &root) {
                        let mut cx = Context::from_waker(&waker);
                        if let Poll::Ready(output) = future.as_mut().poll(&mut cx) {
                            return Ok(output);
                        }
                    }
                }
            }
            core.turn()?;
        }
    }
}

/// Notifies the waiting tasks, even if the task is dropped.
struct Finish<T>(Rc<Output<T>>);

impl<T> Drop for Finish<T> {
    fn drop(&mut self) {
        self.0.finish(None);
    }
}

/// Drops the tasks, after a panic too.
struct EndOfRun<'a>(&'a Core);

impl Drop for EndOfRun<'_> {
    fn drop(&mut self) {
        self.0.running.set(false);
        // A task that is dropped may spawn another one.
        loop {
            let tasks = mem::take(&mut *self.0.tasks.borrow_mut());
            if tasks.all.is_empty() {
                break;
            }
            drop(tasks);
        }
        self.0.remote.clear();
    }
}

impl Core {
    fn add(&self, run: Run) -> Arc<Entry> {
        let mut tasks = self.tasks.borrow_mut();
        let key = tasks.free.pop().unwrap_or(tasks.all.len());
        let entry = Entry::new(key, &self.remote);
        let spawned = Some(Spawned {
            entry: Arc::clone(&entry),
            run: Some(run),
        });
        match tasks.all.get_mut(key) {
            Some(place) => *place = spawned,
            None => tasks.all.push(spawned),
        }
        drop(tasks);
        Waker::from(Arc::clone(&entry)).wake();
        entry
    }

    /// Runs a task, unless it has finished.
    fn run(&self, entry: &Arc<Entry>) {
        let mut tasks = self.tasks.borrow_mut();
        let Some(mut run) = tasks.get(entry).and_then(|task| task.run.take()) else {
            return;
        };
        drop(tasks);
        let waker = Waker::from(Arc::clone(entry));
        let polled = run.as_mut().poll(&mut Context::from_waker(&waker));
        let mut tasks = self.tasks.borrow_mut();
        // The task may have cancelled itself.
        match tasks.get(entry) {
            Some(task) if polled.is_pending() => task.run = Some(run),
            Some(_) => {
                let task = tasks.remove(entry);
                drop(tasks);
                drop((task, run));
            }
            None => {
                drop(tasks);
                drop(run);
            }
        }
    }

    /// Drops a task.
    pub(super) fn cancel(&self, entry: &Arc<Entry>) {
        let task = self.tasks.borrow_mut().remove(entry);
        drop(task);
    }

    /// Executes the submitted operations, and sleeps if no task is ready.
    fn turn(&self) -> Result<(), Error> {
        self.bell.borrow_mut().listen(&self.reactor);
        let wait = if self.remote.sleep() {
            self.policy.get()
        } else {
            Wait::none()
        };
        let waited = self.reactor.wait_only(wait);
        self.remote.awake();
        self.reactor.deliver();
        match waited {
            Err(Error::Interrupted | Error::TimedOut) => Ok(()),
            other => other,
        }
    }
}

impl Drop for Core {
    fn drop(&mut self) {
        // The program may keep the reactor.
        if let Place::InFlight(key) = self.bell.borrow().read {
            let read = self.reactor.inner().abandon(key);
            drop(read);
        }
    }
}

impl Tasks {
    /// Returns a task that has not finished.
    fn get(&mut self, entry: &Arc<Entry>) -> Option<&mut Spawned> {
        let task = self.all.get_mut(entry.key)?.as_mut()?;
        Arc::ptr_eq(&task.entry, entry).then_some(task)
    }

    fn remove(&mut self, entry: &Arc<Entry>) -> Option<Spawned> {
        self.get(entry)?;
        self.free.push(entry.key);
        self.all[entry.key].take()
    }
}

impl Bell {
    fn new(heard: UnixStream) -> Self {
        let fd = Fd::from(heard);
        let read = Place::Held(Recv::new(&fd, Box::new([0; 64])), None);
        Bell { fd, read }
    }

    /// Has a read in flight.
    fn listen(&mut self, reactor: &Reactor) {
        let mut inner = reactor.inner();
        if let Place::InFlight(key) = self.read {
            match inner.poll::<Recv<Box<[u8; 64]>>>(key, Waker::noop()) {
                Ok((read, end)) => {
                    drop(inner);
                    let (_, buf) = read.output(end);
                    self.read = Place::Held(Recv::new(&self.fd, buf), None);
                    inner = reactor.inner();
                }
                Err(_) => return,
            }
        }
        if let Place::Held(read, _) = mem::replace(&mut self.read, Place::Taken) {
            // A ring that had operations in flight before may be full.
            self.read = match inner.start_urgent(read) {
                Ok(key) => Place::InFlight(key),
                Err(read) => Place::Held(read, None),
            };
        }
    }
}

impl fmt::Debug for Executor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Executor")
            .field("reactor", &self.core.reactor)
            .field("running", &self.core.running.get())
            .finish_non_exhaustive()
    }
}
