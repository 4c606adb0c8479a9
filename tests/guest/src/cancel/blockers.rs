// SPDX-License-Identifier: MIT OR Apache-2.0
//! Calls that block, of every kind.

use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::atomic::AtomicU32;

use crate::check::{Check, Ret};
use crate::kit::files::{pipe, socket_pair};
use crate::kit::ring::Call;
use crate::kit::sys;

/// Files and buffers that blocking calls need, kept while the calls are in flight.
pub struct Blockers {
    pipe: (OwnedFd, OwnedFd),
    sockets: (OwnedFd, OwnedFd),
    listening: OwnedFd,
    epoll: OwnedFd,
    event: OwnedFd,
    queue: i64,
    nap: [i64; 2],
    futex: AtomicU32,
    buffer: [u8; 64],
    polled: libc::pollfd,
    events: [u64; 4],
}

impl Blockers {
    pub fn new() -> Check<Blockers> {
        let fd = |what: &str, ret: i64| -> Check<OwnedFd> {
            check!(ret >= 0, "{what}: {}", Ret(ret));
            Ok(sys::own(ret as i32))
        };
        let kind = libc::SOCK_STREAM | libc::SOCK_CLOEXEC;
        let listening = fd("socket", plain!(SYS_socket, libc::AF_INET, kind, 0))?;
        check_ret!("listen", plain!(SYS_listen, &listening, 5), 0);
        let pipe = pipe()?;
        let epoll = fd(
            "epoll_create1",
            plain!(SYS_epoll_create1, libc::EPOLL_CLOEXEC),
        )?;
        let mut interest = libc::epoll_event {
            events: libc::EPOLLIN as u32,
            u64: 0,
        };
        let at = std::ptr::from_mut(&mut interest);
        let add = plain!(SYS_epoll_ctl, &epoll, libc::EPOLL_CTL_ADD, &pipe.0, at);
        check_ret!("epoll_ctl", add, 0);
        let queue = plain!(SYS_msgget, libc::IPC_PRIVATE, 0o600);
        check!(queue >= 0, "msgget: {}", Ret(queue));
        Ok(Blockers {
            polled: libc::pollfd {
                fd: pipe.0.as_raw_fd(),
                events: libc::POLLIN,
                revents: 0,
            },
            pipe,
            sockets: socket_pair()?,
            listening,
            epoll,
            event: fd("eventfd2", plain!(SYS_eventfd2, 0, libc::EFD_CLOEXEC))?,
            queue,
            nap: [3600, 0],
            futex: AtomicU32::new(7),
            buffer: [0; 64],
            events: [0; 4],
        })
    }

    pub fn calls(&mut self) -> Vec<(&'static str, Call)> {
        let buffer = self.buffer.as_mut_ptr();
        let futex = self.futex.as_ptr();
        let polled = std::ptr::from_mut(&mut self.polled);
        let wait = libc::FUTEX_WAIT | libc::FUTEX_PRIVATE_FLAG;
        vec![
            ("read of a pipe", call!(SYS_read, &self.pipe.0, buffer, 8)),
            (
                "read of a socket",
                call!(SYS_read, &self.sockets.0, buffer, 8),
            ),
            (
                "recvfrom",
                call!(SYS_recvfrom, &self.sockets.0, buffer, 8, 0, 0, 0),
            ),
            ("accept", call!(SYS_accept, &self.listening, 0, 0)),
            (
                "read of an eventfd",
                call!(SYS_read, &self.event, buffer, 8),
            ),
            ("nanosleep", call!(SYS_nanosleep, self.nap.as_ptr(), 0)),
            (
                "clock_nanosleep",
                call!(
                    SYS_clock_nanosleep,
                    libc::CLOCK_MONOTONIC,
                    0,
                    self.nap.as_ptr(),
                    0
                ),
            ),
            ("futex", call!(SYS_futex, futex, wait, 7, 0, 0, 0)),
            (
                "futex with timeout",
                call!(SYS_futex, futex, wait, 7, self.nap.as_ptr(), 0, 0),
            ),
            ("poll", call!(SYS_poll, polled, 1, -1)),
            ("poll with timeout", call!(SYS_poll, polled, 1, 3_600_000)),
            (
                "epoll_wait",
                call!(SYS_epoll_wait, &self.epoll, self.events.as_mut_ptr(), 1, -1),
            ),
            (
                "msgrcv",
                call!(SYS_msgrcv, self.queue, self.events.as_mut_ptr(), 8, 0, 0),
            ),
        ]
    }
}

impl Drop for Blockers {
    fn drop(&mut self) {
        plain!(SYS_msgctl, self.queue, libc::IPC_RMID, 0);
    }
}
