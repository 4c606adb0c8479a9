// SPDX-License-Identifier: MIT OR Apache-2.0
//! Copies real trees with backends that finish calls in any order.

#![expect(unsafe_code, reason = "plays the kernel")]

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use flexsc::{Call, Error, Stats};

use crate::backend::Backend;
use crate::copier::Copier;
use crate::counts::{Counts, Kind};
use crate::limits::Limits;
use crate::roots::Roots;
use crate::verify::Verdict;

#[test]
fn the_man_page_has_the_options() {
    let command = <crate::Options as clap::CommandFactory>::command();
    crate::manual::check(command, "flexsc-copy.1");
}

/// Makes calls late and in a random order, and interrupts some.
struct Shuffled {
    posted: Vec<(u32, Call)>,
    results: Vec<(u32, i64)>,
    capacity: usize,
    seed: u64,
}

impl Shuffled {
    fn new(capacity: usize, seed: u64) -> Self {
        Shuffled {
            posted: Vec::new(),
            results: Vec::new(),
            capacity,
            seed,
        }
    }

    /// xorshift64
    fn random(&mut self, below: usize) -> usize {
        self.seed ^= self.seed << 13;
        self.seed ^= self.seed >> 7;
        self.seed ^= self.seed << 17;
        (self.seed % below as u64) as usize
    }
}

impl Backend for Shuffled {
    fn capacity(&self) -> usize {
        self.capacity
    }

    unsafe fn submit(&mut self, token: u32, call: Call) {
        self.posted.push((token, call));
        assert!(self.in_flight() <= self.capacity);
    }

    fn ready(&mut self) -> Option<(u32, i64)> {
        self.results.pop()
    }

    fn wait(&mut self) -> Result<(), Error> {
        for _ in 0..self.random(self.posted.len()) + 1 {
            let which = self.random(self.posted.len());
            let (token, call) = self.posted.swap_remove(which);
            let interrupted = i64::from(call.nr()) == libc::SYS_pread64 && self.random(8) == 0;
            let result = if interrupted {
                -i64::from(libc::EINTR)
            } else {
                // SAFETY: the submitter's promise.
                unsafe { call.make() }
            };
            let at = self.random(self.results.len() + 1);
            self.results.insert(at, (token, result));
        }
        Ok(())
    }

    fn in_flight(&self) -> usize {
        self.posted.len() + self.results.len()
    }

    fn waits(&self) -> u64 {
        0
    }

    fn stats(&self) -> Result<Option<Stats>, Error> {
        Ok(None)
    }

    fn fallbacks(&self) -> u64 {
        0
    }
}

/// Executes all posted calls in one wait, like a batch on the same core.
#[derive(Default)]
struct Batch {
    posted: Vec<(u32, Call)>,
    results: Vec<(u32, i64)>,
    waits: u64,
}

impl Backend for Batch {
    fn capacity(&self) -> usize {
        512
    }

    unsafe fn submit(&mut self, token: u32, call: Call) {
        self.posted.push((token, call));
    }

    fn ready(&mut self) -> Option<(u32, i64)> {
        self.results.pop()
    }

    fn wait(&mut self) -> Result<(), Error> {
        self.waits += 1;
        for (token, call) in self.posted.drain(..) {
            // SAFETY: the submitter's promise.
            self.results.push((token, unsafe { call.make() }));
        }
        Ok(())
    }

    fn in_flight(&self) -> usize {
        self.posted.len() + self.results.len()
    }

    fn waits(&self) -> u64 {
        self.waits
    }

    fn stats(&self) -> Result<Option<Stats>, Error> {
        Ok(None)
    }

    fn fallbacks(&self) -> u64 {
        0
    }
}

/// Runs a function after each wait.
struct Beside<F> {
    batch: Batch,
    then: F,
}

impl<F: FnMut(u64) -> Result<(), Error>> Backend for Beside<F> {
    fn capacity(&self) -> usize {
        16
    }

    unsafe fn submit(&mut self, token: u32, call: Call) {
        // SAFETY: the same promise.
        unsafe { self.batch.submit(token, call) };
    }

    fn ready(&mut self) -> Option<(u32, i64)> {
        self.batch.ready()
    }

    fn wait(&mut self) -> Result<(), Error> {
        self.batch.wait()?;
        (self.then)(self.batch.waits)
    }

    fn in_flight(&self) -> usize {
        self.batch.in_flight()
    }

    fn waits(&self) -> u64 {
        self.batch.waits
    }

    fn stats(&self) -> Result<Option<Stats>, Error> {
        Ok(None)
    }

    fn fallbacks(&self) -> u64 {
        0
    }
}

/// A directory for one test, removed at its end.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Self {
        let dir = std::env::temp_dir().join(format!("flexsc-{name}-{}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        Scratch(dir)
    }

    fn at(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn text(len: usize) -> Vec<u8> {
    (0..len).map(|at| (at * 31 + at / 256) as u8).collect()
}

/// A tree with a bit of everything.
fn plant(root: &Path) {
    fs::create_dir_all(root.join("deep/er/and/deeper")).unwrap();
    fs::create_dir_all(root.join("empty directory")).unwrap();
    for (name, len) in [
        ("empty", 0),
        ("one", 1),
        ("buffer", 4096),
        ("buffer and one", 4097),
        ("deep/large", 300_000),
        ("deep/er/larger", 1 << 20),
        ("deep/er/and/deeper/file\n\u{e4}", 5000),
    ] {
        fs::write(root.join(name), text(len)).unwrap();
    }
    for n in 0..300 {
        fs::write(root.join(format!("deep/file{n}")), text(n * 7)).unwrap();
    }
    symlink("one", root.join("link")).unwrap();
    symlink("/no/such/place", root.join("deep/dangling")).unwrap();
    let executable = fs::Permissions::from_mode(0o755);
    fs::set_permissions(root.join("one"), executable).unwrap();
    let read_only = fs::Permissions::from_mode(0o555);
    fs::set_permissions(root.join("empty directory"), read_only).unwrap();
}

fn copy(source: &Path, target: &Path, backend: impl Backend) -> Counts {
    copy_with(source, target, backend, 4096).1
}

fn copy_with<B: Backend>(source: &Path, target: &Path, backend: B, data: usize) -> (B, Counts) {
    let limits = Limits {
        jobs: 4096,
        dirs: 1024,
    };
    let roots = Roots::open(source, target).unwrap();
    let mut copier = Copier::new(backend, source, target, limits, data);
    assert_eq!(copier.run(roots).unwrap(), None);
    copier.finish()
}

#[test]
fn any_order_gives_the_same_tree() {
    let scratch = Scratch::new("order");
    let source = scratch.at("source");
    plant(&source);
    for (capacity, seed) in [(3, 1), (4, 2), (17, 3), (64, 4), (512, 5)] {
        let target = scratch.at(&format!("target{capacity}"));
        let counts = copy(&source, &target, Shuffled::new(capacity, seed));
        assert_eq!(counts.errors, 0);
        assert_eq!((counts.files, counts.dirs, counts.links), (307, 6, 2));
        let verdict = Verdict::of(&source, &target).unwrap();
        assert_eq!(verdict.differences, Vec::<String>::new());
        assert_eq!((verdict.files, verdict.bytes), (counts.files, counts.bytes));
    }
}

#[test]
fn no_call_is_made_in_vain() {
    let scratch = Scratch::new("calls");
    let source = scratch.at("source");
    for dir in 0..10 {
        let dir = source.join(format!("{dir}"));
        fs::create_dir_all(&dir).unwrap();
        fs::write(dir.join("file"), text(100)).unwrap();
        symlink("file", dir.join("link")).unwrap();
    }
    for target in ["new", "new"] {
        let counts = copy(&source, &scratch.at(target), Batch::default());
        assert_eq!((counts.errors, counts.files), (0, 10));
        // Everything is ours, so no owner is set.
        assert_eq!(counts.calls_of(Kind::Fchown), 0);
        assert_eq!(counts.calls_of(Kind::Fchownat), 0);
        // A new file is made with its permissions.
        assert_eq!(counts.calls_of(Kind::Fchmod), 11);
    }
    let counts = copy(&source, &scratch.at("other"), Batch::default());
    // For a file: openat, statx, openat, read, write, utimensat, close twice. For a link:
    // statx, readlinkat, symlinkat, utimensat. For a directory: openat, statx, mkdirat,
    // openat, getdents64 twice, fchmod, utimensat, close twice. For the root: getdents64
    // and what follows. Besides, one call for attributes each, if the file system has some.
    let attributes = counts.calls_of(Kind::Flistxattr) + counts.calls_of(Kind::Llistxattr);
    assert_eq!(counts.calls() - attributes, 10 * 8 + 10 * 4 + 10 * 10 + 6);
    assert!(attributes <= 10 + 10 + 10 + 1);
}

#[test]
fn hundreds_of_calls_share_a_wait() {
    let scratch = Scratch::new("batch");
    let source = scratch.at("source");
    // A tree like the sources of a kernel: 2000 files in 160 directories, 40 MB, the
    // largest file 2 MB.
    for dir in 0..160 {
        let dir = source.join(format!("{}/{}/{}", dir % 8, dir % 40, dir));
        fs::create_dir_all(&dir).unwrap();
        for file in 0..13 {
            fs::write(dir.join(format!("{file}.c")), text(file * 2700)).unwrap();
        }
    }
    fs::write(source.join("0/large"), text(2 << 20)).unwrap();
    let target = scratch.at("target");
    let (backend, counts) = copy_with(&source, &target, Batch::default(), 32 << 10);
    assert_eq!(counts.files, 2081);
    let per_wait = counts.calls() / backend.waits();
    assert!(per_wait >= 150, "{per_wait} calls per wait");
}

#[test]
fn errors_are_counted_and_the_rest_is_copied() {
    let scratch = Scratch::new("errors");
    let (source, target) = (scratch.at("source"), scratch.at("target"));
    plant(&source);
    // These block a file and a large file. The file that blocks a link is replaced.
    fs::create_dir_all(target.join("one")).unwrap();
    fs::create_dir_all(target.join("deep/large")).unwrap();
    fs::write(target.join("link"), "").unwrap();
    let counts = copy(&source, &target, Shuffled::new(64, 9));
    assert_eq!((counts.errors, counts.files, counts.links), (2, 305, 2));
    let verdict = Verdict::of(&source, &target).unwrap();
    assert_eq!(verdict.differences.len(), 2, "{:?}", verdict.differences);
}

#[test]
fn nothing_half_written_is_left_if_the_engine_fails() {
    let scratch = Scratch::new("broken");
    let source = scratch.at("source");
    plant(&source);
    let mut kept = 0;
    for waits in 1..60 {
        let target = scratch.at(&format!("target{waits}"));
        let limits = Limits { jobs: 15, dirs: 64 };
        let roots = Roots::open(&source, &target).unwrap();
        let backend = Beside {
            batch: Batch::default(),
            then: |now| {
                if now == waits {
                    return Err(Error::TimedOut);
                }
                Ok(())
            },
        };
        let mut copier = Copier::new(backend, &source, &target, limits, 4096);
        copier.run(roots).unwrap_err();
        kept += assert_complete(&source, &target);
    }
    assert!(kept > 60, "{kept} files were complete");
}

#[test]
fn a_link_that_takes_the_place_of_a_directory_is_not_followed() {
    let scratch = Scratch::new("swap");
    let (source, target, out) = (scratch.at("a"), scratch.at("b"), scratch.at("out"));
    plant(&source);
    fs::create_dir_all(out.join("er/and/deeper")).unwrap();
    let (deep, moved) = (target.join("deep"), target.join("moved"));
    let mut swapped = false;
    let backend = Beside {
        batch: Batch::default(),
        then: |_| {
            // The directory is open, and files are being made in it.
            if !swapped && deep.join("file0").exists() {
                fs::rename(&deep, &moved).unwrap();
                symlink(&out, &deep).unwrap();
                swapped = true;
            }
            Ok(())
        },
    };
    copy_with(&source, &target, backend, 4096);
    assert!(swapped);
    assert_eq!(fs::read_dir(&out).unwrap().count(), 1);
    assert_eq!(fs::read_dir(out.join("er")).unwrap().count(), 1);
    let verdict = Verdict::of(&source.join("deep"), &moved).unwrap();
    assert_eq!(verdict.differences, Vec::<String>::new());
}

/// Checks that all files of the copy are equal to those of the source. Returns their
/// number.
fn assert_complete(source: &Path, target: &Path) -> usize {
    let mut files = 0;
    for entry in fs::read_dir(target).unwrap().flatten() {
        let (from, to) = (source.join(entry.file_name()), entry.path());
        let kind = entry.file_type().unwrap();
        if kind.is_dir() {
            files += assert_complete(&from, &to);
        } else if kind.is_file() {
            assert!(fs::read(from).unwrap() == fs::read(&to).unwrap(), "{to:?}");
            files += 1;
        }
    }
    files
}

#[test]
fn a_file_that_ends_early_is_no_error() {
    // Files in /proc report size 0 although they have content.
    let scratch = Scratch::new("proc");
    let target = scratch.at("target");
    let counts = copy(
        Path::new("/proc/self/net/stat"),
        &target,
        Shuffled::new(8, 7),
    );
    assert_eq!(counts.errors, 0);
    let copied = fs::read_dir(&target).unwrap();
    assert!(
        copied
            .flatten()
            .all(|file| file.metadata().unwrap().len() > 0)
    );
}

#[test]
fn names_of_one_file_stay_together() {
    let scratch = Scratch::new("links");
    let source = scratch.at("source");
    fs::create_dir_all(source.join("a/b/c")).unwrap();
    fs::write(source.join("a/b/first"), text(70_000)).unwrap();
    for n in 0..40 {
        let dir = ["", "a", "a/b", "a/b/c"][n % 4];
        let name = source.join(dir).join(format!("name{n}"));
        fs::hard_link(source.join("a/b/first"), name).unwrap();
    }
    for (capacity, seed) in [(3, 1), (17, 2), (512, 3)] {
        let target = scratch.at(&format!("target{capacity}"));
        // The second copy goes over the first.
        for again in 0..2 {
            let counts = copy(&source, &target, Shuffled::new(capacity, seed + again));
            assert_eq!((counts.errors, counts.files, counts.hard_links), (0, 1, 40));
            let verdict = Verdict::of(&source, &target).unwrap();
            assert_eq!(verdict.differences, Vec::<String>::new());
        }
    }
}

#[test]
fn nothing_is_made_in_the_source() {
    let scratch = Scratch::new("itself");
    let source = scratch.at("source");
    plant(&source);
    for target in ["source/deep/copy", "source/deep", "source"] {
        let target = scratch.at(target);
        let existed = target.exists();
        let message = Roots::open(&source, &target).unwrap_err();
        let reasons = ["into itself", "are the same directory"];
        assert!(reasons.iter().any(|why| message.contains(why)), "{message}");
        assert_eq!(target.exists(), existed);
    }
}

#[test]
fn a_missing_source_is_named() {
    let scratch = Scratch::new("missing");
    let (source, target) = (scratch.at("source"), scratch.at("target"));
    let message = Roots::open(&source, &target).unwrap_err();
    assert!(message.starts_with("cannot open "), "{message}");
    assert!(!target.exists());
}
