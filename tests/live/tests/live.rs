// SPDX-License-Identifier: MIT OR Apache-2.0
//! Tests the crate with the module, on a machine that has the module; elsewhere
//! these tests say so and pass.

use std::io::{Read as _, Write as _};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

// The crate's own tests of its operations, which the kernel executes here.
#[path = "../../../user/flexsc/tests/operations/main.rs"]
mod operations;

// Its tests of futures, too.
#[path = "../../../user/flexsc/tests/futures/main.rs"]
mod futures;

#[path = "../../../user/flexsc/tests/executors.rs"]
mod executors;

#[path = "../../../user/flexsc/tests/streams.rs"]
mod streams;

#[path = "../../../user/flexsc/tests/servers.rs"]
mod servers;

#[path = "../../../user/flexsc/tests/allocations.rs"]
mod allocations;

use flexsc::ops::{Fsync, Read, Write};
use flexsc::{CpuSet, Engine, Error, Fd, Param, Reason, Ring, Wait, abi, calls};

/// Returns an engine, or ends the test.
macro_rules! engine {
    () => {
        match Engine::open() {
            Ok(engine) => engine,
            Err(error) => {
                eprintln!("skipped: {error}");
                return;
            }
        }
    };
}

const PATIENCE: Duration = Duration::from_secs(20);

fn ppid() -> i64 {
    i64::from(std::os::unix::process::parent_id())
}

#[test]
fn a_full_registration_in_one_wait() {
    let engine = engine!();
    let mut pages = engine.register(2).unwrap();
    // SAFETY: getppid() touches no memory.
    while unsafe { pages.stage(calls::getppid()) }.is_some() {}
    assert_eq!((pages.in_flight(), pages.free()), (128, 0));
    assert_eq!(pages.poll(), None);
    assert_eq!(pages.wait(Wait::all()).unwrap(), 128);
    // The results are there: finding them needs no trap.
    let waits = engine.stats().unwrap().waits;
    assert_eq!(pages.wait(Wait::some(100).timeout(PATIENCE)).unwrap(), 128);
    assert_eq!(engine.stats().unwrap().waits, waits);
    assert!(pages.has_result());
    for _ in 0..128 {
        let done = pages.poll().unwrap();
        assert_eq!((done.io().unwrap(), done.reason), (ppid(), Reason::None));
        assert_eq!(pages.entry_status(done.slot), abi::FLEXSC_FREE as u8);
    }
    assert!(!pages.has_result());
    assert!(pages.unregister().is_ok());
}

#[test]
fn waits_time_out_and_end_and_say_why() {
    let engine = engine!();
    let mut pages = engine.register(1).unwrap();
    assert_eq!(pages.wait(Wait::any()), Err(Error::NothingToWaitFor));
    assert_eq!(pages.wait(Wait::none()), Ok(0));

    let (reader, mut writer) = UnixStream::pair().unwrap();
    let mut buf = [0_u8; 4];
    let read = calls::read(reader.as_raw_fd(), buf.as_mut_ptr().cast(), buf.len());
    // SAFETY: `buf` is not used until the read has finished.
    let slot = unsafe { pages.post(read) }.unwrap();
    let start = Instant::now();
    let short = Duration::from_millis(30);
    assert_eq!(pages.wait(Wait::any().timeout(short)), Err(Error::TimedOut));
    assert!(start.elapsed() >= short);

    let (mut pages, error) = pages.unregister().unwrap_err();
    assert_eq!(error, Error::Busy);
    writer.write_all(b"done").unwrap();
    assert_eq!(pages.wait(Wait::all().timeout(PATIENCE)), Ok(1));
    let done = pages.poll().unwrap();
    assert_eq!((done.slot, done.result), (slot, 4));
    assert_eq!(&buf, b"done");
    assert!(pages.unregister().is_ok());
}

#[test]
fn a_kick_is_enough_where_nobody_waits() {
    let engine = engine!();
    let mut pages = engine.register(1).unwrap();
    // SAFETY: getppid() touches no memory.
    unsafe { pages.post(calls::getppid().asynchronous()) }.unwrap();
    pages.kick().unwrap();
    let end = Instant::now() + PATIENCE;
    let done = loop {
        if let Some(done) = pages.poll() {
            break done;
        }
        assert!(Instant::now() < end, "no result after a kick");
        std::thread::yield_now();
    };
    assert_eq!(done.result, ppid());
}

#[test]
fn refused_calls_are_made_plainly_if_wanted() {
    let engine = engine!();
    let mut pages = engine.register(1).unwrap();
    let gettid = flexsc::Call::new(libc::SYS_gettid, [0; 6]);
    let exit = flexsc::Call::new(libc::SYS_exit, [0; 6]);
    let unknown = calls::getppid().raw_flags(0x80);
    pages.set_fallback(true);
    let mut results = Vec::new();
    for call in [gettid, exit, unknown] {
        // SAFETY: none of them touches memory, and the kernel refuses to end
        // a thread in this way.
        unsafe { pages.post(call) }.unwrap();
        pages.wait(Wait::all()).unwrap();
        results.push(pages.poll().unwrap());
    }
    assert!(results[0].result > 0, "{results:?}");
    assert_eq!(results[1].result, -i64::from(libc::EOPNOTSUPP));
    assert_eq!(results[1].reason, Reason::Life);
    assert_eq!(results[2].result, -i64::from(libc::EINVAL));
    assert_eq!(results[2].reason, Reason::Entry);
    let refused_gettid = u64::from(results[0].reason != Reason::None);
    assert_eq!(pages.fallbacks(), refused_gettid);
}

#[test]
fn another_thread_registers_its_own() {
    let engine = engine!();
    let mine = engine.register(1).unwrap();
    std::thread::scope(|scope| {
        let other = scope.spawn(|| {
            let mut pages = engine.register(1).unwrap();
            // SAFETY: getppid() touches no memory.
            unsafe { pages.post(calls::getppid()) }.unwrap();
            pages.wait(Wait::all()).unwrap();
            (pages.id(), pages.poll().unwrap().result)
        });
        let (id, result) = other.join().unwrap();
        assert_ne!(id, mine.id());
        assert_eq!(result, ppid());
    });
}

#[test]
fn pages_outlive_the_engines_handle() {
    let engine = engine!();
    let mut pages = engine.register(1).unwrap();
    drop(engine);
    // SAFETY: getppid() touches no memory.
    unsafe { pages.post(calls::getppid()) }.unwrap();
    assert_eq!(pages.wait(Wait::all()), Ok(1));
}

#[test]
fn parameters_come_back() {
    let engine = engine!();
    engine.set(Param::IdleNs, 12_345).unwrap();
    assert_eq!(engine.get(Param::IdleNs), Ok(12_345));
    assert_eq!(engine.poll_cpus(), Ok(CpuSet::new()));
}

#[test]
fn an_own_core_needs_no_trap() {
    let engine = engine!();
    if std::thread::available_parallelism().is_ok_and(|cpus| cpus.get() < 2) {
        return;
    }
    let cpus = CpuSet::from_iter([1]);
    engine.set_poll_cpus(&cpus).unwrap();
    assert_eq!(engine.poll_cpus(), Ok(cpus));
    engine.set(Param::IdleNs, 5_000_000).unwrap();
    let mut pages = engine.register(1).unwrap();
    let end = Instant::now() + PATIENCE;
    for _ in 0..1000 {
        // SAFETY: getppid() touches no memory.
        unsafe { pages.post(calls::getppid()) }.unwrap();
        if pages.needs_kick() {
            pages.kick().unwrap();
        }
        let done = loop {
            if let Some(done) = pages.poll() {
                break done;
            }
            assert!(Instant::now() < end, "no result from the poller");
            std::hint::spin_loop();
        };
        assert_eq!(done.result, ppid());
    }
    assert_eq!(engine.stats().unwrap().waits, 0);
}

#[test]
fn a_ring_owns_what_is_in_flight() {
    let engine = engine!();
    let (mut near, far) = UnixStream::pair().unwrap();
    let pages = engine.register(1).unwrap();
    let mut ring = Ring::new(pages).unwrap();
    let far = Fd::from(far);
    for token in 0..8 {
        let read = Read::new(&far, vec![0; 4]);
        ring.submit(read, token).unwrap();
    }
    let hello = Write::new(&far, b"hello".to_vec());
    ring.submit(hello, 100).unwrap();
    assert!(ring.submit(Fsync::new(&far), 101).is_ok());
    for _ in 0..2 {
        let done = ring.next_or_wait().unwrap().unwrap();
        match done.token {
            100 => assert_eq!((done.result.unwrap(), done.buf), (5, b"hello".to_vec())),
            101 => assert_eq!(done.result.unwrap_err().raw_os_error(), Some(libc::EINVAL)),
            token => panic!("read {token} has finished without data"),
        }
    }
    assert_eq!(ring.in_flight(), 8);
    let mut text = [0; 5];
    near.read_exact(&mut text).unwrap();
    assert_eq!(&text, b"hello");
    // Nothing else ends the reads: the drop ends them and closes the files that they own.
    let begin = Instant::now();
    drop(ring);
    drop(far);
    assert!(begin.elapsed() < PATIENCE);
    assert_eq!(near.read(&mut [0]).unwrap(), 0);
    assert_eq!(engine.stats().unwrap().cancels, 8);
}

#[test]
fn a_thousand_reads_by_a_ring() {
    let file = Fd::from(std::fs::File::open("/proc/self/exe").unwrap());
    let mut ring = Ring::open(4).unwrap();
    let (mut sent, mut seen) = (0, 0);
    while seen < 1000 {
        while sent < 1000 && ring.free() > 0 {
            let read = Read::new(&file, vec![0; 64]).at(0);
            ring.submit(read, sent).unwrap();
            sent += 1;
        }
        let done = ring.next_or_wait().unwrap().unwrap();
        assert_eq!(done.result.unwrap(), 64);
        assert_eq!(&done.buf[1..4], b"ELF");
        seen += 1;
    }
    let plain = if ring.is_plain() { 1000 } else { 0 };
    assert_eq!(ring.plain_calls(), plain);
}
