// SPDX-License-Identifier: MIT OR Apache-2.0
//! Names of files, and directories.

use std::collections::BTreeSet;
use std::fs::{self, File};

use flexsc::Fd;
use flexsc::ops::{
    AtFlags, Dirents, Getdents64, LinkAt, MkdirAt, Mode, ReadLinkAt, RenameAt2, SymlinkAt, UnlinkAt,
};

use super::{TempDir, assert_errno, ring, run};

#[test]
fn names_come_and_go() {
    let (mut ring, dir) = (ring(), TempDir::new());
    let inside = Fd::from(File::open(dir.join("")).unwrap());
    let (made, path) = run(&mut ring, MkdirAt::new(&inside, c"sub").mode(Mode::S_IRWXU));
    assert!(made.is_ok());
    assert_eq!(path, c"sub".to_owned());
    assert!(dir.join("sub").is_dir());
    assert_errno(
        run(&mut ring, MkdirAt::new(&inside, c"sub")).0,
        libc::EEXIST,
    );
    fs::write(dir.join("sub/a"), "a").unwrap();
    fs::write(dir.join("b"), "b").unwrap();

    let rename = || RenameAt2::new(&inside, c"b", &inside, c"sub/a");
    let (result, paths) = run(&mut ring, rename().no_replace());
    assert_errno(result, libc::EEXIST);
    assert_eq!(paths, (c"b".to_owned(), c"sub/a".to_owned()));
    run(&mut ring, rename().exchange()).0.unwrap();
    assert_eq!(fs::read(dir.join("sub/a")).unwrap(), b"b");
    run(&mut ring, rename()).0.unwrap();
    assert_eq!(fs::read(dir.join("sub/a")).unwrap(), b"a");
    assert!(!dir.join("b").exists());

    run(
        &mut ring,
        LinkAt::new(&inside, c"sub/a", Fd::cwd(), dir.path("c")),
    )
    .0
    .unwrap();
    assert_eq!(fs::read(dir.join("c")).unwrap(), b"a");
    let (result, paths) = run(&mut ring, SymlinkAt::new(c"c", &inside, c"link"));
    result.unwrap();
    assert_eq!(paths, (c"c".to_owned(), c"link".to_owned()));
    let follow = AtFlags::AT_SYMLINK_FOLLOW;
    run(
        &mut ring,
        LinkAt::new(&inside, c"link", &inside, c"d").flags(follow),
    )
    .0
    .unwrap();
    assert!(dir.join("d").is_file());
    let (len, path, content) = run(
        &mut ring,
        ReadLinkAt::new(&inside, c"link", Vec::with_capacity(100)),
    );
    assert_eq!(
        (len.unwrap(), path, content),
        (1, c"link".to_owned(), b"c".to_vec())
    );
    assert_errno(
        run(&mut ring, ReadLinkAt::new(&inside, c"c", vec![0; 9])).0,
        libc::EINVAL,
    );

    assert_errno(
        run(&mut ring, UnlinkAt::new(&inside, c"sub")).0,
        libc::EISDIR,
    );
    assert_errno(
        run(&mut ring, UnlinkAt::new(&inside, c"sub").directory()).0,
        libc::ENOTEMPTY,
    );
    run(&mut ring, UnlinkAt::new(&inside, c"sub/a")).0.unwrap();
    run(&mut ring, UnlinkAt::new(&inside, c"sub").directory())
        .0
        .unwrap();
    assert!(!dir.join("sub").exists());
}

#[test]
fn a_directory_is_listed_in_parts() {
    let (mut ring, dir) = (ring(), TempDir::new());
    let mut wanted: BTreeSet<String> = (0..300).map(|number| format!("file {number}")).collect();
    for name in &wanted {
        fs::write(dir.join(name), "").unwrap();
    }
    wanted.extend([".".to_owned(), "..".to_owned()]);
    let inside = Fd::from(File::open(dir.join("")).unwrap());
    let (mut found, mut parts) = (BTreeSet::new(), 0);
    let mut buf = Vec::with_capacity(4096);
    loop {
        buf.clear();
        let (count, read) = run(&mut ring, Getdents64::new(&inside, buf));
        buf = read;
        if count.unwrap() == 0 {
            break;
        }
        parts += 1;
        let names = Dirents::new(&buf).map(|entry| entry.name.to_str().unwrap().to_owned());
        found.extend(names);
    }
    assert_eq!(found, wanted);
    assert!(parts > 1);
    let small: Box<[u8]> = vec![0; 8].into();
    let again = File::open(dir.join("")).unwrap();
    assert_errno(
        run(&mut ring, Getdents64::new(again, small)).0,
        libc::EINVAL,
    );
}
