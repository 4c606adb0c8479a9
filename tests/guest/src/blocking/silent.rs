// SPDX-License-Identifier: MIT OR Apache-2.0
//! Paths that lead into file systems that do not answer: not even the first call holds up WAIT.

use std::ffi::{CStr, CString};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};

use super::mounts::{Disk, Fuse, Mount, is_aborted, not_held_up};
use crate::check::Check;
use crate::kit::abi::{Policy, REASON_NONE};
use crate::kit::engine::Engine;
use crate::kit::files::{TempDir, pipe};
use crate::kit::limits::need_root;
use crate::kit::only_thread::OnlyThread;
use crate::kit::ring::{Call, Ring, check_done, linked};
use crate::kit::{sys, until};

tests! { "blocking":
    silent_daemon => "no call with a path into FUSE holds up WAIT if the daemon does not answer, whatever the way there";
    silent_daemon_starved => "if no thread can make such a call, its owner waits for the daemon";
    silent_automount => "nor does a call that triggers an automount which nobody makes";
    silent_frozen => "nor does a call that waits for a frozen file system";
    silent_is_not_slow => "such a call keeps no other calls with threads, although another call has slept for long";
    silent_elsewhere => "calls with other paths are inline, while such calls wait";
}

fn access(path: &CStr) -> Call {
    call!(SYS_access, path.as_ptr(), libc::F_OK)
}

fn silent_daemon() -> Check {
    let dir = TempDir::new()?;
    let fuse = Fuse::new(&dir)?;
    let (name, root) = (fuse.mount.path("name"), fuse.mount.path(""));
    let here = dir.file("here", b"x")?;
    let link = dir.join("link");
    check_ret!(
        "symlink",
        plain!(SYS_symlink, name.as_c_str(), link.as_c_str()),
        0
    );
    let fd: OwnedFd = ok!("open", sys::open(&root, libc::O_PATH, 0));
    let fd: RawFd = fd.as_raw_fd();
    let magic = CString::new(format!("/proc/self/fd/{fd}/name")).expect("no NUL");
    let out = dir.join("out");
    let mut attributes = [0u64; 32];
    let statx = call!(
        SYS_statx,
        libc::AT_FDCWD,
        name.as_ptr(),
        0,
        0xfff,
        attributes.as_mut_ptr()
    );
    let ways = [
        ("absolute", vec![access(&name)]),
        (
            "from a directory",
            vec![call!(SYS_openat, fd, c"name".as_ptr(), libc::O_RDONLY)],
        ),
        ("by a symlink", vec![access(&link)]),
        ("by a link of /proc", vec![access(&magic)]),
        ("statx", vec![statx]),
        ("mkdir", vec![call!(SYS_mkdir, name.as_ptr(), 0o700)]),
        (
            "created",
            vec![call!(
                SYS_open,
                name.as_ptr(),
                libc::O_CREAT | libc::O_WRONLY,
                0o600
            )],
        ),
        (
            "the second path",
            vec![call!(SYS_link, here.as_ptr(), name.as_ptr())],
        ),
        (
            "a link to a name there",
            vec![call!(SYS_link, name.as_ptr(), out.as_ptr())],
        ),
        (
            "in a chain",
            vec![linked(call!(SYS_getppid)), access(&name)],
        ),
    ];
    let engine = Engine::open()?;
    let mut ring = engine.ring(1)?;
    let mut slots = Vec::new();
    for (way, calls) in &ways {
        let held = not_held_up(&mut ring, calls, || fuse.end());
        slots.extend(held.map_err(|failure| failure.within(way))?.pop());
    }
    fuse.end();
    for (done, (way, _)) in ring.finish(&slots)?.iter().zip(&ways) {
        check!(
            is_aborted(done.result) && done.reason == REASON_NONE,
            "{way}: {done:?}"
        );
    }
    Ok(())
}

/// WAIT for all results of this thread. Once it sleeps, another one ends the daemon.
pub fn wait_until_it_ends(fuse: &Fuse, ring: &Ring) -> Check {
    let me = sys::gettid();
    std::thread::scope(|scope| {
        let other = scope.spawn(|| {
            let asleep = super::slow::until_asleep(me);
            fuse.end();
            asleep
        });
        ok!("ALL", ring.wait(Policy::All));
        other.join().expect("no panic")
    })
}

fn silent_daemon_starved() -> Check {
    let dir = TempDir::new()?;
    let fuse = Fuse::new(&dir)?;
    let engine = Engine::open()?;
    let only = OnlyThread::block(&engine)?;
    let mut ring = engine.ring(1)?;
    let before = engine.stats()?.inline_done;
    let name = fuse.mount.path("name");
    let slots = ring.post_all(&[access(&name), call!(SYS_getpid)]);
    wait_until_it_ends(&fuse, &ring)?;
    let dones = ring.finish(&slots)?;
    check!(is_aborted(dones[0].result), "access: {:?}", dones[0]);
    check_eq!("executed inline", engine.stats()?.inline_done, before + 2);
    only.release()
}

fn silent_automount() -> Check {
    need_root()?;
    let dir = TempDir::new()?;
    let (from, to) = pipe()?;
    // Processes of the group pgrp are the daemon, and wait for nothing.
    let options = format!(
        "fd={},pgrp=2,minproto=5,maxproto=5,indirect",
        to.as_raw_fd()
    );
    let mount = Mount::new(&dir, c"silent", c"autofs", &options)?;
    let root = ok!("open", sys::open(&mount.path(""), libc::O_RDONLY, 0));
    // AUTOFS_IOC_CATATONIC: the daemon has given up.
    let release = || {
        let _ = sys::ioctl(root.as_raw_fd(), 0x9362, 0);
    };
    let name = mount.path("name/file");
    let engine = Engine::open()?;
    let mut ring = engine.ring(1)?;
    let slots = not_held_up(&mut ring, &[access(&name)], release)?;
    engine.until_pool(0, "a thread that waits for the mount", |pool| {
        pool.blocked == 1
    })?;
    release();
    let done = ring.finish(&slots)?[0];
    check_done("access", done, -i64::from(libc::ENOENT), REASON_NONE)?;
    drop((from, to));
    Ok(())
}

fn silent_frozen() -> Check {
    let dir = TempDir::new()?;
    let disk = Disk::new(&dir)?;
    let (inner, name) = (disk.mount.path("inner"), disk.mount.path("name"));
    check_ret!("mkdir", plain!(SYS_mkdir, inner.as_c_str(), 0o700), 0);
    let kind = c"tmpfs";
    let made = plain!(SYS_mount, kind, inner.as_c_str(), kind, 0, 0);
    check_ret!("mount", made, 0);
    let upwards = disk.mount.path("inner/../up");
    let inside = ok!("open", sys::open(&inner, libc::O_PATH, 0));
    let ways = [
        ("absolute", call!(SYS_mkdir, name.as_ptr(), 0o700)),
        (
            "into a mount and out of it",
            call!(SYS_mkdir, upwards.as_ptr(), 0o700),
        ),
        (
            "out of a mount",
            call!(SYS_mkdirat, inside.as_raw_fd(), c"../out".as_ptr(), 0o700),
        ),
    ];
    let engine = Engine::open()?;
    let mut ring = engine.ring(1)?;
    let frozen = disk.freeze()?;
    let mut slots = Vec::new();
    for (way, call) in &ways {
        let held = not_held_up(&mut ring, &[*call], || frozen.thaw());
        slots.extend(held.map_err(|failure| failure.within(way))?);
    }
    frozen.thaw();
    for (done, (way, _)) in ring.finish(&slots)?.iter().zip(&ways) {
        check_done(way, *done, 0, REASON_NONE)?;
    }
    check_ret!(
        "umount",
        plain!(SYS_umount2, inner.as_c_str(), libc::MNT_DETACH),
        0
    );
    Ok(())
}

fn silent_elsewhere() -> Check {
    let dir = TempDir::new()?;
    let fuse = Fuse::new(&dir)?;
    let engine = Engine::open()?;
    let mut ring = engine.ring(1)?;
    let name = fuse.mount.path("name");
    let slots = not_held_up(&mut ring, &[access(&name)], || fuse.end())?;
    // The root directory, this one, and two other file systems.
    for path in [
        c"/",
        dir.join("").as_c_str(),
        c"/proc/self/mem",
        c"/dev/null",
    ] {
        let before = engine.stats()?.inline_done;
        check_ret!("access", ring.result(access(path))?, 0);
        let path = path.to_string_lossy();
        let inline = engine.stats()?.inline_done - before;
        check_eq!(format!("calls for {path} by their owner"), inline, 1);
    }
    fuse.end();
    let done = ring.finish(&slots)?[0];
    check!(is_aborted(done.result), "access: {done:?}");
    Ok(())
}

fn silent_is_not_slow() -> Check {
    let dir = TempDir::new()?;
    let fuse = Fuse::new(&dir)?;
    let engine = Engine::open()?;
    let mut ring = engine.ring(1)?;
    let name = fuse.mount.path("name");
    let slots = not_held_up(&mut ring, &[access(&name)], || fuse.end())?;
    engine.until_pool(0, "a thread that waits for the daemon", |pool| {
        pool.blocked == 1
    })?;
    super::slow::sleep_long_in(&mut ring, &dir)?;
    until("a call by its owner", || {
        super::slow::is_inline(&engine, &mut ring).unwrap_or(false)
    })?;
    check!(!ring.is_done(slots[0]), "the daemon has answered");
    fuse.end();
    let done = ring.finish(&slots)?[0];
    check!(is_aborted(done.result), "access: {done:?}");
    Ok(())
}
