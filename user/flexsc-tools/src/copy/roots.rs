// SPDX-License-Identifier: MIT OR Apache-2.0
//! The two directories of the command line. Before creating or changing anything, this code
//! checks their types and whether one is inside the other.

use std::ffi::OsStr;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Component, Path};

use nix::errno::Errno;
use rustix::fs::{AtFlags, CWD, Mode, OFlags, StatxFlags};

use crate::complaint::{reason, shown_path};
use crate::meta::{Id, Meta, kind_name};

/// Name of the access control list that new files in a directory inherit.
const DEFAULT_ACL: &str = "system.posix_acl_default";

/// Source and copy, open.
#[derive(Debug)]
pub struct Roots {
    pub source: OwnedFd,
    pub target: OwnedFd,
    pub source_meta: Meta,
    pub target_meta: Meta,
    /// Files made in the copy inherit an access control list.
    pub acl: bool,
}

const OPEN: OFlags = OFlags::RDONLY
    .union(OFlags::DIRECTORY)
    .union(OFlags::NOFOLLOW)
    .union(OFlags::CLOEXEC);
const LOOK: OFlags = OFlags::PATH.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);

impl Roots {
    /// Opens the source; creates and opens the target.
    pub fn open(source: &Path, target: &Path) -> Result<Self, String> {
        let (from, source_meta) = open_given(source)?;
        let (to, place) = match rustix::fs::openat(CWD, target, OPEN, Mode::empty()) {
            Err(rustix::io::Errno::NOENT) => (None, Some(place(target)?)),
            _ => (Some(open_given(target)?), None),
        };
        if let Some((_, meta)) = &to {
            if meta.id == source_meta.id {
                let (a, b) = (shown_path(source), shown_path(target));
                return Err(format!(
                    "{a} and {b} are the same directory; nothing was copied"
                ));
            }
        }
        let inside = match (&to, &place) {
            (Some((fd, _)), _) | (None, Some((fd, _))) => is_below(fd, source_meta.id),
            (None, None) => false,
        };
        if inside {
            let (a, b) = (shown_path(source), shown_path(target));
            return Err(format!(
                "cannot copy {a} into itself: {b} is inside it; choose a target outside"
            ));
        }
        // All checks have passed. From here on, files are changed.
        let (to, target_meta) = match (to, place) {
            (Some(there), _) => there,
            (None, Some((parent, name))) => make(&parent, name, target)?,
            (None, None) => unreachable!("one of them was opened"),
        };
        if target_meta.mode & 0o700 != 0o700 {
            // If this fails because the directory is not ours, the first file in it fails.
            let mode = Mode::from_raw_mode(target_meta.permissions() | 0o700);
            let _ = rustix::fs::fchmod(&to, mode);
        }
        let acl = rustix::fs::fgetxattr_query(&to, DEFAULT_ACL);
        Ok(Roots {
            source: from,
            target: to,
            source_meta,
            target_meta,
            acl: matches!(acl, Ok(1..)),
        })
    }
}

/// Opens an existing directory; does not follow a symbolic link.
pub fn open_given(path: &Path) -> Result<(OwnedFd, Meta), String> {
    let shown = shown_path(path);
    let fd =
        rustix::fs::openat(CWD, path, OPEN, Mode::empty()).map_err(
            |why| match rustix::fs::statx(CWD, path, AtFlags::SYMLINK_NOFOLLOW, StatxFlags::TYPE) {
                Ok(found) if u32::from(found.stx_mode) & libc::S_IFMT == libc::S_IFLNK => format!(
                    "{shown} is a symbolic link; write {shown}/ for the directory that it points to"
                ),
                Ok(found) if u32::from(found.stx_mode) & libc::S_IFMT != libc::S_IFDIR => {
                    let kind = kind_name(found.stx_mode.into());
                    format!("{shown} is {kind}; only directories are copied, with all they contain")
                }
                _ => cannot("open", path, why),
            },
        )?;
    let meta = examine(&fd).map_err(|why| cannot("examine", path, why))?;
    Ok((fd, meta))
}

/// Returns the directory in which the target must be made, and the target's name.
fn place(target: &Path) -> Result<(OwnedFd, &OsStr), String> {
    let Some(Component::Normal(name)) = target.components().next_back() else {
        return Err(cannot("make", target, rustix::io::Errno::NOENT));
    };
    let parent = match target.parent() {
        Some(parent) if parent != Path::new("") => parent,
        _ => Path::new("."),
    };
    let fd = rustix::fs::openat(CWD, parent, LOOK, Mode::empty()).map_err(|why| {
        let (shown, parent) = (shown_path(target), shown_path(parent));
        let why = reason(errno(why));
        format!("cannot make {shown} in {parent}: {why}")
    })?;
    // Either there is no such name, or it is a dangling link.
    match rustix::fs::statx(&fd, name, AtFlags::SYMLINK_NOFOLLOW, StatxFlags::TYPE) {
        Ok(_) => Err(format!(
            "{} is a symbolic link to nothing; remove it or name another target",
            shown_path(target)
        )),
        Err(_) => Ok((fd, name)),
    }
}

fn make(parent: &OwnedFd, name: &OsStr, target: &Path) -> Result<(OwnedFd, Meta), String> {
    rustix::fs::mkdirat(parent, name, Mode::RWXU).map_err(|why| cannot("make", target, why))?;
    let fd = rustix::fs::openat(parent, name, OPEN, Mode::empty())
        .map_err(|why| cannot("open", target, why))?;
    let meta = examine(&fd).map_err(|why| cannot("examine", target, why))?;
    Ok((fd, meta))
}

/// Returns true if the directory is, or is inside, the one with this identity.
///
/// If a parent cannot be opened, the answer is false. A copy that finds its own target in
/// the source stops there.
fn is_below(dir: &OwnedFd, above: Id) -> bool {
    let Ok(mut at) = examine(dir).map(|meta| meta.id) else {
        return false;
    };
    let mut fd = None;
    loop {
        if at == above {
            return true;
        }
        let from = fd.as_ref().unwrap_or(dir);
        let Ok(up) = rustix::fs::openat(from, "..", LOOK, Mode::empty()) else {
            return false;
        };
        match examine(&up) {
            // Only the root directory is its own parent.
            Ok(meta) if meta.id != at => at = meta.id,
            _ => return false,
        }
        fd = Some(up);
    }
}

fn examine(fd: impl AsFd) -> rustix::io::Result<Meta> {
    rustix::fs::statx(fd, "", AtFlags::EMPTY_PATH, StatxFlags::BASIC_STATS)
        .map(|statx| Meta::from(&statx))
}

fn errno(why: rustix::io::Errno) -> Errno {
    Errno::from_raw(why.raw_os_error())
}

fn cannot(what: &str, path: &Path, why: rustix::io::Errno) -> String {
    format!("cannot {what} {}: {}", shown_path(path), reason(errno(why)))
}
