// SPDX-License-Identifier: MIT OR Apache-2.0
//! Messages of several buffers, and descriptors that travel with them.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::net::UdpSocket;
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;

use flexsc::ops::{Received, RecvMsg, SendMsg};
use flexsc::{Fd, Wait};

use super::{PATIENCE, assert_errno, ring, run};

fn pair() -> (Fd, Fd) {
    let (near, far) = UnixStream::pair().unwrap();
    (near.into(), far.into())
}

#[test]
fn buffers_are_sent_and_filled_in_order() {
    let mut ring = ring();
    let (near, far) = pair();
    let send = SendMsg::new(
        &near,
        vec![b"one".to_vec(), b"".to_vec(), b"three".to_vec()],
    );
    let (sent, bufs) = run(&mut ring, send);
    assert_eq!((sent.unwrap(), bufs.len()), (8, 3));
    let recv = RecvMsg::new(&far, vec![Vec::with_capacity(2), vec![0; 4], vec![7; 4]]);
    let (received, bufs) = run(&mut ring, recv);
    let Received {
        bytes, descriptors, ..
    } = received.unwrap();
    let room = bufs[0].len();
    assert_eq!((bytes, descriptors.len()), (8, 0));
    let all: Vec<u8> = bufs.concat();
    assert_eq!(all[..8], *b"onethree");
    assert!((2..8).contains(&room));
}

#[test]
fn the_sender_is_known_and_a_truncated_packet_says_so() {
    let mut ring = ring();
    let [near, far] = [(); 2].map(|()| UdpSocket::bind("127.0.0.1:0").unwrap());
    let (from, to) = (near.local_addr().unwrap(), far.local_addr().unwrap());
    let (near, far) = (Fd::from(near), Fd::from(far));
    let send = SendMsg::new(&near, vec![b"packet"]).to(to);
    assert_eq!(run(&mut ring, send).0.unwrap(), 6);
    let (received, bufs) = run(&mut ring, RecvMsg::new(&far, vec![vec![0; 4]]));
    let received = received.unwrap();
    assert_eq!(received.address.as_inet(), Some(from));
    assert_eq!(received.flags & libc::MSG_TRUNC, libc::MSG_TRUNC);
    assert_eq!((received.bytes, &bufs[0][..]), (4, &b"pack"[..]));
}

/// Sends one end of a connection, and returns the other one.
fn send_end(ring: &mut flexsc::Ring, near: &Fd) -> UnixStream {
    let (reader, writer) = UnixStream::pair().unwrap();
    let reader = Fd::from(reader);
    let send = SendMsg::new(near, vec![b"x"]).descriptors([reader]);
    assert_eq!(run(ring, send).0.unwrap(), 1);
    writer
}

/// Returns true if nobody has the other end any more.
fn is_broken(writer: &mut UnixStream) -> bool {
    writer.write_all(b"y").is_err()
}

#[test]
fn descriptors_travel() {
    let mut ring = ring();
    let (near, far) = pair();
    let mut writer = send_end(&mut ring, &near);
    let recv = RecvMsg::new(&far, vec![vec![0; 8]]).descriptors(3);
    let mut received = run(&mut ring, recv).0.unwrap();
    assert_eq!((received.bytes, received.flags), (1, 0));
    let fd = received.descriptors.pop().unwrap();
    assert!(received.descriptors.is_empty());
    // SAFETY: asks for flags.
    let flags = unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_GETFD) };
    assert_eq!(flags, libc::FD_CLOEXEC);
    writer.write_all(b"through").unwrap();
    drop(writer);
    let mut text = String::new();
    File::from(fd).read_to_string(&mut text).unwrap();
    assert_eq!(text, "through");
}

#[test]
fn descriptors_that_nobody_takes_are_closed() {
    let mut ring = ring();
    let (near, far) = pair();
    // The result is dropped, …
    let mut writer = send_end(&mut ring, &near);
    let recv = RecvMsg::new(&far, vec![vec![0; 8]]).descriptors(1);
    ring.submit(recv, 0).unwrap();
    ring.wait(Wait::all().timeout(PATIENCE)).unwrap();
    drop(ring.next().unwrap());
    assert!(is_broken(&mut writer));
    // … or there is no room for them.
    let mut writer = send_end(&mut ring, &near);
    let (received, _) = run(&mut ring, RecvMsg::new(&far, vec![vec![0; 8]]));
    assert_eq!(received.unwrap().flags & libc::MSG_CTRUNC, libc::MSG_CTRUNC);
    assert!(is_broken(&mut writer));
}

#[test]
fn failures_give_the_buffers_back() {
    let mut ring = ring();
    let file = Fd::from(File::open("/dev/null").unwrap());
    let (sent, bufs) = run(&mut ring, SendMsg::new(&file, vec![b"x".to_vec()]));
    assert_errno(sent, libc::ENOTSOCK);
    assert_eq!(bufs, [b"x"]);
    let recv = RecvMsg::new(&file, vec![vec![1; 2]]).descriptors(2);
    let (received, bufs) = run(&mut ring, recv);
    assert_errno(received, libc::ENOTSOCK);
    assert_eq!(bufs, [[1; 2]]);
}
