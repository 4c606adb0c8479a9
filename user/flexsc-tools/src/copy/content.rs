// SPDX-License-Identifier: MIT OR Apache-2.0
//! The content of files. Small files are copied at once, large ones in parts by several
//! jobs, sparse ones without their holes.

use crate::backend::Backend;
use crate::copier::Copier;
use crate::job::{Job, Step};

impl<B: Backend> Copier<'_, B> {
    pub(crate) fn begin_content(&mut self, id: usize) {
        let len = self.arena.data_len() as u64;
        let job = &mut self.jobs[id];
        if job.content.sparse {
            // Alone, from one data segment to the next.
            (job.content.offset, job.content.alone) = (0, true);
            job.content.next = job.meta.size;
            self.go_on(id, Step::SeekData);
        } else if job.meta.size > len {
            job.content.alone = false;
            self.work.sharing.push(id);
            self.next_part(id);
        } else {
            // Alone, up to its end.
            (job.content.offset, job.content.end) = (0, u64::MAX);
            job.content.alone = true;
            self.go_on(id, Step::Read);
        }
    }

    /// Starts the next part of a shared file, which has one.
    pub(crate) fn next_part(&mut self, id: usize) {
        let len = self.arena.data_len() as u64;
        let owner_id = self.jobs[id].owner;
        let owner = &mut self.jobs[owner_id];
        let offset = owner.content.next;
        let end = offset.saturating_add(len).min(owner.meta.size);
        owner.content.next = end;
        let last = end == owner.meta.size;
        let job = &mut self.jobs[id];
        (job.content.offset, job.content.end) = (offset, end);
        if last {
            self.stop_sharing(owner_id);
        }
        self.go_on(id, Step::Read);
    }

    pub(crate) fn stop_sharing(&mut self, owner: usize) {
        self.work.sharing.retain(|&other| other != owner);
    }

    pub(crate) fn read(&mut self, id: usize, len: usize) {
        if len > 0 {
            let job = &mut self.jobs[id];
            (job.content.from, job.content.to) = (0, len);
            self.go_on(id, Step::Write);
        } else if self.jobs[id].content.sparse {
            // The file has become shorter.
            self.jobs[id].content.next = self.jobs[id].content.offset;
            self.last(id);
        } else {
            self.part_done(id);
        }
    }

    pub(crate) fn written(&mut self, id: usize, len: usize) {
        self.counts.bytes += len as u64;
        let job = &mut self.jobs[id];
        job.content.from += len;
        job.content.offset += len as u64;
        if job.content.from < job.content.to {
            self.go_on(id, Step::Write);
        } else if job.content.alone && !job.content.sparse && job.content.offset == job.meta.size {
            // This is the size that statx has reported. Files that report size 0, as in
            // /proc, are read up to their end.
            self.last(id);
        } else if job.content.offset < job.content.end {
            self.go_on(id, Step::Read);
        } else if job.content.sparse {
            self.go_on(id, Step::SeekData);
        } else {
            self.part_done(id);
        }
    }

    /// A part or the whole file is copied, or has failed.
    pub(crate) fn part_done(&mut self, id: usize) {
        let owner = self.jobs[id].owner;
        let Job { content, meta, .. } = self.jobs[owner];
        let next = content.next;
        if self.jobs[id].content.alone {
            self.last(id);
        } else if next < meta.size {
            self.next_part(id);
        } else {
            if id == owner {
                self.jobs[id].step = Step::Shared;
            } else {
                self.jobs[owner].content.helpers -= 1;
                self.end(id);
            }
            if self.jobs[owner].step == Step::Shared && self.jobs[owner].content.helpers == 0 {
                self.last(owner);
            }
        }
    }
}
