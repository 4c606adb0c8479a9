// SPDX-License-Identifier: MIT OR Apache-2.0
//! Open, use and close in one operation.

use std::fs;
use std::os::unix::net::UnixStream;

use flexsc::ops::{
    Fstat, Fsync, Ftruncate, Getdents64, OFlag, OpenAt, Read, Statx, WithFile, Write,
};
use flexsc::{Fd, Reason, Wait};

use super::files::opened;
use super::{PATIENCE, TempDir, assert_cancelled, assert_errno, done, ring, run};

fn open(dir: &TempDir, name: &str, flags: OFlag) -> OpenAt {
    OpenAt::new(Fd::cwd(), dir.path(name), flags | OFlag::O_CLOEXEC)
}

fn read(dir: &TempDir, name: &str) -> WithFile<Read> {
    let read = Read::new(Fd::opened(), Vec::with_capacity(64));
    open(dir, name, OFlag::O_RDONLY).then(read)
}

#[test]
fn a_file_is_opened_read_and_closed() {
    let (mut ring, dir) = (ring(), TempDir::new());
    fs::write(dir.join("file"), "content").unwrap();
    let (file, path, (count, text)) = run(&mut ring, read(&dir, "file"));
    file.unwrap();
    assert_eq!(
        (path, count.unwrap(), text),
        (dir.path("file"), 7, b"content".to_vec())
    );
    assert_eq!(opened(&dir.join("file").canonicalize().unwrap()), 0);
    let finished = done(&mut ring, read(&dir, "file"));
    // The number of the descriptor does not show.
    assert_eq!(finished.result.unwrap(), 0);
}

#[test]
fn each_operation_has_its_own_output() {
    let (mut ring, dir) = (ring(), TempDir::new());
    let flags = OFlag::O_RDWR | OFlag::O_CREAT;
    let chain = open(&dir, "file", flags).then((
        Write::new(Fd::opened(), "some text"),
        Ftruncate::new(Fd::opened(), 4),
        Fsync::new(Fd::opened()),
        Statx::of(Fd::opened()),
    ));
    let (file, _, (write, truncate, sync, stat)) = run(&mut ring, chain);
    file.unwrap();
    assert_eq!(write.0.unwrap(), 9);
    truncate.unwrap();
    sync.unwrap();
    assert_eq!(stat.0.unwrap().stx_size, 4);
    assert_eq!(fs::read(dir.join("file")).unwrap(), b"some");
    let list = open(&dir, "", OFlag::O_DIRECTORY).then((
        Getdents64::new(Fd::opened(), Vec::with_capacity(4096)),
        Fstat::new(Fd::opened()),
    ));
    let (dir, _, (entries, stat)) = run(&mut ring, list);
    dir.unwrap();
    assert!(entries.0.unwrap() > 0);
    assert_eq!(stat.unwrap().st_mode & libc::S_IFMT, libc::S_IFDIR);
}

#[test]
fn what_was_opened_is_closed_if_something_fails() {
    let (mut ring, dir) = (ring(), TempDir::new());
    fs::write(dir.join("file"), "content").unwrap();
    let path = dir.join("file").canonicalize().unwrap();
    let chain = open(&dir, "file", OFlag::O_RDONLY).then((
        Write::new(Fd::opened(), "x"),
        Read::new(Fd::opened(), vec![7; 4]),
    ));
    let (file, _, (write, read)) = run(&mut ring, chain);
    file.unwrap();
    assert_errno(write.0, libc::EBADF);
    assert_errno(read.0, libc::ECANCELED);
    assert_eq!((read.1, opened(&path)), (vec![7; 4], 0));

    let (file, name, (count, text)) = run(&mut ring, self::read(&dir, "none"));
    assert_errno(file, libc::ENOENT);
    assert_errno(count, libc::ECANCELED);
    assert_eq!((name, text), (dir.path("none"), Vec::new()));
}

#[test]
fn several_are_in_flight_among_others() {
    let (mut ring, dir) = (ring(), TempDir::new());
    let (near, far) = UnixStream::pair().unwrap();
    let (near, far) = (Fd::from(near), Fd::from(far));
    for number in 0..10 {
        fs::write(dir.join(&format!("file {number}")), [number; 3]).unwrap();
    }
    ring.submit(Read::new(&far, vec![0; 1]), 100).unwrap();
    for number in 0..10 {
        let read = read(&dir, &format!("file {number}"));
        ring.submit(read, number).unwrap();
    }
    assert_eq!((ring.in_flight(), ring.free()), (11, 64 - 31));
    ring.submit(Write::new(&near, "x"), 101).unwrap();
    assert_eq!(ring.wait(Wait::all().timeout(PATIENCE)), Ok(12));
    assert_eq!(ring.free(), 64 - 12);
    while let Some(done) = ring.next() {
        assert_eq!(done.reason, Reason::None);
        if !done.is::<WithFile<Read>>() {
            continue;
        }
        let number = done.token as u8;
        let (file, _, (_, text)) = done.output::<WithFile<Read>>();
        file.unwrap();
        assert_eq!(text, [number; 3]);
    }
    assert_eq!(ring.free(), 64);
    assert_eq!(ring.plain_calls() > 0, ring.is_plain());
    // There is room for whole ones only.
    let mut submitted = 0;
    while ring.submit(read(&dir, "file 1"), 0).is_ok() {
        submitted += 1;
    }
    assert_eq!((submitted, ring.free()), (21, 1));
    drop(ring);
    assert_eq!(opened(&dir.join("file 1").canonicalize().unwrap()), 0);
}

#[test]
fn one_that_waits_is_cancelled_and_its_file_closed() {
    let (mut ring, dir) = (ring(), TempDir::new());
    if ring.is_plain() {
        // A plain chain is not interrupted.
        return;
    }
    // SAFETY: the path is valid.
    assert_eq!(unsafe { libc::mkfifo(dir.path("fifo").as_ptr(), 0o600) }, 0);
    // Does not wait for a writer, but has one: the read waits.
    let chain = open(&dir, "fifo", OFlag::O_RDWR).then(Read::new(Fd::opened(), vec![0; 1]));
    ring.submit(chain, 5).unwrap();
    let early = ring.wait(Wait::any().timeout(std::time::Duration::from_millis(30)));
    assert_eq!(early, Err(flexsc::Error::TimedOut));
    assert_eq!(ring.cancel(5), Ok(true));
    assert_eq!(ring.wait(Wait::all().timeout(PATIENCE)), Ok(1));
    let (file, _, (count, _)) = ring.next().unwrap().output::<WithFile<Read>>();
    if file.is_err() {
        assert_cancelled(file);
    }
    assert_cancelled(count);
    assert_eq!(opened(&dir.join("fifo").canonicalize().unwrap()), 0);
}

#[test]
fn the_placeholder_alone_is_no_file() {
    let mut ring = ring();
    assert_errno(run(&mut ring, Fsync::new(Fd::opened())), libc::EBADF);
}
