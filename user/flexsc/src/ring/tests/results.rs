// SPDX-License-Identifier: MIT OR Apache-2.0
//! What becomes of descriptors and chains, whether the kernel or a helper executes them.

use std::ffi::CString;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::*;
use crate::calls;
use crate::ops::{Close, OFlag, OpenAt, Poll, Raw, Sleep, WithFile};

/// A new file, which is removed when the value is dropped.
struct TempFile(PathBuf);

impl TempFile {
    fn new(what: &str) -> Self {
        let name = format!("flexsc-{what}-{}", std::process::id());
        let path = std::env::temp_dir().canonicalize().unwrap().join(name);
        fs::write(&path, "content").unwrap();
        TempFile(path)
    }

    fn name(&self) -> CString {
        CString::new(self.0.as_os_str().as_bytes()).unwrap()
    }

    fn open(&self) -> OpenAt {
        OpenAt::new(Fd::cwd(), self.name(), OFlag::O_RDONLY | OFlag::O_CLOEXEC)
    }

    fn read(&self) -> WithFile<Read> {
        self.open().then(Read::new(Fd::opened(), vec![0; 4]))
    }

    /// Returns how many descriptors of the file are open.
    fn opened(&self) -> usize {
        let open = fs::read_dir("/proc/self/fd").unwrap();
        let links = open.filter_map(|entry| fs::read_link(entry.ok()?.path()).ok());
        links.filter(|link| *link == self.0).count()
    }

    /// Opens it as the kernel would, which gives the number to the program.
    fn number(&self) -> i64 {
        let file = File::open(&self.0).unwrap();
        std::os::fd::IntoRawFd::into_raw_fd(file).into()
    }
}

impl Drop for TempFile {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

/// Simulates the kernel: answers the calls of the only operation that is posted.
fn answer_each(ring: &Ring, answers: &[(i64, u32)]) {
    let region = ring.pages.as_ref().unwrap().region();
    let flight = ring.flights.iter().flatten().next().unwrap();
    let At::Posted(slots) = flight.at else {
        panic!("it is not posted");
    };
    assert_eq!(slots.len(), answers.len());
    for (slot, &(result, reason)) in slots.iter().zip(answers) {
        let reason = reason as u8;
        region.finish(slot.index(), Answer { result, reason });
    }
}

const CHAIN: (i64, u32) = (-(libc::ECANCELED as i64), abi::FLEXSC_REASON_CHAIN);
const REFUSED: (i64, u32) = (-(libc::EOPNOTSUPP as i64), abi::FLEXSC_REASON_GUARDED);
const STARVED: (i64, u32) = (-(libc::EAGAIN as i64), abi::FLEXSC_REASON_STARVED);

#[test]
fn a_descriptor_of_the_kernel_belongs_to_its_result() {
    let file = TempFile::new("kernel");
    let mut ring = played();
    submit(&mut ring, file.open(), 1);
    ring.ring();
    answer_each(&ring, &[(file.number(), 0)]);
    let done = next_without_wait(&mut ring);
    assert_eq!((done.result.as_ref().ok(), file.opened()), (Some(&0), 1));
    drop(done.output::<OpenAt>().0.unwrap());
    assert_eq!(file.opened(), 0);
    // The program does not take it.
    submit(&mut ring, file.open(), 1);
    ring.ring();
    answer_each(&ring, &[(file.number(), 0)]);
    drop(ring);
    assert_eq!(file.opened(), 0);
}

#[test]
fn a_descriptor_that_is_opened_after_its_ring_is_closed() {
    let file = TempFile::new("late");
    fs::remove_file(&file.0).unwrap();
    let name = file.name();
    // SAFETY: the name is valid.
    assert_eq!(unsafe { libc::mkfifo(name.as_ptr(), 0o600) }, 0);
    let mut ring = plain();
    submit(&mut ring, file.open(), 1);
    ring.ring();
    let end = Instant::now() + PATIENCE;
    while ring.helpers.running() == 0 {
        assert!(Instant::now() < end, "the call does not start");
        std::thread::yield_now();
    }
    // The open waits for a writer, and no cancellation ends a plain call.
    let helpers = ring.helpers.watch();
    drop(ring);
    assert!(helpers.strong_count() > 0);
    let writer = File::options().write(true).open(&file.0).unwrap();
    while helpers.strong_count() > 0 {
        assert!(Instant::now() < end, "the helper does not end");
        std::thread::yield_now();
    }
    // The helper has opened it, and the program did not take it.
    assert_eq!(file.opened(), 1);
    drop(writer);
}

/// A buffer with the file that is read into it, which notes that it is freed.
struct Kept {
    buf: Vec<u8>,
    file: File,
    freed: Arc<AtomicBool>,
}

impl Drop for Kept {
    fn drop(&mut self) {
        self.freed.store(true, Ordering::Relaxed);
    }
}

#[test]
fn a_call_that_no_cancel_ends_keeps_its_memory() {
    let file = TempFile::new("kept");
    let freed = Arc::new(AtomicBool::new(false));
    let mut kept = Kept {
        buf: vec![0; 4],
        file: File::open(&file.0).unwrap(),
        freed: Arc::clone(&freed),
    };
    let (fd, at) = (kept.file.as_raw_fd(), kept.buf.as_mut_ptr());
    let mut ring = played();
    // SAFETY: the operation keeps the file and the buffer, whose memory does not move with it.
    let read = unsafe { Raw::new(calls::read(fd, at.cast(), 4), kept) };
    ring.submit(read, 1).map_err(drop).unwrap();
    ring.ring();
    // No kernel is there to cancel it, or to say that it has ended.
    drop(ring);
    assert!(!freed.load(Ordering::Relaxed));
    assert_eq!(file.opened(), 1);
    // The kernel would do this late.
    // SAFETY: the buffer was not freed.
    assert_eq!(unsafe { libc::read(fd, at.cast(), 4) }, 4);
    // SAFETY: as above.
    assert_eq!(unsafe { std::slice::from_raw_parts(at, 4) }, b"cont");
}

#[test]
fn a_chain_that_the_kernel_refuses_is_made_plainly_as_a_whole() {
    let file = TempFile::new("refused");
    let mut ring = played();
    submit(&mut ring, file.read(), 1);
    ring.ring();
    assert_eq!(ring.free(), 64 - 3);
    answer_each(&ring, &[REFUSED, CHAIN, CHAIN]);
    let done = next_without_wait(&mut ring);
    assert_eq!((done.reason, ring.plain_calls()), (Reason::Guarded, 3));
    let (opened, _, (count, buf)) = done.output::<WithFile<Read>>();
    opened.unwrap();
    assert_eq!((count.unwrap(), buf), (4, b"cont".to_vec()));
    assert_eq!((file.opened(), ring.free()), (0, 64));
}

#[test]
fn a_chain_ends_when_its_last_result_is_there() {
    let file = TempFile::new("parts");
    let mut ring = played();
    submit(&mut ring, file.read(), 1);
    ring.ring();
    let slots = ring
        .flights
        .iter()
        .flatten()
        .find_map(|flight| match flight.at {
            At::Posted(slots) => Some(slots),
            _ => None,
        });
    let answers = [(1 << 20, 0), (4, 0), (0, 0)];
    for (slot, (result, reason)) in slots.unwrap().iter().zip(answers) {
        assert!(ring.next().is_none());
        let region = ring.pages.as_ref().unwrap().region();
        region.finish(slot.index(), Answer { result, reason });
    }
    let (opened, _, (count, _)) = next_without_wait(&mut ring).output::<WithFile<Read>>();
    opened.unwrap();
    assert_eq!(count.unwrap(), 4);
}

#[test]
fn a_file_whose_close_was_not_executed_is_closed() {
    let file = TempFile::new("unclosed");
    for last in [REFUSED, STARVED, CHAIN] {
        let mut ring = played();
        submit(&mut ring, file.read(), 1);
        ring.ring();
        answer_each(&ring, &[(file.number(), 0), (4, 0), last]);
        let done = next_without_wait(&mut ring);
        assert_eq!((file.opened(), ring.plain_calls()), (0, 0));
        let (opened, _, (count, _)) = done.output::<WithFile<Read>>();
        opened.unwrap();
        assert_eq!(count.unwrap(), 4);
    }
}

#[test]
fn a_refused_close_is_made_once() {
    let file = TempFile::new("close");
    let mut ring = played();
    let fd = OwnedFd::from(File::open(&file.0).unwrap());
    submit(&mut ring, Close::new(fd), 1);
    ring.ring();
    answer_each(&ring, &[REFUSED]);
    let done = next_without_wait(&mut ring);
    assert_eq!((file.opened(), ring.plain_calls()), (0, 1));
    done.output::<Close>().unwrap();
    // The kernel says that it has closed the descriptor, so the crate does not.
    let other = OwnedFd::from(File::open(&file.0).unwrap());
    submit(&mut ring, Close::new(other), 1);
    ring.ring();
    answer_each(&ring, &[(0, 0)]);
    drop(next_without_wait(&mut ring));
    assert_eq!(file.opened(), 1);
}

#[test]
fn without_helpers_the_owner_keeps_the_time() {
    let right = in_child_of(0, || {
        let (_near, far) = pair();
        let mut ring = plain();
        let begin = Instant::now();
        submit(&mut ring, Sleep::new(SHORT), 0);
        submit(&mut ring, Poll::new(far, libc::POLLIN).timeout(SHORT), 1);
        refuse_threads();
        let all = ring.wait(Wait::all().timeout(PATIENCE));
        let both = [ring.next().unwrap(), ring.next().unwrap()];
        let zero = both.iter().all(|done| matches!(done.result, Ok(0)));
        all == Ok(2) && zero && (SHORT..PATIENCE).contains(&begin.elapsed())
    });
    assert_eq!(right, Some(true));
}

#[test]
fn a_child_does_not_close_what_a_call_closes() {
    let file = TempFile::new("child");
    let mut ring = played();
    let fd = OwnedFd::from(File::open(&file.0).unwrap());
    submit(&mut ring, Close::new(fd), 1);
    ring.ring();
    let right = in_child_of(0, || {
        // SAFETY: `ring` is not used again in this process.
        drop(unsafe { std::ptr::read(&raw const ring) });
        file.opened() == 1
    });
    assert_eq!(right, Some(true));
    answer_each(&ring, &[(0, 0)]);
    drop(ring);
}

#[test]
fn helpers_are_never_more_than_allowed() {
    for most in [0, 1, 2] {
        let mut ring = plain();
        ring.set_helper_limit(most);
        let (mut near, far) = pair();
        let far: Fd = far.into();
        for token in 0..8 {
            submit(&mut ring, Read::new(&far, vec![0; 1]), token);
        }
        assert_eq!(ring.wait(Wait::none()), Ok(0));
        let mut there = 0;
        while there < 8 {
            assert!(ring.helpers.running() <= most);
            near.write_all(&[7]).unwrap();
            assert_eq!(next(&mut ring).buf, [7]);
            there += 1;
        }
        assert_eq!((ring.in_flight(), ring.plain_calls()), (0, 8));
    }
}
