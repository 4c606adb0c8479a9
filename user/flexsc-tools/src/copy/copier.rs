// SPDX-License-Identifier: MIT OR Apache-2.0
//! Copies a tree with many calls in flight: starts jobs and makes their calls. The
//! reactions to results are in `advance.rs`, `directory.rs` and `last.rs`.

#![expect(unsafe_code, reason = "submitting is a promise about memory")]

use std::collections::VecDeque;
use std::os::fd::IntoRawFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use nix::errno::Errno;

use flexsc::calls;

use crate::arena::{Arena, Name};
use crate::backend::Backend;
use crate::call;
use crate::complaint::{complain, reason, shown};
use crate::counts::{Counts, Progress};
use crate::dents;
use crate::interrupt;
use crate::job::{Job, Step, What};
use crate::limits::Limits;
use crate::links::{Links, Place};
use crate::meta::{Id, Meta};
use crate::node::{Node, Nodes, ROOT};
use crate::roots::Roots;

/// The token of the only call that belongs to no job.
const PROGRESS: u32 = u32::MAX;

/// Why no more jobs are started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// This signal arrived.
    Signal(i32),
    /// The target file system is full or read-only.
    Full(Errno),
}

/// Our own user and group. Files of others need their owner set.
#[derive(Clone, Copy, Debug)]
pub struct Ourselves {
    pub uid: u32,
    pub gid: u32,
}

/// A copy in progress.
///
/// # Invariants
///
/// Every job that is not free, listed or shared has exactly one call in flight, and its
/// memory is lent. One entry is reserved for the progress line, so there are fewer jobs
/// than the backend has capacity.
///
/// A directory stays open while its `pending` is not 0. Each job, each waiting name and
/// each subdirectory counts there.
pub struct Copier<'a, B> {
    pub(crate) backend: B,
    pub(crate) arena: Arena,
    pub(crate) jobs: Vec<Job>,
    pub(crate) nodes: Nodes,
    pub(crate) work: Work,
    pub(crate) links: Links,
    pub(crate) dirs: Dirs,
    pub(crate) given: Given<'a>,
    pub(crate) attrs: Attrs,
    pub(crate) stop: Option<Stop>,
    pub(crate) counts: Counts,
    progress: Progress,
}

/// What is left to do, and the jobs that are free to do it.
#[derive(Debug)]
pub(crate) struct Work {
    pub(crate) free: Vec<usize>,
    /// Directories that were not opened yet.
    pub(crate) waiting: Vec<Place>,
    /// Names that must be examined, possibly again.
    pub(crate) later: Vec<Place>,
    /// Jobs of directories with entries that were not started.
    pub(crate) listed: Vec<usize>,
    /// Large files with parts that were not started.
    pub(crate) sharing: Vec<usize>,
    /// Directories whose content is complete.
    pub(crate) complete: VecDeque<usize>,
    /// Number of temporary names used so far.
    names: u64,
}

impl Work {
    fn new(jobs: usize) -> Self {
        Work {
            free: (0..jobs).rev().collect(),
            waiting: Vec::with_capacity(1024),
            later: Vec::new(),
            listed: Vec::with_capacity(jobs),
            sharing: Vec::with_capacity(jobs),
            complete: VecDeque::with_capacity(jobs),
            names: 0,
        }
    }
}

/// Jobs that list directories. Their number is limited, so that files can always make
/// progress.
#[derive(Debug)]
pub(crate) struct Dirs {
    pub(crate) jobs: usize,
    jobs_max: usize,
    /// How many directories may be open.
    open_max: usize,
}

/// The two given directories, and the user who copies.
#[derive(Debug)]
pub(crate) struct Given<'a> {
    /// Neither may be found inside the other.
    pub(crate) source_id: Id,
    pub(crate) target_id: Id,
    target_fd: i32,
    source: &'a Path,
    target: &'a Path,
    pub(crate) ours: Ourselves,
}

/// Known facts about extended attributes.
#[derive(Debug, Default)]
pub(crate) struct Attrs {
    /// A device whose files have no attributes.
    pub(crate) none_on: Option<(u32, u32)>,
    /// /proc is not mounted, and the user was told.
    pub(crate) without_proc: bool,
}

impl<'a, B: Backend> Copier<'a, B> {
    /// Makes a copier with as many jobs as the limits and the backend allow.
    pub fn new(
        backend: B,
        source: &'a Path,
        target: &'a Path,
        limits: Limits,
        data: usize,
    ) -> Self {
        let jobs = limits.jobs.min(backend.capacity() - 1).max(2);
        Copier {
            arena: Arena::new(jobs, data),
            jobs: vec![Job::FREE; jobs],
            nodes: Nodes::default(),
            work: Work::new(jobs),
            links: Links::default(),
            dirs: Dirs {
                jobs: 0,
                jobs_max: (jobs / 8).max(1),
                open_max: limits.dirs,
            },
            given: Given {
                source_id: Meta::NONE.id,
                target_id: Meta::NONE.id,
                target_fd: -1,
                source,
                target,
                ours: Ourselves {
                    uid: nix::unistd::geteuid().as_raw(),
                    gid: nix::unistd::getegid().as_raw(),
                },
            },
            attrs: Attrs::default(),
            stop: None,
            counts: Counts::default(),
            progress: Progress::new(false),
            backend,
        }
    }

    /// Shows a progress line.
    pub fn show_progress(&mut self) {
        self.progress = Progress::new(true);
    }

    /// Copies the tree. Errors of individual files are printed and counted. Returns why the
    /// copy stopped early, if it did.
    pub fn run(&mut self, roots: Roots) -> Result<Option<Stop>, flexsc::Error> {
        let Roots {
            source,
            target,
            source_meta,
            target_meta,
            acl,
        } = roots;
        (self.given.source_id, self.given.target_id) = (source_meta.id, target_meta.id);
        self.given.target_fd = target.into_raw_fd();
        let root = self.nodes.add(Node {
            parent: ROOT,
            name: Box::default(),
            source: source.into_raw_fd(),
            target: self.given.target_fd,
            meta: source_meta,
            pending: 1,
            set_owner: !source_meta.has_owner_of(&target_meta),
            foreign: self.is_foreign(&target_meta),
            acl,
            failed: false,
        });
        debug_assert_eq!(root, ROOT);
        let id = self.take(What::Dir, ROOT);
        self.arena.set_name(id, Name::Own, b"");
        self.dirs.jobs += 1;
        self.go_on(id, Step::List);
        let done = self.go();
        if done.is_err() {
            self.remove_incomplete();
        }
        self.progress.finish(&self.counts);
        // The copy may have been complete when the signal arrived.
        let complete = self.counts.left == 0 && self.counts.errors == 0;
        done.map(|()| self.stop.filter(|_| !complete))
    }

    /// Runs until nothing is left to do.
    fn go(&mut self) -> Result<(), flexsc::Error> {
        loop {
            while let Some((token, result)) = self.backend.ready() {
                match token {
                    PROGRESS => self.progress.written(),
                    job => self.completed(job as usize, result),
                }
            }
            if let (None, Some(signal)) = (self.stop, interrupt::came()) {
                self.stop = Some(Stop::Signal(signal));
            }
            if self.stop.is_some() {
                self.drop_the_rest();
            }
            self.fill();
            self.report_progress();
            if self.backend.in_flight() == 0 {
                debug_assert_eq!(self.work.free.len(), self.jobs.len());
                debug_assert_eq!(self.nodes.open(), 0);
                return Ok(());
            }
            self.backend.wait()?;
        }
    }

    fn report_progress(&mut self) {
        if let Some((text, len)) = self.progress.due(&self.counts) {
            self.counts.call(crate::counts::Kind::Progress);
            // SAFETY: the text is unchanged until `written`, and one entry is reserved for
            // this call.
            unsafe {
                self.backend
                    .submit(PROGRESS, calls::write(2, text.cast(), len));
            }
        }
    }

    /// Starts jobs while there are free ones and there is work.
    fn fill(&mut self) {
        while !self.work.free.is_empty() {
            // Started files come before new ones, and jobs that free descriptors before
            // jobs that need some.
            if let Some(dir) = self.work.complete.pop_front() {
                self.start_finish(dir);
            } else if let Some(&owner) = self.work.sharing.last() {
                self.start_part(owner);
            } else if let Some(Place { node, name }) = self.work.later.pop() {
                self.start(What::Unknown, Step::Stat, node, &name);
            } else if self.may_open_dir() {
                let Place { node, name } = self.work.waiting.pop().expect("one waits");
                self.dirs.jobs += 1;
                self.start(What::Dir, Step::OpenDir, node, &name);
            } else if let Some(&dir) = self.work.listed.last() {
                self.start_entry(dir);
            } else {
                return;
            }
        }
    }

    /// Returns true if another directory may be opened. If too many are open, this is the
    /// case only if nothing else can close some.
    fn may_open_dir(&self) -> bool {
        let idle = self.work.free.len() == self.jobs.len();
        !self.work.waiting.is_empty()
            && self.dirs.jobs < self.dirs.jobs_max
            && (self.nodes.open() + self.dirs.jobs < self.dirs.open_max || idle)
    }

    /// Allocates a job.
    pub(crate) fn take(&mut self, what: What, node: usize) -> usize {
        let id = self.work.free.pop().expect("the caller has looked");
        self.jobs[id] = Job {
            what,
            node,
            owner: id,
            ..Job::FREE
        };
        id
    }

    fn start_part(&mut self, owner: usize) {
        let id = self.take(What::Part, self.jobs[owner].node);
        self.jobs[id].owner = owner;
        self.jobs[owner].content.helpers += 1;
        self.next_part(id);
    }

    /// Starts the next entry of a listed directory.
    fn start_entry(&mut self, dir: usize) {
        let Job { content, node, .. } = self.jobs[dir];
        let (from, to) = (content.from, content.to);
        let Some(entry) = dents::first(&self.arena.data(dir)[from..to]) else {
            self.work.listed.pop();
            self.go_on(dir, Step::List);
            return;
        };
        self.jobs[dir].content.from += entry.len;
        if entry.name == b"." || entry.name == b".." {
            return;
        }
        let name: Box<[u8]> = entry.name.into();
        self.nodes.get_mut(node).pending += 1;
        match entry.kind {
            libc::DT_DIR => self.work.waiting.push(Place { node, name }),
            libc::DT_REG => self.start(What::File, Step::OpenSource, node, &name),
            _ => self.start(What::Unknown, Step::Stat, node, &name),
        }
    }

    /// Queues a directory to copy.
    pub(crate) fn push_dir(&mut self, place: Place) {
        self.work.waiting.push(place);
    }

    /// Queues names to examine.
    pub(crate) fn push_later(&mut self, places: Vec<Place>) {
        self.work.later.extend(places);
    }

    /// Starts a job for a name in a directory, which already counts it.
    fn start(&mut self, what: What, step: Step, node: usize, name: &[u8]) {
        let id = self.take(what, node);
        if self.arena.set_name(id, Name::Own, name) {
            self.go_on(id, step);
        } else {
            let path = self.shown(node, name, false);
            self.error(format!(
                "cannot copy {path}: {}",
                reason(Errno::ENAMETOOLONG)
            ));
            self.end(id);
        }
    }

    /// Returns true if started files must be given up. If only the space is exhausted,
    /// those that have found some continue.
    pub(crate) fn is_interrupted(&self) -> bool {
        matches!(self.stop, Some(Stop::Signal(_)))
    }

    /// Drops everything that was not started.
    fn drop_the_rest(&mut self) {
        let mut places = std::mem::take(&mut self.work.waiting);
        places.append(&mut self.work.later);
        self.counts.left += places.len() as u64;
        for place in places {
            self.child_done(place.node);
        }
        for id in std::mem::take(&mut self.work.listed) {
            self.counts.left += 1;
            self.end(id);
        }
        if self.is_interrupted() {
            for owner in std::mem::take(&mut self.work.sharing) {
                self.give_up_parts(owner);
            }
        }
    }

    /// Gives a job a new temporary name.
    pub(crate) fn name_beside(&mut self, id: usize) {
        let name = format!(".flexsc-copy-{}-{}", std::process::id(), self.work.names);
        self.work.names += 1;
        let fits = self.arena.set_name(id, Name::Other, name.as_bytes());
        debug_assert!(fits);
        self.jobs[id].copy.beside = true;
    }

    /// Makes the call of the next step.
    pub(crate) fn go_on(&mut self, id: usize, step: Step) {
        self.jobs[id].step = step;
        let job = &self.jobs[id];
        let dir = self.nodes.get(job.node);
        let owner = &self.jobs[job.owner];
        let (kind, call) = call::of(id, job, owner, dir, self.given.target_fd, &self.arena);
        self.counts.call(kind);
        self.arena.lend(id);
        // SAFETY: the call points only to this job's memory, which is lent until its result
        // is taken, and there are fewer jobs than entries.
        unsafe { self.backend.submit(id as u32, call) };
    }

    /// Prints and counts an error.
    pub(crate) fn error(&mut self, what: String) {
        complain(&what);
        self.counts.errors += 1;
    }

    /// Returns the path of a name in a directory of the source or of the copy, for
    /// messages.
    pub(crate) fn shown(&self, node: usize, name: &[u8], copy: bool) -> String {
        let root = if copy {
            self.given.target
        } else {
            self.given.source
        };
        let mut path = root.as_os_str().as_bytes().to_vec();
        let below = if name.is_empty() {
            self.nodes.path(node)
        } else {
            self.nodes.path_of(node, name)
        };
        if below != b"." {
            if path.last() != Some(&b'/') {
                path.push(b'/');
            }
            path.extend_from_slice(&below);
        }
        shown(&path)
    }

    /// Returns the path of a job's file in the source or in the copy, for messages.
    pub(crate) fn shown_job(&self, id: usize, copy: bool) -> String {
        let Job { owner, node, .. } = self.jobs[id];
        self.shown(node, self.arena.name(owner, Name::Own), copy)
    }

    /// Removes incomplete files with plain calls, after a failure of the engine.
    fn remove_incomplete(&mut self) {
        // Some calls may have created files, and their results have arrived.
        while let Some((token, result)) = self.backend.ready() {
            if let (Some(job), true) = (self.jobs.get_mut(token as usize), result >= 0) {
                job.copy.made = job.step.leaves_incomplete(job.copy.made);
            }
        }
        for id in 0..self.jobs.len() {
            let job = self.jobs[id];
            if !job.copy.made {
                continue;
            }
            let dir = self.nodes.get(job.node).target;
            let name = self.arena.name_ptr(id, job.made_name());
            let call = calls::unlinkat(dir, name, job.remove_flags());
            // SAFETY: the name belongs to the job, and nothing writes to it.
            let result = unsafe { call.make() };
            let path = self.shown_job(id, true);
            if result < 0 {
                let why = reason(Errno::from_raw(-result as i32));
                self.error(format!("{path} is incomplete and cannot be removed: {why}"));
            } else {
                self.counts.left += 1;
            }
        }
    }

    /// Returns the backend and the counters, for the report.
    pub fn finish(self) -> (B, Counts) {
        (self.backend, self.counts)
    }
}

/// Converts a kernel result to a number or an errno.
pub(crate) fn to_result(result: i64) -> Result<i64, Errno> {
    if (-4095..0).contains(&result) {
        Err(Errno::from_raw(-result as i32))
    } else {
        Ok(result)
    }
}
