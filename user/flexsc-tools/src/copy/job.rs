// SPDX-License-Identifier: MIT OR Apache-2.0
//! A job: a file, a part of a large file, a directory, or another name of a file; and its
//! current step.

use crate::arena::Name;
use crate::meta::{Id, Meta};
use crate::node::ROOT;

/// The call that a job has in flight, or what the job waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Not in use.
    Free,
    /// statx of the source, by name.
    Stat,
    OpenSource,
    /// statx of the open source.
    StatSource,
    /// flistxattr, only to find out whether there are attributes.
    ProbeAttrs,
    /// openat of a new file.
    OpenTarget,
    /// statx of the existing file with the target's name.
    StatTarget,
    /// faccessat2 of a file that is to be replaced.
    MayWrite,
    SeekData,
    SeekHole,
    Read,
    Write,
    /// No call: other jobs still copy parts of this file.
    Shared,

    ReadLink,
    /// symlinkat.
    MakeLink,
    /// mknodat.
    MakeNode,

    /// openat2 of the directory that contains the first name of the file.
    OpenLinked,
    Link,

    OpenDir,
    /// statx of the open source.
    StatDir,
    MakeDir,
    OpenTargetDir,
    /// statx of an existing target.
    StatTargetDir,
    /// fchmod of an existing target that is not writable.
    MakeWritable,
    /// fgetxattr of an existing target.
    LookForAcl,
    /// getdents64.
    List,
    /// No call: its entries are being started.
    Listed,

    /// The steps after the content is complete, in this order. Each is made only if it is
    /// needed; see [`Step::LAST`].
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
    /// unlinkat of an incomplete file.
    Remove,

    /// fchown of only the group, after `SetOwner` was refused.
    SetGroup,
    /// fgetxattr and fsetxattr, after `ListAttrs`.
    GetAttr,
    SetAttr,
}

impl Step {
    /// The last steps in their order.
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

    /// Returns the position of a step in [`Step::LAST`]. A step that continues another one
    /// has its position.
    pub fn place_in_last(self) -> Option<usize> {
        let step = match self {
            Step::SetGroup => Step::SetOwner,
            Step::GetAttr | Step::SetAttr => Step::ListAttrs,
            step => step,
        };
        Step::LAST.iter().position(|&other| other == step)
    }

    /// Returns true for the steps of a directory until it is listed.
    pub fn is_of_directory(self) -> bool {
        use Step::{
            List, LookForAcl, MakeDir, MakeWritable, OpenDir, OpenTargetDir, StatDir, StatTargetDir,
        };
        matches!(
            self,
            OpenDir
                | StatDir
                | MakeDir
                | OpenTargetDir
                | StatTargetDir
                | MakeWritable
                | LookForAcl
                | List
        )
    }

    /// Returns true if an incomplete file exists after this step succeeds.
    pub fn leaves_incomplete(self, before: bool) -> bool {
        match self {
            Step::OpenTarget | Step::MakeLink | Step::MakeNode | Step::Link | Step::MakeDir => true,
            Step::Replace | Step::Remove => false,
            _ => before,
        }
    }

    /// Returns the failed action for messages, and true if it concerns the copy.
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

/// The kind of object that a job copies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    /// Not known before statx.
    Unknown,
    /// A directory, until it is listed.
    Dir,
    /// A directory after everything below it is copied.
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

/// A job. Its memory is in the [`Arena`](crate::arena::Arena), with the same number.
#[derive(Clone, Copy, Debug)]
pub struct Job {
    pub step: Step,
    pub what: What,
    /// The job that has the file open; the job itself unless it is a part.
    pub owner: usize,
    /// Its directory; if it is an open directory, the job's own node.
    pub node: usize,
    pub source: i32,
    pub target: i32,
    pub meta: Meta,
    pub content: Content,
    pub copy: Copied,
    pub todo: Todo,
    pub failed: bool,
    /// Another job continues with its name.
    pub handed_on: bool,
}

/// The content that is being copied.
#[derive(Clone, Copy, Debug)]
pub struct Content {
    /// The offsets at which the next read starts and at which reading ends.
    pub offset: u64,
    pub end: u64,
    /// The bytes of the buffer that were read but not written. For a directory: the entries
    /// that were not started. For attributes: the remaining names.
    pub from: usize,
    pub to: usize,
    /// For a large file: the offset of the next part. For a sparse file: its final size.
    pub next: u64,
    /// For a large file: how many other jobs copy parts of it.
    pub helpers: usize,
    /// No other job copies parts of the file.
    pub alone: bool,
    /// The file has holes, which are skipped.
    pub sparse: bool,
}

/// The file in the target.
#[derive(Clone, Copy, Debug)]
pub struct Copied {
    /// An incomplete file exists, which must be removed after a failure.
    pub made: bool,
    /// The file is made under a temporary name, because another file has its name.
    pub beside: bool,
    /// For a directory: the target existed before.
    pub existed: bool,
    /// For such a directory: see [`Node::foreign`](crate::node::Node).
    pub foreign: bool,
    /// The identity of the copy, if other names will be linked to it.
    pub id: Id,
    /// Number of times its target vanished or its temporary name was taken.
    pub tries: u32,
}

/// Which of the last steps are needed.
#[derive(Clone, Copy, Debug)]
pub struct Todo {
    /// The source has extended attributes.
    pub attrs: bool,
    pub set_owner: bool,
    pub set_mode: bool,
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
        content: Content {
            offset: 0,
            end: 0,
            from: 0,
            to: 0,
            next: 0,
            helpers: 0,
            alone: false,
            sparse: false,
        },
        copy: Copied {
            made: false,
            beside: false,
            existed: false,
            foreign: false,
            id: Meta::NONE.id,
            tries: 0,
        },
        todo: Todo {
            attrs: false,
            set_owner: false,
            set_mode: false,
        },
        failed: false,
        handed_on: false,
    };

    /// The name of the copy until it is complete.
    pub fn made_name(&self) -> Name {
        if self.copy.beside {
            Name::Other
        } else {
            Name::Own
        }
    }

    /// The flags for unlinkat of the incomplete file.
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
        // After a group that cannot be set, the copier continues after the owner instead of
        // starting over.
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
