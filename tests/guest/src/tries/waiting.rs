// SPDX-License-Identifier: MIT OR Apache-2.0
//! Calls that have to wait: they wait for as much and for as long as plain calls.

use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

use super::{How, PAIRS, Pair, Scene, event, option, own, send, start, timer, ways};
use crate::check::Check;
use crate::kit::files::{readable, socket_pair};
use crate::kit::mode::in_modes;
use crate::kit::net::{self, tcp_pair, unix_pair};
use crate::kit::patience;
use crate::kit::ring::{Call, Ring};

tests! { "tries":
    nothing_there => "calls on sockets, pipes and the like wait until there is data";
    no_room => "calls that find no room wait until there is room";
    nobody_calls => "accept waits for a connection";
    not_enough => "calls with SO_RCVLOWAT or MSG_WAITALL wait for all that they ask for";
    for_a_time => "SO_RCVTIMEO and SO_SNDTIMEO end a call after their time, not before";
    stays_with_its_file => "a call that waits stays with its file when the descriptor is reused";
}

/// Checks that the call waits, beside another one, until `release` has been called.
fn waits(
    ring: &mut Ring,
    call: Call,
    release: impl FnOnce() -> Check,
    want: impl FnOnce(i64) -> bool,
) -> Check {
    let slots = ring.post_all(&[call, call!(SYS_getppid)]);
    ring.finish(&slots[1..])?;
    check!(
        !ring.is_done(slots[0]),
        "the call does not wait: {}",
        ring.show(slots[0])
    );
    release()?;
    let done = ring.finish(&slots[..1])?[0];
    check!(want(done.result), "{done:?}");
    Ok(())
}

fn nothing_there() -> Check {
    net::loopback_up()?;
    in_modes(1, |_, ring| {
        for &(name, make) in PAIRS {
            for &how in ways(name) {
                let (two, one) = make()?;
                let mut scene = Scene::new([one]);
                let call = scene.take(how, 16, 0);
                waits(ring, call, || send(&two, 5), |got| got == 5)
                    .map_err(|f| f.within(format!("{how:?}, {name}")))?;
                check_eq!(name, scene.words[0].to_ne_bytes()[..5], *b"abcde");
            }
        }
        for how in How::FILE {
            let mut scene = event(0)?;
            let call = scene.take(how, 16, 0);
            let add = || {
                let count = 3u64;
                let at = std::ptr::from_ref(&count);
                check_ret!("write", plain!(SYS_write, &scene.fds[0], at, 8), 8);
                Ok(())
            };
            waits(ring, call, add, |got| got == 8)?;
            let mut scene = timer(0)?;
            let call = scene.take(how, 16, 0);
            waits(ring, call, || start(&scene.fds[0], 1), |got| got == 8)?;
            let set = 1u64 << (libc::SIGUSR2 - 1);
            let at = std::ptr::from_ref(&set);
            let block = plain!(SYS_rt_sigprocmask, libc::SIG_BLOCK, at, 0, 8);
            check_ret!("rt_sigprocmask", block, 0);
            let fd = plain!(SYS_signalfd4, -1, at, 8, libc::SFD_CLOEXEC);
            let mut scene = Scene::new([own("signalfd4", fd)?]);
            let call = scene.take(how, 128, 0);
            let send = || {
                // A signal to the process, which any thread may take.
                plain!(SYS_kill, std::process::id(), libc::SIGUSR2);
                Ok(())
            };
            waits(ring, call, send, |got| got == 128)?;
        }
        Ok(())
    })
}

/// Fills a file until it takes no more bytes.
fn fill(scene: &Scene) -> Check {
    let fd = &scene.fds[0];
    let mode = plain!(SYS_fcntl, fd, libc::F_GETFL);
    let non_blocking = mode | i64::from(libc::O_NONBLOCK);
    plain!(SYS_fcntl, fd, libc::F_SETFL, non_blocking);
    let chunk = [7u8; 1000];
    for len in [chunk.len(), 1] {
        while plain!(SYS_write, fd, chunk.as_ptr(), len) > 0 {}
    }
    check_ret!("F_SETFL", plain!(SYS_fcntl, fd, libc::F_SETFL, mode), 0);
    Ok(())
}

/// Reads from the other end until nothing comes for a while.
fn empty(scene: &Scene) {
    let mut bytes = vec![0u8; 1 << 16];
    while readable(&scene.fds[1], Duration::from_millis(100)) {
        plain!(SYS_read, &scene.fds[1], bytes.as_mut_ptr(), bytes.len());
    }
}

fn no_room() -> Check {
    net::loopback_up()?;
    in_modes(1, |_, ring| {
        for &(name, make) in PAIRS {
            // A UDP socket over the loopback interface is never full, and a TCP socket not for
            // long: see `send_everything`.
            if matches!(name, "udp" | "tcp") {
                continue;
            }
            for &how in ways(name) {
                let (one, two) = make()?;
                let mut scene = Scene::new([one, two]);
                if !name.contains("pipe") {
                    option(&scene.fds[0], libc::SO_SNDBUF, 1)?;
                }
                fill(&scene)?;
                let call = scene.give(how, 200, 0);
                let slots = ring.post_all(&[call, call!(SYS_getppid)]);
                ring.finish(&slots[1..])?;
                check!(!ring.is_done(slots[0]), "{how:?}, {name}: does not wait");
                let end = Instant::now() + patience();
                while !ring.is_done(slots[0]) && Instant::now() < end {
                    empty(&scene);
                }
                let what = format!("{how:?}, {name}");
                check_ret!(what, ring.finish(&slots[..1])?[0].result, 200);
            }
        }
        Ok(())
    })
}

fn nobody_calls() -> Check {
    net::loopback_up()?;
    in_modes(1, |_, ring| {
        for family in [libc::AF_UNIX, libc::AF_INET] {
            for flags in [None, Some(libc::SOCK_CLOEXEC)] {
                let client = net::socket(family, libc::SOCK_STREAM)?;
                let mut scene = Scene::new([net::listener(family)?]);
                let call = scene.accept(flags);
                let connect = || net::connect(&client, &scene.fds[0]);
                let mut fd = -1;
                waits(ring, call, connect, |got| {
                    fd = got;
                    got > 2
                })?;
                drop(own("accept", fd)?);
            }
        }
        Ok(())
    })
}

fn not_enough() -> Check {
    net::loopback_up()?;
    in_modes(1, |_, ring| {
        let makes: [fn() -> Check<Pair>; 2] = [|| unix_pair(libc::SOCK_STREAM), tcp_pair];
        for make in makes {
            for how in How::ALL {
                let (one, two) = make()?;
                option(&one, libc::SO_RCVLOWAT, 8)?;
                send(&two, 5)?;
                let mut scene = Scene::new([one]);
                let call = scene.take(how, 16, 0);
                // TCP wakes a reader only if as many bytes as the low-water mark have come since it
                // fell asleep.
                waits(ring, call, || send(&two, 8), |got| got == 13)?;
            }
            for how in [How::Socket, How::Message] {
                let (one, two) = make()?;
                send(&two, 5)?;
                check!(readable(&one, patience()), "nothing arrives");
                let mut scene = Scene::new([one]);
                let call = scene.take(how, 8, libc::MSG_WAITALL);
                waits(ring, call, || send(&two, 5), |got| got == 8)?;
            }
        }
        Ok(())
    })
}

fn for_a_time() -> Check {
    const MS: u64 = 80;
    in_modes(1, |_, ring| {
        let time = [0i64, MS as i64 * 1000];
        for how in How::ALL {
            let (one, two) = socket_pair()?;
            for option in [libc::SO_RCVTIMEO, libc::SO_SNDTIMEO] {
                let set = net::set(&one, libc::SOL_SOCKET, option, &time);
                check_ret!("setsockopt", set, 0);
            }
            let mut scene = Scene::new([one, two]);
            let call = scene.take(how, 16, 0);
            ends_after(ring, call, MS)?;
            fill(&scene)?;
            let call = scene.give(how, 16, 0);
            ends_after(ring, call, MS)?;
        }
        Ok(())
    })
}

fn ends_after(ring: &mut Ring, call: Call, ms: u64) -> Check {
    let begin = Instant::now();
    check_ret!("result", ring.result(call)?, -libc::EAGAIN);
    // Timeouts of sockets are counted in ticks.
    let least = Duration::from_millis(ms - 10);
    check!(begin.elapsed() >= least, "after {:?}", begin.elapsed());
    Ok(())
}

fn stays_with_its_file() -> Check {
    in_modes(1, |engine, ring| {
        let (one, two) = socket_pair()?;
        let (other, there) = socket_pair()?;
        let mut scene = Scene::new([one]);
        let call = scene.take(How::Socket, 16, 0);
        let slots = ring.post_blocked(&[call])?;
        let fd = scene.fds[0].as_raw_fd();
        let kept = own("dup", plain!(SYS_dup, fd))?;
        // Once the thread sleeps, it has looked up the descriptor.
        engine.until_stats("the call is blocked", |s| s.peak_blocked > 0)?;
        check_ret!("dup2", plain!(SYS_dup2, &other, fd), fd);
        send(&there, 3)?;
        check!(!ring.is_done(slots[0]), "{}", ring.show(slots[0]));
        send(&two, 5)?;
        check_ret!("recvfrom", ring.finish(&slots)?[0].result, 5);
        // The data sent to the other file is still there.
        let call = scene.take(How::Socket, 16, 0);
        check_ret!("recvfrom", ring.result(call)?, 3);
        drop(kept);
        Ok(())
    })
}
