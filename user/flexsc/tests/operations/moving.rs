// SPDX-License-Identifier: MIT OR Apache-2.0
//! Bytes that stay in the kernel, and extended attributes.

use std::fs::{self, File};
use std::io::Read as _;
use std::os::unix::net::UnixStream;
use std::process::Command;

use flexsc::Fd;
use flexsc::ops::{GetXattr, ListXattr, RemoveXattr, Sendfile, SetXattr, Splice};

use super::{TempDir, assert_errno, ring, run};

#[test]
fn a_file_is_sent_and_moved() {
    let (mut ring, dir) = (ring(), TempDir::new());
    fs::write(dir.join("from"), "0123456789").unwrap();
    let file = Fd::from(File::open(dir.join("from")).unwrap());
    let (near, mut far) = UnixStream::pair().unwrap();
    let near = Fd::from(near);
    assert_eq!(run(&mut ring, Sendfile::new(&near, &file, 4)).unwrap(), 4);
    let part = Sendfile::new(&near, &file, 3).from_offset(7);
    assert_eq!(run(&mut ring, part).unwrap(), 3);
    let mut got = [0; 7];
    far.read_exact(&mut got).unwrap();
    assert_eq!(&got, b"0123789");
    let end = Sendfile::new(&near, &file, 3).from_offset(10);
    assert_eq!(run(&mut ring, end).unwrap(), 0);

    // The output of a process is a pipe.
    let mut child = Command::new("/proc/self/exe");
    let child = child.arg("--list").stdout(std::process::Stdio::piped());
    let mut child = child.stderr(std::process::Stdio::null()).spawn().unwrap();
    let pipe = Fd::from(child.stdout.take().unwrap());
    let to = File::create(dir.join("to")).unwrap();
    let to = Fd::from(to);
    let moved = run(&mut ring, Splice::new(&pipe, &to, 5).to_offset(3)).unwrap();
    assert!(moved > 0);
    assert_eq!(
        fs::metadata(dir.join("to")).unwrap().len(),
        3 + moved as u64
    );
    drop(pipe);
    child.wait().unwrap();
    assert_errno(run(&mut ring, Splice::new(&file, &to, 5)), libc::EINVAL);
}

#[test]
fn attributes_of_a_file() {
    let (mut ring, dir) = (ring(), TempDir::new());
    let file = Fd::from(File::create(dir.join("file")).unwrap());
    let (set, name, value) = run(
        &mut ring,
        SetXattr::new(&file, c"user.note", b"text").create(),
    );
    assert_eq!((name.as_c_str(), value), (c"user.note", b"text"));
    if let Err(error) = set {
        // A file system without them.
        assert_eq!(error.raw_os_error(), Some(libc::EOPNOTSUPP));
        return;
    }
    let (again, ..) = run(
        &mut ring,
        SetXattr::new(&file, c"user.note", b"more").create(),
    );
    assert_errno(again, libc::EEXIST);
    let (len, _, value) = run(
        &mut ring,
        GetXattr::new(&file, c"user.note", Vec::with_capacity(9)),
    );
    assert_eq!((len.unwrap(), value), (4, b"text".to_vec()));
    let (len, _, value) = run(&mut ring, GetXattr::new(&file, c"user.note", Vec::new()));
    assert_eq!((len.unwrap(), value.len()), (4, 0));
    let (len, names) = run(&mut ring, ListXattr::new(&file, Vec::with_capacity(64)));
    assert_eq!(len.unwrap(), names.len());
    assert!(names.windows(10).any(|part| part == b"user.note\0"));
    run(&mut ring, RemoveXattr::new(&file, c"user.note"))
        .0
        .unwrap();
    let (gone, ..) = run(
        &mut ring,
        SetXattr::new(&file, c"user.note", b"x").replace(),
    );
    assert_errno(gone, libc::ENODATA);
}
