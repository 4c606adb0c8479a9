// SPDX-License-Identifier: MIT OR Apache-2.0
//! The thread that posts: random entries, doorbells and waits.

use std::sync::atomic::Ordering;

use super::cell::Finding;
use super::program::Life;
use super::values::Values;
use crate::hostile::ioctls::{random_cancel, random_wait, random_wait_fast};
use crate::hostile::leaks::{first_kernel_address, first_not_zero, reserved_words};
use crate::hostile::target::Target;
use crate::kit::abi::{self, Ctrl, Entry, PAGE_ENTRIES};
use crate::kit::{Random, engine, memory, sys};

/// The most pages in one registration.
const MOST_PAGES: u64 = 3;

/// One registration of this thread.
struct Own {
    id: u32,
    target: Target,
    mapped: bool,
}

impl Own {
    fn new(life: &Life<'_>, random: &mut Random) -> Option<Own> {
        let (program, fd) = (life.program, life.fd);
        let registered = engine::register(fd, 1 + random.below(MOST_PAGES) as u32).ok()?;
        let prot = libc::PROT_READ | libc::PROT_WRITE;
        let len = registered.mmap_len as usize;
        let offset = registered.mmap_offset;
        let base = sys::mmap(len, prot, libc::MAP_SHARED, fd, offset).ok()?;
        let target = Target::new(base, &registered);
        // Otherwise other threads may write here, where they expect their buffers or pages.
        if program.values.manner.is_tidy() && !life.torn {
            if let Some((at, word)) = first_not_zero(target) {
                // UNREGISTER fails if the descriptor became that of another engine between REGISTER
                // and mmap: there the registration of that number belongs to another thread.
                if sys::ioctl(fd, abi::IOC_UNREGISTER, u64::from(registered.id)).is_ok() {
                    program.found(Finding::NotZero, [at as u64, word, 0]);
                }
            }
            program.report(|report| report.fresh += 1);
        }
        Some(Own {
            id: registered.id,
            target,
            mapped: true,
        })
    }

    fn entry(&self, slot: usize) -> &'static Entry {
        memory::at(
            (self.target.base + self.target.ctrl_len) as *const Entry,
            slot,
        )
    }

    fn ctrl(&self, page: usize) -> &'static Ctrl {
        self.target.ctrl_of(page)
    }

    /// Looks for words that the kernel must not have written, and unmaps the pages.
    fn end(&mut self, life: &Life<'_>) {
        let program = life.program;
        if !self.mapped {
            return;
        }
        self.mapped = false;
        if program.values.manner.is_tidy() && !life.torn {
            if let Some((at, word)) = first_kernel_address(self.target) {
                program.found(Finding::Address, [at as u64, word, 0]);
            }
            let reserved = reserved_words(self.target);
            if reserved != 0 {
                program.found(Finding::Reserved, [reserved, 0, 0]);
            }
            program.report(|report| report.scanned += 1);
        }
        plain!(SYS_munmap, self.target.base, self.target.len());
    }
}

fn stage(entry: &Entry, values: &Values, random: &mut Random) {
    let nr = values.number(random);
    let mut args = [0; 6];
    for arg in &mut args {
        *arg = values.argument(random);
    }
    values.soften(nr, &mut args);
    entry.nr.store(nr, Ordering::Relaxed);
    let flags = match random.below(16) {
        0..=7 => 0,
        8..=10 => abi::ENTRY_ASYNC,
        11 => random.word() as u8,
        12 => abi::ENTRY_LINK | abi::ENTRY_LOOP | random.word() as u8 & abi::ENTRY_SUM,
        13 => abi::ENTRY_LINK | random.word() as u8 & 0xf,
        _ => random.word() as u8 & 0xf,
    };
    entry.flags.store(flags, Ordering::Relaxed);
    let pool = match random.below(32) {
        0 => random.word() as u8,
        1..=3 => random.below(8) as u8,
        _ => 0,
    };
    entry.pool.store(pool, Ordering::Relaxed);
    for take in &entry.take {
        let value = match random.below(16) {
            0 => random.word() as u8,
            1..=3 => abi::take(random.below(6) as u8, 1 + random.below(4) as u8),
            _ => 0,
        };
        take.store(value, Ordering::Relaxed);
    }
    for (place, arg) in entry.args.iter().zip(args) {
        place.store(arg, Ordering::Relaxed);
    }
    entry.status.store(abi::SUBMITTED, Ordering::Relaxed);
}

/// Posts a batch: new entries in some of the slots, and some or all doorbell bits.
fn post(own: &Own, values: &Values, random: &mut Random) {
    for page in 0..own.target.pages {
        let fresh = if random.below(4) == 0 { 64 } else { 16 };
        let first = random.below(PAGE_ENTRIES as u64) as usize;
        for index in 0..fresh {
            let slot = page * PAGE_ENTRIES + (first + index) % PAGE_ENTRIES;
            stage(own.entry(slot), values, random);
        }
        let ctrl = own.ctrl(page);
        let bits = match random.below(8) {
            0 => random.word(),
            1 => 1 << random.below(64),
            _ => u64::MAX,
        };
        if random.below(4) != 0 {
            // Like a program that follows the rules: free entries only.
            let done = ctrl.done.load(Ordering::Acquire);
            ctrl.reaped.store(done, Ordering::Relaxed);
            let free = !(ctrl.posted.load(Ordering::Relaxed) ^ done);
            ctrl.posted.fetch_xor(bits & free, Ordering::Release);
        } else {
            ctrl.posted.fetch_xor(bits, Ordering::Release);
        }
    }
}

/// Lets the kernel work, in one of several ways.
fn drive(life: &Life<'_>, own: &Own, random: &mut Random) {
    match random.below(16) {
        0..=8 => random_wait(life.fd, own.id, random),
        9..=11 => random_wait_fast(life.fd, own.id, random),
        12 | 13 => drop(sys::ioctl(life.fd, abi::IOC_KICK, u64::from(own.id))),
        14 => random_cancel(life.fd, own.id, random),
        _ => {
            let mut poll = libc::pollfd {
                fd: life.fd,
                events: libc::POLLIN,
                revents: 0,
            };
            plain!(SYS_poll, std::ptr::from_mut(&mut poll), 1, 1);
        }
    }
}

/// The life of an owner.
pub fn own(life: &Life<'_>, random: &mut Random) {
    let program = life.program;
    let publish = |target: Option<Target>| {
        if let Ok(mut place) = life.target.lock() {
            *place = target;
        }
    };
    let mut own: Option<Own> = None;
    for batch in 0..life.batches {
        if life.over.load(Ordering::Relaxed) {
            break;
        }
        if random.below(48) == 0 {
            if let Some(mut old) = own.take() {
                if random.below(2) == 0 {
                    let _ = sys::ioctl(life.fd, abi::IOC_UNREGISTER, u64::from(old.id));
                }
                publish(None);
                old.end(life);
            }
        }
        let Some(mine) = &own else {
            own = Own::new(life, random);
            let Some(new) = &own else {
                return;
            };
            publish(Some(new.target));
            continue;
        };
        let values = program
            .values
            .with_pages(mine.target.base, mine.target.len());
        post(mine, &values, random);
        drive(life, mine, random);
        if random.below(256) == 0 {
            // The thread ends while other threads work for it, without unregistering.
            publish(None);
            return;
        }
        if batch % 8 == 0 {
            program.count(life.fd, false);
        }
    }
    // The scribblers release the pages first.
    publish(None);
    if let Some(mut old) = own {
        old.end(life);
    }
}
