// SPDX-License-Identifier: MIT OR Apache-2.0
//! The last steps of every copy: owner, attributes, permissions and times; closing it; and
//! putting it in place or removing it.

use nix::errno::Errno;

use crate::arena::Name;
use crate::backend::Backend;
use crate::complaint::reason;
use crate::copier::Copier;
use crate::job::{Job, Step, What};
use crate::links::First;
use crate::meta::Meta;

impl<B: Backend> Copier<'_, B> {
    /// Returns true if the owner of a copy must be set.
    pub(crate) fn must_set_owner(&self, id: usize) -> bool {
        let Job { meta, node, .. } = self.jobs[id];
        self.nodes.get(node).foreign
            || meta.uid != self.given.ours.uid
            || meta.gid != self.given.ours.gid
    }

    /// Continues with the first of the last steps that is needed.
    pub(crate) fn last(&mut self, id: usize) {
        self.last_from(id, 0);
    }

    /// Continues with the first needed step after this one.
    pub(crate) fn last_after(&mut self, id: usize, step: Step) {
        let at = step.place_in_last();
        self.last_from(id, at.expect("it is one of the last steps") + 1);
    }

    fn last_from(&mut self, id: usize, from: usize) {
        let needed = |&&step: &&Step| self.is_needed(id, step);
        let Some(&step) = Step::LAST[from..].iter().find(needed) else {
            return self.is_through(id);
        };
        if step == Step::SetTimes {
            let Meta {
                accessed, modified, ..
            } = self.jobs[id].meta;
            self.arena.set_times(id, [accessed, modified]);
        }
        match step {
            Step::DropAcl | Step::DropDefaultAcl | Step::ListAttrs => self.attr_step(id, step),
            _ => self.go_on(id, step),
        }
    }

    fn is_needed(&self, id: usize, step: Step) -> bool {
        let job = &self.jobs[id];
        let finish = job.what == What::Finish;
        // Only for complete files. A directory goes through all of these.
        let good = finish || (job.copy.made && !job.failed);
        let own = good && job.what != What::HardLink;
        let acl = |may: bool| may && self.nodes.get(job.node).acl;
        match step {
            Step::Truncate => own && job.content.sparse,
            Step::SetOwner => own && job.todo.set_owner,
            Step::DropAcl => own && acl(job.what != What::SymLink),
            Step::DropDefaultAcl => own && acl(finish),
            Step::ListAttrs => own && job.todo.attrs,
            Step::SetMode => own && job.todo.set_mode,
            Step::SetTimes => own,
            Step::StatMade => good && !finish && job.meta.links > 1,
            Step::CloseSource => job.source >= 0,
            Step::CloseTarget => job.target >= 0,
            Step::Replace => good && job.copy.beside,
            Step::Remove => job.failed && job.copy.made,
            _ => false,
        }
    }

    pub(crate) fn last_succeeded(&mut self, id: usize, step: Step, value: i64) {
        match step {
            Step::ListAttrs => return self.attrs_listed(id, value as usize),
            Step::GetAttr => return self.attr_read(id, value as usize),
            Step::SetAttr => return self.attr_done(id),
            Step::SetGroup => return self.last_after(id, Step::SetOwner),
            Step::StatMade => return self.made_examined(id),
            Step::CloseSource => self.jobs[id].source = -1,
            Step::CloseTarget => self.jobs[id].target = -1,
            Step::Replace | Step::Remove => self.jobs[id].copy.made = step == Step::Replace,
            _ => {}
        }
        self.last_after(id, step);
    }

    pub(crate) fn last_refused(&mut self, id: usize, step: Step, errno: Errno) {
        match (step, errno) {
            // Only root can give files away. The copy stays ours, and loses its set-ID bits
            // so that no program runs with our rights by accident.
            (Step::SetOwner, Errno::EPERM | Errno::EINVAL) if self.given.ours.uid != 0 => {
                self.jobs[id].meta.mode &= !0o7000;
                self.counts.kept_owner += 1;
                self.go_on(id, Step::SetGroup);
            }
            (Step::SetGroup, Errno::EPERM | Errno::EINVAL) => self.last_after(id, Step::SetOwner),
            (Step::DropAcl | Step::DropDefaultAcl, Errno::ENODATA | Errno::EOPNOTSUPP) => {
                self.last_after(id, step);
            }
            (Step::ListAttrs | Step::GetAttr | Step::SetAttr, _) => {
                self.attr_refused(id, step, errno);
            }
            // Nothing was written to this file.
            (Step::CloseSource, _) => self.last_succeeded(id, step, 0),
            // The descriptor is closed nevertheless.
            (Step::CloseTarget, _) => {
                self.jobs[id].target = -1;
                self.last_step_failed(id, step, errno);
            }
            (Step::Remove, _) => {
                let (path, why) = (self.shown_made(id), reason(errno));
                self.error(format!("{path} is incomplete and cannot be removed: {why}"));
                self.jobs[id].copy.made = false;
                self.last_after(id, step);
            }
            _ => self.last_step_failed(id, step, errno),
        }
    }

    pub(crate) fn last_step_failed(&mut self, id: usize, step: Step, errno: Errno) {
        if self.jobs[id].what != What::Finish {
            return self.failed(id, step, errno);
        }
        let (what, copy) = step.what();
        let (path, why) = (self.shown_job(id, copy), reason(errno));
        self.last_failed(id, step, format!("cannot {what} {path}: {why}"));
    }

    /// Ends the job of a file. A directory continues with its other steps.
    pub(crate) fn last_failed(&mut self, id: usize, step: Step, message: String) {
        if self.jobs[id].what != What::Finish {
            return self.fail(id, message);
        }
        let node = self.jobs[id].node;
        self.nodes.get_mut(node).failed = true;
        self.error(message);
        self.last_after(id, step);
    }

    /// Returns the path of the incomplete file.
    fn shown_made(&self, id: usize) -> String {
        let job = &self.jobs[id];
        self.shown(job.node, self.arena.name(id, job.made_name()), true)
    }

    /// statx has examined the copy of a file with several names.
    fn made_examined(&mut self, id: usize) {
        let made = Meta::from(&self.arena.statx(id)).id;
        let Job { what, meta, .. } = self.jobs[id];
        if what == What::HardLink {
            if self
                .links
                .first(meta.id)
                .is_none_or(|first| first.id != made)
            {
                let path = self.shown_job(id, true);
                return self.fail(
                    id,
                    format!("the file that {path} should be a link to was replaced; try again"),
                );
            }
        } else {
            self.jobs[id].copy.id = made;
        }
        self.last_after(id, Step::StatMade);
    }

    /// All possible steps are complete.
    fn is_through(&mut self, id: usize) {
        let job = self.jobs[id];
        if job.what == What::Finish {
            return self.dir_closed(id);
        }
        if job.handed_on {
            return self.end(id);
        }
        let good = !job.failed;
        match job.what {
            What::File => self.counts.files += u64::from(good),
            What::SymLink => self.counts.links += u64::from(good),
            What::Special => self.counts.special += u64::from(good),
            What::HardLink => self.counts.hard_links += u64::from(good),
            What::Unknown | What::Dir | What::Part | What::Finish => {}
        }
        if matches!(job.what, What::File | What::SymLink | What::Special) && job.meta.links > 1 {
            let first = good.then(|| First {
                dir: self.nodes.path(job.node).into(),
                name: self.arena.name(id, Name::Own).into(),
                id: job.copy.id,
            });
            let waiting = self.links.finished(job.meta.id, first);
            self.push_later(waiting);
        }
        self.end(id);
    }
}
