// SPDX-License-Identifier: MIT OR Apache-2.0
//! Plants trees and describes them in detail.

use std::collections::{BTreeMap, HashMap};
use std::fs::{self, File};
use std::hash::{DefaultHasher, Hasher};
use std::io::Read;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, Timespec, Timestamps, XattrFlags};

/// Everything that a copy must have, except hard links.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    mode: u32,
    owner: (u32, u32),
    modified: (i64, i64),
    device: u64,
    size: u64,
    content: u64,
    points_to: Vec<u8>,
    attributes: BTreeMap<Vec<u8>, Vec<u8>>,
}

/// A tree by path, with the inodes that show hard links.
#[derive(Clone, Debug, Default)]
pub struct Tree {
    entries: BTreeMap<Vec<u8>, (Entry, (u64, u64))>,
}

impl Tree {
    pub fn of(root: &Path) -> Tree {
        let mut tree = Tree::default();
        tree.add(root, root);
        tree
    }

    fn add(&mut self, root: &Path, path: &Path) {
        let meta = fs::symlink_metadata(path).unwrap();
        let kind = meta.file_type();
        let name = path.strip_prefix(root).unwrap().as_os_str().as_bytes();
        let content = if kind.is_file() { hash(path) } else { 0 };
        let links = kind.is_symlink().then(|| fs::read_link(path).unwrap());
        let entry = Entry {
            mode: meta.mode(),
            owner: (meta.uid(), meta.gid()),
            modified: (meta.mtime(), meta.mtime_nsec()),
            device: meta.rdev(),
            size: if kind.is_file() { meta.len() } else { 0 },
            content,
            points_to: links.map_or(Vec::new(), |to| to.as_os_str().as_bytes().to_vec()),
            attributes: attributes(path),
        };
        let id = if kind.is_dir() {
            (0, 0)
        } else {
            (meta.dev(), meta.ino())
        };
        self.entries.insert(name.to_vec(), (entry, id));
        if kind.is_dir() {
            for entry in fs::read_dir(path).unwrap() {
                self.add(root, &entry.unwrap().path());
            }
        }
    }

    /// The paths of regular files.
    pub fn files(&self) -> impl Iterator<Item = &[u8]> {
        let is_file = |entry: &Entry| entry.mode & libc::S_IFMT == libc::S_IFREG;
        let files = self
            .entries
            .iter()
            .filter(move |(_, (entry, _))| is_file(entry));
        files.map(|(path, _)| &path[..])
    }

    /// The content of a file: length and hash.
    pub fn content(&self, path: &[u8]) -> Option<(u64, u64)> {
        let (entry, _) = self.entries.get(path)?;
        Some((entry.size, entry.content))
    }

    /// This tree with the other one copied over it.
    pub fn under(mut self, other: &Tree) -> Tree {
        self.entries.extend(other.entries.clone());
        self
    }

    /// This tree without these paths.
    pub fn without(mut self, names: &[&str]) -> Tree {
        self.entries
            .retain(|path, _| !names.iter().any(|name| path == name.as_bytes()));
        self
    }

    /// Panics unless both have the same files with the same content.
    pub fn assert_content_is(&self, expected: &Tree, whose: &str) {
        let files = |tree: &Tree| -> Vec<_> {
            let files = tree.files();
            files
                .map(|path| (path.to_vec(), tree.content(path)))
                .collect()
        };
        assert_eq!(files(self), files(expected), "{whose}");
    }

    /// Maps each path to the first path of the same file.
    fn links(&self) -> BTreeMap<&[u8], &[u8]> {
        let mut first = HashMap::new();
        let paths = self.entries.iter();
        paths
            .map(|(path, (_, id))| {
                let own = &path[..];
                let first = if *id == (0, 0) {
                    own
                } else {
                    *first.entry(id).or_insert(own)
                };
                (own, first)
            })
            .collect()
    }

    /// Panics with at most a few of the differences.
    pub fn assert_is(&self, expected: &Tree, whose: &str) {
        let (ours, theirs) = (self.links(), expected.links());
        let mut wrong = Vec::new();
        for (path, (should, _)) in &expected.entries {
            let shown = String::from_utf8_lossy(path);
            match self.entries.get(path) {
                None => wrong.push(format!("{shown:?} is missing")),
                Some((is, _)) if is != should => {
                    wrong.push(format!("{shown:?} is\n  {is:?}, not\n  {should:?}"));
                }
                Some(_) if ours[&path[..]] != theirs[&path[..]] => {
                    wrong.push(format!("{shown:?} is linked otherwise"));
                }
                Some(_) => {}
            }
        }
        for path in self.entries.keys() {
            if !expected.entries.contains_key(path) {
                wrong.push(format!("{:?} is too much", String::from_utf8_lossy(path)));
            }
        }
        wrong.truncate(8);
        assert!(wrong.is_empty(), "{whose}:\n{}", wrong.join("\n"));
    }
}

fn open(path: &Path) -> OwnedFd {
    // Do not change access times; only the owner may ask for this.
    let flags = OFlags::RDONLY | OFlags::NOATIME | OFlags::NOFOLLOW;
    rustix::fs::openat(CWD, path, flags, Mode::empty())
        .or_else(|_| rustix::fs::openat(CWD, path, OFlags::RDONLY, Mode::empty()))
        .unwrap_or_else(|why| panic!("{}: {why}", path.display()))
}

fn hash(path: &Path) -> u64 {
    let mut hasher = DefaultHasher::new();
    let mut file = File::from(open(path));
    let mut buffer = [0; 65536];
    loop {
        let len = file.read(&mut buffer).unwrap();
        if len == 0 {
            return hasher.finish();
        }
        hasher.write(&buffer[..len]);
    }
}

fn attributes(path: &Path) -> BTreeMap<Vec<u8>, Vec<u8>> {
    let mut names = [0; 4096];
    let len = rustix::fs::llistxattr(path, &mut names[..]).unwrap_or(0);
    let names = names[..len].split(|&byte| byte == 0);
    names
        .filter(|name| !name.is_empty())
        .map(|name| {
            let mut value = [0; 65536];
            let len = rustix::fs::lgetxattr(path, name, &mut value[..]).unwrap();
            (name.to_vec(), value[..len].to_vec())
        })
        .collect()
}

/// Content of this length that differs at each offset.
pub fn text(len: usize) -> Vec<u8> {
    (0..len).map(|at| (at * 31 + at / 256) as u8).collect()
}

pub fn file(path: &Path, len: usize) {
    fs::write(path, text(len)).unwrap();
}

pub fn chmod(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

pub fn chown(path: &Path, uid: u32, gid: u32) {
    std::os::unix::fs::lchown(path, Some(uid), Some(gid)).unwrap();
}

/// Gives the whole tree to another user.
pub fn chown_all(path: &Path, id: u32) {
    // A change of the owner clears the set-ID bits.
    let mode = fs::symlink_metadata(path).unwrap().mode();
    chown(path, id, id);
    if mode & libc::S_IFMT != libc::S_IFLNK {
        chmod(path, mode & 0o7777);
    }
    if mode & libc::S_IFMT == libc::S_IFDIR {
        for entry in fs::read_dir(path).unwrap() {
            chown_all(&entry.unwrap().path(), id);
        }
    }
}

pub fn fifo(path: &Path, mode: u32) {
    node(path, FileType::Fifo, mode, 0);
}

pub fn node(path: &Path, kind: FileType, mode: u32, device: u64) {
    rustix::fs::mknodat(CWD, path, kind, Mode::from_raw_mode(mode), device).unwrap();
    chmod(path, mode);
}

pub fn attribute(path: &Path, name: &str, value: &[u8]) {
    rustix::fs::lsetxattr(path, name, value, XattrFlags::empty())
        .unwrap_or_else(|why| panic!("{name} of {}: {why}", path.display()));
}

/// Returns true if files in this directory can have user attributes.
pub fn has_attributes(dir: &Path) -> bool {
    let set = rustix::fs::lsetxattr(dir, "user.probe", b"", XattrFlags::empty());
    set.is_ok() && rustix::fs::lremovexattr(dir, "user.probe").is_ok()
}

/// Sets both times of a file without following a link.
pub fn set_time(path: &Path, seconds: i64, nanoseconds: i64) {
    let time = Timespec {
        tv_sec: seconds,
        tv_nsec: nanoseconds as _,
    };
    let times = Timestamps {
        last_access: time,
        last_modification: time,
    };
    rustix::fs::utimensat(CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW).unwrap();
}

/// Gives a whole tree old times, the same ones each time.
pub fn age(root: &Path) {
    fn below(path: &Path, root: &Path) {
        if fs::symlink_metadata(path).unwrap().is_dir() {
            // In order, because the last of several names of a file determines its time.
            let entries = fs::read_dir(path).unwrap();
            let mut paths: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
            paths.sort();
            for path in paths {
                below(&path, root);
            }
        }
        let name = path.strip_prefix(root).unwrap().as_os_str().as_bytes();
        let sum: i64 = name.iter().map(|&byte| i64::from(byte)).sum();
        set_time(path, 1_000_000_000 + sum, 123_456_789);
    }
    below(root, root);
}
