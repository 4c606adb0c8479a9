// SPDX-License-Identifier: MIT OR Apache-2.0
//! Programs that try to hold more of the kernel's memory than they are charged for, whose own
//! memory is slow, and whose registrations end while others begin.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::cell::Finding;
use super::program::Program;
use super::results::{LONG, drive, endless};
use crate::kit::abi::{self, MAX_PAGES, Param, ParamArg, Policy};
use crate::kit::engine::{self, Engine, try_open};
use crate::kit::files::pipe;
use crate::kit::mode::Mode;
use crate::kit::ring::{Call, Ring};
use crate::kit::uffd::Slow;
use crate::kit::{Random, sys};

/// One life of one of three kinds.
pub fn live(program: &Program<'_>, random: &mut Random) {
    let Ok(engine) = try_open() else {
        return;
    };
    program.report(|report| report.engines += 1);
    match random.below(4) {
        0 | 1 => blocked_pool(&engine, random),
        2 => slow_memory(program, &engine, random),
        _ => changing_owners(program, &engine, random),
    }
    program.count(engine.fd(), true);
}

fn ring(engine: &Engine, pages: u32) -> Option<Ring> {
    let registered = engine.register(pages).ok()?;
    Ring::map(engine.fd(), &registered).ok()
}

/// Registrations come and go while the pools of their entries cannot work, because all threads of
/// these pools wait.
fn blocked_pool(engine: &Engine, random: &mut Random) {
    let fd = engine.fd();
    let threads = 1 + random.below(2);
    let pools = 1 + random.below(2) as u32;
    for pool in 1..pools {
        let mut limit = ParamArg::new(Param::PoolConcurrency, 1);
        limit.pool = pool;
        let _ = sys::ioctl_with(fd, abi::IOC_SET, &mut limit);
    }
    let mut most = ParamArg::new(Param::MaxThreads, threads);
    let _ = sys::ioctl_with(fd, abi::IOC_SET, &mut most);
    let (Ok((from, to)), Some(mut blocker)) = (pipe(), ring(engine, 1)) else {
        return;
    };
    let mut byte = [0u8; 64];
    let reads: Vec<Call> = (0..threads + random.below(3))
        .map(|_| {
            let read = call!(SYS_read, &from, byte.as_mut_ptr(), 1);
            read.asynchronous()
                .in_pool(random.below(pools.into()) as u8)
        })
        .collect();
    let reads = blocker.post_all(&reads);
    let _ = blocker.kick();
    let mut refused = 0;
    for _ in 0..40 + random.below(160) {
        let pages = if random.below(4) == 0 {
            1 + random.below(MAX_PAGES.into()) as u32
        } else {
            MAX_PAGES
        };
        let Some(mut ring) = ring(engine, pages) else {
            // A limit that holds is not a finding.
            refused += 1;
            if refused > 8 {
                break;
            }
            continue;
        };
        for _ in 0..1 + random.below(3) {
            let slot = random.below(ring.capacity() as u64) as usize;
            if ring.is_free(slot) {
                let pool = random.below(pools.into()) as u8;
                ring.post_at(slot, &call!(SYS_getpid).asynchronous().in_pool(pool));
            }
        }
        match random.below(4) {
            0 => drop(ring.wait_for(Policy::None, 0, Duration::ZERO)),
            _ => drop(ring.kick()),
        }
        for slot in 0..ring.capacity() {
            if !ring.is_free(slot) {
                let _ = ring.cancel(slot);
            }
        }
        let id = ring.id;
        if random.below(2) == 0 {
            let _ = engine.unregister(id);
            drop(ring);
        } else {
            drop(ring);
            if random.below(16) != 0 {
                let _ = engine.unregister(id);
            }
        }
    }
    // The blocked calls may go on, or end with the engine.
    if random.below(2) == 0 {
        plain!(SYS_write, &to, byte.as_ptr(), byte.len());
        drive(&blocker, &reads, Duration::from_millis(200));
    }
    for &slot in &reads {
        let _ = blocker.cancel(slot);
    }
    drive(&blocker, &reads, LONG);
}

/// Calls whose buffers another thread provides at any time. All must end, the cancelled ones too.
fn slow_memory(program: &Program<'_>, engine: &Engine, random: &mut Random) {
    let (Some(slow), Some(mut ring)) = (Slow::new(16), ring(engine, 1)) else {
        return;
    };
    ring.mode = [Mode::Inline, Mode::Kick][random.below(2) as usize];
    let zero = plain!(SYS_openat, libc::AT_FDCWD, c"/dev/zero", libc::O_RDONLY);
    let file = plain!(SYS_memfd_create, c"slow", 0);
    let over = AtomicBool::new(false);
    let most = Duration::from_micros(200 + random.below(8_000));
    let mut stuck = None;
    std::thread::scope(|scope| {
        let (slow, over) = (&slow, &over);
        let mut server = random.split();
        scope.spawn(move || slow.serve(&mut server, most, || over.load(Ordering::Relaxed)));
        for _ in 0..4 + random.below(12) {
            slow.forget();
            let calls: Vec<Call> = (0..1 + random.below(16))
                .map(|_| {
                    let at = slow.address(random);
                    let call = match random.below(6) {
                        0 | 1 => call!(SYS_read, zero, at, 1 + random.below(8192)),
                        2 => call!(SYS_pwrite64, file, at, 1 + random.below(8192), 0),
                        3 => call!(SYS_getcwd, at, 64),
                        4 => call!(SYS_newfstatat, libc::AT_FDCWD, at, at, 0),
                        _ => call!(SYS_uname, at),
                    };
                    match random.below(2) {
                        0 => call.asynchronous(),
                        _ => call,
                    }
                })
                .collect();
            let slots = ring.post_all(&calls);
            match random.below(3) {
                0 => drop(ring.kick()),
                1 => drop(ring.wait_for(Policy::Any, 0, Duration::from_millis(2))),
                _ => {}
            }
            for &slot in &slots {
                if random.below(3) == 0 {
                    let _ = ring.cancel(slot);
                }
            }
            if !drive(&ring, &slots, LONG) {
                stuck = Some(slots);
                break;
            }
            for &slot in &slots {
                ring.reap(slot);
            }
        }
        over.store(true, Ordering::Relaxed);
    });
    if let Some(slots) = stuck {
        endless(program, &ring, &slots);
    }
    plain!(SYS_close, zero);
    plain!(SYS_close, file);
}

/// Some threads register and end, some register, some end registrations by number. No thread may
/// end the registration of a live thread.
fn changing_owners(program: &Program<'_>, engine: &Engine, random: &mut Random) {
    let fd = engine.fd();
    let over = AtomicBool::new(false);
    let _first = engine.register(1);
    std::thread::scope(|scope| {
        let over = &over;
        for _ in 0..2 {
            let mut random = random.split();
            scope.spawn(move || {
                while !over.load(Ordering::Relaxed) {
                    let id = 1 + random.below(4) as u32;
                    let _ = sys::ioctl(fd, abi::IOC_UNREGISTER, u64::from(id));
                }
            });
        }
        let end = Instant::now() + Duration::from_millis(300 + random.below(700));
        while Instant::now() < end {
            std::thread::scope(|scope| {
                for _ in 0..1 + random.below(2) {
                    let rounds = random.below(12);
                    let _ = std::thread::Builder::new()
                        .stack_size(256 * 1024)
                        .spawn_scoped(scope, move || short_owner(program, fd, rounds));
                }
            });
        }
        over.store(true, Ordering::Relaxed);
    });
}

/// Checks that this thread's registration stays its own, and ends without unregistering.
fn short_owner(program: &Program<'_>, fd: i32, rounds: u64) {
    let Ok(registered) = engine::register(fd, 1) else {
        return;
    };
    for _ in 0..rounds {
        let mut wait = abi::Wait::new(registered.id, Policy::None);
        if let Err(error) = sys::ioctl_with(fd, abi::IOC_WAIT, &mut wait) {
            program.found(Finding::Lost, [registered.id.into(), error as u64, 0]);
        }
        sys::yield_now();
    }
}
