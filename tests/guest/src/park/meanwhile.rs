// SPDX-License-Identifier: MIT OR Apache-2.0
//! Events that come while a call is being parked.

use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::atomic::{AtomicI64, AtomicU32, Ordering};
use std::time::Duration;

use super::calls::PAIRS;
use super::{Words, send};
use crate::check::{Check, Ret};
use crate::kit::abi::Policy;
use crate::kit::limits::need_two_cpus;
use crate::kit::mode::Mode;
use crate::kit::ring::Call;
use crate::kit::{Random, chances, net, sys};

tests! { "park":
    receives_meanwhile => "bytes that come while a call is being parked are received";
    room_meanwhile => "so is room found that comes while a write is being parked";
    counts_meanwhile => "so are counts of an eventfd, and connections, and events for poll";
}

/// Longer than any machine takes for one round. A lost event ends the test.
const LIMIT: Duration = Duration::from_secs(60);

/// Most turns of [`spin`], by which each side is late.
const TURNS: u64 = 3000;

fn spin(turns: u64) {
    for turn in 0..turns {
        std::hint::black_box(turn);
    }
}

/// Ends the other thread, also if the test has failed.
struct Rest<'a>(&'a AtomicU32);

impl Drop for Rest<'_> {
    fn drop(&mut self) {
        self.0.store(u32::MAX, Ordering::Release);
    }
}

/// Again and again, posts `call` on one CPU, and lets `event` happen on another. `taken` gets
/// each result.
fn race(
    name: &str,
    call: Call,
    mut event: impl FnMut() -> Check + Send,
    mut taken: impl FnMut(i64) -> Check,
) -> Check {
    let (engine, mut ring) = Mode::Inline.start(1)?;
    let mut random = Random::new();
    let mut own_random = random.split();
    let count = chances(300);
    let round_of_other = AtomicU32::new(0);
    std::thread::scope(|scope| -> Check {
        let rest = Rest(&round_of_other);
        let other = scope.spawn(|| -> Check {
            ok!("sched_setaffinity", sys::pin(1));
            for round in 1..=count {
                while round_of_other.load(Ordering::Acquire) < round {
                    std::hint::spin_loop();
                }
                if round_of_other.load(Ordering::Acquire) == u32::MAX {
                    break;
                }
                spin(random.below(TURNS));
                event()?;
            }
            Ok(())
        });
        ok!("sched_setaffinity", sys::pin(0));
        for round in 1..=count {
            let slot = ring.post(call);
            round_of_other.store(round, Ordering::Release);
            spin(own_random.below(TURNS));
            let waited = ring.wait_for(Policy::Any, 0, LIMIT);
            check!(waited.is_ok(), "{name}, {round}: {waited:?}");
            taken(ring.reap(slot).result)?;
        }
        drop(rest);
        other.join().expect("no panic")
    })?;
    println!("# {name}: {} of {count} parked", engine.stats()?.parked);
    Ok(())
}

fn receives_meanwhile() -> Check {
    need_two_cpus()?;
    net::loopback_up()?;
    for (name, pair) in PAIRS {
        let (from, to) = pair()?;
        let words = Words::new(1);
        race(
            name,
            words.read(0, &from, 8),
            || send(&to, b"a"),
            |result| {
                check_ret!("read", result, 1);
                Ok(())
            },
        )?;
    }
    Ok(())
}

/// Fills a file, whose writes then wait. Returns how many bytes it has taken.
fn fill(to: &OwnedFd) -> Check<i64> {
    let flags = plain!(SYS_fcntl, to, libc::F_GETFL, 0);
    let set = |flags: i64| plain!(SYS_fcntl, to, libc::F_SETFL, flags);
    check_ret!("F_SETFL", set(flags | i64::from(libc::O_NONBLOCK)), 0);
    let (bytes, mut all) = ([0u8; 4096], 0);
    loop {
        let sent = plain!(SYS_write, to, bytes.as_ptr(), bytes.len());
        if sent <= 0 {
            check_ret!("write", sent, -libc::EAGAIN);
            break;
        }
        all += sent;
    }
    check_ret!("F_SETFL", set(flags), 0);
    Ok(all)
}

/// Reads `len` bytes.
fn take(from: &OwnedFd, mut len: i64) -> Check {
    let mut bytes = [0u8; 4096];
    while len > 0 {
        let most = bytes.len().min(len as usize);
        let got = plain!(SYS_read, from, bytes.as_mut_ptr(), most);
        check!(got > 0, "read: {}", Ret(got));
        len -= got;
    }
    Ok(())
}

fn room_meanwhile() -> Check {
    need_two_cpus()?;
    for (name, pair) in PAIRS {
        if !["unix stream", "pipe"].contains(name) {
            continue;
        }
        let (from, to) = pair()?;
        // Bytes that the other thread has not begun to take: a late event takes those of two rounds.
        let inside = AtomicI64::new(fill(&to)?);
        let bytes = [0u8; 4096];
        race(
            name,
            call!(SYS_write, &to, bytes.as_ptr(), bytes.len()),
            || take(&from, inside.swap(0, Ordering::Acquire)),
            |result| {
                check_ret!("write", result, bytes.len() as i64);
                inside.fetch_add(result + fill(&to)?, Ordering::Release);
                Ok(())
            },
        )?;
    }
    Ok(())
}

fn counts_meanwhile() -> Check {
    need_two_cpus()?;
    let eventfd = sys::own(plain!(SYS_eventfd2, 0, libc::EFD_CLOEXEC) as i32);
    let words = Words::new(1);
    let count = || send(&eventfd, &1u64.to_ne_bytes());
    let read = words.read(0, &eventfd, 8);
    race("eventfd", read, count, |result| {
        check_ret!("read", result, 8);
        Ok(())
    })?;
    let file = libc::pollfd {
        fd: eventfd.as_raw_fd(),
        events: libc::POLLIN,
        revents: 0,
    };
    let file = std::cell::UnsafeCell::new(file);
    race(
        "poll",
        call!(SYS_poll, file.get(), 1, -1),
        count,
        |result| {
            check_ret!("poll", result, 1);
            let read = plain!(SYS_read, &eventfd, words.at(0), 8);
            check_ret!("read", read, 8);
            Ok(())
        },
    )?;
    let listener = net::listener(libc::AF_UNIX)?;
    let mut client = None;
    let connect = || {
        let new = net::socket(libc::AF_UNIX, libc::SOCK_STREAM)?;
        net::connect(&new, &listener)?;
        client = Some(new);
        Ok(())
    };
    let accept = call!(SYS_accept, &listener, 0, 0);
    race("accept", accept, connect, |result| {
        check!(result > 2, "accept: {}", Ret(result));
        drop(sys::own(result as i32));
        Ok(())
    })
}
