// SPDX-License-Identifier: MIT OR Apache-2.0
//! Syscall pages hold the data written to them, and never old data of the kernel or of other
//! programs.

use std::sync::atomic::Ordering;

use super::target::Target;
use crate::check::Check;
use crate::kit::abi::{CTRL_NEED_WAKEUP, PAGE_ENTRIES, Policy};
use crate::kit::child::in_child;
use crate::kit::engine::Engine;
use crate::kit::memory;
use crate::kit::mode::Mode;
use crate::kit::ring::Ring;
use crate::kit::{limits, rounds};

tests! { "hostile":
    fresh_pages_zero => "a new registration is all zeros, even where another process's pattern was";
    looks_find => "the checks of pages find a word, a kernel address, a reserved word";
    own_words_only => "after work in all modes the pages hold results and no other kernel data";
}

/// The pattern in the pages of other programs.
const PATTERN: u64 = 0x5ec2_e75e_c2e7_5ec2;

/// Returns true if the word looks like a kernel address: direct map, vmalloc, memory map, text,
/// modules. The very last addresses are `-errno`.
pub fn is_kernel_address(word: u64) -> bool {
    (0xffff_8000_0000_0000..0xffff_ffff_ff00_0000).contains(&word)
}

/// The last bits of every word that looks like a kernel address and that a test itself writes.
const OWN_MARK: u64 = 0x5a5;

/// The word, marked with `OWN_MARK` if the word looks like a kernel address.
pub fn mark(word: u64) -> u64 {
    if is_kernel_address(word) {
        word & !0xfff | OWN_MARK
    } else {
        word
    }
}

/// The first word that is not zero in pages that were just registered. The kernel may have set
/// NEED_WAKEUP.
pub fn first_not_zero(target: Target) -> Option<(usize, u64)> {
    let flags = |at: usize| at < target.pages * 128 && at % 128 == 80;
    target
        .words()
        .find(|&(at, word)| word != 0 && !(flags(at) && word == u64::from(CTRL_NEED_WAKEUP)))
}

/// The first word that looks like a kernel address, the doorbells aside: these hold any bits that
/// the program has ever posted.
///
/// Leaves out words that [`mark`] has marked.
pub fn first_kernel_address(target: Target) -> Option<(usize, u64)> {
    let doorbell = |at: usize| at < target.pages * 128 && matches!(at % 128, 0 | 8 | 64 | 72);
    target
        .words()
        .find(|&(at, word)| is_kernel_address(word) && mark(word) != word && !doorbell(at))
}

/// The words of a control block that the kernel must leave zero: its own reserved ones.
pub fn reserved_words(target: Target) -> u64 {
    (0..target.pages).fold(0, |all, page| {
        let ctrl = target.ctrl_of(page);
        let words = ctrl.kernel_reserved.iter();
        words.fold(all, |all, word| all | word.load(Ordering::Relaxed))
            | u64::from(ctrl.kernel_reserved32.load(Ordering::Relaxed))
    })
}

/// Fills pages, like a program with secrets in them, and releases them.
fn fill_and_leave(registrations: usize) -> Check {
    in_child(|| {
        let engine = Engine::open()?;
        let mut rings = Vec::new();
        for _ in 0..registrations {
            let ring = engine.ring(16)?;
            let (base, len) = ring.base();
            for at in (0..len).step_by(8) {
                memory::store(base.wrapping_add(at), PATTERN);
            }
            rings.push(ring);
        }
        Ok(())
    })
}

fn fresh_pages_zero() -> Check {
    for round in 0..rounds(8) {
        fill_and_leave(8)?;
        let engine = Engine::open()?;
        let mut rings = Vec::new();
        for pages in [1, 64, 3, 16, 33, 16, 16] {
            let registered = ok!("REGISTER", engine.register(pages));
            let ring = Ring::map(engine.fd(), &registered)?;
            let target = Target::new(ring.base().0, &registered);
            if let Some((at, word)) = first_not_zero(target) {
                fail!("round {round}: {word:#x} at byte {at} of {pages} new pages");
            }
            rings.push(ring);
        }
    }
    Ok(())
}

/// Shows that the other tests' checks find what they look for.
fn looks_find() -> Check {
    let engine = Engine::open()?;
    let registered = ok!("REGISTER", engine.register(3));
    let ring = Ring::map(engine.fd(), &registered)?;
    let target = Target::new(ring.base().0, &registered);
    let entry = ring.entry(2 * PAGE_ENTRIES + 5);
    check_eq!("a word before", first_not_zero(target), None);
    let address = 0xffff_8881_0000_1000;
    entry.args[3].store(address, Ordering::Relaxed);
    let found = first_not_zero(target);
    check_eq!("a word", found.map(|(_, word)| word), Some(address));
    check_eq!("an address", first_kernel_address(target), found);
    entry.args[3].store(mark(address), Ordering::Relaxed);
    check_eq!("a marked address", first_kernel_address(target), None);
    for error in [-1i64, -4095] {
        entry.args[3].store(error as u64, Ordering::Relaxed);
        check_eq!("an error", first_kernel_address(target), None);
    }
    check_eq!("reserved words before", reserved_words(target), 0);
    ring.ctrl(2).kernel_reserved[4].store(1, Ordering::Relaxed);
    check_eq!("reserved words", reserved_words(target), 1);
    Ok(())
}

fn own_words_only() -> Check {
    for mode in Mode::ALL {
        let engine = Engine::open()?;
        let registered = ok!("REGISTER", engine.register(2));
        let mut ring = Ring::map(engine.fd(), &registered)?;
        ring.mode = mode;
        if mode == Mode::Poller {
            engine.set(crate::kit::abi::Param::PollCpus, 1 << limits::poller_cpu())?;
        }
        let target = Target::new(ring.base().0, &registered);
        let mut buffer = [0u8; 64];
        let calls = [
            call!(SYS_getpid),
            call!(SYS_read, -1, buffer.as_mut_ptr(), buffer.len()),
            call!(SYS_uname, 0x1000),
            call!(SYS_fork),
        ];
        for _ in 0..rounds(20) {
            for call in calls {
                ring.run_all(&[call; 100])?;
            }
        }
        check!(ring.wait(Policy::None).is_ok(), "WAIT failed");
        let word = first_kernel_address(target);
        check_eq!(format!("mode {mode:?}: kernel address"), word, None);
        check_eq!(
            format!("mode {mode:?}: the kernel's reserved words"),
            reserved_words(target),
            0
        );
    }
    Ok(())
}
