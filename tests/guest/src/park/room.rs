// SPDX-License-Identifier: MIT OR Apache-2.0
//! Who is woken when there is room in a stream, and when.

use std::sync::atomic::{AtomicI32, Ordering};

use super::one_of_many::{COUNT, one_each, until_asleep};
use super::{check_by_owner, finish_asleep, park, send};
use crate::check::Check;
use crate::kit::files::{pipe, readable};
use crate::kit::mode::Mode;
use crate::kit::ring::Call;
use crate::kit::stream::{Kind, Stream, Way};
use crate::kit::{patience, sys};

tests! { "park":
    one_write => "room in a pipe wakes one of the writes, which wakes the next if it leaves some";
    leaves_others_room => "a parked write that leaves room in a pipe wakes a thread that waits";
    writes_are_whole => "a parked write of up to PIPE_BUF bytes is never split or mixed with others";
    as_often_as_needed => "a write that is woken 200 times, and sends a page each time, holds no thread";
    woken_in_a_thread => "a thread that at last waits in a write itself is woken, not the parked call";
    woken_for_room => "a unix stream that is still nearly full wakes no send, and bytes in it wake none";
}

/// A pipe with room for this many pages, which is full.
fn full_pipe(pages: usize) -> Check<Stream> {
    let stream = Stream::new(Kind::Pipe)?;
    let size = pages as i64 * 4096;
    let set = plain!(SYS_fcntl, &stream.to, libc::F_SETPIPE_SZ, size);
    check_ret!("F_SETPIPE_SZ", set, size);
    stream.fill(4096)?;
    check_eq!("inside", stream.inside(), pages * 4096);
    Ok(stream)
}

/// Reads this many bytes at once.
fn read(stream: &Stream, bytes: &mut [u8]) -> Check {
    let got = plain!(SYS_read, &stream.from, bytes.as_mut_ptr(), bytes.len());
    check_ret!("read", got, bytes.len() as i64);
    Ok(())
}

fn one_write() -> Check {
    let (engine, mut ring) = Mode::Inline.start(1)?;
    let stream = full_pipe(1)?;
    let page = vec![7u8; 4096];
    let mut bytes = vec![0u8; COUNT * 4096];
    let write = call!(SYS_write, stream.fd(), page.as_ptr(), page.len());
    let calls: Vec<Call> = vec![write; COUNT];
    one_each(
        &engine,
        &mut ring,
        &calls,
        || read(&stream, &mut bytes[..4096]),
        |sent| sent == 4096,
    )?;
    // Room for all calls at once: the reader wakes one call.
    let stream = full_pipe(COUNT)?;
    let calls: Vec<Call> = vec![call!(SYS_write, stream.fd(), page.as_ptr(), page.len()); COUNT];
    let slots = park(&engine, &mut ring, &calls)?;
    let before = engine.stats()?;
    read(&stream, &mut bytes)?;
    for done in ring.finish(&slots)? {
        check_ret!("write", done.result, 4096);
    }
    let after = engine.stats()?;
    check_eq!(
        "passed on",
        after.passed_on - before.passed_on,
        COUNT as u64 - 1
    );
    check_eq!("in vain", after.woken_in_vain, before.woken_in_vain);
    Ok(())
}

fn leaves_others_room() -> Check {
    let (engine, mut ring) = Mode::Inline.start(1)?;
    let stream = full_pipe(2)?;
    let page = vec![7u8; 4096];
    let write = call!(SYS_write, stream.fd(), page.as_ptr(), page.len());
    let slots = park(&engine, &mut ring, &[write])?;
    let tid = AtomicI32::new(0);
    std::thread::scope(|scope| {
        // This write waits behind the parked one.
        let other = scope.spawn(|| {
            tid.store(sys::gettid(), Ordering::Relaxed);
            send(&stream.to, &page)
        });
        until_asleep(&tid)?;
        read(&stream, &mut [0; 8192])?;
        check_ret!("write", ring.finish(&slots)?[0].result, 4096);
        other.join().expect("no panic")
    })
}

fn woken_in_a_thread() -> Check {
    /// Wake-ups in vain until a thread waits itself.
    const VAIN: u64 = 128;
    let (engine, mut ring) = Mode::Inline.start(1)?;
    let stream = full_pipe(2)?;
    let bytes = vec![7u8; 4 * 4096];
    let write = call!(SYS_write, stream.fd(), bytes.as_ptr(), bytes.len());
    let before = engine.stats()?.woken_in_vain;
    let slots = park(&engine, &mut ring, &[write])?;
    let parked = engine.stats()?.parked;
    for vain in 1..=VAIN {
        // The writer is woken, though no page is free.
        read(&stream, &mut [0])?;
        engine.until_stats("a wake-up in vain", |s| s.woken_in_vain == before + vain)?;
        if vain != VAIN {
            // Else the next read wakes nobody.
            engine.until_stats("the write is parked again", |s| s.parked == parked + vain)?;
        }
    }
    engine.until_pool(0, "a thread waits in the write", |s| s.blocked == 1)?;
    let mut left = 2 * 4096 + bytes.len() - VAIN as usize;
    while left != 0 {
        check!(
            readable(&stream.from, patience()),
            "{left} bytes are missing"
        );
        let mut some = [0u8; 2 * 4096];
        let got = plain!(SYS_read, &stream.from, some.as_mut_ptr(), some.len());
        check!(got > 0, "read: {got}");
        left -= got as usize;
    }
    check_ret!("write", ring.finish(&slots)?[0].result, bytes.len() as i64);
    Ok(())
}

/// Number of bytes in a pipe.
fn inside(stream: &Stream) -> i32 {
    let mut there = 0i32;
    let at = std::ptr::from_mut(&mut there);
    plain!(SYS_ioctl, &stream.from, libc::FIONREAD, at);
    there
}

fn writes_are_whole() -> Check {
    let (engine, mut ring) = Mode::Inline.start(1)?;
    // There is room in the page, but not for a whole one.
    let stream = Stream::new(Kind::Pipe)?;
    check_ret!(
        "F_SETPIPE_SZ",
        plain!(SYS_fcntl, &stream.to, libc::F_SETPIPE_SZ, 4096),
        4096
    );
    send(&stream.to, &[1])?;
    let page = vec![7u8; 4096];
    let write = call!(SYS_write, stream.fd(), page.as_ptr(), page.len());
    let slots = park(&engine, &mut ring, &[write])?;
    check_eq!("bytes in the pipe", inside(&stream), 1);
    read(&stream, &mut [0])?;
    check_ret!("write", ring.finish(&slots)?[0].result, 4096);
    check_eq!("bytes in the pipe", inside(&stream), 4096);
    // Several, beside one that is split.
    let (from, to) = pipe()?;
    let pages: Vec<Vec<u8>> = (0..COUNT).map(|at| vec![at as u8; 3000]).collect();
    let long = vec![0xff_u8; 300_000];
    let split = call!(SYS_write, &to, long.as_ptr(), long.len());
    let mut slots = park(&engine, &mut ring, &[split])?;
    let write = |page: &Vec<u8>| call!(SYS_write, &to, page.as_ptr(), page.len());
    let calls: Vec<Call> = pages.iter().map(write).collect();
    slots.extend(park(&engine, &mut ring, &calls)?);
    let total = long.len() + COUNT * 3000;
    let bytes = std::thread::scope(|scope| -> Check<Vec<u8>> {
        let reader = scope.spawn(|| {
            let mut bytes = vec![0u8; total];
            let mut there = 0;
            while there < total {
                let at = bytes.as_mut_ptr().wrapping_add(there);
                match plain!(SYS_read, &from, at, (total - there).min(5000)) {
                    got if got > 0 => there += got as usize,
                    _ => break,
                }
            }
            bytes
        });
        let done = ring.finish(&slots)?;
        check_ret!("the long write", done[0].result, long.len() as i64);
        for done in &done[1..] {
            check_ret!("write", done.result, 3000);
        }
        Ok(reader.join().expect("no panic"))
    })?;
    let mut rest = &bytes[..];
    let mut whole = 0;
    while let Some(&first) = rest.first() {
        let len = rest.iter().take_while(|&&byte| byte == first).count();
        if first != 0xff {
            check_eq!(format!("bytes of write {first} in a row"), len, 3000);
            whole += 1;
        }
        rest = &rest[len..];
    }
    check_eq!("writes that arrived in one piece", whole, COUNT);
    Ok(())
}

fn as_often_as_needed() -> Check {
    let (engine, mut ring) = Mode::Inline.start(1)?;
    let stream = full_pipe(1)?;
    let message = stream.message(200 * 4096);
    let before = engine.stats()?;
    let slots = park(&engine, &mut ring, &[message.call(Way::Write, stream.fd())])?;
    let done = finish_asleep(&engine, &mut ring, &slots, || {
        let mut reads = 0;
        while stream.inside() > 4096 {
            reads += 1;
            // Else the write may be woken once for two reads.
            engine.until_stats("the write is parked", |s| s.parked - before.parked == reads)?;
            stream.take(4096)?;
        }
        Ok(())
    })?;
    check_ret!("write", done[0].result, message.len() as i64);
    check_by_owner(&engine, &before)?;
    let woken = engine.stats()?.woken - before.woken;
    check!(woken > 150, "woken only {woken} times");
    stream.finish()
}

fn woken_for_room() -> Check {
    let (engine, mut ring) = Mode::Inline.start(1)?;
    let stream = Stream::new(Kind::Unix)?;
    stream.fill(4096)?;
    let mut left = stream.inside();
    let message = stream.message(8);
    let call = message.call(Way::Write, stream.fd());
    let slots = park(&engine, &mut ring, &[call])?;
    let before = engine.stats()?;
    // The peer answers, which is no room.
    send(&stream.from, b"answer")?;
    stream.take(4096)?;
    left -= 4096;
    check_eq!("woken", engine.stats()?.woken, before.woken);
    check!(left > 0, "the stream holds one piece only");
    stream.take(left)?;
    check_eq!("woken", engine.stats()?.woken - before.woken, 1);
    check_ret!("write", ring.finish(&slots)?[0].result, 8);
    check_eq!(
        "in vain",
        engine.stats()?.woken_in_vain,
        before.woken_in_vain
    );
    stream.take(8)?;
    Ok(())
}
