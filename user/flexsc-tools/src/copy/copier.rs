// SPDX-License-Identifier: MIT OR Apache-2.0
//! Copies a tree with many calls in flight: starts jobs, makes their calls.
//! What follows on a result is in `advance.rs`.

#![expect(unsafe_code, reason = "submitting is a promise about memory")]

use std::ffi::CString;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use nix::errno::Errno;

use flexsc::{Call, calls};

use crate::arena::Arena;
use crate::backend::Backend;
use crate::counts::{Counts, Kind, Progress};
use crate::dents;
use crate::job::{self, Job, Roots, Step, What};

/// Tokens of calls that belong to no job.
const PROGRESS: u32 = u32::MAX;
const SINGLE: u32 = u32::MAX - 1;

/// A copy in progress.
///
/// # Invariants
///
/// Every job that is not free, listed or shared has exactly one call in
/// flight, and its memory is lent. One entry is kept for the progress line, so
/// there are fewer jobs than the backend has capacity.
pub struct Copier<'a, B> {
    pub(crate) backend: B,
    pub(crate) arena: Arena,
    pub(crate) jobs: Vec<Job>,
    pub(crate) free: Vec<usize>,
    /// Directories with entries that were not started.
    pub(crate) listed: Vec<usize>,
    /// Large files with parts that were not started.
    pub(crate) sharing: Vec<usize>,
    /// Directories that were not started: paths, each ended by its length.
    waiting: Vec<u8>,
    /// Jobs that are directories. Limited, so that files can always go on.
    pub(crate) dirs: usize,
    dirs_max: usize,
    pub(crate) roots: Roots,
    /// Device and inode of the target, which must not be copied into itself.
    pub(crate) target_id: (u32, u32, u64),
    /// Directories whose mode has to be set when they are complete.
    pub(crate) modes: Vec<(Box<[u8]>, u32)>,
    path: Vec<u8>,
    pub(crate) counts: Counts,
    progress: Progress,
    source: &'a Path,
    target: &'a Path,
}

/// Why the copy as a whole failed.
#[derive(Debug)]
pub enum Failure {
    /// A call on one of the two given directories.
    Root(&'static str, PathBuf, Errno),
    /// The engine.
    Engine(flexsc::Error),
}

impl From<flexsc::Error> for Failure {
    fn from(error: flexsc::Error) -> Self {
        Failure::Engine(error)
    }
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Failure::Root(what, path, errno) => {
                write!(f, "cannot {what} {}: {}", path.display(), errno.desc())
            }
            Failure::Engine(error) => error.fmt(f),
        }
    }
}

impl<'a, B: Backend> Copier<'a, B> {
    /// With `jobs` jobs, at most as many as the backend can take.
    pub fn new(backend: B, source: &'a Path, target: &'a Path, jobs: usize, data: usize) -> Self {
        let jobs = jobs.min(backend.capacity() - 1).max(2);
        Copier {
            arena: Arena::new(jobs, data),
            jobs: vec![Job::FREE; jobs],
            free: (0..jobs).rev().collect(),
            listed: Vec::with_capacity(jobs),
            sharing: Vec::with_capacity(jobs),
            waiting: Vec::with_capacity(1 << 20),
            dirs: 0,
            dirs_max: (jobs / 8).max(1),
            roots: Roots {
                source: -1,
                target: -1,
            },
            target_id: (0, 0, 0),
            modes: Vec::new(),
            path: Vec::with_capacity(2 * crate::arena::PATH_MAX),
            counts: Counts::default(),
            progress: Progress::new(false),
            backend,
            source,
            target,
        }
    }

    /// Shows a progress line.
    pub fn show_progress(&mut self) {
        self.progress = Progress::new(true);
    }

    /// Copies the tree. Errors of single files are printed and counted.
    pub fn run(&mut self) -> Result<(), Failure> {
        let (source, target) = (self.source, self.target);
        let mode = self.open_roots(source, target)?;
        self.push_dir(b".");
        self.go()?;
        if mode & 0o700 != 0o700 {
            self.modes.push((Box::from(&b"."[..]), mode));
        }
        // The innermost last: their parents may not let us through afterwards.
        self.modes.sort_by(|a, b| a.0.cmp(&b.0));
        while let Some((path, mode)) = self.modes.pop() {
            self.set_mode(&path, mode);
            self.go()?;
        }
        for root in [self.roots.source, self.roots.target] {
            if let Err(errno) = self.single(Kind::Close, calls::close(root))? {
                self.complain("close", b".", errno);
            }
        }
        self.progress.finish(&self.counts);
        Ok(())
    }

    /// Goes on until nothing is in flight.
    fn go(&mut self) -> Result<(), Failure> {
        loop {
            while let Some((token, result)) = self.backend.ready() {
                match token {
                    PROGRESS => self.progress.written(),
                    job => self.completed(job as usize, result),
                }
            }
            self.fill();
            self.report_progress();
            if self.backend.in_flight() == 0 {
                debug_assert_eq!(self.free.len(), self.jobs.len());
                return Ok(());
            }
            self.backend.wait()?;
        }
    }

    fn report_progress(&mut self) {
        if let Some((text, len)) = self.progress.due(&self.counts) {
            self.counts.call(Kind::Progress);
            // SAFETY: the text stays as it is until `written`; one entry is
            // kept for this call.
            unsafe {
                self.backend
                    .submit(PROGRESS, calls::write(2, text.cast(), len));
            }
        }
    }

    /// Starts jobs while there is room and work.
    fn fill(&mut self) {
        while !self.free.is_empty() {
            if let Some(&owner) = self.sharing.last() {
                self.start_part(owner);
            } else if self.dirs < self.dirs_max && !self.waiting.is_empty() {
                self.start_dir();
            } else if let Some(&dir) = self.listed.last() {
                self.start_entry(dir);
            } else {
                return;
            }
        }
    }

    /// Begins a new job.
    fn take(&mut self, what: What) -> usize {
        let id = self.free.pop().expect("the caller has looked");
        self.jobs[id] = Job {
            what,
            owner: id,
            ..Job::FREE
        };
        id
    }

    fn start_part(&mut self, owner: usize) {
        let id = self.take(What::Part);
        self.jobs[id].owner = owner;
        self.jobs[owner].helpers += 1;
        self.next_part(id);
    }

    /// Remembers a directory that is to be copied.
    pub(crate) fn push_dir(&mut self, path: &[u8]) {
        self.waiting.extend_from_slice(path);
        self.waiting
            .extend_from_slice(&(path.len() as u32).to_ne_bytes());
    }

    fn start_dir(&mut self) {
        let (rest, len) = self
            .waiting
            .split_last_chunk()
            .expect("every path is followed by its length");
        let start = rest.len() - u32::from_ne_bytes(*len) as usize;
        self.path.clear();
        self.path.extend_from_slice(&rest[start..]);
        self.waiting.truncate(start);
        let id = self.take(What::Dir);
        self.dirs += 1;
        let fits = self.arena.set_path(id, &self.path);
        assert!(fits, "it was checked before it was remembered");
        let root = self.path == b".";
        self.go_on(id, if root { Step::OpenDir } else { Step::Stat });
    }

    /// Starts the next entry of a listed directory.
    fn start_entry(&mut self, dir: usize) {
        let Job { from, to, .. } = self.jobs[dir];
        let Some(entry) = dents::first(&self.arena.data(dir)[from..to]) else {
            self.listed.pop();
            self.go_on(dir, Step::List);
            return;
        };
        self.jobs[dir].from += entry.len;
        if entry.name == b"." || entry.name == b".." {
            return;
        }
        self.path.clear();
        self.path.extend_from_slice(self.arena.path(dir));
        self.path.push(b'/');
        self.path.extend_from_slice(entry.name);
        let kind = entry.kind;
        if self.path.len() >= crate::arena::PATH_MAX {
            self.complain("copy", &self.path.clone(), Errno::ENAMETOOLONG);
            return;
        }
        match kind {
            libc::DT_DIR => {
                let path = std::mem::take(&mut self.path);
                self.push_dir(&path);
                self.path = path;
            }
            libc::DT_REG => self.start(What::File, Step::Stat),
            libc::DT_LNK => self.start(What::File, Step::ReadLink),
            libc::DT_UNKNOWN => self.start(What::Unknown, Step::Stat),
            _ => self.counts.skipped += 1,
        }
    }

    /// Starts a job for the path in `self.path`.
    fn start(&mut self, what: What, step: Step) {
        let id = self.take(what);
        self.arena.set_path(id, &self.path);
        self.go_on(id, step);
    }

    fn set_mode(&mut self, path: &[u8], mode: u32) {
        let id = self.take(What::Dir);
        self.jobs[id].mode = mode;
        self.arena.set_path(id, path);
        self.go_on(id, Step::SetMode);
    }

    /// Makes the call of the next step.
    pub(crate) fn go_on(&mut self, id: usize, step: Step) {
        let job = &mut self.jobs[id];
        job.step = step;
        let owner = job.owner;
        let (kind, call) = job::call(
            id,
            &self.jobs[id],
            &self.jobs[owner],
            self.roots,
            &self.arena,
        );
        self.counts.call(kind);
        self.arena.lend(id);
        // SAFETY: the call points to this job's memory alone, which is lent
        // until its result was taken; there are fewer jobs than entries.
        unsafe { self.backend.submit(id as u32, call) };
    }

    /// Prints and counts an error.
    pub(crate) fn complain(&mut self, what: &str, path: &[u8], errno: Errno) {
        let path = path.strip_prefix(b"./").unwrap_or(path);
        let path = String::from_utf8_lossy(path);
        eprintln!("flexsc-copy: cannot {what} {path}: {}", errno.desc());
        self.counts.errors += 1;
    }

    /// Makes one call and waits for it.
    fn single(&mut self, kind: Kind, call: Call) -> Result<Result<i64, Errno>, Failure> {
        self.counts.call(kind);
        // SAFETY: the callers' memory outlives this function, which waits.
        unsafe { self.backend.submit(SINGLE, call) };
        loop {
            match self.backend.ready() {
                Some((SINGLE, result)) => return Ok(to_result(result)),
                Some(_) => self.progress.written(),
                None => self.backend.wait()?,
            }
        }
    }

    /// Opens the source, makes and opens the target; returns the source's mode.
    fn open_roots(&mut self, source: &Path, target: &Path) -> Result<u32, Failure> {
        let fail = |what, path: &Path, errno| Failure::Root(what, path.to_owned(), errno);
        let text = |path: &Path| {
            CString::new(path.as_os_str().as_bytes()).map_err(|_| fail("use", path, Errno::EINVAL))
        };
        let (from, to) = (text(source)?, text(target)?);
        let flags = libc::O_RDONLY | libc::O_DIRECTORY | libc::O_CLOEXEC;
        let here = libc::AT_FDCWD;

        let call = calls::openat(here, from.as_ptr(), flags, 0);
        let opened = self.single(Kind::Openat, call)?;
        self.roots.source = opened.map_err(|errno| fail("open", source, errno))? as i32;
        let (mode, _) = self.identity(self.roots.source, source)?;

        let call = calls::mkdirat(here, to.as_ptr(), mode | 0o700);
        match self.single(Kind::Mkdirat, call)? {
            Ok(_) | Err(Errno::EEXIST) => {}
            Err(errno) => return Err(fail("make", target, errno)),
        }
        let call = calls::openat(here, to.as_ptr(), flags, 0);
        let opened = self.single(Kind::Openat, call)?;
        self.roots.target = opened.map_err(|errno| fail("open", target, errno))? as i32;
        (_, self.target_id) = self.identity(self.roots.target, target)?;
        Ok(mode)
    }

    /// Mode and identity of an open directory.
    fn identity(&mut self, fd: i32, path: &Path) -> Result<(u32, (u32, u32, u64)), Failure> {
        // The memory of a job that has not begun.
        let id = *self.free.last().expect("no job has begun");
        self.arena.set_path(id, b"");
        self.arena.lend(id);
        let (name, statx) = (self.arena.path_ptr(id), self.arena.statx_ptr(id));
        let mask = libc::STATX_MODE | libc::STATX_INO;
        let call = calls::statx(fd, name, libc::AT_EMPTY_PATH, mask, statx);
        let result = self.single(Kind::Statx, call)?;
        self.arena.take_back(id);
        result.map_err(|errno| Failure::Root("examine", path.to_owned(), errno))?;
        let statx = self.arena.statx(id);
        Ok((u32::from(statx.stx_mode) & 0o777, identity(&statx)))
    }

    /// Writes what is left to say into the report.
    pub fn finish(self) -> (B, Counts) {
        (self.backend, self.counts)
    }
}

/// Device and inode.
pub(crate) fn identity(statx: &libc::statx) -> (u32, u32, u64) {
    (statx.stx_dev_major, statx.stx_dev_minor, statx.stx_ino)
}

/// What the kernel returned, as number or errno.
pub(crate) fn to_result(result: i64) -> Result<i64, Errno> {
    if (-4095..0).contains(&result) {
        Err(Errno::from_raw(-result as i32))
    } else {
        Ok(result)
    }
}
