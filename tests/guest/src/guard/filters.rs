// SPDX-License-Identifier: MIT OR Apache-2.0
//! seccomp: a posted call is made if the filters that its owner has at that moment allow it.
//! Otherwise nothing happens, unless the filter kills for the call.

use std::os::fd::OwnedFd;
use std::path::Path as File;
use std::sync::atomic::Ordering;

use super::{Path, check_guarded, on_each_path, on_paths};
use crate::check::Check;
use crate::kit::abi::{ENTRY_LINK, Param, REASON_GUARDED, REASON_NONE};
use crate::kit::child::{End, in_child, spawn};
use crate::kit::files::{BlockedReads, Leased, TempDir, pipe, readable};
use crate::kit::limits::slow_kernel;
use crate::kit::mode::Mode;
use crate::kit::ring::{Call, Done, Ring, check_done};
use crate::kit::seccomp::{self, Action, Filter};
use crate::kit::{process, signals, sys, until};

tests! { "guard":
    every_action => "filters installed after REGISTER, all actions, all paths: allowed calls run";
    every_action_before => "the same with filters installed before the device is opened";
    all_threads => "the same with filters that another thread installs for all (TSYNC)";
    kills => "a filter that kills for a call kills the poster, on every path";
    kills_before => "the same with filters installed before the device is opened";
    kills_all => "the same with filters that another thread installs for all (TSYNC)";
    kills_thread => "a filter that kills the thread leaves the others of its process alone";
    strict => "strict mode: a polled entry is refused, and the process lives";
    posted_before => "entries posted before a filter is installed are refused afterwards";
    in_chain => "a filter installed while a chain waits in its first call stops the second";
    handed_off => "entries that wait for a thread behind a blocked one are refused after a filter";
    stacked => "a second and a third filter do not make the first one less strict";
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

/// Checks that calls were made, the first of them with this result.
fn check_made(what: &str, done: &[Done], result: i64) -> Check {
    check_done(what, done[0], result, REASON_NONE)?;
    for done in &done[1..] {
        check_eq!(format!("reason of {what}"), done.reason, REASON_NONE);
    }
    Ok(())
}

/// When and by which thread a filter is installed.
#[derive(Clone, Copy)]
struct Held {
    action: Action,
    /// Before the device is opened.
    before: bool,
    /// By another thread, for all.
    all: bool,
}

impl Held {
    fn install(self) -> Check<Option<OwnedFd>> {
        let install = || seccomp::install(CALL, self.action, self.all);
        let installed = if self.all {
            std::thread::scope(|scope| scope.spawn(install).join().expect("no panic"))
        } else {
            install()
        };
        Ok(ok!("seccomp", installed))
    }
}

/// Posts the call on the path, with and without ASYNC, and checks its result.
fn post(path: Path, ring: &mut Ring, dir: &TempDir, action: Action) -> Check {
    let parent = plain!(SYS_getppid);
    for round in 0..4 {
        let (call, made) = make_dir(dir, &format!("{path:?} {round}"));
        for call in [call, call.asynchronous()] {
            check_made("getppid", &path.run(ring, call!(SYS_getppid))?, parent)?;
            let done = path.run(ring, call)?;
            if action == Action::Allow {
                // In a chain the second call finds the directory there.
                check_made("mkdirat", &done, 0)?;
                check_ret!("rmdir", plain!(SYS_rmdir, made.0.as_c_str()), 0);
            } else {
                check_guarded(&done)?;
                made.check_not()?;
            }
        }
    }
    Ok(())
}

/// Makes the call plainly: now the filter acts.
fn make_plainly(dir: &TempDir, action: Action, listener: Option<OwnedFd>) -> Check {
    let (call, made) = make_dir(dir, "plainly");
    // Without its supervisor the call fails.
    drop(listener);
    let result = sys::syscall(CALL, call.args);
    match action {
        Action::Allow | Action::Log => {
            check_ret!("plain mkdirat", result, 0);
            check_ret!("rmdir", plain!(SYS_rmdir, made.0.as_c_str()), 0);
        }
        Action::Errno(errno) => check_ret!("plain mkdirat", result, -errno),
        Action::Trap => check_eq!("SIGSYS", signals::counted(), 1),
        _ => check_ret!("plain mkdirat", result, -libc::ENOSYS),
    }
    made.check_not()
}

/// Runs the test with a filter.
fn with_filter(path: Path, dir: &TempDir, held: Held) -> Check {
    signals::count_signal(libc::SIGSYS, 0)?;
    let mut listener = None;
    if held.before {
        listener = held.install()?;
    }
    let (_engine, mut ring) = path.start()?;
    if !held.before {
        listener = held.install()?;
    }
    post(path, &mut ring, dir, held.action)?;
    check_eq!("SIGSYS", signals::counted(), 0);
    if let Some(listener) = &listener {
        let told = readable(listener, std::time::Duration::ZERO);
        check!(!told, "the supervisor was asked");
    }
    make_plainly(dir, held.action, listener)
}

/// Runs the test with each action that does not kill. On a slow kernel each action is tried on some
/// paths only.
fn each_action(before: bool, all: bool) -> Check {
    let dir = TempDir::new()?;
    let step = if slow_kernel() { 4 } else { 1 };
    let actions = Action::ALL.into_iter().filter(|action| !action.kills());
    for (number, action) in actions.enumerate() {
        // A listener belongs to one thread's filter.
        if all && action == Action::Notify {
            continue;
        }
        let held = Held {
            action,
            before,
            all,
        };
        let wanted = |place: usize| (place + number) % step == 0;
        on_paths(wanted, |path| with_filter(path, &dir, held))
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

/// Posts a call for which the filter kills.
fn post_to_die(path: Path, dir: &TempDir, held: Held) -> Check {
    if held.before {
        held.install()?;
    }
    let (_engine, mut ring) = path.start()?;
    if !held.before {
        held.install()?;
    }
    let parent = plain!(SYS_getppid);
    check_made("getppid", &path.run(&mut ring, call!(SYS_getppid))?, parent)?;
    let (call, _made) = make_dir(dir, "killed");
    let done = path.run(&mut ring, call);
    // At this plain call, at the latest, the filter kills.
    plain!(SYS_getppid);
    fail!("the filter has not killed: {done:?}")
}

fn each_kill(before: bool, all: bool) -> Check {
    let dir = TempDir::new()?;
    for action in [Action::KillThread, Action::KillProcess] {
        let held = Held {
            action,
            before,
            all,
        };
        for path in Path::ALL {
            let mut child = spawn(|_| post_to_die(path, &dir, held))?;
            let end = child.end()?;
            let killed = matches!(end, End::Signal { signal, .. } if signal == libc::SIGSYS);
            check!(killed, "{action:?} {path:?}: the child ended with {end:?}");
            make_dir(&dir, "killed").1.check_not()?;
        }
    }
    Ok(())
}

fn kills() -> Check {
    each_kill(false, false)
}

fn kills_before() -> Check {
    each_kill(true, false)
}

fn kills_all() -> Check {
    each_kill(false, true)
}

fn kills_thread() -> Check {
    let dir = TempDir::new()?;
    for mode in Mode::ALL {
        in_child(|| {
            let (engine, mut ring) = mode.start(1)?;
            let (call, made) = make_dir(&dir, "killed");
            let (tell, told) = std::sync::mpsc::channel();
            let fd = engine.fd();
            // Nobody joins a thread that the kernel has killed.
            let _thread = std::thread::spawn(move || -> Check {
                let _ = tell.send(sys::gettid());
                let registered = ok!("REGISTER", crate::kit::engine::register(fd, 1));
                let mut ring = Ring::map(fd, &registered)?;
                ring.mode = mode;
                ok!("seccomp", seccomp::install(CALL, Action::KillThread, false));
                ring.run(call).map(drop)?;
                plain!(SYS_getppid);
                println!("# the filter has not killed");
                sys::exit_now(1)
            });
            let tid = told.recv().unwrap_or_default();
            let pid = std::process::id() as i32;
            until("the end of the thread", || {
                process::tasks(pid).iter().all(|task| task.tid != tid)
            })?;
            made.check_not()?;
            let parent = plain!(SYS_getppid);
            check_ret!("getppid", ring.result(call!(SYS_getppid))?, parent);
            check_ret!("mkdirat", ring.result(call)?, 0);
            check_ret!("rmdir", plain!(SYS_rmdir, made.0.as_c_str()), 0);
            Ok(())
        })
        .map_err(|failure| failure.within(format_args!("mode {mode:?}")))?;
    }
    Ok(())
}

/// Strict mode forbids WAIT, KICK and every way in which the kit waits: only memory accesses are
/// left.
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
        // A poller takes the entries before the filter is installed.
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
            ok!("seccomp", seccomp::install(CALL, ERRNO, false));
            reads.release(&to)?;
            let done = ring.finish(&slots)?;
            check_done("read", done[0], 2, REASON_NONE)?;
            check_guarded(&done[1..])?;
            made.check_not()
        })
        .map_err(|failure| failure.within(format_args!("mode {mode:?}")))?;
    }
    Ok(())
}

fn handed_off() -> Check {
    let dir = TempDir::new()?;
    in_child(|| {
        let (engine, mut ring) = Mode::Inline.start(1)?;
        let leased = [Leased::at(dir.join("one"))?, Leased::at(dir.join("two"))?];
        let (call, made) = make_dir(&dir, "handed off");
        // With only one thread, the rest waits behind the open of the second file.
        engine.set(Param::MaxThreads, 1)?;
        let calls = [leased[0].open(), leased[1].open(), call, call];
        let slots = ring.post_all(&calls);
        let done = std::thread::scope(|scope| {
            let other = scope.spawn(|| -> Check {
                engine.until_stats("two calls that have blocked", |stats| {
                    stats.peak_blocked >= 2
                })?;
                ok!("seccomp", seccomp::install(CALL, ERRNO, true));
                // The thread's file first: the thread goes on with the entries behind it.
                leased[1].release()?;
                leased[0].release()?;
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

fn stacked() -> Check {
    let dir = TempDir::new()?;
    on_each_path(|path| {
        let (_engine, mut ring) = path.start()?;
        let (call, made) = make_dir(&dir, "stacked");
        let filters = [
            Filter::new().rule(CALL, ERRNO),
            Filter::new().rule(CALL, Action::Allow),
            Filter::new().rule(libc::SYS_getpgrp, Action::Log),
        ];
        for filter in filters {
            ok!("seccomp", filter.otherwise(Action::Allow).hold());
            check_guarded(&path.run(&mut ring, call)?)?;
            let parent = plain!(SYS_getppid);
            check_made("getppid", &path.run(&mut ring, call!(SYS_getppid))?, parent)?;
        }
        check_guarded(&path.run(&mut ring, call!(SYS_getpgrp))?)?;
        made.check_not()
    })
}
