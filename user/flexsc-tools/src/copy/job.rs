// SPDX-License-Identifier: MIT OR Apache-2.0
//! One job: a file, a part of a large file, a directory or a symbolic link, and
//! the call that it is at.

use flexsc::{Call, calls};

use crate::arena::Arena;
use crate::counts::Kind;

/// The call that a job is at, or what it waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Not in use.
    Free,
    /// statx of the source.
    Stat,
    ReadLink,
    MakeLink,
    MakeDir,
    OpenDir,
    /// getdents64.
    List,
    /// No call: its entries are being started.
    Listed,
    OpenSource,
    OpenTarget,
    Read,
    Write,
    /// No call: other jobs are still at parts of this file.
    Shared,
    CloseSource,
    CloseTarget,
    /// fchmodat of a directory, at the very end.
    SetMode,
}

/// What a job is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    /// To be found out by statx.
    Unknown,
    Dir,
    File,
    /// A part of the file of another job, the owner.
    Part,
}

/// A job. Its memory is in the [`Arena`], under the same number.
#[derive(Clone, Copy, Debug)]
pub struct Job {
    pub step: Step,
    pub what: What,
    /// The job that has the file open: itself, but for a part.
    pub owner: usize,
    pub source: i32,
    pub target: i32,
    pub mode: u32,
    pub size: u64,
    /// Where the next read begins, and where reading ends.
    pub offset: u64,
    pub end: u64,
    /// Read and to be written: these bytes of the buffer. Of a directory: the
    /// entries that were not started.
    pub from: usize,
    pub to: usize,
    /// Of a large file: where the next part begins.
    pub next: u64,
    /// Of a large file: how many other jobs are at parts of it.
    pub helpers: usize,
    /// At the end of the file, and alone: reading goes on until it brings nothing.
    pub tail: bool,
    pub failed: bool,
}

impl Job {
    pub const FREE: Job = Job {
        step: Step::Free,
        what: What::Unknown,
        owner: 0,
        source: -1,
        target: -1,
        mode: 0,
        size: 0,
        offset: 0,
        end: 0,
        from: 0,
        to: 0,
        next: 0,
        helpers: 0,
        tail: false,
        failed: false,
    };
}

/// The two directories that all paths begin at.
#[derive(Clone, Copy, Debug)]
pub struct Roots {
    pub source: i32,
    pub target: i32,
}

const STATX_MASK: u32 = libc::STATX_TYPE | libc::STATX_MODE | libc::STATX_SIZE | libc::STATX_INO;

/// The call of a step. All it points to is memory of that job.
///
/// `owner` is the job that has the file open.
pub fn call(id: usize, job: &Job, owner: &Job, roots: Roots, arena: &Arena) -> (Kind, Call) {
    let path = arena.path_ptr(id);
    let data = |offset| arena.data_ptr(id, offset);
    let len = arena.data_len();
    let mode = job.mode & 0o777;
    let small = owner.size <= len as u64;
    match job.step {
        Step::Stat => {
            let (flags, statx) = (libc::AT_SYMLINK_NOFOLLOW, arena.statx_ptr(id));
            let call = calls::statx(roots.source, path, flags, STATX_MASK, statx);
            (Kind::Statx, call)
        }
        Step::ReadLink => (
            Kind::Readlinkat,
            calls::readlinkat(roots.source, path, data(0).cast(), len),
        ),
        Step::MakeLink => (
            Kind::Symlinkat,
            calls::symlinkat(data(0).cast(), roots.target, path),
        ),
        // Writable while it is being filled.
        Step::MakeDir => (
            Kind::Mkdirat,
            calls::mkdirat(roots.target, path, mode | 0o700),
        ),
        Step::OpenDir => {
            let flags = libc::O_RDONLY | libc::O_DIRECTORY | libc::O_NOFOLLOW | libc::O_CLOEXEC;
            (Kind::Openat, calls::openat(roots.source, path, flags, 0))
        }
        Step::List => (
            Kind::Getdents64,
            calls::getdents64(job.source, data(0), len),
        ),
        Step::OpenSource => {
            let flags = libc::O_RDONLY | libc::O_NOFOLLOW | libc::O_CLOEXEC;
            (Kind::Openat, calls::openat(roots.source, path, flags, 0))
        }
        Step::OpenTarget => {
            let flags =
                libc::O_WRONLY | libc::O_CREAT | libc::O_TRUNC | libc::O_NOFOLLOW | libc::O_CLOEXEC;
            (Kind::Openat, calls::openat(roots.target, path, flags, mode))
        }
        Step::Read if small => (Kind::Read, calls::read(owner.source, data(0), len)),
        Step::Read => {
            let want = (job.end - job.offset).min(len as u64) as usize;
            let call = calls::pread64(owner.source, data(0), want, job.offset as i64);
            (Kind::Pread64, call)
        }
        Step::Write if small => {
            let call = calls::write(owner.target, data(job.from), job.to - job.from);
            (Kind::Write, call)
        }
        Step::Write => {
            let (buf, len) = (data(job.from), job.to - job.from);
            let call = calls::pwrite64(owner.target, buf, len, job.offset as i64);
            (Kind::Pwrite64, call)
        }
        Step::CloseSource => (Kind::Close, calls::close(job.source)),
        Step::CloseTarget => (Kind::Close, calls::close(job.target)),
        Step::SetMode => (Kind::Fchmodat, calls::fchmodat(roots.target, path, mode)),
        Step::Free | Step::Listed | Step::Shared => unreachable!("{:?} has no call", job.step),
    }
}
