// SPDX-License-Identifier: MIT OR Apache-2.0
//! Adds up the disk space of a directory tree, as `du -s -B1` does. Hundreds of calls are
//! in flight, and a batch of them costs one trap.
use std::collections::HashSet;
use std::ffi::CString;
use std::os::unix::ffi::OsStringExt;

use flexsc::ops::{AtFlags, Dirents, Getdents64, OFlag, OpenAt, Statx};
use flexsc::{Done, Error, Fd, Ring, Wait};

/// A task. Each names a directory.
enum Task {
    /// Ask about this name in the directory.
    Stat(Fd, CString),
    /// Open this directory in the directory.
    Open(Fd, CString),
    /// Read the next entries of the directory.
    List(Fd),
}

/// A walk and its findings.
#[derive(Default)]
pub struct Walk {
    /// A stack, so that directories are finished before others are opened.
    tasks: Vec<Task>,
    /// The directory of each operation in flight, by its token.
    in_flight: Vec<Option<Fd>>,
    tokens: Vec<u64>,
    /// Files with several names that the walk has seen.
    seen: HashSet<(u32, u32, u64)>,
    /// Disk space of the files.
    pub bytes: u64,
    /// The number of files and directories.
    pub files: u64,
    /// The number of calls that have failed.
    pub failed: u64,
}

impl Walk {
    /// Submits as many tasks as there is room for.
    fn submit(&mut self, ring: &mut Ring) {
        while ring.free() > 0 {
            let Some(task) = self.tasks.pop() else {
                return;
            };
            let token = self.tokens.pop().unwrap_or(self.in_flight.len() as u64);
            let (dir, full) = match task {
                Task::Stat(dir, name) => {
                    let stat = Statx::new(&dir, name)
                        .flags(AtFlags::AT_SYMLINK_NOFOLLOW)
                        .mask(libc::STATX_BASIC_STATS);
                    (dir, ring.submit(stat, token).is_err())
                }
                Task::Open(dir, name) => {
                    let flags = OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
                    (
                        dir.clone(),
                        ring.submit(OpenAt::new(dir, name, flags), token).is_err(),
                    )
                }
                Task::List(dir) => {
                    let list = Getdents64::new(&dir, Vec::with_capacity(32 << 10));
                    (dir, ring.submit(list, token).is_err())
                }
            };
            assert!(!full, "there is room");
            let at = token as usize;
            self.in_flight
                .resize(self.in_flight.len().max(at + 1), None);
            self.in_flight[at] = Some(dir);
        }
    }

    fn finished(&mut self, done: Done) {
        self.tokens.push(done.token);
        let dir = self.in_flight[done.token as usize].take();
        let dir = dir.expect("it was in flight");
        if done.result.is_err() {
            self.failed += 1;
        } else if done.is::<Statx>() {
            let (stat, name) = done.output::<Statx>();
            self.counts(dir, name, stat.expect("it has not failed"));
        } else if done.is::<OpenAt>() {
            let (opened, _) = done.output::<OpenAt>();
            let opened = opened.expect("it has not failed");
            self.tasks.push(Task::List(opened.into()));
        } else {
            let (_, entries) = done.output::<Getdents64>();
            if entries.is_empty() {
                // The last operation that uses the directory closes it.
                return;
            }
            self.tasks.push(Task::List(dir.clone()));
            let names = Dirents::new(&entries).map(|entry| entry.name);
            let names = names.filter(|name| ![c".", c".."].contains(name));
            let stats = names.map(|name| Task::Stat(dir.clone(), name.into()));
            self.tasks.extend(stats);
        }
    }

    fn counts(&mut self, dir: Fd, name: CString, stat: libc::statx) {
        let file = (stat.stx_dev_major, stat.stx_dev_minor, stat.stx_ino);
        let is_dir = u32::from(stat.stx_mode) & libc::S_IFMT == libc::S_IFDIR;
        if is_dir {
            self.tasks.push(Task::Open(dir, name));
        } else if stat.stx_nlink > 1 && !self.seen.insert(file) {
            return;
        }
        self.files += 1;
        self.bytes += stat.stx_blocks * 512;
    }
}

/// Walks this directory tree.
///
/// # Errors
///
/// Those of a wait. Calls that fail are counted.
pub fn walk(ring: &mut Ring, root: CString) -> Result<Walk, Error> {
    let mut walk = Walk::default();
    walk.tasks.push(Task::Stat(Fd::cwd(), root));
    loop {
        walk.submit(ring);
        if ring.in_flight() == 0 {
            return Ok(walk);
        }
        ring.wait(Wait::any())?;
        while let Some(done) = ring.next() {
            walk.finished(done);
        }
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let root = std::env::args_os().nth(1).unwrap_or(".".into());
    let mut ring = Ring::open(4)?;
    let found = walk(&mut ring, CString::new(root.into_vec())?)?;
    let (bytes, files, failed) = (found.bytes, found.files, found.failed);
    println!("{bytes} bytes in {files} files, {failed} failed");
    println!("{} plain calls", ring.plain_calls());
    Ok(())
}
