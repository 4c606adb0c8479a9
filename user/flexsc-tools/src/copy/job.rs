// SPDX-License-Identifier: MIT OR Apache-2.0
//! One job: a file, a part of a large file, a directory, another name of a file,
//! and the call that it is at.

use crate::arena::Name;
use crate::meta::{Id, Meta};
use crate::node::ROOT;

/// The call that a job is at, or what it waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Not in use.
    Free,
    /// statx of the source, by name.
    Stat,
    OpenSource,
    /// statx of the open source.
    StatSource,
    /// flistxattr, only to learn whether there are any.
    ProbeAttrs,
    /// Of a new file.
    OpenTarget,
    /// statx of what is there already under the target's name.
    StatTarget,
    /// faccessat2 of a file that is to be replaced.
    MayWrite,
    SeekData,
    SeekHole,
    Read,
    Write,
    /// No call: other jobs are still at parts of this file.
    Shared,

    ReadLink,
    /// symlinkat.
    MakeLink,
    /// mknodat.
    MakeNode,

    /// openat2 of the directory that the first name of a file is in.
    OpenLinked,
    Link,

    OpenDir,
    /// statx of the open source.
    StatDir,
    MakeDir,
    OpenTargetDir,
    /// statx of a target that was there.
    StatTargetDir,
    /// fchmod of a target that was there and cannot be written to.
    MakeWritable,
    /// fgetxattr of a target that was there.
    LookForAcl,
    /// getdents64.
    List,
    /// No call: its entries are being started.
    Listed,

    /// What follows when the content is there, in this order; each only if it
    /// is needed, see [`Step::LAST`].
    Truncate,
    SetOwner,
    DropAcl,
    DropDefaultAcl,
    ListAttrs,
    SetMode,
    SetTimes,
    /// statx of a file that has other names.
    StatMade,
    CloseSource,
    CloseTarget,
    /// renameat2 to the target's name.
    Replace,
    /// unlinkat of what is incomplete.
    Remove,

    /// fchown of the group alone, after `SetOwner` was refused.
    SetGroup,
    /// fgetxattr and fsetxattr, after `ListAttrs`.
    GetAttr,
    SetAttr,
}

impl Step {
    /// The steps at the end, in their order.
    pub const LAST: [Step; 12] = [
        Step::Truncate,
        Step::SetOwner,
        Step::DropAcl,
        Step::DropDefaultAcl,
        Step::ListAttrs,
        Step::SetMode,
        Step::SetTimes,
        Step::StatMade,
        Step::CloseSource,
        Step::CloseTarget,
        Step::Replace,
        Step::Remove,
    ];

    /// Where a step is in [`Step::LAST`]. A step that belongs to another one is where that
    /// one is.
    pub fn place_in_last(self) -> Option<usize> {
        let step = match self {
            Step::SetGroup => Step::SetOwner,
            Step::GetAttr | Step::SetAttr => Step::ListAttrs,
            step => step,
        };
        Step::LAST.iter().position(|&other| other == step)
    }

    /// Whether there is something incomplete after this step, if it succeeds.
    pub fn leaves_incomplete(self, before: bool) -> bool {
        match self {
            Step::OpenTarget | Step::MakeLink | Step::MakeNode | Step::Link | Step::MakeDir => true,
            Step::Replace | Step::Remove => false,
            _ => before,
        }
    }

    /// For messages: what cannot be done, and whether to the copy.
    pub fn what(self) -> (&'static str, bool) {
        match self {
            Step::Stat | Step::StatSource | Step::StatDir => ("examine", false),
            Step::OpenSource | Step::OpenDir => ("open", false),
            Step::ReadLink => ("read the symbolic link", false),
            Step::Read | Step::SeekData | Step::SeekHole => ("read", false),
            Step::List => ("list", false),
            Step::ProbeAttrs | Step::ListAttrs | Step::GetAttr => {
                ("read the extended attributes of", false)
            }
            Step::CloseSource => ("close", false),
            Step::StatTarget | Step::StatTargetDir | Step::StatMade | Step::LookForAcl => {
                ("examine", true)
            }
            Step::OpenTarget | Step::MakeLink | Step::MakeNode => ("make", true),
            Step::MayWrite => ("replace", true),
            Step::MakeDir => ("make the directory", true),
            Step::OpenTargetDir | Step::OpenLinked => ("open", true),
            Step::Link => ("make the hard link", true),
            Step::Write | Step::Truncate => ("write", true),
            Step::SetOwner | Step::SetGroup => ("set the owner of", true),
            Step::DropAcl | Step::DropDefaultAcl => ("remove the access control list of", true),
            Step::SetAttr => ("set the extended attributes of", true),
            Step::SetMode | Step::MakeWritable => ("set the permissions of", true),
            Step::SetTimes => ("set the times of", true),
            Step::CloseTarget => ("close", true),
            Step::Replace => ("replace", true),
            Step::Remove => ("remove the incomplete", true),
            Step::Free | Step::Listed | Step::Shared => unreachable!("{self:?} has no call"),
        }
    }
}

/// What a job is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    /// To be found out by statx.
    Unknown,
    /// A directory, until it is listed.
    Dir,
    /// A directory, when all below it is copied.
    Finish,
    File,
    /// A part of the file of another job, the owner.
    Part,
    SymLink,
    /// A FIFO, socket or device.
    Special,
    /// Another name of a file that was copied.
    HardLink,
}

/// A job. Its memory is in the [`Arena`](crate::arena::Arena), under the same
/// number.
#[derive(Clone, Copy, Debug)]
pub struct Job {
    pub step: Step,
    pub what: What,
    /// The job that has the file open: itself, but for a part.
    pub owner: usize,
    /// The directory that it is in; of a directory that is open: itself.
    pub node: usize,
    pub source: i32,
    pub target: i32,
    pub meta: Meta,
    /// Where the next read begins, and where reading ends.
    pub offset: u64,
    pub end: u64,
    /// Read and to be written: these bytes of the buffer. Of a directory: the
    /// entries that were not started. Of attributes: the names that are left.
    pub from: usize,
    pub to: usize,
    /// Of a large file: where the next part begins. Of one with holes: its
    /// final size.
    pub next: u64,
    /// Of a large file: how many other jobs are at parts of it.
    pub helpers: usize,
    /// No other job takes parts of the file.
    pub alone: bool,
    /// Has holes, which are left out.
    pub sparse: bool,
    pub failed: bool,
    /// There is something incomplete, to be removed after a failure.
    pub made: bool,
    /// It is made under a temporary name, as something else has the name.
    pub beside: bool,
    /// Of a directory: it was there before.
    pub existed: bool,
    /// Of such a directory: see [`Node::foreign`](crate::node::Node).
    pub foreign: bool,
    /// There are extended attributes.
    pub attrs: bool,
    /// The owner is to be set; the permissions are.
    pub set_owner: bool,
    pub set_mode: bool,
    /// Something else goes on in its place.
    pub handed_on: bool,
    /// What was made, if other names are to be linked to it.
    pub made_id: Id,
    /// Times that its target vanished or its temporary name was taken.
    pub tries: u32,
}

impl Job {
    pub const FREE: Job = Job {
        step: Step::Free,
        what: What::Unknown,
        owner: 0,
        node: ROOT,
        source: -1,
        target: -1,
        meta: Meta::NONE,
        offset: 0,
        end: 0,
        from: 0,
        to: 0,
        next: 0,
        helpers: 0,
        alone: false,
        sparse: false,
        failed: false,
        made: false,
        beside: false,
        existed: false,
        foreign: false,
        attrs: false,
        set_owner: false,
        set_mode: false,
        handed_on: false,
        made_id: Meta::NONE.id,
        tries: 0,
    };

    /// The name that the copy has until it is complete.
    pub fn made_name(&self) -> Name {
        if self.beside { Name::Other } else { Name::Own }
    }

    /// For unlinkat of what is incomplete.
    pub fn remove_flags(&self) -> i32 {
        if self.what == What::Dir {
            libc::AT_REMOVEDIR
        } else {
            0
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_step_begins_the_last_ones_again() {
        // A group that cannot be set comes after the owner, not before all else.
        assert_eq!(
            Step::SetGroup.place_in_last(),
            Step::SetOwner.place_in_last()
        );
        for step in [Step::GetAttr, Step::SetAttr] {
            assert_eq!(step.place_in_last(), Step::ListAttrs.place_in_last());
        }
        assert!(Step::LAST.iter().all(|step| step.place_in_last().is_some()));
        assert_eq!(Step::Read.place_in_last(), None);
    }
}
