// SPDX-License-Identifier: MIT OR Apache-2.0
//! Entries that wake other entries.

use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Instant;

use crate::check::{Check, Ret};
use crate::kit::files::{pipe, socket_pair};
use crate::kit::mode::{Mode, in_modes};
use crate::kit::ring::{Call, Done, Ring};
use crate::kit::{memory, patience, sys};

tests! { "blocking":
    poll_woken => "poll in an entry is woken by a write in another";
    epoll_woken => "epoll_wait in an entry is woken by a write in another";
    futex_woken => "a futex wait in an entry is woken by a futex wake in another";
    accept_and_connect => "accept and connect in entries make a connection that works";
    ping_pong => "two entries in turn pass a byte through two pipes";
    full_pipe => "a write to a full pipe waits for a read in another entry";
    child_awaited => "wait4 in an entry sees the end of a child";
}

/// Posts a call as the mode demands, without waiting for it.
fn start(ring: &mut Ring, calls: &[Call]) -> Check<Vec<usize>> {
    match ring.mode {
        Mode::Inline | Mode::Async | Mode::Kick => ring.post_blocked(calls),
        Mode::Poller => {
            let slots = ring.post_all(calls);
            if ring.needs_kick() {
                ring.kicked()?;
            }
            ring.until_taken(&slots)?;
            Ok(slots)
        }
    }
}

fn finish(ring: &mut Ring, slot: usize) -> Check<Done> {
    Ok(ring.finish(&[slot])?[0])
}

fn poll_woken() -> Check {
    in_modes(1, |_, ring| {
        let (from, to) = pipe()?;
        let mut poll = libc::pollfd {
            fd: from.as_raw_fd(),
            events: libc::POLLIN,
            revents: 0,
        };
        let at = std::ptr::from_mut(&mut poll);
        let slot = start(ring, &[call!(SYS_poll, at, 1, -1)])?[0];
        check!(!ring.is_done(slot), "poll is done: {}", ring.show(slot));
        check_ret!(
            "write",
            ring.result(call!(SYS_write, &to, b"x".as_ptr(), 1))?,
            1
        );
        check_ret!("poll", finish(ring, slot)?.result, 1);
        check_eq!(
            "revents",
            memory::peek(at.wrapping_byte_add(6).cast()),
            libc::POLLIN as u8
        );
        Ok(())
    })
}

fn epoll_woken() -> Check {
    in_modes(1, |_, ring| {
        let (from, to) = pipe()?;
        let poll = sys::own(plain!(SYS_epoll_create1, libc::EPOLL_CLOEXEC) as i32);
        let mut event = libc::epoll_event {
            events: libc::EPOLLIN as u32,
            u64: 77,
        };
        let at = std::ptr::from_mut(&mut event);
        let ret = plain!(SYS_epoll_ctl, &poll, libc::EPOLL_CTL_ADD, &from, at);
        check_ret!("epoll_ctl", ret, 0);
        event.u64 = 0;
        let at = std::ptr::from_mut(&mut event);
        let slot = start(ring, &[call!(SYS_epoll_wait, &poll, at, 1, -1)])?[0];
        check!(
            !ring.is_done(slot),
            "epoll_wait is done: {}",
            ring.show(slot)
        );
        check_ret!(
            "write",
            ring.result(call!(SYS_write, &to, b"x".as_ptr(), 1))?,
            1
        );
        check_ret!("epoll_wait", finish(ring, slot)?.result, 1);
        check_eq!("data", memory::peek(at.wrapping_byte_add(4).cast()), 77);
        Ok(())
    })
}

fn futex_woken() -> Check {
    in_modes(1, |_, ring| {
        for private in [0, libc::FUTEX_PRIVATE_FLAG] {
            let word = AtomicU32::new(5);
            let at = word.as_ptr();
            let wait = |value| call!(SYS_futex, at, libc::FUTEX_WAIT | private, value, 0);
            check_ret!(
                "futex wait for another value",
                ring.result(wait(4))?,
                -libc::EAGAIN
            );
            let slot = start(ring, &[wait(5)])?[0];
            let end = Instant::now() + patience();
            loop {
                // The wait may not have reached its queue yet.
                let wake = call!(SYS_futex, at, libc::FUTEX_WAKE | private, 1);
                match ring.result(wake)? {
                    1 => break,
                    0 => check!(Instant::now() < end, "nobody to wake: {}", ring.show(slot)),
                    other => fail!("futex wake: {}", Ret(other)),
                }
            }
            check_ret!("futex wait", finish(ring, slot)?.result, 0);
            check_eq!("futex word", word.load(Ordering::Relaxed), 5);
        }
        Ok(())
    })
}

fn accept_and_connect() -> Check {
    in_modes(1, |_, ring| {
        // An abstract address consists of a family, a zero byte and a name.
        let mut address = [0u8; 16];
        address[0] = libc::AF_UNIX as u8;
        address[3..11].copy_from_slice(format!("{:08}", std::process::id()).as_bytes());
        let kind = libc::SOCK_STREAM | libc::SOCK_CLOEXEC;
        let socket = || sys::own(plain!(SYS_socket, libc::AF_UNIX, kind, 0) as i32);
        let (server, client) = (socket(), socket());
        let at = address.as_ptr();
        check_ret!("bind", ring.result(call!(SYS_bind, &server, at, 11))?, 0);
        check_ret!("listen", ring.result(call!(SYS_listen, &server, 4))?, 0);
        let accept = call!(SYS_accept4, &server, 0, 0, libc::SOCK_CLOEXEC);
        let slot = start(ring, &[accept])?[0];
        check!(!ring.is_done(slot), "accept is done: {}", ring.show(slot));
        check_ret!(
            "connect",
            ring.result(call!(SYS_connect, &client, at, 11))?,
            0
        );
        let fd = finish(ring, slot)?.result;
        check!(fd > 2, "accept: {}", Ret(fd));
        let served = sys::own(fd as i32);
        let mut bytes = [0u8; 8];
        let receive = call!(SYS_recvfrom, &served, bytes.as_mut_ptr(), 8, 0, 0, 0);
        let slot = start(ring, &[receive])?[0];
        let send = call!(SYS_sendto, &client, b"hello".as_ptr(), 5, 0, 0, 0);
        check_ret!("sendto", ring.result(send)?, 5);
        check_ret!("recvfrom", finish(ring, slot)?.result, 5);
        check_eq!("bytes", &bytes[..5], b"hello");
        Ok(())
    })
}

fn ping_pong() -> Check {
    in_modes(1, |_, ring| {
        let (one, two) = socket_pair()?;
        let (mut ping, mut pong) = ([0u8; 1], [0u8; 1]);
        for round in 0..100u8 {
            let calls = [
                call!(SYS_read, &one, ping.as_mut_ptr(), 1),
                call!(SYS_read, &two, pong.as_mut_ptr(), 1),
                call!(SYS_write, &two, [round].as_ptr(), 1),
                call!(SYS_write, &one, [round + 100].as_ptr(), 1),
            ];
            for done in ring.run_all(&calls)? {
                check_ret!("read or write", done.result, 1);
            }
            check_eq!("bytes", (ping, pong), ([round], [round + 100]));
        }
        Ok(())
    })
}

fn full_pipe() -> Check {
    in_modes(1, |_, ring| {
        let (from, to) = pipe()?;
        let size = plain!(SYS_fcntl, &to, libc::F_SETPIPE_SZ, 4096);
        check_ret!("F_SETPIPE_SZ", size, 4096);
        let data = vec![9u8; 3 * 4096];
        let slot = start(ring, &[call!(SYS_write, &to, data.as_ptr(), data.len())])?[0];
        let mut buffer = vec![0u8; 4096];
        let mut got = 0;
        while got < data.len() {
            let len = ring.result(call!(SYS_read, &from, buffer.as_mut_ptr(), buffer.len()))?;
            check!(len > 0, "read after {got} bytes: {}", Ret(len));
            got += len as usize;
        }
        check_ret!("write", finish(ring, slot)?.result, data.len() as i64);
        Ok(())
    })
}

fn child_awaited() -> Check {
    for mode in Mode::ALL {
        let mut child = crate::kit::child::spawn(|link| link.wait_go())?;
        let (_engine, mut ring) = mode.start(1)?;
        let mut status = -1i32;
        let at = std::ptr::from_mut(&mut status);
        let slot = start(&mut ring, &[call!(SYS_wait4, child.pid, at, 0, 0)])?[0];
        check!(!ring.is_done(slot), "wait4 is done: {}", ring.show(slot));
        child.go();
        check_ret!("wait4", finish(&mut ring, slot)?.result, child.pid);
        child.set_reaped();
        check_eq!("status", memory::peek(at.wrapping_byte_add(1).cast()), 0);
        drop(ring);
        drop(_engine);
        crate::kit::process::until_tasks(1)?;
    }
    Ok(())
}
