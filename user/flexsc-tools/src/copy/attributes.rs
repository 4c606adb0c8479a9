// SPDX-License-Identifier: MIT OR Apache-2.0
//! Extended attributes, including access control lists.
//!
//! Regular files and directories are open, and their calls take the descriptor. Symbolic
//! links, FIFOs, sockets and devices are never opened; their calls take a path in
//! /proc/self/fd, through the open directory.

use std::path::Path;

use nix::errno::Errno;

use crate::arena::{Name, OPEN_FILES};
use crate::backend::Backend;
use crate::complaint::{reason, shown};
use crate::copier::Copier;
use crate::job::{Content, Job, Step, What};

impl<B: Backend> Copier<'_, B> {
    /// Asks whether the source has attributes, unless its file system has none.
    pub(crate) fn probe_attrs(&mut self, id: usize) {
        let (major, minor, _) = self.jobs[id].meta.id;
        if self.attrs.none_on == Some((major, minor)) {
            self.attrs_probed(id, false);
        } else {
            self.attr_step(id, Step::ProbeAttrs);
        }
    }

    /// Makes the copy, now that it is known whether it gets attributes.
    pub(crate) fn attrs_probed(&mut self, id: usize, any: bool) {
        self.jobs[id].todo.attrs = any;
        match self.jobs[id].what {
            What::SymLink => self.go_on(id, Step::ReadLink),
            What::Special => {
                self.jobs[id].todo.set_mode = self.must_set_mode(id);
                self.go_on(id, Step::MakeNode);
            }
            _ => self.make_file(id),
        }
    }

    pub(crate) fn probe_refused(&mut self, id: usize, errno: Errno) {
        let Job { what, meta, .. } = self.jobs[id];
        match errno {
            Errno::EOPNOTSUPP => {
                if what == What::File {
                    self.attrs.none_on = Some((meta.id.0, meta.id.1));
                }
                self.attrs_probed(id, false);
            }
            Errno::ENOENT if what != What::File && !Path::new(OPEN_FILES).exists() => {
                if !self.attrs.without_proc {
                    self.attrs.without_proc = true;
                    self.error(
                        "/proc is not mounted: symbolic links and special files are copied \
                         without extended attributes"
                            .to_owned(),
                    );
                }
                self.attrs_probed(id, false);
            }
            _ => self.failed(id, Step::ProbeAttrs, errno),
        }
    }

    /// Makes the call of a step that is about attributes.
    pub(crate) fn attr_step(&mut self, id: usize, step: Step) {
        let job = &self.jobs[id];
        let dir = self.nodes.get(job.node);
        let (open, dir, name) = match step {
            Step::ProbeAttrs | Step::ListAttrs | Step::GetAttr => {
                (job.source, dir.source, Name::Own)
            }
            _ => (job.target, dir.target, job.made_name()),
        };
        if open < 0 {
            self.arena.set_path(id, dir, name);
        }
        self.go_on(id, step);
    }

    /// ListAttrs has succeeded: the names fill this many bytes.
    pub(crate) fn attrs_listed(&mut self, id: usize, len: usize) {
        let job = &mut self.jobs[id];
        (job.content.from, job.content.to) = (0, len);
        self.next_attr(id);
    }

    /// GetAttr has succeeded: the value fills this many bytes.
    pub(crate) fn attr_read(&mut self, id: usize, len: usize) {
        self.jobs[id].content.offset = len as u64;
        self.attr_step(id, Step::SetAttr);
    }

    /// Continues with the next attribute of the list.
    fn next_attr(&mut self, id: usize) {
        let Content { from, to, .. } = self.jobs[id].content;
        if from < to {
            self.attr_step(id, Step::GetAttr);
        } else {
            self.last_after(id, Step::ListAttrs);
        }
    }

    /// The current attribute is copied or left out.
    pub(crate) fn attr_done(&mut self, id: usize) {
        let len = self.attr_name(id).len() + 1;
        self.jobs[id].content.from += len;
        self.next_attr(id);
    }

    /// ListAttrs, GetAttr or SetAttr has failed.
    pub(crate) fn attr_refused(&mut self, id: usize, step: Step, errno: Errno) {
        match (step, errno) {
            (Step::ListAttrs, Errno::EOPNOTSUPP) => self.last_after(id, step),
            (Step::GetAttr, Errno::ENODATA) => self.attr_done(id),
            (Step::ListAttrs | Step::GetAttr, Errno::ERANGE | Errno::E2BIG) => {
                let path = self.shown_job(id, false);
                let message = format!(
                    "the extended attributes of {path} are larger than the buffer; raise --buffer"
                );
                self.last_failed(id, Step::ListAttrs, message);
            }
            (Step::SetAttr, Errno::EPERM | Errno::EOPNOTSUPP) if !self.is_users_attr(id) => {
                self.counts.attributes_left += 1;
                self.attr_done(id);
            }
            (Step::SetAttr, _) => {
                let path = self.shown_job(id, true);
                let (name, why) = (shown(self.attr_name(id)), reason(errno));
                let message = format!("cannot set the attribute {name} of {path}: {why}");
                self.last_failed(id, Step::ListAttrs, message);
            }
            _ => self.last_step_failed(id, Step::ListAttrs, errno),
        }
    }

    fn attr_name(&self, id: usize) -> &[u8] {
        let Content { from, to, .. } = self.jobs[id].content;
        let names = &self.arena.data(id)[from..to];
        names.split(|&byte| byte == 0).next().unwrap_or(names)
    }

    /// Returns true for an attribute that users can set on their own files.
    fn is_users_attr(&self, id: usize) -> bool {
        let name = self.attr_name(id);
        name.starts_with(b"user.") || name.starts_with(b"system.posix_acl_")
    }
}
