// SPDX-License-Identifier: MIT OR Apache-2.0
//! Checks the addresses at which calls are made, with a tracer. Once the first thread has been
//! created, all calls must come from the library.

use std::collections::HashSet;
use std::ffi::c_long;
use std::fs;
use std::ops::Range;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use nix::sys::ptrace::{self, Options};
use nix::sys::signal::Signal;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

use crate::kit::{Log, command, compile, under};

/// Starts a program that is traced by the calling thread and has not run yet.
#[expect(clippy::zombie_processes, reason = "the tracer waits for it")]
pub fn traced(command: &mut Command) -> Pid {
    // SAFETY: The closure makes one call, which is allowed between fork and exec.
    unsafe { command.pre_exec(|| ptrace::traceme().map_err(Into::into)) };
    let child = command.spawn().expect("it starts");
    let pid = Pid::from_raw(child.id() as i32);
    let status = waitpid(pid, Some(WaitPidFlag::__WALL)).expect("it is traced");
    assert_eq!(status, WaitStatus::Stopped(pid, Signal::SIGTRAP));
    pid
}

/// Calls that are always made at the program's own site, whatever the handler says.
const REISSUED: &[c_long] = &[
    libc::SYS_rt_sigreturn,
    libc::SYS_clone,
    libc::SYS_fork,
    libc::SYS_vfork,
    libc::SYS_clone3,
];
/// The calls among these whose sites have stubs before there are threads.
const HOOKED: &[c_long] = &[libc::SYS_clone, libc::SYS_clone3];

/// A tracer's observations of a program.
#[derive(Default)]
struct Seen {
    /// Calls since the first thread.
    calls: usize,
    reissued: usize,
    /// Number and address of calls that did not come from the library.
    missed: Vec<(c_long, u64)>,
    pid: i32,
}

/// The addresses from which calls may come once there is a thread: the library and the kernel's own
/// object.
fn sources(pid: Pid, log: &Log) -> Vec<Range<u64>> {
    let parse = |text: &str| u64::from_str_radix(text.trim_start_matches("0x"), 16);
    let line = log.line("the library is from ");
    let (_, rest) = line
        .split_once("the library is from ")
        .expect("it is there");
    let (start, rest) = rest.split_once(" to ").expect("a range");
    let (end, _) = rest.split_once(',').expect("a range");
    let library = parse(start).expect("a number")..parse(end).expect("a number");
    let maps = fs::read_to_string(format!("/proc/{pid}/maps")).expect("it lives");
    let vdso = maps.lines().find(|line| line.ends_with("[vdso]"));
    let vdso = vdso.map(|line| {
        let (range, _) = line.split_once(' ').expect("a range");
        let (start, end) = range.split_once('-').expect("a range");
        parse(start).expect("a number")..parse(end).expect("a number")
    });
    vdso.into_iter().chain([library]).collect()
}

/// Runs a program under the library and watches where its threads make their calls. Other processes
/// that it makes run unwatched.
fn watch(mut command: Command, log: &Log) -> Seen {
    under(&mut command, log);
    let pid = traced(&mut command);
    let options =
        Options::PTRACE_O_TRACESYSGOOD | Options::PTRACE_O_TRACECLONE | Options::PTRACE_O_EXITKILL;
    ptrace::setoptions(pid, options).expect("it is traced");
    ptrace::syscall(pid, None).expect("it goes on");
    let mut seen = Seen {
        pid: pid.as_raw(),
        ..Seen::default()
    };
    let mut sources_of = Vec::new();
    let mut new = HashSet::new();
    loop {
        let (thread, status) = wait();
        if libc::WIFEXITED(status) && thread == pid {
            assert_eq!(libc::WEXITSTATUS(status), 0, "the program failed");
            return seen;
        }
        assert!(!libc::WIFSIGNALED(status) || thread != pid, "{status:#x}");
        if !libc::WIFSTOPPED(status) {
            continue;
        }
        let signal = match libc::WSTOPSIG(status) {
            SYSCALL_STOP => {
                seen.call(thread, &sources_of);
                0
            }
            libc::SIGTRAP if status >> 16 != 0 => {
                if sources_of.is_empty() {
                    sources_of = sources(pid, log);
                }
                0
            }
            // A thread begins with a stop.
            libc::SIGSTOP if new.insert(thread) => 0,
            signal => signal,
        };
        go_on(thread, signal);
    }
}

/// The stop before or behind a call.
const SYSCALL_STOP: i32 = libc::SIGTRAP | 0x80;

/// Waits for a tracee of this thread: other tests have children too. Does not use nix, which
/// does not know real-time signals.
fn wait() -> (Pid, i32) {
    let mut status = 0;
    // SAFETY: The pointer is valid.
    let pid = unsafe { libc::waitpid(-1, &raw mut status, libc::__WALL | libc::__WNOTHREAD) };
    assert!(pid > 0, "no thread is left");
    (Pid::from_raw(pid), status)
}

/// Lets a thread run to its next stop, with a signal. It may have been killed meanwhile.
fn go_on(thread: Pid, signal: i32) {
    // SAFETY: The call does not touch memory.
    unsafe { libc::ptrace(libc::PTRACE_SYSCALL, thread.as_raw(), 0, signal) };
}

impl Seen {
    fn call(&mut self, thread: Pid, sources: &[Range<u64>]) {
        const ENTRY: u8 = 1;
        let Ok(info) = ptrace::syscall_info(thread) else {
            return;
        };
        if info.op != ENTRY {
            return;
        }
        // SAFETY: The kernel says that this is the entry of a call.
        let nr = unsafe { info.u.entry.nr } as c_long;
        let has_threads = !sources.is_empty();
        if HOOKED.contains(&nr) || has_threads && REISSUED.contains(&nr) {
            self.reissued += 1;
        }
        if !has_threads {
            return;
        }
        self.calls += 1;
        let at = info.instruction_pointer;
        let is_caught = sources.iter().any(|range| range.contains(&at));
        if !is_caught && !REISSUED.contains(&nr) {
            self.missed.push((nr, at));
        }
    }
}

#[track_caller]
fn check(program: &Path, args: &[&str], least: usize) {
    let log = Log::new();
    let mut command = command(program, args);
    command.stdout(std::process::Stdio::null());
    let seen = watch(command, &log);
    assert!(
        seen.missed.is_empty(),
        "missed: {:x?}\n{}",
        seen.missed,
        log.text()
    );
    assert!(seen.calls >= least, "only {} calls", seen.calls);
    // The program's own last line: its children print theirs.
    let text = log.text();
    let counts = text
        .lines()
        .find(|line| line.contains(&format!("[{}]: ", seen.pid)) && line.contains("REISSUE"))
        .unwrap_or_else(|| panic!("no counts:\n{text}"));
    assert!(
        counts.contains(&format!("REISSUE {},", seen.reissued)),
        "{} seen: {counts}",
        seen.reissued
    );
}

#[test]
fn no_call_of_threads_is_missed() {
    if let Some(program) = compile("threads.c", &[]) {
        check(&program, &[], 50);
    }
}

#[test]
fn no_call_of_locks_is_missed() {
    if let Some(program) = compile("locks.c", &[]) {
        check(&program, &[], 50);
    }
}

#[test]
fn no_call_of_signals_is_missed() {
    if let Some(program) = compile("signals.c", &[]) {
        check(&program, &[], 50);
    }
}

#[test]
fn no_call_of_cancellation_is_missed() {
    if let Some(program) = compile("cancel.c", &[]) {
        check(&program, &[], 50);
    }
}

#[test]
fn no_call_of_a_late_object_is_missed() {
    let Some(object) = compile("sites.c", &["-shared", "-fPIC", "-DONLY_PATCHED"]) else {
        return;
    };
    if let Some(program) = compile("late.c", &[]) {
        check(&program, &[object.to_str().expect("a path")], 50);
    }
}

/// The program's own `syscall` instruction is too far away for a stub.
#[test]
fn what_is_missed_is_seen() {
    let Some(program) = compile("own.c", &[]) else {
        return;
    };
    let log = Log::new();
    let seen = watch(command(&program, &[]), &log);
    let numbers: Vec<c_long> = seen.missed.iter().map(|(nr, _)| *nr).collect();
    assert_eq!(numbers, [libc::SYS_getppid]);
    let line = log.line("the program+0x");
    assert!(line.contains("more than 2 GB away"), "{line}");
}
