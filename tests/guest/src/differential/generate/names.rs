// SPDX-License-Identifier: MIT OR Apache-2.0
//! Names: directories, links, permissions, times.

use super::{Gen, reg};
use crate::differential::normal::Norm;
use crate::differential::op::{Buf, Val};

fn make(g: &Gen) {
    let (at, name, mode) = (g.at(), g.name(), g.mode());
    let other = g.name();
    let to = g.at();
    let special = g.pick(&[libc::S_IFREG, libc::S_IFIFO, libc::S_IFCHR, libc::S_IFSOCK]);
    let special = u64::from(special) | mode;
    let fifo = special & u64::from(libc::S_IFMT) == u64::from(libc::S_IFIFO);
    // Only a file of this name is opened without blocking.
    let node = if fifo {
        Buf::text("p0")
    } else {
        Buf::text("n0")
    };
    g.push(match g.below(11) {
        0 => op!(SYS_mkdir, name, mode | 0o700),
        1 => op!(SYS_mkdirat, at, name, mode | 0o700),
        2 => op!(SYS_link, name, other),
        3 => op!(SYS_linkat, at, name, to, other, g.pick(&[0, 0, 0x400])),
        4 => op!(SYS_symlink, name, other),
        5 => op!(SYS_symlinkat, name, at, other),
        6 => op!(SYS_mknod, node, special, 0x103),
        7 => op!(SYS_mknodat, libc::AT_FDCWD, node, special, 0x103),
        8 => op!(SYS_rename, name, other),
        9 => op!(SYS_renameat, at, name, to, other),
        _ => op!(SYS_renameat2, at, name, to, other, g.pick(&[0, 1, 2, 4, 3])),
    });
}

fn remove(g: &Gen) {
    let (at, name) = (g.at(), g.name());
    g.push(match g.below(6) {
        0 => op!(SYS_unlink, name),
        1 => op!(SYS_rmdir, name),
        2 => op!(SYS_unlinkat, at, name, 0),
        3 => op!(SYS_unlinkat, at, name, libc::AT_REMOVEDIR),
        4 => op!(SYS_unlink, "p0"),
        _ => op!(SYS_unlink, "n0"),
    });
}

fn set(g: &Gen) {
    let (at, name, mode) = (g.at(), g.name(), g.mode());
    let user = g.pick(&[0u64, 1000, 65534, u64::MAX]);
    let group = g.pick(&[0u64, 100, u64::MAX]);
    g.push(match g.below(11) {
        0 => op!(SYS_chmod, name, mode),
        1 => op!(SYS_fchmodat, at, name, mode),
        2 => op!(SYS_fchmodat2, at, name, mode, g.pick(&[0, 0x100])),
        3 => op!(SYS_chown, name, user, group),
        4 => op!(SYS_lchown, name, user, group),
        5 => op!(SYS_fchownat, at, name, user, group, g.pick(&[0, 0x100])),
        6 => op!(SYS_utime, name, Buf::words(&[mode * 1000, mode * 1001])),
        7 => op!(SYS_utimes, name, g.times(1_000_000)),
        8 => op!(SYS_futimesat, at, name, g.times(1_000_000)),
        _ => op!(
            SYS_utimensat,
            at,
            name,
            g.times(1_000_000_000),
            g.pick(&[0, 0x100])
        ),
    });
}

fn look(g: &Gen) {
    let (at, name) = (g.at(), g.name());
    let want = g.below(8);
    let handle = Buf::out(60).u32(0, 52).like(Norm::First(8));
    let mount = Buf::out(4).like(Norm::Nothing);
    g.push(
        match g.below(7) {
            0 => op!(SYS_access, name, want),
            1 => op!(SYS_faccessat, at, name, want),
            2 => op!(SYS_faccessat2, at, name, want, g.pick(&[0, 0x200, 0x100])),
            3 => op!(SYS_readlink, name, Buf::out(80), 80),
            4 => op!(SYS_readlinkat, at, name, Buf::out(80), g.below(80)),
            5 => op!(SYS_getcwd, Buf::out(80), g.pick(&[80, 80, 80, 10])),
            _ => op!(SYS_name_to_handle_at, at, name, handle, mount, 0),
        }
        .pure(),
    );
}

fn list(g: &Gen) {
    let dir = Val::Reg(g.pick(&reg::DIRS));
    if g.chance(60) {
        g.push(op!(SYS_lseek, dir, 0, 0));
    }
    let size = g.pick(&[2000, 100, 30]);
    g.push(if g.chance(30) {
        op!(SYS_getdents, dir, Buf::out(size as usize), size)
    } else {
        op!(SYS_getdents64, dir, Buf::out(size as usize), size)
    });
}

fn walk(g: &Gen) {
    match g.below(5) {
        0 => {
            let name = g.pick(&["d0", "d1", "d0/..", "l1", "f0"]);
            g.push(op!(SYS_chdir, name));
        }
        1 => {
            let dir = Val::Reg(g.pick(&reg::DIRS));
            g.push(op!(SYS_fchdir, dir));
        }
        _ => {}
    }
    look(g);
    if g.chance(85) {
        g.push(op!(SYS_chdir, super::ROOT));
    }
    let mask = g.pick(&[0o022, 0o077, 0]);
    if g.chance(30) {
        g.push(op!(SYS_umask, mask));
    }
}

fn fifo(g: &Gen) {
    let (from, to) = g.pick(&reg::PIPES);
    g.free(from);
    g.free(to);
    g.push(
        op!(
            SYS_openat,
            libc::AT_FDCWD,
            "p0",
            libc::O_RDONLY | libc::O_NONBLOCK
        )
        .save(from),
    );
    g.push(
        op!(
            SYS_openat,
            libc::AT_FDCWD,
            "p0",
            libc::O_WRONLY | libc::O_NONBLOCK
        )
        .save(to),
    );
}

/// Mounts a file system on a directory for some calls.
fn mount(g: &Gen) {
    let dir = g.pick(&["d1", "d0/d2"]);
    let options = "size=64k,mode=711";
    g.push(op!(
        SYS_mount,
        "tmpfs",
        dir,
        "tmpfs",
        g.pick(&[0, 1, 6]),
        options
    ));
    for _ in 0..g.below(4) {
        make(g);
        look(g);
    }
    g.push(op!(SYS_umount2, dir, g.pick(&[2, 2, 0])));
    g.push(op!(SYS_umount2, dir, 2));
}

pub fn any(g: &Gen) {
    match g.below(100) {
        0..30 => make(g),
        30..44 => remove(g),
        44..60 => set(g),
        60..78 => {
            for _ in 0..=g.below(4) {
                look(g);
            }
        }
        78..88 => list(g),
        88..95 => walk(g),
        95..98 => fifo(g),
        _ => mount(g),
    }
}
