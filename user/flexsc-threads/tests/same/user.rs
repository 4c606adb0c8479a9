// SPDX-License-Identifier: MIT OR Apache-2.0
//! The same output as natively, with user-level threads (FLEXSC_THREADS=user).

use std::path::Path;
use std::process::Stdio;
use std::thread;
use std::time::{Duration, Instant};

use crate::kit::{Log, command, compile, same_as, under_user};
use crate::programs::{PYTHON, installed, rust_program};

/// Programs of this module may not fail natively, and the log says that they have had no thread of the
/// kernel for each thread.
#[track_caller]
fn check_program(program: &Path, args: &[&str]) {
    let native = command(program, args).output().expect("it runs");
    assert!(native.status.success(), "natively: {native:?}");
    let log = same_as(program, args, under_user);
    log.line("threads are user-level threads");
}

#[track_caller]
fn check(source: &str) {
    if let Some(program) = compile(source, &[]) {
        check_program(&program, &[]);
    }
}

#[test]
fn threads() {
    check("threads.c");
}

#[test]
fn many_threads() {
    check("many.c");
}

#[test]
fn traffic() {
    check("traffic.c");
}

#[test]
fn locks() {
    check("locks.c");
}

#[test]
fn signals() {
    check("signals.c");
}

#[test]
fn cancellation() {
    check("cancel.c");
}

#[test]
fn processes() {
    check("processes.c");
}

#[test]
fn spinning() {
    check("spin.c");
}

#[test]
fn exceptions() {
    check("exceptions.cc");
}

#[test]
fn a_rust_program() {
    check_program(&rust_program(), &[]);
}

#[test]
fn python() {
    if let Some(python) = installed("python3") {
        check_program(&python, &["-c", PYTHON]);
    }
}

#[test]
fn compressors() {
    for (name, script) in [
        (
            "xz",
            "seq 200000 | xz -T4 --block-size=100000 -0 | xz -dc | cksum",
        ),
        ("zstd", "seq 200000 | zstd -T4 -q | zstd -dcq | cksum"),
    ] {
        if installed(name).is_some() {
            check_program(Path::new("/bin/sh"), &["-c", script]);
        }
    }
}

#[test]
fn java() {
    if let Some(java) = installed("java") {
        let log = same_as(java, &["-Xshare:auto", "-version"], under_user);
        log.line("threads are user-level threads");
    }
}

/// All threads are one thread of the kernel; those that wait in calls have helpers. While ten threads
/// read from a pipe there are ten helpers.
#[test]
fn threads_are_no_threads_of_the_kernel() {
    let Some(program) = compile("crowd.c", &[]) else {
        return;
    };
    let log = Log::new();
    let mut ours = command(&program, &[]);
    under_user(&mut ours, &log);
    let output = ours.output().expect("it runs");
    let text = String::from_utf8_lossy(&output.stdout);
    assert_eq!(
        text, "waiting for a word: 1\nwaiting in read: 11\n",
        "{output:?}"
    );
    let native = command(&program, &[]).output().expect("it runs");
    let text = String::from_utf8_lossy(&native.stdout);
    assert_eq!(text, "waiting for a word: 101\nwaiting in read: 111\n");
}

/// A signal for the process ends it if it has no handler, whatever its threads do.
#[test]
fn a_signal_ends_a_process() {
    use nix::sys::signal::{Signal, kill};
    use nix::unistd::Pid;
    use std::os::unix::process::ExitStatusExt;

    let Some(program) = compile("crowd.c", &["-DFOR_EVER"]) else {
        return;
    };
    let log = Log::new();
    let mut ours = command(&program, &[]);
    under_user(&mut ours, &log);
    ours.stdout(Stdio::null());
    let mut child = ours.spawn().expect("it starts");
    let end = Instant::now() + Duration::from_secs(20);
    while !log.text().contains("user-level") && Instant::now() < end {
        thread::yield_now();
    }
    let pid = Pid::from_raw(child.id() as i32);
    kill(pid, Signal::SIGTERM).expect("it lives");
    let status = child.wait().expect("it ends");
    assert_eq!(status.signal(), Some(Signal::SIGTERM as i32));
}
