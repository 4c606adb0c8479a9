// SPDX-License-Identifier: MIT OR Apache-2.0
//! The example `walk`.

use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use super::{TempDir, c_path, ring};

#[expect(dead_code, reason = "its main function")]
#[path = "../../examples/walk.rs"]
mod walk;

/// Returns the number of files and their disk space, without names that are links.
fn count(path: &Path) -> (u64, u64) {
    let metadata = fs::symlink_metadata(path).unwrap();
    let mut sum = (1, metadata.blocks() * 512);
    if metadata.is_dir() {
        for entry in fs::read_dir(path).unwrap() {
            let (files, bytes) = count(&entry.unwrap().path());
            sum = (sum.0 + files, sum.1 + bytes);
        }
    }
    sum
}

#[test]
fn a_tree_is_walked_in_batches() {
    let (mut ring, dir) = (ring(), TempDir::new());
    for number in 0..20 {
        let sub = dir.join(&format!("{number}/{}/deep", number % 3));
        fs::create_dir_all(&sub).unwrap();
        for file in 0..number {
            fs::write(sub.join(file.to_string()), vec![7; file * 1000]).unwrap();
        }
    }
    std::os::unix::fs::symlink("nowhere", dir.join("link")).unwrap();
    let wanted = count(&dir.join(""));
    // One file with two names counts once.
    fs::hard_link(dir.join("19/1/deep/18"), dir.join("again")).unwrap();
    let found = walk::walk(&mut ring, c_path(&dir.join(""))).unwrap();
    assert_eq!(
        (found.files, found.bytes, found.failed),
        (wanted.0, wanted.1, 0)
    );
    assert_eq!(ring.plain_calls() > 0, ring.is_plain());
    // All directories are closed.
    let open = File::open(dir.join("")).unwrap();
    let root = fs::canonicalize(dir.join("")).unwrap();
    let links = fs::read_dir("/proc/self/fd").unwrap();
    let links = links.filter_map(|entry| fs::read_link(entry.ok()?.path()).ok());
    assert_eq!(links.filter(|link| link.starts_with(&root)).count(), 1);
    drop(open);
    let none = walk::walk(&mut ring, c_path(&dir.join("none"))).unwrap();
    assert_eq!((none.files, none.failed), (0, 1));
}
