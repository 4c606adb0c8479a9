// SPDX-License-Identifier: MIT OR Apache-2.0
//! The surroundings of hostile programs: namespaces, a root directory and users of their own, small
//! limits.

use std::ffi::CString;
use std::os::fd::RawFd;
use std::os::unix::fs::MetadataExt;

use crate::check::{Check, Ret, skip};
use crate::kit::cgroup::Cgroup;
use crate::kit::files::TempDir;
use crate::kit::{clone, limits, sys};

/// The first user of hostile programs; the others follow.
const FIRST_USER: u32 = 40_000;

/// Process groups whose IDs are the numbers of errors within the kernel: ERESTARTSYS,
/// ERESTARTNOINTR, ERESTARTNOHAND, ENOIOCTLCMD, ERESTART_RESTARTBLOCK, EPROBE_DEFER, and 532.
pub const GROUPS: [i32; 7] = [512, 513, 514, 515, 516, 517, 532];

/// Memory that each program may lock, in bytes.
pub const MEMLOCK: u64 = 2 << 20;

/// The first descriptor of the control groups' files in each program; the others follow.
pub const FIRST_GROUP_FILE: RawFd = 80;
/// The number of these files.
pub const GROUP_FILES: usize = 4;

/// Leaves the namespaces that can be left. The children of the caller get the new PID namespace,
/// the first of them as its init.
pub fn leave() -> Check {
    limits::need_root()?;
    for flag in [
        libc::CLONE_NEWPID,
        libc::CLONE_NEWNET,
        libc::CLONE_NEWIPC,
        libc::CLONE_NEWUTS,
        libc::CLONE_NEWCGROUP,
    ] {
        let _ = plain!(SYS_unshare, flag);
    }
    let ret = plain!(SYS_unshare, libc::CLONE_NEWNS);
    if ret != 0 {
        return skip(format!("needs a mount namespace: {}", Ret(ret)));
    }
    Ok(())
}

fn mount(kind: &std::ffi::CStr, at: &std::ffi::CStr, flags: u64, options: &std::ffi::CStr) -> i64 {
    plain!(SYS_mount, kind, at, kind, flags, options)
}

fn device(dir: &TempDir, name: &str) -> Check {
    let real = ok!("stat", std::fs::metadata(format!("/dev/{name}")));
    let path = dir.join(format!("dev/{name}"));
    let ret = plain!(
        SYS_mknod,
        path.as_c_str(),
        libc::S_IFCHR | 0o666,
        real.rdev()
    );
    check_ret!("mknod", ret, 0);
    check_ret!("chmod", plain!(SYS_chmod, path.as_c_str(), 0o666), 0);
    Ok(())
}

/// Enters a small root directory in memory, with the device and none of the machine's files.
pub fn enter(dir: &TempDir) -> Check {
    let private = libc::MS_REC | libc::MS_PRIVATE;
    check_ret!("mount", mount(c"none", c"/", private, c""), 0);
    let root = dir.join("");
    let small = c"size=16m,nr_inodes=4096,mode=1777";
    check_ret!("mount tmpfs", mount(c"tmpfs", root.as_c_str(), 0, small), 0);
    for name in ["dev", "proc"] {
        let path: CString = dir.join(name);
        check_ret!("mkdir", plain!(SYS_mkdir, path.as_c_str(), 0o755), 0);
    }
    for name in ["flexsc", "null", "zero"] {
        device(dir, name)?;
    }
    if std::path::Path::new("/dev/userfaultfd").exists() {
        device(dir, "userfaultfd")?;
    }
    let proc = dir.join("proc");
    // Without procfs there are merely fewer files to open.
    mount(c"proc", proc.as_c_str(), 0, c"");
    check_ret!("chroot", plain!(SYS_chroot, root.as_c_str()), 0);
    check_ret!("chdir", plain!(SYS_chdir, c"/"), 0);
    Ok(())
}

/// Opens the files with which processes and single threads enter two control groups. A program that
/// writes to them moves whatever the init of the jail may move.
pub fn open_groups(groups: &[Cgroup; 2]) -> Check {
    let mut at = FIRST_GROUP_FILE;
    // Single threads can be moved to only one of the groups.
    let _ = groups[1].write("cgroup.type", "threaded");
    for group in groups {
        for name in ["cgroup.procs", "cgroup.threads"] {
            let file = ok!(name, sys::open(&group.file(name), libc::O_WRONLY, 0));
            check_ret!("dup2", plain!(SYS_dup2, &file, at), at);
            at += 1;
        }
    }
    Ok(())
}

/// Starts children that do nothing but lead the process groups [`GROUPS`].
pub fn lead_groups() -> Check {
    for group in GROUPS {
        if clone::fork_as(group)? == 0 {
            plain!(SYS_setpgid, 0, 0);
            loop {
                plain!(SYS_pause);
            }
        }
    }
    Ok(())
}

/// Turns the calling process into a program of user number `user` of the jail.
pub fn become_prisoner(user: u32) -> Check {
    for (resource, most) in [
        (libc::RLIMIT_NPROC, 48),
        (libc::RLIMIT_NOFILE, 96),
        (libc::RLIMIT_AS, 256 << 20),
        (libc::RLIMIT_FSIZE, 1 << 20),
        (libc::RLIMIT_CORE, 0),
        (libc::RLIMIT_MEMLOCK, MEMLOCK),
        (libc::RLIMIT_MSGQUEUE, 64 << 10),
        (libc::RLIMIT_NICE, 0),
        (libc::RLIMIT_RTPRIO, 0),
        (libc::RLIMIT_SIGPENDING, 64),
    ] {
        ok!("setrlimit", limits::set_limit(resource, most));
    }
    let null = plain!(SYS_openat, libc::AT_FDCWD, c"/dev/null", libc::O_RDWR);
    for fd in 0..3 {
        plain!(SYS_dup2, null, fd);
    }
    plain!(SYS_close, null);
    plain!(SYS_setsid);
    let id = FIRST_USER + user;
    check_ret!("setgroups", plain!(SYS_setgroups, 0, 0), 0);
    check_ret!("setresgid", plain!(SYS_setresgid, id, id, id), 0);
    check_ret!("setresuid", plain!(SYS_setresuid, id, id, id), 0);
    Ok(())
}
