// SPDX-License-Identifier: MIT OR Apache-2.0
//! Opens of FIFOs: not even the first one that waits for its peer holds up WAIT.

use std::ffi::{CStr, CString};
use std::os::fd::{AsRawFd, OwnedFd};

use super::mounts::not_held_up;
use crate::check::Check;
use crate::kit::abi::{Policy, REASON_NONE};
use crate::kit::engine::Engine;
use crate::kit::files::TempDir;
use crate::kit::only_thread::OnlyThread;
use crate::kit::ring::{Call, Done, check_done, linked};
use crate::kit::{sys, until};

tests! { "blocking":
    fifo_opens => "no open of a FIFO that waits for its peer holds up WAIT, whatever the way there";
    fifo_opens_inline => "an owner opens a FIFO whose peer is there, and fails without its peer if it may not wait";
    fifo_opens_starved => "if no thread can open a FIFO, its owner waits for the peer";
}

fn fifo(dir: &TempDir, name: &str) -> Check<CString> {
    let path = dir.join(name);
    let mode = libc::S_IFIFO | 0o600;
    let made = plain!(SYS_mknodat, libc::AT_FDCWD, path.as_c_str(), mode, 0);
    check_ret!("mknodat", made, 0);
    Ok(path)
}

fn open(path: &CStr, flags: i32) -> Call {
    call!(SYS_open, path.as_ptr(), flags | libc::O_CLOEXEC, 0o600)
}

/// Both ends of a FIFO, which lets others' opens return.
fn both_ends(path: &CStr) -> Check<OwnedFd> {
    Ok(ok!(
        "open",
        sys::open(path, libc::O_RDWR | libc::O_CLOEXEC, 0)
    ))
}

fn close(way: &str, done: Done) -> Check {
    check!(
        done.result > 2 && done.reason == REASON_NONE,
        "{way}: {done:?}"
    );
    drop(sys::own(done.result as i32));
    Ok(())
}

fn fifo_opens() -> Check {
    let dir = TempDir::new()?;
    let engine = Engine::open()?;
    let mut ring = engine.ring(1)?;
    let ends: Vec<_> = (0..6)
        .map(|number| fifo(&dir, &number.to_string()))
        .collect::<Check<_>>()?;
    let link = dir.join("link");
    let made = plain!(SYS_symlink, ends[3].as_c_str(), link.as_c_str());
    check_ret!("symlink", made, 0);
    let at = ok!("open", sys::open(&ends[4], libc::O_PATH, 0));
    let magic = format!("/proc/self/fd/{}", at.as_raw_fd());
    let magic = CString::new(magic).expect("no zero byte");
    let ways = [
        ("for reading", vec![open(&ends[0], libc::O_RDONLY)]),
        ("for writing", vec![open(&ends[1], libc::O_WRONLY)]),
        (
            "with O_CREAT",
            vec![open(
                &ends[2],
                libc::O_CREAT | libc::O_TRUNC | libc::O_WRONLY,
            )],
        ),
        ("by a symlink", vec![open(&link, libc::O_RDONLY)]),
        ("by a link of /proc", vec![open(&magic, libc::O_RDONLY)]),
        (
            "in a chain",
            vec![linked(call!(SYS_getppid)), open(&ends[5], libc::O_RDONLY)],
        ),
    ];
    let mut slots = Vec::new();
    for ((way, calls), path) in ways.iter().zip(&ends) {
        let kept = std::sync::Mutex::new(None);
        let held = not_held_up(&mut ring, calls, || {
            *kept.lock().expect("no panic") = both_ends(path).ok();
        });
        slots.extend(held.map_err(|failure| failure.within(way))?.pop());
    }
    engine.until_pool(0, "threads that wait", |pool| {
        pool.blocked == ways.len() as u64
    })?;
    let _peers: Vec<_> = ends
        .iter()
        .map(|path| both_ends(path))
        .collect::<Check<_>>()?;
    for (done, (way, _)) in ring.finish(&slots)?.into_iter().zip(&ways) {
        close(way, done)?;
    }
    Ok(())
}

fn fifo_opens_inline() -> Check {
    let dir = TempDir::new()?;
    let engine = Engine::open()?;
    let mut ring = engine.ring(1)?;
    let path = fifo(&dir, "fifo")?;
    let mut by_owner = |way: &str, call: Call| -> Check<Done> {
        let before = engine.stats()?.inline_done;
        let done = ring.run(call)?;
        let inline = engine.stats()?.inline_done - before;
        check_eq!(format!("{way}: opens by their owner"), inline, 1);
        Ok(done)
    };
    let done = by_owner("no writer", open(&path, libc::O_RDONLY | libc::O_NONBLOCK))?;
    close("no writer", done)?;
    let done = by_owner("no reader", open(&path, libc::O_WRONLY | libc::O_NONBLOCK))?;
    check_done("no reader", done, -i64::from(libc::ENXIO), REASON_NONE)?;
    close(
        "both ends",
        by_owner("both ends", open(&path, libc::O_RDWR))?,
    )?;
    let _peer = both_ends(&path)?;
    close(
        "a writer",
        by_owner("a writer", open(&path, libc::O_RDONLY))?,
    )?;
    close(
        "a reader",
        by_owner("a reader", open(&path, libc::O_WRONLY))?,
    )
}

fn fifo_opens_starved() -> Check {
    let dir = TempDir::new()?;
    let path = fifo(&dir, "fifo")?;
    let engine = Engine::open()?;
    let only = OnlyThread::block(&engine)?;
    let mut ring = engine.ring(1)?;
    let slots = ring.post_all(&[open(&path, libc::O_RDONLY), call!(SYS_getpid)]);
    let peer = std::thread::scope(|scope| -> Check<OwnedFd> {
        let other = scope.spawn(|| {
            let mut peer = None;
            // Opens for writing without waiting only if the reader waits.
            let flags = libc::O_WRONLY | libc::O_NONBLOCK;
            let found = until("the owner in its open", || {
                peer = sys::open(&path, flags, 0).ok();
                peer.is_some()
            });
            let late = peer.map_or_else(|| both_ends(&path), Ok);
            found.and(late)
        });
        ok!("ALL", ring.wait(Policy::All));
        other.join().expect("no panic")
    })?;
    let dones = ring.finish(&slots)?;
    close("open", dones[0])?;
    drop(peer);
    only.release()
}
