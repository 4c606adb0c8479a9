// SPDX-License-Identifier: MIT OR Apache-2.0
//! The beginning of each sequence, which opens something of every kind.

use super::{Gen, reg};
use crate::differential::op::{Buf, Ret, Val};

pub fn open_all(g: &Gen) {
    let names = ["f0", "f1", "d0/f0", "d1/f1", "f2", "f3", "l0", "f0"];
    for (reg, name) in reg::FILES.into_iter().zip(names) {
        let flags = libc::O_RDWR | libc::O_CREAT;
        g.push(op!(SYS_openat, libc::AT_FDCWD, name, flags, 0o644).save(reg));
    }
    for (reg, name) in reg::DIRS.into_iter().zip(["d0", "d1", "."]) {
        let flags = libc::O_RDONLY | libc::O_DIRECTORY;
        g.push(op!(SYS_openat, libc::AT_FDCWD, name, flags).save(reg));
    }
    for ((from, to), flags) in reg::PIPES.into_iter().zip([0, libc::O_NONBLOCK, 0]) {
        let op = op!(SYS_pipe2, Buf::out(8), flags);
        g.push(op.save_from(from, 0, 0).save_from(to, 0, 4));
    }
    for ((a, b), kind) in reg::PAIRS
        .into_iter()
        .zip([libc::SOCK_STREAM, libc::SOCK_DGRAM])
    {
        let op = op!(SYS_socketpair, libc::AF_UNIX, kind, 0, Buf::out(8));
        g.push(op.save_from(a, 0, 0).save_from(b, 0, 4));
    }
    for (reg, flags) in reg::EVENTS.into_iter().zip([0, libc::EFD_NONBLOCK]) {
        g.push(op!(SYS_eventfd2, 3, flags).save(reg));
    }
    g.push(op!(SYS_timerfd_create, 1, 0).save(reg::TIMERFD));
    let signals = Buf::words(&[7 << 39]);
    g.push(op!(SYS_signalfd4, -1, signals, 8, 0).save(reg::SIGNALFD));
    g.push(op!(SYS_inotify_init1, 0).save(reg::INOTIFY));
    let inotify = Val::Reg(reg::INOTIFY);
    g.push(op!(SYS_inotify_add_watch, inotify, ".", 0xfff).save(reg::WATCHES[0]));
    g.push(op!(SYS_epoll_create1, 0).save(reg::EPOLL));
    for reg in reg::MEMFD {
        g.push(op!(SYS_memfd_create, "memory", libc::MFD_ALLOW_SEALING).save(reg));
        g.push(op!(SYS_ftruncate, Val::Reg(reg), 20000));
    }
    g.push(op!(SYS_pidfd_open, Val::Pid, 0).save(reg::PIDFD));
    for (reg, key) in reg::SEMAPHORES.into_iter().zip([0, 11]) {
        g.push(op!(SYS_semget, key, 3, libc::IPC_CREAT | 0o600).save(reg));
    }
    for (reg, key) in reg::MESSAGES.into_iter().zip([0, 21]) {
        g.push(op!(SYS_msgget, key, libc::IPC_CREAT | 0o600).save(reg));
    }
    let shared = op!(SYS_shmget, 0, 8192, libc::IPC_CREAT | 0o600);
    g.push(shared.save(reg::SHARED).own());
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED;
    g.push(op!(SYS_mmap, Val::Mem(0), 40 * 4096, 3, flags, -1, 0).ret(Ret::Success));
}
