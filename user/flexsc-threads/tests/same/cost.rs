// SPDX-License-Identifier: MIT OR Apache-2.0
//! Measures the cost of the library: instructions of a caught call, time at the start.

use std::mem;
use std::process::Command;
use std::time::Duration;

use nix::sys::ptrace;
use nix::sys::signal::Signal;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

use crate::kit::{command, compile, library};
use crate::sites::traced;

/// How many more instructions than a plain call a caught call may take.
const LIMIT: u64 = 100;
/// How much more CPU time the start of a program with threads may take.
const START: Duration = Duration::from_millis(5);

/// Steps through a program and returns the instructions between its breakpoints.
fn instructions(mut command: Command) -> Vec<u64> {
    let pid = traced(&mut command);
    let mut counts = Vec::new();
    let wait = || waitpid(pid, Some(WaitPidFlag::__WALL)).expect("it is traced");
    // The kernel itself says so; a step is TRAP_TRACE.
    let is_breakpoint =
        |pid: Pid| ptrace::getsiginfo(pid).expect("it is stopped").si_code == libc::SI_KERNEL;
    // To the first breakpoint at full speed.
    ptrace::cont(pid, None).expect("it goes on");
    loop {
        match wait() {
            WaitStatus::Stopped(_, Signal::SIGTRAP) if is_breakpoint(pid) => break,
            WaitStatus::Stopped(_, signal) => ptrace::cont(pid, signal).expect("it goes on"),
            status => panic!("no breakpoint: {status:?}"),
        }
    }
    let mut count = 0;
    loop {
        ptrace::step(pid, None).expect("it steps");
        match wait() {
            WaitStatus::Stopped(..) => count += 1,
            WaitStatus::Exited(_, 0) => return counts,
            status => panic!("the program ended early: {status:?}"),
        }
        if is_breakpoint(pid) {
            counts.push(count);
            count = 0;
            if counts.len() == 11 {
                ptrace::cont(pid, None).expect("it goes on");
                assert!(matches!(wait(), WaitStatus::Exited(_, 0)));
                return counts;
            }
        }
    }
}

/// Five calls, the code up to the second round, and the same calls again.
const CALLS: &[&str] = &["getppid", "write", "read", "futex", "no call"];

/// The instructions of each call, natively and under the library.
fn of_calls(args: &[&str]) -> Option<Vec<(&'static str, u64, u64)>> {
    let program = compile("cost.c", args)?;
    let native = instructions(command(&program, &[]));
    let mut ours = command(&program, &[]);
    ours.env("LD_PRELOAD", library());
    let ours = instructions(ours);
    let second = CALLS.len() + 1;
    let pairs = native[second..].iter().zip(&ours[second..]);
    let calls = CALLS.iter().zip(pairs);
    Some(
        calls
            .map(|(name, (native, ours))| (*name, *native, *ours))
            .collect(),
    )
}

#[test]
fn a_caught_call_costs_less_than_100_instructions() {
    for (name, native, ours) in of_calls(&[]).into_iter().flatten() {
        println!("{name}: {native} instructions natively, {ours} under the library");
        assert!(ours > native, "{name}: it was not caught");
        assert!(
            ours - native <= LIMIT,
            "{name}: {ours} instructions, natively {native}"
        );
    }
}

#[test]
fn a_program_with_one_thread_pays_nothing() {
    for (name, native, ours) in of_calls(&["-DONE_THREAD"]).into_iter().flatten() {
        assert_eq!(native, ours, "{name}");
    }
}

/// CPU time of a run.
#[expect(clippy::zombie_processes, reason = "wait4 is called for it")]
fn cpu_time(mut command: Command) -> Duration {
    let child = command.spawn().expect("it starts");
    let pid = child.id() as libc::pid_t;
    let mut status = 0;
    // SAFETY: Zeros are a valid value.
    let mut usage: libc::rusage = unsafe { mem::zeroed() };
    // SAFETY: Both pointers are valid.
    let waited = unsafe { libc::wait4(pid, &raw mut status, 0, &raw mut usage) };
    assert_eq!((waited, status), (pid, 0), "{command:?}");
    let time = |time: libc::timeval| {
        Duration::from_secs(time.tv_sec as u64) + Duration::from_micros(time.tv_usec as u64)
    };
    time(usage.ru_utime) + time(usage.ru_stime)
}

#[test]
fn the_start_costs_less_than_5_ms() {
    let Some(program) = compile("cost.c", &["-DSTART_ONLY"]) else {
        return;
    };
    // The shortest of many: other work of the machine only makes runs longer.
    let shortest =
        |run: &dyn Fn() -> Duration| (0..40).map(|_| run()).min().expect("there are some");
    let native = shortest(&|| cpu_time(command(&program, &[])));
    let ours = shortest(&|| {
        let mut command = command(&program, &[]);
        command.env("LD_PRELOAD", library());
        cpu_time(command)
    });
    println!("start: {native:?} natively, {ours:?} under the library");
    assert!(ours < native + START, "{ours:?}, natively {native:?}");
}
