// SPDX-License-Identifier: MIT OR Apache-2.0
//! poll() and ppoll() that wait without a thread.

use std::fs;
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::{Duration, Instant};

use super::{check_no_thread, finish_asleep, park, post_and_look, send};
use crate::check::{Check, Ret};
use crate::kit::engine::{self, Engine, Stats};
use crate::kit::files::{pipe, socket_pair};
use crate::kit::mode::Mode;
use crate::kit::net::{self, tcp_pair, udp_pair, unix_pair};
use crate::kit::ring::{Call, Ring};
use crate::kit::trace::Trace;
use crate::kit::{in_some_try, patience, process, sys, until};

tests! { "park":
    polls => "poll of a socket, a pipe, an eventfd or a timerfd holds no thread";
    polls_for_room => "poll for room waits until the peer has read";
    polls_many => "poll of sixteen files holds no thread; a poll of more, or of other files, does";
    poll_is_ready => "a poll with a present event or an invalid descriptor is like a plain one";
    poll_times_out => "poll and ppoll end after their time, and ppoll tells how much of it is left";
    poll_of_nobody => "a thread ends a poll whose owner is not in WAIT, by an event or by time";
    poll_goes_by_number => "as in a plain poll, each look goes by the descriptor's number";
    poll_is_cancelled => "CANCEL ends a parked poll with EINTR and without events";
    poll_has_its_owners_way => "a ppoll that another thread cancels tells its remaining time as its owner wants";
    poll_is_seen => "observers see a parked ppoll that a thread ends as the program has posted it";
    poll_waits_on => "a thread that waits in a poll for a part of its time waits for the rest, too";
    poll_fails => "a poll with a bad array or a bad time fails like a plain one";
}

/// An array for poll(), whose words do not move.
struct Files(Box<[libc::pollfd]>);

impl Files {
    fn new(files: &[(i32, i16)]) -> Files {
        let new = |&(fd, events)| libc::pollfd {
            fd,
            events,
            revents: -1,
        };
        Files(files.iter().map(new).collect())
    }

    fn of(files: &[&OwnedFd], events: i16) -> Files {
        let files: Vec<_> = files
            .iter()
            .map(|file| (file.as_raw_fd(), events))
            .collect();
        Files::new(&files)
    }

    fn at(&mut self) -> *mut libc::pollfd {
        self.0.as_mut_ptr()
    }

    fn poll(&mut self, ms: i32) -> Call {
        call!(SYS_poll, self.at(), self.0.len(), ms)
    }

    fn ppoll(&mut self, time: *mut [i64; 2]) -> Call {
        call!(SYS_ppoll, self.at(), self.0.len(), time, 0, 8)
    }

    /// The events that the kernel has written last.
    fn events(&self) -> Vec<i16> {
        let read = |file: &libc::pollfd| {
            let at = std::ptr::from_ref(&file.revents);
            #[expect(unsafe_code, reason = "the kernel has changed it")]
            // SAFETY: a field of a live array.
            unsafe {
                at.read_volatile()
            }
        };
        self.0.iter().map(read).collect()
    }
}

fn start() -> Check<(Engine, Ring)> {
    Mode::Inline.start(1)
}

fn eventfd() -> OwnedFd {
    sys::own(plain!(SYS_eventfd2, 0, libc::EFD_CLOEXEC) as i32)
}

fn timerfd() -> OwnedFd {
    sys::own(plain!(SYS_timerfd_create, libc::CLOCK_MONOTONIC, libc::TFD_CLOEXEC) as i32)
}

fn polls() -> Check {
    net::loopback_up()?;
    let (engine, mut ring) = start()?;
    let pairs = [
        unix_pair(libc::SOCK_STREAM)?,
        unix_pair(libc::SOCK_DGRAM)?,
        tcp_pair()?,
        udp_pair().map(|(one, two)| (two, one))?,
        pipe()?,
    ];
    for (at, (from, to)) in pairs.iter().enumerate() {
        for waits in [-1, 1_000_000] {
            let before = engine.stats()?;
            let mut files = Files::of(&[from], libc::POLLIN);
            let slots = park(&engine, &mut ring, &[files.poll(waits)])?;
            let done = finish_asleep(&engine, &mut ring, &slots, || send(to, b"x"))?[0];
            check!(done.result == 1, "pair {at}: {done:?}");
            check_eq!("events", files.events(), [libc::POLLIN]);
            let mut byte = 0u8;
            check_ret!(
                "read",
                plain!(SYS_read, from, std::ptr::from_mut(&mut byte), 1),
                1
            );
            check_no_thread(&engine, &before)?;
        }
    }
    let (event, timer) = (eventfd(), timerfd());
    let mut files = Files::of(&[&event], libc::POLLIN);
    let slots = park(&engine, &mut ring, &[files.poll(-1)])?;
    let one = 1u64;
    let add = || {
        check_ret!(
            "write",
            plain!(SYS_write, &event, std::ptr::from_ref(&one), 8),
            8
        );
        Ok(())
    };
    check_ret!(
        "poll",
        finish_asleep(&engine, &mut ring, &slots, add)?[0].result,
        1
    );
    let mut files = Files::of(&[&timer], libc::POLLIN);
    let slots = park(&engine, &mut ring, &[files.poll(-1)])?;
    let set = || {
        let time = [0i64, 0, 0, 1_000_000];
        let set = plain!(SYS_timerfd_settime, &timer, 0, time.as_ptr(), 0);
        check_ret!("timerfd_settime", set, 0);
        Ok(())
    };
    check_ret!(
        "poll",
        finish_asleep(&engine, &mut ring, &slots, set)?[0].result,
        1
    );
    // The end of the peer is an event even if the poll does not ask for it.
    let (from, to) = socket_pair()?;
    let mut files = Files::of(&[&from], 0);
    let slots = park(&engine, &mut ring, &[files.poll(-1)])?;
    let end = || {
        drop(to);
        Ok(())
    };
    check_ret!(
        "poll",
        finish_asleep(&engine, &mut ring, &slots, end)?[0].result,
        1
    );
    check_eq!("events", files.events(), [libc::POLLHUP]);
    check_eq!("by threads", engine.stats()?.thread_done, 0);
    Ok(())
}

fn polls_for_room() -> Check {
    let (engine, mut ring) = start()?;
    let (from, to) = pipe()?;
    let bytes = vec![0u8; 65536];
    check_ret!(
        "write",
        plain!(SYS_write, &to, bytes.as_ptr(), bytes.len()),
        65536
    );
    let mut files = Files::of(&[&to], libc::POLLOUT);
    let slots = park(&engine, &mut ring, &[files.poll(-1)])?;
    let mut room = vec![0u8; 65536];
    let event = || {
        let got = plain!(SYS_read, &from, room.as_mut_ptr(), room.len());
        check_ret!("read", got, 65536);
        Ok(())
    };
    check_ret!(
        "poll",
        finish_asleep(&engine, &mut ring, &slots, event)?[0].result,
        1
    );
    check_eq!("events", files.events(), [libc::POLLOUT]);
    Ok(())
}

fn polls_many() -> Check {
    let (engine, mut ring) = start()?;
    let pairs: Vec<_> = (0..17).map(|_| socket_pair()).collect::<Check<_>>()?;
    let ends: Vec<&OwnedFd> = pairs.iter().map(|pair| &pair.0).collect();
    for at in [0, 7, 15] {
        let mut files = Files::of(&ends[..16], libc::POLLIN);
        let slots = park(&engine, &mut ring, &[files.poll(-1)])?;
        let done = finish_asleep(&engine, &mut ring, &slots, || send(&pairs[at].1, b"x"))?;
        check_ret!("poll", done[0].result, 1);
        let mut events = [0; 16];
        events[at] = libc::POLLIN;
        check_eq!("events", files.events(), events);
        let mut byte = 0u8;
        plain!(SYS_read, ends[at], std::ptr::from_mut(&mut byte), 1);
    }
    let before = engine.stats()?;
    let epoll = sys::own(plain!(SYS_epoll_create1, libc::EPOLL_CLOEXEC) as i32);
    let mut too_many = Files::of(&ends, libc::POLLIN);
    let mut other = Files::of(&[&epoll, ends[16]], libc::POLLIN);
    let calls = [too_many.poll(-1), other.poll(-1)];
    let slots = post_and_look(&mut ring, &calls)?;
    engine.until_pool(0, "blocked threads", |pool| pool.blocked == 2)?;
    check_eq!("parked", engine.stats()?.parked, before.parked);
    send(&pairs[16].1, b"x")?;
    for done in ring.finish(&slots)? {
        check_ret!("poll", done.result, 1);
    }
    Ok(())
}

fn poll_is_ready() -> Check {
    let (engine, mut ring) = start()?;
    let (from, to) = socket_pair()?;
    send(&to, b"x")?;
    let (here, file) = (from.as_raw_fd(), 9999);
    for list in [
        &[(here, libc::POLLIN)][..],
        &[(-1, libc::POLLIN), (here, libc::POLLIN | libc::POLLOUT)],
        &[(file, libc::POLLIN)],
        &[
            (to.as_raw_fd(), libc::POLLIN),
            (file, 0),
            (here, libc::POLLIN),
        ],
    ] {
        let mut plain = Files::new(list);
        let mut posted = Files::new(list);
        let wants = plain!(SYS_poll, plain.at(), list.len(), -1);
        check_ret!("poll", ring.result(posted.poll(-1))?, wants);
        check_eq!("events", posted.events(), plain.events());
    }
    check_eq!("parked", engine.stats()?.parked, 0);
    check_eq!("by threads", engine.stats()?.thread_done, 0);
    Ok(())
}

/// Checks that a result took at least `least`, and not forever.
fn check_time(what: &str, begin: Instant, least: Duration) -> Check {
    let took = begin.elapsed();
    check!(took >= least && took < patience(), "{what}: {took:?}");
    Ok(())
}

fn poll_times_out() -> Check {
    let (engine, mut ring) = start()?;
    let (from, to) = socket_pair()?;
    let before = engine.stats()?;
    let mut files = Files::of(&[&from], libc::POLLIN);
    let begin = Instant::now();
    check_ret!("poll", ring.result(files.poll(30))?, 0);
    check_time("poll", begin, Duration::from_millis(30))?;
    check_eq!("events", files.events(), [0]);
    // A poll of no file, as a sleep.
    let mut none = Files::new(&[]);
    check_ret!("poll of no file", ring.result(none.poll(5))?, 0);
    let mut time = [0i64, 20_000_000];
    let begin = Instant::now();
    check_ret!("ppoll", ring.result(files.ppoll(&raw mut time))?, 0);
    check_time("ppoll", begin, Duration::from_millis(20))?;
    check_eq!("what is left", time, [0, 0]);
    check_eq!("timed out", engine.stats()?.timed_out - before.timed_out, 3);
    let mut time = [1000i64, 0];
    let slots = park(&engine, &mut ring, &[files.ppoll(&raw mut time)])?;
    let done = finish_asleep(&engine, &mut ring, &slots, || send(&to, b"x"))?;
    check_ret!("ppoll", done[0].result, 1);
    check!(time[0] < 1000 && time[0] > 800, "left: {time:?}");
    check_no_thread(&engine, &before)
}

/// Lets a call end while its owner only looks at memory.
fn by_thread(engine: &Engine, ring: &mut Ring, slots: &[usize], before: &Stats) -> Check<i64> {
    ring.poll_until_done(slots)?;
    let after = engine.stats()?;
    check_eq!("by threads", after.thread_done, before.thread_done + 1);
    Ok(ring.reap(slots[0]).result)
}

fn poll_of_nobody() -> Check {
    let (engine, mut ring) = start()?;
    let (from, to) = socket_pair()?;
    let mut time = [1000i64, 0];
    let mut files = Files::of(&[&from], libc::POLLIN);
    for timed in [false, true] {
        let call = if timed {
            files.ppoll(&raw mut time)
        } else {
            files.poll(-1)
        };
        let before = engine.stats()?;
        let slots = park(&engine, &mut ring, &[call])?;
        send(&to, b"x")?;
        check_ret!("poll", by_thread(&engine, &mut ring, &slots, &before)?, 1);
        check_eq!("events", files.events(), [libc::POLLIN]);
        let mut byte = 0u8;
        plain!(SYS_read, &from, std::ptr::from_mut(&mut byte), 1);
    }
    check!(time[0] < 1000, "left: {time:?}");
    in_some_try("a poll that outlasts WAIT", |factor| {
        let (before, ms) = (engine.stats()?.thread_done, 100 * factor);
        let begin = Instant::now();
        let slots = park(&engine, &mut ring, &[files.poll(ms as i32)])?;
        ring.poll_until_done(&slots)?;
        check_ret!("poll", ring.reap(slots[0]).result, 0);
        check_time("poll", begin, Duration::from_millis(ms.into()))?;
        check_eq!("events", files.events(), [0]);
        Ok(engine.stats()?.thread_done == before + 1)
    })
}

fn poll_goes_by_number() -> Check {
    let (engine, mut ring) = start()?;
    let (from, to) = socket_pair()?;
    let fd = from.as_raw_fd();
    let mut files = Files::of(&[&from], libc::POLLIN);
    let slots = park(&engine, &mut ring, &[files.poll(-1)])?;
    // The file stays and wakes the poll, but its descriptor is closed.
    drop(from);
    send(&to, b"x")?;
    check_ret!("poll", ring.finish(&slots)?[0].result, 1);
    check_eq!("events", files.events(), [libc::POLLNVAL]);
    check!(
        plain!(SYS_fcntl, fd, libc::F_GETFD) < 0,
        "the descriptor is open"
    );
    Ok(())
}

fn poll_is_cancelled() -> Check {
    let (engine, mut ring) = start()?;
    let (from, to) = socket_pair()?;
    let mut files = Files::of(&[&from, &to], libc::POLLIN);
    let mut time = [1000i64, 0];
    let before = engine.stats()?;
    let slots = park(&engine, &mut ring, &[files.ppoll(&raw mut time)])?;
    check_eq!("CANCEL", ring.cancel(slots[0]), Ok(0));
    check_ret!("ppoll", ring.reap(slots[0]).result, -libc::EINTR);
    check_eq!("events", files.events(), [0, 0]);
    check!(time[0] < 1000 && time[0] > 800, "left: {time:?}");
    check_no_thread(&engine, &before)
}

fn poll_has_its_owners_way() -> Check {
    const STICKY_TIMEOUTS: u32 = 0x0400_0000;
    let (engine, mut ring) = start()?;
    let (from, _to) = socket_pair()?;
    let mut files = Files::of(&[&from], libc::POLLIN);
    let mut time = [1000i64, 0];
    let slots = park(&engine, &mut ring, &[files.ppoll(&raw mut time)])?;
    let (fd, id, slot) = (engine.fd(), ring.id, slots[0]);
    // A personality is one thread's.
    let other = std::thread::spawn(move || {
        plain!(SYS_personality, STICKY_TIMEOUTS);
        engine::cancel(fd, id, slot)
    });
    check_eq!("CANCEL", other.join().expect("no panic"), Ok(0));
    check_ret!("ppoll", ring.reap(slot).result, -libc::EINTR);
    check!(time[0] < 1000 && time[0] > 800, "left: {time:?}");
    Ok(())
}

/// Parks a call that polls `from`, and wakes it in vain while an observer of calls is there: a thread
/// waits for the rest of its time. Returns its slot. The observer logs calls from now on.
fn wait_in_thread(
    trace: &Trace,
    (engine, ring): (&Engine, &mut Ring),
    call: Call,
    (from, to): (&OwnedFd, &OwnedFd),
) -> Check<usize> {
    let slot = park(engine, ring, &[call])?[0];
    trace.log(&["syscalls/sys_enter_poll", "syscalls/sys_enter_ppoll"])?;
    // In one WAIT, so that no thread sees the event.
    let mut byte = 0u8;
    for fd in [from, to] {
        let set = plain!(SYS_fcntl, fd, libc::F_SETFL, libc::O_NONBLOCK);
        check_ret!("O_NONBLOCK", set, 0);
    }
    let calls = [
        call!(SYS_write, to, c"x".as_ptr(), 1),
        call!(SYS_read, from, std::ptr::from_mut(&mut byte), 1),
    ];
    for slot in post_and_look(ring, &calls)? {
        check_ret!("write or read", ring.reap(slot).result, 1);
    }
    let pool = engine.until_pool(0, "a thread in the call", |pool| {
        pool.blocked == 1 || ring.is_done(slot)
    })?;
    check_eq!("threads in the call", pool.blocked, 1);
    Ok(slot)
}

fn poll_is_seen() -> Check {
    let (engine, mut ring) = start()?;
    let (from, to) = socket_pair()?;
    let mut time = [1000i64, 0];
    let mut files = Files::of(&[&from], libc::POLLIN);
    let (at, time) = (files.at(), &raw mut time);
    let call = files.ppoll(time);
    let trace = Trace::idle()?;
    let slot = wait_in_thread(&trace, (&engine, &mut ring), call, (&from, &to))?;
    let pid = std::process::id() as i32;
    let wanted = format!("{} {at:p} 0x1 {time:p} 0x0 0x8", libc::SYS_ppoll);
    let mut seen = Vec::new();
    // A task that runs for a moment shows nothing.
    until("the call in /proc", || {
        seen = process::tasks(pid)
            .iter()
            .filter(|task| task.tid != pid)
            .filter_map(|task| {
                fs::read_to_string(format!("/proc/{pid}/task/{}/syscall", task.tid)).ok()
            })
            .collect();
        seen.iter().any(|call: &String| call.starts_with(&wanted))
    })
    .map_err(|failure| failure.within(format_args!("/proc shows {seen:?}, not {wanted}")))?;
    check_eq!(
        "traced polls",
        trace.lines("sys_poll(")?,
        Vec::<String>::new()
    );
    let traced = trace.lines("sys_ppoll(")?;
    // More than one if the kernel waits for a part of the time at once.
    check!(!traced.is_empty(), "no ppoll was traced");
    send(&to, b"x")?;
    check_ret!("ppoll", ring.finish(&[slot])?[0].result, 1);
    Ok(())
}

fn poll_waits_on() -> Check {
    // A busy machine may take long until a thread waits.
    for ms in [500, 2_000, 8_000] {
        let (engine, mut ring) = start()?;
        let (from, to) = socket_pair()?;
        let mut files = Files::of(&[&from], libc::POLLIN);
        let trace = Trace::idle()?;
        let call = files.poll(ms);
        let begin = Instant::now();
        // The debug kernel waits for 20 ms at a time, others for 24 days.
        let waits = wait_in_thread(&trace, (&engine, &mut ring), call, (&from, &to));
        let time = Duration::from_millis(ms as u64);
        if begin.elapsed() > time / 2 {
            continue;
        }
        let slot = waits?;
        check_ret!("poll", ring.finish(&[slot])?[0].result, 0);
        return check_time("poll", begin, time);
    }
    fail!("each time, the poll was over before a thread waited in it");
}

fn poll_fails() -> Check {
    let (engine, mut ring) = start()?;
    let mut bad = [0i64, -1];
    let mut files = Files::new(&[(0, 0)]);
    let nowhere = 1u64 << 63;
    let calls = [
        (call!(SYS_poll, nowhere, 1, -1), -libc::EFAULT),
        (files.ppoll(&raw mut bad), -libc::EINVAL),
        (
            call!(SYS_ppoll, files.at(), 1, nowhere, 0, 8),
            -libc::EFAULT,
        ),
        (call!(SYS_poll, files.at(), 1 << 30, -1), -libc::EINVAL),
    ];
    for (at, (call, wants)) in calls.into_iter().enumerate() {
        let got = ring.result(call)?;
        check!(got == i64::from(wants), "call {at}: {}", Ret(got));
    }
    check_eq!("parked", engine.stats()?.parked, 0);
    Ok(())
}
