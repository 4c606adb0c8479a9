// SPDX-License-Identifier: MIT OR Apache-2.0
//! The process's identity, directory, limits and scheduling.

use super::{Gen, reg};
use crate::differential::normal::{Norm, PID, SYSINFO};
use crate::differential::op::{Buf, Op, Ret, Val};

fn ask(g: &Gen) -> Op {
    let word = || Buf::out(4);
    let resource = g.below(17);
    match g.below(32) {
        0 => op!(SYS_getpid).ret(Ret::Pid),
        1 => op!(SYS_getppid),
        2 => op!(SYS_gettid).ret(Ret::Pid).own(),
        3 => op!(SYS_getuid),
        4 => op!(SYS_geteuid),
        5 => op!(SYS_getgid),
        6 => op!(SYS_getegid),
        7 => op!(SYS_getresuid, word(), word(), word()),
        8 => op!(SYS_getresgid, word(), word(), word()),
        9 => op!(SYS_getgroups, 32, Buf::out(128)),
        10 => op!(SYS_getpgrp).ret(Ret::Pid),
        11 => op!(SYS_getpgid, 0).ret(Ret::Pid),
        12 => op!(SYS_getsid, 0).ret(Ret::Pid),
        13 => op!(SYS_uname, Buf::out(400)),
        14 => op!(SYS_sysinfo, Buf::out(112).like(SYSINFO)),
        15 => op!(SYS_getrlimit, resource, Buf::out(16)),
        16 => op!(SYS_prlimit64, 0, resource, 0, Buf::out(16)),
        17 => op!(
            SYS_getrusage,
            g.pick(&[0, -1, 7]),
            Buf::out(144).like(Norm::Nothing)
        ),
        18 => op!(SYS_getrusage, 1, Buf::out(144).like(Norm::Nothing)).own(),
        19 => op!(SYS_getpriority, 0, 0).own(),
        20 => op!(SYS_sched_getscheduler, 0).own(),
        21 => op!(SYS_sched_getparam, 0, word()).own(),
        22 => op!(SYS_sched_getaffinity, 0, 128, Buf::out(128)).own(),
        23 => op!(SYS_sched_getattr, 0, Buf::out(56), 56, 0).own(),
        24 => op!(SYS_sched_get_priority_max, g.below(8)),
        25 => op!(SYS_sched_get_priority_min, g.below(8)),
        26 => op!(
            SYS_sched_rr_get_interval,
            Val::Pid,
            Buf::out(16).like(Norm::Nothing)
        ),
        27 => op!(SYS_ioprio_get, g.pick(&[1, 2]), 0).own(),
        28 => {
            let header = Buf::zeroed(8).u32(0, 0x2008_0522).like(Norm::Exact);
            op!(SYS_capget, header, Buf::out(24))
        }
        29 => op!(
            SYS_lsm_list_modules,
            Buf::out(80),
            Buf::out(4).u32(0, 80),
            0
        ),
        30 => op!(SYS_getcpu, Buf::out(4).like(Norm::Nothing), 0, 0).own(),
        _ => op!(
            SYS_get_robust_list,
            0,
            Buf::out(8).like(Norm::Nothing),
            Buf::out(8)
        )
        .own(),
    }
}

fn set(g: &Gen) -> Op {
    let resource = g.pick(&[3, 4, 8, 12, 13]);
    let value = g.pick(&[1 << 20, 4 << 20, 1 << 30]);
    let hard = g.pick(&[1 << 30, 1 << 31]);
    let user = g.pick(&[0, 1000, 65534]);
    match g.below(20) {
        0 => op!(SYS_setrlimit, resource, Buf::words(&[value, hard])),
        1 => op!(
            SYS_prlimit64,
            0,
            resource,
            Buf::words(&[value, hard]),
            Buf::out(16)
        ),
        2 => op!(SYS_setpgid, 0, 0),
        3 => op!(SYS_setpriority, 0, 0, g.below(3)).own(),
        4 => op!(SYS_sethostname, g.data(20).sized(12), 12),
        5 => op!(SYS_setdomainname, g.data(20).sized(9), 9),
        6 => op!(SYS_ioprio_set, 1, 0, g.pick(&[0x4002, 0x6000])).own(),
        7 => op!(SYS_personality, g.pick(&[0xffff_ffffu32, 0x0400_0000, 0])).own(),
        8 => op!(SYS_setfsuid, user).own(),
        9 => op!(SYS_setfsuid, 0).own(),
        10 => op!(SYS_setfsgid, user).own(),
        11 => op!(SYS_prctl, libc::PR_SET_NAME, "another").own(),
        12 => op!(SYS_prctl, libc::PR_GET_NAME, Buf::out(16)).own(),
        13 => op!(SYS_prctl, libc::PR_SET_DUMPABLE, 1),
        14 => op!(SYS_prctl, libc::PR_SET_TIMERSLACK, 70_000).own(),
        15 => op!(SYS_prctl, libc::PR_GET_TIMERSLACK).own(),
        16 => op!(
            SYS_prctl,
            g.pick(&[libc::PR_GET_DUMPABLE, libc::PR_GET_THP_DISABLE])
        ),
        17 => op!(SYS_sched_setscheduler, 0, g.pick(&[0, 3]), Buf::zeroed(4)).own(),
        18 => op!(SYS_sigaltstack, 0, Buf::out(24).like(Norm::Nothing)).own(),
        _ => op!(SYS_sched_yield).own(),
    }
}

fn rare(g: &Gen) {
    let fd = Val::Reg(reg::PIDFD);
    match g.below(9) {
        0 => {
            g.free(reg::PIDFD);
            g.push(op!(SYS_pidfd_open, Val::Pid, 0).save(reg::PIDFD));
        }
        1 => g.push(op!(SYS_pidfd_send_signal, fd, g.pick(&[0, 43]), 0, 0)),
        2 => g.push(
            op!(
                SYS_getrandom,
                Buf::out(40).like(Norm::Nothing),
                g.below(40),
                1
            )
            .pure(),
        ),
        3 => {
            g.free(reg::RULESET);
            let rights = Buf::words(&[0xf]);
            g.push(op!(SYS_landlock_create_ruleset, rights, 8, 0).save(reg::RULESET));
        }
        4 => {
            let dir = Val::Reg(g.pick(&reg::DIRS));
            let rule = Buf::zeroed(12).u64(0, 4).field(8, 4, dir);
            g.push(op!(
                SYS_landlock_add_rule,
                Val::Reg(reg::RULESET),
                1,
                rule,
                0
            ));
        }
        5 => g.push(op!(SYS_wait4, -1, Buf::out(4), libc::WNOHANG, 0)),
        6 => g.push(op!(SYS_waitid, 0, 0, Buf::out(128), libc::WNOHANG | 4, 0)),
        7 => g.push(op!(SYS_setsid).ret(Ret::Pid)),
        _ => {
            let fd = g.file();
            let out = Buf::out(4).like(PID);
            g.push(op!(SYS_ioctl, fd, 0x8904, out).own());
        }
    }
}

pub fn any(g: &Gen) {
    match g.below(100) {
        0..60 => {
            for _ in 0..=g.below(5) {
                let op = ask(g).pure();
                g.push(op);
            }
        }
        60..85 => {
            let op = set(g);
            g.push(op);
            // Mostly goes back to the earlier rights.
            if g.chance(80) {
                g.push(op!(SYS_setfsuid, 0).own());
                g.push(op!(SYS_setfsgid, 0).own());
            }
        }
        _ => rare(g),
    }
}
