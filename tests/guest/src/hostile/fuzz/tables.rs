// SPDX-License-Identifier: MIT OR Apache-2.0
//! Programs whose threads have descriptor tables of their own, and whose entries take away the
//! engine that executes them: its descriptors and mappings.
//!
//! The point is a table with one user: the kernel looks up its descriptors without taking a
//! reference to the file.

use std::os::fd::{IntoRawFd, RawFd};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use super::program::Program;
use crate::hostile::ioctls::{random_cancel, random_ioctl, random_wait, random_wait_fast};
use crate::hostile::target::Target;
use crate::kit::abi::{self, Ctrl, Entry, Param, ParamArg};
use crate::kit::engine::{self, try_open};
use crate::kit::ring::Call;
use crate::kit::{Random, clone, files, memory, process, scm, signals, sys};

/// The name of a FIFO without a peer.
const FIFO: &std::ffi::CStr = c"fifo";

/// Data that the threads of a life share.
struct Life<'a> {
    program: &'a Program<'a>,
    /// The engine's number in every table.
    fd: RawFd,
    /// Threads that have registered, or have failed to.
    ready: AtomicU32,
    /// Set when the other threads have let go of the engine.
    go: AtomicBool,
    /// Threads that have ended.
    ended: AtomicU32,
}

/// Waits for the other threads, but not for ever: their own calls may have killed them.
fn until(condition: impl Fn() -> bool) {
    let end = Instant::now() + Duration::from_secs(5);
    while !condition() && Instant::now() < end {
        std::thread::sleep(Duration::from_micros(200));
    }
}

/// A call that takes the engine away, or one that keeps its executor busy.
fn entry(fd: RawFd, target: Target, random: &mut Random) -> Call {
    let (base, len) = (target.base, target.len());
    let short = [0i64, random.below(8_000_000) as i64];
    let short = memory_for(short);
    let call = match random.below(20) {
        0..=2 => call!(SYS_close, fd),
        3 | 4 => call!(SYS_munmap, base, len),
        5 => call!(SYS_munmap, base + random.below(3) as usize * 4096, 4096),
        6 => call!(SYS_dup2, 1, fd),
        7 => call!(SYS_dup3, 1, fd, libc::O_CLOEXEC),
        8 => call!(SYS_close_range, fd, fd, random.below(2) * 4),
        9 => call!(SYS_dup, fd),
        10 => call!(SYS_mremap, base, len, len, libc::MREMAP_MAYMOVE),
        11..=13 => call!(SYS_openat, libc::AT_FDCWD, FIFO, libc::O_RDONLY),
        14 | 15 => call!(SYS_nanosleep, short, 0),
        16 => call!(SYS_poll, 0, 0, random.below(8)),
        17 => call!(SYS_ioctl, fd, abi::IOC_KICK, 0),
        _ => call!(SYS_getppid),
    };
    let flags = match random.below(12) {
        0 => abi::ENTRY_ASYNC,
        1 | 2 => abi::ENTRY_LINK,
        3 => abi::ENTRY_LOOP,
        _ => 0,
    };
    Call { flags, ..call }
}

/// A copy of words that stays as long as the program.
fn memory_for(words: [i64; 2]) -> *const i64 {
    Box::leak(Box::new(words)).as_ptr()
}

fn stage(target: Target, slot: usize, call: &Call) {
    let entry: &Entry = memory::at((target.base + target.ctrl_len) as *const Entry, slot);
    entry.nr.store(call.nr, Ordering::Relaxed);
    entry.flags.store(call.flags, Ordering::Relaxed);
    entry.pool.store(call.pool, Ordering::Relaxed);
    for take in &entry.take {
        take.store(0, Ordering::Relaxed);
    }
    for (place, arg) in entry.args.iter().zip(call.args) {
        place.store(arg, Ordering::Relaxed);
    }
    entry.status.store(abi::SUBMITTED, Ordering::Relaxed);
}

/// Posts one batch, which often takes away everything that this thread has.
fn post(fd: RawFd, target: Target, random: &mut Random) {
    let mut calls: Vec<Call> = Vec::new();
    if random.below(2) == 0 {
        calls.push(call!(SYS_munmap, target.base, target.len()));
        calls.push(match random.below(4) {
            0 => call!(SYS_dup2, 1, fd),
            _ => call!(SYS_close, fd),
        });
        calls.push(call!(SYS_openat, libc::AT_FDCWD, FIFO, libc::O_RDONLY));
    }
    for _ in 0..random.below(6) {
        let at = random.below(calls.len() as u64 + 1) as usize;
        calls.insert(at, entry(fd, target, random));
    }
    let mut bits = 0u64;
    for (slot, call) in calls.iter().enumerate() {
        stage(target, slot, call);
        bits |= 1 << slot;
    }
    let ctrl: &Ctrl = target.ctrl_of(0);
    let done = ctrl.done.load(Ordering::Acquire);
    ctrl.reaped.store(done, Ordering::Relaxed);
    let free = !(ctrl.posted.load(Ordering::Relaxed) ^ done);
    ctrl.posted.fetch_xor(bits & free, Ordering::Release);
}

/// Makes one of the device's calls, in which the engine may go away.
fn drive(fd: RawFd, id: u32, random: &mut Random) {
    match random.below(12) {
        0..=5 => {
            let mut arg = abi::Wait::new(id, abi::Policy::All);
            arg.timeout_ns = sys::monotonic_ns() + random.below(20_000_000);
            let _ = sys::ioctl_with(fd, abi::IOC_WAIT, &mut arg);
        }
        6 | 7 => random_wait(fd, id, random),
        8 | 9 => random_wait_fast(fd, id, random),
        10 => random_cancel(fd, id, random),
        _ => {
            random_ioctl(fd, random);
            let mut poll = libc::pollfd {
                fd,
                events: libc::POLLIN,
                revents: 0,
            };
            plain!(SYS_poll, std::ptr::from_mut(&mut poll), 1, 1);
        }
    }
}

/// Sends the engine to itself, so that for a while a message holds it, and gets it back.
fn through_a_socket(fd: RawFd) {
    if let Ok((from, to)) = files::socket_pair() {
        if scm::send_fd(&to, fd).is_ok() {
            plain!(SYS_close, fd);
            if let Ok(back) = scm::receive_fd(&from) {
                let back = back.into_raw_fd();
                if back != fd {
                    plain!(SYS_dup2, back, fd);
                    plain!(SYS_close, back);
                }
            }
        }
    }
}

/// The life of a thread with a table of its own.
fn user(life: &Life<'_>, random: &mut Random) {
    let fd = life.fd;
    let registered = engine::register(fd, 1).and_then(|registered| {
        let prot = libc::PROT_READ | libc::PROT_WRITE;
        let len = registered.mmap_len as usize;
        let offset = registered.mmap_offset;
        let base = sys::mmap(len, prot, libc::MAP_SHARED, fd, offset)?;
        Ok((registered.id, Target::new(base, &registered)))
    });
    if random.below(8) == 0 {
        through_a_socket(fd);
    }
    life.ready.fetch_add(1, Ordering::Relaxed);
    let Ok((id, target)) = registered else {
        return;
    };
    if random.below(4) != 0 {
        until(|| life.go.load(Ordering::Relaxed));
    }
    for _ in 0..1 + random.below(3) {
        post(fd, target, random);
        drive(fd, id, random);
    }
    // If an entry has already unmapped the pages, something else may be there now.
    if random.below(2) == 0 {
        plain!(SYS_munmap, target.base, target.len());
    }
    plain!(SYS_close, fd);
}

/// Runs a thread with tables of its own, which it gets when it is created or afterwards.
fn apart(life: &Life<'_>, random: &mut Random) {
    if random.below(2) == 0 {
        let shared = match random.below(4) {
            0 => libc::CLONE_FILES,
            1 => libc::CLONE_FS,
            2 => libc::CLONE_FS | libc::CLONE_SYSVSEM,
            _ => 0,
        };
        let _ = clone::in_apart_thread(shared, || user(life, random));
    } else {
        let own = [libc::CLONE_FILES, libc::CLONE_FILES | libc::CLONE_FS];
        plain!(SYS_unshare, own[random.below(2) as usize]);
        user(life, random);
    }
    life.ended.fetch_add(1, Ordering::Relaxed);
}

/// One life.
pub fn live(program: &Program<'_>, random: &mut Random) {
    plain!(SYS_mknodat, libc::AT_FDCWD, FIFO, libc::S_IFIFO | 0o600, 0);
    let Ok(engine) = try_open() else {
        return;
    };
    program.report(|report| report.engines += 1);
    let fd = engine.into_fd().into_raw_fd();
    let mut rounds = ParamArg::new(Param::LoopMax, 1 + random.below(8));
    let _ = sys::ioctl_with(fd, abi::IOC_SET, &mut rounds);
    // The first registration creates a syscall thread, which shares the table of the registering
    // thread.
    let own = (random.below(8) != 0).then(|| engine::register(fd, 1));
    let life = Life {
        program,
        fd,
        ready: AtomicU32::new(0),
        go: AtomicBool::new(false),
        ended: AtomicU32::new(0),
    };
    let users = 1 + random.below(3) as u32;
    std::thread::scope(|scope| {
        let life = &life;
        let mut started = 0;
        for _ in 0..users {
            let mut random = random.split();
            let work = move || apart(life, &mut random);
            let builder = std::thread::Builder::new().stack_size(256 * 1024);
            started += u32::from(builder.spawn_scoped(scope, work).is_ok());
        }
        until(|| life.ready.load(Ordering::Relaxed) >= started);
        life.program.count(fd, true);
        if let (Some(Ok(own)), 0) = (&own, random.below(4)) {
            let _ = sys::ioctl(fd, abi::IOC_UNREGISTER, u64::from(own.id));
        }
        if random.below(8) != 0 {
            plain!(SYS_close, fd);
        }
        life.go.store(true, Ordering::Relaxed);
        let end = Instant::now() + Duration::from_secs(5);
        while life.ended.load(Ordering::Relaxed) < started {
            // Interrupts threads that are in an endless call.
            std::thread::sleep(Duration::from_millis(1 + random.below(8)));
            if Instant::now() > end || random.below(2) == 0 {
                interrupt_all();
            }
        }
    });
    plain!(SYS_close, fd);
}

/// Sends a signal to each thread of this process.
fn interrupt_all() {
    for task in process::tasks(std::process::id() as i32) {
        signals::send(task.tid, libc::SIGUSR1);
    }
}
