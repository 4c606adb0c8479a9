// SPDX-License-Identifier: MIT OR Apache-2.0
//! Attacks that other threads of a hostile program make while it posts.

use std::ffi::CStr;
use std::os::fd::RawFd;
use std::sync::atomic::Ordering;

use super::program::Life;
use crate::hostile::ioctls::random_ioctl;
use crate::kit::abi;
use crate::kit::seccomp::{Action, Filter};
use crate::kit::{Random, sys};

/// An attack, made in a thread of its own.
pub struct Attack {
    pub run: fn(&Life<'_>, &mut Random),
    /// The attack takes syscall pages away.
    pub tears: bool,
}

impl Attack {
    pub const fn new(run: fn(&Life<'_>, &mut Random)) -> Attack {
        Attack { run, tears: false }
    }
}

pub const ALL: [Attack; 6] = [
    Attack::new(ioctls),
    Attack {
        run: mapping,
        tears: true,
    },
    Attack::new(signals),
    Attack::new(relatives),
    Attack::new(closing),
    Attack::new(filters),
];

/// The argument for a child that executes this program again.
const QUESTION: &CStr = c"--help";

pub fn until_over(life: &Life<'_>, mut work: impl FnMut()) {
    while !life.over.load(Ordering::Relaxed) {
        work();
        sys::yield_now();
    }
}

fn ioctls(life: &Life<'_>, random: &mut Random) {
    until_over(life, || random_ioctl(life.fd, random));
}

/// Takes the pages away from the program and brings them back.
fn mapping(life: &Life<'_>, random: &mut Random) {
    until_over(life, || {
        life.with_target(|target| {
            let (base, len) = (target.base, target.len());
            let page = base + random.below(len as u64 / 4096) as usize * 4096;
            let prot = random.below(8) as i32;
            match random.below(8) {
                0 => plain!(SYS_munmap, page, 4096),
                1 => plain!(SYS_mprotect, page, 4096, prot),
                2 => plain!(SYS_mprotect, base, len, prot),
                3 => plain!(SYS_madvise, base, len, random.below(26)),
                4 => plain!(SYS_mremap, base, len, len, libc::MREMAP_MAYMOVE),
                5 => plain!(SYS_mremap, page, 4096, 8192, libc::MREMAP_MAYMOVE),
                6 => plain!(SYS_mlock, base, len),
                _ => {
                    // Another view of pages, of any registration, at the same address.
                    let all = libc::PROT_READ | libc::PROT_WRITE;
                    let flags = libc::MAP_SHARED | libc::MAP_FIXED;
                    plain!(
                        SYS_mmap,
                        base,
                        len,
                        all,
                        flags,
                        life.fd,
                        random.below(4) << 20
                    )
                }
            };
        });
        std::thread::sleep(std::time::Duration::from_micros(random.below(5000)));
    });
}

fn signals(life: &Life<'_>, random: &mut Random) {
    let pid = std::process::id();
    until_over(life, || {
        let signal = [libc::SIGUSR1, libc::SIGALRM, libc::SIGPIPE][random.below(3) as usize];
        match random.below(64) {
            // Stops, and goes on again.
            0 => {
                let child = plain!(SYS_fork);
                if child == 0 {
                    plain!(SYS_kill, pid, libc::SIGSTOP);
                    plain!(SYS_sched_yield);
                    plain!(SYS_kill, pid, libc::SIGCONT);
                    sys::exit_now(0);
                }
                if child > 0 {
                    plain!(SYS_wait4, child, 0, 0, 0);
                }
            }
            _ => drop(plain!(SYS_kill, pid, signal)),
        }
        std::thread::sleep(std::time::Duration::from_micros(random.below(2000)));
    });
}

/// Executes this program again, without any output.
fn execute(exe: RawFd) {
    let null = plain!(SYS_openat, libc::AT_FDCWD, c"/dev/null", libc::O_RDWR);
    plain!(SYS_dup2, null, 1);
    plain!(SYS_dup2, null, 2);
    let args = [c"fuzz".as_ptr(), QUESTION.as_ptr(), std::ptr::null()];
    let env = [std::ptr::null::<u8>()];
    let empty = libc::AT_EMPTY_PATH;
    plain!(SYS_execveat, exe, c"", args.as_ptr(), env.as_ptr(), empty);
}

/// Starts children, with and without another program, that use what they have inherited.
fn relatives(life: &Life<'_>, random: &mut Random) {
    until_over(life, || {
        let (fd, way) = (life.fd, random.below(8));
        // SYS_fork: the child does nothing but make system calls.
        let child = plain!(SYS_fork);
        if child == 0 {
            let mut wait = abi::Wait::new(0, abi::Policy::None);
            let _ = sys::ioctl_with(fd, abi::IOC_WAIT, &mut wait);
            let _ = sys::ioctl(fd, abi::IOC_KICK, 0);
            let _ = crate::kit::engine::register(fd, 1);
            if way == 0 {
                execute(life.program.exe);
            }
            sys::exit_now(0);
        }
        if child > 0 {
            if way < 4 {
                plain!(SYS_kill, child, libc::SIGKILL);
            }
            plain!(SYS_wait4, child, 0, 0, 0);
        }
        std::thread::sleep(std::time::Duration::from_millis(random.below(20)));
    });
}

/// Closes the engine while other threads use it, and opens another one in its place.
fn closing(life: &Life<'_>, random: &mut Random) {
    until_over(life, || {
        match random.below(4) {
            0 => {
                let new = plain!(SYS_openat, libc::AT_FDCWD, c"/dev/flexsc", libc::O_RDWR);
                if new >= 0 {
                    life.program.count(life.fd, true);
                    plain!(SYS_dup2, new, life.fd);
                    plain!(SYS_close, new);
                }
            }
            1 => {
                let copy = plain!(SYS_dup, life.fd);
                plain!(SYS_close, copy);
            }
            _ => {}
        }
        std::thread::sleep(std::time::Duration::from_millis(random.below(20)));
    });
}

/// Calls without which a program gets nowhere.
const NEEDED: [i64; 9] = [
    libc::SYS_ioctl,
    libc::SYS_openat,
    libc::SYS_mmap,
    libc::SYS_munmap,
    libc::SYS_close,
    libc::SYS_futex,
    libc::SYS_wait4,
    libc::SYS_rt_sigreturn,
    libc::SYS_sched_yield,
];

/// A filter that decides about some calls, or about some of their arguments.
fn random_filter(random: &mut Random) -> Filter {
    let mut filter = Filter::new();
    match random.below(16) {
        0 => filter = filter.asks_for_address(),
        1..8 => filter = filter.asks_for_argument(),
        _ => {}
    }
    for _ in 0..random.below(12) {
        let nr = random.below(470) as i64;
        // Actions that end the program are rare, or the program would not get far.
        let action = match random.below(64) {
            0 => Action::KillProcess,
            1 => Action::KillThread,
            2..8 => Action::Trap,
            8..16 => Action::Trace,
            16..24 => Action::Log,
            24..40 => Action::Allow,
            _ => Action::Errno(libc::EPERM),
        };
        if NEEDED.contains(&nr) {
            continue;
        }
        filter = match random.below(2) {
            0 => filter.rule(nr, action),
            _ => filter.rule_for(nr, random.below(6) as u32, random.below(8) as u32, action),
        };
    }
    filter.otherwise(Action::Allow)
}

/// Installs filters, for this thread or for all of them.
fn filters(life: &Life<'_>, random: &mut Random) {
    // Filters stay as long as the program.
    let mut left = 1 + random.below(4);
    until_over(life, || {
        std::thread::sleep(std::time::Duration::from_millis(random.below(20)));
        if left == 0 {
            return;
        }
        left -= 1;
        let filter = random_filter(random);
        let _ = match random.below(4) {
            0 => filter.hold(),
            _ => filter.hold_for_all(),
        };
    });
}

/// Ends the program in one of several ways.
pub fn end(exe: RawFd, random: &mut Random) {
    match random.below(6) {
        0 => execute(exe),
        1 => drop(plain!(SYS_kill, std::process::id(), libc::SIGKILL)),
        // The other threads, if there are any, go on alone.
        2 => sys::exit_thread(0),
        _ => {}
    }
}
