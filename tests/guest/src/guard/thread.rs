// SPDX-License-Identifier: MIT OR Apache-2.0
//! Calls about the calling thread give the owner's answer or are refused, never a syscall thread's.

use super::{Path, on_each_path};
use crate::check::{Check, Ret};
use crate::kit::abi::{REASON_CHAIN, REASON_NONE, REASON_THREAD};
use crate::kit::mode::Mode;
use crate::kit::ring::{Call, Done, Ring};
use crate::kit::{memory, sys};

tests! { "guard":
    asks_about_the_thread => "IDs, scheduling, masks, policies: the owner's answer or a refusal";
    thread_times => "CPU time of the thread is the owner's, or the call is refused";
    changes_of_the_thread => "a setting made through an entry holds for the owner, or is not made";
    locks_of_the_thread => "a PI futex locked through an entry is the owner's, or not locked";
    waits_of_the_thread => "calls that wait for the thread's own signals are refused everywhere";
}

/// A call with room for its output.
struct Ask {
    name: &'static str,
    call: fn(*mut u8) -> Call,
}

const fn ask(name: &'static str, call: fn(*mut u8) -> Call) -> Ask {
    Ask { name, call }
}

/// Long enough for the output of any of these calls.
const ROOM: usize = 256;

const ASKS: &[Ask] = &[
    ask("gettid", |_| call!(SYS_gettid)),
    ask("getcpu", |to| call!(SYS_getcpu, to, 0, 0)),
    ask("sched_getscheduler", |_| call!(SYS_sched_getscheduler, 0)),
    ask("sched_getparam", |to| call!(SYS_sched_getparam, 0, to)),
    ask("sched_getattr", |to| call!(SYS_sched_getattr, 0, to, 56, 0)),
    ask("sched_getaffinity", |to| {
        call!(SYS_sched_getaffinity, 0, 128, to)
    }),
    ask("getpriority", |_| {
        call!(SYS_getpriority, libc::PRIO_PROCESS, 0)
    }),
    ask("ioprio_get", |_| call!(SYS_ioprio_get, 1, 0)),
    ask("PR_GET_NAME", |to| call!(SYS_prctl, libc::PR_GET_NAME, to)),
    ask("PR_GET_TIMERSLACK", |_| {
        call!(SYS_prctl, libc::PR_GET_TIMERSLACK)
    }),
    ask("PR_GET_PDEATHSIG", |to| {
        call!(SYS_prctl, libc::PR_GET_PDEATHSIG, to)
    }),
    ask("PR_GET_KEEPCAPS", |_| {
        call!(SYS_prctl, libc::PR_GET_KEEPCAPS)
    }),
    ask("PR_GET_SECUREBITS", |_| {
        call!(SYS_prctl, libc::PR_GET_SECUREBITS)
    }),
    ask("PR_GET_NO_NEW_PRIVS", |_| {
        call!(SYS_prctl, libc::PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0)
    }),
    ask("PR_GET_TSC", |to| call!(SYS_prctl, libc::PR_GET_TSC, to)),
    ask("PR_GET_SECCOMP", |_| call!(SYS_prctl, libc::PR_GET_SECCOMP)),
    ask("PR_CAPBSET_READ", |_| {
        call!(SYS_prctl, libc::PR_CAPBSET_READ, 3)
    }),
    ask("PR_CAP_AMBIENT", |_| {
        call!(SYS_prctl, libc::PR_CAP_AMBIENT, 1, 3, 0, 0)
    }),
    ask("PR_GET_SPECULATION_CTRL", |_| {
        call!(SYS_prctl, 52, 0, 0, 0, 0)
    }),
    ask("PR_GET_TID_ADDRESS", |to| call!(SYS_prctl, 40, to)),
    ask("rt_sigprocmask", |to| {
        call!(SYS_rt_sigprocmask, 0, 0, to, 8)
    }),
    ask("rt_sigpending", |to| call!(SYS_rt_sigpending, to, 8)),
    ask("sigaltstack", |to| call!(SYS_sigaltstack, 0, to)),
    ask("get_robust_list", |to| {
        call!(SYS_get_robust_list, 0, to, to.wrapping_add(8))
    }),
    ask("get_mempolicy", |to| {
        call!(SYS_get_mempolicy, to, to.wrapping_add(8), 1025, 0, 0)
    }),
    ask("personality", |_| call!(SYS_personality, -1i32 as u32)),
    ask("ARCH_GET_FS", |to| call!(SYS_arch_prctl, 0x1003, to)),
    ask("ARCH_GET_GS", |to| call!(SYS_arch_prctl, 0x1004, to)),
    ask("ARCH_GET_CPUID", |_| call!(SYS_arch_prctl, 0x1011, 0)),
    ask("capget", |to| {
        call!(SYS_capget, caps(to), to.wrapping_add(8))
    }),
    ask("getresuid", |to| {
        call!(SYS_getresuid, to, to.wrapping_add(4), to.wrapping_add(8))
    }),
    ask("getgroups", |to| call!(SYS_getgroups, 8, to)),
    ask("setfsuid", |_| call!(SYS_setfsuid, -1)),
    ask("setfsgid", |_| call!(SYS_setfsgid, -1)),
    ask("membarrier", |_| call!(SYS_membarrier, 0, 0, 0)),
    ask("rseq", |_| call!(SYS_rseq, 33, 32, 0, 0)),
    ask("getpgid", |_| call!(SYS_getpgid, 0)),
    ask("getsid", |_| call!(SYS_getsid, 0)),
];

/// The header of capget: the calling thread.
fn caps(at: *mut u8) -> *mut u8 {
    memory::store(at, 0x2008_0522u64);
    at
}

fn word(value: &u64) -> *const u64 {
    std::ptr::from_ref(value)
}

/// Makes the calling thread different from every other one.
fn become_special() -> Check {
    let zero = 0u64;
    let plain = [
        plain!(SYS_prctl, libc::PR_SET_NAME, c"owner"),
        plain!(SYS_prctl, libc::PR_SET_TIMERSLACK, 123_456),
        plain!(SYS_prctl, libc::PR_SET_PDEATHSIG, libc::SIGKILL),
        plain!(SYS_prctl, libc::PR_SET_KEEPCAPS, 1),
        plain!(SYS_sched_setscheduler, 0, libc::SCHED_BATCH, word(&zero)),
        plain!(SYS_setpriority, libc::PRIO_PROCESS, 0, 7),
        plain!(SYS_ioprio_set, 1, 0, 0x4006),
        plain!(SYS_sched_setaffinity, 0, 8, word(&1)),
        plain!(SYS_rt_sigprocmask, 0, word(&(1 << 49)), 0, 8),
        plain!(SYS_tgkill, std::process::id(), sys::gettid(), 50),
        plain!(SYS_setgroups, 2, [7u32, 9].as_ptr()),
        plain!(SYS_setresgid, 11, 12, 13),
        plain!(SYS_setfsgid, 14),
        plain!(SYS_prctl, libc::PR_CAPBSET_DROP, 3, 0, 0, 0),
    ];
    for (place, ret) in plain.into_iter().enumerate() {
        // setfsgid returns the previous group.
        let good = ret == 0 || (place == 12 && ret > 0);
        check!(good, "preparation {place}: {}", Ret(ret));
    }
    plain!(SYS_set_mempolicy, 1, word(&1), 64);
    plain!(SYS_personality, 0x0400_0000);
    // A list of robust futexes that is empty: it points to itself.
    let list = memory::pages(4096)?;
    memory::store(list, list as u64);
    check_ret!("robust list", plain!(SYS_set_robust_list, list, 24), 0);
    let stack = memory::pages(65536)?;
    let alternate = [stack as u64, 0, 65536];
    check_ret!(
        "sigaltstack",
        plain!(SYS_sigaltstack, alternate.as_ptr(), 0),
        0
    );
    Ok(())
}

/// Starts syscall threads before their owner changes.
fn start(path: Path) -> Check<(crate::kit::engine::Engine, Ring)> {
    let (engine, mut ring) = path.start()?;
    for _ in 0..3 {
        ring.run_all(&[call!(SYS_getppid).asynchronous(); 4])?;
    }
    Ok((engine, ring))
}

/// Returns true if the call was refused. No call may be refused that the owner itself executes.
pub fn refused(path: Path, name: &str, done: &[Done]) -> Check<bool> {
    let first = done[0];
    if first.reason == REASON_NONE {
        return Ok(false);
    }
    check_eq!(format!("reason of {name}"), first.reason, REASON_THREAD);
    check_ret!(format!("refused {name}"), first.result, -libc::EOPNOTSUPP);
    if let Some(second) = done.get(1) {
        check_eq!(format!("reason behind {name}"), second.reason, REASON_CHAIN);
    }
    check!(
        path != Path::Mode(Mode::Inline),
        "the owner was refused {name}"
    );
    Ok(true)
}

fn asks_about_the_thread() -> Check {
    crate::kit::limits::need_root()?;
    on_each_path(|path| {
        let (_engine, mut ring) = start(path)?;
        become_special()?;
        let mut answered = 0;
        for ask in ASKS {
            let (mut want, mut got) = ([0xA5u8; ROOM], [0xA5u8; ROOM]);
            let plain = (ask.call)(want.as_mut_ptr());
            let plain = sys::syscall(plain.nr.into(), plain.args);
            let done = path.run(&mut ring, (ask.call)(got.as_mut_ptr()))?;
            if refused(path, ask.name, &done)? {
                continue;
            }
            answered += 1;
            check_ret!(ask.name, done[0].result, plain);
            check_eq!(format!("what {} wrote", ask.name), got, want);
        }
        if path == Path::Mode(Mode::Inline) {
            check_eq!("answers", answered, ASKS.len());
        }
        Ok(())
    })
}

fn burn() -> u64 {
    (0..3_000_000u64).fold(1, |a, b| std::hint::black_box(a.wrapping_mul(31) ^ b))
}

fn thread_times() -> Check {
    on_each_path(|path| {
        let (_engine, mut ring) = start(path)?;
        burn();
        let times = |nr: i64, which: i32, at: *mut u8| {
            Call::new(nr as u16, sys::args(&[which as u64, at as u64]))
        };
        for (name, nr, which, unit) in [
            ("CLOCK_THREAD_CPUTIME_ID", libc::SYS_clock_gettime, 3, 1),
            // The same clock, by the ID of task 0, which is the caller.
            ("clock -2", libc::SYS_clock_gettime, -2, 1),
            (
                "RUSAGE_THREAD",
                libc::SYS_getrusage,
                libc::RUSAGE_THREAD,
                1000,
            ),
        ] {
            let nanoseconds = |words: [i64; 32]| {
                let first = words[0] * 1_000_000_000 + words[1] * unit;
                // getrusage: user and system time
                first
                    + if unit == 1 {
                        0
                    } else {
                        words[2] * 1_000_000_000 + words[3] * unit
                    }
            };
            let plainly = || {
                let mut words = [0i64; 32];
                let call = times(nr, which, words.as_mut_ptr().cast());
                sys::syscall(nr, call.args);
                nanoseconds(words)
            };
            let before = plainly();
            let mut words = [0i64; 32];
            let call = times(nr, which, words.as_mut_ptr().cast());
            let done = path.run(&mut ring, call)?;
            if refused(path, name, &done)? {
                continue;
            }
            let (got, after) = (nanoseconds(words), plainly());
            check!(
                (before..=after).contains(&got),
                "{name}: {got} ns, with plain calls {before} before and {after} after"
            );
        }
        Ok(())
    })
}

fn changes_of_the_thread() -> Check {
    crate::kit::limits::need_root()?;
    let plain = |call: Call| sys::syscall(call.nr.into(), call.args);
    let nice = || call!(SYS_getpriority, libc::PRIO_PROCESS, 0);
    let slack = || call!(SYS_prctl, libc::PR_GET_TIMERSLACK);
    let policy = || call!(SYS_sched_getscheduler, 0);
    let ioprio = || call!(SYS_ioprio_get, 1, 0);
    let domain = || call!(SYS_personality, -1i32 as u32);
    let fsuid = || call!(SYS_setfsuid, -1);
    let uid = || call!(SYS_getuid);
    let zero = 0u64;
    let changes: [(&str, Call, Call, i64); 7] = [
        (
            "nice",
            call!(SYS_setpriority, libc::PRIO_PROCESS, 0, 9),
            nice(),
            11,
        ),
        (
            "slack",
            call!(SYS_prctl, libc::PR_SET_TIMERSLACK, 777),
            slack(),
            777,
        ),
        (
            "policy",
            call!(SYS_sched_setscheduler, 0, libc::SCHED_IDLE, word(&zero)),
            policy(),
            5,
        ),
        (
            "ioprio",
            call!(SYS_ioprio_set, 1, 0, 0x4005),
            ioprio(),
            0x4005,
        ),
        (
            "domain",
            call!(SYS_personality, 0x0400_0000),
            domain(),
            0x0400_0000,
        ),
        ("fsuid", call!(SYS_setfsuid, 77), fsuid(), 77),
        ("uid", call!(SYS_setresuid, 78, 78, 0), uid(), 78),
    ];
    on_each_path(|path| {
        let (_engine, mut ring) = start(path)?;
        for (name, change, ask, after) in &changes {
            let before = plain(*ask);
            let done = path.run(&mut ring, *change)?;
            let want = if refused(path, name, &done)? {
                before
            } else {
                *after
            };
            check_ret!(format!("{name} after the call"), plain(*ask), want);
        }
        // The mask, and a pending signal of the thread.
        let mut mask = [0u64; 2];
        let block = 1u64 << 40;
        let done = path.run(&mut ring, call!(SYS_rt_sigprocmask, 0, word(&block), 0, 8))?;
        let refused = refused(path, "rt_sigprocmask", &done)?;
        plain!(SYS_rt_sigprocmask, 0, 0, mask.as_mut_ptr(), 8);
        check_eq!("the signal is blocked", mask[0] & block != 0, !refused);
        Ok(())
    })
}

fn locks_of_the_thread() -> Check {
    on_each_path(|path| {
        // A chain would lock twice.
        if matches!(path, Path::Chain(_)) {
            return Ok(());
        }
        let (_engine, mut ring) = start(path)?;
        let lock = std::sync::atomic::AtomicU32::new(0);
        let at = lock.as_ptr();
        let held = || lock.load(std::sync::atomic::Ordering::SeqCst);
        for private in [0, 128] {
            let done = path.run(&mut ring, call!(SYS_futex, at, 8 | private, 0, 0, 0, 0))?;
            if refused(path, "FUTEX_TRYLOCK_PI", &done)? {
                check_eq!("the word of the lock", held(), 0);
                continue;
            }
            check_ret!("FUTEX_TRYLOCK_PI", done[0].result, 0);
            check_eq!("the word of the lock", held(), sys::gettid() as u32);
            let done = path.run(&mut ring, call!(SYS_futex, at, 7 | private, 0, 0, 0, 0))?;
            if !refused(path, "FUTEX_UNLOCK_PI", &done)? {
                check_ret!("FUTEX_UNLOCK_PI", done[0].result, 0);
                check_eq!("the word of the lock", held(), 0);
            }
        }
        Ok(())
    })
}

fn waits_of_the_thread() -> Check {
    on_each_path(|path| {
        let (_engine, mut ring) = start(path)?;
        let (set, time) = (1u64 << 49, [0u64, 0]);
        let lock = sys::gettid() as u32;
        let at = std::ptr::from_ref(&lock);
        for (name, call) in [
            ("pause", call!(SYS_pause)),
            ("rt_sigsuspend", call!(SYS_rt_sigsuspend, word(&set), 8)),
            (
                "rt_sigtimedwait",
                call!(SYS_rt_sigtimedwait, word(&set), 0, time.as_ptr(), 8),
            ),
            ("FUTEX_LOCK_PI", call!(SYS_futex, at, 6, 0, 0, 0, 0)),
            (
                "clock_nanosleep",
                call!(SYS_clock_nanosleep, 3, 0, time.as_ptr(), 0),
            ),
        ] {
            let done = path.run(&mut ring, call)?;
            check_eq!(format!("reason of {name}"), done[0].reason, REASON_THREAD);
            check_ret!(name, done[0].result, -libc::EOPNOTSUPP);
        }
        Ok(())
    })
}
