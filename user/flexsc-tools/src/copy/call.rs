// SPDX-License-Identifier: MIT OR Apache-2.0
//! The call of each step of a job. It points only to memory of that job.

use std::ffi::CStr;

use flexsc::{Call, calls};

use crate::arena::{Arena, HOW_LEN, Name};
use crate::counts::Kind;
use crate::job::{Job, Step};
use crate::meta;
use crate::node::Node;

/// Attribute names of access control lists.
const ACL: &CStr = c"system.posix_acl_access";
const DEFAULT_ACL: &CStr = c"system.posix_acl_default";

/// Permissions of an incomplete copy: no other user may use it.
const PRIVATE: libc::mode_t = 0o600;
const PRIVATE_DIR: libc::mode_t = 0o700;

const OPEN_DIR: i32 = libc::O_RDONLY | libc::O_DIRECTORY | libc::O_NOFOLLOW | libc::O_CLOEXEC;

/// Returns the call of a job's current step.
///
/// `owner` is the job that has the file open, `dir` its directory, and `root` the root
/// directory of the copy.
pub fn of(id: usize, job: &Job, owner: &Job, dir: &Node, root: i32, arena: &Arena) -> (Kind, Call) {
    match job.step {
        Step::Stat | Step::StatSource | Step::StatDir | Step::StatTarget => {
            statx(id, job, dir, arena)
        }
        Step::StatTargetDir | Step::StatMade => statx(id, job, dir, arena),
        Step::SeekData | Step::SeekHole | Step::Read | Step::Write | Step::Truncate => {
            content(id, job, owner, arena)
        }
        Step::OpenDir | Step::MakeDir | Step::OpenTargetDir | Step::List => {
            directory(id, job, dir, arena)
        }
        Step::SetOwner | Step::SetGroup | Step::SetMode | Step::SetTimes | Step::MakeWritable => {
            permissions(id, job, dir, arena)
        }
        Step::ProbeAttrs
        | Step::ListAttrs
        | Step::GetAttr
        | Step::SetAttr
        | Step::LookForAcl
        | Step::DropAcl
        | Step::DropDefaultAcl => attribute(id, job, arena),
        _ => name(id, job, dir, root, arena),
    }
}

fn statx(id: usize, job: &Job, dir: &Node, arena: &Arena) -> (Kind, Call) {
    let by_fd = |fd| (fd, c"".as_ptr(), libc::AT_EMPTY_PATH);
    let by_name = |fd, name| (fd, arena.name_ptr(id, name), libc::AT_SYMLINK_NOFOLLOW);
    let (fd, path, flags) = match job.step {
        Step::Stat => by_name(dir.source, Name::Own),
        Step::StatSource | Step::StatDir => by_fd(job.source),
        Step::StatTarget => by_name(dir.target, Name::Own),
        Step::StatTargetDir => by_fd(job.target),
        _ if job.target >= 0 => by_fd(job.target),
        _ => by_name(dir.target, job.made_name()),
    };
    let call = calls::statx(fd, path, flags, meta::MASK, arena.statx_ptr(id));
    (Kind::Statx, call)
}

fn content(id: usize, job: &Job, owner: &Job, arena: &Arena) -> (Kind, Call) {
    let data = |offset| arena.data_ptr(id, offset);
    let len = arena.data_len();
    let (source, target) = (owner.source, owner.target);
    let small = owner.meta.size <= len as u64 && !owner.content.sparse;
    let offset = job.content.offset as i64;
    match job.step {
        Step::SeekData => (Kind::Lseek, calls::lseek(source, offset, libc::SEEK_DATA)),
        Step::SeekHole => (Kind::Lseek, calls::lseek(source, offset, libc::SEEK_HOLE)),
        Step::Truncate => (
            Kind::Ftruncate,
            calls::ftruncate(target, job.content.next as i64),
        ),
        Step::Read if small => (Kind::Read, calls::read(source, data(0), len)),
        Step::Read => {
            let want = (job.content.end - job.content.offset).min(len as u64) as usize;
            let call = calls::pread64(source, data(0), want, offset);
            (Kind::Pread64, call)
        }
        _ => {
            let (from, len) = (data(job.content.from), job.content.to - job.content.from);
            if small {
                (Kind::Write, calls::write(target, from, len))
            } else {
                (Kind::Pwrite64, calls::pwrite64(target, from, len, offset))
            }
        }
    }
}

fn directory(id: usize, job: &Job, dir: &Node, arena: &Arena) -> (Kind, Call) {
    let name = arena.name_ptr(id, Name::Own);
    match job.step {
        Step::OpenDir => (Kind::Openat, calls::openat(dir.source, name, OPEN_DIR, 0)),
        Step::OpenTargetDir => (Kind::Openat, calls::openat(dir.target, name, OPEN_DIR, 0)),
        Step::MakeDir => (Kind::Mkdirat, calls::mkdirat(dir.target, name, PRIVATE_DIR)),
        _ => {
            let (data, len) = (arena.data_ptr(id, 0), arena.data_len());
            (Kind::Getdents64, calls::getdents64(dir.source, data, len))
        }
    }
}

fn permissions(id: usize, job: &Job, dir: &Node, arena: &Arena) -> (Kind, Call) {
    let name = arena.name_ptr(id, job.made_name());
    let nofollow = libc::AT_SYMLINK_NOFOLLOW;
    let open = job.target >= 0;
    let (uid, gid) = match job.step {
        Step::SetGroup => (u32::MAX, job.meta.gid),
        _ => (job.meta.uid, job.meta.gid),
    };
    let mode = job.meta.permissions();
    match job.step {
        Step::SetOwner | Step::SetGroup if open => {
            (Kind::Fchown, calls::fchown(job.target, uid, gid))
        }
        Step::SetOwner | Step::SetGroup => (
            Kind::Fchownat,
            calls::fchownat(dir.target, name, uid, gid, nofollow),
        ),
        Step::MakeWritable => (
            Kind::Fchmod,
            calls::fchmod(job.target, job.content.end as u32 | PRIVATE_DIR),
        ),
        Step::SetMode if open => (Kind::Fchmod, calls::fchmod(job.target, mode)),
        Step::SetMode => (
            Kind::Fchmodat2,
            calls::fchmodat2(dir.target, name, mode, nofollow),
        ),
        _ => {
            let times = arena.times_ptr(id);
            let call = if open {
                calls::utimensat(job.target, std::ptr::null(), times, 0)
            } else {
                calls::utimensat(dir.target, name, times, nofollow)
            };
            (Kind::Utimensat, call)
        }
    }
}

/// Returns a call for extended attributes: by descriptor if the file is open, otherwise by
/// the job's path in the arena.
fn attribute(id: usize, job: &Job, arena: &Arena) -> (Kind, Call) {
    let data = |offset| arena.data_ptr(id, offset);
    let path = arena.path_ptr(id);
    let (source, target) = (job.source, job.target);
    let list = |len| match source {
        0.. => (
            Kind::Flistxattr,
            calls::flistxattr(source, data(0).cast(), len),
        ),
        _ => (
            Kind::Llistxattr,
            calls::llistxattr(path, data(0).cast(), len),
        ),
    };
    let remove = |name: &CStr| match target {
        0.. => (
            Kind::Fremovexattr,
            calls::fremovexattr(target, name.as_ptr()),
        ),
        _ => (Kind::Lremovexattr, calls::lremovexattr(path, name.as_ptr())),
    };
    match job.step {
        Step::GetAttr | Step::SetAttr => attribute_value(id, job, arena),
        Step::LookForAcl => (
            Kind::Fgetxattr,
            calls::fgetxattr(target, DEFAULT_ACL.as_ptr(), data(0), 0),
        ),
        Step::DropAcl => remove(ACL),
        Step::DropDefaultAcl => remove(DEFAULT_ACL),
        // The kernel allocates a buffer of the length that it is given.
        Step::ProbeAttrs => list(0),
        _ => list(arena.data_len()),
    }
}

/// Reads or sets the job's current attribute. Its value is stored behind the names.
fn attribute_value(id: usize, job: &Job, arena: &Arena) -> (Kind, Call) {
    let name = arena.data_ptr(id, job.content.from).cast_const().cast();
    let value = arena.data_ptr(id, job.content.to);
    let path = arena.path_ptr(id);
    let (room, len) = (
        arena.data_len() - job.content.to,
        job.content.offset as usize,
    );
    match (job.step, job.source, job.target) {
        (Step::GetAttr, fd @ 0.., _) => {
            let call = calls::fgetxattr(fd, name, value, room);
            (Kind::Fgetxattr, call)
        }
        (Step::GetAttr, ..) => {
            let call = calls::lgetxattr(path, name, value, room);
            (Kind::Lgetxattr, call)
        }
        (_, _, fd @ 0..) => {
            let call = calls::fsetxattr(fd, name, value, len, 0);
            (Kind::Fsetxattr, call)
        }
        _ => {
            let call = calls::lsetxattr(path, name, value, len, 0);
            (Kind::Lsetxattr, call)
        }
    }
}

fn name(id: usize, job: &Job, dir: &Node, root: i32, arena: &Arena) -> (Kind, Call) {
    let name = |which| arena.name_ptr(id, which);
    let made = name(job.made_name());
    match job.step {
        Step::OpenSource | Step::OpenTarget | Step::OpenLinked => open(id, job, dir, root, arena),
        Step::MakeLink | Step::MakeNode | Step::Link => make(id, job, dir, arena),
        Step::MayWrite => {
            let flags = libc::AT_EACCESS | libc::AT_SYMLINK_NOFOLLOW;
            let call = calls::faccessat2(dir.target, name(Name::Own), libc::W_OK, flags);
            (Kind::Faccessat2, call)
        }
        Step::ReadLink => {
            let (data, len) = (arena.data_ptr(id, 0).cast(), arena.data_len());
            let call = calls::readlinkat(dir.source, name(Name::Own), data, len);
            (Kind::Readlinkat, call)
        }
        Step::CloseSource => (Kind::Close, calls::close(job.source)),
        Step::CloseTarget => (Kind::Close, calls::close(job.target)),
        Step::Replace => {
            let (from, to) = (name(Name::Other), name(Name::Own));
            let call = calls::renameat2(dir.target, from, dir.target, to, 0);
            (Kind::Renameat2, call)
        }
        Step::Remove => {
            let call = calls::unlinkat(dir.target, made, job.remove_flags());
            (Kind::Unlinkat, call)
        }
        step => unreachable!("{step:?} has no call"),
    }
}

fn open(id: usize, job: &Job, dir: &Node, root: i32, arena: &Arena) -> (Kind, Call) {
    match job.step {
        // O_NONBLOCK: if a FIFO has taken the file's place, do not wait for a writer.
        Step::OpenSource => {
            let flags = libc::O_RDONLY | libc::O_NOFOLLOW | libc::O_NONBLOCK | libc::O_CLOEXEC;
            let name = arena.name_ptr(id, Name::Own);
            (Kind::Openat, calls::openat(dir.source, name, flags, 0))
        }
        Step::OpenTarget => {
            let flags =
                libc::O_WRONLY | libc::O_CREAT | libc::O_EXCL | libc::O_NOFOLLOW | libc::O_CLOEXEC;
            let name = arena.name_ptr(id, job.made_name());
            let mode = if job.todo.set_mode {
                PRIVATE
            } else {
                job.meta.permissions()
            };
            (Kind::Openat, calls::openat(dir.target, name, flags, mode))
        }
        _ => {
            let path = arena.data_ptr(id, 0).cast_const().cast();
            let call = calls::openat2(root, path, arena.how_ptr(id), HOW_LEN);
            (Kind::Openat2, call)
        }
    }
}

/// Makes a link or a special file.
fn make(id: usize, job: &Job, dir: &Node, arena: &Arena) -> (Kind, Call) {
    let made = arena.name_ptr(id, job.made_name());
    let data = |offset| arena.data_ptr(id, offset).cast_const().cast();
    match job.step {
        Step::MakeLink => {
            let call = calls::symlinkat(data(0), dir.target, made);
            (Kind::Symlinkat, call)
        }
        Step::MakeNode => {
            let mode = if job.todo.set_mode {
                job.meta.kind() | PRIVATE
            } else {
                job.meta.mode
            };
            let call = calls::mknodat(dir.target, made, mode, job.meta.device);
            (Kind::Mknodat, call)
        }
        _ => {
            let call = calls::linkat(job.source, data(job.content.from), dir.target, made, 0);
            (Kind::Linkat, call)
        }
    }
}
