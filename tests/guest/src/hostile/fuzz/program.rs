// SPDX-License-Identifier: MIT OR Apache-2.0
//! One hostile program: its lives, each with an engine and several threads.

use std::os::fd::RawFd;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{Builder, Scope};

use super::cell::{Cell, Finding, Report};
use super::profile::Profile;
use super::values::{Manner, Values};
use super::{attacks, outside, owner};
use crate::hostile::ioctls::random_param;
use crate::hostile::target::{Target, scribble_ctrl, scribble_entry};
use crate::kit::abi::{self, Param, ParamArg};
use crate::kit::engine::{self, try_open};
use crate::kit::{Random, sys, trap};

/// Descriptors to choose arguments from: the files below, and some that calls open.
const FDS: u64 = 48;

/// Data that the threads of a program share.
pub struct Program<'a> {
    cell: &'a Cell,
    key: u64,
    report: Mutex<Report>,
    /// Entries posted to engines that are closed by now.
    closed: AtomicU64,
    /// Entries among these that were executed.
    closed_executed: AtomicU64,
    pub values: Values,
    /// The program's own file, to execute it again.
    pub exe: RawFd,
}

/// Data that the threads of one life share.
pub struct Life<'a> {
    pub program: &'a Program<'a>,
    pub fd: RawFd,
    /// The pages that other threads scribble in.
    pub target: Mutex<Option<Target>>,
    pub over: AtomicBool,
    pub batches: u64,
    /// An attack takes the pages away, so other memory may be at their address.
    pub torn: bool,
}

impl Life<'_> {
    /// Calls `work` with the pages that other threads may spoil. Meanwhile the pages stay mapped.
    pub fn with_target(&self, work: impl FnOnce(Target)) {
        if let Ok(place) = self.target.lock() {
            if let Some(target) = *place {
                work(target);
            }
        }
    }
}

impl Program<'_> {
    /// Changes the report and publishes it.
    pub fn report(&self, change: impl FnOnce(&mut Report)) {
        let mut report = match self.report.lock() {
            Ok(report) => report,
            Err(poisoned) => poisoned.into_inner(),
        };
        change(&mut report);
        report.number += 1;
        self.cell.write(&report, self.key);
    }

    /// Reports a finding. The first one counts.
    pub fn found(&self, what: Finding, [a, b, c]: [u64; 3]) {
        self.report(|report| {
            if report.finding[0] == 0 {
                report.finding = [what as u64, a, b, c];
            }
        });
    }

    /// Reads the module's statistics of the engine. If `ended`, adds them to the totals.
    pub fn count(&self, fd: RawFd, ended: bool) {
        let Ok(stats) = engine::query(fd) else {
            return;
        };
        let executed = stats.inline_done + stats.thread_done;
        let results = executed + stats.refused;
        if results > stats.posted {
            self.found(Finding::Statistics, [stats.posted, results, 0]);
        }
        let posted = self.closed.load(Ordering::Relaxed) + stats.posted;
        let executed = self.closed_executed.load(Ordering::Relaxed) + executed;
        if ended {
            self.closed.store(posted, Ordering::Relaxed);
            self.closed_executed.store(executed, Ordering::Relaxed);
        }
        self.report(|report| {
            report.posted = report.posted.max(posted);
            report.executed = report.executed.max(executed);
        });
    }
}

/// Files of all kinds, as descriptors from 3 on.
fn open_files() {
    let mut pair = [0i32; 2];
    for flags in [0, libc::O_NONBLOCK] {
        plain!(SYS_pipe2, pair.as_mut_ptr(), flags);
        let kind = libc::SOCK_STREAM | flags;
        plain!(SYS_socketpair, libc::AF_UNIX, kind, 0, pair.as_mut_ptr());
    }
    plain!(SYS_memfd_create, c"fuzz", 0);
    plain!(SYS_eventfd2, 1, libc::EFD_NONBLOCK);
    plain!(SYS_eventfd2, 0, 0);
    plain!(SYS_epoll_create1, 0);
    plain!(SYS_timerfd_create, libc::CLOCK_MONOTONIC, 0);
    for path in [c"/dev/zero", c"/dev/null", c"a", c"."] {
        let flags = if path == c"." {
            libc::O_RDONLY
        } else {
            libc::O_RDWR | libc::O_CREAT
        };
        plain!(SYS_openat, libc::AT_FDCWD, path, flags, 0o600);
    }
}

/// Starts a thread of a life, if that is possible.
fn start<'scope, 'a: 'scope>(
    scope: &'scope Scope<'scope, '_>,
    life: &'a Life<'a>,
    mut random: Random,
    work: fn(&Life<'_>, &mut Random),
) {
    let _ = Builder::new()
        .stack_size(256 * 1024)
        .spawn_scoped(scope, move || work(life, &mut random));
}

fn scribbler(life: &Life<'_>, random: &mut Random) {
    while !life.over.load(Ordering::Relaxed) {
        life.with_target(|target| {
            for _ in 0..64 {
                scribble_entry(target, random);
                if random.below(16) == 0 {
                    scribble_ctrl(target, random);
                }
            }
        });
        sys::yield_now();
    }
}

/// One life: anything at all.
pub fn live(program: &Program<'_>, random: &mut Random) {
    let Ok(engine) = try_open() else {
        return;
    };
    let fd = engine.fd();
    program.report(|report| report.engines += 1);
    // With the default, a loop takes 65,536 rounds.
    if random.below(16) != 0 {
        let mut rounds = ParamArg::new(Param::LoopMax, 1 + random.below(16));
        let _ = sys::ioctl_with(fd, abi::IOC_SET, &mut rounds);
    }
    for _ in 0..random.below(4) {
        random_param(fd, random);
    }
    let attacks: Vec<&attacks::Attack> = attacks::ALL
        .iter()
        .chain(&outside::ALL)
        .filter(|_| random.below(6) == 0)
        .collect();
    let life = Life {
        program,
        fd,
        target: Mutex::new(None),
        over: AtomicBool::new(false),
        batches: 8 + random.below(64),
        torn: attacks.iter().any(|attack| attack.tears),
    };
    std::thread::scope(|scope| {
        let mut others: Vec<fn(&Life<'_>, &mut Random)> = Vec::new();
        if random.below(2) == 0 {
            others.push(owner::own);
        }
        if random.below(2) == 0 {
            others.push(scribbler);
        }
        others.extend(attacks.iter().map(|attack| attack.run));
        for work in others {
            start(scope, &life, random.split(), work);
        }
        owner::own(&life, random);
        life.over.store(true, Ordering::Relaxed);
    });
    program.count(fd, true);
}

/// Runs the program, which ends in one of many ways.
pub fn run(profile: Profile, cell: &Cell, key: u64, mut random: Random, exe: RawFd) {
    let lives = 1 + random.below(8);
    let manner = Manner::new(&mut random);
    open_files();
    let exe_fd = plain!(SYS_fcntl, exe, libc::F_DUPFD, 100) as RawFd;
    plain!(SYS_close, exe);
    let Some(values) = Values::new(manner, FDS) else {
        return;
    };
    if trap::patch_faults(&[libc::SIGUSR1, libc::SIGALRM, libc::SIGPIPE, libc::SIGIO]).is_err() {
        return;
    }
    let program = Program {
        cell,
        key,
        report: Mutex::default(),
        closed: AtomicU64::new(0),
        closed_executed: AtomicU64::new(0),
        values,
        exe: exe_fd,
    };
    // A posted call may by mistake make this thread WAIT without a time limit; this interrupts it.
    let every = [0i64, 20_000, 0, 20_000];
    for _ in 0..lives {
        plain!(SYS_setitimer, libc::ITIMER_REAL, every.as_ptr(), 0);
        program.values.fill(&mut random);
        profile.live(&mut random)(&program, &mut random);
        program.report(|report| report.lives += 1);
    }
    attacks::end(exe_fd, &mut random);
}
