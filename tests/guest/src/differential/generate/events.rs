// SPDX-License-Identifier: MIT OR Apache-2.0
//! Events: eventfd, timerfd, signalfd, inotify, epoll, poll and the like, signals.

use super::{Gen, reg};
use crate::differential::normal::{Norm, SIGINFO, SIGNALFD};
use crate::differential::op::{Buf, Val};

/// Real-time signals that the sequences send; all are blocked.
const SIGNALS: [i32; 3] = [40, 41, 42];

fn mask(signals: &[i32]) -> u64 {
    signals
        .iter()
        .fold(0, |mask, signal| mask | (1 << (signal - 1)))
}

fn eventfd(g: &Gen) {
    let reg = g.pick(&reg::EVENTS);
    let fd = Val::Reg(reg);
    match g.below(4) {
        0 => {
            g.free(reg);
            let flags = g.pick(&[
                0,
                libc::EFD_NONBLOCK,
                libc::EFD_SEMAPHORE,
                libc::EFD_CLOEXEC,
            ]);
            let start = g.below(5);
            g.push(match g.below(2) {
                0 => op!(SYS_eventfd, start).save(reg),
                _ => op!(SYS_eventfd2, start, flags).save(reg),
            });
        }
        1 => g.push(op!(SYS_read, fd, Buf::out(8), g.pick(&[8, 8, 4])).if_readable(fd)),
        _ => {
            let add = g.pick(&[1, 5, 0, u64::MAX]);
            g.push(op!(SYS_write, fd, Buf::words(&[add]), 8).if_writable(fd));
        }
    }
}

fn timerfd(g: &Gen) {
    let fd = Val::Reg(reg::TIMERFD);
    match g.below(5) {
        0 => {
            g.free(reg::TIMERFD);
            let clock = g.pick(&[0, 1, 7, 99]);
            let flags = g.pick(&[0, libc::TFD_CLOEXEC]);
            g.push(op!(SYS_timerfd_create, clock, flags).save(reg::TIMERFD));
        }
        1 | 2 => {
            // A time in the far future, or long ago: then the timer is due at once, and only once.
            let (flags, when) = g.pick(&[(0, 5000), (1, 1), (0, 0), (9, 1)]);
            let old = Buf::out(32).like(Norm::Nothing);
            let new = Buf::words(&[0, 0, when, 0]);
            g.push(op!(SYS_timerfd_settime, fd, flags, new, old));
        }
        3 => g.push(op!(SYS_timerfd_gettime, fd, Buf::out(32).like(Norm::Nothing)).pure()),
        _ => g.push(op!(SYS_read, fd, Buf::out(8), 8).if_readable(fd)),
    }
}

fn signal(g: &Gen) {
    let signal = g.pick(&SIGNALS);
    let wanted = mask(&SIGNALS[..1 + g.below(3) as usize]);
    let fd = Val::Reg(reg::SIGNALFD);
    // A signal with a value: code SI_QUEUE.
    let info = Buf::zeroed(128).u32(8, -1i32 as u32).u64(24, 77);
    match g.below(15) {
        0 => {
            g.free(reg::SIGNALFD);
            g.push(match g.below(2) {
                0 => op!(SYS_signalfd, -1, Buf::words(&[wanted]), 8).save(reg::SIGNALFD),
                _ => op!(SYS_signalfd4, -1, Buf::words(&[wanted]), 8, 0).save(reg::SIGNALFD),
            });
        }
        1 => g.push(op!(SYS_signalfd4, fd, Buf::words(&[wanted]), 8, 0)),
        2 | 3 => g.push(op!(SYS_kill, Val::Pid, signal)),
        4 => g.push(op!(SYS_kill, Val::Pid, 0)),
        5 => g.push(op!(SYS_rt_sigqueueinfo, Val::Pid, signal, info).own()),
        6 => {
            let out = Buf::out(128).like(SIGINFO);
            let at_once = Buf::words(&[0, 0]);
            let op = op!(SYS_rt_sigtimedwait, Buf::words(&[wanted]), out, at_once, 8);
            g.push(op.refused());
        }
        7 => g.push(op!(SYS_rt_sigpending, Buf::out(8), 8).own()),
        8 => {
            let change = Buf::words(&[mask(&[50, 51])]);
            g.push(op!(SYS_rt_sigprocmask, g.below(2), change, Buf::out(8), 8).own());
        }
        9 => {
            let action = Buf::zeroed(32).u64(0, g.below(2)).u64(8, 0x1000_0000);
            g.push(op!(
                SYS_rt_sigaction,
                g.pick(&[45, 46, 9]),
                action,
                Buf::out(32),
                8
            ));
        }
        // To the owner's thread, the only one of the run.
        10 => g.push(op!(SYS_tgkill, Val::Pid, Val::Pid, signal)),
        11 => g.push(op!(SYS_tkill, Val::Pid, signal)),
        _ => {
            // The kernel chooses which signals come first, always in the same way.
            g.push(op!(SYS_read, fd, Buf::out(128).like(SIGNALFD), 128).if_readable(fd));
        }
    }
}

fn inotify(g: &Gen) {
    let fd = Val::Reg(reg::INOTIFY);
    let watch = g.pick(&reg::WATCHES);
    let events = g.pick(&[0xfff, 0x100, 0x3c0, 0x2]);
    match g.below(6) {
        0 => {
            g.free(reg::INOTIFY);
            g.push(match g.below(2) {
                0 => op!(SYS_inotify_init).save(reg::INOTIFY),
                _ => op!(SYS_inotify_init1, libc::IN_CLOEXEC).save(reg::INOTIFY),
            });
        }
        1 | 2 => {
            let name = g.name();
            g.push(op!(SYS_inotify_add_watch, fd, name, events).save(watch));
        }
        3 => g.push(op!(SYS_inotify_rm_watch, fd, Val::Reg(watch))),
        _ => {
            let size = g.pick(&[400, 400, 20]);
            let out = Buf::out(size as usize).like(Norm::Inotify);
            g.push(op!(SYS_read, fd, out, size).if_readable(fd));
        }
    }
}

fn epoll(g: &Gen) {
    let fd = Val::Reg(reg::EPOLL);
    let other = g.any_fd();
    let events = g.pick(&[1u32, 5, 0x8000_0001, 0x4000_0001, 4]);
    let (size, wait) = (g.pick(&[4, 1, 0]), g.pick(&[0, 0, 0, 1]));
    let out = || Buf::out(64);
    let time = Buf::words(&[0, wait * 100_000]);
    match g.below(9) {
        0 => {
            g.free(reg::EPOLL);
            g.push(match g.below(2) {
                0 => op!(SYS_epoll_create, g.pick(&[1, 9, 0])).save(reg::EPOLL),
                _ => op!(SYS_epoll_create1, g.pick(&[0, libc::EPOLL_CLOEXEC])).save(reg::EPOLL),
            });
        }
        1..4 => {
            let event = Buf::zeroed(12).u32(0, events).field(4, 8, other);
            g.push(op!(SYS_epoll_ctl, fd, g.pick(&[1, 1, 3]), other, event));
        }
        4 => g.push(op!(SYS_epoll_ctl, fd, 2, other, 0)),
        5 => g.push(op!(SYS_epoll_wait, fd, out(), size, wait)),
        6 => g.push(op!(SYS_epoll_pwait, fd, out(), size, wait, 0, 8)),
        7 => g.push(op!(SYS_epoll_pwait, fd, out(), size, 0, Buf::words(&[0]), 8).own()),
        _ => g.push(op!(SYS_epoll_pwait2, fd, out(), size, time, 0, 8)),
    }
}

fn poll(g: &Gen) {
    let fds = [0; 3].map(|_| g.any_fd());
    let [a, b, c] = fds;
    let wanted = 5u32;
    let list = Buf::zeroed(24)
        .field(0, 4, a)
        .u32(4, wanted)
        .field(8, 4, b)
        .u32(12, wanted)
        .field(16, 4, c)
        .u32(20, 1)
        .like(Norm::Exact);
    let wait = g.pick(&[0, 0, 1]);
    // The call writes back the remaining time.
    let time = || Buf::words(&[0, wait * 200_000]).like(Norm::Nothing);
    // Descriptors 100 and 101.
    let set = || Buf::words(&[0, 3 << 36]).like(Norm::Exact);
    let which = g.below(4);
    if which >= 2 {
        let [event, end] = [reg::EVENTS[0], reg::PIPES[0].0].map(Val::Reg);
        g.push(op!(SYS_dup2, event, 100));
        g.push(op!(SYS_dup2, end, 101));
    }
    g.push(match which {
        0 => op!(SYS_poll, list, 3, wait),
        1 => op!(SYS_ppoll, list, 3, time(), 0, 8),
        2 => op!(SYS_select, g.pick(&[102, 101]), set(), set(), 0, time()),
        _ => op!(SYS_pselect6, 102, set(), 0, set(), time(), 0),
    });
}

pub fn any(g: &Gen) {
    match g.below(100) {
        0..18 => eventfd(g),
        18..34 => timerfd(g),
        34..54 => signal(g),
        54..70 => inotify(g),
        70..86 => epoll(g),
        _ => poll(g),
    }
}
