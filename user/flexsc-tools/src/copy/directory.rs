// SPDX-License-Identifier: MIT OR Apache-2.0
//! Reacts to results: directories.
//!
//! OpenDir → StatDir → MakeDir → OpenTargetDir → (List → Listed)…; if the target existed:
//! OpenTargetDir → StatTargetDir → MakeWritable → LookForAcl. When everything below it is
//! copied, a second job makes the last steps, which set owner, permissions and times and
//! close it.

use nix::errno::Errno;

use crate::arena::Name;
use crate::backend::Backend;
use crate::copier::Copier;
use crate::job::{Step, What};
use crate::meta::Meta;
use crate::node::{Node, ROOT};

impl<B: Backend> Copier<'_, B> {
    pub(crate) fn dir_succeeded(&mut self, id: usize, step: Step, value: i64) {
        match step {
            Step::OpenDir => {
                self.jobs[id].source = value as i32;
                self.go_on(id, Step::StatDir);
            }
            Step::StatDir => {
                let meta = Meta::from(&self.arena.statx(id));
                self.jobs[id].meta = meta;
                if meta.id == self.given.target_id {
                    let path = self.shown_job(id, false);
                    self.fail(id, format!("{path} is the copy itself and is left out"));
                } else {
                    self.go_on(id, Step::MakeDir);
                }
            }
            Step::MakeDir => {
                self.jobs[id].copy.made = true;
                self.go_on(id, Step::OpenTargetDir);
            }
            Step::OpenTargetDir => {
                self.jobs[id].target = value as i32;
                if self.jobs[id].copy.existed {
                    self.go_on(id, Step::StatTargetDir);
                } else {
                    // It has the same owner as everything made in its parent, and so will
                    // everything made in it.
                    let parent = self.nodes.get(self.jobs[id].node);
                    let (foreign, acl) = (parent.foreign, parent.acl);
                    self.jobs[id].todo.set_owner = self.must_set_owner(id);
                    self.open(id, foreign, acl);
                }
            }
            Step::StatTargetDir => self.target_dir_examined(id),
            Step::MakeWritable => self.go_on(id, Step::LookForAcl),
            Step::LookForAcl => self.open_existing(id, value > 0),
            Step::List if value == 0 => self.end(id),
            Step::List if self.stop.is_some() => {
                self.counts.left += 1;
                self.end(id);
            }
            Step::List => {
                let job = &mut self.jobs[id];
                (job.content.from, job.content.to) = (0, value as usize);
                job.step = Step::Listed;
                self.work.listed.push(id);
            }
            _ => unreachable!("{step:?} is not one of directories"),
        }
    }

    pub(crate) fn dir_refused(&mut self, id: usize, step: Step, errno: Errno) {
        match (step, errno) {
            (Step::MakeDir, Errno::EEXIST) => {
                self.jobs[id].copy.existed = true;
                self.go_on(id, Step::OpenTargetDir);
            }
            (Step::OpenTargetDir, Errno::ENOTDIR | Errno::ELOOP) => {
                let path = self.shown_job(id, true);
                self.fail(
                    id,
                    format!("{path} is not a directory, its source is; remove it first"),
                );
            }
            // If this fails because the directory is not ours, the first file in it fails.
            (Step::MakeWritable, _) => self.go_on(id, Step::LookForAcl),
            (Step::LookForAcl, _) => self.open_existing(id, false),
            (Step::List, _) => {
                let node = self.jobs[id].node;
                self.nodes.get_mut(node).failed = true;
                let path = self.shown_job(id, false);
                let why = crate::complaint::reason(errno);
                self.error(format!("cannot list {path}: {why}"));
                self.end(id);
            }
            _ => self.failed(id, step, errno),
        }
    }

    /// The target's name is taken by a directory.
    fn target_dir_examined(&mut self, id: usize) {
        let there = Meta::from(&self.arena.statx(id));
        let source = self.jobs[id].meta.id;
        if there.id == source || there.id == self.given.source_id {
            let path = self.shown_job(id, true);
            let message = if there.id == source {
                let source = self.shown_job(id, false);
                format!("{source} and {path} are the same directory")
            } else {
                format!("{path} is the source itself and is not copied over")
            };
            return self.fail(id, message);
        }
        let foreign = self.is_foreign(&there);
        let job = &mut self.jobs[id];
        job.todo.set_owner = !job.meta.has_owner_of(&there);
        job.copy.foreign = foreign;
        job.content.end = there.permissions().into();
        if there.mode & 0o700 == 0o700 {
            self.go_on(id, Step::LookForAcl);
        } else {
            self.go_on(id, Step::MakeWritable);
        }
    }

    fn open_existing(&mut self, id: usize, acl: bool) {
        let foreign = self.jobs[id].copy.foreign;
        self.open(id, foreign, acl);
    }

    /// Both directories are open: continues with their entries.
    fn open(&mut self, id: usize, foreign: bool, acl: bool) {
        let job = &mut self.jobs[id];
        let node = self.nodes.add(Node {
            parent: job.node,
            name: self.arena.name(id, Name::Own).into(),
            source: job.source,
            target: job.target,
            meta: job.meta,
            pending: 1,
            set_owner: job.todo.set_owner,
            foreign,
            acl,
            failed: false,
        });
        // From now on they belong to the node.
        (job.source, job.target) = (-1, -1);
        (job.node, job.copy.made) = (node, false);
        self.arena.set_name(id, Name::Own, b"");
        self.go_on(id, Step::List);
    }

    /// An entry of a directory is complete.
    pub(crate) fn child_done(&mut self, node: usize) {
        let dir = self.nodes.get_mut(node);
        dir.pending -= 1;
        if dir.pending == 0 {
            self.work.complete.push_back(node);
        }
    }

    /// Sets owner, permissions and times of a directory, and closes it.
    pub(crate) fn start_finish(&mut self, node: usize) {
        let id = self.take(What::Finish, node);
        self.arena.set_name(id, Name::Own, b"");
        let dir = self.nodes.get(node);
        let meta = dir.meta;
        let job = &mut self.jobs[id];
        (job.source, job.target, job.meta) = (dir.source, dir.target, meta);
        job.todo.attrs = self.attrs.none_on != Some((meta.id.0, meta.id.1));
        (job.todo.set_owner, job.todo.set_mode) = (dir.set_owner, true);
        self.last(id);
    }

    /// The directory is closed.
    pub(crate) fn dir_closed(&mut self, id: usize) {
        let node = self.jobs[id].node;
        let dir = self.nodes.remove(node);
        self.counts.dirs += u64::from(!dir.failed);
        // The job no longer counts in the directory, which is gone.
        self.jobs[id].handed_on = true;
        self.end(id);
        if node != ROOT {
            self.child_done(dir.parent);
        }
    }

    /// Returns true if files made in this directory may get another owner or group than
    /// ours.
    pub(crate) fn is_foreign(&self, dir: &Meta) -> bool {
        dir.uid != self.given.ours.uid
            || dir.gid != self.given.ours.gid
            || dir.mode & libc::S_ISGID != 0
    }
}
