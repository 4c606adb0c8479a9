// SPDX-License-Identifier: MIT OR Apache-2.0
//! Blocked calls do not stop the calls beside them.

use std::time::{Duration, Instant};

use crate::check::Check;
use crate::kit::abi::{ENTRY_ASYNC, Policy};
use crate::kit::engine::Engine;
use crate::kit::files::{BlockedReads, memory_file, pipe};
use crate::kit::limits::{self, many};
use crate::kit::mode::{Mode, in_modes};
use crate::kit::ring::{Call, Ring};
use crate::kit::{chances, in_some_try, process, rounds, speed};

tests! { "blocking":
    pipe_read_among_63 => "63 calls finish while a pipe read between them blocks";
    blocked_at_each_place => "a call that blocks at any place of a batch stops no other call";
    ready_around_blocked => "results of writes and reads appear while a read between them blocks";
    hundred_blocked => "100 pipe reads block at once, other calls proceed, all get their bytes";
    thousand_blocked => "1,000 pipe reads in 16 pages block at once, and all get their bytes";
    mixed_blockers => "reads of pipes, sockets, events and timers block side by side";
    sleeps_overlap => "64 sleeps of 100 ms take far less than 6.4 s";
    inline_call_that_blocks => "a call on a file that blocks does not hold up the batch";
    async_calls => "calls with ASYNC are never executed by the owner";
    blocked_again_and_again => "calls block and are released in turn, many times";
    one_active_per_core => "never more syscall threads run at once than there are CPUs";
}

fn check_getpid(ring: &mut Ring, count: usize) -> Check {
    for done in ring.run_all(&vec![call!(SYS_getpid); count])? {
        check_ret!(
            "getpid beside blocked calls",
            done.result,
            std::process::id()
        );
    }
    Ok(())
}

fn read_among_63(ring: &mut Ring, place: usize) -> Check {
    let (from, to) = pipe()?;
    let reads = BlockedReads::new(&from, 1);
    let mut calls = vec![call!(SYS_getpid); 64];
    calls[place] = reads.calls()[0];
    let mut slots = ring.post_all(&calls);
    let blocked = slots.remove(place);
    for done in ring.finish(&slots)? {
        check_ret!("getpid", done.result, std::process::id());
    }
    check!(
        !ring.is_done(blocked),
        "the read is done: {}",
        ring.show(blocked)
    );
    check_getpid(ring, 63)?;
    reads.release(&to)?;
    check_ret!("read", ring.finish(&[blocked])?[0].result, 2);
    reads.check()
}

fn pipe_read_among_63() -> Check {
    in_modes(1, |_, ring| {
        (0..rounds(3)).try_for_each(|_| read_among_63(ring, 31))
    })
}

fn blocked_at_each_place() -> Check {
    in_modes(1, |_, ring| {
        let places = [0, 1, 2, 30, 32, 61, 62, 63];
        places
            .into_iter()
            .try_for_each(|place| read_among_63(ring, place))
    })
}

/// Calls that might block, judging by their numbers, and whose results are published in groups.
fn ready_around_blocked() -> Check {
    in_modes(1, |_, ring| {
        let file = memory_file()?;
        let (from, to) = pipe()?;
        let (there, here) = pipe()?;
        for ready in [1, 5, 9] {
            let reads = BlockedReads::new(&from, 1);
            let mut byte = [0u8];
            let mut calls = vec![call!(SYS_write, &file, b"x".as_ptr(), 1); ready];
            calls.push(call!(SYS_write, &here, b"y".as_ptr(), 1));
            calls.push(reads.calls()[0]);
            calls.push(call!(SYS_read, &there, byte.as_mut_ptr(), 1));
            calls.extend(vec![call!(SYS_write, &file, b"z".as_ptr(), 1); ready]);
            let mut slots = ring.post_all(&calls);
            let blocked = slots.remove(ready + 1);
            for done in ring.finish(&slots)? {
                check_ret!("write or read", done.result, 1);
            }
            check_eq!("the byte in the pipe", &byte, b"y");
            check!(
                !ring.is_done(blocked),
                "the read is done: {}",
                ring.show(blocked)
            );
            reads.release(&to)?;
            check_ret!("blocked read", ring.finish(&[blocked])?[0].result, 2);
            reads.check()?;
        }
        Ok(())
    })
}

fn many_blocked(pages: u32, count: usize) -> Check {
    in_modes(pages, |engine, ring| {
        let (from, to) = pipe()?;
        let reads = BlockedReads::new(&from, count);
        let slots = ring.post_blocked(&reads.calls())?;
        engine.until_stats("all reads are blocked", |s| s.peak_blocked >= count as u64)?;
        let room = ring.capacity() - count;
        check_getpid(ring, room)?;
        check_getpid(ring, room)?;
        check!(
            slots.iter().all(|&slot| !ring.is_done(slot)),
            "a read of an empty pipe is done"
        );
        reads.release(&to)?;
        for done in ring.finish(&slots)? {
            check_ret!("read", done.result, 2);
        }
        reads.check()
    })
}

fn hundred_blocked() -> Check {
    many_blocked(2, many(100))
}

fn thousand_blocked() -> Check {
    // All modes would take too long: this tests the two that differ most.
    let engine = Engine::open()?;
    let mut ring = engine.ring(16)?;
    // The owner would park these calls, without a thread.
    ring.mode = Mode::Async;
    let (from, to) = pipe()?;
    let count = many(1000);
    let reads = BlockedReads::new(&from, count);
    let slots = ring.post_all(&reads.calls());
    check_eq!("WAIT without sleeping", ring.wait(Policy::None), Ok(0));
    ring.until_taken(&slots)?;
    engine.until_stats("all calls blocked", |s| s.peak_blocked >= count as u64)?;
    for _ in 0..4 {
        check_getpid(&mut ring, 24)?;
    }
    reads.release(&to)?;
    for done in ring.finish(&slots)? {
        check_ret!("read", done.result, 2);
    }
    reads.check()?;
    let created = engine.stats()?.threads_created;
    check!(
        created >= count as u64,
        "{created} threads for {count} blocked calls"
    );
    drop(ring);
    drop(engine);
    process::until_tasks(1)
}

fn mixed_blockers() -> Check {
    in_modes(1, |_, ring| {
        let (from, to) = pipe()?;
        let (here, there) = crate::kit::files::socket_pair()?;
        let event = crate::kit::sys::own(plain!(SYS_eventfd2, 0, libc::EFD_CLOEXEC) as i32);
        let mut buffers = [[0u8; 8]; 4];
        let [one, two, three, four] = &mut buffers;
        let mut full = libc::pollfd {
            fd: -1,
            events: 0,
            revents: 0,
        };
        let nap = [0i64, 30_000_000];
        let calls = [
            call!(SYS_read, &from, one.as_mut_ptr(), 8),
            call!(SYS_recvfrom, &here, two.as_mut_ptr(), 8, 0, 0, 0),
            call!(SYS_read, &event, three.as_mut_ptr(), 8),
            call!(SYS_read, &there, four.as_mut_ptr(), 8),
            call!(SYS_poll, std::ptr::from_mut(&mut full), 1, 20),
            call!(SYS_nanosleep, nap.as_ptr(), 0),
        ];
        let slots = ring.post_all(&calls);
        check_getpid(ring, 58)?;
        let wake = [
            call!(SYS_write, &to, b"pipe".as_ptr(), 4),
            call!(SYS_write, &there, b"there".as_ptr(), 5),
            call!(SYS_write, &here, b"here".as_ptr(), 4),
            call!(SYS_write, &event, [3u64].as_ptr(), 8),
        ];
        for (done, want) in ring.run_all(&wake)?.iter().zip([4, 5, 4, 8]) {
            check_ret!("write", done.result, want);
        }
        let want = [4, 5, 8, 4, 0, 0];
        for (index, (done, want)) in ring.finish(&slots)?.iter().zip(want).enumerate() {
            check_ret!(format!("blocked call {index}"), done.result, want);
        }
        check_eq!("bytes from the socket", &buffers[1][..5], b"there");
        check_eq!("bytes from the other end", &buffers[3][..4], b"here");
        Ok(())
    })
}

fn sleeps_overlap() -> Check {
    // One after the other, the calls would take 64 naps, on any machine.
    let nap_time = speed::scaled(Duration::from_millis(100));
    let nap = [
        nap_time.as_secs() as i64,
        i64::from(nap_time.subsec_nanos()),
    ];
    in_modes(1, |_, ring| {
        in_some_try("64 sleeps at once", |_| {
            let start = Instant::now();
            for done in ring.run_all(&[call!(SYS_nanosleep, nap.as_ptr(), 0); 64])? {
                check_ret!("nanosleep", done.result, 0);
            }
            let took = start.elapsed();
            println!("# 64 sleeps took {took:?}");
            check!(took >= nap_time, "64 sleeps took only {took:?}");
            let most = if limits::slow_kernel() { 50 } else { 25 };
            Ok(took < nap_time * most)
        })
    })
}

/// Another open file holds the lock: flock looks harmless, but blocks.
fn inline_call_that_blocks() -> Check {
    in_modes(1, |_, ring| {
        let file = memory_file()?;
        let path = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&file));
        let path = std::ffi::CString::new(path).expect("no zero byte");
        let other = ok!("open", crate::kit::sys::open(&path, libc::O_RDWR, 0));
        check_ret!("flock", plain!(SYS_flock, &other, libc::LOCK_EX), 0);
        let mut calls = vec![call!(SYS_getpid); 64];
        calls[10] = call!(SYS_flock, &file, libc::LOCK_EX);
        let mut slots = ring.post_all(&calls);
        let blocked = slots.remove(10);
        for done in ring.finish(&slots)? {
            check_ret!("getpid", done.result, std::process::id());
        }
        check!(
            !ring.is_done(blocked),
            "flock is done: {}",
            ring.show(blocked)
        );
        check_ret!("unlock", plain!(SYS_flock, &other, libc::LOCK_UN), 0);
        check_ret!("flock", ring.finish(&[blocked])?[0].result, 0);
        let busy = plain!(SYS_flock, &other, libc::LOCK_EX | libc::LOCK_NB);
        check_ret!("flock while the entry's lock is held", busy, -libc::EAGAIN);
        Ok(())
    })
}

fn async_calls() -> Check {
    let engine = Engine::open()?;
    let mut ring = engine.ring(2)?;
    let calls: Vec<Call> = (0..128)
        .map(|n| match n % 2 {
            0 => call!(SYS_getpid),
            _ => call!(SYS_getpid).asynchronous(),
        })
        .collect();
    check_eq!("flag", calls[1].flags, ENTRY_ASYNC);
    for done in ring.run_all(&calls)? {
        check_ret!("getpid", done.result, std::process::id());
    }
    let stats = engine.stats()?;
    check_eq!("executed inline", stats.inline_done, 64);
    check_eq!("executed by threads", stats.thread_done, 64);
    Ok(())
}

fn blocked_again_and_again() -> Check {
    in_modes(1, |_, ring| {
        let (from, to) = pipe()?;
        for round in 0..chances(60) {
            let reads = BlockedReads::new(&from, 1 + round as usize % 9);
            let slots = ring.post_all(&reads.calls());
            check_getpid(ring, 20)?;
            reads.release(&to)?;
            for done in ring.finish(&slots)? {
                check_ret!("read", done.result, 2);
            }
            reads.check()?;
        }
        Ok(())
    })
}

fn one_active_per_core() -> Check {
    for mode in [Mode::Inline, Mode::Async, Mode::Kick] {
        let (engine, mut ring) = mode.start(4)?;
        let (from, to) = pipe()?;
        for _ in 0..rounds(5) {
            let reads = BlockedReads::new(&from, many(100));
            let slots = ring.post_all(&reads.calls());
            check_getpid(&mut ring, 100)?;
            reads.release(&to)?;
            ring.finish(&slots)?;
        }
        let (running, cpus) = (engine.stats()?.peak_running, limits::cpus() as u64);
        // Calls that the owner parks need no thread.
        check!(
            running >= 1 || mode == Mode::Inline,
            "no thread has ever run"
        );
        check!(
            running <= cpus,
            "{running} threads have run at once on {cpus} CPUs"
        );
    }
    Ok(())
}
