// SPDX-License-Identifier: MIT OR Apache-2.0
//! What follows on a result: the state machine of a job.
//!
//! file: Stat → OpenSource → OpenTarget → (Read → Write)… → CloseSource →
//! CloseTarget; link: ReadLink → MakeLink; directory: Stat → MakeDir → OpenDir
//! → (List → Listed)… → CloseSource.
//!
//! A file larger than the buffer is shared: free jobs take parts of it, and
//! its own job reads on from where it should end when all are through.

use nix::errno::Errno;

use crate::backend::Backend;
use crate::copier::{Copier, identity, to_result};
use crate::job::{Job, Step, What};

impl<B: Backend> Copier<'_, B> {
    /// Takes the result of a job's call and goes on.
    pub(crate) fn completed(&mut self, id: usize, result: i64) {
        self.arena.take_back(id);
        let step = self.jobs[id].step;
        match to_result(result) {
            Ok(value) => self.succeeded(id, step, value),
            Err(Errno::EINTR) => self.go_on(id, step),
            Err(errno) => self.failed(id, step, errno),
        }
    }

    fn succeeded(&mut self, id: usize, step: Step, value: i64) {
        match step {
            Step::Stat => self.examined(id),
            Step::ReadLink => self.link_read(id, value as usize),
            Step::MakeLink => {
                self.counts.links += 1;
                self.end(id);
            }
            Step::MakeDir => self.go_on(id, Step::OpenDir),
            Step::OpenDir => {
                self.jobs[id].source = value as i32;
                self.go_on(id, Step::List);
            }
            Step::List if value == 0 => self.go_on(id, Step::CloseSource),
            Step::List => {
                let job = &mut self.jobs[id];
                (job.from, job.to) = (0, value as usize);
                job.step = Step::Listed;
                self.listed.push(id);
            }
            Step::OpenSource => {
                self.jobs[id].source = value as i32;
                self.go_on(id, Step::OpenTarget);
            }
            Step::OpenTarget => self.opened(id, value as i32),
            Step::Read if value == 0 => self.part_done(id),
            Step::Read => {
                let job = &mut self.jobs[id];
                (job.from, job.to) = (0, value as usize);
                self.go_on(id, Step::Write);
            }
            Step::Write if value == 0 => self.failed(id, step, Errno::EIO),
            Step::Write => self.written(id, value as usize),
            Step::CloseSource => self.source_closed(id),
            Step::CloseTarget => self.target_closed(id),
            Step::SetMode => self.end(id),
            Step::Free | Step::Listed | Step::Shared => unreachable!("no call in flight"),
        }
    }

    fn failed(&mut self, id: usize, step: Step, errno: Errno) {
        if step == Step::MakeDir && errno == Errno::EEXIST {
            return self.go_on(id, Step::OpenDir);
        }
        let owner = self.jobs[id].owner;
        let what = match step {
            Step::Stat => "examine",
            Step::ReadLink => "read the link",
            Step::MakeLink => "make the link",
            Step::MakeDir => "make the directory",
            Step::OpenDir | Step::OpenSource => "open",
            Step::OpenTarget => "make",
            Step::List | Step::Read => "read",
            Step::Write => "write",
            Step::CloseSource | Step::CloseTarget => "close",
            Step::SetMode => "set the mode of",
            Step::Free | Step::Listed | Step::Shared => unreachable!("no call in flight"),
        };
        let path = self.arena.path(owner).to_owned();
        self.complain(what, &path, errno);
        self.jobs[owner].failed = true;
        match step {
            Step::List | Step::OpenTarget => self.go_on(id, Step::CloseSource),
            Step::Read | Step::Write => {
                // No more parts, and no tail.
                self.jobs[owner].next = self.jobs[owner].size;
                self.part_done(id);
            }
            // A descriptor is gone even where close fails.
            Step::CloseSource => self.source_closed(id),
            Step::CloseTarget => self.target_closed(id),
            _ => self.end(id),
        }
    }

    /// Frees a job.
    fn end(&mut self, id: usize) {
        if self.jobs[id].what == What::Dir && self.jobs[id].step != Step::SetMode {
            self.dirs -= 1;
        }
        self.jobs[id] = Job::FREE;
        self.free.push(id);
    }

    /// statx has said what it is.
    fn examined(&mut self, id: usize) {
        let statx = self.arena.statx(id);
        let mode = u32::from(statx.stx_mode);
        let job = &mut self.jobs[id];
        job.mode = mode & 0o777;
        match (mode & libc::S_IFMT, job.what) {
            (libc::S_IFREG, What::File | What::Unknown) => {
                job.what = What::File;
                job.size = statx.stx_size;
                self.go_on(id, Step::OpenSource);
            }
            (libc::S_IFLNK, What::File | What::Unknown) => {
                job.what = What::File;
                self.go_on(id, Step::ReadLink);
            }
            (libc::S_IFDIR, What::Dir) if identity(&statx) == self.target_id => {
                let path = self.arena.path(id).to_owned();
                self.complain("copy the target into itself:", &path, Errno::ELOOP);
                self.end(id);
            }
            (libc::S_IFDIR, What::Dir) => {
                if mode & 0o700 != 0o700 {
                    let path = self.arena.path(id).into();
                    self.modes.push((path, mode & 0o777));
                }
                self.go_on(id, Step::MakeDir);
            }
            (libc::S_IFDIR, What::Unknown) => {
                let path = self.arena.path(id).to_owned();
                self.push_dir(&path);
                self.end(id);
            }
            _ => {
                self.counts.skipped += 1;
                self.end(id);
            }
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
        if job.size > self.arena.data_len() as u64 {
            self.sharing.push(id);
            self.next_part(id);
        } else {
            self.tail(id, 0);
        }
    }

    /// Reads on from there, alone, until there is nothing more.
    fn tail(&mut self, id: usize, offset: u64) {
        let job = &mut self.jobs[id];
        (job.offset, job.end) = (offset, u64::MAX);
        job.tail = true;
        self.go_on(id, Step::Read);
    }

    /// Takes the next part of a shared file, which has one.
    pub(crate) fn next_part(&mut self, id: usize) {
        let len = self.arena.data_len() as u64;
        let owner_id = self.jobs[id].owner;
        let owner = &mut self.jobs[owner_id];
        let offset = owner.next;
        let end = offset.saturating_add(len).min(owner.size);
        owner.next = end;
        let last = end == owner.size;
        let job = &mut self.jobs[id];
        (job.offset, job.end) = (offset, end);
        if last {
            self.stop_sharing(owner_id);
        }
        self.go_on(id, Step::Read);
    }

    fn stop_sharing(&mut self, owner: usize) {
        self.sharing.retain(|&other| other != owner);
    }

    fn written(&mut self, id: usize, len: usize) {
        self.counts.bytes += len as u64;
        let job = &mut self.jobs[id];
        job.from += len;
        job.offset += len as u64;
        if job.from < job.to {
            self.go_on(id, Step::Write);
        } else if job.offset < job.end {
            self.go_on(id, Step::Read);
        } else {
            self.part_done(id);
        }
    }

    /// A part, or the whole of the file, is read and written, or failed.
    fn part_done(&mut self, id: usize) {
        let owner = self.jobs[id].owner;
        let Job {
            next, size, failed, ..
        } = self.jobs[owner];
        if self.jobs[id].tail {
            self.go_on(id, Step::CloseSource);
        } else if next < size {
            self.next_part(id);
        } else {
            if failed {
                self.stop_sharing(owner);
            }
            if id == owner {
                self.jobs[id].step = Step::Shared;
            } else {
                self.jobs[owner].helpers -= 1;
                self.end(id);
            }
            if self.jobs[owner].step == Step::Shared && self.jobs[owner].helpers == 0 {
                self.all_parts_done(owner);
            }
        }
    }

    fn all_parts_done(&mut self, id: usize) {
        if self.jobs[id].failed {
            self.go_on(id, Step::CloseSource);
        } else {
            self.tail(id, self.jobs[id].size);
        }
    }

    fn source_closed(&mut self, id: usize) {
        let job = self.jobs[id];
        if job.what == What::Dir {
            self.counts.dirs += u64::from(!job.failed);
            self.end(id);
        } else if job.target >= 0 {
            self.go_on(id, Step::CloseTarget);
        } else {
            self.end(id);
        }
    }

    fn target_closed(&mut self, id: usize) {
        self.counts.files += u64::from(!self.jobs[id].failed);
        self.end(id);
    }
}
