// SPDX-License-Identifier: MIT OR Apache-2.0
//! How calls end that wait for room: before they have sent anything, or when they have sent a part.

use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicI32, Ordering};
use std::time::{Duration, Instant};

use super::one_of_many::until_asleep;
use super::{finish_asleep, park, post_and_look};
use crate::check::{Check, Ret};
use crate::kit::abi::{Param, Policy, REASON_NONE};
use crate::kit::child::in_child;
use crate::kit::engine::Engine;
use crate::kit::files::{BlockedReads, pipe};
use crate::kit::mode::Mode;
use crate::kit::net;
use crate::kit::ring::{Ring, check_done};
use crate::kit::seccomp::{Action, FILTERED, Filter};
use crate::kit::signals;
use crate::kit::stream::{Kind, Message, Stream, Way};
use crate::kit::{in_some_try, patience, sys, trace, until};

tests! { "park":
    send_cancelled => "CANCEL of a parked send gives EINTR, or the number of bytes it has sent";
    send_to_nobody => "if the peer ends, a parked send has the result, signal and error of a plain one";
    rest_to_nobody => "so has a send whose rest waits in a thread";
    send_starved => "a send that was sent in part and finds no thread ends with the number of bytes";
    send_refused => "a filter that comes when a part was sent ends the call with the number of bytes";
    send_timeout => "with SO_SNDTIMEO a send ends after its time, with EAGAIN or the number of bytes";
    one_time_for_parts => "the time of a send to TCP does not restart with each part";
    send_times_of_unix => "that of a send to a unix stream does, so it is parked in one piece only";
}

const LONG: usize = 1_500_000;
const EVERY: Duration = Duration::from_millis(40);

fn start() -> Check<(Engine, Ring)> {
    net::loopback_up()?;
    Mode::Inline.start(1)
}

/// A stream, and the bytes that a call is going to send: a part of them, if there is room.
fn stream_for(kind: Kind, part: bool) -> Check<(Stream, Message)> {
    let stream = Stream::new(kind)?;
    if !part {
        stream.fill(4096)?;
    }
    let message = stream.message(if part { LONG } else { 8 });
    Ok((stream, message))
}

fn send_cancelled() -> Check {
    let (engine, mut ring) = start()?;
    for kind in Kind::ALL {
        for part in [false, true] {
            let (stream, message) = stream_for(kind, part)?;
            let call = message.call(Way::Write, stream.fd());
            let slots = park(&engine, &mut ring, &[call])?;
            check_eq!("CANCEL", ring.cancel(slots[0]), Ok(0));
            let done = ring.finish(&slots)?[0];
            let what = format!("{kind:?}, part {part}");
            if part {
                check!(
                    done.result > 0 && done.reason == REASON_NONE,
                    "{what}: {done:?}"
                );
                stream.cut(&message, done.result);
            } else {
                check_done(&what, done, -i64::from(libc::EINTR), REASON_NONE)?;
                stream.cut(&message, 0);
            }
            stream.finish()?;
        }
    }
    Ok(())
}

/// What a send leaves behind when its peer ends.
#[derive(Debug, PartialEq, Eq)]
struct End {
    /// The call's error, or 0 if it has sent a part.
    error: i64,
    signals: u32,
    /// SO_ERROR afterwards.
    left: i32,
}

/// A way in which nobody is left to send to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum How {
    PeerCloses,
    OwnShutdown,
}

/// Ends a stream in one of these ways.
struct Ender {
    how: How,
    to: i32,
    from: Option<OwnedFd>,
}

impl Ender {
    fn end(&mut self) {
        match self.how {
            How::PeerCloses => drop(self.from.take()),
            How::OwnShutdown => {
                plain!(SYS_shutdown, self.to, libc::SHUT_WR);
            }
        }
    }
}

/// Has `send` post or make a call, and end the stream when the call waits. It returns the call's
/// result and the thread that should get signals. `like` is the end of a plain call, if this is not
/// one.
fn end_of(
    kind: Kind,
    part: bool,
    how: How,
    like: Option<&End>,
    send: impl FnOnce(&Message, &Stream, &mut Ender) -> Check<(i64, i32)>,
) -> Check<End> {
    signals::count_signal(libc::SIGPIPE, 0)?;
    let (mut stream, message) = stream_for(kind, part)?;
    let (here, _) = pipe()?;
    let from = std::mem::replace(&mut stream.from, here);
    let mut ender = Ender {
        how,
        to: stream.fd(),
        from: Some(from),
    };
    let (result, tid) = send(&message, &stream, &mut ender)?;
    check!(
        part == (result > 0),
        "{kind:?}, part {part}: {}",
        Ret(result)
    );
    let error = result.min(0);
    // A signal to the owner comes with the result or shortly after.
    if let Some(like) = like {
        until("SIGPIPE", || signals::counted() >= like.signals)?;
    }
    if signals::counted() != 0 {
        check_eq!("thread that got SIGPIPE", signals::last_thread(), tid);
    }
    let mut left = 0i32;
    if kind != Kind::Pipe {
        let (at, mut len) = (std::ptr::from_mut(&mut left), 4u32);
        let len = std::ptr::from_mut(&mut len);
        let got = plain!(
            SYS_getsockopt,
            stream.fd(),
            libc::SOL_SOCKET,
            libc::SO_ERROR,
            at,
            len
        );
        check_ret!("SO_ERROR", got, 0);
    }
    Ok(End {
        error,
        signals: signals::counted(),
        left,
    })
}

/// The end of a plain call.
fn plain_end(kind: Kind, part: bool, how: How) -> Check<End> {
    end_of(kind, part, how, None, |message, stream, ender| {
        let tid = AtomicI32::new(0);
        let call = message.call(Way::Write, stream.fd());
        std::thread::scope(|scope| {
            let sender = scope.spawn(|| {
                tid.store(sys::gettid(), Ordering::Relaxed);
                sys::syscall(libc::SYS_write, call.args)
            });
            until_asleep(&tid)?;
            ender.end();
            let result = sender.join().expect("no panic");
            Ok((result, tid.load(Ordering::Relaxed)))
        })
    })
}

/// All ways in which a stream can end.
const ENDS: [(Kind, How); 5] = [
    (Kind::Unix, How::PeerCloses),
    (Kind::Unix, How::OwnShutdown),
    (Kind::Tcp, How::PeerCloses),
    (Kind::Tcp, How::OwnShutdown),
    (Kind::Pipe, How::PeerCloses),
];

fn send_to_nobody() -> Check {
    let (engine, mut ring) = start()?;
    for (kind, how) in ENDS {
        for part in [false, true] {
            let want = plain_end(kind, part, how)?;
            for waits in [true, false] {
                let got = end_of(kind, part, how, Some(&want), |message, stream, ender| {
                    let call = message.call(Way::Write, stream.fd());
                    let slots = park(&engine, &mut ring, &[call])?;
                    if waits {
                        let done = finish_asleep(&engine, &mut ring, &slots, || {
                            ender.end();
                            Ok(())
                        })?;
                        return Ok((done[0].result, sys::gettid()));
                    }
                    ender.end();
                    ring.poll_until_done(&slots)?;
                    Ok((ring.reap(slots[0]).result, sys::gettid()))
                })?;
                check_eq!(format!("{kind:?}, {how:?}, in WAIT {waits}"), got, want);
            }
        }
    }
    Ok(())
}

fn rest_to_nobody() -> Check {
    let (engine, mut ring) = start()?;
    for (kind, how) in ENDS {
        let want = plain_end(kind, true, how)?;
        let got = end_of(kind, true, how, Some(&want), |message, stream, ender| {
            let call = message.call(Way::Write, stream.fd());
            let slots = park(&engine, &mut ring, &[call])?;
            // A thread goes on with a call that is traced, and waits in it.
            let mut result = 0;
            trace::hits("raw_syscalls/sys_enter", || {
                let mut piece = vec![0u8; LONG];
                let end = ender.from.as_ref().expect("not yet closed");
                until("a blocked thread", || {
                    let at = piece.as_mut_ptr();
                    let mut there = 0i32;
                    let of = std::ptr::from_mut(&mut there);
                    plain!(SYS_ioctl, end, libc::FIONREAD, of);
                    if there > 0 && engine.pool(0).is_ok_and(|pool| pool.blocked == 0) {
                        plain!(SYS_read, end, at, 4096);
                    }
                    engine.pool(0).is_ok_and(|pool| pool.blocked == 1)
                })?;
                ender.end();
                result = ring.finish(&slots)?[0].result;
                Ok(())
            })?;
            Ok((result, sys::gettid()))
        })?;
        check_eq!(format!("{kind:?}, {how:?}"), got, want);
    }
    Ok(())
}

/// With all threads blocked, a call that is woken while its owner is not in WAIT is stuck, until it
/// is cancelled or a kworker answers.
fn send_starved() -> Check {
    net::loopback_up()?;
    for kind in Kind::ALL {
        for cancels in [true, false] {
            let (engine, mut ring) = Mode::Inline.start(1)?;
            engine.set(Param::MaxThreads, 2)?;
            let (blocker, release) = pipe()?;
            let reads = BlockedReads::new(&blocker, 2);
            let blocked = ring.post_blocked(&reads.calls())?;
            engine.until_stats("two blocked threads", |stats| stats.peak_blocked >= 2)?;
            let (stream, message) = stream_for(kind, true)?;
            let before = engine.stats()?;
            let slots = post_and_look(&mut ring, &[message.call(Way::Write, stream.fd())])?;
            check_eq!("parked", engine.stats()?.parked - before.parked, 1);
            // Takes bytes that were sent, until the call is woken.
            while engine.stats()?.woken == before.woken {
                check!(stream.take_some(4096)? != 0, "the end of the stream");
            }
            let done = if cancels {
                let _ = ring.cancel(slots[0]);
                until("the result", || ring.is_done(slots[0]))?;
                ring.reap(slots[0])
            } else {
                // A call that is traced is left to the threads.
                let mut done = Vec::new();
                trace::hits("raw_syscalls/sys_enter", || {
                    done = ring.finish(&slots)?;
                    Ok(())
                })?;
                done[0]
            };
            check!(
                done.result > 0 && done.reason == REASON_NONE,
                "{kind:?}, CANCEL {cancels}: {done:?}"
            );
            stream.cut(&message, done.result);
            stream.finish()?;
            reads.release(&release)?;
            ring.finish(&blocked)?;
        }
    }
    Ok(())
}

fn send_refused() -> Check {
    net::loopback_up()?;
    for kind in Kind::ALL {
        for waits in [true, false] {
            in_child(|| {
                let (engine, mut ring) = Mode::Inline.start(1)?;
                let (stream, message) = stream_for(kind, true)?;
                let call = message.call(Way::Write, stream.fd());
                let slots = park(&engine, &mut ring, &[call])?;
                let inside = stream.inside() - message.len();
                check_eq!("inside", inside, 0);
                let refuse = Filter::new().rule(libc::SYS_write, Action::Errno(FILTERED));
                ok!("seccomp", refuse.otherwise(Action::Allow).hold());
                // What was sent makes room as it is received.
                let done = std::thread::scope(|scope| -> Check<_> {
                    let end = &stream;
                    let peer = scope.spawn(move || end.take_some(LONG));
                    let done = if waits {
                        ring.finish(&slots)?[0]
                    } else {
                        ring.poll_until_done(&slots)?;
                        ring.reap(slots[0])
                    };
                    peer.join().expect("no panic")?;
                    Ok(done)
                })?;
                check!(
                    done.result > 0 && done.reason == REASON_NONE,
                    "{kind:?}: {done:?}"
                );
                stream.cut(&message, done.result);
                stream.finish()
            })?;
        }
    }
    Ok(())
}

/// Sets SO_SNDTIMEO.
fn limit(stream: &Stream, time: Duration) -> Check {
    let time = [time.as_secs() as i64, i64::from(time.subsec_micros())];
    let set = net::set(&stream.to, libc::SOL_SOCKET, libc::SO_SNDTIMEO, &time);
    check_ret!("SO_SNDTIMEO", set, 0);
    Ok(())
}

fn send_timeout() -> Check {
    let (engine, mut ring) = start()?;
    for (kind, part) in [(Kind::Unix, false), (Kind::Tcp, false), (Kind::Tcp, true)] {
        for &way in kind.ways() {
            // The sizes of these are not looked at.
            if kind == Kind::Unix && matches!(way, Way::Writev | Way::Sendmsg) {
                continue;
            }
            for waits in [true, false] {
                in_some_try("a send that its owner ends", |factor| {
                    let time = EVERY * factor;
                    time_out(&engine, &mut ring, (kind, part, way), waits, time)
                })?;
            }
        }
    }
    Ok(())
}

/// Has a send end after its time. Returns false if its owner was to end it, and came too late.
fn time_out(
    engine: &Engine,
    ring: &mut Ring,
    (kind, part, way): (Kind, bool, Way),
    waits: bool,
    time: Duration,
) -> Check<bool> {
    let (stream, message) = stream_for(kind, part)?;
    limit(&stream, time)?;
    let before = engine.stats()?;
    let begin = Instant::now();
    let slots = park(engine, ring, &[message.call(way, stream.fd())])?;
    let result = if waits {
        ring.finish(&slots)?[0].result
    } else {
        ring.poll_until_done(&slots)?;
        ring.reap(slots[0]).result
    };
    let took = begin.elapsed();
    check!(took >= time && took < patience(), "{kind:?}: {took:?}");
    if part {
        check!(result > 0, "{kind:?}: {}", Ret(result));
    } else {
        check_ret!(format!("{kind:?}"), result, -libc::EAGAIN);
    }
    stream.cut(&message, result.max(0));
    let after = engine.stats()?;
    check_eq!("timed out", after.timed_out - before.timed_out, 1);
    stream.finish()?;
    Ok(!waits || after.thread_done == before.thread_done)
}

fn one_time_for_parts() -> Check {
    let (engine, mut ring) = start()?;
    in_some_try("one time for all parts", |factor| {
        in_one_time(&engine, &mut ring, 10 * EVERY * factor)
    })
}

/// A send of some parts, for the last of which room comes when most of this time is over. Returns
/// false if the room came too late, or the end of the call.
fn in_one_time(engine: &Engine, ring: &mut Ring, time: Duration) -> Check<bool> {
    let stream = Stream::new(Kind::Tcp)?;
    limit(&stream, time)?;
    let message = stream.message(LONG * 4);
    let before = engine.stats()?;
    let begin = Instant::now();
    let slots = park(engine, ring, &[message.call(Way::Write, stream.fd())])?;
    let sent = std::thread::scope(|scope| -> Check<i64> {
        let peer = scope.spawn(|| {
            std::thread::sleep((time * 8 / 10).saturating_sub(begin.elapsed()));
            stream.take(80_000)
        });
        let done = ring.finish(&slots);
        peer.join().expect("no panic")?;
        Ok(done?[0].result)
    })?;
    let took = begin.elapsed();
    let by_owner = engine.stats()?.thread_done == before.thread_done;
    println!("# sent {sent}, by the owner {by_owner}, after {took:?} of {time:?}");
    check!(sent > 0 && sent < message.len() as i64, "{}", Ret(sent));
    check!(took >= time, "{took:?}");
    stream.cut(&message, sent);
    stream.finish()?;
    // A time that began again with the last part would end later.
    Ok(sent > 80_000 && by_owner && took < time * 17 / 10)
}

fn send_times_of_unix() -> Check {
    let (engine, mut ring) = start()?;
    for len in [32_768, 32_769] {
        let stream = Stream::new(Kind::Unix)?;
        stream.fill(4096)?;
        limit(&stream, Duration::from_secs(1000))?;
        let inside = stream.inside();
        let message = stream.message(len);
        let before = engine.stats()?;
        let slots = post_and_look(&mut ring, &[message.call(Way::Write, stream.fd())])?;
        check_eq!(
            format!("parked, {len} bytes"),
            engine.stats()?.parked - before.parked,
            u64::from(len == 32_768)
        );
        stream.take(inside)?;
        check_eq!("ALL", ring.wait(Policy::All), Ok(1));
        check_ret!("write", ring.finish(&slots)?[0].result, len as i64);
        stream.finish()?;
    }
    Ok(())
}
