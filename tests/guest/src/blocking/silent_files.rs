// SPDX-License-Identifier: MIT OR Apache-2.0
//! Open files of file systems that do not answer: not even the first call holds up WAIT.

use std::os::fd::AsRawFd;

use super::mounts::{Disk, Fuse, is_aborted, not_held_up};
use super::silent::wait_until_it_ends;
use crate::check::Check;
use crate::kit::abi::REASON_NONE;
use crate::kit::engine::Engine;
use crate::kit::files::TempDir;
use crate::kit::memory;
use crate::kit::only_thread::OnlyThread;
use crate::kit::ring::{Call, check_done, linked};
use crate::kit::sys;

tests! { "blocking":
    silent_descriptor => "no call on an open file of FUSE holds up WAIT if the daemon does not answer";
    silent_descriptor_inline => "calls on other files are inline, while such calls wait";
    silent_descriptor_starved => "if no thread can make such a call, its owner waits for the daemon";
    silent_descriptor_frozen => "nor does a call on an open file of a frozen file system";
}

fn silent_descriptor() -> Check {
    let dir = TempDir::new()?;
    let fuse = Fuse::new(&dir)?;
    let file = fuse.open()?;
    let path = ok!("open", sys::open(&fuse.mount.path(""), libc::O_PATH, 0));
    let (fd, path) = (file.as_raw_fd(), path.as_raw_fd());
    let buffer = memory::pages(4096)? as usize;
    let (name, value) = (c"user.name".as_ptr(), c"value".as_ptr());
    const FS_IOC_GETFLAGS: u32 = 0x8008_6601;
    let ways: [(&str, Vec<Call>); 13] = [
        ("fstat", vec![call!(SYS_fstat, fd, buffer)]),
        ("fstat of a path", vec![call!(SYS_fstat, path, buffer)]),
        ("fstatfs", vec![call!(SYS_fstatfs, fd, buffer)]),
        (
            "newfstatat",
            vec![call!(
                SYS_newfstatat,
                fd,
                c"".as_ptr(),
                buffer,
                libc::AT_EMPTY_PATH
            )],
        ),
        (
            "statx",
            vec![call!(
                SYS_statx,
                path,
                c"".as_ptr(),
                libc::AT_EMPTY_PATH,
                0xfff,
                buffer
            )],
        ),
        ("getdents64", vec![call!(SYS_getdents64, fd, buffer, 4096)]),
        ("fsync", vec![call!(SYS_fsync, fd)]),
        ("ioctl", vec![call!(SYS_ioctl, fd, FS_IOC_GETFLAGS, buffer)]),
        ("fchmod", vec![call!(SYS_fchmod, fd, 0o700)]),
        ("utimensat", vec![call!(SYS_utimensat, fd, 0, 0, 0)]),
        (
            "fsetxattr",
            vec![call!(SYS_fsetxattr, fd, name, value, 5, 0)],
        ),
        (
            "in a chain",
            vec![linked(call!(SYS_getppid)), call!(SYS_fstat, fd, buffer)],
        ),
        (
            "first in a chain",
            vec![
                linked(call!(SYS_fstatfs, fd, buffer)),
                call!(SYS_fstat, fd, buffer),
            ],
        ),
    ];
    let engine = Engine::open()?;
    let mut ring = engine.ring(1)?;
    let mut slots = Vec::new();
    for (way, calls) in &ways {
        let held = not_held_up(&mut ring, calls, || fuse.end());
        let held = held.map_err(|failure| failure.within(way))?;
        // In a chain, one that waits for the daemon.
        slots.push(held);
    }
    fuse.end();
    for (slots, (way, _)) in slots.iter().zip(&ways) {
        let dones = ring.finish(slots)?;
        let done = dones.iter().find(|done| is_aborted(done.result));
        check!(
            done.is_some_and(|done| done.reason == REASON_NONE),
            "{way}: {dones:?}"
        );
    }
    Ok(())
}

fn silent_descriptor_inline() -> Check {
    let dir = TempDir::new()?;
    let fuse = Fuse::new(&dir)?;
    let root = ok!("open", sys::open(&fuse.mount.path(""), libc::O_PATH, 0));
    let here = dir.file("here", b"text")?;
    let file = ok!("open", sys::open(&here, libc::O_RDWR, 0));
    let buffer = memory::pages(4096)? as usize;
    let engine = Engine::open()?;
    let mut ring = engine.ring(1)?;
    let call = call!(SYS_fstat, &root, buffer);
    let slots = not_held_up(&mut ring, &[call], || fuse.end())?;
    for (name, call, result) in [
        ("fstat", call!(SYS_fstat, &file, buffer), 0),
        ("pread64", call!(SYS_pread64, &file, buffer, 4, 0), 4),
        ("read", call!(SYS_read, &file, buffer, 4), 4),
        (
            "dup2",
            call!(SYS_dup2, &file, &file),
            i64::from(file.as_raw_fd()),
        ),
        // The number of no open file.
        (
            "fchmod",
            call!(SYS_fchmod, 1 << 20, 0),
            -i64::from(libc::EBADF),
        ),
    ] {
        let before = engine.stats()?.inline_done;
        check_ret!(name, ring.result(call)?, result);
        let inline = engine.stats()?.inline_done - before;
        check_eq!(format!("{name} by its owner"), inline, 1);
    }
    check!(!ring.is_done(slots[0]), "the daemon has answered");
    fuse.end();
    let done = ring.finish(&slots)?[0];
    check!(is_aborted(done.result), "fstat: {done:?}");
    Ok(())
}

fn silent_descriptor_starved() -> Check {
    let dir = TempDir::new()?;
    let fuse = Fuse::new(&dir)?;
    let root = ok!("open", sys::open(&fuse.mount.path(""), libc::O_PATH, 0));
    let buffer = memory::pages(4096)? as usize;
    let engine = Engine::open()?;
    let only = OnlyThread::block(&engine)?;
    let mut ring = engine.ring(1)?;
    let before = engine.stats()?.inline_done;
    let slots = ring.post_all(&[call!(SYS_fstat, &root, buffer), call!(SYS_getpid)]);
    wait_until_it_ends(&fuse, &ring)?;
    let dones = ring.finish(&slots)?;
    check!(is_aborted(dones[0].result), "fstat: {:?}", dones[0]);
    check_eq!("executed inline", engine.stats()?.inline_done, before + 2);
    only.release()
}

fn silent_descriptor_frozen() -> Check {
    let dir = TempDir::new()?;
    let disk = Disk::new(&dir)?;
    let flags = libc::O_CREAT | libc::O_RDWR | libc::O_CLOEXEC;
    let file = ok!("open", sys::open(&disk.mount.path("file"), flags, 0o600));
    let text = c"text".as_ptr();
    let ways = [
        ("write", call!(SYS_write, &file, text, 4), 4),
        ("pwrite64", call!(SYS_pwrite64, &file, text, 4, 0), 4),
        ("fchmod", call!(SYS_fchmod, &file, 0o600), 0),
        ("ftruncate", call!(SYS_ftruncate, &file, 64), 0),
        ("utimensat", call!(SYS_utimensat, &file, 0, 0, 0), 0),
    ];
    let engine = Engine::open()?;
    let mut ring = engine.ring(1)?;
    let frozen = disk.freeze()?;
    let mut slots = Vec::new();
    for (way, call, _) in &ways {
        let held = not_held_up(&mut ring, &[*call], || frozen.thaw());
        slots.extend(held.map_err(|failure| failure.within(way))?);
    }
    frozen.thaw();
    for (done, (way, _, result)) in ring.finish(&slots)?.iter().zip(&ways) {
        check_done(way, *done, *result, REASON_NONE)?;
    }
    Ok(())
}
