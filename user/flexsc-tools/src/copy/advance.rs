// SPDX-License-Identifier: MIT OR Apache-2.0
//! Reacts to results: files, symbolic links, special files, hard links.
//!
//! file: OpenSource → StatSource → ProbeAttrs → OpenTarget → (Read → Write)… →
//! the last steps. With holes: (SeekData → SeekHole → (Read → Write)…)…
//! symbolic link: Stat → ProbeAttrs → ReadLink → MakeLink → the last steps. FIFO, socket,
//! device: Stat → ProbeAttrs → MakeNode → the last steps. Another name of a file:
//! OpenLinked → Link → the last steps.
//!
//! If the target's name is taken, StatTarget follows, and MayWrite for a file; then the
//! copy is made under a temporary name and renamed at the end.
//!
//! A file larger than the buffer is shared: free jobs copy parts of it, and its own job
//! continues when all parts are complete.

use nix::errno::Errno;

use crate::arena::Name;
use crate::backend::Backend;
use crate::complaint::reason;
use crate::copier::{Copier, Stop, to_result};
use crate::job::{Job, Step, What};
use crate::links::{Claim, Place};
use crate::meta::{Meta, kind_name};

/// How often to retry if the target changes during the copy.
const TRIES: u32 = 16;

impl<B: Backend> Copier<'_, B> {
    /// Takes the result of a job's call and continues.
    pub(crate) fn completed(&mut self, id: usize, result: i64) {
        self.arena.take_back(id);
        let step = self.jobs[id].step;
        match to_result(result) {
            Ok(value) => self.succeeded(id, step, value),
            // close(2) releases the descriptor even if it is interrupted.
            Err(Errno::EINTR) if matches!(step, Step::CloseSource | Step::CloseTarget) => {
                self.succeeded(id, step, 0);
            }
            Err(Errno::EINTR) => self.go_on(id, step),
            Err(errno) => self.refused(id, step, errno),
        }
    }

    fn succeeded(&mut self, id: usize, step: Step, value: i64) {
        match step {
            Step::Stat => self.examined(id),
            Step::OpenSource => {
                self.jobs[id].source = value as i32;
                self.go_on(id, Step::StatSource);
            }
            Step::StatSource => self.source_examined(id),
            Step::ProbeAttrs => self.attrs_probed(id, value > 0),
            Step::OpenTarget => self.opened(id, value as i32),
            Step::StatTarget => self.taken(id),
            Step::MayWrite => {
                self.name_beside(id);
                self.make(id);
            }
            Step::SeekData => {
                self.jobs[id].content.offset = value as u64;
                self.go_on(id, Step::SeekHole);
            }
            Step::SeekHole => {
                self.jobs[id].content.end = value as u64;
                self.go_on(id, Step::Read);
            }
            Step::Read | Step::Write if self.is_interrupted() => self.give_up(id),
            Step::Read => self.read(id, value as usize),
            Step::Write if value == 0 => self.refused(id, step, Errno::EIO),
            Step::Write => self.written(id, value as usize),
            Step::ReadLink => self.link_read(id, value as usize),
            Step::MakeLink | Step::MakeNode | Step::Link => {
                self.jobs[id].copy.made = true;
                self.last(id);
            }
            Step::OpenLinked => {
                self.jobs[id].source = value as i32;
                self.go_on(id, Step::Link);
            }
            step if step.is_of_directory() => self.dir_succeeded(id, step, value),
            _ => self.last_succeeded(id, step, value),
        }
    }

    /// Handles a failed call: tries another way, or ends the job.
    fn refused(&mut self, id: usize, step: Step, errno: Errno) {
        let job = &mut self.jobs[id];
        match (step, errno) {
            (Step::ProbeAttrs, _) => self.probe_refused(id, errno),
            (Step::OpenTarget | Step::MakeLink | Step::MakeNode | Step::Link, Errno::EEXIST)
                if job.copy.tries < TRIES =>
            {
                job.copy.tries += 1;
                if job.copy.beside {
                    self.name_beside(id);
                    self.go_on(id, step);
                } else {
                    self.go_on(id, Step::StatTarget);
                }
            }
            // The target has vanished in the meantime.
            (Step::StatTarget, Errno::ENOENT) => self.make(id),
            (Step::MayWrite, Errno::EACCES) => {
                let path = self.shown_job(id, true);
                self.fail(
                    id,
                    format!("{path} is read-only; make it writable or remove it"),
                );
            }
            // There is no more data up to the end.
            (Step::SeekData, Errno::ENXIO) => {
                let job = &mut self.jobs[id];
                job.content.next = job.meta.size.max(job.content.offset);
                self.last(id);
            }
            // This file system does not report holes.
            (Step::SeekData | Step::SeekHole, Errno::EINVAL | Errno::EOPNOTSUPP) => {
                self.jobs[id].content.sparse = false;
                self.begin_content(id);
            }
            (step, _) if step.is_of_directory() => self.dir_refused(id, step, errno),
            _ => self.last_refused(id, step, errno),
        }
    }

    /// Reports the failed step, and ends the job.
    pub(crate) fn failed(&mut self, id: usize, step: Step, errno: Errno) {
        let owner = self.jobs[id].owner;
        let full = matches!(errno, Errno::ENOSPC | Errno::EDQUOT | Errno::EROFS);
        let (what, copy) = step.what();
        if full && copy {
            // Every following file would have the same message.
            if self.stop.is_some() {
                return self.give_up(id);
            }
            self.stop = Some(Stop::Full(errno));
        }
        let path = self.shown_job(owner, copy);
        let hint = match (step, errno) {
            (Step::MakeNode, Errno::EPERM) => "; only root can make device nodes",
            _ => "",
        };
        self.fail(id, format!("cannot {what} {path}: {}{hint}", reason(errno)));
    }

    /// Ends the job with a message, unless its file already has one.
    pub(crate) fn fail(&mut self, id: usize, message: String) {
        let owner = self.jobs[id].owner;
        if !self.jobs[owner].failed {
            self.error(message);
        }
        self.abandon(id);
    }

    /// Ends the job because the copy stops.
    fn give_up(&mut self, id: usize) {
        let owner = self.jobs[id].owner;
        if !self.jobs[owner].failed {
            self.counts.left += 1;
        }
        self.abandon(id);
    }

    /// Starts no more parts; then the file is closed and removed.
    fn abandon(&mut self, id: usize) {
        let (step, owner) = (self.jobs[id].step, self.jobs[id].owner);
        self.jobs[owner].failed = true;
        if matches!(step, Step::Read | Step::Write) && !self.jobs[id].content.alone {
            self.jobs[owner].content.next = self.jobs[owner].meta.size;
            self.stop_sharing(owner);
            self.part_done(id);
        } else {
            self.last(id);
        }
    }

    /// Gives up a shared file without starting its remaining parts.
    pub(crate) fn give_up_parts(&mut self, owner: usize) {
        if !self.jobs[owner].failed {
            self.counts.left += 1;
            self.jobs[owner].failed = true;
        }
        self.jobs[owner].content.next = self.jobs[owner].meta.size;
    }

    /// Frees a job.
    pub(crate) fn end(&mut self, id: usize) {
        let job = self.jobs[id];
        self.jobs[id] = Job::FREE;
        self.work.free.push(id);
        if job.what == What::Dir {
            self.dirs.jobs -= 1;
        }
        if job.what != What::Part && !job.handed_on {
            self.child_done(job.node);
        }
    }

    /// statx by name has succeeded, so the type is known.
    fn examined(&mut self, id: usize) {
        let meta = Meta::from(&self.arena.statx(id));
        self.jobs[id].meta = meta;
        self.jobs[id].todo.set_owner = self.must_set_owner(id);
        match meta.kind() {
            libc::S_IFREG if meta.links > 1 && self.links.first(meta.id).is_some() => {
                self.jobs[id].what = What::HardLink;
                self.open_linked(id);
            }
            libc::S_IFREG => {
                self.jobs[id].what = What::File;
                self.go_on(id, Step::OpenSource);
            }
            libc::S_IFDIR => {
                let place = self.hand_on(id);
                self.push_dir(place);
                self.end(id);
            }
            libc::S_IFLNK => {
                self.jobs[id].what = What::SymLink;
                if self.is_first(id) {
                    self.probe_attrs(id);
                }
            }
            _ => {
                self.jobs[id].what = What::Special;
                if self.is_first(id) {
                    self.probe_attrs(id);
                }
            }
        }
    }

    /// Returns the job's name, with which another job will continue.
    fn hand_on(&mut self, id: usize) -> Place {
        self.jobs[id].handed_on = true;
        Place {
            node: self.jobs[id].node,
            name: self.arena.name(id, Name::Own).into(),
        }
    }

    /// Returns true if the job must copy the file. Otherwise another job copies its content
    /// under another name, and this name becomes a link, now or later.
    fn is_first(&mut self, id: usize) -> bool {
        let Job { meta, node, .. } = self.jobs[id];
        if meta.links < 2 {
            return true;
        }
        let name = self.arena.name(id, Name::Own);
        let place = || Place {
            node,
            name: name.into(),
        };
        let claim = self.links.claim(meta.id, place);
        if claim == Claim::Copy {
            return true;
        }
        let open = self.jobs[id].source >= 0;
        if claim == Claim::Link && open {
            let place = self.hand_on(id);
            self.push_later(vec![place]);
        }
        self.jobs[id].what = What::HardLink;
        self.jobs[id].handed_on = claim == Claim::Wait || open;
        if self.jobs[id].handed_on {
            self.last(id);
        } else {
            self.open_linked(id);
        }
        false
    }

    /// Opens the directory of the first name's copy.
    pub(crate) fn open_linked(&mut self, id: usize) {
        let file = self.jobs[id].meta.id;
        let first = self.links.first(file).expect("it was copied");
        let room = self.arena.data_mut(id);
        let (dir, name) = (first.dir.len(), first.name.len());
        if dir >= libc::PATH_MAX as usize || dir + name + 2 > room.len() {
            return self.failed(id, Step::OpenLinked, Errno::ENAMETOOLONG);
        }
        room[..dir].copy_from_slice(&first.dir);
        room[dir] = 0;
        room[dir + 1..][..name].copy_from_slice(&first.name);
        room[dir + 1 + name] = 0;
        self.jobs[id].content.from = dir + 1;
        let flags = libc::O_PATH | libc::O_DIRECTORY | libc::O_CLOEXEC;
        let resolve = libc::RESOLVE_BENEATH | libc::RESOLVE_NO_SYMLINKS;
        self.arena.set_how(id, flags, resolve);
        self.go_on(id, Step::OpenLinked);
    }

    /// The source is open, and statx has succeeded.
    fn source_examined(&mut self, id: usize) {
        let meta = Meta::from(&self.arena.statx(id));
        let job = &mut self.jobs[id];
        job.meta = meta;
        if meta.kind() != libc::S_IFREG {
            let path = self.shown_job(id, false);
            return self.fail(
                id,
                format!("{path} was replaced while it was being copied; try again"),
            );
        }
        self.jobs[id].todo.set_owner = self.must_set_owner(id);
        if self.is_first(id) {
            self.probe_attrs(id);
        }
    }

    /// Starts to make the target of a file.
    pub(crate) fn make_file(&mut self, id: usize) {
        self.jobs[id].content.sparse = self.jobs[id].meta.has_holes();
        self.jobs[id].todo.set_mode = self.must_set_mode(id);
        self.go_on(id, Step::OpenTarget);
    }

    /// Returns true if an attribute of the copy changes after it is made. Then no other
    /// user may use the copy before its permissions are set at the end.
    pub(crate) fn must_set_mode(&self, id: usize) -> bool {
        let job = &self.jobs[id];
        let node = self.nodes.get(job.node);
        job.todo.set_owner
            || job.todo.attrs
            || node.acl
            || node.foreign
            || job.meta.mode & 0o7000 != 0
    }

    /// Makes the target under the current name of the copy.
    fn make(&mut self, id: usize) {
        let step = match self.jobs[id].what {
            What::SymLink => Step::MakeLink,
            What::Special => Step::MakeNode,
            What::HardLink => Step::Link,
            _ => Step::OpenTarget,
        };
        self.go_on(id, step);
    }

    /// The target's name is taken, and statx has examined the existing file.
    fn taken(&mut self, id: usize) {
        let there = Meta::from(&self.arena.statx(id));
        let Job { what, meta, .. } = self.jobs[id];
        if what == What::HardLink && self.links.first(meta.id).is_some_and(|f| f.id == there.id) {
            // This name is already linked.
            return self.last(id);
        }
        if there.id == meta.id {
            let (ours, theirs) = (self.shown_job(id, false), self.shown_job(id, true));
            return self.fail(id, format!("{ours} and {theirs} are the same file"));
        }
        // The answer is the same for each name of a file, because it is random which is the
        // first.
        let regular = meta.kind() == libc::S_IFREG;
        let replaces = if regular {
            there.kind() == libc::S_IFREG
        } else {
            there.kind() != libc::S_IFDIR
        };
        if !replaces {
            let path = self.shown_job(id, true);
            let (is, should) = (kind_name(there.mode), kind_name(meta.mode));
            return self.fail(
                id,
                format!("{path} is {is}, its source {should}; remove it first"),
            );
        }
        if regular {
            self.go_on(id, Step::MayWrite);
        } else {
            self.name_beside(id);
            self.make(id);
        }
    }

    fn link_read(&mut self, id: usize, len: usize) {
        let room = self.arena.data_mut(id);
        if len < room.len() {
            room[len] = 0;
            self.go_on(id, Step::MakeLink);
        } else {
            self.failed(id, Step::ReadLink, Errno::ENAMETOOLONG);
        }
    }

    /// Both files are open.
    fn opened(&mut self, id: usize, target: i32) {
        let job = &mut self.jobs[id];
        job.target = target;
        job.copy.made = true;
        if self.is_interrupted() {
            self.give_up(id);
        } else {
            self.begin_content(id);
        }
    }
}
