// SPDX-License-Identifier: MIT OR Apache-2.0
//! Sockets: connections, datagrams, options.

use std::io::Write as _;
use std::net::{Shutdown as How, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::OwnedFd;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{self, UnixStream};
use std::time::Duration;

use flexsc::ops::{
    Accept4, Bind, Connect, GetSockOpt, Linger, Listen, Recv, RecvFrom, Send, SendTo, SetSockOpt,
    Shutdown, SockAddr, SockOpt, Socket,
};
use flexsc::{Fd, Ring, Wait};

use super::{PATIENCE, assert_cancelled, assert_errno, ring, run};

const STREAM: i32 = libc::SOCK_STREAM | libc::SOCK_CLOEXEC;

/// An address that no other socket of this machine has.
fn name(what: &str) -> SockAddr {
    let name = format!("flexsc-{what}-{}", std::process::id());
    let unix = net::SocketAddr::from_abstract_name(name).unwrap();
    SockAddr::try_from(&unix).unwrap()
}

fn socket(ring: &mut Ring) -> Fd {
    run(ring, Socket::new(libc::AF_UNIX, STREAM))
        .unwrap()
        .into()
}

fn pair() -> (Fd, Fd) {
    let (near, far) = UnixStream::pair().unwrap();
    (near.into(), far.into())
}

#[test]
fn a_connection_from_its_first_call_to_its_last() {
    let mut ring = ring();
    let (listener, client) = (socket(&mut ring), socket(&mut ring));
    run(&mut ring, Bind::new(&listener, name("stream"))).unwrap();
    run(&mut ring, Listen::new(&listener, 9)).unwrap();
    // The accept waits for the connection.
    ring.submit(Accept4::new(&listener).flags(libc::SOCK_CLOEXEC), 1)
        .unwrap();
    ring.submit(Connect::new(&client, name("stream")), 2)
        .unwrap();
    ring.wait(Wait::all().timeout(PATIENCE)).unwrap();
    let mut server: Option<(OwnedFd, SockAddr)> = None;
    while let Some(done) = ring.next() {
        if done.token == 1 {
            server = Some(done.output::<Accept4>().unwrap());
        } else {
            done.output::<Connect>().unwrap();
        }
    }
    let (server, peer) = server.unwrap();
    assert!(peer.as_unix().unwrap().is_unnamed());
    let server = Fd::from(server);

    ring.submit(Recv::new(&server, Vec::with_capacity(64)), 1)
        .unwrap();
    ring.submit(Send::new(&client, "ping").flags(libc::MSG_NOSIGNAL), 2)
        .unwrap();
    ring.wait(Wait::all().timeout(PATIENCE)).unwrap();
    while let Some(done) = ring.next() {
        if done.token == 1 {
            let (count, buf) = done.output::<Recv>();
            assert_eq!((count.unwrap(), buf), (4, b"ping".to_vec()));
        } else {
            assert_eq!(done.output::<Send<&'static str>>().0.unwrap(), 4);
        }
    }
    run(&mut ring, Shutdown::new(&client, How::Write)).unwrap();
    let (count, _) = run(&mut ring, Recv::new(&server, vec![0; 4]));
    assert_eq!(count.unwrap(), 0);
    let nowhere = run(&mut ring, Connect::new(&client, name("nowhere")));
    assert_errno(nowhere, libc::ECONNREFUSED);
}

#[test]
fn datagrams_have_senders() {
    let mut ring = ring();
    let (near, far) = (name("near"), name("far"));
    let kind = libc::SOCK_DGRAM | libc::SOCK_CLOEXEC;
    let mut bound = |address: SockAddr| {
        let fd = Fd::from(run(&mut ring, Socket::new(libc::AF_UNIX, kind).protocol(0)).unwrap());
        run(&mut ring, Bind::new(&fd, address)).unwrap();
        fd
    };
    let (from, to) = (bound(near), bound(far));
    let (count, text) = run(
        &mut ring,
        SendTo::new(&from, "datagram", far).flags(libc::MSG_DONTWAIT),
    );
    assert_eq!((count.unwrap(), text), (8, "datagram"));
    let peek = RecvFrom::new(&to, vec![0; 4]).flags(libc::MSG_PEEK | libc::MSG_TRUNC);
    let (result, buf) = run(&mut ring, peek);
    assert_eq!((result.unwrap(), buf), ((8, near), b"data".to_vec()));
    // The number is larger than the buffer, which must not grow beyond its capacity.
    let small = Vec::with_capacity(4);
    let capacity = small.capacity();
    let (result, buf) = run(&mut ring, Recv::new(&to, small).flags(libc::MSG_TRUNC));
    assert_eq!((result.unwrap(), buf.len()), (8, capacity));
    let nothing = Recv::new(&to, vec![0; 4]).flags(libc::MSG_DONTWAIT);
    assert_errno(run(&mut ring, nothing).0, libc::EAGAIN);
}

#[test]
fn internet_addresses_are_understood() {
    // A machine of the tests may have no network, not even a loopback device.
    let Ok(receiver) = UdpSocket::bind("127.0.0.1:0") else {
        eprintln!("skipped: no address");
        return;
    };
    let mut ring = ring();
    let to: SocketAddr = receiver.local_addr().unwrap();
    let kind = libc::SOCK_DGRAM | libc::SOCK_CLOEXEC;
    let from = Fd::from(run(&mut ring, Socket::new(libc::AF_INET, kind)).unwrap());
    if let Err(error) = run(&mut ring, SendTo::new(&from, "x", to)).0 {
        eprintln!("skipped: {error}");
        return;
    }
    let (result, buf) = run(&mut ring, RecvFrom::new(receiver, vec![0; 9]));
    let (count, sender) = result.unwrap();
    assert_eq!((count, buf[0]), (1, b'x'));
    assert!(sender.as_inet().unwrap().ip().is_loopback());
}

#[test]
fn bytes_that_are_not_written_are_zeros() {
    let Ok(listener) = TcpListener::bind("127.0.0.1:0") else {
        eprintln!("skipped: no address");
        return;
    };
    let Ok(mut client) = TcpStream::connect(listener.local_addr().unwrap()) else {
        eprintln!("skipped: no loopback device");
        return;
    };
    let mut ring = ring();
    let server = Fd::from(listener.accept().unwrap().0);
    client.write_all(b"lost").unwrap();
    let mut buf = vec![7; 16];
    buf.clear();
    // tcp(7): the bytes are discarded, and counted.
    let recv = Recv::new(&server, buf).flags(libc::MSG_TRUNC);
    let (count, buf) = run(&mut ring, recv);
    assert_eq!((count.unwrap(), buf), (4, vec![0; 4]));
}

#[test]
fn options_have_their_values() {
    let mut ring = ring();
    let fd = socket(&mut ring);
    assert!(!run(&mut ring, GetSockOpt::new(&fd, SockOpt::KEEP_ALIVE)).unwrap());
    run(&mut ring, SetSockOpt::new(&fd, SockOpt::KEEP_ALIVE, true)).unwrap();
    assert!(run(&mut ring, GetSockOpt::new(&fd, SockOpt::KEEP_ALIVE)).unwrap());
    let kind = run(&mut ring, GetSockOpt::new(&fd, SockOpt::TYPE)).unwrap();
    assert_eq!(kind, libc::SOCK_STREAM);
    let time = Some(Duration::from_millis(1_500));
    run(&mut ring, SetSockOpt::new(&fd, SockOpt::RECV_TIMEOUT, time)).unwrap();
    let is = run(&mut ring, GetSockOpt::new(&fd, SockOpt::RECV_TIMEOUT)).unwrap();
    assert!(is.unwrap() >= Duration::from_millis(1_400), "{is:?}");
    let none = run(&mut ring, GetSockOpt::new(&fd, SockOpt::SEND_TIMEOUT)).unwrap();
    assert_eq!(none, None);
    run(
        &mut ring,
        SetSockOpt::new(&fd, SockOpt::LINGER, Linger(Some(3))),
    )
    .unwrap();
    let linger = run(&mut ring, GetSockOpt::new(&fd, SockOpt::LINGER)).unwrap();
    assert_eq!(linger, Linger(Some(3)));
    let wrong = SetSockOpt::new(&fd, SockOpt::TYPE, 1);
    assert_errno(run(&mut ring, wrong), libc::ENOPROTOOPT);
}

#[test]
fn a_connection_that_nobody_takes_is_closed() {
    let mut ring = ring();
    let (listener, client) = (socket(&mut ring), socket(&mut ring));
    run(&mut ring, Bind::new(&listener, name("late"))).unwrap();
    run(&mut ring, Listen::new(&listener, 9)).unwrap();
    run(&mut ring, Connect::new(&client, name("late"))).unwrap();
    ring.submit(Accept4::new(&listener), 1).unwrap();
    ring.wait(Wait::all().timeout(PATIENCE)).unwrap();
    drop(ring);
    // The peer sees the end of the stream.
    let mut ring = super::ring();
    let (count, _) = run(&mut ring, Recv::new(&client, vec![0; 1]));
    assert_eq!(count.unwrap(), 0);
}

#[test]
fn what_waits_is_cancelled() {
    let mut ring = ring();
    let (near, _far) = pair();
    let listener = socket(&mut ring);
    run(&mut ring, Bind::new(&listener, name("cancel"))).unwrap();
    run(&mut ring, Listen::new(&listener, 9)).unwrap();
    ring.submit(Recv::new(&near, vec![7; 4]), 1).unwrap();
    ring.submit(RecvFrom::new(&near, vec![7; 4]), 1).unwrap();
    ring.submit(Accept4::new(&listener), 1).unwrap();
    let early = ring.wait(Wait::any().timeout(Duration::from_millis(30)));
    assert_eq!(early, Err(flexsc::Error::TimedOut));
    assert_eq!(ring.cancel(1), Ok(true));
    ring.wait(Wait::all().timeout(PATIENCE)).unwrap();
    for _ in 0..3 {
        let done = ring.next().unwrap();
        if done.is::<Recv>() {
            let (result, buf) = done.output::<Recv>();
            assert_cancelled(result);
            assert_eq!(buf, [7; 4]);
        } else if done.is::<Accept4>() {
            assert_cancelled(done.output::<Accept4>());
        } else {
            assert_cancelled(done.output::<RecvFrom>().0);
        }
    }
}
