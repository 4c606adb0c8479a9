// SPDX-License-Identifier: MIT OR Apache-2.0
//! Opening, reading, writing, closing.

use std::fs::{self, File};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::sync::Arc;

use flexsc::ops::{
    Close, CopyFileRange, Fallocate, FallocateFlags, Fstat, Fsync, Ftruncate, Mode, OFlag, OpenAt,
    OpenAt2, Read, ReadVectored, ResolveFlag, Statx, Write, WriteVectored,
};
use flexsc::{Fd, Reason, Ring, Wait};

use super::{TempDir, assert_errno, done, ring, run};

/// Returns the number of open descriptors of a file.
pub(super) fn opened(path: &std::path::Path) -> usize {
    let open = fs::read_dir("/proc/self/fd").unwrap();
    let links = open.filter_map(|entry| fs::read_link(entry.ok()?.path()).ok());
    links.filter(|link| link == path).count()
}

fn create(ring: &mut Ring, dir: &TempDir, name: &str) -> OwnedFd {
    let flags = OFlag::O_RDWR | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_CLOEXEC;
    let (file, path) = run(ring, OpenAt::new(Fd::cwd(), dir.path(name), flags));
    assert_eq!(path, dir.path(name));
    file.unwrap()
}

#[test]
fn what_is_written_is_read_and_every_buffer_comes_back() {
    let (mut ring, dir) = (ring(), TempDir::new());
    let file = Fd::from(create(&mut ring, &dir, "file"));
    let (count, text) = run(&mut ring, Write::new(&file, "hello "));
    assert_eq!((count.unwrap(), text), (6, "hello "));
    let shared: Arc<[u8]> = (*b"shared ").into();
    let (count, back) = run(&mut ring, Write::new(&file, Arc::clone(&shared)));
    assert_eq!((count.unwrap(), back), (7, shared));
    let (count, _) = run(&mut ring, Write::new(&file, b"world".to_vec()));
    assert_eq!(count.unwrap(), 5);

    let boxed: Box<[u8]> = vec![1; 8].into();
    let (count, boxed) = run(&mut ring, Read::new(&file, boxed).at(6));
    assert_eq!((count.unwrap(), &*boxed), (8, &b"shared w"[..]));
    let (count, array) = run(&mut ring, Read::new(&file, Box::new([9; 8])).at(13));
    assert_eq!((count.unwrap(), *array), (5, *b"world\x09\x09\x09"));
    let (count, vec) = run(&mut ring, Read::new(&file, Vec::with_capacity(99)).at(13));
    assert_eq!((count.unwrap(), vec), (5, b"world".to_vec()));
    // The old way, by the fields.
    let done = done(&mut ring, Read::new(&file, vec![0; 5]).at(0));
    assert_eq!((done.result.unwrap(), done.buf), (5, b"hello".to_vec()));
}

#[test]
fn several_buffers_are_one_operation() {
    let (mut ring, dir) = (ring(), TempDir::new());
    let file = Fd::from(create(&mut ring, &dir, "file"));
    let (count, bufs) = run(
        &mut ring,
        WriteVectored::new(&file, vec!["one", "", "three"]),
    );
    assert_eq!((count.unwrap(), bufs.len()), (8, 3));
    let (count, _) = run(&mut ring, WriteVectored::new(&file, vec!["ONE"]).at(0));
    assert_eq!(count.unwrap(), 3);
    let empty = |capacity| Vec::with_capacity(capacity);
    let bufs = vec![empty(4), empty(100), empty(9)];
    let first = bufs[0].capacity();
    let (count, bufs) = run(&mut ring, ReadVectored::new(&file, bufs).at(0));
    assert_eq!(count.unwrap(), 8);
    let all = b"ONEthree";
    assert_eq!(bufs, [&all[..first], &all[first..], &[]]);
    let bufs: Vec<Box<[u8]>> = vec![vec![0; 2].into(); 2];
    // The position is behind the first write.
    let (count, _) = run(&mut ring, ReadVectored::new(&file, bufs));
    assert_eq!(count.unwrap(), 0);
}

#[test]
fn files_change_their_size_and_are_copied() {
    let (mut ring, dir) = (ring(), TempDir::new());
    let from = Fd::from(create(&mut ring, &dir, "from"));
    let to = Fd::from(create(&mut ring, &dir, "to"));
    run(&mut ring, Ftruncate::new(&from, 10_000)).unwrap();
    assert_eq!(run(&mut ring, Fstat::new(&from)).unwrap().st_size, 10_000);
    assert_errno(run(&mut ring, Ftruncate::new(&from, -1)), libc::EINVAL);
    run(&mut ring, Fallocate::new(&from, 0, 20_000)).unwrap();
    assert_eq!(run(&mut ring, Fstat::new(&from)).unwrap().st_size, 20_000);
    let keep = Fallocate::new(&from, 0, 40_000).flags(FallocateFlags::FALLOC_FL_KEEP_SIZE);
    run(&mut ring, keep).unwrap();
    assert_eq!(run(&mut ring, Fstat::new(&from)).unwrap().st_size, 20_000);
    let (count, _) = run(&mut ring, Write::new(&from, "middle").at(100));
    assert_eq!(count.unwrap(), 6);
    let copy = CopyFileRange::new(&from, &to, 6)
        .from_offset(100)
        .to_offset(3);
    assert_eq!(run(&mut ring, copy).unwrap(), 6);
    let copy = CopyFileRange::new(&from, &to, 6);
    assert_eq!(run(&mut ring, copy).unwrap(), 6);
    run(&mut ring, Fsync::new(&to).data()).unwrap();
    run(&mut ring, Fsync::new(&to)).unwrap();
    assert_eq!(fs::read(dir.join("to")).unwrap(), b"\0\0\0\0\0\0dle");
}

#[test]
fn records_are_those_of_the_file() {
    let (mut ring, dir) = (ring(), TempDir::new());
    fs::write(dir.join("file"), "content").unwrap();
    std::os::unix::fs::symlink("file", dir.join("link")).unwrap();
    let wanted = fs::metadata(dir.join("file")).unwrap();
    let (stat, path) = run(&mut ring, Statx::new(Fd::cwd(), dir.path("link")));
    let stat = stat.unwrap();
    assert_eq!((stat.stx_ino, stat.stx_size), (wanted.ino(), 7));
    assert_eq!(path, dir.path("link"));
    let nofollow = flexsc::ops::AtFlags::AT_SYMLINK_NOFOLLOW;
    let link = Statx::new(Fd::cwd(), dir.path("link"))
        .flags(nofollow)
        .mask(libc::STATX_TYPE);
    let stat = run(&mut ring, link).0.unwrap();
    assert_eq!(u32::from(stat.stx_mode) & libc::S_IFMT, libc::S_IFLNK);
    let file = Fd::from(File::open(dir.join("file")).unwrap());
    let stat = run(&mut ring, Statx::of(&file)).0.unwrap();
    assert_eq!(stat.stx_ino, wanted.ino());
    assert_eq!(
        run(&mut ring, Fstat::new(&file)).unwrap().st_ino,
        wanted.ino()
    );
    let (stat, _) = run(&mut ring, Statx::new(Fd::cwd(), dir.path("none")));
    assert_errno(stat.map(drop), libc::ENOENT);
}

#[test]
fn files_are_opened_relative_to_their_directory_and_with_their_mode() {
    let (mut ring, dir) = (ring(), TempDir::new());
    let flags = OFlag::O_DIRECTORY | OFlag::O_RDONLY | OFlag::O_CLOEXEC;
    let (opened, _) = run(&mut ring, OpenAt::new(Fd::cwd(), dir.path(""), flags));
    let inside = Fd::from(opened.unwrap());
    let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_CLOEXEC;
    let open = OpenAt::new(&inside, c"new", flags).mode(Mode::S_IRUSR);
    drop(run(&mut ring, open).0.unwrap());
    let open = OpenAt2::new(&inside, c"other", flags).mode(Mode::S_IWUSR);
    drop(run(&mut ring, open).0.unwrap());
    let mode = |name| fs::metadata(dir.join(name)).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode("new"), mode("other")), (0o400, 0o200));

    let beneath =
        |path| OpenAt2::new(&inside, path, OFlag::O_PATH).resolve(ResolveFlag::RESOLVE_BENEATH);
    assert!(run(&mut ring, beneath(c"new")).0.is_ok());
    assert_errno(run(&mut ring, beneath(c"../..")).0, libc::EXDEV);
    let wrong = OpenAt2::new(&inside, c"new", OFlag::O_RDONLY).mode(Mode::S_IRUSR);
    assert_errno(run(&mut ring, wrong).0, libc::EINVAL);
    let (none, path) = run(&mut ring, OpenAt::new(&inside, c"none", OFlag::O_RDONLY));
    assert_errno(none, libc::ENOENT);
    assert_eq!(path, c"none".to_owned());
}

#[test]
fn a_descriptor_that_nobody_takes_is_closed() {
    let (mut ring, dir) = (ring(), TempDir::new());
    fs::write(dir.join("file"), "").unwrap();
    let open = || OpenAt::new(Fd::cwd(), dir.path("file"), OFlag::O_RDONLY);
    let path = dir.join("file").canonicalize().unwrap();
    let finished = done(&mut ring, open());
    assert_eq!(
        (opened(&path), finished.result.as_ref().ok()),
        (1, Some(&0))
    );
    drop(finished);
    assert_eq!(opened(&path), 0);
    // The results are not taken.
    for token in 0..10 {
        ring.submit(open(), token).unwrap();
    }
    ring.wait(Wait::all()).unwrap();
    assert_eq!(opened(&path), 10);
    drop(ring);
    assert_eq!(opened(&path), 0);
    // The calls may end before or while the ring is dropped.
    let mut ring = super::ring();
    for token in 0..60 {
        ring.submit(open(), token).unwrap();
    }
    ring.ring();
    drop(ring);
    assert_eq!(opened(&path), 0);
}

#[test]
fn a_close_closes_once_whatever_happens_to_it() {
    let (mut ring, dir) = (ring(), TempDir::new());
    fs::write(dir.join("file"), "").unwrap();
    let path = dir.join("file").canonicalize().unwrap();
    let file = || OwnedFd::from(File::open(&path).unwrap());
    run(&mut ring, Close::new(file())).unwrap();
    assert_eq!(opened(&path), 0);
    // Not submitted.
    drop(Close::new(file()));
    assert_eq!(opened(&path), 0);
    // Cancelled before it starts.
    ring.submit(Close::new(file()), 1).unwrap();
    assert_eq!(ring.cancel(1), Ok(true));
    let done = ring.next().unwrap();
    assert_eq!((done.reason, opened(&path)), (Reason::Cancelled, 1));
    assert_errno(done.output::<Close>(), libc::ECANCELED);
    assert_eq!(opened(&path), 0);
    // The ring is dropped before it starts.
    ring.submit(Close::new(file()), 1).unwrap();
    drop(ring);
    assert_eq!(opened(&path), 0);
}

#[test]
fn a_close_does_not_close_what_has_the_number_by_then() {
    let mut ring = ring();
    let fd = OwnedFd::from(File::open("/dev/null").unwrap());
    let raw = fd.as_raw_fd();
    let closed = done(&mut ring, Close::new(fd));
    // This process's next descriptor that is not used by another thread.
    // SAFETY: duplicates a descriptor to a number that is free, or fails.
    let same = unsafe { libc::fcntl(2, libc::F_DUPFD_CLOEXEC, raw) };
    drop(closed);
    assert!(fs::exists(format!("/proc/self/fd/{same}")).unwrap());
    // SAFETY: just made, and owned by nothing else.
    drop(unsafe { <OwnedFd as std::os::fd::FromRawFd>::from_raw_fd(same) });
}

#[test]
#[should_panic(expected = "not a flexsc::ops::open::OpenAt")]
fn the_output_of_another_operation_is_a_panic() {
    let mut ring = ring();
    let done = done(&mut ring, Fsync::new(File::open("/").unwrap()));
    let _ = done.output::<OpenAt>();
}
