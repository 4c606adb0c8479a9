// SPDX-License-Identifier: MIT OR Apache-2.0
//! Calls that need not wait: the results of plain calls, without any syscall thread.

use std::os::fd::{AsRawFd, OwnedFd};

use super::{How, Make, PAIRS, Scene, event, option, own, send, swapped, timer, ways, with_data};
use crate::check::{Check, Ret};
use crate::kit::engine::Engine;
use crate::kit::files::{memory_file, pipe, readable, socket_pair};
use crate::kit::mode::{Mode, Modes, in_modes};
use crate::kit::net::{self, tcp_pair, udp_pair, unix_pair};
use crate::kit::ring::{Call, Ring, linked};
use crate::kit::{patience, signals, sys, until};

tests! { "tries":
    taking => "read, readv, recvfrom, recvmsg of present data: as plain calls, by the owner itself";
    giving => "write, writev, sendto, sendmsg that find room: as plain calls, by the owner itself";
    accepting => "accept and accept4 of a connection that is there: as plain calls";
    failing => "calls that fail at once fail as plain calls do, with the same signals";
    odd => "calls that are not tried give the results of plain calls";
    in_a_chain => "a chain that receives and sends the data on stays with its owner";
}

/// Statistics that change if any thread but the owner does anything.
fn hops(engine: &Engine) -> Check<[u64; 3]> {
    let stats = engine.stats()?;
    Ok([stats.threads_created, stats.handoffs, stats.thread_done])
}

/// The effect of calls on a scene, made one after the other.
#[derive(Debug, PartialEq, Eq)]
struct Effect {
    results: Vec<i64>,
    memory: Vec<u64>,
    /// The bytes that have arrived at the other end.
    arrived: Vec<u8>,
    signals: u32,
}

/// The calls should cause at least `least` signals, which are waited for.
fn effect(
    make: impl Fn() -> Check<Scene>,
    calls: impl Fn(&mut Scene) -> Vec<Call>,
    least: u32,
    mut run: impl FnMut(Call) -> Check<i64>,
) -> Check<Effect> {
    let mut scene = make()?;
    signals::count_signal(libc::SIGPIPE, 0)?;
    let (mut results, mut sent) = (Vec::new(), false);
    for call in calls(&mut scene) {
        let result = run(call)?;
        sent |= result > 0 && gives(call);
        results.push(result);
    }
    // A signal is handled at the end of some call; one that a thread sends may come later.
    sys::yield_now();
    until("signals", || signals::counted() >= least)?;
    let signals = signals::counted();
    let arrived = match scene.fds.get(1) {
        Some(peer) if sent => drain(peer)?,
        _ => Vec::new(),
    };
    Ok(Effect {
        results,
        memory: scene.left(),
        arrived,
        signals,
    })
}

fn gives(call: Call) -> bool {
    [
        libc::SYS_write,
        libc::SYS_writev,
        libc::SYS_sendto,
        libc::SYS_sendmsg,
    ]
    .contains(&call.nr.into())
}

/// Returns the data that was sent, in one piece.
fn drain(from: &OwnedFd) -> Check<Vec<u8>> {
    check!(readable(from, patience()), "nothing arrives");
    let mut bytes = vec![0u8; 4096];
    let got = plain!(SYS_read, from, bytes.as_mut_ptr(), bytes.len());
    bytes.truncate(got.max(0) as usize);
    Ok(bytes)
}

/// Compares posted calls with plain ones. If `inline`, the owner must execute them without help.
fn compare(
    modes: &mut Modes,
    what: &str,
    inline: bool,
    make: impl Fn() -> Check<Scene> + Copy,
    calls: impl Fn(&mut Scene) -> Vec<Call> + Copy,
) -> Check {
    let want = effect(make, calls, 0, |call| {
        Ok(sys::syscall(call.nr.into(), call.args))
    })?;
    modes
        .each(|engine, ring| {
            let before = hops(engine)?;
            let got = effect(make, calls, want.signals, |call| ring.result(call))?;
            check!(got == want, "{got:?}, expected {want:?}");
            if inline && ring.mode == Mode::Inline {
                check_eq!(
                    "threads created, hand-offs, entries done by threads",
                    hops(engine)?,
                    before
                );
            }
            Ok(())
        })
        .map_err(|failure| failure.within(what))
}

const SOURCES: &[(&str, Make)] = &[
    ("unix stream", || with_data(unix_pair(libc::SOCK_STREAM)?)),
    ("unix stream at its end", || {
        let (one, _) = unix_pair(libc::SOCK_STREAM)?;
        Ok(Scene::new([one]))
    }),
    ("unix seqpacket", || {
        with_data(unix_pair(libc::SOCK_SEQPACKET)?)
    }),
    ("unix datagram", || with_data(unix_pair(libc::SOCK_DGRAM)?)),
    ("empty unix datagram", || {
        let (one, two) = unix_pair(libc::SOCK_DGRAM)?;
        let sent = plain!(SYS_sendto, &two, 0, 0, 0, 0, 0);
        check_ret!("sendto", sent, 0);
        Ok(Scene::new([one]))
    }),
    ("tcp", || {
        let scene = with_data(tcp_pair()?)?;
        check!(readable(&scene.fds[0], patience()), "no bytes arrive");
        Ok(scene)
    }),
    ("tcp at its end", || {
        let (one, two) = tcp_pair()?;
        drop(two);
        check!(readable(&one, patience()), "no end arrives");
        Ok(Scene::new([one]))
    }),
    ("udp", || {
        let scene = with_data(swapped(udp_pair()?))?;
        check!(readable(&scene.fds[0], patience()), "no datagram arrives");
        Ok(scene)
    }),
    ("netlink", || {
        let one = net::socket(libc::AF_NETLINK, libc::SOCK_RAW)?;
        // A message without a meaning that asks for an answer.
        let request = [16u32, 1 | (5 << 16), 7, 0];
        let sent = plain!(SYS_sendto, &one, request.as_ptr(), 16, 0, 0, 0);
        check_ret!("sendto", sent, 16);
        Ok(Scene::new([one]))
    }),
];

const FILES: &[(&str, Make)] = &[
    ("pipe", || with_data(pipe()?)),
    ("pipe at its end", || {
        let (from, to) = pipe()?;
        send(&to, 5)?;
        Ok(Scene::new([from]))
    }),
    ("empty pipe at its end", || Ok(Scene::new([pipe()?.0]))),
    ("packets", || {
        let (from, to) = super::packet_pipe()?;
        send(&to, 5)?;
        send(&to, 3)?;
        Ok(Scene::new([from, to]))
    }),
    ("eventfd", || event(7)),
    ("timerfd", || {
        let scene = timer(1)?;
        check!(readable(&scene.fds[0], patience()), "no expiry");
        Ok(scene)
    }),
    ("signalfd", || {
        let set = 1u64 << (libc::SIGUSR1 - 1);
        let (at, size) = (std::ptr::from_ref(&set), 8);
        let block = plain!(SYS_rt_sigprocmask, libc::SIG_BLOCK, at, 0, size);
        check_ret!("rt_sigprocmask", block, 0);
        let fd = plain!(SYS_signalfd4, -1, at, size, libc::SFD_CLOEXEC);
        let fd = own("signalfd4", fd)?;
        signals::send(sys::gettid(), libc::SIGUSR1);
        Ok(Scene::new([fd]))
    }),
];

fn taking() -> Check {
    net::loopback_up()?;
    let modes = &mut Modes::start(1)?;
    for &(name, make) in FILES {
        for how in How::FILE {
            let len = if name == "signalfd" { 128 } else { 16 };
            let what = format!("{how:?}, {name}");
            compare(modes, &what, true, make, |scene| {
                vec![scene.take(how, len, 0)]
            })?;
        }
    }
    for &(name, make) in SOURCES {
        for how in How::ALL {
            for (len, flags) in [(16, 0), (2, 0), (16, libc::MSG_PEEK), (2, libc::MSG_TRUNC)] {
                if flags != 0 && How::FILE.contains(&how) {
                    continue;
                }
                let what = format!("{how:?} of {len} with flags {flags:#x}, {name}");
                compare(modes, &what, true, make, |scene| {
                    vec![scene.take(how, len, flags)]
                })?;
            }
        }
    }
    Ok(())
}

fn giving() -> Check {
    net::loopback_up()?;
    let modes = &mut Modes::start(1)?;
    for (number, &(name, _)) in PAIRS.iter().enumerate() {
        for &how in ways(name) {
            for len in [8, 200] {
                let what = format!("{how:?} of {len}, {name}");
                let make = || pair(number);
                compare(modes, &what, true, make, |scene| {
                    vec![scene.give(how, len, 0)]
                })?;
            }
        }
    }
    // To an address. Either end of a datagram pair will do.
    compare(
        modes,
        "sendto an address",
        true,
        || pair(4),
        |scene| {
            let (address, len) = net::name(&scene.fds[1]).expect("a name");
            scene.words[super::NAME..super::NAME + 16].copy_from_slice(&address);
            let at = scene.at(super::NAME);
            let mut call = scene.give(How::Socket, 8, libc::MSG_NOSIGNAL);
            call.args[4..].copy_from_slice(&[at, len.into()]);
            vec![call]
        },
    )
}

fn pair(number: usize) -> Check<Scene> {
    let (one, two) = PAIRS[number].1()?;
    Ok(Scene::new([one, two]))
}

/// A listener with a connection that waits for it.
fn called(family: i32) -> Check<Scene> {
    let listener = net::listener(family)?;
    let client = net::socket(family, libc::SOCK_STREAM)?;
    net::connect(&client, &listener)?;
    check!(readable(&listener, patience()), "no connection");
    Ok(Scene::new([listener, client]))
}

/// The visible properties of an accepted connection, and the scene's memory.
fn accepted(scene: &Scene, fd: i64) -> Check<(Vec<u64>, i64, i64)> {
    let fd = own("accept", fd)?;
    let flags = plain!(SYS_fcntl, &fd, libc::F_GETFL);
    let close = plain!(SYS_fcntl, &fd, libc::F_GETFD);
    send(&fd, 4)?;
    check!(readable(&scene.fds[1], patience()), "not connected");
    Ok((scene.left(), flags, close))
}

fn accepting() -> Check {
    net::loopback_up()?;
    let modes = &mut Modes::start(1)?;
    for family in [libc::AF_UNIX, libc::AF_INET] {
        for flags in [
            None,
            Some(0),
            Some(libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC),
        ] {
            let mut scene = called(family)?;
            let call = scene.accept(flags);
            let fd = sys::syscall(call.nr.into(), call.args);
            let want = accepted(&scene, fd)?;
            modes
                .each(|engine, ring| {
                    let before = hops(engine)?;
                    let mut scene = called(family)?;
                    let fd = ring.result(scene.accept(flags))?;
                    check_eq!("accepted", accepted(&scene, fd)?, want);
                    if ring.mode == Mode::Inline {
                        check_eq!("hops", hops(engine)?, before);
                    }
                    Ok(())
                })
                .map_err(|f| f.within(format!("family {family}, flags {flags:?}")))?;
        }
    }
    Ok(())
}

/// Files on which no data can be received or sent any more; each call is made twice.
const BROKEN: &[(&str, Make)] = &[
    ("unix stream, reset", || {
        let (one, two) = unix_pair(libc::SOCK_STREAM)?;
        send(&one, 3)?;
        drop(two);
        Ok(Scene::new([one]))
    }),
    ("unix stream, shut down", || {
        let (one, two) = unix_pair(libc::SOCK_STREAM)?;
        let shut = plain!(SYS_shutdown, &two, libc::SHUT_RDWR);
        check_ret!("shutdown", shut, 0);
        Ok(Scene::new([one, two]))
    }),
    ("unix stream, not connected", || {
        let one = net::socket(libc::AF_UNIX, libc::SOCK_STREAM)?;
        Ok(Scene::new([one]))
    }),
    ("tcp, reset", || {
        let (one, two) = tcp_pair()?;
        let linger = [1i32, 0];
        let set = net::set(&two, libc::SOL_SOCKET, libc::SO_LINGER, &linger);
        check_ret!("SO_LINGER", set, 0);
        drop(two);
        check!(readable(&one, patience()), "no reset arrives");
        Ok(Scene::new([one]))
    }),
    ("tcp, not connected", || {
        let one = net::socket(libc::AF_INET, libc::SOCK_STREAM)?;
        Ok(Scene::new([one]))
    }),
    ("udp, refused", || {
        let (one, two) = udp_pair()?;
        drop(two);
        send(&one, 3)?;
        let mut poll = libc::pollfd {
            fd: one.as_raw_fd(),
            events: 0,
            revents: 0,
        };
        let wait = patience().as_millis() as i32;
        let told = plain!(SYS_poll, std::ptr::from_mut(&mut poll), 1, wait);
        check_ret!("poll for an error", told, 1);
        Ok(Scene::new([one]))
    }),
];

fn failing() -> Check {
    net::loopback_up()?;
    let modes = &mut Modes::start(1)?;
    for &(name, make) in BROKEN {
        for how in How::ALL {
            // UDP reports its error only once.
            let times = if name.starts_with("udp") { 1 } else { 2 };
            let what = format!("taking: {how:?}, {name}");
            compare(modes, &what, true, make, |scene| {
                vec![scene.take(how, 16, 0); times]
            })?;
            let what = format!("giving: {how:?}, {name}");
            compare(modes, &what, true, make, |scene| {
                vec![scene.give(how, 8, 0); 2]
            })?;
        }
        for how in [How::Socket, How::Message] {
            let what = format!("without a signal: {how:?}, {name}");
            compare(modes, &what, true, make, |scene| {
                vec![scene.give(how, 8, libc::MSG_NOSIGNAL)]
            })?;
        }
    }
    for how in How::FILE {
        let no_reader: Make = || Ok(Scene::new([pipe()?.1]));
        compare(modes, "pipe without a reader", true, no_reader, |scene| {
            vec![scene.give(how, 8, 0); 2]
        })?;
        let wrong_end: Make = || pair(5);
        compare(
            modes,
            "the wrong end of a pipe",
            false,
            wrong_end,
            |scene| vec![scene.take(how, 8, 0)],
        )?;
    }
    Ok(())
}

fn odd() -> Check {
    net::loopback_up()?;
    let modes = &mut Modes::start(1)?;
    let unix: Make = || with_data(unix_pair(libc::SOCK_STREAM)?);
    for how in [How::Socket, How::Message] {
        compare(modes, "all of five bytes", false, unix, |scene| {
            vec![scene.take(how, 5, libc::MSG_WAITALL)]
        })?;
        compare(modes, "unknown flags", false, unix, |scene| {
            vec![scene.take(how, 5, 1 << 30), scene.give(how, 5, 1 << 30)]
        })?;
        compare(modes, "flags of the kernel's own", false, unix, |scene| {
            vec![scene.give(how, 5, i32::MIN), scene.give(how, 5, 1 << 27)]
        })?;
        compare(modes, "out of band", false, unix, |scene| {
            vec![scene.give(how, 5, libc::MSG_OOB)]
        })?;
    }
    let low: Make = || {
        let scene = with_data(unix_pair(libc::SOCK_STREAM)?)?;
        option(&scene.fds[0], libc::SO_RCVLOWAT, 4)?;
        Ok(scene)
    };
    for how in How::ALL {
        compare(modes, "more than the low mark", false, low, |scene| {
            vec![scene.take(how, 16, 0)]
        })?;
        // A bad address, found before or after something was done.
        compare(modes, "no memory", false, unix, |scene| {
            let mut calls = vec![scene.take(how, 16, 0), scene.give(how, 16, 0)];
            for call in &mut calls {
                call.args[1] = 4096;
            }
            calls
        })?;
        compare(modes, "nothing", false, unix, |scene| {
            vec![scene.take(how, 0, 0), scene.give(how, 0, 0)]
        })?;
    }
    compare(modes, "too many parts", false, unix, |scene| {
        let mut call = scene.take(How::Vector, 16, 0);
        call.args[2] = 5000;
        vec![call]
    })?;
    compare(modes, "a count that is negative", false, unix, |scene| {
        let mut calls = vec![scene.take(How::Plain, 16, 0), scene.give(How::Plain, 8, 0)];
        for call in &mut calls {
            call.args[2] = u64::MAX;
        }
        calls
    })?;
    compare(
        modes,
        "accept that nobody listens for",
        false,
        unix,
        |scene| vec![scene.accept(None), scene.accept(Some(1 << 30))],
    )?;
    // Pages of a file: the pipe may have to wait for them, and shows this.
    let spliced: Make = || {
        let (from, to) = pipe()?;
        let file = memory_file()?;
        send(&file, 6)?;
        let mut offset = 0u64;
        let at = std::ptr::from_mut(&mut offset);
        let moved = plain!(SYS_splice, &file, at, &to, 0, 6, 0);
        check_ret!("splice", moved, 6);
        Ok(Scene::new([from, to]))
    };
    for how in How::FILE {
        compare(modes, "spliced", false, spliced, |scene| {
            vec![scene.take(how, 16, 0)]
        })?;
    }
    Ok(())
}

fn chain(ring: &mut Ring, one: &OwnedFd) -> Check<i64> {
    let mut bytes = [0u8; 8];
    let receive = call!(SYS_recvfrom, one, bytes.as_mut_ptr(), 8, 0, 0, 0);
    let mut answer = call!(SYS_sendto, one, bytes.as_ptr(), 0, 0, 0, 0);
    // The length is the result of the entry before it.
    answer.take = [3, 0];
    let done = ring.run_all(&[linked(receive), answer])?;
    check_ret!("recvfrom", done[0].result, 5);
    Ok(done[1].result)
}

fn in_a_chain() -> Check {
    in_modes(1, |engine, ring| {
        let (one, two) = socket_pair()?;
        let before = hops(engine)?;
        for _ in 0..3 {
            send(&two, 5)?;
            check_ret!("sendto", chain(ring, &one)?, 5);
            let mut bytes = [0u8; 8];
            let got = plain!(SYS_read, &two, bytes.as_mut_ptr(), 8);
            check!(got == 5, "read: {}", Ret(got));
            check_eq!("bytes", &bytes[..5], b"abcde");
        }
        if ring.mode == Mode::Inline {
            check_eq!("hops", hops(engine)?, before);
        }
        Ok(())
    })
}
