// SPDX-License-Identifier: GPL-2.0

//! Calls that ask a file system, which may keep the caller waiting.

use super::{LEN, QUICK};

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

/// Calls on the file that the first argument names, other than on the directory in which a path
/// begins: ranges, first to last.
const ON_FIRST: &[(u16, u16)] = &[
    (0, 1),     // read, write
    (3, 3),     // close
    (5, 5),     // fstat
    (8, 8),     // lseek
    (16, 20),   // ioctl to writev
    (72, 75),   // fcntl to fdatasync
    (77, 78),   // ftruncate, getdents
    (81, 81),   // fchdir
    (91, 91),   // fchmod
    (93, 93),   // fchown
    (138, 138), // fstatfs
    (187, 187), // readahead
    (190, 190), // fsetxattr
    (193, 193), // fgetxattr
    (196, 196), // flistxattr
    (199, 199), // fremovexattr
    (217, 217), // getdents64
    (221, 221), // fadvise64
    (261, 262), // futimesat and newfstatat: without a name
    (277, 277), // sync_file_range
    (280, 280), // utimensat: without a name
    (285, 285), // fallocate
    (295, 296), // preadv, pwritev
    (306, 306), // syncfs
    (313, 313), // finit_module
    (327, 328), // preadv2, pwritev2
    (332, 332), // statx: without a name
    (451, 451), // cachestat
];

const fn is_in(ranges: &[(u16, u16)], nr: u16) -> bool {
    let mut at = 0;
    while at < ranges.len() {
        if nr >= ranges[at].0 && nr <= ranges[at].1 {
            return true;
        }
        at += 1;
    }
    false
}

/// Returns true if call `nr` acts on the file that its first argument names.
const fn is_on_first(nr: u16) -> bool {
    is_in(ON_FIRST, nr)
}

/// For an inline call: 3 if it acts on the file that its first argument names, 0 if on another one,
/// 1 if on none.
pub(super) const fn quick(nr: u16) -> u8 {
    match nr {
        // mmap, dup2, sendfile, splice, dup3, copy_file_range
        9 | 33 | 40 | 275 | 292 | 326 => 0,
        _ if is_on_first(nr) => 3,
        _ => 1,
    }
}

/// Returns the descriptors of the files that call `nr` acts on: two, which may be the same.
#[inline(always)]
pub(crate) fn files_of(nr: u16, args: &[u64; 6]) -> Option<(u32, u32)> {
    // Needs no bounds check: `LEN` is a power of two.
    if QUICK[usize::from(nr) % LEN] == 1 {
        return None;
    }
    named(nr, args)
}

fn named(nr: u16, args: &[u64; 6]) -> Option<(u32, u32)> {
    let [first, second, third, _, fifth, _] = args.map(|arg| arg as u32);
    match nr {
        // mmap
        9 => Some((fifth, fifth)),
        // dup2 and dup3 close the second one.
        33 | 292 => Some((second, second)),
        // sendfile
        40 => Some((first, second)),
        // splice, copy_file_range
        275 | 326 => Some((first, third)),
        _ if is_on_first(nr) => Some((first, first)),
        _ => None,
    }
}

/// Returns true if call `nr` may ask a file system, which may keep the caller waiting.
pub(crate) fn asks_files(nr: u16) -> bool {
    is_in(FILE_CALLS, nr)
}
