// SPDX-License-Identifier: MIT OR Apache-2.0

//! Tests the classes of single calls. Numbers and flags come from the libc crate, so that the
//! constants of the policy are checked against a second source.

use crate::policy::{
    classify,
    files::files_of,
    is_by_file, is_inline,
    Class::{self, ByFile, Inline, MayBlock, OwnThread, Refused, Unknown},
    Reason::{Life, Thread},
    LEN, QUICK,
};
use libc::*;

/// Class of call `nr`; arguments that are not given are 0.
fn class(nr: c_long, args: &[i64]) -> Class {
    let mut all = [0; 6];
    for (to, from) in all.iter_mut().zip(args) {
        *to = *from as u64;
    }
    classify(nr.try_into().expect("numbers are small"), &all)
}

/// An argument that points somewhere; no small integer has this value.
const PTR: i64 = 0x7fff_1234_5678;

/// Checks that the shortcuts for executing an entry agree with the general way.
#[test]
fn quick_questions_agree() {
    let mut found = (0, 0);
    for nr in 0..=u16::MAX {
        let quick = if is_inline(nr) {
            match files_of(nr, &[3, 4, 5, 6, 7, 8]) {
                None => 1,
                Some((3, 3)) => 3,
                Some(_) => 0,
            }
        } else if is_by_file(nr) {
            2
        } else {
            0
        };
        let in_table = QUICK.get(usize::from(nr));
        assert_eq!(in_table.copied().unwrap_or(0), quick, "call {nr}");
        assert_eq!(in_table.is_some(), usize::from(nr) < LEN);
        for args in [[0; 6], [3, PTR as u64, 1 << 20, 7, 0xff, 0x2000]] {
            let class = classify(nr, &args);
            let fd = args[0] as u32;
            if is_inline(nr) {
                found.0 += 1;
                assert_eq!(class, Inline, "call {nr} with {args:x?}");
            }
            if is_by_file(nr) {
                found.1 += 1;
                assert_eq!(class, ByFile(fd, fd), "call {nr} with {args:x?}");
            }
        }
    }
    assert!(found.0 > 200 && found.1 >= 2 * 9, "{found:?}");
}

#[test]
fn plain_calls_are_inline() {
    for nr in [
        SYS_getpid,
        SYS_getppid,
        SYS_getuid,
        SYS_openat,
        SYS_close,
        SYS_statx,
        SYS_fstat,
        SYS_newfstatat,
        SYS_mkdir,
        SYS_getdents64,
        SYS_unlinkat,
        SYS_munmap,
        SYS_madvise,
        SYS_dup2,
        SYS_pipe2,
        SYS_socket,
        SYS_kill,
        SYS_tgkill,
        SYS_rt_sigaction,
        SYS_umask,
        SYS_chdir,
        SYS_lseek,
        SYS_ftruncate,
        SYS_capget,
        SYS_setitimer,
        SYS_prlimit64,
        SYS_copy_file_range,
    ] {
        assert_eq!(class(nr, &[]), Inline, "call {nr}");
    }
}

#[test]
fn calls_on_files_go_by_the_file() {
    for nr in [
        SYS_read,
        SYS_write,
        SYS_readv,
        SYS_writev,
        SYS_preadv2,
        SYS_connect,
        SYS_accept4,
        SYS_sendto,
        SYS_recvfrom,
        SYS_sendmsg,
        SYS_recvmsg,
        SYS_recvmmsg,
        SYS_mq_timedreceive,
    ] {
        assert_eq!(class(nr, &[7, PTR]), ByFile(7, 7), "call {nr}");
    }
    // The kernel sees only 32 bits of a descriptor, too.
    assert_eq!(class(SYS_read, &[-1]), ByFile(u32::MAX, u32::MAX));
    assert_eq!(class(SYS_read, &[7 + (1 << 32)]), ByFile(7, 7));
    assert_eq!(class(SYS_sendfile, &[7, 8]), ByFile(7, 8));
    assert_eq!(class(SYS_splice, &[7, 0, 8]), ByFile(7, 8));
    assert_eq!(class(SYS_tee, &[7, 8]), ByFile(7, 8));
}

#[test]
fn flags_that_forbid_waiting_make_calls_inline() {
    let dontwait = i64::from(MSG_DONTWAIT);
    for nr in [SYS_sendto, SYS_recvfrom, SYS_sendmmsg, SYS_recvmmsg] {
        assert_eq!(class(nr, &[7, PTR, 1, dontwait]), Inline, "call {nr}");
    }
    for nr in [SYS_sendmsg, SYS_recvmsg] {
        assert_eq!(class(nr, &[7, PTR, dontwait]), Inline, "call {nr}");
    }
    for nr in [SYS_preadv2, SYS_pwritev2] {
        assert_eq!(
            class(nr, &[7, PTR, 1, 0, 0, i64::from(RWF_NOWAIT)]),
            Inline,
            "call {nr}"
        );
    }
    let nonblock = i64::from(SPLICE_F_NONBLOCK);
    assert_eq!(class(SYS_tee, &[7, 8, 1, nonblock]), Inline);
    assert_eq!(class(SYS_vmsplice, &[7, PTR, 1, nonblock]), Inline);
    assert_eq!(class(SYS_vmsplice, &[7, PTR, 1, 0]), MayBlock);

    let nowait = i64::from(IPC_NOWAIT);
    assert_eq!(class(SYS_msgsnd, &[7, PTR, 1, nowait]), Inline);
    assert_eq!(class(SYS_msgsnd, &[7, PTR, 1, 0]), MayBlock);
    assert_eq!(class(SYS_msgrcv, &[7, PTR, 1, 0, nowait]), Inline);
    assert_eq!(class(SYS_msgrcv, &[7, PTR, 1, nowait, 0]), MayBlock);

    for (op, want) in [
        (LOCK_SH, MayBlock),
        (LOCK_EX, MayBlock),
        (LOCK_EX | LOCK_NB, Inline),
        (LOCK_UN, Inline),
    ] {
        assert_eq!(class(SYS_flock, &[7, op.into()]), want, "flock {op}");
    }
    assert_eq!(class(SYS_msync, &[PTR, 1, MS_ASYNC.into()]), Inline);
    assert_eq!(class(SYS_msync, &[PTR, 1, MS_SYNC.into()]), MayBlock);
    let wait = i64::from(SYNC_FILE_RANGE_WAIT_AFTER);
    let write = i64::from(SYNC_FILE_RANGE_WRITE);
    assert_eq!(class(SYS_sync_file_range, &[7, 0, 0, write]), Inline);
    assert_eq!(
        class(SYS_sync_file_range, &[7, 0, 0, write | wait]),
        MayBlock
    );
}

#[test]
fn waits_with_timeout_zero_are_inline() {
    // A timeout is an int: the upper half of the word does not count.
    for (timeout, want) in [
        (0, Inline),
        (1 << 32, Inline),
        (-1, MayBlock),
        (5, MayBlock),
    ] {
        assert_eq!(class(SYS_poll, &[PTR, 1, timeout]), want);
        assert_eq!(class(SYS_epoll_wait, &[7, PTR, 1, timeout]), want);
        assert_eq!(class(SYS_epoll_pwait, &[7, PTR, 1, timeout]), want);
    }
    assert_eq!(class(SYS_select, &[1, PTR]), MayBlock);
    assert_eq!(class(SYS_io_getevents, &[PTR, 0, 8, PTR]), Inline);
    assert_eq!(class(SYS_io_getevents, &[PTR, 1, 8, PTR]), MayBlock);
}

#[test]
fn a_signal_mask_is_not_set_on_another_thread() {
    assert_eq!(class(SYS_epoll_pwait, &[7, PTR, 1, 0, PTR]), OwnThread);
    assert_eq!(
        class(SYS_epoll_pwait, &[7, PTR, 1, -1, PTR]),
        Refused(Thread)
    );
    assert_eq!(class(SYS_epoll_pwait2, &[7, PTR, 1, PTR, 0]), MayBlock);
    assert_eq!(
        class(SYS_epoll_pwait2, &[7, PTR, 1, PTR, PTR]),
        Refused(Thread)
    );
    assert_eq!(class(SYS_ppoll, &[PTR, 1, PTR, 0]), MayBlock);
    assert_eq!(class(SYS_ppoll, &[PTR, 1, PTR, PTR]), Refused(Thread));
    assert_eq!(class(SYS_pselect6, &[1, PTR, 0, 0, PTR, 0]), MayBlock);
    assert_eq!(
        class(SYS_pselect6, &[1, PTR, 0, 0, PTR, PTR]),
        Refused(Thread)
    );
    const SYS_IO_PGETEVENTS: c_long = 333;
    assert_eq!(class(SYS_IO_PGETEVENTS, &[PTR, 0, 8, PTR, 0, 0]), Inline);
    assert_eq!(class(SYS_IO_PGETEVENTS, &[PTR, 1, 8, PTR, 0, 0]), MayBlock);
    assert_eq!(
        class(SYS_IO_PGETEVENTS, &[PTR, 0, 8, PTR, 0, PTR]),
        OwnThread
    );
    assert_eq!(
        class(SYS_IO_PGETEVENTS, &[PTR, 1, 8, PTR, 0, PTR]),
        Refused(Thread)
    );
}

#[test]
fn calls_that_wait_go_to_syscall_threads() {
    for nr in [
        SYS_nanosleep,
        SYS_semop,
        SYS_semtimedop,
        SYS_futex_waitv,
        SYS_fsync,
        SYS_sync,
        SYS_io_submit,
    ] {
        assert_eq!(class(nr, &[]), MayBlock, "call {nr}");
    }
    for (options, want) in [
        (0, MayBlock),
        (WNOHANG, Inline),
        (WUNTRACED, MayBlock),
        (WNOHANG | __WNOTHREAD, OwnThread),
        (__WNOTHREAD, Refused(Thread)),
    ] {
        assert_eq!(
            class(SYS_wait4, &[-1, PTR, options.into()]),
            want,
            "wait4 {options:#x}"
        );
        let args = [0, 0, PTR, i64::from(options | WEXITED)];
        assert_eq!(class(SYS_waitid, &args), want, "waitid {options:#x}");
    }
    assert_eq!(class(SYS_syslog, &[2, PTR, 1]), MayBlock);
    assert_eq!(class(SYS_syslog, &[3, PTR, 1]), Inline);
}

#[test]
fn futex_goes_by_the_operation() {
    for (op, want) in [
        (FUTEX_WAIT, MayBlock),
        (FUTEX_WAIT_BITSET, MayBlock),
        (FUTEX_WAKE, Inline),
        (FUTEX_WAKE_BITSET, Inline),
        (FUTEX_REQUEUE, Inline),
        (FUTEX_CMP_REQUEUE, Inline),
        (FUTEX_WAKE_OP, Inline),
        (FUTEX_LOCK_PI, Refused(Thread)),
        (FUTEX_LOCK_PI2, Refused(Thread)),
        (FUTEX_WAIT_REQUEUE_PI, Refused(Thread)),
        (FUTEX_TRYLOCK_PI, OwnThread),
        (FUTEX_UNLOCK_PI, OwnThread),
        (FUTEX_CMP_REQUEUE_PI, OwnThread),
        (0x7f, Inline),
    ] {
        for flags in [
            0,
            FUTEX_PRIVATE_FLAG,
            FUTEX_PRIVATE_FLAG | FUTEX_CLOCK_REALTIME,
        ] {
            assert_eq!(
                class(SYS_futex, &[PTR, (op | flags).into()]),
                want,
                "futex {op}"
            );
        }
    }
}

#[test]
fn fcntl_goes_by_the_command() {
    for (cmd, arg, want) in [
        (F_GETFL, 0, Inline),
        (F_DUPFD_CLOEXEC, 0, Inline),
        (F_SETLK, PTR, Inline),
        (F_OFD_SETLK, PTR, Inline),
        (F_SETLKW, PTR, MayBlock),
        (F_OFD_SETLKW, PTR, MayBlock),
        (F_SETLEASE, 0, OwnThread),
        (F_NOTIFY, 0, OwnThread),
        (F_SETFL, O_NONBLOCK.into(), Inline),
        (F_SETFL, O_ASYNC.into(), OwnThread),
        (F_ADD_SEALS, 0, Inline),
    ] {
        assert_eq!(class(SYS_fcntl, &[7, cmd.into(), arg]), want, "fcntl {cmd}");
    }
}

#[test]
fn ioctl_goes_by_the_command() {
    let ioctl = |cmd: Ioctl| class(SYS_ioctl, &[7, cmd as i64, PTR]);
    for cmd in [
        FIONREAD,
        FIONBIO,
        FIOCLEX,
        FIONCLEX,
        TCGETS,
        TIOCGWINSZ,
        TIOCOUTQ,
        FS_IOC_GETFLAGS,
        FS_IOC_SETFLAGS,
        FICLONE,
        FICLONERANGE,
    ] {
        assert_eq!(ioctl(cmd), Inline, "ioctl {cmd:#x}");
    }
    for cmd in [
        FIOASYNC, TIOCGPGRP, TIOCSPGRP, 0x8904, // SIOCGPGRP
        0x8927, // SIOCGIFHWADDR
    ] {
        assert_eq!(ioctl(cmd), OwnThread, "ioctl {cmd:#x}");
    }
    // The wait of these commands is unbounded.
    for cmd in [
        TCSBRK,
        TCSETSW,
        TIOCMIWAIT,
        TIOCSCTTY,
        0x8946,      // SIOCETHTOOL
        0xAE80,      // KVM_RUN
        0xC030_6201, // BINDER_WRITE_READ
        0xC004_5877, // FIFREEZE
        0xC018_5879, // FITRIM
        0xFFFF_FFFF,
    ] {
        assert_eq!(ioctl(cmd), Refused(Thread), "ioctl {cmd:#x}");
    }
    // WAIT, WAIT_FAST: an entry that waited for entries would wait for itself.
    assert_eq!(ioctl(0x4028_DA02), Refused(Thread));
    assert_eq!(ioctl(0xDA03), Refused(Thread));
    // The others fail with EBUSY. Another file's commands may have the same magic.
    assert_eq!(ioctl(0xDA04), OwnThread);
    assert_eq!(ioctl(0xC038_DA00), OwnThread);
    assert_eq!(ioctl(0xDA0B), Refused(Thread));
}

#[test]
fn task_zero_is_the_owner() {
    for nr in [
        SYS_sched_getaffinity,
        SYS_sched_setaffinity,
        SYS_sched_getscheduler,
        SYS_sched_setattr,
        SYS_sched_rr_get_interval,
        SYS_get_robust_list,
        SYS_move_pages,
    ] {
        assert_eq!(class(nr, &[0]), OwnThread, "call {nr}");
        assert_eq!(class(nr, &[1 << 32]), OwnThread, "call {nr}");
        assert_eq!(class(nr, &[1234]), Inline, "call {nr}");
    }
    for nr in [SYS_getpriority, SYS_setpriority] {
        assert_eq!(class(nr, &[PRIO_PROCESS.into(), 0]), OwnThread);
        assert_eq!(class(nr, &[PRIO_PROCESS.into(), 12]), Inline);
        assert_eq!(class(nr, &[PRIO_USER.into(), 0]), Inline);
    }
    for nr in [SYS_ioprio_get, SYS_ioprio_set] {
        let (process, pgrp) = (1, 2);
        assert_eq!(class(nr, &[process, 0]), OwnThread);
        assert_eq!(class(nr, &[process, 12]), Inline);
        assert_eq!(class(nr, &[pgrp, 0]), Inline);
    }
}

#[test]
fn what_counts_for_a_thread_is_asked_of_the_owner() {
    for nr in [
        SYS_gettid,
        SYS_getcpu,
        SYS_sched_yield,
        SYS_setuid,
        SYS_setfsgid,
        SYS_capset,
        SYS_setgroups,
        SYS_rt_sigprocmask,
        SYS_rt_sigpending,
        SYS_sigaltstack,
        SYS_set_tid_address,
        SYS_set_robust_list,
        SYS_rseq,
        SYS_personality,
        SYS_set_mempolicy,
        SYS_get_mempolicy,
        SYS_keyctl,
        SYS_add_key,
        SYS_unshare,
        SYS_setns,
        SYS_arch_prctl,
        SYS_seccomp,
        SYS_ptrace,
        SYS_perf_event_open,
        SYS_io_uring_setup,
        SYS_io_uring_register,
        SYS_pkey_alloc,
        SYS_shmget,
        SYS_rt_sigqueueinfo,
        SYS_landlock_restrict_self,
    ] {
        assert_eq!(class(nr, &[]), OwnThread, "call {nr}");
    }
    assert_eq!(class(SYS_getrusage, &[RUSAGE_SELF.into()]), Inline);
    assert_eq!(class(SYS_getrusage, &[RUSAGE_CHILDREN.into()]), Inline);
    assert_eq!(class(SYS_getrusage, &[RUSAGE_THREAD.into()]), OwnThread);
    assert_eq!(class(SYS_prctl, &[PR_SET_NAME.into()]), OwnThread);
    assert_eq!(class(SYS_prctl, &[PR_GET_NO_NEW_PRIVS.into()]), OwnThread);
    assert_eq!(class(SYS_prctl, &[PR_GET_DUMPABLE.into()]), Inline);
    assert_eq!(class(SYS_prctl, &[PR_SET_CHILD_SUBREAPER.into()]), Inline);
    assert_eq!(class(SYS_prctl, &[PR_GET_THP_DISABLE.into()]), Inline);
    assert_eq!(class(SYS_prctl, &[PR_SET_VMA.into()]), Inline);
    assert_eq!(class(SYS_prctl, &[PR_GET_MDWE.into()]), Inline);
    assert_eq!(
        class(SYS_pidfd_send_signal, &[7, SIGUSR1.into(), 0]),
        Inline
    );
    assert_eq!(
        class(SYS_pidfd_send_signal, &[7, SIGUSR1.into(), PTR]),
        OwnThread
    );
    assert_eq!(class(SYS_close_range, &[3, -1, 0]), Inline);
    assert_eq!(
        class(SYS_close_range, &[3, -1, CLOSE_RANGE_UNSHARE.into()]),
        OwnThread
    );
    for nr in [SYS_mmap, SYS_mprotect, SYS_pkey_mprotect] {
        assert_eq!(
            class(nr, &[PTR, 4096, (PROT_READ | PROT_EXEC).into()]),
            Inline
        );
        assert_eq!(class(nr, &[PTR, 4096, PROT_EXEC.into()]), OwnThread);
    }
}

#[test]
fn cpu_clocks_of_tasks_belong_to_the_owner() {
    let fd_clock = i64::from((!7 << 3) | 3);
    let thread_clock = i64::from((!1234 << 3) | 4 | 2);
    let process_clock = i64::from((!1234 << 3) | 2);
    for (clock, time, sleep) in [
        (CLOCK_REALTIME.into(), Inline, MayBlock),
        (CLOCK_MONOTONIC.into(), Inline, MayBlock),
        (CLOCK_PROCESS_CPUTIME_ID.into(), Inline, MayBlock),
        (CLOCK_THREAD_CPUTIME_ID.into(), OwnThread, Refused(Thread)),
        (thread_clock, OwnThread, Refused(Thread)),
        (process_clock, OwnThread, Refused(Thread)),
        (fd_clock, Inline, MayBlock),
    ] {
        assert_eq!(
            class(SYS_clock_gettime, &[clock, PTR]),
            time,
            "clock {clock}"
        );
        assert_eq!(
            class(SYS_timer_create, &[clock, PTR]),
            time,
            "clock {clock}"
        );
        assert_eq!(
            class(SYS_clock_nanosleep, &[clock, 0, PTR]),
            sleep,
            "clock {clock}"
        );
    }
}

#[test]
fn io_uring_enter_must_not_wait() {
    let getevents = 1;
    assert_eq!(class(SYS_io_uring_enter, &[7, 4, 0, 0]), OwnThread);
    assert_eq!(class(SYS_io_uring_enter, &[7, 4, 0, getevents]), OwnThread);
    assert_eq!(
        class(SYS_io_uring_enter, &[7, 4, 1, getevents]),
        Refused(Thread)
    );
    assert_eq!(class(SYS_io_uring_enter, &[7, 4, 1, 0]), OwnThread);
    let sq_wait = 4;
    assert_eq!(
        class(SYS_io_uring_enter, &[7, 0, 0, sq_wait]),
        Refused(Thread)
    );
}

#[test]
fn own_calls_must_not_wait() {
    let registered_ring = 1 << 31;
    for op in [1, 3, 24, 1 | registered_ring] {
        assert_eq!(class(SYS_io_uring_register, &[7, op]), Refused(Thread));
    }
    for op in [0, 2, 4, 19] {
        assert_eq!(class(SYS_io_uring_register, &[7, op]), OwnThread);
    }
    for nr in [
        SYS_init_module,
        SYS_finit_module,
        SYS_delete_module,
        SYS_request_key,
    ] {
        assert_eq!(class(nr, &[]), Refused(Thread), "call {nr}");
    }
    let prog_test_run = 10;
    assert_eq!(class(SYS_bpf, &[prog_test_run]), Refused(Thread));
    assert_eq!(class(SYS_bpf, &[0]), Inline);
}

#[test]
fn life_and_death_are_refused() {
    for nr in [
        SYS_clone,
        SYS_clone3,
        SYS_fork,
        SYS_vfork,
        SYS_execve,
        SYS_execveat,
        SYS_exit,
        SYS_exit_group,
        SYS_rt_sigreturn,
        SYS_restart_syscall,
        SYS_reboot,
    ] {
        assert_eq!(class(nr, &[]), Refused(Life), "call {nr}");
    }
    for nr in [SYS_pause, SYS_rt_sigsuspend, SYS_rt_sigtimedwait] {
        assert_eq!(class(nr, &[]), Refused(Thread), "call {nr}");
    }
}

#[test]
fn positional_io_never_waits_for_an_event() {
    for nr in [SYS_pread64, SYS_pwrite64, SYS_preadv, SYS_pwritev] {
        assert_eq!(class(nr, &[7, PTR, 1]), Inline, "call {nr}");
    }
    // With offset -1 they use the file's own position, as readv does.
    for nr in [SYS_preadv2, SYS_pwritev2] {
        assert_eq!(class(nr, &[7, PTR, 1, -1]), ByFile(7, 7), "call {nr}");
    }
}

#[test]
fn numbers_of_nothing_are_unknown() {
    for nr in [336, 400, 423, 463, 512, 520, 547, 549, 0x7FFF, 0xFFFF] {
        assert_eq!(class(nr, &[]), Unknown, "call {nr}");
    }
}
