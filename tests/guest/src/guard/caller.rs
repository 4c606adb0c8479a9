// SPDX-License-Identifier: MIT OR Apache-2.0
//! Files that tell threads about themselves tell an entry about its owner, or the call is refused.

use std::fs;

use super::thread::refused;
use super::{Path, on_each_path};
use crate::check::{Check, Ret, skip};
use crate::kit::abi::{REASON_CHAIN, REASON_CONTEXT, REASON_NONE};
use crate::kit::cgroup::Cgroup;
use crate::kit::files::{pipe, write_all};
use crate::kit::mode::Mode;
use crate::kit::ring::{Call, Ring};
use crate::kit::{limits, memory, signals, sys};

tests! { "guard":
    signalfd => "read, poll and epoll of a signalfd see the owner's signals and no other thread's";
    signalfd_blocked => "a sleeping read of a signalfd gets a signal sent to the owner's thread";
    signalfd_edges => "a SIGPIPE that is already pending is not a new event at a signalfd";
    thread_self => "/proc/thread-self is the owner";
    timer_slack => "an owner without rights reads and sets its timer slack in /proc";
    login_uid => "a write to loginuid sets the owner's login, or is refused";
    cgroup_threads => "0 written to cgroup.threads moves the owner";
    memory_keys => "with memory protection keys only the owner itself makes its calls";
}

/// Two real-time signals: the number of the first one, and their bits.
const SIGNAL: i32 = 40;
const BOTH: u64 = 3 << (SIGNAL - 1);

/// Blocks these signals in the calling thread and its future children.
fn block(signals: u64) -> Check {
    let set = std::ptr::from_ref(&signals);
    check_ret!(
        "block",
        plain!(SYS_rt_sigprocmask, libc::SIG_BLOCK, set, 0, 8),
        0
    );
    Ok(())
}

/// A signalfd for the first signal.
fn signal_file(flags: i32) -> Check<i64> {
    let wanted = 1u64 << (SIGNAL - 1);
    let fd = plain!(SYS_signalfd4, -1, std::ptr::from_ref(&wanted), 8, flags);
    check!(fd >= 0, "signalfd4: {}", Ret(fd));
    Ok(fd)
}

fn first(path: Path, ring: &mut Ring, call: Call) -> Check<i64> {
    let done = path.run(ring, call)?;
    let what = format!("reason of call {}", call.nr);
    check_eq!(what, done[0].reason, REASON_NONE);
    Ok(done[0].result)
}

/// Runs a test on each path with the first thread as the owner, and with another one. The test gets
/// the ID of the first thread if another one is the owner.
fn as_each_owner(test: impl Fn(Path, Option<i32>) -> Check + Sync) -> Check {
    on_each_path(|path| {
        block(BOTH)?;
        test(path, None).map_err(|failure| failure.within("first thread"))?;
        let (main, test) = (sys::gettid(), &test);
        std::thread::scope(|scope| {
            let other = scope.spawn(move || test(path, Some(main)));
            other.join().expect("no panic")
        })
        .map_err(|failure| failure.within("second thread"))
    })
}

/// Returns the answers of posted poll, epoll_wait and read on a signalfd.
fn see(path: Path, ring: &mut Ring, fd: i64, epoll: i64) -> Check<[i64; 3]> {
    let mut list = [fd as u32, 1];
    let (mut event, mut info) = ([0u32; 3], [0u32; 32]);
    let polled = first(path, ring, call!(SYS_poll, list.as_mut_ptr(), 1, 0))?;
    let events = event.as_mut_ptr();
    let waited = first(path, ring, call!(SYS_epoll_wait, epoll, events, 1, 0))?;
    let read = first(path, ring, call!(SYS_read, fd, info.as_mut_ptr(), 128))?;
    if read == 128 {
        check_eq!("signal", info[0], SIGNAL as u32);
        check_eq!("code SI_TKILL", info[2] as i32, -6);
    }
    Ok([polled, waited, read])
}

fn signalfd() -> Check {
    let again = -i64::from(libc::EAGAIN);
    as_each_owner(|path, other| {
        let (_engine, mut ring) = path.start()?;
        let fd = signal_file(libc::SFD_NONBLOCK)?;
        let epoll = plain!(SYS_epoll_create1, 0);
        let event = [1u32, 7, 0];
        let added = plain!(SYS_epoll_ctl, epoll, 1, fd, event.as_ptr());
        check_ret!("EPOLL_CTL_ADD", added, 0);
        for _ in 0..3 {
            if let Some(other) = other {
                signals::send(other, SIGNAL);
            }
            let seen = see(path, &mut ring, fd, epoll)?;
            check_eq!("without a signal", seen, [0, 0, again]);
            signals::send(sys::gettid(), SIGNAL);
            let seen = see(path, &mut ring, fd, epoll)?;
            check_eq!("with a signal", seen, [1, 1, 128]);
        }
        Ok(())
    })
}

fn signalfd_blocked() -> Check {
    as_each_owner(|path, other| {
        // A chain would read twice.
        if matches!(path, Path::Chain(_)) {
            return Ok(());
        }
        let (engine, mut ring) = path.start()?;
        let fd = signal_file(0)?;
        let mut info = [0u8; 128];
        let call = call!(SYS_read, fd, info.as_mut_ptr(), 128);
        let slots = ring.post_blocked(&path.entries(call))?;
        engine.until_stats("a blocked read", |stats| stats.peak_blocked >= 1)?;
        if let Some(other) = other {
            signals::send(other, SIGNAL);
        }
        check!(!ring.is_done(slots[0]), "another thread's signal was read");
        signals::send(sys::gettid(), SIGNAL);
        check_ret!("read", ring.finish(&slots)?[0].result, 128);
        check_eq!("signal", info[0], SIGNAL as u8);
        Ok(())
    })
}

fn signalfd_edges() -> Check {
    on_each_path(|path| {
        block(BOTH | (1 << (libc::SIGPIPE - 1)))?;
        signals::default_action(libc::SIGPIPE)?;
        let (_engine, mut ring) = path.start()?;
        let fd = signal_file(0)?;
        let epoll = plain!(SYS_epoll_create1, 0);
        // EPOLLET | EPOLLIN
        let event = [0x8000_0001u32, 7, 0];
        let added = plain!(SYS_epoll_ctl, epoll, 1, fd, event.as_ptr());
        check_ret!("EPOLL_CTL_ADD", added, 0);
        let mut got = [0u32; 3];
        let mut wait = || plain!(SYS_epoll_wait, epoll, got.as_mut_ptr(), 1, 0);
        check_eq!("before", wait(), 0);
        let news = || plain!(SYS_kill, std::process::id(), SIGNAL);
        news();
        check_eq!("a signal", [wait(), wait()], [1, 0]);
        let (from, to) = pipe()?;
        drop(from);
        plain!(SYS_write, &to, b"x".as_ptr(), 1);
        check_eq!("SIGPIPE makes epoll look again", [wait(), wait()], [1, 0]);
        plain!(SYS_write, &to, b"x".as_ptr(), 1);
        check_eq!("once more, plainly", wait(), 0);
        let written = first(path, &mut ring, call!(SYS_write, &to, b"x".as_ptr(), 1))?;
        check_ret!("posted write", written, -libc::EPIPE);
        check_eq!("once more, posted", wait(), 0);
        news();
        check_eq!("another signal", [wait(), wait()], [1, 0]);
        Ok(())
    })
}

fn thread_self() -> Check {
    as_each_owner(|path, _| {
        let (_engine, mut ring) = path.start()?;
        let mut name = [0u8; 64];
        let (to, len) = (name.as_mut_ptr(), name.len());
        let link = call!(SYS_readlink, c"/proc/thread-self", to, len);
        let read = first(path, &mut ring, link)?;
        let want = format!("{}/task/{}", std::process::id(), sys::gettid());
        check_ret!("length of the name", read, want.len() as i64);
        check_eq!("name", &name[..want.len()], want.as_bytes());
        Ok(())
    })
}

/// A file of /proc, opened to read and write.
fn own_file(name: &std::ffi::CStr) -> Check<std::os::fd::OwnedFd> {
    match sys::open(name, libc::O_RDWR, 0) {
        Ok(file) => Ok(file),
        Err(error) => skip(format!("needs {name:?}: {error:?}")),
    }
}

fn timer_slack() -> Check {
    limits::need_root()?;
    on_each_path(|path| {
        let file = own_file(c"/proc/self/timerslack_ns")?;
        check_ret!("setresuid", plain!(SYS_setresuid, 77, 77, 77), 0);
        let (_engine, mut ring) = path.start()?;
        let write = call!(SYS_write, &file, b"77000".as_ptr(), 5);
        check_ret!("write", first(path, &mut ring, write)?, 5);
        let slack = plain!(SYS_prctl, libc::PR_GET_TIMERSLACK);
        check_ret!("slack of the owner", slack, 77_000);
        let mut text = [0u8; 16];
        let read = call!(SYS_pread64, &file, text.as_mut_ptr(), 16, 0);
        check_ret!("read", first(path, &mut ring, read)?, 6);
        check_eq!("text", &text[..6], b"77000\n");
        Ok(())
    })
}

fn login_uid() -> Check {
    limits::need_root()?;
    on_each_path(|path| {
        let file = own_file(c"/proc/self/loginuid")?;
        let (_engine, mut ring) = path.start()?;
        let login = || fs::read_to_string("/proc/self/loginuid").unwrap_or_default();
        let before = login();
        let done = path.run(&mut ring, call!(SYS_write, &file, b"12".as_ptr(), 2))?;
        if refused(path, "a write to loginuid", &done)? {
            check_eq!("loginuid", login(), before);
        } else {
            check_ret!("write", done[0].result, 2);
            check_eq!("loginuid", login(), "12");
        }
        Ok(())
    })
}

fn cgroup_threads() -> Check {
    limits::need_root()?;
    let group = Cgroup::new(None)?;
    group.write("cgroup.type", "threaded")?;
    as_each_owner(|path, _| {
        let (_engine, mut ring) = path.start()?;
        // Makes a syscall thread, which is not moved.
        ring.run(call!(SYS_getppid).asynchronous())?;
        let name = group.file("cgroup.threads");
        let file = ok!("cgroup.threads", sys::open(&name, libc::O_RDWR, 0));
        let write = call!(SYS_write, &file, b"0".as_ptr(), 1);
        check_ret!("write", first(path, &mut ring, write)?, 1);
        let threads = group.read("cgroup.threads");
        let own = sys::gettid().to_string();
        check!(
            threads.lines().any(|line| line == own),
            "the owner {own} is not among: {threads:?}"
        );
        Ok(())
    })
}

/// A key that forbids all access at first.
fn new_key() -> Check<i64> {
    let key = plain!(SYS_pkey_alloc, 0, 1);
    if key < 0 {
        return skip(format!("needs memory protection keys: {}", Ret(key)));
    }
    Ok(key)
}

fn memory_keys() -> Check {
    on_each_path(|path| {
        let (_engine, mut ring) = path.start()?;
        let (from, to) = pipe()?;
        write_all(&to, b"x")?;
        let buffer = memory::pages(4096)?;
        let at_owner = matches!(path, Path::Mode(Mode::Inline) | Path::Chain(Mode::Inline));
        // Memory that may only be executed has a key of its own, and the rights of all threads are
        // the same.
        let code = memory::pages(4096)?;
        plain!(SYS_mprotect, code, 4096, libc::PROT_EXEC);
        let ask = |ring: &mut Ring| path.run(ring, call!(SYS_getppid));
        check_eq!("reason before", ask(&mut ring)?[0].reason, REASON_NONE);

        let key = new_key()?;
        let prot = libc::PROT_READ | libc::PROT_WRITE;
        let tagged = plain!(SYS_pkey_mprotect, buffer, 4096, prot, key);
        check_ret!("pkey_mprotect", tagged, 0);
        for call in [
            call!(SYS_getppid),
            call!(SYS_getcwd, buffer, 64),
            call!(SYS_read, &from, buffer, 1),
        ] {
            for (place, done) in path.run(&mut ring, call)?.iter().enumerate() {
                let want = match done.reason {
                    // On every path a read may go to a syscall thread.
                    REASON_CONTEXT if !at_owner || call.nr == libc::SYS_read as u16 => {
                        -libc::EOPNOTSUPP
                    }
                    REASON_CHAIN if place == 1 => -libc::ECANCELED,
                    REASON_NONE if at_owner && call.nr == libc::SYS_getppid as u16 => continue,
                    REASON_NONE if at_owner => -libc::EFAULT,
                    reason => fail!("call {}: reason {reason}, {}", call.nr, Ret(done.result)),
                };
                check_ret!(format!("call {}", call.nr), done.result, want);
            }
        }

        check_ret!("munmap", plain!(SYS_munmap, buffer, 4096), 0);
        check_ret!("pkey_free", plain!(SYS_pkey_free, key), 0);
        check_eq!("reason after", ask(&mut ring)?[0].reason, REASON_NONE);
        Ok(())
    })
}
