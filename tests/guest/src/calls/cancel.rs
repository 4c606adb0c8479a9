// SPDX-License-Identifier: MIT OR Apache-2.0
//! CANCEL: what becomes of a call in each of its states.

use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use nix::errno::Errno;

use crate::check::{Check, Ret};
use crate::kit::abi::{
    self, Cancel, ENTRY_LINK, ENTRY_LOOP, Param, Policy, REASON_CANCELLED, REASON_CHAIN,
    REASON_NONE, SUBMITTED,
};
use crate::kit::child::in_child;
use crate::kit::engine::{self, Engine};
use crate::kit::files::{BlockedReads, TempDir, pipe, readable, socket_pair, write_all};
use crate::kit::limits::slow_kernel;
use crate::kit::mode::{Mode, in_modes};
use crate::kit::ring::{Call, Done, Ring};
use crate::kit::{memory, rounds, sys, until};

tests! { "cancel":
    posted => "an entry that nobody has taken is ECANCELED and not executed";
    queued => "an entry that waits for a syscall thread is ECANCELED at once, those beside it are not";
    blocked => "each kind of blocked call ends with EINTR, in every mode, soon";
    all_blocked => "60 blocked calls are cancelled one by one; the others stay";
    partial_read => "a read that has got a part of its bytes returns that part";
    partial_write => "a write that has written a part of its bytes returns that part";
    inline_blocked => "a call in which the owner blocks inside WAIT ends with EINTR, WAIT goes on";
    too_late => "a finished entry is ENOENT and keeps its result";
    nothing_there => "CANCEL of a free entry is ENOENT, of one beyond the pages EINVAL";
    bad_arguments => "wrong size, flags or registration";
    by_other_thread => "any thread of the process may cancel; another process gets EPERM";
    race_with_completion => "cancelled at the moment of completion: the whole result or EINTR";
    slot_used_again => "the next call in a cancelled slot is not cancelled";
    counted => "QUERY counts the CANCEL calls that have found something";
    chain_member => "CANCEL of a chain's entry cancels those behind it, not those before it";
    chain_waiting => "CANCEL of a chain's entry that was not begun";
    chain_posted => "CANCEL in a chain that nobody has taken";
    running_loop => "CANCEL of a running loop ends it";
}

/// How soon a cancelled call has to be at its end: 100 ms, and more where an emulator whose host
/// has other work to do executes ten times as many instructions.
fn soon() -> Duration {
    Duration::from_millis(if slow_kernel() { 5_000 } else { 1_000 })
}

/// The longest time that a CANCEL took to show, for the log.
#[derive(Default)]
struct Longest(Duration);

impl Longest {
    /// CANCEL of a slot, and the result.
    fn cancel(&mut self, ring: &mut Ring, slot: usize) -> Check<Done> {
        let begin = Instant::now();
        check_eq!("CANCEL", ring.cancel(slot), Ok(0));
        let seen = until("the result of a cancelled call", || ring.is_done(slot));
        seen.map_err(|failure| failure.within(ring.show(slot)))?;
        let took = begin.elapsed();
        self.0 = self.0.max(took);
        check!(took < soon(), "a result {took:?} after CANCEL");
        Ok(ring.reap(slot))
    }
}

impl Drop for Longest {
    fn drop(&mut self) {
        println!("# from CANCEL to the result at most {:?}", self.0);
    }
}

fn check_done(what: &str, done: Done, result: i64, reason: u8) -> Check {
    check!(
        done.result == result && done.reason == reason,
        "{what}: {} reason {}, expected {} reason {reason}",
        Ret(done.result),
        done.reason,
        Ret(result)
    );
    Ok(())
}

const ECANCELED: i64 = -(libc::ECANCELED as i64);
const EINTR: i64 = -(libc::EINTR as i64);

fn check_interrupted(what: &str, done: Done) -> Check {
    check_done(what, done, EINTR, REASON_NONE)
}

fn check_never_begun(done: Done) -> Check {
    check_done(
        "an entry that was not begun",
        done,
        ECANCELED,
        REASON_CANCELLED,
    )
}

/// What was executed writes into a pipe; this was not.
fn write_to(to: &OwnedFd) -> Call {
    call!(SYS_write, to, c"x".as_ptr(), 1)
}

fn check_empty(from: &OwnedFd) -> Check {
    check!(
        !readable(from, Duration::ZERO),
        "a cancelled write was made"
    );
    Ok(())
}

fn posted() -> Check {
    let engine = Engine::open()?;
    let mut ring = engine.ring(2)?;
    let (from, to) = pipe()?;
    for slot in [0, 31, 63, 64, 127] {
        ring.post_at(slot, &write_to(&to));
        check_eq!("CANCEL", ring.cancel(slot), Ok(0));
        check!(ring.is_done(slot), "not done: {}", ring.show(slot));
        check_eq!("second CANCEL", ring.cancel(slot), Err(Errno::ENOENT));
        check_never_begun(ring.reap(slot))?;
    }
    check_eq!("ALL", ring.wait(Policy::All), Ok(0));
    check_empty(&from)?;
    // One of many.
    let slots = ring.post_all(&[write_to(&to); 64]);
    check_eq!("CANCEL", ring.cancel(slots[20]), Ok(0));
    for done in ring.finish(&slots)? {
        if done.slot == slots[20] {
            check_never_begun(done)?;
        } else {
            check_ret!("write", done.result, 1);
        }
    }
    Ok(())
}

fn queued() -> Check {
    for mode in [Mode::Async, Mode::Kick, Mode::Spin] {
        let (engine, mut ring) = mode.start(1)?;
        engine.set(Param::MaxThreads, 2)?;
        let (from, to) = pipe()?;
        let (sink, into) = pipe()?;
        let reads = BlockedReads::new(&from, 8);
        let blocked = ring.post_blocked(&reads.calls())?;
        // Before they are, a thread might begin with what is posted now.
        engine.until_stats("two blocked threads", |stats| stats.max_blocked >= 2)?;
        let writes = ring.post_all(&[write_to(&into).asynchronous(); 12]);
        ring.kicked()?;
        let mut longest = Longest::default();
        for &slot in &writes[4..8] {
            check_never_begun(longest.cancel(&mut ring, slot)?)?;
        }
        check_empty(&sink)?;
        reads.release(&to)?;
        for done in ring.finish(&blocked)? {
            check_ret!("read", done.result, 2);
        }
        for &slot in writes[..4].iter().chain(&writes[8..]) {
            check_ret!("write", ring.finish(&[slot])?[0].result, 1);
        }
        let mut bytes = [0u8; 32];
        check_ret!("bytes", plain!(SYS_read, &sink, bytes.as_mut_ptr(), 32), 8);
    }
    Ok(())
}

/// What blocking calls need, kept while they are in flight.
struct Blockers {
    pipe: (OwnedFd, OwnedFd),
    sockets: (OwnedFd, OwnedFd),
    listening: OwnedFd,
    epoll: OwnedFd,
    event: OwnedFd,
    queue: i64,
    nap: [i64; 2],
    futex: AtomicU32,
    buffer: [u8; 64],
    polled: libc::pollfd,
    events: [u64; 4],
}

impl Blockers {
    fn new() -> Check<Blockers> {
        let fd = |what: &str, ret: i64| -> Check<OwnedFd> {
            check!(ret >= 0, "{what}: {}", Ret(ret));
            Ok(sys::own(ret as i32))
        };
        let kind = libc::SOCK_STREAM | libc::SOCK_CLOEXEC;
        let listening = fd("socket", plain!(SYS_socket, libc::AF_INET, kind, 0))?;
        check_ret!("listen", plain!(SYS_listen, &listening, 5), 0);
        let pipe = pipe()?;
        let epoll = fd(
            "epoll_create1",
            plain!(SYS_epoll_create1, libc::EPOLL_CLOEXEC),
        )?;
        let mut interest = libc::epoll_event {
            events: libc::EPOLLIN as u32,
            u64: 0,
        };
        let at = std::ptr::from_mut(&mut interest);
        let add = plain!(SYS_epoll_ctl, &epoll, libc::EPOLL_CTL_ADD, &pipe.0, at);
        check_ret!("epoll_ctl", add, 0);
        let queue = plain!(SYS_msgget, libc::IPC_PRIVATE, 0o600);
        check!(queue >= 0, "msgget: {}", Ret(queue));
        Ok(Blockers {
            polled: libc::pollfd {
                fd: pipe.0.as_raw_fd(),
                events: libc::POLLIN,
                revents: 0,
            },
            pipe,
            sockets: socket_pair()?,
            listening,
            epoll,
            event: fd("eventfd2", plain!(SYS_eventfd2, 0, libc::EFD_CLOEXEC))?,
            queue,
            nap: [3600, 0],
            futex: AtomicU32::new(7),
            buffer: [0; 64],
            events: [0; 4],
        })
    }

    fn calls(&mut self) -> Vec<(&'static str, Call)> {
        let buffer = self.buffer.as_mut_ptr();
        let futex = self.futex.as_ptr();
        let polled = std::ptr::from_mut(&mut self.polled);
        let wait = libc::FUTEX_WAIT | libc::FUTEX_PRIVATE_FLAG;
        vec![
            ("read of a pipe", call!(SYS_read, &self.pipe.0, buffer, 8)),
            (
                "read of a socket",
                call!(SYS_read, &self.sockets.0, buffer, 8),
            ),
            (
                "recvfrom",
                call!(SYS_recvfrom, &self.sockets.0, buffer, 8, 0, 0, 0),
            ),
            ("accept", call!(SYS_accept, &self.listening, 0, 0)),
            (
                "read of an eventfd",
                call!(SYS_read, &self.event, buffer, 8),
            ),
            ("nanosleep", call!(SYS_nanosleep, self.nap.as_ptr(), 0)),
            (
                "clock_nanosleep",
                call!(
                    SYS_clock_nanosleep,
                    libc::CLOCK_MONOTONIC,
                    0,
                    self.nap.as_ptr(),
                    0
                ),
            ),
            ("futex", call!(SYS_futex, futex, wait, 7, 0, 0, 0)),
            (
                "futex with timeout",
                call!(SYS_futex, futex, wait, 7, self.nap.as_ptr(), 0, 0),
            ),
            ("poll", call!(SYS_poll, polled, 1, -1)),
            ("poll with timeout", call!(SYS_poll, polled, 1, 3_600_000)),
            (
                "epoll_wait",
                call!(SYS_epoll_wait, &self.epoll, self.events.as_mut_ptr(), 1, -1),
            ),
            (
                "msgrcv",
                call!(SYS_msgrcv, self.queue, self.events.as_mut_ptr(), 8, 0, 0),
            ),
        ]
    }
}

impl Drop for Blockers {
    fn drop(&mut self) {
        plain!(SYS_msgctl, self.queue, libc::IPC_RMID, 0);
    }
}

fn blocked() -> Check {
    let mut longest = Longest::default();
    let mut cancel_all = |engine: &Engine, ring: &mut Ring| {
        let mut blockers = Blockers::new()?;
        let (what, calls): (Vec<_>, Vec<_>) = blockers.calls().into_iter().unzip();
        let slots = ring.post_blocked(&calls)?;
        let count = engine.stats()?;
        engine.until_stats("all blocked", |stats| {
            stats.max_blocked >= calls.len() as u64
        })?;
        for (&slot, what) in slots.iter().zip(&what) {
            check!(
                !ring.is_done(slot),
                "{what} does not block: {}",
                ring.show(slot)
            );
        }
        for (&slot, what) in slots.iter().zip(&what) {
            check_interrupted(what, longest.cancel(ring, slot)?)?;
        }
        check_eq!("posted", engine.stats()?.posted, count.posted);
        let pid = i64::from(std::process::id());
        for done in ring.run_all(&[call!(SYS_getpid); 64])? {
            check_ret!("getpid afterwards", done.result, pid);
        }
        Ok(())
    };
    (0..rounds(1)).try_for_each(|_| in_modes(1, &mut cancel_all))
}

fn all_blocked() -> Check {
    let mut longest = Longest::default();
    in_modes(1, |_, ring| {
        let (from, to) = pipe()?;
        let reads = BlockedReads::new(&from, 60);
        let slots = ring.post_blocked(&reads.calls())?;
        for &slot in slots.iter().step_by(3) {
            let done = longest.cancel(ring, slot)?;
            // A thread may not have begun it.
            if done.reason == REASON_CANCELLED {
                check_never_begun(done)?;
            } else {
                check_interrupted("read", done)?;
            }
        }
        write_all(&to, &[1; 80])?;
        for (number, &slot) in slots.iter().enumerate() {
            if number % 3 != 0 {
                check_ret!("read beside", ring.finish(&[slot])?[0].result, 2);
            }
        }
        Ok(())
    })
}

/// Posts one call and waits until it sleeps.
fn post_sleeping(engine: &Engine, ring: &mut Ring, call: Call) -> Check<usize> {
    let slot = ring.post_blocked(&[call])?[0];
    engine.until_stats("a blocked call", |stats| stats.max_blocked >= 1)?;
    Ok(slot)
}

fn partial_read() -> Check {
    let mut longest = Longest::default();
    in_modes(1, |engine, ring| {
        let (here, there) = socket_pair()?;
        let mut buffer = [0u8; 10];
        let at = buffer.as_mut_ptr();
        let call = call!(SYS_recvfrom, &here, at, 10, libc::MSG_WAITALL, 0, 0);
        write_all(&there, b"abcd")?;
        let slot = post_sleeping(engine, ring, call)?;
        until("the bytes taken", || !readable(&here, Duration::ZERO))?;
        let done = longest.cancel(ring, slot)?;
        check_done("recvfrom of 10 bytes, 4 there", done, 4, REASON_NONE)?;
        check_eq!("bytes", buffer[..4], *b"abcd");
        Ok(())
    })
}

fn partial_write() -> Check {
    let mut longest = Longest::default();
    in_modes(1, |engine, ring| {
        let (from, to) = pipe()?;
        let room = plain!(SYS_fcntl, &to, libc::F_GETPIPE_SZ);
        let bytes = vec![1u8; room as usize * 2];
        let call = call!(SYS_write, &to, bytes.as_ptr(), bytes.len());
        let slot = post_sleeping(engine, ring, call)?;
        let mut there = 0i32;
        until("a full pipe", || {
            let at = std::ptr::from_mut(&mut there);
            plain!(SYS_ioctl, &from, libc::FIONREAD, at);
            i64::from(there) == room
        })?;
        check_done("write", longest.cancel(ring, slot)?, room, REASON_NONE)
    })
}

fn inline_blocked() -> Check {
    let dir = TempDir::new()?;
    let fifo = dir.join("fifo");
    let mode = libc::S_IFIFO | 0o600;
    let made = plain!(SYS_mknodat, libc::AT_FDCWD, fifo.as_c_str(), mode, 0);
    check_ret!("mknodat", made, 0);
    for _ in 0..rounds(5) {
        let engine = Engine::open()?;
        let mut ring = engine.ring(1)?;
        let open = call!(SYS_openat, libc::AT_FDCWD, fifo.as_c_str(), libc::O_RDONLY);
        let mut calls = [call!(SYS_getpid); 8];
        calls[3] = open;
        let slots = ring.post_all(&calls);
        let (fd, id) = (engine.fd(), ring.id);
        let got = std::thread::scope(|scope| {
            let other = scope.spawn(|| -> Check {
                engine.until_stats("the blocked owner", |stats| stats.max_blocked >= 1)?;
                check_eq!("CANCEL", engine::cancel(fd, id, slots[3]), Ok(0));
                Ok(())
            });
            let got = ring.wait(Policy::All);
            other.join().expect("no panic").map(|()| got)
        })?;
        check_eq!("ALL", got, Ok(8));
        for (number, &slot) in slots.iter().enumerate() {
            let done = ring.reap(slot);
            if number == 3 {
                check_interrupted("open of a FIFO", done)?;
            } else {
                check_ret!("getpid", done.result, std::process::id());
            }
        }
    }
    Ok(())
}

fn too_late() -> Check {
    in_modes(1, |_, ring| {
        let slots = ring.post_all(&[call!(SYS_getpid); 4]);
        match ring.mode {
            Mode::Inline | Mode::Async => drop(ok!("WAIT", ring.wait(Policy::All))),
            Mode::Kick | Mode::Spin => {
                ring.kicked()?;
                ring.spin_until_done(&slots)?;
            }
        }
        for slot in slots {
            check_eq!("CANCEL", ring.cancel(slot), Err(Errno::ENOENT));
            check_ret!("getpid", ring.reap(slot).result, std::process::id());
            check_eq!("CANCEL", ring.cancel(slot), Err(Errno::ENOENT));
        }
        Ok(())
    })
}

fn nothing_there() -> Check {
    in_modes(2, |_, ring| {
        for slot in [0, 63, 64, 127] {
            check_eq!("CANCEL", ring.cancel(slot), Err(Errno::ENOENT));
        }
        for slot in [128, 4096, u32::MAX as usize] {
            check_eq!("CANCEL", ring.cancel(slot), Err(Errno::EINVAL));
        }
        check_ret!(
            "getpid",
            ring.result(call!(SYS_getpid))?,
            std::process::id()
        );
        Ok(())
    })
}

fn bad_arguments() -> Check {
    let engine = Engine::open()?;
    let mut ring = engine.ring(1)?;
    let slot = ring.post(call!(SYS_getpid));
    let good = Cancel {
        size: size_of::<Cancel>() as u32,
        id: ring.id,
        index: slot as u32,
        flags: 0,
    };
    let cases = [
        (Cancel { size: 0, ..good }, Errno::EINVAL),
        (Cancel { size: 12, ..good }, Errno::EINVAL),
        (Cancel { size: 20, ..good }, Errno::EINVAL),
        (Cancel { flags: 1, ..good }, Errno::EINVAL),
        (
            Cancel {
                id: ring.id + 1,
                ..good
            },
            Errno::ENOENT,
        ),
        (
            Cancel {
                id: u32::MAX,
                ..good
            },
            Errno::ENOENT,
        ),
    ];
    for (mut arg, error) in cases {
        let got = sys::ioctl_with(engine.fd(), abi::IOC_CANCEL, &mut arg);
        check_eq!(format!("CANCEL {arg:?}"), got, Err(error));
    }
    let fault = sys::ioctl(engine.fd(), abi::IOC_CANCEL, 8);
    check_eq!("CANCEL at address 8", fault, Err(Errno::EFAULT));
    check_ret!(
        "getpid",
        ring.finish(&[slot])?[0].result,
        std::process::id()
    );
    Ok(())
}

fn by_other_thread() -> Check {
    in_modes(1, |engine, ring| {
        let (from, _to) = pipe()?;
        let reads = BlockedReads::new(&from, 2);
        let slots = ring.post_blocked(&reads.calls())?;
        engine.until_stats("two blocked calls", |stats| stats.max_blocked >= 2)?;
        let (fd, id) = (engine.fd(), ring.id);
        in_child(|| {
            check_eq!("by a child", engine::cancel(fd, id, 0), Err(Errno::EPERM));
            Ok(())
        })?;
        check!(
            slots.iter().all(|&slot| !ring.is_done(slot)),
            "a read is done"
        );
        for slot in slots {
            let got = std::thread::scope(|scope| {
                let other = scope.spawn(|| engine::cancel(fd, id, slot));
                other.join().expect("no panic")
            });
            check_eq!("by another thread", got, Ok(0));
            until("the result", || ring.is_done(slot))?;
            check_interrupted("read", ring.reap(slot))?;
        }
        Ok(())
    })
}

fn race_with_completion() -> Check {
    let mut cancelled = 0;
    in_modes(1, |_, ring| {
        let (from, to) = pipe()?;
        for round in 0..rounds(150) {
            let reads = BlockedReads::new(&from, 1);
            let slot = ring.post_blocked(&reads.calls())?[0];
            if round % 2 == 0 {
                std::thread::sleep(Duration::from_micros(u64::from(round % 50) * 10));
            }
            std::thread::scope(|scope| {
                scope.spawn(|| write_all(&to, &[1, 0]));
                for _ in 0..round % 7 {
                    sys::yield_now();
                }
                let got = ring.cancel(slot);
                check!(matches!(got, Ok(0) | Err(Errno::ENOENT)), "CANCEL: {got:?}");
                Ok(())
            })?;
            let done = ring.finish(&[slot])?[0];
            if done.result == 2 {
                continue;
            }
            cancelled += 1;
            check!(
                done.result == EINTR || done.reason == REASON_CANCELLED,
                "{done:?}"
            );
            // The word is for nobody.
            let mut word = [0u8; 2];
            check_ret!("left", plain!(SYS_read, &from, word.as_mut_ptr(), 2), 2);
        }
        Ok(())
    })?;
    println!("# {cancelled} cancelled in time");
    Ok(())
}

fn slot_used_again() -> Check {
    let nap = [0i64, 200_000];
    in_modes(1, |engine, ring| {
        let (from, _to) = pipe()?;
        let reads = BlockedReads::new(&from, 1);
        for _ in 0..rounds(60) {
            ring.post_at(5, &reads.calls()[0]);
            ring.kicked()?;
            ring.until_taken(&[5])?;
            check_eq!("CANCEL", ring.cancel(5), Ok(0));
            until("the result", || ring.is_done(5))?;
            let done = ring.reap(5);
            check!(
                done.result == EINTR || done.reason == REASON_CANCELLED,
                "{done:?}"
            );
            // The same slot, and the same thread, at once.
            ring.post_at(5, &call!(SYS_nanosleep, nap.as_ptr(), 0).asynchronous());
            ring.kicked()?;
            until("the result", || ring.is_done(5))?;
            check_done("nanosleep", ring.reap(5), 0, REASON_NONE)?;
        }
        engine.stats().map(|_| ())
    })
}

fn counted() -> Check {
    let engine = Engine::open()?;
    let mut ring = engine.ring(1)?;
    let slot = ring.post(call!(SYS_getpid));
    let _ = ring.cancel(60);
    let _ = ring.cancel(slot);
    check_eq!("cancels", engine.stats()?.cancels, 1);
    let _ = ring.cancel(slot);
    check_eq!("cancels", engine.stats()?.cancels, 1);
    Ok(())
}

fn linked(call: Call) -> Call {
    Call {
        flags: call.flags | ENTRY_LINK,
        ..call
    }
}

/// A chain: write, read that blocks, write, write. Returns its slots when the read sleeps.
fn blocked_chain(
    engine: &Engine,
    ring: &mut Ring,
    reads: &BlockedReads,
    into: &OwnedFd,
) -> Check<Vec<usize>> {
    let write = write_to(into);
    let chain = [
        linked(write),
        linked(reads.calls()[0]),
        linked(write),
        write,
    ];
    let slots = ring.post_blocked(&chain)?;
    engine.until_stats("the blocked read", |stats| stats.max_blocked >= 1)?;
    Ok(slots)
}

fn check_written(sink: &OwnedFd, count: i64) -> Check {
    let mut bytes = [0u8; 16];
    if count == 0 {
        return check_empty(sink);
    }
    check_ret!(
        "writes made",
        plain!(SYS_read, sink, bytes.as_mut_ptr(), 16),
        count
    );
    Ok(())
}

fn check_chain(ring: &mut Ring, slots: &[usize], want: [(i64, u8); 4]) -> Check {
    until("the end of the chain", || {
        slots.iter().all(|&slot| ring.is_done(slot))
    })
    .map_err(|failure| failure.within(ring.show(slots[3])))?;
    for (number, (&slot, (result, reason))) in slots.iter().zip(want).enumerate() {
        check_done(
            &format!("entry {number} of the chain"),
            ring.reap(slot),
            result,
            reason,
        )?;
    }
    Ok(())
}

fn chain_member() -> Check {
    in_modes(1, |engine, ring| {
        let ((from, _to), (sink, into)) = (pipe()?, pipe()?);
        let reads = BlockedReads::new(&from, 1);
        let slots = blocked_chain(engine, ring, &reads, &into)?;
        check_eq!("CANCEL", ring.cancel(slots[1]), Ok(0));
        let behind = (ECANCELED, REASON_CHAIN);
        let want = [(1, REASON_NONE), (EINTR, REASON_NONE), behind, behind];
        check_chain(ring, &slots, want)?;
        check_written(&sink, 1)
    })
}

fn chain_waiting() -> Check {
    in_modes(1, |engine, ring| {
        let ((from, to), (sink, into)) = (pipe()?, pipe()?);
        let reads = BlockedReads::new(&from, 1);
        let slots = blocked_chain(engine, ring, &reads, &into)?;
        check_eq!("CANCEL", ring.cancel(slots[2]), Ok(0));
        // The entries before it are not disturbed.
        reads.release(&to)?;
        let want = [
            (1, REASON_NONE),
            (2, REASON_NONE),
            (ECANCELED, REASON_CANCELLED),
            (ECANCELED, REASON_CHAIN),
        ];
        check_chain(ring, &slots, want)?;
        check_written(&sink, 1)
    })
}

fn chain_posted() -> Check {
    let engine = Engine::open()?;
    let mut ring = engine.ring(1)?;
    let (sink, into) = pipe()?;
    let write = write_to(&into);
    for cancelled in 0..4usize {
        let chain = [linked(write), linked(write), linked(write), write];
        let slots = ring.post_all(&chain);
        check_eq!("CANCEL", ring.cancel(slots[cancelled]), Ok(0));
        check!(ring.wait(Policy::All).is_ok(), "ALL failed");
        let want = std::array::from_fn(|number| match number.cmp(&cancelled) {
            std::cmp::Ordering::Less => (1, REASON_NONE),
            std::cmp::Ordering::Equal => (ECANCELED, REASON_CANCELLED),
            std::cmp::Ordering::Greater => (ECANCELED, REASON_CHAIN),
        });
        check_chain(&mut ring, &slots, want)
            .map_err(|failure| failure.within(format_args!("CANCEL of entry {cancelled}")))?;
        check_written(&sink, cancelled as i64)?;
    }
    Ok(())
}

fn running_loop() -> Check {
    let nap = [0i64, 300_000];
    let zeros = memory::pages(4096)?;
    let zero = ok!("/dev/zero", sys::open(c"/dev/zero", libc::O_RDONLY, 0));
    let looped = |call: Call| Call {
        flags: call.flags | ENTRY_LOOP,
        ..call
    };
    let read = looped(call!(SYS_read, &zero, zeros, 64));
    // Poll with a time limit returns 0 and would end the loop: a read of a timer does not.
    let timer = sys::own(plain!(SYS_timerfd_create, libc::CLOCK_MONOTONIC, 0) as i32);
    let every = [nap, nap];
    let set = plain!(SYS_timerfd_settime, &timer, 0, every.as_ptr(), 0);
    check_ret!("timerfd_settime", set, 0);
    let tick = looped(call!(SYS_read, &timer, zeros, 8));
    in_modes(1, |engine, ring| {
        engine.set(Param::LoopMax, 1 << 40)?;
        // One that runs, one that sleeps most of the time; each of the entries.
        for (chain, what) in [([read, read], "running"), ([read, tick], "sleeping")] {
            for cancelled in 0..2 {
                let before = engine.stats()?.chains;
                let slots = ring.post_blocked(&[linked(chain[0]), chain[1]])?;
                until("the beginning of the loop", || {
                    ring.entry(slots[0]).status.load(Ordering::Acquire) > SUBMITTED
                })?;
                std::thread::sleep(Duration::from_millis(3));
                check!(!ring.is_done(slots[0]), "the loop has ended by itself");
                let begin = Instant::now();
                check_eq!("CANCEL", ring.cancel(slots[cancelled]), Ok(0));
                until("the end of the loop", || {
                    slots.iter().all(|&slot| ring.is_done(slot))
                })
                .map_err(|failure| failure.within(ring.show(slots[cancelled])))?;
                let took = begin.elapsed();
                check!(
                    took < soon(),
                    "{what}: {took:?} from CANCEL to the end of the loop"
                );
                let done = ring.reap(slots[cancelled]);
                check!(
                    (done.result == EINTR && done.reason == REASON_NONE)
                        || (done.result == ECANCELED && done.reason == REASON_CANCELLED),
                    "{what}, CANCEL of entry {cancelled}: {done:?}"
                );
                ring.reap(slots[1 - cancelled]);
                check_eq!("chains", engine.stats()?.chains, before + 1);
            }
        }
        check_ret!(
            "getpid",
            ring.result(call!(SYS_getpid))?,
            std::process::id()
        );
        Ok(())
    })
}
