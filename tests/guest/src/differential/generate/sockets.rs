// SPDX-License-Identifier: MIT OR Apache-2.0
//! Sockets: UNIX domain, and UDP and TCP over the loopback interface.

use super::{Gen, reg};
use crate::differential::normal::{Norm, UCRED};
use crate::differential::op::{Buf, Reg, Val};

const KINDS: [i32; 4] = [
    libc::SOCK_STREAM,
    libc::SOCK_STREAM | libc::SOCK_NONBLOCK,
    libc::SOCK_DGRAM,
    libc::SOCK_SEQPACKET | libc::SOCK_CLOEXEC,
];

/// 127.0.0.1 and a port.
fn inet(port: u16) -> Buf {
    Buf::zeroed(16)
        .u16(0, libc::AF_INET as u16)
        .u16(2, port.to_be())
        .u32(4, 0x7f00_0001u32.to_be())
}

/// An abstract name, which belongs to no file.
fn unix(name: u8) -> Buf {
    Buf::bytes(vec![libc::AF_UNIX as u8, 0, 0, b's', name])
}

fn address() -> Buf {
    Buf::out(32).like(Norm::Port(0))
}

fn address_len(len: u32) -> Buf {
    Buf::out(4).u32(0, len)
}

fn pair(g: &Gen) {
    let (a, b) = g.pick(&reg::PAIRS);
    g.free(a);
    g.free(b);
    let kind = g.pick(&KINDS);
    let op = op!(SYS_socketpair, libc::AF_UNIX, kind, 0, Buf::out(8));
    g.push(op.save_from(a, 0, 0).save_from(b, 0, 4));
}

fn pair_end(g: &Gen) -> Val {
    let (a, b) = g.pick(&reg::PAIRS);
    Val::Reg(g.pick(&[a, b]))
}

fn connected(g: &Gen) -> Val {
    match g.below(4) {
        0 if g.wants.network => Val::Reg(g.pick(&reg::TCP[1..])),
        1 => Val::Reg(g.pick(&reg::UNIX[1..])),
        _ => pair_end(g),
    }
}

/// `struct msghdr`
fn message(parts: Vec<Buf>) -> Buf {
    let count = parts.len() as u64;
    Buf::zeroed(56)
        .field(16, 8, Buf::vectors(parts))
        .u64(24, count)
}

fn send(g: &Gen) {
    let fd = connected(g);
    let data = g.data(1500);
    let len = g.below(1500);
    let flags = g.pick(&[0, 0, libc::MSG_DONTWAIT, libc::MSG_NOSIGNAL]);
    let two = vec![data.clone(), g.data(40)];
    let many = Buf::zeroed(128)
        .field(16, 8, Buf::vectors(vec![g.data(20)]))
        .u64(24, 1)
        .field(80, 8, Buf::vectors(vec![g.data(20)]))
        .u64(88, 1)
        .like(Norm::Exact);
    let op = match g.below(5) {
        0 => op!(SYS_write, fd, data.sized(len), len),
        1 => op!(SYS_sendmsg, fd, message(two), flags),
        // There may be no room for the second one.
        2 => op!(SYS_sendmmsg, fd, many, 2, flags | libc::MSG_DONTWAIT),
        _ => op!(SYS_sendto, fd, data.sized(len), len, flags, 0, 0),
    };
    g.push(op.if_writable(fd));
}

fn receive(g: &Gen) {
    let fd = connected(g);
    let len = g.below(2000);
    let flags = g.pick(&[0, 0, libc::MSG_DONTWAIT, libc::MSG_PEEK, libc::MSG_TRUNC]);
    let parts = vec![Buf::out(30), Buf::out(500)];
    let many = Buf::zeroed(128)
        .field(16, 8, Buf::vectors(vec![Buf::out(100)]))
        .u64(24, 1)
        .field(80, 8, Buf::vectors(vec![Buf::out(100)]))
        .u64(88, 1)
        .like(Norm::Exact);
    let out = Buf::out(len as usize);
    let op = match g.below(6) {
        0 => op!(SYS_read, fd, out, len),
        1 => op!(SYS_recvmsg, fd, message(parts).like(Norm::Exact), flags),
        2 => op!(SYS_recvmmsg, fd, many, 2, flags | libc::MSG_DONTWAIT, 0),
        3 => op!(
            SYS_recvfrom,
            fd,
            out,
            len,
            flags,
            address(),
            address_len(32)
        ),
        _ => op!(SYS_recvfrom, fd, out, len, flags, 0, 0),
    };
    g.push(op.if_readable(fd));
}

fn options(g: &Gen) {
    let fd = connected(g);
    let option = g.pick(&[2, 3, 4, 6, 9, 10, 16, 18, 19, 30, 38, 39]);
    let own = pair_end(g);
    let value = g.pick(&[0u32, 1, 4000, 70000]);
    let which = g.pick(&reg::UNIX);
    let fd = if g.chance(20) { Val::Reg(which) } else { fd };
    g.push(match g.below(10) {
        8 => op!(
            SYS_getsockopt,
            own,
            1,
            g.pick(&[7, 8]),
            Buf::out(8),
            address_len(8)
        )
        .pure(),
        0 => op!(SYS_getsockname, fd, address(), address_len(32)).pure(),
        1 => op!(
            SYS_getpeername,
            fd,
            address(),
            address_len(g.pick(&[32, 4]))
        )
        .pure(),
        2 => op!(
            SYS_getsockopt,
            fd,
            1,
            17,
            Buf::out(12).like(UCRED),
            address_len(12)
        )
        .pure(),
        3 | 4 => op!(SYS_getsockopt, fd, 1, option, Buf::out(8), address_len(8)).pure(),
        5 => {
            let option = g.pick(&[2, 7, 8, 9]);
            // With a smaller send buffer, a write in several pieces sleeps although poll() has
            // reported room.
            let value = if option == 7 { 70000 } else { value };
            op!(
                SYS_setsockopt,
                own,
                1,
                option,
                Buf::zeroed(4).u32(0, value),
                4
            )
        }
        6 => op!(SYS_shutdown, fd, g.below(4)),
        7 => op!(SYS_ioctl, fd, libc::FIONREAD, Buf::out(4)).pure(),
        _ => op!(SYS_fcntl, fd, libc::F_SETFL, g.pick(&[0, libc::O_NONBLOCK])),
    });
}

/// Turns off Nagle's algorithm, which makes small messages wait for an acknowledgement that may
/// come at any time. Accepted sockets inherit the setting from the listener.
fn send_at_once(g: &Gen, socket: Reg, family: i32) {
    if family == libc::AF_INET {
        let (level, option) = (libc::IPPROTO_TCP, libc::TCP_NODELAY);
        let on = Buf::zeroed(4).u32(0, 1);
        g.push(op!(SYS_setsockopt, Val::Reg(socket), level, option, on, 4));
    }
}

/// Makes a listener, a connection to it, and the connection's other end.
fn connect(g: &Gen, regs: [u8; 3], family: i32, name: Buf) {
    let [listener, client, accepted] = regs;
    let len = if family == libc::AF_UNIX { 5 } else { 16 };
    if g.chance(25) {
        g.free(listener);
        g.push(op!(SYS_socket, family, libc::SOCK_STREAM, 0).save(listener));
        let reuse = Buf::zeroed(4).u32(0, 1);
        g.push(op!(SYS_setsockopt, Val::Reg(listener), 1, 2, reuse, 4));
        send_at_once(g, listener, family);
        g.push(op!(SYS_bind, Val::Reg(listener), name.clone(), len));
        g.push(op!(SYS_listen, Val::Reg(listener), g.pick(&[1000, 500])));
    }
    if g.chance(70) {
        g.free(client);
        let flags = g.pick(&[0, libc::SOCK_NONBLOCK, libc::SOCK_CLOEXEC]);
        g.push(op!(SYS_socket, family, libc::SOCK_STREAM | flags, 0).save(client));
        send_at_once(g, client, family);
        g.push(op!(SYS_connect, Val::Reg(client), name, len));
    }
    let fd = Val::Reg(listener);
    g.free(accepted);
    let op = if g.chance(50) {
        op!(SYS_accept, fd, address(), address_len(32))
    } else {
        let flags = g.pick(&[0, libc::SOCK_NONBLOCK, 1]);
        op!(SYS_accept4, fd, address(), address_len(32), flags)
    };
    g.push(op.save(accepted).if_readable(fd));
}

fn datagrams(g: &Gen) {
    let which = g.below(2);
    let fd = Val::Reg(reg::UDP[which as usize]);
    let peer = inet(7001 - which as u16);
    match g.below(4) {
        0 => {
            g.free(reg::UDP[which as usize]);
            let kind = libc::SOCK_DGRAM | g.pick(&[0, libc::SOCK_NONBLOCK]);
            g.push(op!(SYS_socket, libc::AF_INET, kind, 0).save(reg::UDP[which as usize]));
            g.push(op!(SYS_bind, fd, inet(7000 + which as u16), 16));
            if g.chance(50) {
                g.push(op!(SYS_connect, fd, peer, 16));
            }
        }
        1 => {
            let out = Buf::out(600);
            let op = op!(SYS_recvfrom, fd, out, 600, 0, address(), address_len(32));
            g.push(op.if_readable(fd));
        }
        _ => {
            let (data, len) = (g.data(500), g.below(500));
            let flags = libc::MSG_DONTWAIT;
            g.push(op!(SYS_sendto, fd, data.sized(len), len, flags, peer, 16));
        }
    }
}

pub fn any(g: &Gen) {
    match g.below(100) {
        0..14 => pair(g),
        14..38 => send(g),
        38..58 => receive(g),
        58..80 => options(g),
        80..86 => connect(g, reg::UNIX, libc::AF_UNIX, unix(b'1')),
        86..92 if g.wants.network => connect(g, reg::TCP, libc::AF_INET, inet(7100)),
        92.. if g.wants.network => datagrams(g),
        _ => pair(g),
    }
}
