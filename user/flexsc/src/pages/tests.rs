// SPDX-License-Identifier: MIT OR Apache-2.0
//! Pages with a simulated kernel, and in a forked child.

use std::fs::File;
use std::io::Read as _;
use std::path::Path;

use super::*;
use crate::sys::abi;
use crate::sys::guard::tests::in_child_of;
use crate::{Engine, Wait, calls};

fn pages() -> Pages {
    let engine = Engine::open_path(Path::new("/dev/null")).unwrap();
    engine.register_nowhere(1)
}

fn stage(pages: &mut Pages, call: Call) -> Slot {
    // SAFETY: only the fallback executes it, which the tests are about.
    unsafe { pages.stage(call) }.unwrap()
}

/// Simulates the kernel: refuses the call in this slot.
fn refuse(pages: &Pages, slot: Slot, reason: u32) {
    let answer = Answer {
        result: -i64::from(libc::EOPNOTSUPP),
        reason: reason as u8,
    };
    pages.queue.region().finish(slot.index(), answer);
}

/// The words that the program shows to the kernel: posted and reaped.
fn words(pages: &Pages) -> [u64; 2] {
    let ctrl = pages.queue.region().ctrl(0);
    [ctrl.posted, ctrl.reaped].map(|word| word.load(Ordering::Relaxed))
}

#[test]
fn a_child_has_no_pages() {
    // The mapping is shared here, so the parent sees what a child writes.
    let mut pages = pages();
    let done = stage(&mut pages, calls::getppid());
    pages.ring();
    pages.queue.region().finish(
        done.index(),
        Answer {
            result: 7,
            reason: 0,
        },
    );
    let staged = stage(&mut pages, calls::getppid());
    let before = words(&pages);
    let harmless = in_child_of(0, || {
        pages.ring();
        // SAFETY: no kernel executes it.
        let posted = unsafe { pages.post(calls::getppid()) };
        let chain = Chain::new().then(calls::getppid());
        // SAFETY: as above.
        let chained = unsafe { pages.stage_chain(&chain) };
        posted.is_none()
            && chained == Err(Error::NotTheOwner)
            && !pages.has_result()
            && (pages.in_flight(), pages.free()) == (0, 0)
            && pages.poll().is_none()
            && pages.drain().next().is_none()
            && pages.wait(Wait::all()) == Err(Error::NotTheOwner)
            && pages.kick().is_err()
            && pages.cancel(done) == Err(Error::NotTheOwner)
            && !pages.needs_kick()
            && pages.entry_status(staged) == 0
    });
    assert_eq!(harmless, Some(true));
    assert_eq!(words(&pages), before);
    assert_eq!(pages.entry_status(staged), abi::FLEXSC_SUBMITTED as u8);
    assert_eq!(pages.poll().unwrap().result, 7);
}

#[test]
fn a_drain_that_a_child_inherits_is_empty() {
    let mut pages = pages();
    for _ in 0..2 {
        let slot = stage(&mut pages, calls::getppid());
        pages.ring();
        pages.queue.region().finish(
            slot.index(),
            Answer {
                result: 7,
                reason: 0,
            },
        );
    }
    let before = words(&pages);
    let mut drain = pages.drain();
    assert!(drain.next().is_some());
    assert_eq!(in_child_of(0, || drain.next().is_none()), Some(true));
    assert!(drain.next().is_some() && drain.next().is_none());
    assert_ne!(words(&pages), before);
}

#[test]
fn refused_calls_are_made_plainly_unless_told_otherwise() {
    let mut pages = pages();
    for (fallback, result, count) in [
        (true, i64::from(std::process::id()), 1),
        (false, -i64::from(libc::EOPNOTSUPP), 1),
    ] {
        if !fallback {
            pages.set_fallback(false);
        }
        let slot = stage(&mut pages, calls::getpid());
        pages.ring();
        refuse(&pages, slot, abi::FLEXSC_REASON_GUARDED);
        let done = pages.poll().unwrap();
        assert_eq!((done.result, done.reason), (result, Reason::Guarded));
        assert_eq!(pages.fallbacks(), count);
    }
}

#[test]
fn a_link_is_never_made_alone() {
    let mut pages = pages();
    let file = File::open("/proc/self/stat").unwrap();
    // A chain linked by hand. Its middle call takes a result and has one of our descriptors
    // as a placeholder. The kernel refuses that call.
    let placeholder = std::os::fd::AsRawFd::as_raw_fd(&file);
    let linked = abi::FLEXSC_ENTRY_LINK as u8;
    let chain = [
        calls::getppid().raw_flags(linked),
        calls::close(placeholder).take(0, 1).raw_flags(linked),
        calls::close(placeholder).take(0, 2),
    ];
    let slots = chain.map(|call| stage(&mut pages, call));
    pages.ring();
    let answers = [
        (7, abi::FLEXSC_REASON_NONE),
        (-libc::EOPNOTSUPP, abi::FLEXSC_REASON_THREAD),
        (-libc::ECANCELED, abi::FLEXSC_REASON_CHAIN),
    ];
    for (slot, (result, reason)) in slots.into_iter().zip(answers) {
        let (result, reason) = (result.into(), reason as u8);
        let region = pages.queue.region();
        region.finish(slot.index(), Answer { result, reason });
    }
    for (result, _) in answers {
        assert_eq!(pages.poll().unwrap().result, i64::from(result));
    }
    assert_eq!(pages.fallbacks(), 0);
    let mut text = String::new();
    (&file).read_to_string(&mut text).unwrap();
}

#[test]
fn a_chain_that_is_refused_is_made_as_a_whole() {
    let mut pages = pages();
    let mut buf = [0_u8; 8];
    let open = calls::openat(libc::AT_FDCWD, c"/dev/zero".as_ptr(), libc::O_RDONLY, 0);
    let chain = Chain::new()
        .then(open)
        .then(calls::read(-1, buf.as_mut_ptr().cast(), buf.len()).take(0, 1))
        .then(calls::close(-1).take(0, 2))
        .then(calls::close(-1))
        .then(calls::getpid());
    // SAFETY: path and buffer outlive the calls.
    let slots = unsafe { pages.stage_chain(&chain) }.unwrap();
    pages.ring();
    refuse(&pages, slots.first(), abi::FLEXSC_REASON_GUARDED);
    for slot in slots.iter().skip(1) {
        let answer = Answer {
            result: -i64::from(libc::ECANCELED),
            reason: abi::FLEXSC_REASON_CHAIN as u8,
        };
        pages.queue.region().finish(slot.index(), answer);
    }
    let results: Vec<_> = pages.drain().map(|done| done.result).collect();
    let (bad, cancelled) = (-i64::from(libc::EBADF), -i64::from(libc::ECANCELED));
    assert!(results[0] > 2, "{results:?}");
    assert_eq!(results[1..], [8, 0, bad, cancelled]);
    assert_eq!((pages.fallbacks(), pages.made.len()), (4, 0));
}
