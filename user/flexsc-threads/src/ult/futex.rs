// SPDX-License-Identifier: MIT OR Apache-2.0
//! Private futexes: user-level threads that wait for a word, first in, first out.

use crate::ult::core::Ult;
use crate::ult::list::{Id, List};

const BUCKETS: usize = 256;

pub(crate) struct Futexes {
    buckets: [List; BUCKETS],
}

fn bucket(address: u64) -> usize {
    // Words are four bytes apart at least; locks of one structure differ in low bits only.
    ((address >> 2).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56) as usize
}

impl Futexes {
    pub(crate) const fn new() -> Self {
        Futexes {
            buckets: [List::EMPTY; BUCKETS],
        }
    }

    pub(crate) fn clear(&mut self) {
        self.buckets = [List::EMPTY; BUCKETS];
    }

    /// Adds a thread that is in no queue.
    pub(crate) fn add(&mut self, ults: &mut [Ult], id: Id, address: u64, bits: u32) {
        let ult = &mut ults[id.0 as usize];
        ult.futex = address;
        ult.futex_bits = bits;
        self.buckets[bucket(address)].push(ults, id);
    }

    /// Takes a thread out if it waits for a word.
    pub(crate) fn remove(&mut self, ults: &mut [Ult], id: Id) {
        let address = ults[id.0 as usize].futex;
        if address != 0 {
            self.buckets[bucket(address)].remove(ults, id);
            ults[id.0 as usize].futex = 0;
        }
    }

    /// Takes out the thread that has waited longest, with one of these bits.
    pub(crate) fn take(&mut self, ults: &mut [Ult], address: u64, bits: u32) -> Option<Id> {
        let list = &mut self.buckets[bucket(address)];
        let mut id = list.first();
        while !id.is_none() {
            let ult = &mut ults[id.0 as usize];
            if ult.futex == address && ult.futex_bits & bits != 0 {
                ult.futex = 0;
                list.remove(ults, id);
                return Some(id);
            }
            id = List::after(ults, id);
        }
        None
    }

    /// Returns true if a thread waits for a word.
    pub(crate) fn has(&self, ults: &[Ult], address: u64) -> bool {
        let mut id = self.buckets[bucket(address)].first();
        while !id.is_none() {
            if ults[id.0 as usize].futex == address {
                return true;
            }
            id = List::after(ults, id);
        }
        false
    }

    /// Lets up to `count` threads wait for another word. Returns how many.
    pub(crate) fn requeue(&mut self, ults: &mut [Ult], from: u64, to: u64, count: u64) -> u64 {
        if from == to {
            // They stay where they are.
            let mut id = self.buckets[bucket(from)].first();
            let mut here = 0;
            while !id.is_none() && here < count {
                here += u64::from(ults[id.0 as usize].futex == from);
                id = List::after(ults, id);
            }
            return here;
        }
        let mut moved = 0;
        while moved < count {
            let Some(id) = self.take(ults, from, !0) else {
                break;
            };
            let bits = ults[id.0 as usize].futex_bits;
            self.add(ults, id, to, bits);
            moved += 1;
        }
        moved
    }
}

/// The change and the comparison of FUTEX_WAKE_OP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct WakeOp(pub(crate) u32);

impl WakeOp {
    fn argument(self) -> u32 {
        const IS_SHIFT: u32 = 8 << 28;
        let argument = sign_extended(self.0 >> 12);
        if self.0 & IS_SHIFT != 0 {
            1 << (argument & 31)
        } else {
            argument
        }
    }

    /// The new value of the second word; None: no such operation.
    pub(crate) fn apply(self, old: u32) -> Option<u32> {
        let argument = self.argument();
        match (self.0 >> 28) & 7 {
            0 => Some(argument),
            1 => Some(old.wrapping_add(argument)),
            2 => Some(old | argument),
            3 => Some(old & !argument),
            4 => Some(old ^ argument),
            _ => None,
        }
    }

    /// Whether the waiters of the second word are woken; None: no such comparison.
    pub(crate) fn compare(self, old: u32) -> Option<bool> {
        let (old, with) = (old as i32, sign_extended(self.0) as i32);
        match (self.0 >> 24) & 15 {
            0 => Some(old == with),
            1 => Some(old != with),
            2 => Some(old < with),
            3 => Some(old <= with),
            4 => Some(old > with),
            5 => Some(old >= with),
            _ => None,
        }
    }
}

/// The lowest 12 bits, as a number with a sign.
fn sign_extended(bits: u32) -> u32 {
    ((bits << 20) as i32 >> 20) as u32
}
