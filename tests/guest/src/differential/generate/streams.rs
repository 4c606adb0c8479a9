// SPDX-License-Identifier: MIT OR Apache-2.0
//! Pipes, and calls that move bytes between pipes and files.

use super::{Gen, reg};
use crate::differential::op::{Buf, Reg, Val};

const NONBLOCK: i32 = libc::O_NONBLOCK;

fn make(g: &Gen) {
    let (from, to): (Reg, Reg) = g.pick(&reg::PIPES);
    g.free(from);
    g.free(to);
    let flags = g.pick(&[0, 0, NONBLOCK, libc::O_CLOEXEC, libc::O_DIRECT | NONBLOCK]);
    let fds = Buf::out(8);
    let op = if g.chance(30) {
        op!(SYS_pipe, fds)
    } else {
        op!(SYS_pipe2, fds, flags)
    };
    g.push(op.save_from(from, 0, 0).save_from(to, 0, 4));
}

fn put(g: &Gen) {
    let (_, to) = g.pick(&reg::PIPES);
    let to = Val::Reg(to);
    let data = g.data(2000);
    let len = g.below(2000);
    let two = Buf::vectors(vec![data.clone(), g.data(200)]);
    let op = match g.below(4) {
        0 => op!(SYS_writev, to, two, 2),
        1 => {
            let flags = g.pick(&[0, 2]);
            // The pipe keeps the page itself: use one that no call writes to again.
            let page = Buf::zeroed(16).field(0, 8, Val::Mem(0)).u64(8, len & 1023);
            op!(SYS_vmsplice, to, page, 1, flags)
        }
        _ => op!(SYS_write, to, data.sized(len), len),
    };
    g.push(op.if_writable(to));
}

fn get(g: &Gen) {
    let (from, _) = g.pick(&reg::PIPES);
    let from = Val::Reg(from);
    let len = g.below(3000);
    let op = match g.below(3) {
        0 => op!(
            SYS_readv,
            from,
            Buf::vectors(vec![Buf::out(50), Buf::out(300)]),
            2
        ),
        _ => op!(SYS_read, from, Buf::out(len as usize), len),
    };
    g.push(op.if_readable(from));
}

fn splice(g: &Gen) {
    let ((from, _), (_, to)) = (g.pick(&reg::PIPES), g.pick(&reg::PIPES));
    let (from, to, file) = (Val::Reg(from), Val::Reg(to), g.file());
    let (len, flags) = (g.below(5000) + 1, g.pick(&[0, 2, 1]));
    let place = g.below(5000);
    match g.below(5) {
        0 => {
            let op = op!(SYS_tee, from, to, len, flags);
            g.push(op.if_readable(from).if_writable(to));
        }
        1 => {
            let op = op!(SYS_splice, from, 0, to, 0, len, flags);
            g.push(op.if_readable(from).if_writable(to));
        }
        2 => {
            let at = Buf::words(&[place]).like(crate::differential::normal::Norm::Exact);
            let op = op!(SYS_splice, file, at, to, 0, len, flags);
            g.push(op.if_readable(file).if_writable(to));
        }
        3 => {
            let op = op!(SYS_splice, from, 0, file, 0, len, flags);
            g.push(op.if_readable(from).if_writable(file));
        }
        _ => {
            let op = op!(SYS_sendfile, to, file, 0, len);
            g.push(op.if_readable(file).if_writable(to));
        }
    }
}

fn control(g: &Gen) {
    let (from, to) = g.pick(&reg::PIPES);
    let end = Val::Reg(g.pick(&[from, to]));
    g.push(match g.below(5) {
        0 => op!(SYS_fcntl, end, 1031, g.pick(&[4096, 65536, 20000])),
        1 => op!(SYS_fcntl, end, 1032).pure(),
        2 => op!(SYS_ioctl, end, libc::FIONREAD, Buf::out(4)).pure(),
        3 => op!(SYS_fcntl, end, libc::F_SETFL, g.pick(&[0, NONBLOCK])),
        _ => op!(SYS_close, end).ends(if end == Val::Reg(from) { from } else { to }),
    });
}

pub fn any(g: &Gen) {
    match g.below(100) {
        0..20 => make(g),
        20..50 => put(g),
        50..70 => get(g),
        70..90 => splice(g),
        _ => control(g),
    }
}
