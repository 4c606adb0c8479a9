// SPDX-License-Identifier: MIT OR Apache-2.0
//! Random arguments to the device's calls.

use std::os::fd::RawFd;
use std::sync::atomic::{AtomicBool, Ordering};

use super::harmless;
use super::scribble::scribbled;
use super::target::{scribble_ctrl, scribble_entry};
use crate::check::Check;
use crate::kit::abi::{self, Cancel, Param, ParamArg, Policy, Register, Wait};
use crate::kit::engine::Engine;
use crate::kit::mode::Mode;
use crate::kit::{Random, chances, rounds, sys};

tests! { "hostile":
    random_ioctls => "random arguments to all ioctls and to flexsc_wait(2), from several threads";
    everything_at_once => "scribbling, ioctls, registering and closing all at once";
}

/// Registrations have small numbers; now and then this gives an impossible one.
fn some_id(random: &mut Random) -> u32 {
    match random.below(16) {
        0 => random.word() as u32,
        _ => random.below(6) as u32,
    }
}

fn some_value(random: &mut Random) -> u64 {
    match random.below(4) {
        0 => random.word(),
        1 => random.word() as u32 as u64,
        _ => random.below(8),
    }
}

/// WAIT with any policy and with short times.
pub fn random_wait(fd: RawFd, id: u32, random: &mut Random) {
    let mut arg = Wait::new(id, Policy::None);
    arg.policy = random.below(Policy::Adaptive as u64 + 2) as u32;
    if random.below(4) == 0 {
        (arg.policy, arg.min) = (some_value(random) as u32, some_value(random) as u32);
    }
    if arg.policy == Policy::Some as u32 {
        arg.min = random.below(70) as u32;
        arg.linger_ns = random.below(2) * random.below(1_000_000);
    }
    arg.timeout_ns = match random.below(8) {
        0 => 1 + random.word() % 1_000_000,
        _ => sys::monotonic_ns() + random.below(1_000_000),
    };
    if random.below(32) == 0 {
        arg.size = some_value(random) as u32;
    }
    let _ = sys::ioctl_with(fd, abi::IOC_WAIT, &mut arg);
}

/// WAIT_FAST or flexsc_wait(2), which do the same. They have no time limit, so the arguments are
/// never those of a call that sleeps: ANY, SOME, ALL or ADAPTIVE for a small number.
pub fn random_wait_fast(fd: RawFd, id: u32, random: &mut Random) {
    let mut arg = abi::wait_fast_arg(id, Policy::None as u32, 0);
    match random.below(8) {
        0 => arg |= (random.below(251) + 5) << 32,
        1 => arg |= random.word() & 0xffff_0000,
        2 => arg |= random.word() << 40,
        _ => {}
    }
    if random.below(2) == 0 {
        let _ = sys::ioctl(fd, abi::IOC_WAIT_FAST, arg);
    } else {
        sys::syscall(abi::NR_WAIT, sys::args(&[fd as u64, arg]));
    }
}

/// SET or GET of any parameter, even of one that does not exist.
pub fn random_param(fd: RawFd, random: &mut Random) {
    let mut arg = ParamArg::new(Param::IdleNs, some_value(random));
    arg.param = random.below(12) as u32;
    if arg.param >= Param::PoolCpus as u32 {
        arg.pool = random.below(20) as u32;
    }
    // GET writes as many bytes as `len` says, which is at most this many.
    let mut cpus = vec![0u8; 8192];
    if [Param::PollCpus, Param::PolledCpus, Param::PoolCpus]
        .map(|p| p as u32)
        .contains(&arg.param)
    {
        cpus[0] = random.below(4) as u8;
        cpus[random.below(64) as usize] |= u8::from(random.below(16) == 0);
        (arg.len, arg.value) = (random.below(65) as u32, cpus.as_mut_ptr() as u64);
    }
    match arg.param {
        1 => arg.value %= 1_000_000,
        2 if random.below(4) != 0 => arg.value = 1 + random.below(64),
        3 => arg.value %= 2_000,
        6 if random.below(16) != 0 => arg.value = 1 + random.below(16),
        10 => arg.value = arg.value.wrapping_sub(4),
        _ => {}
    }
    match random.below(64) {
        0 => arg.size = some_value(random) as u32,
        1 => arg.pool = some_value(random) as u32,
        2 => arg.len = some_value(random) as u32,
        3 => arg.param = some_value(random) as u32,
        _ => {}
    }
    let request = if random.below(4) == 0 {
        abi::IOC_GET
    } else {
        abi::IOC_SET
    };
    let _ = sys::ioctl_with(fd, request, &mut arg);
}

/// CANCEL of any entry.
pub fn random_cancel(fd: RawFd, id: u32, random: &mut Random) {
    let mut arg = Cancel {
        size: size_of::<Cancel>() as u32,
        id,
        index: random.below(256) as u32,
        flags: 0,
    };
    match random.below(32) {
        0 => arg.index = some_value(random) as u32,
        1 => arg.flags = some_value(random) as u32,
        2 => arg.size = some_value(random) as u32,
        _ => {}
    }
    let _ = sys::ioctl_with(fd, abi::IOC_CANCEL, &mut arg);
}

/// One of the device's calls, with arguments that are sometimes sensible.
pub fn random_ioctl(fd: RawFd, random: &mut Random) {
    let id = some_id(random);
    match random.below(12) {
        0 => {
            let mut arg = Register::new(random.below(70) as u32);
            if random.below(4) == 0 {
                arg.flags = some_value(random) as u32;
            }
            let _ = sys::ioctl_with(fd, abi::IOC_REGISTER, &mut arg);
        }
        1 => drop(sys::ioctl(fd, abi::IOC_UNREGISTER, u64::from(id))),
        2 => random_wait(fd, id, random),
        3 => random_wait_fast(fd, id, random),
        4 => drop(sys::ioctl(fd, abi::IOC_KICK, u64::from(id))),
        5 | 6 => random_param(fd, random),
        7 | 8 => {
            let mut words = [0u64; 40];
            words[0] = random.below(320) | (random.below(20) << 32);
            let request = [abi::IOC_QUERY, abi::IOC_QUERY_POOL][random.below(2) as usize];
            let _ = sys::ioctl(fd, request, words.as_mut_ptr() as u64);
        }
        9 => random_cancel(fd, id, random),
        10 => drop(sys::ioctl(fd, random.word() as u32, random.word() << 48)),
        _ => {
            // The right magic and number, any direction and size, a bad address.
            let request = random.word() as u32 & 0xffff_000f | 0xf500;
            let _ = sys::ioctl(fd, request, random.word() << 48);
        }
    }
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
                        random_ioctl(engine.fd(), &mut random);
                    }
                });
            }
        });
        Ok(())
    })
}

fn everything_at_once() -> Check {
    let mut random = Random::new();
    for _ in 0..chances(2) {
        harmless(|| {
            for _ in 0..3 {
                let engine = Engine::open()?;
                let stop = AtomicBool::new(false);
                std::thread::scope(|scope| {
                    let (mut noise, engine, stop) = (random.split(), &engine, &stop);
                    scope.spawn(move || {
                        while !stop.load(Ordering::Relaxed) {
                            random_ioctl(engine.fd(), &mut noise);
                        }
                    });
                    let result = [Mode::Inline, Mode::Poller]
                        .into_iter()
                        .try_for_each(|mode| {
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
