// SPDX-License-Identifier: MIT OR Apache-2.0
//! The two directories of the command line: what they are and whether one lies
//! in the other is found out before anything is made or changed.

use std::ffi::OsStr;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Component, Path};

use nix::errno::Errno;
use rustix::fs::{AtFlags, CWD, Mode, OFlags, StatxFlags};

use crate::complaint::{reason, shown_path};
use crate::meta::{Id, Meta, kind_name};

/// Name of the list that a directory gives to what is made in it.
const DEFAULT_ACL: &str = "system.posix_acl_default";

/// Source and copy, open.
#[derive(Debug)]
pub struct Roots {
    pub source: OwnedFd,
    pub target: OwnedFd,
    pub source_meta: Meta,
    pub target_meta: Meta,
    /// What is made in the copy inherits an access control list.
    pub acl: bool,
}

const OPEN: OFlags = OFlags::RDONLY
    .union(OFlags::DIRECTORY)
    .union(OFlags::NOFOLLOW)
    .union(OFlags::CLOEXEC);
const LOOK: OFlags = OFlags::PATH.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);

impl Roots {
    /// Opens the source, makes and opens the target.
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
                "cannot copy {a} into itself: {b} lies in it; name a target outside of it"
            ));
        }
        // All was looked at: from here on things change.
        let (to, target_meta) = match (to, place) {
            (Some(there), _) => there,
            (None, Some((parent, name))) => make(&parent, name, target)?,
            (None, None) => unreachable!("one of them was opened"),
        };
        if target_meta.mode & 0o700 != 0o700 {
            // Not ours, perhaps; then the first file says so.
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

/// Opens a directory that has to be there; not through a symbolic link.
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

/// The directory that the target is to be made in, and its name there.
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
    // There is nothing of that name, or a link to nothing.
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

/// Returns true if the directory lies in the one with that identity, or is it.
///
/// If the way up is barred the answer is "no"; a copy that meets its own target
/// in the source stops there.
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
