// SPDX-License-Identifier: MIT OR Apache-2.0
//! SIGSTOP, SIGCONT and the freezer with calls in flight.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use super::Busy;
use crate::check::Check;
use crate::kit::cgroup::Cgroup;
use crate::kit::child::{Child, End, reap, spawn};
use crate::kit::memory::Shared;
use crate::kit::mode::Mode;
use crate::kit::{process, until};

tests! { "life":
    stop_and_continue => "SIGSTOP stops syscall threads too; after SIGCONT all calls complete";
    stop_and_kill => "kill -9 of a stopped process with calls in flight";
    freeze_and_thaw => "a frozen cgroup stands still; after the thaw all calls complete";
    freeze_and_kill => "kill -9 of a frozen process with calls in flight";
}

#[derive(Default)]
struct Progress {
    calls: AtomicU64,
    finish: AtomicBool,
}

impl Progress {
    fn until_more(&self) -> Check {
        let before = self.calls.load(Ordering::Relaxed);
        until("calls that go on", || {
            self.calls.load(Ordering::Relaxed) > before + 2
        })
    }

    fn check_still(&self) -> Check {
        let before = self.calls.load(Ordering::Relaxed);
        std::thread::sleep(Duration::from_millis(30));
        let after = self.calls.load(Ordering::Relaxed);
        check_eq!("calls made while nothing should run", after - before, 0);
        Ok(())
    }
}

/// A child that makes calls beside blocked ones until it is told to finish.
fn busy_child(mode: Mode, progress: &Shared<Progress>, group: Option<&Cgroup>) -> Check<Child> {
    progress.finish.store(false, Ordering::Relaxed);
    let mut child = spawn(|link| {
        if let Some(group) = group {
            group.enter()?;
        }
        let mut busy = Busy::start(mode)?;
        link.ready();
        while !progress.finish.load(Ordering::Relaxed) {
            busy.call()?;
            progress.calls.fetch_add(1, Ordering::Relaxed);
        }
        busy.end()
    })?;
    child.wait_ready()?;
    progress.until_more()?;
    Ok(child)
}

/// Stops a child, and waits until all its threads have stopped.
pub fn stop(child: &Child) -> Check {
    child.signal(libc::SIGSTOP);
    let mut end = None;
    until("a stopped child", || {
        end = reap(child.pid, libc::WUNTRACED);
        end.is_some()
    })?;
    check_eq!("state of the child", end, Some(End::Stopped(libc::SIGSTOP)));
    until("all threads in state T", || {
        process::tasks(child.pid)
            .iter()
            .all(|task| task.state == 'T')
    })
    .map_err(|failure| failure.within(format_args!("{:?}", process::tasks(child.pid))))
}

fn stop_and_continue() -> Check {
    let progress = Shared::<Progress>::new()?;
    for mode in Mode::ALL {
        let child = busy_child(mode, &progress, None)?;
        for _ in 0..2 {
            stop(&child)?;
            progress.check_still()?;
            child.signal(libc::SIGCONT);
            progress.until_more()?;
        }
        progress.finish.store(true, Ordering::Relaxed);
        child
            .join()
            .map_err(|failure| failure.within(format_args!("mode {mode:?}")))?;
    }
    Ok(())
}

fn stop_and_kill() -> Check {
    let base = process::refcnt();
    let progress = Shared::<Progress>::new()?;
    for mode in Mode::ALL {
        let child = busy_child(mode, &progress, None)?;
        stop(&child)?;
        child.kill()?;
        process::until_refcnt(base)?;
    }
    Ok(())
}

/// Freezes a group, and waits until all its threads are frozen.
pub fn freeze(group: &Cgroup) -> Check {
    group.write("cgroup.freeze", 1)?;
    until("a frozen cgroup", || {
        group.read("cgroup.events").contains("frozen 1")
    })
}

fn freeze_and_thaw() -> Check {
    let group = Cgroup::new(None)?;
    let progress = Shared::<Progress>::new()?;
    for mode in Mode::ALL {
        let child = busy_child(mode, &progress, Some(&group))?;
        freeze(&group).map_err(|failure| {
            process::print_threads(child.pid);
            failure.within(format_args!("mode {mode:?}"))
        })?;
        progress.check_still()?;
        group.write("cgroup.freeze", 0)?;
        progress.until_more()?;
        progress.finish.store(true, Ordering::Relaxed);
        child.join()?;
    }
    Ok(())
}

fn freeze_and_kill() -> Check {
    let base = process::refcnt();
    let group = Cgroup::new(None)?;
    let progress = Shared::<Progress>::new()?;
    for mode in Mode::ALL {
        let child = busy_child(mode, &progress, Some(&group))?;
        freeze(&group)?;
        child.kill()?;
        group.write("cgroup.freeze", 0)?;
        process::until_refcnt(base)?;
    }
    Ok(())
}
