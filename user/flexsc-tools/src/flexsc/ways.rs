// SPDX-License-Identifier: MIT OR Apache-2.0
//! Tries each way in which a program interacts with the kernel about posted calls. Each is
//! tried in a child process, because a seccomp filter may kill the child, or refuse one
//! way and allow another.

#![expect(unsafe_code, reason = "posts calls, forks")]

use std::fmt::Display;
use std::io::{self, Write};
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::ptr;
use std::time::{Duration, Instant};

use flexsc::{Call, Completion, Engine, Error, Pages, Reason, Wait, abi, calls};

use crate::filter;
use crate::report::{Finding, Report};

const PATIENCE: Duration = Duration::from_secs(5);

/// A way: the name of its line, the calls that a filter must allow, and the function that tries it.
struct Way {
    name: &'static str,
    needs: &'static str,
    /// Returns a success message, or why it does not work.
    attempt: fn() -> Result<String, Bad>,
}

/// Why a way does not work or is not recommended, as a sentence.
struct Bad(Finding, String);

impl<T: Display> From<T> for Bad {
    fn from(why: T) -> Bad {
        Bad(Finding::Bad, why.to_string())
    }
}

const WAYS: [Way; 8] = [
    Way {
        name: "register",
        needs: "ioctl(2) and mmap(2) of the device",
        attempt: register,
    },
    Way {
        name: "ioctl",
        needs: "ioctl(2) of the device",
        attempt: by_ioctl,
    },
    Way {
        name: "wait",
        needs: "system call 548, flexsc_wait(2), or programs must wait by the ioctl \
                (Pages::set_wait_by_ioctl)",
        attempt: by_number,
    },
    Way {
        name: "thread",
        needs: "ioctl(2) of the device",
        attempt: by_thread,
    },
    Way {
        name: "kick",
        needs: "ioctl(2) of the device",
        attempt: by_kick,
    },
    Way {
        name: "poll",
        needs: "poll(2)",
        attempt: by_poll,
    },
    Way {
        name: "eventfd",
        needs: "eventfd2(2) and ioctl(2) of the device",
        attempt: by_eventfd,
    },
    Way {
        name: "cancel",
        needs: "ioctl(2) of the device",
        attempt: by_cancel,
    },
];

/// Opens the device, and if that succeeds tries all ways.
pub fn try_all(report: &mut Report<'_>) {
    if let Err(error) = Engine::open() {
        return report.bad("open", error);
    }
    report.good("open", "the device can be opened");
    for way in &WAYS {
        try_one(report, way);
    }
    filter::ask(report);
}

/// Tries one way in a child, which reports its finding.
fn try_one(report: &mut Report<'_>, way: &Way) {
    let _ = io::stdout().flush();
    // SAFETY: this process has one thread, so the child may do anything.
    let child = unsafe { libc::fork() };
    if child < 0 {
        let why = io::Error::last_os_error();
        return report.bad(way.name, format_args!("fork: {why}"));
    }
    if child == 0 {
        // Twice the longest wait of the child.
        // SAFETY: takes a number.
        unsafe { libc::alarm(2 * PATIENCE.as_secs() as u32) };
        report.worst = Finding::Good;
        match (way.attempt)() {
            Ok(news) => report.good(way.name, news),
            Err(Bad(finding, why)) => report.say(finding, way.name, why),
        }
        let _ = io::stdout().flush();
        // SAFETY: ends the process.
        unsafe { libc::_exit(report.worst as i32) };
    }
    match end_of(child) {
        Ok(status) if libc::WIFEXITED(status) => match libc::WEXITSTATUS(status) {
            0 => {}
            n if n == Finding::Fair as i32 => report.count(Finding::Fair),
            _ => report.count(Finding::Bad),
        },
        Ok(status) if libc::WTERMSIG(status) == libc::SIGALRM => report.bad(
            way.name,
            format_args!(
                "no answer within {} s: see the kernel log with `dmesg`",
                2 * PATIENCE.as_secs()
            ),
        ),
        Ok(status) if libc::WTERMSIG(status) == libc::SIGSYS => report.bad(
            way.name,
            format_args!(
                "killed by SIGSYS: a seccomp filter kills the program; it must allow {}",
                way.needs
            ),
        ),
        Ok(status) => report.bad(
            way.name,
            format_args!("killed by signal {}", libc::WTERMSIG(status)),
        ),
        Err(why) => report.bad(way.name, format_args!("waitpid: {why}")),
    }
}

pub fn end_of(child: libc::pid_t) -> io::Result<i32> {
    let mut status = 0;
    loop {
        // SAFETY: writes one number.
        if unsafe { libc::waitpid(child, &raw mut status, 0) } == child {
            return Ok(status);
        }
        let why = io::Error::last_os_error();
        if why.kind() != io::ErrorKind::Interrupted {
            return Err(why);
        }
    }
}

fn start() -> Result<(Engine, Pages), Bad> {
    let engine = Engine::open()?;
    let mut pages = engine.register(1)?;
    // A plain call in place of a refused one would prove nothing about the engine.
    pages.set_fallback(false);
    Ok((engine, pages))
}

/// Posts a call without pointers.
fn post(pages: &mut Pages, call: Call) {
    // SAFETY: the call touches no memory.
    let _slot = unsafe { pages.post(call) };
}

fn judge(done: Option<Completion>) -> Result<(), Bad> {
    let done = done.ok_or("no result, although one was announced: please report this")?;
    match done.reason {
        Reason::None if done.result == i64::from(std::process::id()) => Ok(()),
        Reason::None => Err(format!(
            "getpid() through a syscall page gave {}: please report this",
            done.result
        )
        .into()),
        Reason::Guarded => Err(
            "a posted call was refused: seccomp does not allow it, or ptrace or syscall user \
            dispatch controls this program's calls; it is made as a plain call"
                .into(),
        ),
        reason => Err(format!("a posted call was refused: {reason}").into()),
    }
}

fn wait(pages: &mut Pages) -> Result<(), Bad> {
    match pages.wait(Wait::all().timeout(PATIENCE)) {
        Ok(_) => judge(pages.poll()),
        Err(Error::TimedOut) => Err(late()),
        Err(error) => Err(error.into()),
    }
}

fn late() -> Bad {
    format!(
        "no answer within {} s: see the kernel log with `dmesg`",
        PATIENCE.as_secs()
    )
    .into()
}

fn register() -> Result<String, Bad> {
    start()?;
    Ok(format!("ABI version {}", abi::FLEXSC_ABI_VERSION))
}

fn by_ioctl() -> Result<String, Bad> {
    let (_engine, mut pages) = start()?;
    pages.set_wait_by_ioctl(true);
    post(&mut pages, calls::getpid());
    wait(&mut pages)?;
    Ok("getpid() through a syscall page gives the right answer".to_owned())
}

fn by_number() -> Result<String, Bad> {
    let (_engine, mut pages) = start()?;
    // SAFETY: takes numbers, no memory.
    let result = unsafe { libc::syscall(i64::from(abi::FLEXSC_NR_WAIT), -1, 0) };
    let why = io::Error::last_os_error();
    if result != -1 || why.raw_os_error() != Some(libc::EBADF) {
        let number = abi::FLEXSC_NR_WAIT;
        let text = format!(
            "flexsc_wait(2), system call {number}, is refused: {why}; programs wait by the ioctl, \
             which takes longer"
        );
        return Err(Bad(Finding::Fair, text));
    }
    post(&mut pages, calls::getpid());
    pages.wait(Wait::all())?;
    judge(pages.poll())?;
    Ok("flexsc_wait(2) executes what is posted".to_owned())
}

fn by_thread() -> Result<String, Bad> {
    let (_engine, mut pages) = start()?;
    post(&mut pages, calls::getpid().asynchronous());
    wait(&mut pages)?;
    Ok("a syscall thread executes what is posted".to_owned())
}

fn by_kick() -> Result<String, Bad> {
    let (_engine, mut pages) = start()?;
    post(&mut pages, calls::getpid());
    pages.kick()?;
    let end = Instant::now() + PATIENCE;
    while !pages.has_result() {
        if Instant::now() > end {
            return Err(late());
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    judge(pages.poll())?;
    Ok("KICK has posted calls executed while the program does something else".to_owned())
}

/// Waits until `fd` is readable.
fn readable(fd: i32) -> Result<(), Bad> {
    let mut poll = libc::pollfd {
        fd,
        events: libc::POLLIN,
        revents: 0,
    };
    // SAFETY: one structure, which outlives the call.
    match unsafe { libc::poll(&raw mut poll, 1, PATIENCE.as_millis() as i32) } {
        1 if poll.revents & libc::POLLIN != 0 => Ok(()),
        0 => Err(late()),
        1 => Err(format!("poll() gives {:#x}", poll.revents).into()),
        _ => Err(io::Error::last_os_error().into()),
    }
}

fn by_poll() -> Result<String, Bad> {
    let (engine, mut pages) = start()?;
    post(&mut pages, calls::getpid().asynchronous());
    pages.kick()?;
    readable(engine.as_fd().as_raw_fd())?;
    judge(pages.poll())?;
    Ok("poll() reports results".to_owned())
}

fn by_eventfd() -> Result<String, Bad> {
    let (_engine, mut pages) = start()?;
    // SAFETY: takes numbers, no memory.
    let event = unsafe { libc::eventfd(0, libc::EFD_CLOEXEC) };
    if event < 0 {
        return Err(io::Error::last_os_error().into());
    }
    // SAFETY: just made, and owned by nothing else.
    let event = unsafe { OwnedFd::from_raw_fd(event) };
    pages.set_eventfd(Some(event.as_fd()))?;
    post(&mut pages, calls::getpid().asynchronous());
    pages.kick()?;
    readable(event.as_raw_fd())?;
    judge(pages.poll())?;
    Ok("an eventfd reports results".to_owned())
}

fn by_cancel() -> Result<String, Bad> {
    let (_engine, mut pages) = start()?;
    let (from, _to) = nix::unistd::pipe()?;
    let byte: &'static mut u8 = Box::leak(Box::new(0));
    let read = calls::read(from.as_raw_fd(), ptr::from_mut(byte).cast(), 1);
    // SAFETY: the byte is leaked, so it stays valid.
    let slot = unsafe { pages.post(read.asynchronous()) };
    pages.kick()?;
    if !pages.cancel(slot.ok_or("no entry is free: please report this")?)? {
        return Err("CANCEL does not find a read of an empty pipe: please report this".into());
    }
    match pages.wait(Wait::all().timeout(PATIENCE)) {
        Ok(_) => {}
        Err(Error::TimedOut) => return Err(late()),
        Err(error) => return Err(error.into()),
    }
    let result = pages.poll().map(|done| done.result);
    let ended = [libc::EINTR, libc::ECANCELED].map(|errno| Some(-i64::from(errno)));
    if ended.contains(&result) {
        Ok("CANCEL ends a read of an empty pipe".to_owned())
    } else {
        Err(format!("a read that was cancelled gave {result:?}: please report this").into())
    }
}
