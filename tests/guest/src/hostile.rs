// SPDX-License-Identifier: MIT OR Apache-2.0
//! Programs that break the rules: only they themselves may come to harm.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::check::Check;
use crate::kit::abi::{self, Ctrl, Entry, Param, ParamArg, Policy, Register, Wait};
use crate::kit::child::{End, spawn};
use crate::kit::engine::Engine;
use crate::kit::limits::spin_cpu;
use crate::kit::mode::Mode;
use crate::kit::{Random, memory, process, rounds, sys};

tests! { "hostile":
    scribbled_entries => "another thread rewrites entries while they are executed";
    scribbled_doorbells => "another thread rewrites the doorbells and the kernel's words";
    scribbled_everything => "two threads rewrite all of the pages while a core polls them";
    mapping_pulled_away => "another thread unmaps, protects and moves the pages meanwhile";
    random_ioctls => "random arguments to all ioctls, from several threads";
    everything_at_once => "scribbling, ioctls, registering and closing all at once";
    kernel_words_ignored => "what the program writes into the kernel's words changes nothing";
}

/// Calls that do no harm with any arguments at all.
const HARMLESS: [i64; 12] = [
    libc::SYS_getpid,
    libc::SYS_getppid,
    libc::SYS_getuid,
    libc::SYS_lseek,
    libc::SYS_fcntl,
    libc::SYS_getpgid,
    libc::SYS_access,
    libc::SYS_sched_get_priority_max,
    libc::SYS_fork,
    libc::SYS_exit_group,
    libc::SYS_gettid,
    libc::SYS_rt_sigreturn,
];

/// The mapping as a thread sees it that does not own it.
#[derive(Clone, Copy)]
struct Target {
    base: usize,
    ctrl_len: usize,
    pages: usize,
}

impl Target {
    fn new(base: *mut u8, registered: &Register) -> Target {
        Target {
            base: base as usize,
            ctrl_len: registered.ctrl_len as usize,
            pages: registered.pages as usize,
        }
    }

    fn entry(self, random: &mut Random) -> &'static Entry {
        let slot = random.below(self.pages as u64 * 64) as usize;
        memory::at((self.base + self.ctrl_len) as *const Entry, slot)
    }

    fn ctrl(self, random: &mut Random) -> &'static Ctrl {
        let page = random.below(self.pages as u64) as usize;
        memory::at(self.base as *const Ctrl, page)
    }
}

fn scribble_entry(target: Target, random: &mut Random) {
    let entry = target.entry(random);
    let word = random.word();
    match random.below(8) {
        0 | 1 => {
            let nr = HARMLESS[random.below(HARMLESS.len() as u64) as usize];
            entry.nr.store(nr as u16, Ordering::Relaxed);
        }
        2 => entry.flags.store(word as u8 & 0x1f, Ordering::Relaxed),
        3 => entry.pool.store(word as u8 & 1, Ordering::Relaxed),
        4 => entry.status.store(word as u8, Ordering::Relaxed),
        5 => entry.args[random.below(6) as usize].store(word, Ordering::Relaxed),
        6 => entry.result.store(word as i64, Ordering::Relaxed),
        _ => entry.take[(word >> 8) as usize & 1].store(word as u8, Ordering::Relaxed),
    }
}

fn scribble_ctrl(target: Target, random: &mut Random) {
    let ctrl = target.ctrl(random);
    let word = random.word() & random.word();
    match random.below(6) {
        0 => drop(ctrl.posted.fetch_xor(word, Ordering::Release)),
        1 => drop(ctrl.reaped.fetch_xor(word, Ordering::Release)),
        2 => ctrl.taken.store(word, Ordering::Relaxed),
        3 => ctrl.done.store(word, Ordering::Relaxed),
        4 => ctrl.flags.store(word as u32, Ordering::Relaxed),
        _ => ctrl.user_reserved[0].store(word, Ordering::Relaxed),
    }
}

/// Runs hostile work in a child that has to end by itself; nothing may stay.
fn harmless(work: impl FnOnce() -> Check) -> Check {
    let base = process::refcnt();
    let mut child = spawn(|_| work())?;
    check_eq!("end of the hostile program", child.end()?, End::Exit(0));
    process::until_refcnt(base)?;
    // The machine is as good as before.
    let (_engine, mut ring) = Mode::Inline.start(1)?;
    check_ret!(
        "getpid",
        ring.result(call!(SYS_getpid))?,
        std::process::id()
    );
    Ok(())
}

type Scribble = fn(Target, &mut Random);

/// The owner posts and waits while other threads scribble.
fn scribbled(mode: Mode, scribblers: &[Scribble], random: &mut Random) -> Check {
    let engine = Engine::open()?;
    let registered = ok!("REGISTER", engine.register(2));
    let mut ring = crate::kit::ring::Ring::map(engine.fd(), &registered)?;
    if mode == Mode::Spin {
        engine.set(Param::SpinCpus, 1 << spin_cpu())?;
    }
    let target = Target::new(ring.base().0, &registered);
    // Only harmless calls with harmless arguments to begin with.
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
            // Any result will do, as long as there is one.
            let _ = ring.wait_for(policy, min, Duration::from_micros(random.below(2000)));
            let _ = ring.kick();
        }
        stop.store(true, Ordering::Relaxed);
    });
    Ok(())
}

fn scribbled_in_modes(scribblers: &[Scribble]) -> Check {
    let mut random = Random::new();
    for mode in [Mode::Inline, Mode::Spin] {
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
    for mode in [Mode::Inline, Mode::Kick, Mode::Spin] {
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
                    "more was taken than posted"
                );
                ring.leak();
                Ok(())
            })?;
        }
    }
    Ok(())
}

/// One ioctl with arguments that are sometimes sensible.
fn random_ioctl(engine: &Engine, random: &mut Random) {
    let some = |random: &mut Random| match random.below(4) {
        0 => random.word(),
        1 => random.word() as u32 as u64,
        _ => random.below(8),
    };
    let fd = engine.fd();
    let id = random.below(6) as u32;
    let _ = match random.below(9) {
        0 => {
            let mut arg = Register::new(random.below(70) as u32);
            if random.below(4) == 0 {
                arg.flags = some(random) as u32;
            }
            sys::ioctl_with(fd, abi::IOC_REGISTER, &mut arg)
        }
        1 => sys::ioctl(fd, abi::IOC_UNREGISTER, some(random)),
        2 => {
            let mut arg = Wait::new(id, Policy::None);
            (arg.policy, arg.min) = (some(random) as u32, some(random) as u32);
            arg.timeout_ns = 1 + some(random) % 1_000_000;
            arg.linger_ns = some(random) % 1_000_000;
            sys::ioctl_with(fd, abi::IOC_WAIT, &mut arg)
        }
        // Without time limits only what cannot sleep.
        3 => sys::ioctl(fd, abi::IOC_WAIT_FAST, u64::from(id)),
        4 => sys::ioctl(fd, abi::IOC_KICK, some(random)),
        5 => {
            let mut arg = ParamArg::new(Param::IdleNs, some(random));
            arg.param = random.below(6) as u32;
            if arg.param == Param::IdleNs as u32 {
                arg.value %= 1_000_000;
            }
            sys::ioctl_with(fd, abi::IOC_SET, &mut arg)
        }
        6 => {
            let mut arg = ParamArg::new(Param::IdleNs, 0);
            arg.param = some(random) as u32;
            sys::ioctl_with(fd, abi::IOC_GET, &mut arg)
        }
        7 => {
            let mut words = [0u64; 40];
            words[0] = random.below(320);
            sys::ioctl(fd, abi::IOC_QUERY, words.as_mut_ptr() as u64)
        }
        _ => sys::ioctl(fd, random.word() as u32 & 0xffff_ff07, random.word() << 48),
    };
}

fn random_ioctls() -> Check {
    let mut random = Random::new();
    harmless(|| {
        let engine = Engine::open()?;
        std::thread::scope(|scope| {
            for _ in 0..3 {
                let (mut random, engine) = (random.split(), &engine);
                scope.spawn(move || {
                    for _ in 0..rounds(500) {
                        random_ioctl(engine, &mut random);
                    }
                });
            }
        });
        Ok(())
    })
}

fn everything_at_once() -> Check {
    let mut random = Random::new();
    for _ in 0..rounds(2) {
        harmless(|| {
            for _ in 0..3 {
                let engine = Engine::open()?;
                let stop = AtomicBool::new(false);
                std::thread::scope(|scope| {
                    let (mut noise, engine, stop) = (random.split(), &engine, &stop);
                    scope.spawn(move || {
                        while !stop.load(Ordering::Relaxed) {
                            random_ioctl(engine, &mut noise);
                        }
                    });
                    let result = [Mode::Inline, Mode::Spin].into_iter().try_for_each(|mode| {
                        scribbled(mode, &[scribble_entry, scribble_ctrl], &mut random)
                    });
                    stop.store(true, Ordering::Relaxed);
                    result
                })?;
            }
            Ok(())
        })?;
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
        // Claimed and done by the kernel's own count.
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
