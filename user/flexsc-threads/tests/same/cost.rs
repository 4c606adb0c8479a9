// SPDX-License-Identifier: MIT OR Apache-2.0
//! Measures the cost of the library: instructions of a caught call, time at the start.

use std::mem;
use std::process::Command;
use std::time::Duration;

use nix::sys::ptrace;
use nix::unistd::Pid;

use crate::kit::{Log, command, compile, library, under_user};
use crate::sites::traced;

/// How many more instructions than a plain call a caught call may take.
const LIMIT: u64 = 100;
/// How much more CPU time the start of a program with threads may take.
const START: Duration = Duration::from_millis(5);

/// What has become of a tracee. Not by nix, which knows no real-time signals.
fn status_of(pid: Pid) -> i32 {
    let mut status = 0;
    // SAFETY: The pointer is valid.
    let waited = unsafe { libc::waitpid(pid.as_raw(), &raw mut status, libc::__WALL) };
    assert_eq!(waited, pid.as_raw(), "it is traced");
    status
}

/// The signal that has stopped a tracee.
fn stop_of(pid: Pid) -> i32 {
    let status = status_of(pid);
    assert!(
        libc::WIFSTOPPED(status),
        "the program ended early: {status:#x}"
    );
    libc::WSTOPSIG(status)
}

fn go_on(pid: Pid, signal: i32) {
    // SAFETY: The call does not touch memory.
    unsafe { libc::ptrace(libc::PTRACE_CONT, pid.as_raw(), 0, signal) };
}

/// Steps through a program and returns the instructions between its breakpoints, up to the last one.
fn instructions(mut command: Command, last: usize) -> Vec<u64> {
    let pid = traced(&mut command);
    let mut counts = Vec::new();
    // The kernel itself says so; a step is TRAP_TRACE.
    let is_breakpoint =
        |pid: Pid| ptrace::getsiginfo(pid).expect("it is stopped").si_code == libc::SI_KERNEL;
    // To the first breakpoint at full speed.
    go_on(pid, 0);
    loop {
        match stop_of(pid) {
            libc::SIGTRAP if is_breakpoint(pid) => break,
            signal => go_on(pid, signal),
        }
    }
    let mut count = 0;
    loop {
        ptrace::step(pid, None).expect("it steps");
        // The library's own tick is kept away: it depends on time.
        stop_of(pid);
        count += 1;
        if is_breakpoint(pid) {
            counts.push(count);
            count = 0;
            if counts.len() == last {
                go_on(pid, 0);
                assert_eq!(status_of(pid), 0, "the program failed");
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
    let last = 2 * CALLS.len() + 1;
    let native = instructions(command(&program, &[]), last);
    let mut ours = command(&program, &[]);
    ours.env("LD_PRELOAD", library());
    let ours = instructions(ours, last);
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
    // On a slow machine a start takes longer natively, too: 0.7 ms where 5 ms were set.
    let most = START.max(native * 7);
    assert!(ours < native + most, "{ours:?}, natively {native:?}");
}

/// Two switches with all that belongs to the calls that make them, and a thread.
#[test]
fn a_switch_and_a_thread_cost_few_instructions() {
    const SWITCH: u64 = 600;
    const THREAD: u64 = 6000;
    let Some(program) = compile("handoff.c", &["-DSTEPS"]) else {
        return;
    };
    let log = Log::new();
    let mut ours = command(program, &[]);
    under_user(&mut ours, &log);
    let counts = instructions(ours, 3);
    println!("yield, there and back: {} instructions", counts[0]);
    println!("create and join: {} instructions", counts[2]);
    assert!(counts[0] / 2 < SWITCH, "{counts:?}");
    assert!(counts[2] < THREAD, "{counts:?}");
}

/// What the kernel needs most of its time for, user-level threads do in a fraction of it.
#[test]
fn user_level_threads_are_quicker_than_those_of_the_kernel() {
    let Some(program) = compile("handoff.c", &[]) else {
        return;
    };
    let times = |command: &mut Command| -> Vec<(String, u64)> {
        let output = command.output().expect("it runs");
        let text = String::from_utf8(output.stdout).expect("a text");
        let rows = text.lines().filter_map(|line| line.rsplit_once(' '));
        rows.map(|(name, time)| (name.to_owned(), time.parse().expect("a number")))
            .collect()
    };
    let log = Log::new();
    let (mut native, mut ours) = (command(&program, &[]), command(&program, &[]));
    under_user(&mut ours, &log);
    // The shortest of some runs, in turns: what else the machine does only makes them longer.
    let mut shortest = vec![(String::new(), u64::MAX, u64::MAX); 3];
    for _ in 0..8 {
        let (native, ours) = (times(&mut native), times(&mut ours));
        assert_eq!((native.len(), ours.len()), (3, 3), "{}", log.text());
        for (row, ((name, native), (_, ours))) in shortest.iter_mut().zip(native.iter().zip(&ours))
        {
            *row = (name.clone(), row.1.min(*native), row.2.min(*ours));
        }
    }
    for (name, native, ours) in shortest {
        println!("{name}: {native} ns natively, {ours} ns with user-level threads");
        assert!(ours < native, "{name}: {ours} ns, natively {native} ns");
    }
}
