// SPDX-License-Identifier: MIT OR Apache-2.0
//! Calls that are refused: bad entries, bad numbers, forbidden calls, bad pointers.

use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::states::{check_echoes, echo};
use crate::check::{Check, Ret};
use crate::kit::abi::{self, REASON_ENTRY, REASON_LIFE, REASON_NONE, REASON_THREAD};
use crate::kit::files::{TempDir, memory_file, pipe};
use crate::kit::mode::{Mode, in_modes};
use crate::kit::ring::{Call, Done};
use crate::kit::sys;
use crate::kit::uffd::Slow;

tests! { "entries":
    unknown_flags => "an entry with an unknown flag is EINVAL, reason ENTRY";
    unknown_pool => "an entry for a pool that does not exist is EINVAL, reason ENTRY";
    take_from_nothing => "an entry that takes a result outside of a chain is EINVAL, reason ENTRY";
    reason_is_reset => "the reason of a refused call does not stay in the slot";
    bad_among_good => "bad entries do not disturb the good ones around them";
    unknown_numbers => "numbers without a system call are ENOSYS: gaps, 65535, x32";
    refused_life => "calls that make, end or replace threads are EOPNOTSUPP, reason LIFE";
    refused_thread => "calls that wait on the thread's own behalf are EOPNOTSUPP, reason THREAD";
    refused_ioctls => "an ioctl that may wait is EOPNOTSUPP, reason THREAD, and never waits";
    own_thread_only => "calls on the thread's own state: as plain ones if inline, else refused";
    refused_does_nothing => "a refused call has no effect: the process lives on unchanged";
    bad_pointers => "bad addresses are EFAULT, as for plain calls";
    kernel_addresses => "kernel addresses are EFAULT, and nothing is read from them";
}

fn check_done(what: &str, done: Done, result: i32, reason: u8) -> Check {
    check!(
        done.result == i64::from(result) && done.reason == reason,
        "{what}: {} reason {}, expected {} reason {reason}",
        Ret(done.result),
        done.reason,
        Ret(result.into())
    );
    Ok(())
}

fn unknown_flags() -> Check {
    in_modes(1, |engine, ring| {
        let calls: Vec<Call> = (5..8)
            .map(|bit| Call {
                flags: 1 << bit,
                ..call!(SYS_getpid)
            })
            .collect();
        for (call, done) in calls.iter().zip(ring.run_all(&calls)?) {
            check_done(
                &format!("flags {:#x}", call.flags),
                done,
                -libc::EINVAL,
                REASON_ENTRY,
            )?;
        }
        check_eq!("refused", engine.stats()?.refused, 3);
        Ok(())
    })
}

fn unknown_pool() -> Check {
    in_modes(1, |_, ring| {
        let pools = [1, 2, 7, 8, 64, 127, 128, 255];
        let calls = pools.map(|pool| Call {
            pool,
            ..call!(SYS_getpid)
        });
        for (call, done) in calls.iter().zip(ring.run_all(&calls)?) {
            check_done(
                &format!("pool {}", call.pool),
                done,
                -libc::EINVAL,
                REASON_ENTRY,
            )?;
        }
        Ok(())
    })
}

fn take_from_nothing() -> Check {
    in_modes(1, |_, ring| {
        let bytes = [abi::take(0, 1), abi::take(5, 32), 0x07, 0x08, 0x80, 0xff];
        let calls = bytes.map(|byte| [[byte, 0], [0, byte]]).concat();
        let calls: Vec<Call> = calls
            .into_iter()
            .map(|take| Call {
                take,
                ..call!(SYS_getpid)
            })
            .collect();
        for (call, done) in calls.iter().zip(ring.run_all(&calls)?) {
            check_done(
                &format!("take {:?}", call.take),
                done,
                -libc::EINVAL,
                REASON_ENTRY,
            )?;
        }
        Ok(())
    })
}

fn reason_is_reset() -> Check {
    in_modes(1, |_, ring| {
        let me = std::process::id() as i32;
        let bad = Call {
            take: [1, 0],
            ..call!(SYS_getpid)
        };
        let steps = [
            (call!(SYS_getpid), me, REASON_NONE),
            (bad, -libc::EINVAL, REASON_ENTRY),
            (call!(SYS_getpid), me, REASON_NONE),
            (call!(SYS_vfork), -libc::EOPNOTSUPP, REASON_LIFE),
            (call!(SYS_close, -1), -libc::EBADF, REASON_NONE),
        ];
        for (call, result, reason) in steps {
            let done = ring.run(call)?;
            check_eq!("slot", done.slot, 0);
            check_done(&format!("{call:?}"), done, result, reason)?;
        }
        Ok(())
    })
}

fn bad_among_good() -> Check {
    let file = memory_file()?;
    in_modes(2, |_, ring| {
        let calls: Vec<Call> = (0..128)
            .map(|n| match n % 4 {
                1 => Call {
                    take: [1, 0],
                    ..call!(SYS_getpid)
                },
                2 => call!(SYS_fork),
                3 => Call::new(9999, [0; 6]),
                _ => echo(&file, n + 1),
            })
            .collect();
        for (index, done) in ring.run_all(&calls)?.into_iter().enumerate() {
            match index % 4 {
                1 => check_done("bad entry", done, -libc::EINVAL, REASON_ENTRY)?,
                2 => check_done("fork", done, -libc::EOPNOTSUPP, REASON_LIFE)?,
                3 => check_done("call 9999", done, -libc::ENOSYS, REASON_NONE)?,
                _ => check_echoes(&[done], |_| index as u64 + 1)?,
            }
        }
        Ok(())
    })
}

fn unknown_numbers() -> Check {
    in_modes(1, |_, ring| {
        // 336 to 423 are a gap, 512 to 547 belong to x32.
        let numbers = [
            336, 337, 400, 423, 480, 511, 512, 520, 547, 549, 1000, 4096, 0x4000, 0x7fff, 0x8000,
            65534, 65535,
        ];
        let calls = numbers.map(|nr| Call::new(nr, [0; 6]));
        for (nr, done) in numbers.iter().zip(ring.run_all(&calls)?) {
            check_done(&format!("call {nr}"), done, -libc::ENOSYS, REASON_NONE)?;
        }
        Ok(())
    })
}

/// Calls that make, end or replace a thread, or its registers.
const LIFE: [i64; 10] = [
    libc::SYS_clone,
    libc::SYS_fork,
    libc::SYS_vfork,
    libc::SYS_execve,
    libc::SYS_exit,
    libc::SYS_exit_group,
    libc::SYS_execveat,
    libc::SYS_clone3,
    libc::SYS_rt_sigreturn,
    libc::SYS_restart_syscall,
];

fn refused_life() -> Check {
    in_modes(1, |engine, ring| {
        let calls = LIFE.map(|nr| Call::new(nr as u16, [0; 6]));
        for (call, done) in calls.iter().zip(ring.run_all(&calls)?) {
            check_done(
                &format!("call {}", call.nr),
                done,
                -libc::EOPNOTSUPP,
                REASON_LIFE,
            )?;
        }
        check_eq!("refused", engine.stats()?.refused, LIFE.len() as u64);
        Ok(())
    })
}

fn refused_thread() -> Check {
    let mask = 0u64;
    let mask = std::ptr::from_ref(&mask);
    let word = 0u32;
    let word = std::ptr::from_ref(&word);
    in_modes(1, |_, ring| {
        // No thread can make these from a page: they wait for the caller's own signals, or take a
        // lock on its behalf.
        let calls = [
            call!(SYS_pause),
            call!(SYS_rt_sigsuspend, mask, 8),
            call!(SYS_ppoll, 0, 0, 0, mask, 8),
            call!(SYS_futex, word, libc::FUTEX_LOCK_PI, 0, 0),
        ];
        for (call, done) in calls.iter().zip(ring.run_all(&calls)?) {
            check_done(
                &format!("call {}", call.nr),
                done,
                -libc::EOPNOTSUPP,
                REASON_THREAD,
            )?;
        }
        Ok(())
    })
}

// From asm-generic/ioctls.h, asm-generic/sockios.h and others.
const FIOASYNC: u32 = 0x5452;
const FIOGETOWN: u32 = 0x8903;
const MAY_WAIT: [u32; 7] = [
    0x5409,      // TCSBRK
    0x545c,      // TIOCMIWAIT
    0x8946,      // SIOCETHTOOL
    0xae80,      // KVM_RUN
    0xc004_5877, // FIFREEZE
    0xc018_5879, // FITRIM
    0xc030_6201, // BINDER_WRITE_READ
];

fn refused_ioctls() -> Check {
    let master = ok!(
        "/dev/ptmx",
        sys::open(c"/dev/ptmx", libc::O_RDWR | libc::O_NOCTTY, 0)
    );
    let refused = |what: &str, done| check_done(what, done, -libc::EOPNOTSUPP, REASON_THREAD);
    in_modes(1, |_, ring| {
        let calls = MAY_WAIT.map(|command| call!(SYS_ioctl, &master, command, 0));
        for (command, done) in MAY_WAIT.iter().zip(ring.run_all(&calls)?) {
            refused(&format!("ioctl {command:#x}"), done)?;
        }
        // This call would wait until another thread provides the memory with its settings.
        let page = Slow::page()?;
        let calls = [
            call!(SYS_ioctl, &master, libc::TCSETS, page.at),
            call!(SYS_getpid),
        ];
        let over = AtomicBool::new(false);
        let (done, waited) = std::thread::scope(|scope| -> Check<_> {
            let provider = scope.spawn(|| -> Check<bool> {
                while !over.load(Ordering::Relaxed) {
                    if page.is_wanted(Duration::from_millis(10)) {
                        page.provide()?;
                        return Ok(true);
                    }
                }
                Ok(false)
            });
            let done = ring.run_all(&calls);
            over.store(true, Ordering::Relaxed);
            Ok((done?, provider.join().expect("no panic")?))
        })?;
        check!(!waited, "the ioctl has waited for memory");
        refused("TCSETS", done[0])?;
        check_ret!("getpid", done[1].result, std::process::id());
        Ok(())
    })
}

fn own_thread_only() -> Check {
    let mut old = u64::MAX;
    let old_at = std::ptr::from_mut(&mut old);
    let mut stack = [0u64; 3];
    let mut base = 0u64;
    let base_at = std::ptr::from_mut(&mut base);
    let get_fs = 0x1003;
    let (from, _to) = pipe()?;
    let calls = [
        call!(SYS_gettid),
        call!(SYS_rt_sigprocmask, libc::SIG_SETMASK, 0, old_at, 8),
        call!(SYS_sigaltstack, 0, stack.as_mut_ptr()),
        call!(SYS_arch_prctl, get_fs, base_at),
        call!(SYS_prctl, libc::PR_GET_NAME, stack.as_mut_ptr()),
        call!(SYS_sched_getscheduler, 0),
        call!(SYS_unshare, 0),
        call!(SYS_ioctl, &from, FIOGETOWN, stack.as_mut_ptr()),
        call!(SYS_ioctl, &from, FIOASYNC, stack.as_mut_ptr()),
    ];
    in_modes(1, |_, ring| {
        for (call, done) in calls.iter().zip(ring.run_all(&calls)?) {
            if ring.mode == Mode::Inline {
                let want = sys::syscall(call.nr.into(), call.args);
                check_ret!(format!("call {} by its owner", call.nr), done.result, want);
            } else {
                check_done(
                    &format!("call {}", call.nr),
                    done,
                    -libc::EOPNOTSUPP,
                    REASON_THREAD,
                )?;
            }
        }
        Ok(())
    })?;
    let mut plain = 0u64;
    plain!(SYS_arch_prctl, get_fs, std::ptr::from_mut(&mut plain));
    check_eq!("FS base according to an entry", base, plain);
    Ok(())
}

fn refused_does_nothing() -> Check {
    let dir = TempDir::new()?;
    let program = dir.join("program");
    let argv = [std::ptr::null::<u8>()];
    in_modes(1, |_, ring| {
        let calls = [
            call!(SYS_exit_group, 3),
            call!(SYS_exit, 4),
            call!(SYS_execve, program.as_c_str(), argv.as_ptr(), argv.as_ptr()),
            call!(SYS_fork),
            call!(SYS_clone, libc::SIGCHLD, 0, 0, 0, 0),
        ];
        for done in ring.run_all(&calls)? {
            check_done("refused call", done, -libc::EOPNOTSUPP, REASON_LIFE)?;
        }
        let pid = std::process::id() as i32;
        check_eq!("children", crate::kit::process::children(pid).len(), 0);
        check_ret!("getpid", ring.result(call!(SYS_getpid))?, pid);
        Ok(())
    })
}

fn bad_pointers() -> Check {
    let zero = ok!("open /dev/zero", sys::open(c"/dev/zero", libc::O_RDWR, 0));
    let file = memory_file()?;
    let fd = file.as_raw_fd();
    check_ret!("ftruncate", plain!(SYS_ftruncate, fd, 100), 0);
    in_modes(1, |_, ring| {
        for at in [0u64, 8, 4095, 0x7fff_ffff_f000] {
            let calls = [
                call!(SYS_read, &zero, at, 64),
                call!(SYS_pread64, fd, at, 64, 0),
                call!(SYS_write, fd, at, 64),
                call!(SYS_openat, libc::AT_FDCWD, at, libc::O_RDONLY),
                call!(SYS_pipe2, at, 0),
                call!(SYS_uname, at),
                call!(SYS_fstat, fd, at),
                call!(SYS_getcwd, at, 100),
                call!(SYS_newfstatat, libc::AT_FDCWD, at, at, 0),
            ];
            for (call, done) in calls.iter().zip(ring.run_all(&calls)?) {
                let want = sys::syscall(call.nr.into(), call.args);
                check_ret!(
                    format!("plain call {} at {at:#x}", call.nr),
                    want,
                    -libc::EFAULT
                );
                check_done(&format!("{call:?}"), done, -libc::EFAULT, REASON_NONE)?;
            }
        }
        Ok(())
    })
}

fn kernel_addresses() -> Check {
    let file = memory_file()?;
    let fd = file.as_raw_fd();
    let zero = ok!("open /dev/zero", sys::open(c"/dev/zero", libc::O_RDWR, 0));
    in_modes(1, |_, ring| {
        let addresses = [
            0x8000_0000_0000_0000u64,
            0xffff_8880_0000_0000,
            0xffff_ffff_8100_0000,
            u64::MAX - 63,
        ];
        for at in addresses {
            let calls = [
                call!(SYS_write, fd, at, 64),
                call!(SYS_pwrite64, fd, at, 64, 0),
                call!(SYS_read, &zero, at, 64),
                call!(SYS_openat, libc::AT_FDCWD, at, libc::O_RDONLY),
            ];
            for (call, done) in calls.iter().zip(ring.run_all(&calls)?) {
                check_done(&format!("{call:?}"), done, -libc::EFAULT, REASON_NONE)?;
            }
        }
        check_ret!(
            "size of the file",
            plain!(SYS_lseek, fd, 0, libc::SEEK_END),
            0
        );
        Ok(())
    })
}
