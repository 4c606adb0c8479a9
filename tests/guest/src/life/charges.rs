// SPDX-License-Identifier: MIT OR Apache-2.0
//! The user, process and group to which an engine's memory is charged, and for how long.

use std::os::fd::OwnedFd;
use std::time::Instant;

use nix::errno::Errno;

use super::{end_in_turn, start_in_turn};
use crate::check::{Check, skip};
use crate::kit::abi::{MAX_IDLE_NS, PAGE_SIZE, Param, Policy};
use crate::kit::cgroup::Cgroup;
use crate::kit::child::spawn;
use crate::kit::engine::Engine;
use crate::kit::files::{BlockedReads, pipe};
use crate::kit::limits::{NOBODY, cpus, many, need_root, need_two_cpus, poller_cpu, set_limit};
use crate::kit::mode::Mode;
use crate::kit::{chances, patience, process, rounds, speed, until};
use crate::starving::set_pollers;

tests! { "charges":
    queue_holds_nothing => "registrations that end leave a pool's queue: their memory is freed";
    queue_is_not_full => "more registrations than a queue has places pass through it, none is lost";
    reopened_at_once => "at RLIMIT_MEMLOCK and max_user_pages a new engine follows the old at once";
    reopened_in_flight => "the same with calls in flight, which end a little later";
    limit_stands => "REGISTER fails at once at a limit if nothing is about to be freed";
    cgroup_pays => "all of a registration's memory is charged to the memory cgroup";
    ended_while_polled => "a poller that blocks in a call keeps no other registration's memory";
    ended_before_block => "the same if another poller stays, and the registration ends earlier";
    spliced_pages => "pages put into a pipe stay charged to the cgroup until they leave it";
    many_threads => "closing an engine ends 200 threads in calls";
}

/// An engine with one thread, which is blocked in a read.
struct Blocked {
    engine: Engine,
    ring: crate::kit::ring::Ring,
    reads: BlockedReads,
    slots: Vec<usize>,
    to: OwnedFd,
    _from: OwnedFd,
}

impl Blocked {
    fn start() -> Check<Blocked> {
        let engine = Engine::open()?;
        engine.set(Param::MaxThreads, 1)?;
        let mut ring = engine.ring(1)?;
        let (from, to) = pipe()?;
        let reads = BlockedReads::new(&from, 1);
        let slots = ring.post_blocked(&reads.calls())?;
        Ok(Blocked {
            engine,
            ring,
            reads,
            slots,
            to,
            _from: from,
        })
    }

    /// Registers pages, queues an entry, takes it back, and ends the registration.
    fn pass(&self, pages: u32) -> Check {
        let mut ring = self.engine.ring(pages)?;
        let slot = ring.post(call!(SYS_getpid).asynchronous());
        ring.kicked()?;
        check_eq!("CANCEL", ring.cancel(slot), Ok(0));
        let id = ring.id;
        ok!("munmap", ring.unmap());
        check_eq!("UNREGISTER", self.engine.unregister(id), Ok(0));
        Ok(())
    }

    fn end(mut self) -> Check {
        self.reads.release(&self.to)?;
        for done in self.ring.finish(&self.slots)? {
            check_ret!("read", done.result, 2);
        }
        self.reads.check()
    }
}

fn queue_holds_nothing() -> Check {
    let blocked = Blocked::start()?;
    let base = (process::areas(), process::pinned_kib());
    for _ in 0..rounds(20) {
        blocked.pass(64)?;
        let now = (process::areas(), process::pinned_kib());
        check_eq!("memory areas of the module, pinned KiB", now, base);
    }
    blocked.end()
}

fn queue_is_not_full() -> Check {
    let blocked = Blocked::start()?;
    for _ in 0..rounds(600) {
        blocked.pass(1)?;
    }
    // Two entries that wait for the thread.
    let mut others = [blocked.engine.ring(1)?, blocked.engine.ring(1)?];
    let mut slots = Vec::new();
    for ring in &mut others {
        slots.push(ring.post(call!(SYS_getpid).asynchronous()));
        ring.kicked()?;
    }
    blocked.end()?;
    for (ring, slot) in others.iter_mut().zip(slots) {
        ring.poll_until_done(&[slot])?;
        check_ret!("getpid", ring.reap(slot).result, std::process::id());
    }
    Ok(())
}

fn ended_while_polled() -> Check {
    need_two_cpus()?;
    let start = process::areas();
    // With another thread that goes on polling, and without.
    for threads in [8, 1] {
        until("the memory of the engine before freed", || {
            process::areas() == start
        })?;
        let engine = Engine::open()?;
        engine.set(Param::MaxThreads, threads)?;
        engine.set(Param::IdleNs, MAX_IDLE_NS)?;
        let mut ring = engine.ring(1)?;
        let base = (process::areas(), process::pinned_kib());
        set_pollers(&engine, 1 << poller_cpu())?;
        for _ in 0..rounds(5) {
            let other = engine.ring(64)?;
            until("a poller that is awake", || !other.needs_kick())?;
            let (from, to) = pipe()?;
            let reads = BlockedReads::new(&from, 1);
            let slots = ring.post_all(&reads.calls());
            // The poller sleeps in the read: another thread polls, or none.
            ring.until_taken(&slots)?;
            engine.until_pool(0, "a blocked thread", |pool| pool.blocked == 1)?;
            let id = other.id;
            ok!("munmap", other.unmap());
            check_eq!("UNREGISTER", engine.unregister(id), Ok(0));
            let mut now = base;
            until("memory as before", || {
                now = (process::areas(), process::pinned_kib());
                now == base
            })
            .map_err(|failure| {
                failure.within(format_args!("{threads} threads: {now:?}, {base:?}"))
            })?;
            check!(!ring.is_done(slots[0]), "the call is over");
            reads.release(&to)?;
            ring.poll_until_done(&slots)?;
            check_ret!("read", ring.reap(slots[0]).result, 2);
            reads.check()?;
        }
    }
    Ok(())
}

fn ended_before_block() -> Check {
    need_two_cpus()?;
    let engine = Engine::open()?;
    engine.set(Param::MaxThreads, 2)?;
    engine.set(Param::IdleNs, 0)?;
    let mut ring = engine.ring(1)?;
    set_pollers(&engine, 0b11)?;
    engine.until_stats("two pollers", |s| s.polled_cpus == 0b11)?;
    let base = (process::areas(), process::pinned_kib());
    let mut buffer = vec![0u8; 4 << 20];
    let end = Instant::now() + patience();
    let mut good = 0;
    while good < rounds(3) {
        check!(Instant::now() < end, "UNREGISTER always comes too late");
        let other = engine.ring(64)?;
        let (from, to) = pipe()?;
        let reads = BlockedReads::new(&from, 1);
        // The poller knows the other registration, and is busy for a while before it blocks.
        let mut calls = vec![call!(SYS_getrandom, buffer.as_mut_ptr(), buffer.len(), 0)];
        calls.extend(reads.calls());
        let slots = ring.post_all(&calls);
        ring.kicked()?;
        ring.until_taken(&slots)?;
        let id = other.id;
        ok!("munmap", other.unmap());
        check_eq!("UNREGISTER", engine.unregister(id), Ok(0));
        // A poller publishes its results when it blocks.
        good += u32::from(!ring.is_done(slots[0]));
        engine.until_pool(0, "a blocked thread", |pool| pool.blocked == 1)?;
        let mut now = base;
        until("memory as before", || {
            now = (process::areas(), process::pinned_kib());
            now == base
        })
        .map_err(|failure| failure.within(format_args!("{now:?}, {base:?}")))?;
        reads.release(&to)?;
        ring.poll_until_done(&slots)?;
        check_ret!("getrandom", ring.reap(slots[0]).result, buffer.len() as u32);
        check_ret!("read", ring.reap(slots[1]).result, 2);
        engine.until_stats("two pollers", |s| s.polled_cpus == 0b11)?;
    }
    Ok(())
}

/// A limit that allows one page at a time.
#[derive(Clone, Copy, Debug)]
enum Limit {
    LockedMemory,
    UserPages,
}

/// Runs `work` in a child without rights at a limit of one syscall page.
fn at_limit(work: impl Fn(Mode) -> Check) -> Check {
    need_root()?;
    for limit in [Limit::LockedMemory, Limit::UserPages] {
        let _parameter = match limit {
            Limit::LockedMemory => None,
            Limit::UserPages => {
                let parameter = super::quota::Parameter::get("max_user_pages")?;
                parameter.set(1)?;
                Some(parameter)
            }
        };
        for mode in Mode::ALL {
            let base = process::refcnt();
            spawn(|_| {
                let bytes = match limit {
                    Limit::LockedMemory => 2 * PAGE_SIZE as u64,
                    Limit::UserPages => 64 << 20,
                };
                ok!("setrlimit", set_limit(libc::RLIMIT_MEMLOCK, bytes));
                check_ret!(
                    "setresgid",
                    plain!(SYS_setresgid, NOBODY, NOBODY, NOBODY),
                    0
                );
                check_ret!(
                    "setresuid",
                    plain!(SYS_setresuid, NOBODY, NOBODY, NOBODY),
                    0
                );
                work(mode)
            })?
            .join()
            .map_err(|failure| failure.within(format_args!("{limit:?}, {mode:?}")))?;
            process::until_refcnt(base)?;
        }
    }
    Ok(())
}

fn reopened_at_once() -> Check {
    at_limit(|mode| {
        for round in 0..chances(25) {
            let (engine, mut ring) = start_in_turn(mode)
                .map_err(|failure| failure.within(format_args!("engine {round}")))?;
            check_ret!(
                "getpid",
                ring.result(call!(SYS_getpid))?,
                std::process::id()
            );
            end_in_turn(round, engine, ring);
        }
        Ok(())
    })
}

fn reopened_in_flight() -> Check {
    at_limit(|mode| {
        for round in 0..rounds(10) {
            let (engine, mut ring) = start_in_turn(mode)
                .map_err(|failure| failure.within(format_args!("engine {round}")))?;
            let (from, _to) = pipe()?;
            let reads = BlockedReads::new(&from, 5);
            ring.post_blocked(&reads.calls())?;
            drop(ring);
            drop(engine);
        }
        Ok(())
    })
}

fn limit_stands() -> Check {
    at_limit(|mode| {
        let (engine, mut ring) = mode.start(1)?;
        let (from, to) = pipe()?;
        let reads = BlockedReads::new(&from, 5);
        let slots = ring.post_blocked(&reads.calls())?;
        let begun = crate::kit::sys::monotonic_ns();
        for _ in 0..20 {
            let ret = engine.register(1).map(|given| given.id);
            check!(
                matches!(ret, Err(Errno::ENOMEM | Errno::ENOSPC)),
                "REGISTER of one page too many: {ret:?}"
            );
        }
        let took = (crate::kit::sys::monotonic_ns() - begun) / 1_000_000;
        let most = 20_000 * u64::from(speed::slow()) / 100;
        check!(took < most, "20 refusals took {took} ms: they wait");
        reads.release(&to)?;
        for done in ring.finish(&slots)? {
            check_ret!("read", done.result, 2);
        }
        Ok(())
    })
}

/// The kernel memory of a group, in bytes.
pub(super) fn kernel_memory(group: &Cgroup) -> Check<u64> {
    let text = group.read("memory.stat");
    let line = text.lines().find_map(|line| line.strip_prefix("kernel "));
    match line.and_then(|number| number.trim().parse().ok()) {
        Some(bytes) => Ok(bytes),
        None => skip("needs \"kernel\" in memory.stat"),
    }
}

/// All memory that is charged to a group, in bytes. Unlike the parts of the sum this is up to date,
/// except for the memory that is [`in_stock`].
fn all_memory(group: &Cgroup) -> Check<u64> {
    let text = group.read("memory.current");
    Ok(ok!("memory.current", text.trim().parse()))
}

/// How much all CPUs together may have charged in advance.
fn in_stock() -> u64 {
    const PAGES: usize = 64;

    (PAGES * PAGE_SIZE * cpus()) as u64
}

/// All of 64 syscall pages and their control blocks.
const LEN: u64 = 66 * PAGE_SIZE as u64;

fn cgroup_pays() -> Check {
    let group = Cgroup::new(Some("memory"))?;
    let mut child = spawn(|link| {
        group.enter()?;
        let engine = Engine::open()?;
        let first = engine.ring(1)?;
        let before = kernel_memory(&group)?;
        let all_before = all_memory(&group)?;
        let mut rings = Vec::new();
        for _ in 0..8 {
            rings.push(engine.ring(64)?);
        }
        let all = all_memory(&group)?;
        check!(
            all + in_stock() >= all_before + 8 * LEN,
            "512 pages are not charged at once: {all_before} bytes before, {all} with them"
        );
        // The sum is updated at least every two seconds.
        let mut with = 0;
        until("512 pages charged", || {
            with = kernel_memory(&group).unwrap_or(0);
            with >= before + 8 * LEN
        })
        .map_err(|failure| {
            failure.within(format_args!("{before} bytes before, {with} with them"))
        })?;
        for ring in rings {
            let id = ring.id;
            ok!("munmap", ring.unmap());
            check_eq!("UNREGISTER", engine.unregister(id), Ok(0));
        }
        until("the charge given back", || {
            kernel_memory(&group).is_ok_and(|now| now < before + LEN)
        })?;
        link.ready();
        drop(first);
        Ok(())
    })?;
    child.wait_ready()?;
    child.join()
}

fn spliced_pages() -> Check {
    let group = Cgroup::new(Some("memory"))?;
    let mut child = spawn(|link| {
        group.enter()?;
        let engine = Engine::open()?;
        let first = engine.ring(1)?;
        let (from, to) = pipe()?;
        let size = plain!(SYS_fcntl, &to, libc::F_SETPIPE_SZ, 1 << 20);
        check!(size >= 1 << 20, "F_SETPIPE_SZ: {size}");
        let before = kernel_memory(&group)?;
        let ring = engine.ring(64)?;
        let (at, len) = ring.base();
        let part = libc::iovec {
            iov_base: at.cast(),
            iov_len: len,
        };
        let part = std::ptr::from_ref(&part);
        let spliced = plain!(SYS_vmsplice, &to, part, 1, libc::SPLICE_F_NONBLOCK);
        if spliced == -i64::from(libc::EFAULT) {
            return skip("needs a kernel without secret memory");
        }
        check_ret!("vmsplice", spliced, len as i64);
        let id = ring.id;
        ok!("munmap", ring.unmap());
        check_eq!("UNREGISTER", engine.unregister(id), Ok(0));
        let mut in_pipe = 0;
        until("66 pages in a pipe charged", || {
            in_pipe = kernel_memory(&group).unwrap_or(0);
            in_pipe >= before + LEN
        })
        .map_err(|failure| failure.within(format_args!("{before} bytes before, {in_pipe} now")))?;
        drop((from, to));
        until("the charge given back", || {
            kernel_memory(&group).is_ok_and(|now| now < before + LEN / 2)
        })?;
        link.ready();
        drop(first);
        Ok(())
    })?;
    child.wait_ready()?;
    child.join()
}

fn many_threads() -> Check {
    let base = process::refcnt();
    for _ in 0..rounds(2) {
        let engine = Engine::open()?;
        let mut ring = engine.ring(4)?;
        let (from, to) = pipe()?;
        let count = many(200);
        let reads = BlockedReads::new(&from, count);
        ring.post_blocked(&reads.calls())?;
        engine.until_stats("all calls blocked", |stats| {
            stats.peak_blocked >= count as u64
        })?;
        ok!("munmap", ring.unmap());
        drop(engine);
        process::until_tasks(1)?;
        process::until_refcnt(base)?;
        reads.release(&to)?;
    }
    // The next engine works as usual.
    let engine = Engine::open()?;
    let mut ring = engine.ring(1)?;
    ring.post(call!(SYS_getpid));
    check_eq!("WAIT", ring.wait(Policy::All), Ok(1));
    Ok(())
}
