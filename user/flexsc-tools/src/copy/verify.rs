// SPDX-License-Identifier: MIT OR Apache-2.0
//! Compares two trees with plain calls and without the code that copies: bytes, types,
//! permissions, owners, times, attributes, hard links.

use std::collections::{BTreeSet, HashMap};
use std::ffi::{CStr, CString};
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{AtFlags, Dir, Mode, OFlags, StatxFlags};

use crate::arena::OPEN_FILES;
use crate::complaint::{io_error, shown, shown_path};
use crate::meta::{Id, Meta, kind_name};
use crate::roots::open_given;

/// The result of a comparison.
#[derive(Debug, Default)]
pub struct Verdict {
    pub files: u64,
    pub dirs: u64,
    pub links: u64,
    pub special: u64,
    pub bytes: u64,
    /// One sentence each. Files that cannot be compared count as different.
    pub differences: Vec<String>,
    /// Files with several names: their identity on the other side, and the path at which
    /// it was first seen.
    pairs: HashMap<Id, (Id, String)>,
    back: HashMap<Id, Id>,
}

/// A file on both sides.
struct Pair<'a> {
    ours: Meta,
    theirs: Meta,
    left: BorrowedFd<'a>,
    right: BorrowedFd<'a>,
    name: &'a CStr,
    /// For messages.
    path: String,
}

const BUFFER: usize = 256 << 10;
const OPEN: OFlags = OFlags::RDONLY
    .union(OFlags::NOFOLLOW)
    .union(OFlags::NONBLOCK)
    .union(OFlags::CLOEXEC);
const OPEN_DIR: OFlags = OPEN.union(OFlags::DIRECTORY);

type Buffers = (Vec<u8>, Vec<u8>);

impl Verdict {
    /// Compares the source `left` with the copy `right`. Fails only if one of them cannot
    /// be opened.
    pub fn of(left: &Path, right: &Path) -> Result<Self, String> {
        let mut verdict = Verdict::default();
        let mut buffers = (vec![0; BUFFER], vec![0; BUFFER]);
        let path = shown_path(left);
        let ((left, ours), (right, theirs)) = (open_given(left)?, open_given(right)?);
        verdict.same_meta(&path, &ours, &theirs);
        verdict.dir(left, right, &path, &mut buffers);
        Ok(verdict)
    }

    fn differ(&mut self, path: &str, how: &str) {
        self.differences.push(format!("{path} {how}"));
    }

    fn not_compared(&mut self, path: &str, why: &io::Error) {
        let why = io_error(why);
        self.differences
            .push(format!("{path} cannot be compared: {why}"));
    }

    fn dir(&mut self, left: OwnedFd, right: OwnedFd, path: &str, buffers: &mut Buffers) {
        self.dirs += 1;
        self.same_attributes(
            &Subject::Open(left.as_fd()),
            &Subject::Open(right.as_fd()),
            path,
        );
        let lists = names(&left).and_then(|ours| Ok((ours, names(&right)?)));
        let (ours, mut theirs) = match lists {
            Ok(lists) => lists,
            Err(why) => return self.not_compared(path, &why),
        };
        for name in ours {
            let path = format!("{path}/{}", shown(name.to_bytes()));
            if !theirs.remove(&name) {
                self.differ(&path, "is missing in the copy");
                continue;
            }
            let examined = examine(&left, &name).and_then(|a| Ok((a, examine(&right, &name)?)));
            match examined {
                Ok((ours, theirs)) => {
                    let pair = Pair {
                        ours,
                        theirs,
                        left: left.as_fd(),
                        right: right.as_fd(),
                        name: &name,
                        path,
                    };
                    self.pair(&pair, buffers);
                }
                Err(why) => self.not_compared(&path, &why),
            }
        }
        for name in theirs {
            let path = format!("{path}/{}", shown(name.to_bytes()));
            self.differ(&path, "is in the copy and not in the source");
        }
    }

    fn pair(&mut self, pair: &Pair<'_>, buffers: &mut Buffers) {
        let Pair {
            ours, theirs, path, ..
        } = pair;
        if ours.kind() != theirs.kind() {
            let (is, should) = (kind_name(theirs.mode), kind_name(ours.mode));
            self.differ(path, &format!("is {should}, in the copy {is}"));
            return;
        }
        self.same_meta(path, ours, theirs);
        if ours.kind() != libc::S_IFDIR {
            self.same_links(path, ours, theirs);
        }
        if !matches!(ours.kind(), libc::S_IFDIR | libc::S_IFREG) {
            let (left, right) = (pair.subject(pair.left), pair.subject(pair.right));
            self.same_attributes(&left, &right, path);
        }
        let compared = match ours.kind() {
            libc::S_IFDIR => pair.open(OPEN_DIR).map(|(left, right)| {
                self.dir(left, right, path, buffers);
            }),
            libc::S_IFREG => self.file(pair, buffers),
            libc::S_IFLNK => self.symlink(pair),
            _ => {
                self.special += 1;
                if ours.device != theirs.device {
                    self.differ(path, "is another device in the copy");
                }
                Ok(())
            }
        };
        if let Err(why) = compared {
            self.not_compared(path, &why);
        }
    }

    /// Permissions, owner, time.
    fn same_meta(&mut self, path: &str, ours: &Meta, theirs: &Meta) {
        let (a, b) = (ours.permissions(), theirs.permissions());
        if a != b && ours.kind() != libc::S_IFLNK {
            self.differ(path, &format!("has mode {a:04o}, in the copy {b:04o}"));
        }
        let (a, b) = ((ours.uid, ours.gid), (theirs.uid, theirs.gid));
        if a != b {
            let (a, b) = (format!("{}:{}", a.0, a.1), format!("{}:{}", b.0, b.1));
            self.differ(path, &format!("belongs to {a}, in the copy to {b}"));
        }
        let (a, b) = (ours.modified, theirs.modified);
        if (a.tv_sec, a.tv_nsec) != (b.tv_sec, b.tv_nsec) {
            self.differ(path, "has another modification time in the copy");
        }
    }

    /// Checks that names of one file on one side belong to one file on the other.
    fn same_links(&mut self, path: &str, ours: &Meta, theirs: &Meta) {
        if ours.links < 2 && theirs.links < 2 {
            return;
        }
        let seen = self
            .pairs
            .entry(ours.id)
            .or_insert_with(|| (theirs.id, path.to_owned()));
        if seen.0 != theirs.id {
            let how = format!("is the same file as {}, in the copy another one", seen.1);
            self.differ(path, &how);
        } else if *self.back.entry(theirs.id).or_insert(ours.id) != ours.id {
            self.differ(path, "is one file with another one in the copy");
        }
    }

    fn symlink(&mut self, pair: &Pair<'_>) -> io::Result<()> {
        self.links += 1;
        let ours = rustix::fs::readlinkat(pair.left, pair.name, Vec::new())?;
        if ours != rustix::fs::readlinkat(pair.right, pair.name, Vec::new())? {
            self.differ(&pair.path, "points elsewhere in the copy");
        }
        Ok(())
    }

    fn file(&mut self, pair: &Pair<'_>, (a, b): &mut Buffers) -> io::Result<()> {
        let (left, right) = pair.open(OPEN)?;
        self.same_attributes(
            &Subject::Open(left.as_fd()),
            &Subject::Open(right.as_fd()),
            &pair.path,
        );
        let (mut ours, mut theirs) = (File::from(left), File::from(right));
        let mut at = 0;
        loop {
            let (m, n) = (read_full(&mut ours, a)?, read_full(&mut theirs, b)?);
            if a[..m] != b[..n] {
                let same = a[..m].iter().zip(&b[..n]).take_while(|(a, b)| a == b);
                let first = at + same.count() as u64;
                let how = format!("differs in the copy from byte {first} on");
                self.differ(&pair.path, &how);
                break;
            }
            if m == 0 {
                break;
            }
            at += m as u64;
        }
        self.files += 1;
        self.bytes += at;
        Ok(())
    }

    /// Compares extended attributes, including access control lists.
    fn same_attributes(&mut self, ours: &Subject<'_>, theirs: &Subject<'_>, path: &str) {
        let lists = ours
            .attributes()
            .and_then(|a| Ok((a, theirs.attributes()?)));
        let (names, mut others) = match lists {
            Ok(lists) => lists,
            Err(why) => return self.not_compared(path, &why),
        };
        for name in names {
            let shown = shown(name.to_bytes());
            if !others.remove(&name) {
                self.differ(path, &format!("lacks the attribute {shown} in the copy"));
                continue;
            }
            let same = ours
                .attribute(&name)
                .and_then(|a| Ok(a == theirs.attribute(&name)?));
            match same {
                Ok(true) => {}
                Ok(false) => {
                    self.differ(path, &format!("has another attribute {shown} in the copy"));
                }
                Err(why) => self.not_compared(path, &why),
            }
        }
        for name in others {
            let shown = shown(name.to_bytes());
            self.differ(path, &format!("has the attribute {shown} only in the copy"));
        }
    }
}

/// A file whose attributes are read.
enum Subject<'a> {
    Open(BorrowedFd<'a>),
    /// A link or special file, which is not opened: its path in /proc/self/fd.
    Path(CString),
}

impl Subject<'_> {
    fn list(&self, room: &mut [u8]) -> rustix::io::Result<usize> {
        match self {
            Subject::Open(fd) => rustix::fs::flistxattr(fd, room),
            Subject::Path(path) => rustix::fs::llistxattr(path, room),
        }
    }

    /// The names of the attributes.
    fn attributes(&self) -> io::Result<BTreeSet<CString>> {
        // The maximum length of a list (XATTR_LIST_MAX).
        let mut list = vec![0; 64 << 10];
        let len = match self.list(&mut list) {
            Err(rustix::io::Errno::OPNOTSUPP) => 0,
            len => len?,
        };
        let names = list[..len].split(|&byte| byte == 0);
        Ok(names
            .filter(|name| !name.is_empty())
            .filter_map(|name| CString::new(name).ok())
            .collect())
    }

    fn attribute(&self, name: &CStr) -> io::Result<Vec<u8>> {
        let mut value = vec![0; 64 << 10];
        let len = match self {
            Subject::Open(fd) => rustix::fs::fgetxattr(fd, name, &mut value[..])?,
            Subject::Path(path) => rustix::fs::lgetxattr(path, name, &mut value[..])?,
        };
        value.truncate(len);
        Ok(value)
    }
}

impl Pair<'_> {
    /// Returns the link or special file in one of the directories.
    fn subject(&self, dir: BorrowedFd<'_>) -> Subject<'_> {
        let mut path = format!("{OPEN_FILES}/{}/", dir.as_raw_fd()).into_bytes();
        path.extend_from_slice(self.name.to_bytes());
        Subject::Path(CString::new(path).expect("names have no zeroes"))
    }

    fn open(&self, flags: OFlags) -> io::Result<(OwnedFd, OwnedFd)> {
        let open = |dir| rustix::fs::openat(dir, self.name, flags, Mode::empty());
        Ok((open(self.left)?, open(self.right)?))
    }
}

fn names(dir: &OwnedFd) -> io::Result<BTreeSet<CString>> {
    let mut names = BTreeSet::new();
    for entry in Dir::read_from(dir)? {
        let name = entry?.file_name().to_owned();
        if name.as_c_str() != c"." && name.as_c_str() != c".." {
            names.insert(name);
        }
    }
    Ok(names)
}

fn examine(dir: &OwnedFd, name: &CStr) -> io::Result<Meta> {
    let flags = AtFlags::SYMLINK_NOFOLLOW;
    let statx = rustix::fs::statx(dir, name, flags, StatxFlags::BASIC_STATS)?;
    Ok(Meta::from(&statx))
}

/// Reads until the buffer is full or the file ends.
fn read_full(file: &mut File, buffer: &mut [u8]) -> io::Result<usize> {
    let mut len = 0;
    while len < buffer.len() {
        match file.read(&mut buffer[len..]) {
            Ok(0) => break,
            Ok(more) => len += more,
            Err(why) if why.kind() == io::ErrorKind::Interrupted => {}
            Err(why) => return Err(why),
        }
    }
    Ok(len)
}
