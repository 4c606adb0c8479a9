// SPDX-License-Identifier: MIT OR Apache-2.0
//! Programs whose owners end while syscall threads take signals for them: signalfd, periodic POSIX
//! timers, signals from all sides.

use std::os::fd::RawFd;
use std::sync::Mutex;
use std::time::Duration;

use super::program::Program;
use crate::kit::abi::{self, Param, ParamArg, Policy};
use crate::kit::engine::{Engine, try_open};
use crate::kit::ring::{Call, Ring};
use crate::kit::{Random, memory, sys};

/// Signals that all threads block, so that only a signalfd receives them.
const TAKEN: [i32; 4] = [36, 37, 38, libc::SIGUSR2];

/// Bytes that calls may write to.
const BUFFER: usize = 64 * 1024;

fn mask() -> u64 {
    TAKEN
        .iter()
        .fold(0, |mask, signal| mask | (1 << (signal - 1)))
}

/// Data that the threads of a life share.
struct Life {
    engine: Engine,
    /// A signalfd, an epoll that watches it, and the two ends of an empty pipe.
    files: [RawFd; 4],
    buffer: usize,
    timers: Vec<i32>,
    /// Registrations whose owners have ended.
    left: Mutex<Vec<u32>>,
}

fn open_files() -> Option<[RawFd; 4]> {
    let mask = mask();
    let taker = plain!(SYS_signalfd4, -1, &raw const mask, 8, libc::SFD_CLOEXEC) as RawFd;
    let epoll = plain!(SYS_epoll_create1, libc::EPOLL_CLOEXEC) as RawFd;
    let mut event = [libc::EPOLLIN as u32, 0, 0];
    plain!(
        SYS_epoll_ctl,
        epoll,
        libc::EPOLL_CTL_ADD,
        taker,
        event.as_mut_ptr()
    );
    let mut pipe = [-1i32; 2];
    plain!(SYS_pipe2, pipe.as_mut_ptr(), libc::O_CLOEXEC);
    let files = [taker, epoll, pipe[0], pipe[1]];
    files.iter().all(|&fd| fd >= 0).then_some(files)
}

/// A timer that sends one of the signals, to this thread or to the process.
fn create_timer(random: &mut Random) -> Option<i32> {
    let signal = u64::from(TAKEN[random.below(4) as usize].unsigned_abs());
    let how = [
        libc::SIGEV_SIGNAL,
        libc::SIGEV_SIGNAL,
        libc::SIGEV_THREAD_ID,
    ];
    let how = how[random.below(3) as usize] as u64;
    // struct sigevent: value, signal, way, thread.
    let mut event = [0u64; 8];
    event[1] = signal | (how << 32);
    event[2] = sys::gettid() as u64;
    let clock = [
        libc::CLOCK_MONOTONIC,
        libc::CLOCK_REALTIME,
        libc::CLOCK_PROCESS_CPUTIME_ID,
    ];
    let mut id = -1i32;
    let clock = clock[random.below(3) as usize];
    let ret = plain!(SYS_timer_create, clock, event.as_ptr(), &raw mut id);
    (ret == 0).then_some(id)
}

/// First time and period, both short.
fn period(random: &mut Random) -> [i64; 4] {
    let every = 100_000 + random.below(4_000_000) as i64;
    [0, if random.below(8) == 0 { 0 } else { every }, 0, every]
}

fn start_timer(timer: i32, random: &mut Random) {
    let times = period(random);
    plain!(SYS_timer_settime, timer, 0, times.as_ptr(), 0);
}

fn call(life: &Life, random: &mut Random) -> Call {
    let [taker, epoll, from, to] = life.files;
    // Each call writes to a random place, which no thread reads.
    let buffer = life.buffer + random.below(BUFFER as u64 - 4096) as usize;
    let timer = life
        .timers
        .get(random.below(4) as usize)
        .copied()
        .unwrap_or(0);
    let signal = TAKEN[random.below(4) as usize];
    let pid = std::process::id();
    let call = match random.below(20) {
        0..=8 => call!(SYS_read, taker, buffer, 128 * (1 + random.below(8))),
        9 => call!(SYS_epoll_wait, epoll, buffer, 8, random.below(20)),
        10 => call!(SYS_read, from, buffer, 64),
        11 => call!(SYS_write, to, buffer, 1),
        12 => call!(SYS_timer_settime, timer, 0, life.buffer, 0),
        13 => call!(SYS_timer_getoverrun, timer),
        14 => call!(SYS_kill, pid, signal),
        15 => call!(SYS_tgkill, pid, sys::gettid(), signal),
        16 => call!(SYS_nanosleep, life.buffer, 0),
        17 => call!(SYS_signalfd4, taker, life.buffer + 64, 8, 0),
        18 => call!(SYS_getpid),
        _ => call!(SYS_rt_sigpending, buffer, 8),
    };
    let flags = match random.below(8) {
        0 => 0,
        1 => abi::ENTRY_ASYNC | abi::ENTRY_LINK,
        _ => abi::ENTRY_ASYNC,
    };
    Call { flags, ..call }
}

/// Posts calls and ends, mostly while they are being executed.
fn owner(life: &Life, random: &mut Random) {
    let fd = life.engine.fd();
    let Ok(registered) = life.engine.register(1) else {
        return;
    };
    let Ok(mut ring) = Ring::map(fd, &registered) else {
        return;
    };
    let calls: Vec<Call> = (0..1 + random.below(12))
        .map(|_| call(life, random))
        .collect();
    let slots = ring.post_all(&calls);
    match random.below(3) {
        0 => drop(ring.wait_for(Policy::None, 0, Duration::ZERO)),
        _ => drop(ring.kick()),
    }
    std::thread::sleep(Duration::from_micros(random.below(3_000)));
    match random.below(8) {
        0 => drop(ring.wait_for(Policy::All, 0, Duration::from_millis(random.below(20)))),
        1 => {
            for &slot in &slots {
                let _ = ring.cancel(slot);
            }
        }
        _ => {}
    }
    if let Ok(mut left) = life.left.lock() {
        left.push(ring.id);
    }
}

/// One life: owners that come and go.
pub fn live(program: &Program<'_>, random: &mut Random) {
    let mask = mask();
    plain!(SYS_rt_sigprocmask, libc::SIG_BLOCK, &raw const mask, 0, 8);
    let (Ok(engine), Some(files)) = (try_open(), open_files()) else {
        return;
    };
    let Ok(buffer) = memory::pages(BUFFER) else {
        return;
    };
    program.report(|report| report.engines += 1);
    // The data that timer_settime, nanosleep and signalfd read. Calls may write to it meanwhile.
    memory::store(buffer, period(random));
    memory::store(buffer.wrapping_add(64), mask);
    if random.below(4) == 0 {
        let mut threads = ParamArg::new(Param::MaxThreads, 1 + random.below(4));
        let _ = sys::ioctl_with(engine.fd(), abi::IOC_SET, &mut threads);
    }
    let timers: Vec<i32> = (0..1 + random.below(4))
        .filter_map(|_| create_timer(random))
        .collect();
    for &timer in &timers {
        start_timer(timer, random);
    }
    let life = Life {
        engine,
        files,
        buffer: buffer as usize,
        timers,
        left: Mutex::default(),
    };
    for _ in 0..8 + random.below(16) {
        std::thread::scope(|scope| {
            for _ in 0..1 + random.below(3) {
                let (life, mut random) = (&life, random.split());
                let builder = std::thread::Builder::new().stack_size(256 * 1024);
                let _ = builder.spawn_scoped(scope, move || owner(life, &mut random));
            }
        });
        // The owners' calls go on without them for a while.
        std::thread::sleep(Duration::from_micros(random.below(6_000)));
        if random.below(2) == 0 {
            for &timer in &life.timers {
                start_timer(timer, random);
            }
        }
        if random.below(3) == 0 {
            if let Ok(mut left) = life.left.lock() {
                left.retain(|&id| life.engine.unregister(id).is_err());
            }
        }
    }
    program.count(life.engine.fd(), true);
    for timer in life.timers {
        plain!(SYS_timer_delete, timer);
    }
    drop(life.engine);
    for fd in files {
        plain!(SYS_close, fd);
    }
    let _ = sys::munmap(buffer, BUFFER);
}
