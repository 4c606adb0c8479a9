// SPDX-License-Identifier: MIT OR Apache-2.0
//! Calls that wait for room: which are parked, and that they send everything.

use std::os::fd::{AsRawFd, OwnedFd};

use super::{check_by_owner, check_no_thread, finish_asleep, park, post_and_look};
use crate::check::Check;
use crate::kit::engine::Engine;
use crate::kit::files::socket_pair;
use crate::kit::mode::Mode;
use crate::kit::net::{self, unix_pair};
use crate::kit::only_thread::OnlyThread;
use crate::kit::ring::{Call, Ring};
use crate::kit::stream::{Kind, Stream, Way};
use crate::kit::{limits, sys, trace};

tests! { "park":
    send_holds_no_thread => "a call that waits for room in a stream holds no thread: the owner makes it";
    sends_everything => "a send of more than there is room for is parked again and again, without a thread";
    sends_while_away => "the same while its owner is not in WAIT";
    sends_many => "a thousand sends wait, and there is one thread";
    send_keeps_its_peer => "a send that waits ends when its socket is connected to another peer, who gets nothing";
    send_keeps_its_file => "a parked send stays with its file when the descriptor is reused";
    send_not_parked => "sends of datagrams, out of band, with descriptors or time stamps are not parked";
    thread_sends_the_rest => "if a tracer comes, a thread sends what is left, and only that";
    send_without_memory => "a send that waits for memory and not for its peer is a thread's";
    send_counts_once => "a send in parts counts as one call in /proc/PID/io";
    send_faults => "a send whose bytes end in memory that is missing has the result of a plain call";
}

/// More than the buffers of any stream here hold.
const LONG: usize = 1_500_000;

fn start() -> Check<(Engine, Ring)> {
    net::loopback_up()?;
    Mode::Inline.start(1)
}

/// Every kind of stream, with each call that sends to it.
fn each_way(mut test: impl FnMut(Kind, Way) -> Check) -> Check {
    for kind in Kind::ALL {
        for &way in kind.ways() {
            test(kind, way).map_err(|f| f.within(format!("{kind:?}, {way:?}")))?;
        }
    }
    Ok(())
}

fn send_holds_no_thread() -> Check {
    let (engine, mut ring) = start()?;
    each_way(|kind, way| {
        let stream = Stream::new(kind)?;
        stream.fill(4096)?;
        let message = stream.message(8);
        let before = engine.stats()?;
        let slots = park(&engine, &mut ring, &[message.call(way, stream.fd())])?;
        // The owner goes on with other calls meanwhile.
        let pid = ring.result(call!(SYS_getpid))?;
        check_ret!("getpid", pid, std::process::id());
        let inside = stream.inside() - 8;
        let done = finish_asleep(&engine, &mut ring, &slots, || stream.take(inside))?;
        check_ret!("send", done[0].result, 8);
        check_no_thread(&engine, &before)?;
        stream.finish()
    })
}

fn sends_everything() -> Check {
    let (engine, mut ring) = start()?;
    each_way(|kind, way| {
        let stream = Stream::new(kind)?;
        let message = stream.message(LONG);
        let before = engine.stats()?;
        let slots = park(&engine, &mut ring, &[message.call(way, stream.fd())])?;
        let done = finish_asleep(&engine, &mut ring, &slots, || stream.take(LONG))?;
        check_ret!("send", done[0].result, LONG as i64);
        check_by_owner(&engine, &before)?;
        let after = engine.stats()?;
        check!(after.parked - before.parked > 1, "it was parked only once");
        stream.finish()
    })
}

fn sends_while_away() -> Check {
    let (engine, mut ring) = start()?;
    each_way(|kind, way| {
        let stream = Stream::new(kind)?;
        let message = stream.message(LONG);
        let slots = park(&engine, &mut ring, &[message.call(way, stream.fd())])?;
        std::thread::scope(|scope| {
            let peer = scope.spawn(|| stream.take(LONG));
            ring.poll_until_done(&slots)?;
            peer.join().expect("no panic")
        })?;
        check_ret!("send", ring.reap(slots[0]).result, LONG as i64);
        stream.finish()
    })
}

fn sends_many() -> Check {
    let count = limits::many(1024) / 64 * 64;
    let (engine, mut ring) = Mode::Inline.start(count as u32 / 64)?;
    let stream = Stream::new(Kind::Pipe)?;
    stream.fill(4096)?;
    let inside = stream.inside();
    let byte = [7u8];
    let calls = vec![call!(SYS_write, stream.fd(), byte.as_ptr(), 1); count];
    let before = engine.stats()?;
    let slots = park(&engine, &mut ring, &calls)?;
    for done in finish_asleep(&engine, &mut ring, &slots, || stream.take(inside))? {
        check_ret!("write", done.result, 1);
    }
    check_no_thread(&engine, &before)?;
    check_eq!("threads", engine.stats()?.threads, 1);
    let mut bytes = vec![0u8; count + 1];
    let got = plain!(SYS_read, &stream.from, bytes.as_mut_ptr(), bytes.len());
    check_ret!("read", got, count as i64);
    check!(
        bytes[..count].iter().all(|&there| there == 7),
        "other bytes"
    );
    Ok(())
}

fn send_keeps_its_peer() -> Check {
    let (engine, mut ring) = start()?;
    // No thread goes on with the send meanwhile.
    let only = OnlyThread::block(&engine)?;
    let (one, other) = (net::listener(libc::AF_INET)?, net::listener(libc::AF_INET)?);
    let socket = net::socket(libc::AF_INET, libc::SOCK_STREAM)?;
    net::connect(&socket, &one)?;
    let first = plain!(SYS_accept4, &one, 0, 0, libc::SOCK_CLOEXEC);
    check!(first >= 0, "accept4: {first}");
    let _first = sys::own(first as i32);
    let bytes = vec![7u8; 8 * LONG];
    let send = call!(SYS_sendto, &socket, bytes.as_ptr(), bytes.len(), 0, 0, 0);
    let before = engine.stats()?.parked;
    let slots = post_and_look(&mut ring, &[send])?;
    check_eq!("parked", engine.stats()?.parked - before, 1);
    let nobody = libc::sockaddr {
        sa_family: libc::AF_UNSPEC as u16,
        sa_data: [0; 14],
    };
    let to = std::ptr::from_ref(&nobody);
    check_ret!("disconnect", plain!(SYS_connect, &socket, to, 16), 0);
    net::connect(&socket, &other)?;
    let second = plain!(SYS_accept4, &other, 0, 0, libc::SOCK_CLOEXEC);
    check!(second >= 0, "accept4: {second}");
    let second = sys::own(second as i32);
    let done = ring.finish(&slots)?[0];
    check!(
        done.result > 0 && (done.result as usize) < bytes.len(),
        "{done:?} of {}",
        bytes.len()
    );
    let mut got = [0u8; 8];
    let ret = plain!(
        SYS_recvfrom,
        &second,
        got.as_mut_ptr(),
        8,
        libc::MSG_DONTWAIT,
        0,
        0
    );
    check_ret!("the other peer", ret, -libc::EAGAIN);
    only.release()
}

fn send_keeps_its_file() -> Check {
    let (engine, mut ring) = start()?;
    for waits in [true, false] {
        for kind in Kind::ALL {
            let stream = Stream::new(kind)?;
            let (other, _peer) = socket_pair()?;
            let message = stream.message(LONG);
            let slots = park(&engine, &mut ring, &[message.call(Way::Write, stream.fd())])?;
            check_ret!("dup2", plain!(SYS_dup2, &other, stream.fd()), stream.fd());
            if waits {
                let done = finish_asleep(&engine, &mut ring, &slots, || stream.take(LONG))?;
                check_ret!("write", done[0].result, LONG as i64);
            } else {
                std::thread::scope(|scope| {
                    let peer = scope.spawn(|| stream.take(LONG));
                    ring.poll_until_done(&slots)?;
                    peer.join().expect("no panic")
                })?;
                check_ret!("write", ring.reap(slots[0]).result, LONG as i64);
            }
            stream.finish()?;
        }
    }
    Ok(())
}

/// Posts a call that waits in a thread, makes room for it and returns its result.
fn by_thread(
    engine: &Engine,
    ring: &mut Ring,
    what: &str,
    call: Call,
    make_room: impl FnOnce() -> Check,
) -> Check<i64> {
    let before = engine.stats()?;
    let slots = post_and_look(ring, &[call])?;
    engine
        .until_pool(0, "a blocked thread", |pool| pool.blocked == 1)
        .map_err(|f| f.within(what))?;
    check_eq!(what, engine.stats()?.parked, before.parked);
    make_room()?;
    let done = ring.finish(&slots)?[0];
    engine.until_pool(0, "no blocked thread", |pool| pool.blocked == 0)?;
    Ok(done.result)
}

fn send_not_parked() -> Check {
    let (engine, mut ring) = start()?;
    for kind in [libc::SOCK_DGRAM, libc::SOCK_SEQPACKET] {
        let (to, from) = unix_pair(kind)?;
        let mut count = 0;
        while plain!(SYS_sendto, &to, b"x".as_ptr(), 1, libc::MSG_DONTWAIT, 0, 0) == 1 {
            count += 1;
        }
        check!(count > 0, "there is no room for a datagram");
        let mut byte = 0u8;
        let call = call!(SYS_sendto, &to, b"x".as_ptr(), 1, 0, 0, 0);
        let sent = by_thread(&engine, &mut ring, "a datagram", call, || {
            for _ in 0..=count {
                let at = std::ptr::from_mut(&mut byte);
                check_ret!("recvfrom", plain!(SYS_recvfrom, &from, at, 1, 0, 0, 0), 1);
            }
            Ok(())
        })?;
        check_ret!("sendto", sent, 1);
    }
    for (kind, stamps) in [(Kind::Tcp, false), (Kind::Tcp, true), (Kind::Unix, true)] {
        let stream = Stream::new(kind)?;
        stream.fill(4096)?;
        let inside = stream.inside();
        let mut call = call!(SYS_sendto, stream.fd(), b"x".as_ptr(), 1, 0, 0, 0);
        if stamps {
            // SOF_TIMESTAMPING_TX_SOFTWARE
            let set = net::set(&stream.to, libc::SOL_SOCKET, libc::SO_TIMESTAMPING, &2i32);
            check_ret!("SO_TIMESTAMPING", set, 0);
        } else {
            call.args[3] = libc::MSG_OOB as u64;
        }
        let name = format!("{kind:?}, stamps {stamps}");
        let sent = by_thread(&engine, &mut ring, &name, call, || stream.take(inside))?;
        check_ret!("sendto", sent, 1);
    }
    let stream = Stream::new(Kind::Unix)?;
    stream.fill(4096)?;
    let inside = stream.inside();
    let rights = libc::SOL_SOCKET as u64 | ((libc::SCM_RIGHTS as u64) << 32);
    let control = [16 + 4, rights, stream.fd() as u64];
    let part = [b"x".as_ptr() as u64, 1];
    let (at, of_control) = (part.as_ptr() as u64, control.as_ptr() as u64);
    let message = [0, 0, at, 1, of_control, 24, 0];
    let call = call!(SYS_sendmsg, stream.fd(), message.as_ptr(), 0);
    let sent = by_thread(&engine, &mut ring, "a descriptor", call, || {
        stream.take(inside)
    })?;
    check_ret!("sendmsg", sent, 1);
    Ok(())
}

fn thread_sends_the_rest() -> Check {
    let (engine, mut ring) = start()?;
    each_way(|kind, way| {
        let stream = Stream::new(kind)?;
        let message = stream.message(LONG);
        let slots = park(&engine, &mut ring, &[message.call(way, stream.fd())])?;
        let before = engine.stats()?;
        // Calls are traced meanwhile.
        trace::hits("raw_syscalls/sys_enter", || {
            let done = finish_asleep(&engine, &mut ring, &slots, || stream.take(LONG))?;
            check_ret!("send", done[0].result, LONG as i64);
            Ok(())
        })?;
        let after = engine.stats()?;
        check_eq!("by threads", after.thread_done - before.thread_done, 1);
        stream.finish()
    })
}

/// Sets the limits of all TCP sockets' memory, and resets them when dropped.
struct TcpMemory(String);

const TCP_MEM: &str = "/proc/sys/net/ipv4/tcp_mem";

impl TcpMemory {
    fn short() -> Check<TcpMemory> {
        let usual = ok!(TCP_MEM, std::fs::read_to_string(TCP_MEM));
        ok!(TCP_MEM, std::fs::write(TCP_MEM, "0 0 0"));
        Ok(TcpMemory(usual))
    }
}

impl Drop for TcpMemory {
    fn drop(&mut self) {
        let _ = std::fs::write(TCP_MEM, &self.0);
    }
}

/// Sends without waiting. Returns false if there is no room.
fn send_some(to: &OwnedFd, bytes: &[u8]) -> Check<bool> {
    let (at, len) = (bytes.as_ptr(), bytes.len());
    let sent = plain!(SYS_sendto, to, at, len, libc::MSG_DONTWAIT, 0, 0);
    if sent < 0 {
        check_ret!("sendto", sent, -libc::EAGAIN);
    }
    Ok(sent > 0)
}

/// The buffer has room for more, but too little for poll() to say so, and the peer reads nothing: no
/// event is to come.
fn send_without_memory() -> Check {
    limits::need_root()?;
    let (engine, mut ring) = start()?;
    let bytes = vec![1u8; 40_000];
    let (full, _full_from) = net::tcp_pair()?;
    let (to, _from) = net::tcp_pair()?;
    // Each processor has some memory of its own, so use more than that.
    while send_some(&full, &bytes)? {}
    let set = net::set(&to, libc::SOL_SOCKET, libc::SO_SNDBUF, &200_000i32);
    check_ret!("SO_SNDBUF", set, 0);
    let mut poll = libc::pollfd {
        fd: to.as_raw_fd(),
        events: libc::POLLOUT,
        revents: 0,
    };
    while plain!(SYS_poll, std::ptr::from_mut(&mut poll), 1, 100) == 1 {
        check!(send_some(&to, &bytes[..2000])?, "there is no room at all");
    }
    let memory = TcpMemory::short()?;
    let write = call!(SYS_write, &to, bytes.as_ptr(), bytes.len());
    let slots = post_and_look(&mut ring, &[write])?;
    engine.until_pool(0, "a blocked thread", |pool| pool.blocked == 1)?;
    drop(memory);
    let result = ring.finish(&slots)?[0].result;
    check_ret!("write", result, bytes.len() as i64);
    Ok(())
}

/// Bytes written and calls that write, of this process.
fn written() -> Check<[u64; 2]> {
    let text = ok!("io", std::fs::read_to_string("/proc/self/io"));
    let of = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name));
        line.and_then(|value| value.trim().parse().ok())
    };
    match (of("wchar:"), of("syscw:")) {
        (Some(bytes), Some(calls)) => Ok([bytes, calls]),
        _ => fail!("no wchar or syscw in {text}"),
    }
}

fn send_counts_once() -> Check {
    if std::fs::metadata("/proc/self/io").is_err() {
        return crate::check::skip("needs CONFIG_TASK_IO_ACCOUNTING");
    }
    let (engine, mut ring) = start()?;
    for kind in Kind::ALL {
        for way in [Way::Write, Way::Writev] {
            for cancels in [false, true] {
                let stream = Stream::new(kind)?;
                let message = stream.message(LONG);
                let before = written()?;
                let slots = park(&engine, &mut ring, &[message.call(way, stream.fd())])?;
                if cancels {
                    check_eq!("CANCEL", ring.cancel(slots[0]), Ok(0));
                } else {
                    stream.take(LONG)?;
                }
                let sent = ring.finish(&slots)?[0].result;
                let after = written()?;
                let diff = [after[0] - before[0], after[1] - before[1]];
                check_eq!(format!("{kind:?}, {way:?}"), diff, [sent as u64, 1]);
            }
        }
    }
    Ok(())
}

fn send_faults() -> Check {
    let (_engine, mut ring) = start()?;
    let len = 1 << 20;
    let anonymous = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
    let rights = libc::PROT_READ | libc::PROT_WRITE;
    let at = ok!("mmap", crate::kit::sys::mmap(len, rights, anonymous, -1, 0));
    for there in [0, 100, 4096, 40_000, 50_000] {
        let begin = at as u64 + len as u64 / 2 - there;
        let half = at as u64 + len as u64 / 2;
        check_ret!("mprotect", plain!(SYS_mprotect, half, len / 2, 0), 0);
        for kind in Kind::ALL {
            let plain = Stream::new(kind)?;
            let posted = Stream::new(kind)?;
            let want = plain!(SYS_write, plain.fd(), begin, 60_000);
            let got = ring.result(call!(SYS_write, posted.fd(), begin, 60_000))?;
            check_ret!(format!("{kind:?}, {there} bytes there"), got, want);
        }
    }
    ok!("munmap", crate::kit::sys::munmap(at, len));
    Ok(())
}
