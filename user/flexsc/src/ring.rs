// SPDX-License-Identifier: MIT OR Apache-2.0
//! The safe layer: buffers are owned until their operation has finished, and
//! what the kernel cannot or will not execute is done by plain calls.

#![expect(unsafe_code, reason = "posts calls on buffers that it owns")]

use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::marker::PhantomData;
use std::mem;
use std::os::fd::BorrowedFd;

use crate::call::Completion;
use crate::ops::Operation;
use crate::sys::abi::FLEXSC_PAGE_ENTRIES;
use crate::{Engine, Error, Pages, Reason, Slot, Wait};

/// Operations in flight on files that live for `'fd`.
///
/// ```
/// use std::fs::File;
/// use std::os::fd::AsFd;
/// use flexsc::{Ring, Wait, ops::Read};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let file = File::open("/proc/self/stat")?;
/// let mut ring = Ring::open(1)?; // plain calls where there is no engine
/// for part in 0..4 {
///     let read = Read::new(file.as_fd(), vec![0; 16]).at(part * 16);
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
/// Dropping it waits for what is in flight, as the plain calls would have.
/// Forgetting it leaks the buffers, and nothing worse.
pub struct Ring<'fd> {
    backend: Backend,
    /// What is in flight, by slot.
    flights: Vec<Option<Flight>>,
    /// How many those are.
    flying: usize,
    plain: u64,
    _files: PhantomData<BorrowedFd<'fd>>,
}

enum Backend {
    Pages(Pages),
    /// Results of calls that were made at once.
    Plain(VecDeque<Done>),
}

/// Keeps the memory of a call until it has finished.
struct Flight {
    token: u64,
    buf: Vec<u8>,
}

/// A finished operation.
#[derive(Debug)]
pub struct Done {
    /// The number that it was submitted with.
    pub token: u64,
    /// How many bytes were read or written.
    pub result: io::Result<usize>,
    /// Its buffer.
    pub buf: Vec<u8>,
}

impl<'fd> Ring<'fd> {
    /// On these pages, which must have nothing in flight.
    ///
    /// # Errors
    ///
    /// The pages, where calls are in flight.
    #[expect(clippy::result_large_err, reason = "the pages go back to the caller")]
    pub fn new(mut pages: Pages) -> Result<Self, Pages> {
        if pages.in_flight() > 0 {
            return Err(pages);
        }
        pages.set_fallback(true);
        let capacity = pages.capacity();
        Ok(Self::with(Backend::Pages(pages), capacity))
    }

    /// On so many pages of an engine of its own; with plain calls, where the
    /// machine has no engine for this program ([`Error::is_absent`]).
    ///
    /// # Errors
    ///
    /// As [`Engine::open`] and [`Engine::register`], but for those.
    pub fn open(pages: u32) -> Result<Self, Error> {
        match Engine::open().and_then(|engine| engine.register(pages)) {
            Ok(pages) => Ok(Self::new(pages).expect("nothing was posted")),
            Err(error) if error.is_absent() => Ok(Self::plain(pages)),
            Err(error) => Err(error),
        }
    }

    /// With plain calls; as many in flight as so many pages hold.
    #[must_use]
    pub fn plain(pages: u32) -> Self {
        let capacity = (pages * FLEXSC_PAGE_ENTRIES) as usize;
        Self::with(Backend::Plain(VecDeque::with_capacity(capacity)), capacity)
    }

    fn with(backend: Backend, capacity: usize) -> Self {
        Ring {
            backend,
            flights: (0..capacity).map(|_| None).collect(),
            flying: 0,
            plain: 0,
            _files: PhantomData,
        }
    }

    /// Whether there is no engine behind it.
    #[must_use]
    pub fn is_plain(&self) -> bool {
        matches!(self.backend, Backend::Plain(_))
    }

    /// How many plain calls were made, for want of an engine or in place of
    /// refused ones.
    #[must_use]
    pub fn plain_calls(&self) -> u64 {
        match &self.backend {
            Backend::Pages(pages) => pages.fallbacks(),
            Backend::Plain(_) => self.plain,
        }
    }

    /// How many operations are in flight, their results not taken.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        match &self.backend {
            Backend::Pages(_) => self.flying,
            Backend::Plain(results) => results.len(),
        }
    }

    /// How many more can be.
    #[must_use]
    pub fn free(&self) -> usize {
        self.flights.len() - self.in_flight()
    }

    /// Writes an operation into a page; [`ring`](Self::ring) or
    /// [`wait`](Self::wait) posts it. `token` comes back with its result.
    ///
    /// # Errors
    ///
    /// The operation, where none is free.
    pub fn submit<O: Operation<'fd>>(&mut self, operation: O, token: u64) -> Result<(), O> {
        if self.free() == 0 {
            return Err(operation);
        }
        let (call, buf) = operation.into_parts();
        match &mut self.backend {
            Backend::Pages(pages) => {
                // SAFETY: the call points to `buf` alone, which is kept in
                // `flights` until its completion was taken, and never freed
                // otherwise; the file is open for `'fd`.
                let slot = unsafe { pages.stage(call) }.expect("one is free");
                self.flights[slot.index()] = Some(Flight { token, buf });
                self.flying += 1;
            }
            Backend::Plain(results) => {
                // SAFETY: `buf` and the file are there.
                let result = unsafe { call.make() };
                self.plain += 1;
                results.push_back(done(Flight { token, buf }, result));
            }
        }
        Ok(())
    }

    /// Posts what was submitted.
    pub fn ring(&mut self) {
        if let Backend::Pages(pages) = &mut self.backend {
            pages.ring();
        }
    }

    /// Posts what was submitted and waits; returns how many results there are.
    ///
    /// # Errors
    ///
    /// As [`Pages::wait`].
    pub fn wait(&mut self, wait: Wait) -> Result<usize, Error> {
        match &mut self.backend {
            Backend::Pages(pages) => pages.wait(wait),
            Backend::Plain(results) if wait.satisfied(results.len(), true) => Ok(results.len()),
            Backend::Plain(_) => Err(Error::NothingToWaitFor),
        }
    }

    /// Takes the next result, if there is one. No trap, unless the kernel has
    /// refused the call and a plain one is made in its place.
    #[expect(
        clippy::should_implement_trait,
        reason = "more may come after None, and a loop over it would keep the ring borrowed"
    )]
    pub fn next(&mut self) -> Option<Done> {
        match &mut self.backend {
            Backend::Pages(pages) => {
                let Completion { slot, result, .. } = pages.poll()?;
                let flight = self.flights[slot.index()].take();
                self.flying -= 1;
                Some(done(flight.expect("one for each call in flight"), result))
            }
            Backend::Plain(results) => results.pop_front(),
        }
    }

    /// Takes the next result; waits for it if need be. `None` when nothing is
    /// in flight.
    ///
    /// # Errors
    ///
    /// As [`Pages::wait`], but a signal does not end it.
    pub fn next_or_wait(&mut self) -> Result<Option<Done>, Error> {
        loop {
            if let Some(done) = self.next() {
                return Ok(Some(done));
            }
            if self.in_flight() == 0 {
                return Ok(None);
            }
            match self.wait(Wait::any()) {
                Ok(_) | Err(Error::Interrupted) => {}
                Err(error) => return Err(error),
            }
        }
    }
}

fn done(flight: Flight, result: i64) -> Done {
    let completion = Completion {
        slot: Slot::new(0, 0),
        result,
        reason: Reason::None,
    };
    Done {
        token: flight.token,
        result: completion.io().map(|len| len as usize),
        buf: flight.buf,
    }
}

impl Drop for Ring<'_> {
    fn drop(&mut self) {
        let inherited = match &self.backend {
            Backend::Pages(pages) => !pages.is_ours(),
            Backend::Plain(_) => return,
        };
        let left = if inherited {
            // A child after fork: nothing is in flight here.
            Ok(None)
        } else {
            loop {
                match self.next_or_wait() {
                    Ok(Some(_)) => {}
                    end => break end,
                }
            }
        };
        if left.is_err() {
            // The kernel may still use the buffers: they are not ours to free.
            mem::forget(mem::take(&mut self.flights));
        }
    }
}

impl fmt::Debug for Ring<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ring")
            .field("plain", &self.is_plain())
            .field("capacity", &self.flights.len())
            .field("in_flight", &self.in_flight())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::{Read, Sync, Write};
    use std::fs::File;
    use std::io::Read as _;
    use std::os::fd::AsFd;
    use std::os::unix::net::UnixStream;

    #[test]
    fn without_an_engine_it_makes_plain_calls() {
        let (mut reader, writer) = UnixStream::pair().unwrap();
        let mut ring = Ring::plain(1);
        let text = b"through a pipe".to_vec();
        ring.submit(Write::new(writer.as_fd(), text.clone()), 7)
            .unwrap();
        assert_eq!((ring.in_flight(), ring.plain_calls()), (1, 1));
        let done = ring.next_or_wait().unwrap().unwrap();
        assert_eq!((done.token, done.result.unwrap()), (7, text.len()));
        assert_eq!(done.buf, text);
        assert!(ring.next_or_wait().unwrap().is_none());
        assert_eq!(ring.wait(Wait::any()), Err(Error::NothingToWaitFor));
        drop(ring);
        drop(writer);
        let mut back = Vec::new();
        reader.read_to_end(&mut back).unwrap();
        assert_eq!(back, text);
    }

    #[test]
    fn a_full_ring_hands_the_operation_back() {
        let null = File::open("/dev/null").unwrap();
        let mut ring = Ring::plain(1);
        for token in 0..64 {
            let read = Read::new(null.as_fd(), vec![0; 8]).at(0);
            ring.submit(read, token).unwrap();
        }
        assert!(ring.submit(Sync::new(null.as_fd()), 64).is_err());
        assert_eq!(ring.wait(Wait::all()), Ok(64));
        assert_eq!(ring.next().unwrap().result.unwrap(), 0);
        assert_eq!(ring.free(), 1);
    }

    #[test]
    fn errors_are_the_calls_own() {
        let null = File::open("/dev/null").unwrap();
        let mut ring = Ring::plain(1);
        ring.submit(Write::new(null.as_fd(), vec![1]), 0).unwrap();
        let error = ring.next().unwrap().result.unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::EBADF));
    }
}
