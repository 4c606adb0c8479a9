// SPDX-License-Identifier: MIT OR Apache-2.0
//! Open files: contents, positions, status, locks, attributes.

use super::{Gen, reg};
use crate::differential::normal::{FLOCK, Norm, STATFS};
use crate::differential::op::{Buf, Val};

const OPEN: [i32; 12] = [
    libc::O_RDWR,
    libc::O_RDWR,
    libc::O_RDWR,
    libc::O_RDWR | libc::O_CREAT,
    libc::O_RDWR | libc::O_CREAT,
    libc::O_RDONLY,
    libc::O_WRONLY | libc::O_CREAT | libc::O_TRUNC,
    libc::O_RDWR | libc::O_APPEND,
    libc::O_RDWR | libc::O_CREAT | libc::O_EXCL,
    libc::O_RDONLY | libc::O_NOFOLLOW,
    libc::O_PATH,
    libc::O_RDWR | libc::O_TMPFILE,
];

const ADVICE: [u64; 6] = [0, 1, 2, 3, 4, 9];

fn open(g: &Gen) {
    let reg = g.pick(&reg::FILES);
    g.free(reg);
    let mut flags = g.pick(&OPEN);
    if g.chance(40) {
        flags |= libc::O_CLOEXEC;
    }
    let (at, name, mode) = (g.at(), g.name(), g.mode());
    g.push(
        match g.below(6) {
            0 => op!(SYS_open, name, flags, mode),
            1 => op!(SYS_creat, name, mode),
            2 => {
                let creates = flags & (libc::O_CREAT | libc::O_TMPFILE) != 0;
                let resolve = g.pick(&[0, 0, 4, 8, 99]);
                let how = Buf::zeroed(24)
                    .u64(0, flags as u64)
                    .u64(8, if creates { mode } else { 0 })
                    .u64(16, resolve);
                op!(SYS_openat2, at, name, how, 24)
            }
            _ => op!(SYS_openat, at, name, flags, mode),
        }
        .save(reg),
    );
}

fn open_directory(g: &Gen) {
    let reg = g.pick(&reg::DIRS);
    g.free(reg);
    let name = g.pick(&["d0", "d1", ".", "d0/d2"]);
    let flags = libc::O_RDONLY | libc::O_DIRECTORY;
    g.push(op!(SYS_openat, libc::AT_FDCWD, name, flags).save(reg));
}

fn read(g: &Gen) {
    let (fd, len, at) = (g.file(), g.below(3000), g.place());
    let out = Buf::out(len as usize);
    let two = Buf::vectors(vec![Buf::out(100), Buf::out(len as usize)]);
    let flags = g.pick(&[0, 0, 8, 2]);
    let op = match g.below(6) {
        0 | 1 => op!(SYS_read, fd, out, len),
        2 => op!(SYS_pread64, fd, out, len, at),
        3 => op!(SYS_readv, fd, two, 2),
        4 => op!(SYS_preadv, fd, two, 2, at),
        _ => op!(SYS_preadv2, fd, two, 2, at, 0, flags),
    };
    g.push(op.if_readable(fd));
}

fn write(g: &Gen) {
    let (fd, data, at) = (g.file(), g.data(3000), g.place());
    let more = g.data(500);
    let two = Buf::vectors(vec![data.clone(), more]);
    let flags = g.pick(&[0, 0, 2, 16]);
    let len = g.below(3000);
    let op = match g.below(6) {
        0 | 1 => op!(SYS_write, fd, data.sized(len), len),
        2 => op!(SYS_pwrite64, fd, data.sized(len), len, at),
        3 => op!(SYS_writev, fd, two, 2),
        4 => op!(SYS_pwritev, fd, two, 2, at),
        _ => op!(SYS_pwritev2, fd, two, 2, at, 0, flags),
    };
    g.push(op.if_writable(fd));
}

fn status(g: &Gen) {
    let fd = g.file();
    let stat = || Buf::out(144).like(Norm::Stat);
    let flags = g.pick(&[0, libc::AT_SYMLINK_NOFOLLOW, libc::AT_EMPTY_PATH]);
    let (at, name) = (g.at(), g.name());
    let range = Buf::zeroed(16).u64(8, 0);
    let op = match g.below(11) {
        0 => op!(SYS_fstat, fd, stat()),
        1 => op!(SYS_newfstatat, fd, "", stat(), libc::AT_EMPTY_PATH),
        2 => op!(SYS_statfs, name, Buf::out(120).like(STATFS)),
        3 => op!(SYS_fstatfs, fd, Buf::out(120).like(STATFS)),
        4 => op!(SYS_lseek, fd, 0, 1),
        5 => op!(SYS_cachestat, fd, range, Buf::out(40), 0),
        6 => op!(SYS_fcntl, fd, g.pick(&[1, 3, 9, 1032, 1034])),
        // Following a symbolic link sets its access time, which these calls show: do not post them
        // together.
        7 => return g.push(op!(SYS_stat, name, stat())),
        8 => return g.push(op!(SYS_lstat, name, stat())),
        9 => return g.push(op!(SYS_newfstatat, at, name, stat(), flags)),
        _ => {
            let out = Buf::out(256).like(Norm::Statx);
            return g.push(op!(SYS_statx, at, name, flags, 0xfff, out));
        }
    };
    g.push(op.pure());
}

fn change(g: &Gen) {
    let (fd, other, at, len) = (g.file(), g.file(), g.place(), g.place());
    let small = g.below(9000);
    let mode = g.mode();
    let (user, group) = (g.pick(&[0u64, 1000, 65534]), g.pick(&[0u64, 100, u64::MAX]));
    let advice = g.pick(&ADVICE);
    let whence = g.below(6);
    let op = match g.below(19) {
        0 => op!(SYS_lseek, fd, at, whence),
        1 => op!(SYS_ftruncate, fd, at),
        2 => op!(SYS_truncate, g.name(), len),
        3 => {
            let mode = g.pick(&[0, 0, 1, 3, 8, 16]);
            op!(SYS_fallocate, fd, mode, small, len & 0xffff)
        }
        4 => op!(SYS_fchmod, fd, mode),
        5 => op!(SYS_fchown, fd, user, group),
        6 => op!(SYS_fsync, fd),
        7 => op!(SYS_fdatasync, fd),
        8 => op!(SYS_sync_file_range, fd, small, 4096, g.pick(&[0, 2, 7])),
        9 => op!(SYS_fadvise64, fd, small, 4096, advice),
        10 => op!(SYS_readahead, fd, small, 4096),
        11 => op!(SYS_copy_file_range, fd, 0, other, 0, small & 4095, 0),
        12 => op!(SYS_sendfile, other, fd, 0, small & 2047),
        13 => {
            let places = [0; 2].map(|_| Buf::words(&[small]).like(Norm::Exact));
            let [from, to] = places;
            op!(SYS_copy_file_range, fd, from, other, to, 777, 0)
        }
        14 => op!(SYS_syncfs, fd),
        15 => op!(
            SYS_fcntl,
            fd,
            libc::F_SETFL,
            g.pick(&[0, 0x400, 0x800, 0x40000])
        ),
        16 => op!(SYS_fcntl, fd, libc::F_SETFD, g.below(2)),
        17 => op!(
            SYS_ioctl,
            fd,
            0x5421,
            Buf::zeroed(4).u32(0, (mode & 1) as u32)
        ),
        _ => op!(SYS_utimensat, fd, 0, g.times(1_000_000_000), 0),
    };
    g.push(op.if_readable(fd).if_writable(other));
}

fn lock(g: &Gen) {
    // Never both kinds on one file: SETLKW would wait for the other kind for ever.
    let fd = Val::Reg(g.pick(&reg::FILES));
    let memory = Val::Reg(g.pick(&reg::MEMFD));
    let kind = g.below(4) as u16;
    let (from, len) = (g.below(4000), g.below(4000));
    let range = Buf::zeroed(32).u16(0, kind).u64(8, from).u64(16, len);
    g.push(match g.below(5) {
        0 => op!(SYS_fcntl, fd, libc::F_SETLK, range),
        1 => op!(SYS_fcntl, fd, libc::F_GETLK, range.like(FLOCK)),
        2 => op!(SYS_fcntl, fd, libc::F_SETLKW, range),
        3 => op!(SYS_fcntl, memory, 37, range),
        _ => op!(SYS_flock, fd, g.pick(&[5, 6, 8])),
    });
}

fn attribute(g: &Gen) {
    let (fd, name) = (g.file(), g.name());
    let key = g.pick(&["user.a", "user.b", "trusted.c", "bad"]);
    let value = g.data(60);
    let (size, flags) = (g.below(60), g.pick(&[0, 0, 1, 2]));
    let out = || Buf::out(64);
    g.push(match g.below(12) {
        0 => op!(SYS_setxattr, name, key, value.sized(size), size, flags),
        1 => op!(SYS_lsetxattr, name, key, value.sized(size), size, flags),
        2 => op!(SYS_fsetxattr, fd, key, value.sized(size), size, flags),
        3 => op!(SYS_getxattr, name, key, out(), size).pure(),
        4 => op!(SYS_lgetxattr, name, key, out(), 64).pure(),
        5 => op!(SYS_fgetxattr, fd, key, out(), 64).pure(),
        6 => op!(SYS_listxattr, name, out(), size).pure(),
        7 => op!(SYS_llistxattr, name, out(), 64).pure(),
        8 => op!(SYS_flistxattr, fd, out(), 64).pure(),
        9 => op!(SYS_removexattr, name, key),
        10 => op!(SYS_lremovexattr, name, key),
        _ => op!(SYS_fremovexattr, fd, key),
    });
}

fn descriptor(g: &Gen) {
    let fd = g.any_fd();
    let copy = g.pick(&reg::COPIES);
    let high = 100 + g.below(20);
    g.push(match g.below(8) {
        0 => op!(SYS_dup, fd).save(copy),
        1 => op!(SYS_dup2, fd, high).save(copy),
        2 => op!(SYS_dup3, fd, high, g.pick(&[0, libc::O_CLOEXEC, 1])).save(copy),
        3 => op!(SYS_fcntl, fd, libc::F_DUPFD, high).save(copy),
        4 => op!(SYS_close_range, high, high + 5, g.pick(&[0, 0, 4])),
        5 => op!(SYS_kcmp, Val::Pid, Val::Pid, 0, fd, fd).pure(),
        6 => op!(SYS_close, Val::Reg(copy)).ends(copy),
        _ => {
            let reg = g.pick(&reg::FILES);
            op!(SYS_close, Val::Reg(reg)).ends(reg)
        }
    });
}

fn memory_file(g: &Gen) {
    let reg = g.pick(&reg::MEMFD);
    match g.below(3) {
        0 => {
            g.free(reg);
            let flags = g.pick(&[0, libc::MFD_ALLOW_SEALING, libc::MFD_CLOEXEC]);
            g.push(op!(SYS_memfd_create, "memory", flags).save(reg));
            g.push(op!(SYS_ftruncate, Val::Reg(reg), 20000));
        }
        1 => {
            let seals = g.pick(&[2, 4, 0, 16]);
            g.push(op!(SYS_fcntl, Val::Reg(reg), 1033, seals));
        }
        _ => {
            g.free(reg::SECRET);
            g.push(op!(SYS_memfd_secret, 0).save(reg::SECRET));
        }
    }
}

pub fn any(g: &Gen) {
    match g.below(100) {
        0..18 => open(g),
        18..22 => open_directory(g),
        22..38 => read(g),
        38..54 => write(g),
        54..68 => {
            for _ in 0..=g.below(4) {
                status(g);
            }
        }
        68..84 => change(g),
        84..88 => lock(g),
        88..93 => attribute(g),
        93..98 => descriptor(g),
        _ => memory_file(g),
    }
}
