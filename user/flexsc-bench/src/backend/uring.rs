// SPDX-License-Identifier: MIT OR Apache-2.0
//! The nearest equivalent of each call through io_uring.

use std::hint;
use std::io;

use io_uring::types::Fd;
use io_uring::{IoUring, opcode, squeue};

use super::Backend;
use crate::request::{OPEN_FLAGS, Request};

/// The set-up of the ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// The default.
    Simple,
    /// SINGLE_ISSUER and DEFER_TASKRUN.
    Defer,
    /// A kernel thread polls for submissions on this CPU while this thread polls for
    /// completions. With only one CPU, the kernel thread runs anywhere while this thread
    /// waits in io_uring_enter.
    Sqpoll(Option<usize>),
}

/// A ring.
pub struct Uring {
    ring: IoUring,
    mode: Mode,
}

impl Uring {
    /// Milliseconds without work after which the kernel thread sleeps.
    const IDLE_MS: u32 = 1000;

    /// Makes a ring with room for `calls` at a time.
    ///
    /// # Errors
    ///
    /// The kernel refuses io_uring.
    pub fn new(calls: usize, mode: Mode) -> io::Result<Uring> {
        let mut builder = IoUring::builder();
        match mode {
            Mode::Simple => {}
            Mode::Defer => {
                builder.setup_single_issuer().setup_defer_taskrun();
            }
            Mode::Sqpoll(cpu) => {
                builder.setup_sqpoll(Self::IDLE_MS);
                if let Some(cpu) = cpu {
                    builder.setup_sqpoll_cpu(cpu as u32);
                }
            }
        }
        let ring = builder.build(calls.next_power_of_two() as u32)?;
        Ok(Uring { ring, mode })
    }

    #[inline(always)]
    fn entry(request: Request) -> Option<squeue::Entry> {
        Some(match request {
            Request::Getppid => opcode::Nop::new().build(),
            Request::Pread(fd, buf, len) => opcode::Read::new(Fd(fd), buf, len as u32).build(),
            Request::Read(fd, buf, len) => opcode::Read::new(Fd(fd), buf, len as u32)
                .offset(u64::MAX)
                .build(),
            Request::Fstat(fd, status) => opcode::Statx::new(Fd(fd), c"".as_ptr(), status.cast())
                .flags(libc::AT_EMPTY_PATH)
                .mask(libc::STATX_BASIC_STATS)
                .build(),
            Request::Open(path) => opcode::OpenAt::new(Fd(libc::AT_FDCWD), path)
                .flags(OPEN_FLAGS)
                .build(),
            Request::Close(fd) => opcode::Close::new(Fd(fd)).build(),
            Request::Send(fd, buf, len) => opcode::Send::new(Fd(fd), buf, len as u32).build(),
            Request::Recv(fd, buf, len) => opcode::Recv::new(Fd(fd), buf, len as u32).build(),
            Request::Rewind(_) | Request::Getdents(..) => return None,
        })
    }

    /// Submits the calls without waiting for them.
    ///
    /// # Safety
    ///
    /// The pointers of the requests must be valid until the results are taken.
    ///
    /// # Errors
    ///
    /// There is no room for all of them; those of io_uring_enter.
    pub unsafe fn post(
        &mut self,
        count: usize,
        request: impl Fn(usize) -> Request,
    ) -> io::Result<()> {
        // SAFETY: the caller's promise.
        unsafe { self.fill(count, request) }?;
        self.ring.submit().map(drop)
    }

    #[inline(always)]
    unsafe fn fill(&mut self, count: usize, request: impl Fn(usize) -> Request) -> io::Result<()> {
        let mut queue = self.ring.submission();
        for index in 0..count {
            // A result can arrive before its submission entry is free again.
            while matches!(self.mode, Mode::Sqpoll(_)) && queue.is_full() {
                hint::spin_loop();
                queue.sync();
            }
            let Some(entry) = Self::entry(request(index)) else {
                return Err(io::Error::other("io_uring has no operation for this"));
            };
            // SAFETY: the caller's promise.
            unsafe { queue.push(&entry) }.map_err(io::Error::other)?;
        }
        Ok(())
    }

    /// Takes the available results without waiting. Returns how many.
    #[inline(always)]
    pub fn take_some(&mut self, mut take: impl FnMut(i64)) -> usize {
        let mut taken = 0;
        for done in self.ring.completion() {
            take(done.result().into());
            taken += 1;
        }
        taken
    }

    /// Waits for `count` results and takes them.
    ///
    /// # Errors
    ///
    /// Those of io_uring_enter.
    #[inline(always)]
    pub fn take(&mut self, count: usize, mut take: impl FnMut(i64)) -> io::Result<()> {
        let polls = matches!(self.mode, Mode::Sqpoll(Some(_)));
        let mut left = count;
        if polls {
            self.ring.submit()?;
        }
        while left > 0 {
            if !polls {
                self.ring.submit_and_wait(left)?;
            }
            let before = left;
            for done in self.ring.completion() {
                take(done.result().into());
                left -= 1;
            }
            if polls && left == before {
                hint::spin_loop();
            }
        }
        Ok(())
    }
}

impl Backend for Uring {
    #[inline(always)]
    unsafe fn batch(
        &mut self,
        count: usize,
        request: impl Fn(usize) -> Request,
        take: impl FnMut(i64),
    ) -> io::Result<()> {
        // SAFETY: the caller's promise; the results are taken below.
        unsafe { self.fill(count, request) }?;
        self.take(count, take)
    }
}
