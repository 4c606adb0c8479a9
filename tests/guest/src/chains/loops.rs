// SPDX-License-Identifier: MIT OR Apache-2.0
//! Loops: chains that are executed again and again.

use std::os::fd::OwnedFd;

use super::{check_cancelled, content, flagged, opening, taking};
use crate::check::{Check, Ret};
use crate::kit::abi::{
    ENTRY_LINK, ENTRY_LOOP, ENTRY_SUM, MAX_ROUNDS, Param, REASON_BOUND, REASON_CANCELLED,
    REASON_NONE, take,
};
use crate::kit::files::{TempDir, memory_file, pipe, write_all};
use crate::kit::mode::{Mode, in_modes};
use crate::kit::ring::{Call, check_done};
use crate::kit::rounds;

tests! { "chains":
    loop_copies => "a read and a write in a loop copy a file; SUM adds up the bytes";
    loop_between => "open, a loop, close: an entry behind a loop is executed after the loop";
    loop_of_nothing => "a loop that ends at once leaves its other entries unexecuted";
    loop_bound => "a loop that does not end by itself ends after LOOP_MAX rounds, reason BOUND";
    loop_fails => "an error ends the loop and the chain";
    loop_on_poller => "an endless loop holds up neither a poller nor other calls; CANCEL ends it";
}

/// A loop that copies `from` to `to`, a kibibyte at a time.
fn copying(from: &OwnedFd, to: &OwnedFd, buf: &mut [u8; 1024]) -> [Call; 2] {
    let read = call!(SYS_read, from, buf.as_mut_ptr(), buf.len());
    let write = call!(SYS_write, to, buf.as_ptr(), 0);
    [
        flagged(read, ENTRY_LINK | ENTRY_LOOP | ENTRY_SUM),
        flagged(taking(write, [take(2, 1), 0]), ENTRY_LOOP | ENTRY_SUM),
    ]
}

fn loop_copies() -> Check {
    let text: Vec<u8> = (0..100_000u32).map(|n| ((n * 7) >> 3) as u8).collect();
    in_modes(1, |engine, ring| {
        let (from, to) = (memory_file()?, memory_file()?);
        write_all(&from, &text)?;
        plain!(SYS_lseek, &from, 0, libc::SEEK_SET);
        let mut buf = [0u8; 1024];
        let done = ring.run_all(&copying(&from, &to, &mut buf))?;
        check_done("read", done[0], text.len() as i64, REASON_NONE)?;
        check_done("write", done[1], text.len() as i64, REASON_NONE)?;
        check!(content(&to)? == text, "the copy differs");
        check_eq!("rounds", engine.stats()?.loop_rounds, 98);
        Ok(())
    })
}

fn loop_between() -> Check {
    let dir = TempDir::new()?;
    let path = dir.file("in", &[b'z'; 5000])?;
    in_modes(1, |_, ring| {
        let to = memory_file()?;
        let mut buf = [0u8; 1024];
        let read = call!(SYS_read, -1, buf.as_mut_ptr(), buf.len());
        let write = call!(SYS_write, &to, buf.as_ptr(), 0);
        let calls = [
            opening(&path),
            flagged(taking(read, [take(0, 1), 0]), ENTRY_LINK | ENTRY_LOOP),
            flagged(taking(write, [take(2, 1), 0]), ENTRY_LINK | ENTRY_LOOP),
            taking(call!(SYS_close, -1), [take(0, 3), 0]),
        ];
        let done = ring.run_all(&calls)?;
        check!(done[0].result > 2, "openat: {}", Ret(done[0].result));
        check_done("read", done[1], 0, REASON_NONE)?;
        check_done("write", done[2], 5000 % 1024, REASON_NONE)?;
        check_done("close", done[3], 0, REASON_NONE)?;
        check_eq!("copied", content(&to)?, vec![b'z'; 5000]);
        let open = plain!(SYS_fcntl, done[0].result, libc::F_GETFD);
        check_ret!("fcntl of the closed descriptor", open, -libc::EBADF);
        Ok(())
    })
}

fn loop_of_nothing() -> Check {
    in_modes(1, |_, ring| {
        let (from, to) = (memory_file()?, memory_file()?);
        let mut buf = [0u8; 1024];
        let mut calls = copying(&from, &to, &mut buf).to_vec();
        calls[1].flags |= ENTRY_LINK;
        calls.push(call!(SYS_getpid));
        let done = ring.run_all(&calls)?;
        check_done("read", done[0], 0, REASON_NONE)?;
        check_cancelled("write", done[1])?;
        check_ret!("behind the loop", done[2].result, std::process::id());
        Ok(())
    })
}

fn loop_bound() -> Check {
    in_modes(1, |engine, ring| {
        engine.set(Param::LoopMax, 1000)?;
        let calls = [
            flagged(call!(SYS_getppid), ENTRY_LINK | ENTRY_LOOP),
            flagged(call!(SYS_getpid), ENTRY_LINK | ENTRY_LOOP),
            call!(SYS_getuid),
        ];
        let done = ring.run_all(&calls)?;
        let (me, parent) = (std::process::id().into(), plain!(SYS_getppid));
        check_done("first", done[0], parent, REASON_NONE)?;
        check_done("last", done[1], me, REASON_BOUND)?;
        check_done("behind", done[2], plain!(SYS_getuid), REASON_NONE)?;
        check_eq!("rounds", engine.stats()?.loop_rounds, 1000);
        Ok(())
    })
}

fn loop_fails() -> Check {
    in_modes(1, |_, ring| {
        let (from, to) = pipe()?;
        let flags = plain!(SYS_fcntl, &from, libc::F_GETFL);
        plain!(
            SYS_fcntl,
            &from,
            libc::F_SETFL,
            flags | i64::from(libc::O_NONBLOCK)
        );
        write_all(&to, &[1; 10])?;
        let mut byte = 0u8;
        let read = call!(SYS_read, &from, std::ptr::from_mut(&mut byte), 1);
        let calls = [
            flagged(read, ENTRY_LINK | ENTRY_LOOP | ENTRY_SUM),
            call!(SYS_getpid),
        ];
        let done = ring.run_all(&calls)?;
        check_done("read", done[0], -i64::from(libc::EAGAIN), REASON_NONE)?;
        check_cancelled("behind", done[1])?;
        let mut left = 0i32;
        plain!(
            SYS_ioctl,
            &from,
            libc::FIONREAD,
            std::ptr::from_mut(&mut left)
        );
        check_eq!("left in the pipe", left, 0);
        Ok(())
    })
}

fn loop_on_poller() -> Check {
    for mode in [Mode::Poller, Mode::Kick] {
        let (engine, mut ring) = mode.start(1)?;
        engine.set(Param::LoopMax, MAX_ROUNDS)?;
        let endless = ring.post(flagged(call!(SYS_getppid), ENTRY_LOOP));
        if mode == Mode::Kick || ring.needs_kick() {
            ring.kicked()?;
        }
        ring.until_taken(&[endless])?;
        for _ in 0..rounds(20) {
            for done in ring.run_all(&[call!(SYS_getpid); 5])? {
                check_ret!("getpid beside a loop", done.result, std::process::id());
            }
        }
        check!(!ring.is_done(endless), "ended: {}", ring.show(endless));
        ok!("CANCEL", ring.cancel(endless));
        ring.poll_until_done(&[endless])?;
        let done = ring.reap(endless);
        check_done("loop", done, -i64::from(libc::ECANCELED), REASON_CANCELLED)?;
        check!(engine.stats()?.loop_rounds > 0, "there were no rounds");
    }
    Ok(())
}
