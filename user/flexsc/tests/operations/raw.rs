// SPDX-License-Identifier: MIT OR Apache-2.0
//! Any system calls, and chains of them.

use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::net::UnixStream;

use flexsc::ops::{Raw, RawChain};
use flexsc::{Chain, Wait, calls};

use super::{PATIENCE, assert_cancelled, ring, run};

#[test]
fn any_chain_gives_back_all_results() {
    let mut ring = ring();
    let chain = |path: &'static std::ffi::CStr| {
        Chain::new()
            .then(calls::openat(
                libc::AT_FDCWD,
                path.as_ptr(),
                libc::O_PATH,
                0,
            ))
            .then(calls::lseek(-1, 0, libc::SEEK_SET).take(0, 1))
            .then(calls::getpid())
    };
    // SAFETY: the path is static.
    let good = unsafe { RawChain::new(chain(c"/"), "kept") }.unwrap();
    let (results, kept) = run(&mut ring, good);
    assert_eq!(kept, "kept");
    // An O_PATH descriptor has no position, which ends the chain; the descriptor stays open.
    let opened = *results[0].0.as_ref().unwrap();
    assert_eq!(
        results[1].0.as_ref().unwrap_err().raw_os_error(),
        Some(libc::EBADF)
    );
    assert_eq!(
        results.iter().map(|(_, made)| *made).collect::<Vec<_>>(),
        [true, true, false]
    );
    // SAFETY: it was opened above, and is owned by nothing else.
    let opened = unsafe { OwnedFd::from_raw_fd(opened as i32) };
    assert!(std::fs::exists(format!("/proc/self/fd/{}", opened.as_raw_fd())).unwrap());
    let late = Chain::new().then(calls::close(-1).take(0, 1));
    // SAFETY: it is refused.
    assert!(unsafe { RawChain::new(late, ()) }.is_err());
}

#[test]
fn a_raw_read_can_be_cancelled() {
    let mut ring = ring();
    let (near, _far) = UnixStream::pair().unwrap();
    let mut buf = Box::new([0_u8; 8]);
    let read = calls::read(near.as_raw_fd(), buf.as_mut_ptr().cast(), buf.len());
    // SAFETY: the operation keeps the socket, and the buffer is leaked.
    let read = unsafe { Raw::new(read, near) };
    Box::leak(buf);
    ring.submit(read, 5).unwrap();
    ring.wait(Wait::none()).unwrap();
    assert!(ring.cancel(5).unwrap());
    ring.wait(Wait::all().timeout(PATIENCE)).unwrap();
    let done = ring.next().unwrap();
    assert_cancelled(done.output::<Raw<UnixStream>>().0);
}
