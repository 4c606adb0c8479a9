// SPDX-License-Identifier: MIT OR Apache-2.0
//! Entries go to the pool that they name, and pools do not wait for each other.

use std::os::fd::{AsRawFd, OwnedFd};

use crate::check::Check;
use crate::kit::abi::{MAX_IDLE_NS, Param, Policy, REASON_STARVED};
use crate::kit::engine::Engine;
use crate::kit::files::{BlockedReads, memory_file, pipe};
use crate::kit::limits::{many, need_two_cpus, poller_cpu};
use crate::kit::mode::{Mode, in_modes};
use crate::kit::ring::{Call, Ring};
use crate::kit::{chances, process, rounds, sys};

tests! { "pools":
    by_threads => "entries of pool 1 are executed by its threads, in every mode, never inline";
    mixed => "entries of five pools in one page, in every mode: all results right, all counted";
    blocked_pool => "a pool all of whose threads are blocked does not hold up another one";
    accepting_server => "a server: accepts block in one pool, reads and writes go on in another";
    thousand_blocked => "1,000 reads blocked in one pool, others proceed in two pools and inline";
    from_owner => "an owner that blocks inline leaves entries of other pools to those pools";
    from_poller => "a poller gives entries of other pools to their threads";
    kicked => "KICK sends each entry to its own pool";
    starved => "at the limit on threads entries of a pool are EAGAIN, reason STARVED, in WAIT";
    removed_with_engine => "all threads of all pools end with the engine, blocked ones too";
    set_under_load => "CPUs, limits and nice values change while calls are in flight";
}

/// An engine with pools 1 to `count`.
fn start(count: u32, pages: u32) -> Check<(Engine, Ring)> {
    let engine = Engine::open()?;
    let ring = engine.ring(pages)?;
    for pool in 1..=count {
        engine.set_pool(pool, Param::PoolConcurrency, 0)?;
    }
    Ok((engine, ring))
}

fn in_pool(calls: Vec<Call>, pool: u8) -> Vec<Call> {
    calls.into_iter().map(|call| call.in_pool(pool)).collect()
}

fn check_getpid(ring: &mut Ring, pool: u8, count: usize) -> Check {
    for done in ring.run_all(&vec![call!(SYS_getpid).in_pool(pool); count])? {
        check_ret!(
            format!("getpid in pool {pool}"),
            done.result,
            std::process::id()
        );
    }
    Ok(())
}

fn by_threads() -> Check {
    in_modes(1, |engine, ring| {
        engine.set_pool(1, Param::PoolConcurrency, 0)?;
        for round in 1..=5 {
            check_getpid(ring, 1, 64)?;
            check_eq!("executed by pool 1", engine.pool(1)?.executed, round * 64);
        }
        let stats = engine.stats()?;
        check_eq!("executed inline", stats.inline_done, 0);
        check_eq!("executed by pool 0", engine.pool(0)?.executed, 0);
        check_eq!("executed by threads", stats.thread_done, 320);
        Ok(())
    })
}

fn mixed() -> Check {
    in_modes(2, |engine, ring| {
        let file = memory_file()?;
        for pool in 1..5 {
            engine.set_pool(pool, Param::PoolConcurrency, 0)?;
        }
        let rounds = u64::from(rounds(5));
        for round in 0..rounds {
            let calls: Vec<Call> = (0..100)
                .map(|n| {
                    // Two results that cannot be mistaken for each other.
                    let at = round * 1000 + n;
                    let call = call!(SYS_lseek, &file, at, libc::SEEK_SET);
                    match n % 3 {
                        0 => call.in_pool(n as u8 % 5).asynchronous(),
                        _ => call.in_pool(n as u8 % 5),
                    }
                })
                .collect();
            for (n, done) in ring.run_all(&calls)?.iter().enumerate() {
                check_ret!("lseek", done.result, round as i64 * 1000 + n as i64);
            }
        }
        for pool in 1..5 {
            let executed = engine.pool(pool)?.executed;
            check_eq!(format!("executed by pool {pool}"), executed, rounds * 20);
        }
        let stats = engine.stats()?;
        check_eq!("all", stats.inline_done + stats.thread_done, rounds * 100);
        Ok(())
    })
}

fn blocked_pool() -> Check {
    in_modes(2, |engine, ring| {
        for pool in [1, 2] {
            engine.set_pool(pool, Param::PoolConcurrency, 1)?;
        }
        let (from, to) = pipe()?;
        let reads = BlockedReads::new(&from, 20);
        let slots = ring.post_all(&in_pool(reads.calls(), 1));
        ring.kicked()?;
        engine.until_pool(1, "20 blocked threads", |s| s.blocked == 20)?;
        for _ in 0..5 {
            check_getpid(ring, 2, 60)?;
            check_getpid(ring, 0, 60)?;
            check_getpid(ring, 1, 60)?;
        }
        check!(
            slots.iter().all(|&slot| !ring.is_done(slot)),
            "a read is done"
        );
        let stats = engine.pool(2)?;
        check_eq!("most blocked in pool 2", stats.peak_blocked, 0);
        reads.release(&to)?;
        for done in ring.finish(&slots)? {
            check_ret!("read", done.result, 2);
        }
        reads.check()?;
        check_eq!("blocked", engine.pool(1)?.blocked, 0);
        Ok(())
    })
}

fn listener() -> Check<(OwnedFd, libc::sockaddr_un)> {
    let kind = libc::SOCK_STREAM | libc::SOCK_CLOEXEC;
    let fd = plain!(SYS_socket, libc::AF_UNIX, kind, 0);
    check!(fd >= 0, "socket: {fd}");
    let listener = sys::own(fd as i32);
    let mut address = libc::sockaddr_un {
        sun_family: libc::AF_UNIX as u16,
        sun_path: [0; 108],
    };
    // In the abstract namespace.
    for (byte, value) in address.sun_path[1..]
        .iter_mut()
        .zip(std::process::id().to_ne_bytes())
    {
        *byte = value as i8;
    }
    let at = std::ptr::from_ref(&address);
    check_ret!("bind", plain!(SYS_bind, &listener, at, 16), 0);
    check_ret!("listen", plain!(SYS_listen, &listener, 64), 0);
    Ok((listener, address))
}

/// The server of Cluster Calls: one pool accepts, the other one serves.
fn accepting_server() -> Check {
    let (engine, mut ring) = start(2, 2)?;
    // With one thread at a time in each pool, a waiting thread would stop all.
    for pool in [1, 2] {
        engine.set_pool(pool, Param::PoolConcurrency, 1)?;
    }
    let (listener, address) = listener()?;
    let accept = call!(SYS_accept4, &listener, 0, 0, libc::SOCK_CLOEXEC).in_pool(1);
    let mut accepts = ring.post_all(&[accept; 10]);
    ring.kicked()?;
    engine.until_pool(1, "10 blocked accepts", |s| s.blocked == 10)?;
    for round in 0..rounds(20) as u8 {
        let kind = libc::SOCK_STREAM | libc::SOCK_CLOEXEC;
        let client = sys::own(plain!(SYS_socket, libc::AF_UNIX, kind, 0) as i32);
        let at = std::ptr::from_ref(&address);
        let connect = ring.run(call!(SYS_connect, &client, at, 16).in_pool(2))?;
        check_ret!("connect", connect.result, 0);
        // Any of the accepts may have taken the connection.
        let got = loop {
            // Count first: a result that comes in between is found below, and not waited for.
            let ready = (0..ring.capacity()).filter(|&s| ring.is_done(s)).count() as u32;
            if let Some(n) = accepts.iter().position(|&slot| ring.is_done(slot)) {
                break accepts.remove(n);
            }
            ok!(
                "WAIT",
                ring.wait_for(Policy::Some, ready + 1, crate::kit::patience())
            );
        };
        let fd = ring.reap(got).result;
        check!(fd >= 0, "accept: {fd}");
        let server = sys::own(fd as i32);
        let (mut question, mut answer) = ([0u8; 1], [0u8; 1]);
        let read = ring.post(call!(SYS_read, &server, question.as_mut_ptr(), 1).in_pool(2));
        let sent = [round];
        let write = ring.run(call!(SYS_write, &client, sent.as_ptr(), 1).in_pool(2))?;
        check_ret!("write", write.result, 1);
        check_ret!("read", ring.finish(&[read])?[0].result, 1);
        let write = ring.run(call!(SYS_write, &server, question.as_ptr(), 1).in_pool(2))?;
        check_ret!("answer", write.result, 1);
        let read = ring.run(call!(SYS_read, &client, answer.as_mut_ptr(), 1).in_pool(2))?;
        check_ret!("read of the answer", read.result, 1);
        check_eq!("answer", answer, [round]);
        accepts.extend(ring.post_all(&[accept]));
        ring.kicked()?;
    }
    check_eq!("blocked accepts", engine.pool(1)?.peak_blocked, 10);
    // The accepts end with the engine.
    drop(ring);
    drop(engine);
    process::until_tasks(1)?;
    drop(listener);
    Ok(())
}

fn thousand_blocked() -> Check {
    let (engine, mut ring) = start(2, 17)?;
    let (from, to) = pipe()?;
    let count = many(1000);
    let reads = BlockedReads::new(&from, count);
    let slots = ring.post_all(&in_pool(reads.calls(), 1));
    check_eq!("WAIT without sleeping", ring.wait(Policy::None), Ok(0));
    let count = count as u64;
    engine.until_pool(1, "all threads blocked", |s| s.blocked == count)?;
    for pool in [0, 1, 2, 0, 1, 2] {
        check_getpid(&mut ring, pool, 80)?;
    }
    check_eq!("blocked", engine.pool(1)?.blocked, count);
    check_eq!("blocked in all", engine.stats()?.peak_blocked, count);
    check!(
        engine.pool(2)?.threads < 10,
        "pool 2 has {} threads",
        engine.pool(2)?.threads
    );
    reads.release(&to)?;
    for done in ring.finish(&slots)? {
        check_ret!("read", done.result, 2);
    }
    reads.check()?;
    drop(ring);
    drop(engine);
    process::until_tasks(1)
}

fn from_owner() -> Check {
    let (engine, mut ring) = start(2, 2)?;
    let file = memory_file()?;
    let path = format!("/proc/self/fd/{}", file.as_raw_fd());
    let path = std::ffi::CString::new(path).expect("no zero byte");
    let other = ok!("open", sys::open(&path, libc::O_RDWR, 0));
    for round in 1..=u64::from(rounds(10)) {
        check_ret!("flock", plain!(SYS_flock, &other, libc::LOCK_EX), 0);
        // The call looks harmless, so the owner executes it and blocks.
        let mut calls = vec![call!(SYS_flock, &file, libc::LOCK_EX)];
        calls.extend((1..100).map(|n| call!(SYS_getpid).in_pool(n as u8 % 3)));
        let before = [1, 2].map(|pool| engine.pool(pool).map_or(0, |s| s.executed));
        let slots = ring.post_all(&calls);
        std::thread::scope(|scope| {
            let unlock = scope.spawn(|| {
                // The owner sleeps in flock meanwhile.
                let waited = engine.until_stats("99 results", |s| {
                    s.inline_done + s.thread_done >= round * 100 - 1 && s.peak_blocked >= 1
                });
                plain!(SYS_flock, &other, libc::LOCK_UN);
                waited.map(|_| ())
            });
            for (n, done) in ring.finish(&slots)?.iter().enumerate() {
                let want = if n == 0 { 0 } else { std::process::id() };
                check_ret!("result", done.result, want);
            }
            match unlock.join() {
                Ok(outcome) => outcome,
                Err(_) => fail!("a panic"),
            }
        })?;
        let after = [1, 2].map(|pool| engine.pool(pool).map_or(0, |s| s.executed));
        for (before, after) in before.into_iter().zip(after) {
            check_eq!("executed by a pool", after - before, 33);
        }
        check_ret!("unlock", plain!(SYS_flock, &file, libc::LOCK_UN), 0);
    }
    Ok(())
}

fn from_poller() -> Check {
    need_two_cpus()?;
    let (engine, mut ring) = Mode::Poller.start(1)?;
    engine.set(Param::IdleNs, MAX_IDLE_NS)?;
    engine.set_pool(1, Param::PoolConcurrency, 1)?;
    check_eq!("POLL_CPUS", engine.get(Param::PollCpus)?, 1 << poller_cpu());
    crate::kit::until("a poller that is awake", || !ring.needs_kick())?;
    for _ in 0..rounds(20) {
        let calls: Vec<Call> = (0..64)
            .map(|n| call!(SYS_getpid).in_pool(n as u8 % 2))
            .collect();
        let slots = ring.post_all(&calls);
        ring.poll_until_done(&slots)?;
        for slot in slots {
            check_ret!("getpid", ring.reap(slot).result, std::process::id());
        }
    }
    let stats = engine.stats()?;
    check_eq!("kicks and waits", (stats.kicks, stats.waits), (0, 0));
    let halves = u64::from(rounds(20)) * 32;
    check_eq!("by the poller", engine.pool(0)?.executed, halves);
    check_eq!("by pool 1", engine.pool(1)?.executed, halves);
    Ok(())
}

fn kicked() -> Check {
    let (engine, mut ring) = start(3, 1)?;
    ring.mode = Mode::Kick;
    for round in 1..=u64::from(rounds(10)) {
        let calls: Vec<Call> = (0..64)
            .map(|n| call!(SYS_getpid).in_pool(n as u8 % 4))
            .collect();
        for done in ring.run_all(&calls)? {
            check_ret!("getpid", done.result, std::process::id());
        }
        for pool in 0..4 {
            let executed = engine.pool(pool)?.executed;
            check_eq!(format!("executed by pool {pool}"), executed, round * 16);
        }
    }
    Ok(())
}

fn starved() -> Check {
    let (engine, mut ring) = start(1, 1)?;
    engine.set(Param::MaxThreads, 2)?;
    let (from, to) = pipe()?;
    let reads = BlockedReads::new(&from, 10);
    let slots = ring.post_all(&in_pool(reads.calls(), 1));
    let mut right = 0;
    check_eq!(
        "WAIT",
        ring.wait_for(Policy::Some, 9, crate::kit::patience()),
        Ok(9)
    );
    reads.release(&to)?;
    for done in ring.finish(&slots)? {
        match (done.result, done.reason) {
            (2, 0) => right += 1,
            (result, REASON_STARVED) => check_ret!("starved", result, -libc::EAGAIN),
            _ => fail!("{done:?}"),
        }
    }
    check_eq!("reads by the only thread", right, 1);
    // Pool 0 has a thread of its own.
    check_ret!(
        "getpid",
        ring.result(call!(SYS_getpid).asynchronous())?,
        std::process::id()
    );
    check_getpid(&mut ring, 1, 20)
}

fn removed_with_engine() -> Check {
    let base = process::refcnt();
    for _ in 0..rounds(3) {
        let (engine, mut ring) = start(15, 2)?;
        let (from, _to) = pipe()?;
        // More than one thread in a pool.
        let count = many(90);
        let reads = BlockedReads::new(&from, count);
        let calls: Vec<Call> = (0..)
            .zip(reads.calls())
            .map(|(n, call)| call.in_pool(n % 16))
            .collect();
        ring.post_blocked(&calls)?;
        engine.until_stats("all calls blocked", |s| s.peak_blocked >= count as u64)?;
        drop(ring);
        drop(engine);
        process::until_tasks(1)?;
        process::until_refcnt(base)?;
    }
    Ok(())
}

fn set_under_load() -> Check {
    let (engine, mut ring) = start(3, 2)?;
    let (from, to) = pipe()?;
    for round in 0..i64::from(chances(40)) {
        let reads = BlockedReads::new(&from, 30);
        let mut calls: Vec<Call> = (0..)
            .zip(reads.calls())
            .map(|(n, call)| call.in_pool(n % 4))
            .collect();
        calls.extend((0..60).map(|n| call!(SYS_getpid).in_pool(n % 4)));
        let slots = ring.post_all(&calls);
        ring.kicked()?;
        let pool = (round % 4) as u32;
        engine.set_pool(pool, Param::PoolConcurrency, round % 3)?;
        engine.set_pool(
            pool,
            Param::PoolCpus,
            1 << (round as usize % crate::kit::limits::cpus()),
        )?;
        engine
            .set_pool(pool, Param::PoolNice, 1 + round % 19)
            .or_else(|failure| {
                // Without privileges only worse values are allowed.
                if plain!(SYS_geteuid) == 0 {
                    Err(failure)
                } else {
                    Ok(())
                }
            })?;
        reads.release(&to)?;
        for (n, done) in ring.finish(&slots)?.iter().enumerate() {
            let want = if n < 30 { 2 } else { std::process::id() };
            check_ret!("result", done.result, want);
        }
        reads.check()?;
    }
    Ok(())
}
