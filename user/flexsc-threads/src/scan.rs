// SPDX-License-Identifier: MIT OR Apache-2.0
//! Quick searches in machine code that need no decoding: they find too much, never too little.

use alloc::vec;
use alloc::vec::Vec;

use crate::elf::u32_at;
use crate::sys::vector::{far_jumps, pairs};

/// The bytes of the `syscall` instruction.
pub(crate) const SYSCALL: [u8; 2] = [0x0f, 0x05];

/// The offsets of the bytes of a `syscall` instruction, in order.
pub(crate) fn syscalls(code: &[u8]) -> Vec<usize> {
    let mut found = Vec::new();
    pairs(code, SYSCALL, |at| found.push(at));
    found
}

/// The surroundings of sites, one bit for each byte of the code.
pub(crate) struct Zones {
    bits: Vec<u64>,
}

impl Zones {
    /// The `reach` bytes before and behind each site.
    pub(crate) fn new(len: usize, sites: &[usize], reach: usize) -> Self {
        let mut zones = Zones {
            bits: vec![0; len / 64 + 1],
        };
        for site in sites {
            for at in site.saturating_sub(reach)..(site + reach).min(len) {
                zones.bits[at / 64] |= 1 << (at % 64);
            }
        }
        zones
    }

    pub(crate) fn contains(&self, at: usize) -> bool {
        self.bits
            .get(at / 64)
            .is_some_and(|word| (word >> (at % 64)) & 1 != 0)
    }
}

/// The offsets within `zones` to which an instruction in `code` may jump with a 32-bit
/// displacement.
///
/// Every byte counts as the last one of an opcode, so that no jump is missed, whatever function
/// contains it. Bytes that only look like a jump rarely hit a zone: the zones are a few kilobytes
/// out of 4 GB.
pub(crate) fn far_targets(code: &[u8], zones: &Zones) -> Vec<usize> {
    let mut targets = Vec::new();
    far_jumps(code, |opcode| {
        let Some(displacement) = u32_at(code, opcode + 1) else {
            return;
        };
        let Some(target) = (opcode + 5).checked_add_signed(displacement as i32 as isize) else {
            return;
        };
        if zones.contains(target) {
            targets.push(target);
        }
    });
    targets.sort_unstable();
    targets.dedup();
    targets
}
