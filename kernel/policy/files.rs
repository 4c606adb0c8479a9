// SPDX-License-Identifier: GPL-2.0

//! Calls that ask a file system, which may keep the caller waiting.

/// Calls that take a path or a file and are inline for some arguments: ranges, first to last.
const FILE_CALLS: &[(u16, u16)] = &[
    (0, 6),     // read to lstat
    (8, 9),     // lseek, mmap
    (11, 11),   // munmap
    (16, 20),   // ioctl to writev
    (21, 21),   // access
    (28, 28),   // madvise
    (33, 33),   // dup2
    (40, 40),   // sendfile
    (42, 42),   // connect: to a path
    (49, 49),   // bind: to a path
    (72, 73),   // fcntl, flock
    (76, 78),   // truncate to getdents
    (80, 94),   // chdir to lchown
    (132, 138), // utime to fstatfs
    (149, 149), // mlock
    (151, 151), // mlockall
    (155, 155), // pivot_root
    (161, 163), // chroot to acct
    (187, 199), // readahead to fremovexattr
    (216, 217), // remap_file_pages, getdents64
    (221, 221), // fadvise64
    (235, 235), // utimes
    (254, 254), // inotify_add_watch
    (257, 269), // openat to faccessat
    (275, 275), // splice
    (280, 280), // utimensat
    (285, 285), // fallocate
    (292, 292), // dup3
    (295, 296), // preadv, pwritev
    (301, 304), // fanotify_mark to open_by_handle_at
    (316, 316), // renameat2
    (325, 328), // mlock2 to pwritev2
    (332, 332), // statx
    (428, 433), // open_tree to fspick
    (436, 439), // close_range to faccessat2
    (442, 442), // mount_setattr
    (451, 452), // cachestat, fchmodat2
];

/// Returns true if call `nr` may ask a file system, which may keep the caller waiting.
pub(crate) fn asks_files(nr: u16) -> bool {
    FILE_CALLS
        .iter()
        .any(|(first, last)| (*first..=*last).contains(&nr))
}
