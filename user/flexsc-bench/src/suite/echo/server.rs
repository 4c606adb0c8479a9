// SPDX-License-Identifier: MIT OR Apache-2.0
//! The servers. Each echoes all bytes until all connections are closed, and counts its traps.

mod tasks;

use std::fs::File;
use std::hint;
use std::io::{self, Write};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::ptr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use flexsc::{Call, CpuSet, Engine, Pages, Wait, calls};
use io_uring::types::Fd;
use io_uring::{IoUring, opcode, squeue};
use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};

use crate::backend::flexsc::failed;
use crate::machine;

/// How a server is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// A thread for each connection, which blocks in recv(2).
    Threads,
    /// One thread, epoll_wait(2), level-triggered.
    Epoll,
    /// One thread, a ring with SINGLE_ISSUER and DEFER_TASKRUN, a send linked to the next recv.
    Uring,
    /// One thread, syscall pages, executed by that thread in its wait.
    Flexsc,
    /// One thread, a task for each connection on the crate's executor.
    FlexscAsync,
    /// One thread that never traps, syscall pages, a poller on the last CPU.
    FlexscPoller,
}

impl Way {
    pub const ALL: [Way; 6] = [
        Way::Threads,
        Way::Epoll,
        Way::Uring,
        Way::Flexsc,
        Way::FlexscAsync,
        Way::FlexscPoller,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Way::Threads => "threads",
            Way::Epoll => "epoll",
            Way::Uring => "io_uring",
            Way::Flexsc => "flexsc",
            Way::FlexscAsync => "flexsc-async",
            Way::FlexscPoller => "flexsc-poller",
        }
    }

    /// # Errors
    ///
    /// There is no such way.
    pub fn parse(name: &str) -> io::Result<Way> {
        let way = Way::ALL.into_iter().find(|way| way.name() == name);
        way.ok_or_else(|| io::Error::other(format!("no such way: {name}")))
    }
}

/// Bytes that a request may have.
const ROOM: usize = 64;

/// Stack of a thread: small, as in servers with many threads.
const STACK: usize = 64 << 10;

/// Traps and requests of a server.
#[derive(Clone, Copy, Default)]
struct Counted {
    traps: u64,
    served: u64,
}

/// Serves all connections and reports the numbers of traps and requests. Returns the exit status.
pub fn serve(way: Way, connections: Vec<OwnedFd>, mut tell: File) -> i32 {
    let counted = match way {
        Way::Threads => threads(&connections),
        Way::Epoll => epoll(&connections),
        Way::Uring => uring(&connections),
        Way::Flexsc => flexsc(&connections, false),
        Way::FlexscAsync => tasks::serve(connections),
        Way::FlexscPoller => flexsc(&connections, true),
    };
    let told = counted.and_then(|all| write!(tell, "{} {}", all.traps, all.served));
    match told {
        Ok(()) => 0,
        Err(why) => {
            eprintln!("# {}: {why}", way.name());
            1
        }
    }
}

/// A result of a call as the kernel gives it.
fn checked(result: i64) -> io::Result<usize> {
    usize::try_from(result).map_err(|_| Errno::from_raw(-result as i32).into())
}

/// recv(2) and send(2) of one connection until it ends.
fn echo(fd: RawFd) -> io::Result<Counted> {
    let mut bytes = [0u8; ROOM];
    let mut counted = Counted::default();
    loop {
        counted.traps += 1;
        let got = receive(fd, &mut bytes, 0)?;
        if got == 0 {
            return Ok(counted);
        }
        counted.traps += 1;
        counted.served += 1;
        send(fd, &bytes[..got])?;
    }
}

fn receive(fd: RawFd, bytes: &mut [u8], flags: i32) -> io::Result<usize> {
    // SAFETY: the bytes are valid for the whole call.
    let got = unsafe { libc::recv(fd, bytes.as_mut_ptr().cast(), bytes.len(), flags) };
    Ok(Errno::result(got)? as usize)
}

/// Sends all bytes, for which a socket's buffer always has room.
fn send(fd: RawFd, bytes: &[u8]) -> io::Result<()> {
    // SAFETY: the bytes are valid for the whole call.
    let sent = unsafe { libc::send(fd, bytes.as_ptr().cast(), bytes.len(), libc::MSG_NOSIGNAL) };
    whole(Errno::result(sent)? as usize, bytes.len())
}

fn whole(sent: usize, len: usize) -> io::Result<()> {
    if sent == len {
        Ok(())
    } else {
        Err(io::Error::other(format!("sent {sent} bytes of {len}")))
    }
}

fn threads(connections: &[OwnedFd]) -> io::Result<Counted> {
    let all = [AtomicU64::new(0), AtomicU64::new(0)];
    thread::scope(|scope| {
        let mut handles = Vec::with_capacity(connections.len());
        for fd in connections {
            let (fd, all) = (fd.as_raw_fd(), &all);
            let handle = thread::Builder::new().stack_size(STACK).spawn_scoped(
                scope,
                move || -> io::Result<()> {
                    let counted = echo(fd)?;
                    all[0].fetch_add(counted.traps, Ordering::Relaxed);
                    all[1].fetch_add(counted.served, Ordering::Relaxed);
                    Ok(())
                },
            )?;
            handles.push(handle);
        }
        handles.into_iter().try_for_each(|handle| {
            let end = handle.join();
            end.unwrap_or_else(|_| Err(io::Error::other("a thread has panicked")))
        })
    })?;
    let [traps, served] = all.map(AtomicU64::into_inner);
    Ok(Counted { traps, served })
}

fn epoll(connections: &[OwnedFd]) -> io::Result<Counted> {
    let epoll = Epoll::new(EpollCreateFlags::empty())?;
    for fd in connections {
        let event = EpollEvent::new(EpollFlags::EPOLLIN, fd.as_raw_fd() as u64);
        epoll.add(fd, event)?;
    }
    let mut events = vec![EpollEvent::empty(); connections.len()];
    let mut bytes = [0u8; ROOM];
    let (mut counted, mut open) = (Counted::default(), connections.len());
    while open > 0 {
        counted.traps += 1;
        let ready = epoll.wait(&mut events, EpollTimeout::NONE)?;
        for event in &events[..ready] {
            let fd = event.data() as RawFd;
            counted.traps += 1;
            let got = receive(fd, &mut bytes, libc::MSG_DONTWAIT)?;
            counted.traps += 1;
            if got == 0 {
                open -= 1;
                let index = connections.iter().position(|own| own.as_raw_fd() == fd);
                epoll.delete(&connections[index.expect("one of them")])?;
            } else {
                counted.served += 1;
                send(fd, &bytes[..got])?;
            }
        }
    }
    Ok(counted)
}

/// A buffer for each connection.
struct Buffers {
    bytes: Vec<[u8; ROOM]>,
}

impl Buffers {
    fn new(count: usize) -> Buffers {
        Buffers {
            bytes: vec![[0; ROOM]; count],
        }
    }

    /// The address of one buffer. Nothing else refers to the buffer while a call uses it.
    fn at(&mut self, index: usize) -> *mut u8 {
        self.bytes[index].as_mut_ptr()
    }
}

fn uring(connections: &[OwnedFd]) -> io::Result<Counted> {
    /// The kind of an entry: a send has this bit besides the connection's index.
    const SEND: u64 = 1 << 32;
    let mut ring = IoUring::builder()
        .setup_single_issuer()
        .setup_defer_taskrun()
        .build((2 * connections.len()).next_power_of_two() as u32)?;
    let mut buffers = Buffers::new(connections.len());
    let fd = |index: usize| Fd(connections[index].as_raw_fd());
    let receive = |at, index: usize| {
        opcode::Recv::new(fd(index), at, ROOM as u32)
            .build()
            .user_data(index as u64)
    };
    let push = |ring: &mut IoUring, entry: squeue::Entry| {
        // SAFETY: the buffers outlive the ring's last completion.
        unsafe { ring.submission().push(&entry) }.map_err(io::Error::other)
    };
    for index in 0..connections.len() {
        push(&mut ring, receive(buffers.at(index), index))?;
    }
    let (mut counted, mut open) = (Counted::default(), connections.len());
    let mut done = Vec::with_capacity(2 * connections.len());
    while open > 0 {
        counted.traps += 1;
        ring.submit_and_wait(1)?;
        done.extend(ring.completion().map(|end| (end.user_data(), end.result())));
        for (what, result) in done.drain(..) {
            let len = checked(result.into())?;
            if what & SEND != 0 {
                // Sends that succeed are silent.
                return Err(io::Error::other("a send failed"));
            }
            let index = what as usize;
            if len == 0 {
                open -= 1;
                continue;
            }
            counted.served += 1;
            let at = buffers.at(index);
            let send = opcode::Send::new(fd(index), at, len as u32)
                .flags(libc::MSG_NOSIGNAL)
                .build()
                .flags(squeue::Flags::IO_LINK | squeue::Flags::SKIP_SUCCESS)
                .user_data(what | SEND);
            push(&mut ring, send)?;
            push(&mut ring, receive(at, index))?;
        }
    }
    Ok(counted)
}

/// The kind of an entry of the pages.
#[derive(Clone, Copy)]
enum Entry {
    None,
    Receive(usize),
    /// Of this many bytes.
    Send(usize),
}

/// The connections, and the calls that were posted for them.
struct Served<'a> {
    connections: &'a [OwnedFd],
    /// A buffer for received bytes and one for bytes to send: the next recv runs beside the send.
    receive: Buffers,
    send: Buffers,
    entries: Vec<Entry>,
    open: usize,
    counted: Counted,
}

impl Served<'_> {
    fn post(&mut self, pages: &mut Pages, call: Call, entry: Entry) -> io::Result<()> {
        // SAFETY: the buffers live until all results are available, and each call has its own.
        let slot = unsafe { pages.stage(call) };
        let slot = slot.ok_or_else(|| io::Error::other("no entry is free"))?;
        self.entries[slot.index()] = entry;
        Ok(())
    }

    fn post_receive(&mut self, pages: &mut Pages, index: usize) -> io::Result<()> {
        let (fd, at) = (self.connections[index].as_raw_fd(), self.receive.at(index));
        let call = calls::recvfrom(fd, at.cast(), ROOM, 0, ptr::null_mut(), ptr::null_mut());
        self.post(pages, call, Entry::Receive(index))
    }

    fn finish(&mut self, pages: &mut Pages, entry: Entry, result: i64) -> io::Result<()> {
        let len = checked(result)?;
        match entry {
            Entry::None => Err(io::Error::other("a result of nothing")),
            Entry::Send(all) => whole(len, all),
            Entry::Receive(_) if len == 0 => {
                self.open -= 1;
                Ok(())
            }
            Entry::Receive(index) => {
                self.counted.served += 1;
                self.send.bytes[index] = self.receive.bytes[index];
                let (fd, at) = (self.connections[index].as_raw_fd(), self.send.at(index));
                let call = calls::sendto(
                    fd,
                    at.cast_const().cast(),
                    len,
                    libc::MSG_NOSIGNAL,
                    ptr::null(),
                    0,
                );
                self.post(pages, call, Entry::Send(len))?;
                self.post_receive(pages, index)
            }
        }
    }
}

fn flexsc(connections: &[OwnedFd], poller: bool) -> io::Result<Counted> {
    const ENTRIES: usize = flexsc::abi::FLEXSC_PAGE_ENTRIES as usize;
    let engine = Engine::open().map_err(failed)?;
    if poller {
        let cpus = machine::cpus()?;
        if cpus.len() < 2 {
            return Err(io::Error::other("a poller needs a CPU of its own"));
        }
        let last = cpus.last().copied().unwrap_or_default();
        engine
            .set_poll_cpus(&CpuSet::from_iter([last as u16]))
            .map_err(failed)?;
    }
    let pages = (2 * connections.len()).div_ceil(ENTRIES).max(1);
    let mut pages = engine.register(pages as u32).map_err(failed)?;
    let mut served = Served {
        connections,
        receive: Buffers::new(connections.len()),
        send: Buffers::new(connections.len()),
        entries: vec![Entry::None; pages.capacity()],
        open: connections.len(),
        counted: Counted::default(),
    };
    for index in 0..connections.len() {
        served.post_receive(&mut pages, index)?;
    }
    let mut done = Vec::with_capacity(pages.capacity());
    while served.open > 0 || pages.in_flight() > 0 {
        if poller {
            pages.ring();
            while !pages.has_result() {
                if pages.needs_kick() {
                    served.counted.traps += 1;
                    pages.kick().map_err(failed)?;
                }
                hint::spin_loop();
            }
        } else {
            served.counted.traps += 1;
            pages.wait(Wait::any()).map_err(failed)?;
        }
        // Done before any call is posted: an entry is free as soon as its result is taken.
        let entries = &served.entries;
        done.extend(
            pages
                .drain()
                .map(|end| (entries[end.slot.index()], end.result)),
        );
        for (entry, result) in done.drain(..) {
            served.finish(&mut pages, entry, result)?;
        }
    }
    if pages.fallbacks() != 0 {
        return Err(io::Error::other("the kernel has refused calls"));
    }
    Ok(served.counted)
}
