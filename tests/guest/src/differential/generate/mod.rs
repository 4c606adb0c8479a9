// SPDX-License-Identifier: MIT OR Apache-2.0
//! Generates random sequences of valid calls: descriptors of the right kind, sensible structures,
//! names that mostly exist. Some calls fail all the same.

mod events;
mod files;
mod ids;
mod ipc;
mod memory;
mod names;
mod prologue;
mod sockets;
mod streams;
mod time;

use std::cell::RefCell;

use super::op::{Arg, Buf, Op, Place, REGS, Reg, Val};
use super::sandbox::{ROOT, Wants};
use crate::kit::Random;

/// The contents of each register.
pub mod reg {
    use super::Reg;

    pub const FILES: [Reg; 8] = [0, 1, 2, 3, 4, 5, 6, 7];
    pub const DIRS: [Reg; 3] = [8, 9, 10];
    /// Read end, write end.
    pub const PIPES: [(Reg, Reg); 3] = [(12, 13), (14, 15), (16, 17)];
    pub const PAIRS: [(Reg, Reg); 2] = [(18, 19), (20, 21)];
    pub const UDP: [Reg; 2] = [22, 23];
    /// A listening socket, a connected one, an accepted one.
    pub const TCP: [Reg; 3] = [24, 25, 26];
    pub const UNIX: [Reg; 3] = [27, 28, 29];
    pub const EVENTS: [Reg; 2] = [30, 31];
    pub const TIMERFD: Reg = 32;
    pub const SIGNALFD: Reg = 33;
    pub const INOTIFY: Reg = 34;
    pub const EPOLL: Reg = 35;
    pub const MEMFD: [Reg; 2] = [36, 37];
    pub const QUEUES: [Reg; 2] = [38, 39];
    pub const COPIES: [Reg; 2] = [40, 41];
    pub const PIDFD: Reg = 42;
    pub const RULESET: Reg = 43;
    pub const SECRET: Reg = 44;
    pub const SEMAPHORES: [Reg; 2] = [50, 51];
    pub const MESSAGES: [Reg; 2] = [52, 53];
    pub const SHARED: Reg = 54;
    pub const TIMERS: [Reg; 2] = [55, 56];
    pub const WATCHES: [Reg; 2] = [57, 58];
    /// Registers up to here hold descriptors.
    pub const DESCRIPTORS: u64 = 45;
}

/// The generator. Its fields are cells, so that code that chooses an argument may choose others
/// inside it.
pub struct Gen {
    random: RefCell<Random>,
    ops: RefCell<Vec<Op>>,
    /// Registers that hold something, if the calls that set them succeed.
    held: RefCell<[bool; REGS]>,
    wants: Wants,
}

/// A sequence of about `len` calls.
pub fn sequence(random: Random, len: usize, wants: Wants) -> Vec<Op> {
    let g = Gen {
        random: RefCell::new(random),
        ops: RefCell::default(),
        held: RefCell::new([false; REGS]),
        wants,
    };
    prologue::open_all(&g);
    while g.ops.borrow().len() < len {
        match g.below(100) {
            0..22 => files::any(&g),
            22..40 => names::any(&g),
            40..52 => streams::any(&g),
            52..64 => sockets::any(&g),
            64..75 => events::any(&g),
            75..83 => memory::any(&g),
            83..90 => ids::any(&g),
            90..95 => time::any(&g),
            _ => ipc::any(&g),
        }
    }
    g.ops.into_inner()
}

const NAMES: [&str; 16] = [
    "f0", "f1", "f2", "f3", "d0/f0", "d0/f1", "d1/f1", "d1/f2", "l0", "l1", "d0", "d1", "d0/d2",
    "d2", "no/such", "d0/../f0",
];

impl Gen {
    pub fn below(&self, limit: u64) -> u64 {
        self.random.borrow_mut().below(limit)
    }

    pub fn chance(&self, percent: u64) -> bool {
        self.below(100) < percent
    }

    pub fn pick<T: Copy>(&self, from: &[T]) -> T {
        from[self.below(from.len() as u64) as usize]
    }

    pub fn push(&self, op: Op) {
        for &(reg, place) in &op.saves {
            self.held.borrow_mut()[usize::from(reg)] = place != Place::Gone;
        }
        self.ops.borrow_mut().push(op);
    }

    /// A name of a file, directory or link.
    pub fn name(&self) -> Buf {
        let name = self.pick(&NAMES);
        if self.chance(15) {
            Buf::text(&format!("{ROOT}/{name}"))
        } else {
            Buf::text(name)
        }
    }

    /// A directory descriptor for the `*at` calls.
    pub fn at(&self) -> Val {
        if self.chance(70) {
            Val::Num(libc::AT_FDCWD as u64)
        } else {
            Val::Reg(self.pick(&reg::DIRS))
        }
    }

    /// An open file, nearly always.
    pub fn file(&self) -> Val {
        if self.chance(5) {
            let (from, to) = self.pick(&[reg::PIPES[0], reg::PAIRS[0]]);
            // No eventfd or the like: they share one inode, whose owner would stay changed.
            return Val::Reg(self.pick(&[from, to, reg::DIRS[0]]));
        }
        if self.chance(15) {
            return Val::Reg(self.pick(&reg::MEMFD));
        }
        Val::Reg(self.pick(&reg::FILES))
    }

    /// Any descriptor but the timer, since the result of poll depends on when the timer is due.
    pub fn any_fd(&self) -> Val {
        let reg = self.below(reg::DESCRIPTORS) as Reg;
        Val::Reg(if reg == reg::TIMERFD { 0 } else { reg })
    }

    /// Makes room for a descriptor.
    pub fn free(&self, reg: Reg) {
        if self.held.borrow()[usize::from(reg)] || self.chance(3) {
            self.push(op!(SYS_close, Val::Reg(reg)).ends(reg));
        }
    }

    /// Bytes to write.
    pub fn data(&self, most: u64) -> Buf {
        let (len, from) = (self.below(most) + 1, self.below(256));
        Buf::bytes((0..len).map(|at| (at * 3 + from) as u8).collect())
    }

    /// An offset or length in a file.
    pub fn place(&self) -> u64 {
        let near = self.below(12000);
        self.pick(&[0, near, near, near & !4095, 1 << 16, 1 << 21, u64::MAX])
    }

    pub fn mode(&self) -> u64 {
        self.pick(&[0o644, 0o600, 0o755, 0o4711, 0o777, 0, 0o444])
    }

    /// A time to set, long ago.
    pub fn times(&self, unit: u64) -> Arg {
        match self.below(5) {
            0 => Arg::from(0),
            1 => Buf::words(&[0, 0x3fff_ffff, 0, 0x3fff_fffe]).into(),
            _ => {
                let [a, b] = [0; 2].map(|_| self.below(1 << 30));
                let [c, d] = [0; 2].map(|_| self.below(unit));
                Buf::words(&[a, c, b, d]).into()
            }
        }
    }
}
