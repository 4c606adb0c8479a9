// SPDX-License-Identifier: MIT OR Apache-2.0
//! Finds the common calls that the program's seccomp filter allows from pages. Each is posted with
//! arguments that give it no effect, in a child process, because a filter may kill the caller.

#![expect(unsafe_code, reason = "posts calls, forks")]

use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::time::Duration;

use flexsc::{Call, Engine, Error, Reason, Wait};

use crate::report::Report;

/// Names and numbers of the calls that programs make most.
macro_rules! common {
    ($($name:ident),* $(,)?) => {
        /// See the module's documentation.
        const COMMON: &[(&str, i64)] = &[$((stringify!($name), libc::$name)),*];
    };
}

common! {
    SYS_read, SYS_write, SYS_readv, SYS_writev, SYS_pread64, SYS_pwrite64, SYS_lseek,
    SYS_openat, SYS_close, SYS_fstat, SYS_newfstatat, SYS_statx, SYS_getdents64, SYS_readlinkat,
    SYS_ftruncate, SYS_fallocate, SYS_fsync, SYS_fdatasync, SYS_copy_file_range, SYS_sendfile,
    SYS_splice, SYS_mkdirat, SYS_unlinkat, SYS_renameat2, SYS_linkat, SYS_symlinkat, SYS_fchmodat,
    SYS_fchownat, SYS_utimensat, SYS_fgetxattr, SYS_fsetxattr, SYS_socket, SYS_bind, SYS_listen,
    SYS_connect, SYS_accept4, SYS_sendto, SYS_recvfrom, SYS_sendmsg, SYS_recvmsg, SYS_shutdown,
    SYS_setsockopt, SYS_poll, SYS_epoll_ctl, SYS_epoll_wait, SYS_futex, SYS_getpid, SYS_getrandom,
}

/// The filter's answer about a call.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Answer {
    Allowed,
    Refused,
    Kills,
}

/// Reports whether the program has a filter, and which common calls it allows.
pub fn ask(report: &mut Report<'_>) {
    // SAFETY: takes a number, no memory.
    match unsafe { libc::prctl(libc::PR_GET_SECCOMP) } {
        0 => return report.good("seccomp", "no filter"),
        1.. => {}
        _ => return report.fair("seccomp", io::Error::last_os_error()),
    }
    match answers() {
        Ok(answers) => say(report, &answers),
        Err(why) => report.fair(
            "seccomp",
            format_args!("a filter; what it allows is unknown: {why}"),
        ),
    }
}

fn say(report: &mut Report<'_>, answers: &[Answer]) {
    let named = |wanted: Answer| -> Vec<&str> {
        let each = COMMON.iter().zip(answers);
        each.filter(|&(_, answer)| *answer == wanted)
            .map(|((name, _), _)| name.trim_start_matches("SYS_"))
            .collect()
    };
    let (allowed, refused, kills) = (
        named(Answer::Allowed).len(),
        named(Answer::Refused),
        named(Answer::Kills),
    );
    let all = COMMON.len();
    if allowed == 0 {
        return report.bad(
            "seccomp",
            "a filter that allows no call from pages: every call is made plainly",
        );
    }
    report.good(
        "seccomp",
        format_args!("a filter; from pages it allows {allowed} of {all} common calls"),
    );
    if !refused.is_empty() {
        let names = refused.join(", ");
        report.fair(
            "seccomp",
            format_args!("made plainly, as the filter is then asked: {names}"),
        );
    }
    if !kills.is_empty() {
        let names = kills.join(", ");
        report.fair("seccomp", format_args!("the filter kills for: {names}"));
    }
}

/// Returns the answers about all calls. After each child that is killed, another one continues.
fn answers() -> io::Result<Vec<Answer>> {
    let mut answers = Vec::new();
    while answers.len() < COMMON.len() {
        let before = answers.len();
        let said = said_by_child(before)?;
        for byte in said.bytes {
            answers.push(match byte {
                b'a' => Answer::Allowed,
                _ => Answer::Refused,
            });
        }
        if answers.len() < COMMON.len() {
            if said.signal != libc::SIGSYS {
                return Err(io::Error::other("the program that asks has ended"));
            }
            answers.push(Answer::Kills);
        }
    }
    Ok(answers)
}

struct Said {
    bytes: Vec<u8>,
    /// The signal that has ended the child, or 0.
    signal: i32,
}

fn said_by_child(first: usize) -> io::Result<Said> {
    let (from, to) = nix::unistd::pipe()?;
    // SAFETY: this process has one thread, so the child may do anything.
    let child = unsafe { libc::fork() };
    if child < 0 {
        return Err(io::Error::last_os_error());
    }
    if child == 0 {
        // SAFETY: takes a number.
        unsafe { libc::alarm(10) };
        let _ = ask_from(first, to);
        // SAFETY: ends the process.
        unsafe { libc::_exit(0) };
    }
    drop(to);
    let mut bytes = Vec::new();
    io::Read::read_to_end(&mut std::fs::File::from(from), &mut bytes)?;
    bytes.truncate(COMMON.len() - first);
    let status = crate::ways::end_of(child)?;
    let signal = if libc::WIFSIGNALED(status) {
        libc::WTERMSIG(status)
    } else {
        0
    };
    Ok(Said { bytes, signal })
}

/// Posts one call after the other, and writes one byte for each that it survives.
fn ask_from(first: usize, to: OwnedFd) -> Result<(), Error> {
    let mut to = std::fs::File::from(to);
    let engine = Engine::open()?;
    let mut pages = engine.register(1)?;
    pages.set_fallback(false);
    for &(_, nr) in &COMMON[first..] {
        // No descriptor, nothing at this address, and no such flags.
        let call = Call::new(nr, [u64::MAX; 6]);
        // SAFETY: no call writes to this address.
        let _slot = unsafe { pages.post(call) };
        pages.wait(Wait::all().timeout(Duration::from_secs(5)))?;
        let guarded = matches!(pages.poll(), Some(done) if done.reason == Reason::Guarded);
        let byte = if guarded { b'r' } else { b'a' };
        if to.write_all(&[byte]).is_err() {
            break;
        }
    }
    Ok(())
}
