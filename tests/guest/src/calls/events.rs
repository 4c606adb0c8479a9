// SPDX-License-Identifier: MIT OR Apache-2.0
//! Pipes, sockets, epoll, inotify, timers.

use std::fs;
use std::os::fd::{IntoRawFd, OwnedFd, RawFd};

use crate::check::{Check, Ret};
use crate::kit::files::{TempDir, pipe, write_all};
use crate::kit::mode::in_modes;
use crate::kit::ring::{Call, Ring};
use crate::kit::{memory, sys};

tests! { "calls":
    make_pipe => "pipe2 through an entry makes a pipe";
    make_sockets => "socketpair, sendto, recvfrom and shutdown work through entries";
    epoll => "epoll_create1, epoll_ctl and epoll_wait work through entries";
    inotify => "inotify through entries sees a file appear";
    event_counter => "eventfd2 and timerfd work through entries";
    close_is_complete => "once a close is done the file is closed: the reader sees the end at once";
    random_bytes => "getrandom fills the buffer";
    clocks => "clock_gettime through an entry lies between two plain ones";
}

fn own(ring: &mut Ring, call: Call) -> Check<OwnedFd> {
    let fd = ring.result(call)?;
    check!(fd > 2, "call {}: {}", call.nr, Ret(fd));
    Ok(sys::own(fd as RawFd))
}

fn make_pipe() -> Check {
    in_modes(1, |_, ring| {
        let mut fds = [-1i32; 2];
        let call = call!(SYS_pipe2, fds.as_mut_ptr(), libc::O_CLOEXEC);
        check_ret!("pipe2", ring.result(call)?, 0);
        let (from, to) = (sys::own(fds[0]), sys::own(fds[1]));
        check_ret!(
            "write",
            ring.result(call!(SYS_write, &to, b"abc".as_ptr(), 3))?,
            3
        );
        let mut bytes = [0u8; 8];
        check_ret!(
            "read",
            ring.result(call!(SYS_read, &from, bytes.as_mut_ptr(), 8))?,
            3
        );
        check_eq!("bytes", &bytes[..3], b"abc");
        Ok(())
    })
}

fn make_sockets() -> Check {
    in_modes(1, |_, ring| {
        let mut fds = [-1i32; 2];
        let kind = libc::SOCK_SEQPACKET | libc::SOCK_CLOEXEC;
        let call = call!(SYS_socketpair, libc::AF_UNIX, kind, 0, fds.as_mut_ptr());
        check_ret!("socketpair", ring.result(call)?, 0);
        let (one, two) = (sys::own(fds[0]), sys::own(fds[1]));
        let call = call!(SYS_sendto, &one, b"packet".as_ptr(), 6, 0, 0, 0);
        check_ret!("sendto", ring.result(call)?, 6);
        let mut bytes = [0u8; 16];
        let call = call!(SYS_recvfrom, &two, bytes.as_mut_ptr(), 16, 0, 0, 0);
        check_ret!("recvfrom", ring.result(call)?, 6);
        check_eq!("bytes", &bytes[..6], b"packet");
        check_ret!(
            "shutdown",
            ring.result(call!(SYS_shutdown, &one, libc::SHUT_WR))?,
            0
        );
        let call = call!(SYS_recvfrom, &two, bytes.as_mut_ptr(), 16, 0, 0, 0);
        check_ret!("recvfrom after shutdown", ring.result(call)?, 0);
        Ok(())
    })
}

fn epoll() -> Check {
    in_modes(1, |_, ring| {
        let (from, to) = pipe()?;
        let poll = own(ring, call!(SYS_epoll_create1, libc::EPOLL_CLOEXEC))?;
        let mut event = libc::epoll_event {
            events: libc::EPOLLIN as u32,
            u64: 0x1234_5678_9abc,
        };
        let at = std::ptr::from_mut(&mut event);
        let add = call!(SYS_epoll_ctl, &poll, libc::EPOLL_CTL_ADD, &from, at);
        check_ret!("epoll_ctl", ring.result(add)?, 0);
        check_ret!("epoll_ctl again", ring.result(add)?, -libc::EEXIST);
        let mut got = [libc::epoll_event { events: 0, u64: 0 }; 4];
        let wait = call!(SYS_epoll_wait, &poll, got.as_mut_ptr(), 4, 0);
        check_ret!("epoll_wait without events", ring.result(wait)?, 0);
        write_all(&to, b"x")?;
        check_ret!("epoll_wait", ring.result(wait)?, 1);
        let data = got[0].u64;
        check_eq!("data of the event", data, 0x1234_5678_9abc);
        Ok(())
    })
}

fn inotify() -> Check {
    let dir = TempDir::new()?;
    let path = dir.join(".");
    in_modes(1, |_, ring| {
        let watch = own(
            ring,
            call!(SYS_inotify_init1, libc::IN_CLOEXEC | libc::IN_NONBLOCK),
        )?;
        let call = call!(
            SYS_inotify_add_watch,
            &watch,
            path.as_c_str(),
            libc::IN_CREATE
        );
        check_ret!("inotify_add_watch", ring.result(call)?, 1);
        let mut bytes = [0u8; 256];
        let read = call!(SYS_read, &watch, bytes.as_mut_ptr(), bytes.len());
        check_ret!("read without events", ring.result(read)?, -libc::EAGAIN);
        ok!("create", fs::write(dir.path().join("new"), ""));
        check_ret!("read", ring.result(read)?, 32);
        check_eq!("name in the event", &bytes[16..19], b"new");
        ok!("remove", fs::remove_file(dir.path().join("new")));
        Ok(())
    })
}

fn event_counter() -> Check {
    in_modes(1, |_, ring| {
        let flags = libc::EFD_CLOEXEC | libc::EFD_NONBLOCK;
        let counter = own(ring, call!(SYS_eventfd2, 5, flags))?;
        let mut value = 3u64;
        let at = std::ptr::from_mut(&mut value);
        check_ret!("write", ring.result(call!(SYS_write, &counter, at, 8))?, 8);
        check_ret!("read", ring.result(call!(SYS_read, &counter, at, 8))?, 8);
        check_eq!("counter", memory::peek(at.cast::<u8>()), 8);
        check_ret!(
            "read of zero",
            ring.result(call!(SYS_read, &counter, at, 8))?,
            -libc::EAGAIN
        );
        let timer = own(
            ring,
            call!(SYS_timerfd_create, libc::CLOCK_MONOTONIC, libc::TFD_CLOEXEC),
        )?;
        let time = [0i64, 0, 0, 1_000_000];
        let call = call!(SYS_timerfd_settime, &timer, 0, time.as_ptr(), 0);
        check_ret!("timerfd_settime", ring.result(call)?, 0);
        check_ret!(
            "read of the timer",
            ring.result(call!(SYS_read, &timer, at, 8))?,
            8
        );
        Ok(())
    })
}

fn close_is_complete() -> Check {
    in_modes(1, |_, ring| {
        for _ in 0..50 {
            let (from, to) = pipe()?;
            let mut byte = 0u8;
            let at = std::ptr::from_mut(&mut byte);
            plain!(SYS_fcntl, &from, libc::F_SETFL, libc::O_NONBLOCK);
            check_ret!(
                "read of an empty pipe",
                plain!(SYS_read, &from, at, 1),
                -libc::EAGAIN
            );
            let fd = to.into_raw_fd();
            check_ret!("close", ring.result(call!(SYS_close, fd))?, 0);
            check_ret!("read after the close", plain!(SYS_read, &from, at, 1), 0);
        }
        Ok(())
    })
}

fn random_bytes() -> Check {
    in_modes(1, |_, ring| {
        let mut bytes = [0u8; 64];
        let call = call!(
            SYS_getrandom,
            bytes.as_mut_ptr(),
            bytes.len(),
            libc::GRND_INSECURE
        );
        check_ret!("getrandom", ring.result(call)?, 64);
        check!(
            bytes.iter().any(|&byte| byte != 0),
            "64 random bytes are all zero"
        );
        Ok(())
    })
}

fn clocks() -> Check {
    in_modes(1, |_, ring| {
        let mut time = [0i64; 2];
        let before = sys::monotonic_ns();
        let call = call!(SYS_clock_gettime, libc::CLOCK_MONOTONIC, time.as_mut_ptr());
        check_ret!("clock_gettime", ring.result(call)?, 0);
        let after = sys::monotonic_ns();
        let posted = time[0] as u64 * 1_000_000_000 + time[1] as u64;
        check!(
            (before..=after).contains(&posted),
            "{posted} not in {before}..={after}"
        );
        Ok(())
    })
}
