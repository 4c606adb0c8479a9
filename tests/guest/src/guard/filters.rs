// SPDX-License-Identifier: MIT OR Apache-2.0
//! seccomp: calls that a filter decides about are not made from a page, whatever its decision would
//! be.

use std::os::unix::fs::OpenOptionsExt;
use std::path::Path as File;
use std::sync::atomic::Ordering;

use super::{Path, check_guarded, on_each_path, on_paths};
use crate::check::Check;
use crate::kit::abi::{ENTRY_LINK, Param, REASON_CHAIN, REASON_GUARDED};
use crate::kit::child::{End, in_child, spawn};
use crate::kit::files::{BlockedReads, TempDir, pipe, readable};
use crate::kit::limits::slow_kernel;
use crate::kit::mode::Mode;
use crate::kit::ring::{Call, Done};
use crate::kit::seccomp::{self, Action};
use crate::kit::{signals, sys};

tests! { "guard":
    every_action => "a filter installed after REGISTER, every action, on every path: nothing is made";
    every_action_before => "the same with filters installed before the device is opened";
    all_threads => "the same with filters that another thread installs for all (TSYNC)";
    kill_is_for_plain_calls => "a filter that kills does so for a plain call, not for an entry";
    strict => "strict mode: a polled entry is refused, and the process lives";
    posted_before => "entries that were posted before the filter came are refused after it";
    in_chain => "a filter that comes while a chain waits in its first call stops the second";
    handed_off => "entries behind one that blocks, waiting for a thread, are refused after a filter";
    two_filters => "a second filter does not make the first one less strict";
}

const ERRNO: Action = Action::Errno(seccomp::FILTERED);
const CALL: i64 = libc::SYS_mkdirat;

fn make_dir(dir: &TempDir, name: &str) -> (Call, Made) {
    let path = dir.join(name);
    let call = call!(SYS_mkdirat, libc::AT_FDCWD, path.as_c_str(), 0o700);
    (call, Made(path))
}

/// A call, with the path that it points to.
struct Made(std::ffi::CString);

impl Made {
    fn check_not(&self) -> Check {
        let made = File::new(self.0.to_str().unwrap_or_default()).exists();
        check!(!made, "a filtered call has made a directory");
        Ok(())
    }
}

/// Posts the call on the path, and checks that it is refused without any effect of the filter.
fn check_not_made(path: Path, dir: &TempDir, install: impl FnOnce() -> Check) -> Check {
    let (_engine, mut ring) = path.start()?;
    let (call, made) = make_dir(dir, &format!("after {path:?}"));
    install()?;
    for _ in 0..4 {
        check_guarded(&path.run(&mut ring, call)?)?;
        check_guarded(&path.run(&mut ring, call.asynchronous())?)?;
        // Calls that the filter would allow are refused too.
        check_guarded(&path.run(&mut ring, call!(SYS_getppid))?)?;
    }
    made.check_not()
}

/// Runs the test with a filter that has this action for the call.
fn with_action(path: Path, dir: &TempDir, action: Action, before: bool, all: bool) -> Check {
    signals::count_signal(libc::SIGSYS, 0)?;
    let mut listener = None;
    let mut install = || -> Check {
        let install = || seccomp::install(CALL, action, all);
        let installed = if all {
            std::thread::scope(|scope| scope.spawn(install).join().expect("no panic"))
        } else {
            install()
        };
        listener = ok!("seccomp", installed);
        Ok(())
    };
    if before {
        install()?;
        check_not_made(path, dir, || Ok(()))?;
    } else {
        check_not_made(path, dir, install)?;
    }
    check_eq!("SIGSYS", signals::counted(), 0);
    if let Some(listener) = listener {
        let told = readable(&listener, std::time::Duration::ZERO);
        check!(!told, "the supervisor was asked");
    }
    Ok(())
}

fn each_action(before: bool, all: bool) -> Check {
    let dir = TempDir::new()?;
    // To the module all actions are the same. On a slow kernel each action is tried on some paths
    // only.
    let step = if slow_kernel() { 4 } else { 1 };
    for (number, action) in Action::ALL.into_iter().enumerate() {
        // A listener belongs to one thread's filter.
        if all && action == Action::Notify {
            continue;
        }
        let wanted = |place: usize| (place + number) % step == 0;
        on_paths(wanted, |path| with_action(path, &dir, action, before, all))
            .map_err(|failure| failure.within(format_args!("{action:?}")))?;
    }
    Ok(())
}

fn every_action() -> Check {
    each_action(false, false)
}

fn every_action_before() -> Check {
    each_action(true, false)
}

fn all_threads() -> Check {
    each_action(false, true)
}

fn kill_is_for_plain_calls() -> Check {
    let dir = TempDir::new()?;
    let mut child = spawn(|_| {
        let path = Path::Mode(Mode::Kick);
        with_action(path, &dir, Action::KillProcess, false, false)?;
        let (call, _made) = make_dir(&dir, "plainly");
        sys::syscall(CALL, call.args);
        fail!("the filter does not hold for a plain call")
    })?;
    let end = child.end()?;
    let killed = matches!(end, End::Signal { signal, .. } if signal == libc::SIGSYS);
    check!(killed, "the child ended with {end:?}");
    Ok(())
}

/// Strict mode forbids WAIT, KICK and every way in which the kit waits: only memory is left.
fn strict() -> Check {
    crate::kit::limits::need_two_cpus()?;
    let dir = TempDir::new()?;
    let (call, made) = make_dir(&dir, "strict");
    let mut child = spawn(|_| {
        let (engine, mut ring) = Mode::Poller.start(1)?;
        engine.set(Param::IdleNs, 60_000_000_000)?;
        let done = ring.run(call!(SYS_getppid))?;
        check_ret!("getppid", done.result, plain!(SYS_getppid));
        check_ret!("seccomp", plain!(SYS_seccomp, 0, 0, 0), 0);
        let slot = ring.post(call);
        let mut left = 2_000_000_000u64;
        while !ring.is_done(slot) && left != 0 {
            left -= 1;
            std::hint::spin_loop();
        }
        let entry = ring.entry(slot);
        let good = entry.result.load(Ordering::Relaxed) == -i64::from(libc::EOPNOTSUPP)
            && entry.reason.load(Ordering::Relaxed) == REASON_GUARDED;
        // exit_group is forbidden.
        sys::exit_thread(if good { 0 } else { 3 })
    })?;
    check_eq!("end of the strict process", child.end()?, End::Exit(0));
    made.check_not()
}

fn posted_before() -> Check {
    let dir = TempDir::new()?;
    for path in Path::ALL {
        // A poller takes them before the filter comes.
        if path.mode() == Mode::Poller {
            continue;
        }
        in_child(|| {
            let (_engine, mut ring) = path.start()?;
            let (call, made) = make_dir(&dir, "posted");
            let slots: Vec<Vec<usize>> =
                (0..8).map(|_| ring.post_all(&path.entries(call))).collect();
            ok!("seccomp", seccomp::install(CALL, ERRNO, false));
            for slots in slots {
                check_guarded(&ring.finish(&slots)?)?;
            }
            made.check_not()
        })
        .map_err(|failure| failure.within(format_args!("{path:?}")))?;
    }
    Ok(())
}

fn in_chain() -> Check {
    let dir = TempDir::new()?;
    for mode in [Mode::Kick, Mode::Async, Mode::Poller] {
        in_child(|| {
            let (_engine, mut ring) = Path::Chain(mode).start()?;
            let (call, made) = make_dir(&dir, "chained");
            let (from, to) = pipe()?;
            let reads = BlockedReads::new(&from, 1);
            let mut read = reads.calls()[0];
            read.flags |= ENTRY_LINK;
            let slots = ring.post_blocked(&[read, call])?;
            // The read sleeps by now, or was refused: in both cases the call behind it is not made.
            ok!("seccomp", seccomp::install(CALL, ERRNO, false));
            reads.release(&to)?;
            let done = ring.finish(&slots)?;
            check_second(done[0], done[1])?;
            made.check_not()
        })
        .map_err(|failure| failure.within(format_args!("mode {mode:?}")))?;
    }
    Ok(())
}

/// The first call is made or not; the second is not.
fn check_second(first: Done, second: Done) -> Check {
    match first.reason {
        REASON_GUARDED => check_eq!("reason behind a refused call", second.reason, REASON_CHAIN),
        _ => {
            check_ret!("read", first.result, 2);
            check_guarded(&[second])?;
        }
    }
    Ok(())
}

fn handed_off() -> Check {
    let dir = TempDir::new()?;
    in_child(|| {
        let (engine, mut ring) = Mode::Inline.start(1)?;
        // Opening a named pipe for reading sleeps until a writer comes, also inline.
        let fifos = [dir.join("one"), dir.join("two")];
        for fifo in &fifos {
            let made = plain!(SYS_mknod, fifo.as_c_str(), libc::S_IFIFO | 0o600, 0);
            check_ret!("mknod", made, 0);
        }
        let open = |fifo: &std::ffi::CStr| call!(SYS_open, fifo, libc::O_RDONLY);
        let (call, made) = make_dir(&dir, "handed off");
        // With one thread only, the rest waits behind the second pipe until that is opened.
        engine.set(Param::MaxThreads, 1)?;
        let calls = [open(&fifos[0]), open(&fifos[1]), call, call];
        let slots = ring.post_all(&calls);
        let done = std::thread::scope(|scope| {
            let other = scope.spawn(|| -> Check {
                engine.until_stats("two calls that have blocked", |stats| {
                    stats.peak_blocked >= 2
                })?;
                ok!("seccomp", seccomp::install(CALL, ERRNO, true));
                // The thread's pipe first: the thread goes on with the entries behind it.
                for fifo in fifos.iter().rev() {
                    let name = fifo.to_str().unwrap_or_default();
                    let mut options = std::fs::OpenOptions::new();
                    // Opens without blocking, which fails until the reader is there.
                    options.write(true).custom_flags(libc::O_NONBLOCK);
                    crate::kit::until("a reader of the pipe", || options.open(name).is_ok())?;
                }
                Ok(())
            });
            let done = ring.finish(&slots);
            other.join().expect("no panic")?;
            done
        })?;
        for done in &done[2..] {
            check_guarded(&[*done])?;
        }
        made.check_not()
    })
}

fn two_filters() -> Check {
    let dir = TempDir::new()?;
    on_each_path(|path| {
        check_not_made(path, &dir, || {
            ok!("seccomp", seccomp::install(CALL, ERRNO, false));
            ok!(
                "seccomp",
                seccomp::install(libc::SYS_getppid, Action::Allow, false)
            );
            Ok(())
        })
    })
}
