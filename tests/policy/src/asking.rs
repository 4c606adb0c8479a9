// SPDX-License-Identifier: MIT OR Apache-2.0

//! Tests which calls may ask a file system.

use crate::policy::files::asks_files;
use libc::*;

#[test]
fn calls_with_a_path_or_a_file_ask_files() {
    for nr in [
        SYS_open,
        SYS_close,
        SYS_stat,
        SYS_lseek,
        SYS_pread64,
        SYS_ftruncate,
        SYS_rename,
        SYS_lchown,
        SYS_statfs,
        SYS_getdents64,
        SYS_openat,
        SYS_faccessat,
        SYS_utimensat,
        SYS_fallocate,
        SYS_renameat2,
        SYS_copy_file_range,
        SYS_statx,
        SYS_openat2,
        SYS_read,
        SYS_mmap,
        SYS_splice,
        SYS_mlock2,
    ] {
        assert!(asks_files(nr as u16), "call {nr}");
    }
    for nr in [
        SYS_pipe,
        SYS_getpid,
        SYS_getcwd,
        SYS_umask,
        SYS_gettimeofday,
        SYS_futex,
        SYS_clock_gettime,
        SYS_epoll_ctl,
        SYS_eventfd2,
        SYS_pipe2,
        SYS_process_vm_readv,
        SYS_getrandom,
        SYS_bpf,
    ] {
        assert!(!asks_files(nr as u16), "call {nr}");
    }
}
