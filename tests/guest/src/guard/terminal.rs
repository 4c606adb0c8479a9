// SPDX-License-Identifier: MIT OR Apache-2.0
//! A background job that reads from its terminal with posted calls.

use std::os::fd::OwnedFd;

use super::{Path, on_each_path};
use crate::check::Check;
use crate::kit::abi::REASON_NONE;
use crate::kit::child::{Child, End, reap, spawn};
use crate::kit::files::write_all;
use crate::kit::{signals, sys, until};

tests! { "guard":
    background_read => "SIGTTIN stops a background job, and its read goes on in the foreground";
    background_read_blocked => "if the owner blocks SIGTTIN, the read is EIO";
    background_read_handled => "a handler for SIGTTIN runs, and the read is EINTR";
}

pub(super) fn block(signal: i32) -> Check {
    let set = 1u64 << (signal - 1);
    let at = std::ptr::from_ref(&set);
    let ret = plain!(SYS_rt_sigprocmask, libc::SIG_BLOCK, at, 0, 8);
    check_ret!("rt_sigprocmask", ret, 0);
    Ok(())
}

const TIOCGPTN: u64 = 0x8004_5430;
const TIOCSPTLCK: u64 = 0x4004_5431;

/// Makes the calling process the leader of a new session with a new controlling terminal. Returns
/// the terminal's master and the terminal.
pub(super) fn terminal() -> Check<(OwnedFd, OwnedFd)> {
    plain!(SYS_setsid);
    // The end of the terminal must not end the leader.
    block(libc::SIGHUP)?;
    let flags = libc::O_RDWR | libc::O_NOCTTY;
    let master = ok!("/dev/ptmx", sys::open(c"/dev/ptmx", flags, 0));
    let (unlock, mut number) = (0i32, 0u32);
    let at = std::ptr::from_ref(&unlock);
    check_ret!("unlock", plain!(SYS_ioctl, &master, TIOCSPTLCK, at), 0);
    let at = std::ptr::from_mut(&mut number);
    check_ret!("number", plain!(SYS_ioctl, &master, TIOCGPTN, at), 0);
    let name = std::ffi::CString::new(format!("/dev/pts/{number}")).expect("no zero byte");
    let terminal = ok!("the terminal", sys::open(&name, libc::O_RDWR, 0));
    Ok((master, terminal))
}

/// A background job that reads a line with a posted call and expects this result.
fn job(path: Path, terminal: &OwnedFd, ready: impl Fn() -> Check, want: i64) -> Check<Child> {
    let mut child = spawn(|link| {
        check_ret!("setpgid", plain!(SYS_setpgid, 0, 0), 0);
        ready()?;
        let (_engine, mut ring) = path.start()?;
        link.ready();
        link.wait_go()?;
        let mut line = [0u8; 16];
        // A chain would read twice; its first link is enough.
        let mut call = path.entries(call!(SYS_read, terminal, line.as_mut_ptr(), 16))[0];
        call.flags &= !crate::kit::abi::ENTRY_LINK;
        let done = ring.run(call)?;
        check_eq!("reason", done.reason, REASON_NONE);
        check_ret!("read", done.result, want);
        if want > 0 {
            check_eq!("line", &line[..want as usize], b"hello\n");
        }
        Ok(())
    })?;
    child.wait_ready()?;
    child.go();
    Ok(child)
}

fn background_read() -> Check {
    on_each_path(|path| {
        let (master, terminal) = terminal()?;
        let ready = || signals::default_action(libc::SIGTTIN);
        let child = job(path, &terminal, ready, 6)?;
        until("SIGTTIN", || {
            reap(child.pid, libc::WUNTRACED) == Some(End::Stopped(libc::SIGTTIN))
        })?;
        write_all(&master, b"hello\n")?;
        let group = std::ptr::from_ref(&child.pid);
        let set = plain!(SYS_ioctl, &terminal, libc::TIOCSPGRP, group);
        check_ret!("TIOCSPGRP", set, 0);
        child.signal(libc::SIGCONT);
        child.join()
    })
}

fn background_read_blocked() -> Check {
    on_each_path(|path| {
        let (_master, terminal) = terminal()?;
        let ready = || block(libc::SIGTTIN);
        job(path, &terminal, ready, -i64::from(libc::EIO))?.join()
    })
}

fn background_read_handled() -> Check {
    on_each_path(|path| {
        let (_master, terminal) = terminal()?;
        let ready = || signals::count_signal(libc::SIGTTIN, 0);
        job(path, &terminal, ready, -i64::from(libc::EINTR))?.join()
    })
}
