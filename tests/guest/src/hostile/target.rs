// SPDX-License-Identifier: MIT OR Apache-2.0
//! Syscall pages as seen by threads that do not own them, and scribbling in them.

use std::sync::atomic::{AtomicU64, Ordering};

use super::leaks::mark;
use crate::kit::abi::{Ctrl, Entry, PAGE_SIZE, Register};
use crate::kit::{Random, memory};

/// Calls that do no harm, whatever their arguments.
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

/// The mapping as seen by a thread that does not own it.
#[derive(Clone, Copy)]
pub struct Target {
    pub base: usize,
    pub ctrl_len: usize,
    pub pages: usize,
}

impl Target {
    pub fn new(base: *mut u8, registered: &Register) -> Target {
        Target {
            base: base as usize,
            ctrl_len: registered.ctrl_len as usize,
            pages: registered.pages as usize,
        }
    }

    pub fn entry(self, random: &mut Random) -> &'static Entry {
        let slot = random.below(self.pages as u64 * 64) as usize;
        memory::at((self.base + self.ctrl_len) as *const Entry, slot)
    }

    pub fn ctrl(self, random: &mut Random) -> &'static Ctrl {
        self.ctrl_of(random.below(self.pages as u64) as usize)
    }

    /// The control block of a page.
    pub fn ctrl_of(self, page: usize) -> &'static Ctrl {
        memory::at(self.base as *const Ctrl, page)
    }

    /// Length of the mapping.
    pub fn len(self) -> usize {
        self.ctrl_len + self.pages * PAGE_SIZE
    }

    /// All words of the mapping, each with its offset in bytes.
    pub fn words(self) -> impl Iterator<Item = (usize, u64)> {
        (0..self.len() / 8).map(move |index| {
            let word: &AtomicU64 = memory::at(self.base as *const AtomicU64, index);
            (index * 8, word.load(Ordering::Relaxed))
        })
    }
}

pub fn scribble_entry(target: Target, random: &mut Random) {
    let entry = target.entry(random);
    let word = mark(random.word());
    match random.below(8) {
        0 | 1 => {
            let nr = HARMLESS[random.below(HARMLESS.len() as u64) as usize];
            entry.nr.store(nr as u16, Ordering::Relaxed);
        }
        2 => entry.flags.store(word as u8 & 0x1f, Ordering::Relaxed),
        3 => entry.pool.store(word as u8 & 31, Ordering::Relaxed),
        4 => entry.status.store(word as u8, Ordering::Relaxed),
        5 => entry.args[random.below(6) as usize].store(word, Ordering::Relaxed),
        6 => entry.result.store(word as i64, Ordering::Relaxed),
        _ => entry.take[(word >> 8) as usize & 1].store(word as u8, Ordering::Relaxed),
    }
}

pub fn scribble_ctrl(target: Target, random: &mut Random) {
    let ctrl = target.ctrl(random);
    let word = mark(random.word() & random.word());
    match random.below(6) {
        0 => drop(ctrl.posted.fetch_xor(word, Ordering::Release)),
        1 => drop(ctrl.reaped.fetch_xor(word, Ordering::Release)),
        2 => ctrl.taken.store(word, Ordering::Relaxed),
        3 => ctrl.done.store(word, Ordering::Relaxed),
        4 => ctrl.flags.store(word as u32, Ordering::Relaxed),
        _ => ctrl.user_reserved[0].store(word, Ordering::Relaxed),
    }
}
