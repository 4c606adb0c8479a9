// SPDX-License-Identifier: MIT OR Apache-2.0
//! System V IPC and POSIX message queues, in an IPC namespace of the run's own.

use super::{Gen, reg};
use crate::differential::normal::{MSQID, SEMID, SHMID};
use crate::differential::op::{Buf, Val};

const CREATE: i32 = libc::IPC_CREAT;
const NOWAIT: i32 = libc::IPC_NOWAIT;

fn semaphores(g: &Gen) {
    let reg = g.pick(&reg::SEMAPHORES);
    let id = Val::Reg(reg);
    let key = g.pick(&[0, 11, 12]);
    let change = g.pick(&[1u16, 2, 0xffff, 0]);
    let undo = g.pick(&[0, 0x1000]);
    let act = |flags: i32| {
        let flags = (flags | undo) as u16;
        Buf::zeroed(6).u16(0, 1).u16(2, change).u16(4, flags)
    };
    let time = Buf::words(&[0, g.below(50_000)]);
    g.push(match g.below(8) {
        0 => op!(SYS_semget, key, 3, CREATE | 0o600).save(reg),
        1 | 2 => op!(SYS_semop, id, act(NOWAIT), 1),
        3 => op!(SYS_semtimedop, id, act(0), 1, time),
        4 => op!(SYS_semctl, id, g.below(4), libc::SETVAL, g.below(4)),
        5 => op!(SYS_semctl, id, g.below(3), g.pick(&[12, 14, 15])),
        6 => op!(SYS_semctl, id, 0, libc::IPC_STAT, Buf::out(104).like(SEMID)),
        _ if g.chance(25) => op!(SYS_semctl, id, 0, libc::IPC_RMID).ends(reg),
        _ => op!(SYS_semctl, id, 0, 13, Buf::out(8)),
    });
}

fn messages(g: &Gen) {
    let reg = g.pick(&reg::MESSAGES);
    let id = Val::Reg(reg);
    let (kind, len) = (1 + g.below(3), g.below(100));
    let message = g.data(80).sized(120).u64(0, kind);
    let want = g.pick(&[0i64, 1, 2, -2]);
    let flags = NOWAIT | g.pick(&[0, 0o10000, 0o20000]);
    g.push(match g.below(7) {
        0 => op!(SYS_msgget, g.pick(&[0, 21]), CREATE | 0o600).save(reg),
        1 | 2 => op!(SYS_msgsnd, id, message, len, NOWAIT),
        3 | 4 => op!(SYS_msgrcv, id, Buf::out(120), len, want, flags),
        5 => op!(SYS_msgctl, id, libc::IPC_STAT, Buf::out(120).like(MSQID)),
        _ if g.chance(25) => op!(SYS_msgctl, id, libc::IPC_RMID).ends(reg),
        _ => op!(SYS_msgsnd, id, message, len, NOWAIT),
    });
}

fn shared(g: &Gen) {
    let id = Val::Reg(reg::SHARED);
    let flags = CREATE | 0o600;
    g.push(match g.below(4) {
        0 => op!(SYS_shmget, g.pick(&[0, 31]), 8192, flags)
            .save(reg::SHARED)
            .own(),
        1 | 2 => op!(SYS_shmctl, id, libc::IPC_STAT, Buf::out(112).like(SHMID)),
        _ => op!(SYS_shmctl, id, g.pick(&[libc::IPC_RMID, 11, 12]), 0),
    });
}

fn queues(g: &Gen) {
    let reg = g.pick(&reg::QUEUES);
    let fd = Val::Reg(reg);
    let name = g.pick(&["first", "second"]);
    // mq_flags, mq_maxmsg, mq_msgsize
    let settings = Buf::words(&[0, 4, 128, 0, 0, 0, 0, 0]);
    let flags = libc::O_RDWR | g.pick(&[0, libc::O_CREAT, libc::O_CREAT | libc::O_NONBLOCK]);
    let (len, priority) = (g.below(140), g.below(4));
    // Long ago: a call that would wait gives ETIMEDOUT.
    let past = || Buf::words(&[1, 0]);
    match g.below(8) {
        0 | 1 => {
            g.free(reg);
            g.push(op!(SYS_mq_open, name, flags, 0o600, settings).save(reg));
        }
        2 | 3 => {
            let data = g.data(140).sized(len);
            g.push(op!(SYS_mq_timedsend, fd, data, len, priority, past()));
        }
        4 | 5 => {
            let size = g.pick(&[128, 128, 50]);
            let out = Buf::out(size as usize);
            g.push(op!(SYS_mq_timedreceive, fd, out, size, Buf::out(4), past()));
        }
        6 => {
            let new = Buf::words(&[g.pick(&[0, 0x800]), 0, 0, 0, 0, 0, 0, 0]);
            g.push(op!(SYS_mq_getsetattr, fd, new, Buf::out(64)));
        }
        _ => {
            // SIGEV_NONE
            let event = Buf::zeroed(64).u32(12, 1);
            g.push(op!(SYS_mq_notify, fd, event));
            g.push(op!(SYS_mq_unlink, name));
        }
    }
}

pub fn any(g: &Gen) {
    match g.below(4) {
        0 => semaphores(g),
        1 => messages(g),
        2 => shared(g),
        _ => queues(g),
    }
}
