// SPDX-License-Identifier: MIT OR Apache-2.0
//! Which calls are parked, and their results.

use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::{Words, check_no_thread, finish_asleep, park, post_and_look, send};
use crate::check::{Check, Ret};
use crate::kit::abi::Policy;
use crate::kit::engine::Engine;
use crate::kit::files::{pipe, readable, socket_pair};
use crate::kit::mode::Mode;
use crate::kit::net::{self, tcp_pair, udp_pair, unix_pair};
use crate::kit::ring::{Call, Ring};
use crate::kit::{limits, signals, sys, until};

tests! { "park":
    holds_no_thread => "a call that waits for a socket or pipe holds no thread: the owner makes it";
    accepts => "an accept that waits for a connection holds no thread";
    many => "a thousand calls wait, and there is one thread";
    keeps_its_file => "a parked call stays with its file when the descriptor is closed or reused";
    thread_keeps_its_file => "so does one that a thread continues because no owner is in WAIT";
    number_is_kept => "a program that writes into the entry of a parked call changes nothing";
    all_of_two => "WAIT for both of two: the second message comes after the first is received";
    again => "a call that is woken and finds nothing goes on waiting";
    non_blocking_later => "O_NONBLOCK comes too late for a parked call";
    signal_leaves_it => "a signal that ends WAIT leaves calls parked";
    with_a_low_mark => "a call with SO_RCVLOWAT or MSG_WAITALL is not parked";
    fails_at_once => "a call that fails before it would wait fails at once, even if parkable";
    errors_come => "the end of the peer, and of a listening socket, ends a parked call";
}

pub(super) type Pair = (OwnedFd, OwnedFd);

/// A kind of file, and a function that makes two: one to receive from, and its peer.
pub(super) type Kind = (&'static str, fn() -> Check<Pair>);

pub(super) const PAIRS: &[Kind] = &[
    ("unix stream", || unix_pair(libc::SOCK_STREAM)),
    ("unix seqpacket", || unix_pair(libc::SOCK_SEQPACKET)),
    ("unix datagrams", || unix_pair(libc::SOCK_DGRAM)),
    ("tcp", tcp_pair),
    ("udp", || udp_pair().map(|(one, two)| (two, one))),
    ("pipe", pipe),
];

fn start() -> Check<(Engine, Ring)> {
    Mode::Inline.start(1)
}

/// A vector of one part, and a message that consists of it.
type Message = Box<([u64; 2], [u64; 7])>;

fn message(words: &Words) -> Message {
    let mut new = Box::new(([words.at(0) as u64, 8], [0; 7]));
    let part = std::ptr::from_ref(&new.0) as u64;
    new.1 = [0, 0, part, 1, 0, 0, 0];
    new
}

/// All calls that take bytes from a file of that kind.
fn ways(name: &str, from: &OwnedFd, words: &Words, message: &Message) -> Vec<Call> {
    let part = std::ptr::from_ref(&message.0);
    let files = vec![words.read(0, from, 8), call!(SYS_readv, from, part, 1)];
    if name == "pipe" {
        return files;
    }
    let whole = std::ptr::from_ref(&message.1);
    let sockets = [
        words.receive(0, from),
        call!(SYS_recvfrom, from, words.at(0), 8, libc::MSG_NOSIGNAL, 0, 0),
        call!(SYS_recvmsg, from, whole, 0),
        call!(SYS_recvmsg, from, whole, libc::MSG_CMSG_CLOEXEC),
    ];
    [files, sockets.to_vec()].concat()
}

fn holds_no_thread() -> Check {
    net::loopback_up()?;
    let (engine, mut ring) = start()?;
    for &(name, make) in PAIRS {
        let (from, to) = make()?;
        let words = Words::new(1);
        let message = message(&words);
        for (at, call) in ways(name, &from, &words, &message).into_iter().enumerate() {
            let within = |f: crate::check::Failure| f.within(format!("{name}, way {at}"));
            let before = engine.stats()?;
            let slots = park(&engine, &mut ring, &[call]).map_err(within)?;
            // The owner goes on with other calls meanwhile.
            let pid = ring.result(call!(SYS_getpid))?;
            check_ret!("getpid", pid, std::process::id());
            let text = format!("word {at:02}");
            let give = || send(&to, &text.as_bytes()[..7]);
            let done = finish_asleep(&engine, &mut ring, &slots, give)?[0];
            check!(done.result == 7, "{name}, way {at}: {done:?}");
            check_eq!(name, &words.bytes(0)[..7], text.as_bytes());
            check_no_thread(&engine, &before).map_err(within)?;
        }
    }
    Ok(())
}

fn accepts() -> Check {
    net::loopback_up()?;
    let (engine, mut ring) = start()?;
    for family in [libc::AF_UNIX, libc::AF_INET] {
        let listener = net::listener(family)?;
        let flags = libc::SOCK_CLOEXEC;
        let ways = [
            call!(SYS_accept, &listener, 0, 0),
            call!(SYS_accept4, &listener, 0, 0, flags),
        ];
        for call in ways {
            let before = engine.stats()?;
            let slots = park(&engine, &mut ring, &[call])?;
            let client = net::socket(family, libc::SOCK_STREAM)?;
            let connect = || net::connect(&client, &listener);
            let fd = finish_asleep(&engine, &mut ring, &slots, connect)?[0].result;
            check!(fd > 2, "accept: {}", Ret(fd));
            drop(sys::own(fd as i32));
            check_no_thread(&engine, &before)?;
        }
    }
    Ok(())
}

fn many() -> Check {
    let count = limits::many(1024) / 64 * 64;
    let (engine, mut ring) = Mode::Inline.start(count as u32 / 64)?;
    let (from, to) = unix_pair(libc::SOCK_DGRAM)?;
    let words = Words::new(count);
    let calls: Vec<Call> = (0..count).map(|at| words.receive(at, &from)).collect();
    let slots = park(&engine, &mut ring, &calls)?;
    check_eq!("threads", engine.stats()?.threads, 1);
    for some in slots.chunks(8) {
        for _ in some {
            send(&to, b"datagram")?;
        }
        // Any of the calls may be woken.
        until("as many results", || {
            let _ = ring.wait(Policy::None);
            slots.iter().filter(|&&slot| ring.is_done(slot)).count() % 8 == 0
                && !readable(&from, Duration::ZERO)
        })?;
    }
    for done in ring.finish(&slots)? {
        check_ret!("recvfrom", done.result, 8);
    }
    check!(engine.stats()?.woken >= count as u64, "too few are woken");
    Ok(())
}

fn keeps_its_file() -> Check {
    net::loopback_up()?;
    let (engine, mut ring) = start()?;
    for &(name, make) in PAIRS {
        for closes in [true, false] {
            let (from, to) = make()?;
            let (other, there) = socket_pair()?;
            let words = Words::new(1);
            let slots = park(&engine, &mut ring, &[words.read(0, &from, 8)])?;
            let fd = from.as_raw_fd();
            let from = if closes {
                drop(from);
                None
            } else {
                check_ret!("dup2", plain!(SYS_dup2, &other, fd), fd);
                send(&there, b"wrong")?;
                Some(from)
            };
            send(&to, b"right")?;
            check_ret!(name, ring.finish(&slots)?[0].result, 5);
            check_eq!(name, &words.bytes(0)[..5], b"right");
            drop(from);
        }
    }
    Ok(())
}

fn thread_keeps_its_file() -> Check {
    net::loopback_up()?;
    let (engine, mut ring) = start()?;
    for &(name, make) in PAIRS {
        let (from, to) = make()?;
        let (other, there) = socket_pair()?;
        let words = Words::new(1);
        let before = engine.stats()?;
        let slots = park(&engine, &mut ring, &[words.read(0, &from, 8)])?;
        check_ret!("dup2", plain!(SYS_dup2, &other, &from), from.as_raw_fd());
        send(&there, b"wrong")?;
        send(&to, b"right")?;
        ring.poll_until_done(&slots)?;
        check_ret!(name, ring.reap(slots[0]).result, 5);
        check_eq!(name, &words.bytes(0)[..5], b"right");
        check_eq!(
            "by threads",
            engine.stats()?.thread_done,
            before.thread_done + 1
        );
    }
    Ok(())
}

fn number_is_kept() -> Check {
    let (engine, mut ring) = start()?;
    for waits in [true, false] {
        let (from, to) = socket_pair()?;
        let words = Words::new(2);
        let slots = park(&engine, &mut ring, &[words.receive(0, &from)])?;
        let entry = ring.entry(slots[0]);
        entry.nr.store(libc::SYS_getpid as u16, Ordering::Relaxed);
        entry.args[1].store(words.at(1) as u64, Ordering::Relaxed);
        send(&to, b"right")?;
        if waits {
            ring.wait(Policy::All).ok();
        } else {
            ring.poll_until_done(&slots)?;
        }
        check!(ring.is_done(slots[0]), "{}", ring.show(slots[0]));
        check_ret!("recvfrom", ring.reap(slots[0]).result, 5);
        check_eq!("bytes", &words.bytes(0)[..5], b"right");
        check_eq!("bytes elsewhere", words.0[1].get(), 0);
    }
    Ok(())
}

/// Waits until the peer has received everything.
fn until_received(socket: &OwnedFd) {
    let mut left = 1i32;
    while left != 0 {
        plain!(
            SYS_ioctl,
            socket,
            libc::TIOCOUTQ,
            std::ptr::from_mut(&mut left)
        );
        sys::yield_now();
    }
}

fn all_of_two() -> Check {
    let (engine, mut ring) = start()?;
    let (one, to_one) = socket_pair()?;
    let (two, to_two) = socket_pair()?;
    let words = Words::new(2);
    let calls = [words.receive(0, &one), words.receive(1, &two)];
    let slots = park(&engine, &mut ring, &calls)?;
    let before = engine.stats()?;
    std::thread::scope(|scope| {
        let peer = scope.spawn(|| {
            engine.until_stats("the owner sleeps", |s| s.sleeps > before.sleeps)?;
            send(&to_one, b"first")?;
            until_received(&to_one);
            send(&to_two, b"second")
        });
        check_eq!("ALL", ring.wait(Policy::All), Ok(2));
        peer.join().expect("no panic")
    })?;
    let done = ring.finish(&slots)?;
    check_ret!("first", done[0].result, 5);
    check_ret!("second", done[1].result, 6);
    check_no_thread(&engine, &before)
}

/// Two calls wait for the same bytes of a stream. One call gets them, and the other one waits
/// again.
fn woken_in_vain(ring: &mut Ring, engine: &Engine, mode: i32) -> Check {
    let (from, to) = socket_pair()?;
    let words = Words::new(2);
    let calls = [words.receive(0, &from), words.receive(1, &from)];
    let before = engine.stats()?;
    let slots = park(engine, ring, &calls)?;
    check_ret!("F_SETFL", plain!(SYS_fcntl, &from, libc::F_SETFL, mode), 0);
    let done = finish_asleep(engine, ring, &slots, || {
        send(&to, b"one")?;
        // One of the calls waits again. Before it does, bytes would be found without a wake-up.
        engine.until_stats("parked again", |s| s.parked - before.parked == 3)?;
        send(&to, b"two")
    })?;
    for done in done {
        check_ret!("recvfrom", done.result, 3);
    }
    let after = engine.stats()?;
    check_eq!("woken", after.woken - before.woken, 3);
    check_eq!("in vain", after.woken_in_vain - before.woken_in_vain, 1);
    check_no_thread(engine, &before)
}

fn again() -> Check {
    let (engine, mut ring) = start()?;
    woken_in_vain(&mut ring, &engine, 0)
}

fn non_blocking_later() -> Check {
    let (engine, mut ring) = start()?;
    woken_in_vain(&mut ring, &engine, libc::O_NONBLOCK)
}

fn signal_leaves_it() -> Check {
    let (engine, mut ring) = start()?;
    let (from, to) = socket_pair()?;
    signals::count_signal(libc::SIGUSR1, 0)?;
    let words = Words::new(1);
    let slots = park(&engine, &mut ring, &[words.receive(0, &from)])?;
    let tid = plain!(SYS_gettid);
    let before = engine.stats()?;
    let interrupted = std::thread::scope(|scope| {
        scope.spawn(|| {
            engine.until_stats("the owner sleeps", |s| s.sleeps > before.sleeps)?;
            plain!(SYS_tgkill, std::process::id(), tid, libc::SIGUSR1);
            Check::Ok(())
        });
        ring.wait(Policy::All)
    });
    check_eq!("WAIT", interrupted, Err(nix::errno::Errno::EINTR));
    check!(!ring.is_done(slots[0]), "{}", ring.show(slots[0]));
    send(&to, b"text")?;
    check_ret!("recvfrom", ring.finish(&slots)?[0].result, 4);
    Ok(())
}

fn with_a_low_mark() -> Check {
    let (engine, mut ring) = start()?;
    for marked in [false, true] {
        let (from, to) = socket_pair()?;
        let words = Words::new(1);
        let mut call = words.receive(0, &from);
        if marked {
            let mark = net::set(&from, libc::SOL_SOCKET, libc::SO_RCVLOWAT, &2i32);
            check_ret!("SO_RCVLOWAT", mark, 0);
        } else {
            call.args[3] = libc::MSG_WAITALL as u64;
        }
        let before = engine.stats()?;
        let slots = post_and_look(&mut ring, &[call])?;
        engine.until_pool(0, "a blocked thread", |pool| pool.blocked == 1)?;
        check_eq!("parked", engine.stats()?.parked, before.parked);
        send(&to, b"complete")?;
        check_ret!("recvfrom", ring.finish(&slots)?[0].result, 8);
        engine.until_pool(0, "no blocked thread", |pool| pool.blocked == 0)?;
    }
    Ok(())
}

fn fails_at_once() -> Check {
    net::loopback_up()?;
    let (engine, mut ring) = start()?;
    let (from, _to) = socket_pair()?;
    let (pipe, _into) = pipe()?;
    let listener = net::listener(libc::AF_INET)?;
    let udp = net::socket(libc::AF_INET, libc::SOCK_DGRAM)?;
    let nowhere = 1u64 << 63;
    let words = Words::new(1);
    let part = [words.at(0) as u64, 8];
    let at = std::ptr::from_ref(&part);
    let calls = [
        (call!(SYS_read, &pipe, nowhere, 8), -libc::EFAULT),
        (call!(SYS_read, &from, nowhere, 8), -libc::EFAULT),
        (call!(SYS_readv, &pipe, nowhere, 1), -libc::EFAULT),
        (call!(SYS_readv, &from, at, 5000), -libc::EINVAL),
        (
            call!(SYS_recvfrom, &from, nowhere, 8, 0, 0, 0),
            -libc::EFAULT,
        ),
        (call!(SYS_recvmsg, &from, nowhere, 0), -libc::EFAULT),
        (call!(SYS_accept4, &listener, 0, 0, 1), -libc::EINVAL),
        (call!(SYS_accept, &from, 0, 0), -libc::EINVAL),
        (
            call!(SYS_recvfrom, &listener, at, 8, 0, 0, 0),
            -libc::ENOTCONN,
        ),
        (
            call!(SYS_recvfrom, &from, at, 8, libc::MSG_DONTWAIT, 0, 0),
            -libc::EAGAIN,
        ),
        (
            call!(SYS_recvfrom, &udp, at, 8, libc::MSG_ERRQUEUE, 0, 0),
            -libc::EAGAIN,
        ),
    ];
    for (at, (call, want)) in calls.into_iter().enumerate() {
        let got = ring.result(call)?;
        check!(got == i64::from(want), "call {at}: {}", Ret(got));
    }
    let limits = [3u64, 1024];
    let lowered = plain!(SYS_prlimit64, 0, libc::RLIMIT_NOFILE, limits.as_ptr(), 0);
    check_ret!("prlimit64", lowered, 0);
    let got = ring.result(call!(SYS_accept, &listener, 0, 0))?;
    check_ret!("accept without a free descriptor", got, -libc::EMFILE);
    check_eq!("parked", engine.stats()?.parked, 0);
    Ok(())
}

fn errors_come() -> Check {
    net::loopback_up()?;
    let (engine, mut ring) = start()?;
    for &(name, make) in PAIRS {
        if name == "udp" || name == "unix datagrams" {
            continue;
        }
        let (from, to) = make()?;
        let words = Words::new(1);
        let slots = park(&engine, &mut ring, &[words.read(0, &from, 8)])?;
        drop(to);
        check_ret!(name, ring.finish(&slots)?[0].result, 0);
    }
    for family in [libc::AF_UNIX, libc::AF_INET] {
        let listener = net::listener(family)?;
        let slots = park(&engine, &mut ring, &[call!(SYS_accept, &listener, 0, 0)])?;
        check_ret!(
            "shutdown",
            plain!(SYS_shutdown, &listener, libc::SHUT_RDWR),
            0
        );
        check_ret!("accept", ring.finish(&slots)?[0].result, -libc::EINVAL);
    }
    Ok(())
}
