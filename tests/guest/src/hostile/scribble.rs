// SPDX-License-Identifier: MIT OR Apache-2.0
//! Pages that are rewritten or unmapped while the kernel works on them.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::harmless;
use super::target::{Target, scribble_ctrl, scribble_entry};
use crate::check::Check;
use crate::kit::abi::{Param, Policy};
use crate::kit::engine::Engine;
use crate::kit::limits::poller_cpu;
use crate::kit::mode::Mode;
use crate::kit::{Random, rounds};

tests! { "hostile":
    scribbled_entries => "another thread rewrites entries while they are executed";
    scribbled_doorbells => "another thread rewrites the doorbells and the kernel's words";
    scribbled_everything => "two threads rewrite all of the pages while a poller polls them";
    mapping_pulled_away => "another thread unmaps, protects and moves the pages during use";
    kernel_words_ignored => "words that the program writes in place of the kernel's change nothing";
}

/// The work that a scribbling thread repeats.
pub type Scribble = fn(Target, &mut Random);

/// The owner posts and waits while other threads scribble.
pub fn scribbled(mode: Mode, scribblers: &[Scribble], random: &mut Random) -> Check {
    let engine = Engine::open()?;
    let registered = ok!("REGISTER", engine.register(2));
    let mut ring = crate::kit::ring::Ring::map(engine.fd(), &registered)?;
    if mode == Mode::Poller {
        engine.set(Param::PollCpus, 1 << poller_cpu())?;
    }
    let target = Target::new(ring.base().0, &registered);
    // Starts with harmless calls and harmless arguments only.
    for slot in 0..ring.capacity() {
        ring.stage(slot, &call!(SYS_getpid));
    }
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for scribble in scribblers {
            let (mut random, stop) = (random.split(), &stop);
            scope.spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    scribble(target, &mut random);
                }
            });
        }
        for _ in 0..rounds(200) {
            ring.ring_bell(random.below(2) as usize, random.word());
            let policy = [Policy::None, Policy::Any, Policy::Some, Policy::All];
            let policy = policy[random.below(4) as usize];
            let min = if policy == Policy::Some { 3 } else { 0 };
            // Any result is right, but there must be one.
            let _ = ring.wait_for(policy, min, Duration::from_micros(random.below(2000)));
            let _ = ring.kick();
        }
        stop.store(true, Ordering::Relaxed);
    });
    Ok(())
}

fn scribbled_in_modes(scribblers: &[Scribble]) -> Check {
    let mut random = Random::new();
    for mode in [Mode::Inline, Mode::Poller] {
        harmless(|| scribbled(mode, scribblers, &mut random))?;
    }
    Ok(())
}

fn scribbled_entries() -> Check {
    scribbled_in_modes(&[scribble_entry])
}

fn scribbled_doorbells() -> Check {
    scribbled_in_modes(&[scribble_ctrl])
}

fn scribbled_everything() -> Check {
    scribbled_in_modes(&[scribble_entry, scribble_ctrl])
}

fn mapping_pulled_away() -> Check {
    let mut random = Random::new();
    for mode in [Mode::Inline, Mode::Kick, Mode::Poller] {
        for _ in 0..rounds(5) {
            harmless(|| {
                let (engine, mut ring) = mode.start(3)?;
                let slots = ring.capacity();
                for slot in 0..slots {
                    ring.stage(slot, &call!(SYS_getpid));
                }
                (0..3).for_each(|page| ring.ring_bell(page, u64::MAX));
                let (base, len) = ring.base();
                let place = base as usize;
                std::thread::scope(|scope| {
                    let mut random = random.split();
                    scope.spawn(move || {
                        let page = place + random.below(len as u64 / 4096) as usize * 4096;
                        match random.below(5) {
                            0 => plain!(SYS_munmap, page, 4096),
                            1 => plain!(SYS_mprotect, page, 4096, libc::PROT_NONE),
                            2 => plain!(SYS_mprotect, place, len, libc::PROT_EXEC),
                            3 => plain!(SYS_madvise, place, len, libc::MADV_DONTNEED),
                            _ => plain!(SYS_mremap, place, len, len, libc::MREMAP_MAYMOVE),
                        };
                    });
                    let short = Duration::from_millis(20);
                    for _ in 0..10 {
                        let _ = ring.wait_for(Policy::All, 0, short);
                        let _ = ring.kick();
                    }
                });
                check!(
                    engine.stats()?.posted <= slots as u64,
                    "more entries were taken than posted"
                );
                ring.leak();
                Ok(())
            })?;
        }
    }
    Ok(())
}

fn kernel_words_ignored() -> Check {
    let mut random = Random::new();
    let (engine, mut ring) = Mode::Inline.start(1)?;
    for _ in 0..rounds(300) {
        let ctrl = ring.ctrl(0);
        ctrl.taken.store(random.word(), Ordering::Relaxed);
        ctrl.done.store(random.word(), Ordering::Relaxed);
        ctrl.flags.store(random.word() as u32, Ordering::Relaxed);
        let slots = ring.post_all(&[call!(SYS_getpid); 64]);
        // The kernel has claimed and finished all calls by its own count.
        check_eq!("WAIT", ring.wait(Policy::All), Ok(64));
        for slot in slots {
            check_ret!("getpid", ring.reap(slot).result, std::process::id());
        }
    }
    check_eq!(
        "posted",
        engine.stats()?.posted,
        u64::from(rounds(300)) * 64
    );
    Ok(())
}
