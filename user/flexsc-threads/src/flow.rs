// SPDX-License-Identifier: MIT OR Apache-2.0
//! The instructions of a function, and its jump targets.

use alloc::vec::Vec;
use core::ops::Range;

use iced_x86::{Code, Decoder, DecoderOptions, Instruction, Mnemonic, OpKind};

use crate::elf::u32_at;
use crate::plan::Object;

/// The most entries of a jump table that are read.
const TABLE_LEN: usize = 1024;

/// A decoded function.
#[derive(Default)]
pub(crate) struct Flow {
    pub(crate) instructions: Vec<Instruction>,
    /// Addresses that its jumps lead to, in any order.
    pub(crate) targets: Vec<u64>,
    /// The address at which decoding stopped early, if it did.
    pub(crate) stopped: Option<u64>,
}

impl Flow {
    /// Decodes `range` of an object's code, and replaces the previous contents.
    fn decode(&mut self, object: &Object<'_>, range: Range<u64>) {
        self.instructions.clear();
        self.targets.clear();
        self.stopped = None;
        let Some(code) = object.code(range.clone()) else {
            self.stopped = Some(range.start);
            return;
        };
        let mut decoder = Decoder::with_ip(64, code, range.start, DecoderOptions::NONE);
        let mut is_indirect = false;
        while decoder.can_decode() {
            let instruction = decoder.decode();
            if instruction.is_invalid() {
                self.stopped = Some(instruction.ip());
                break;
            }
            if is_direct(&instruction) {
                self.targets.push(instruction.near_branch_target());
            }
            is_indirect |= instruction.code() == Code::Jmp_rm64;
            self.instructions.push(instruction);
        }
        if is_indirect {
            for at in 0..self.instructions.len() {
                let instruction = self.instructions[at];
                if instruction.mnemonic() == Mnemonic::Lea && instruction.is_ip_rel_memory_operand()
                {
                    self.add_table(object, &range, instruction.ip_rel_memory_address());
                }
            }
        }
    }

    /// Adds the targets in this function of a table of offsets that a switch jumps through, as
    /// compilers write it. Nothing says how long a table is, so the bytes behind it are read
    /// as well.
    fn add_table(&mut self, object: &Object<'_>, range: &Range<u64>, table: u64) {
        let Some(bytes) = object.constants(table) else {
            return;
        };
        for index in 0..TABLE_LEN {
            let Some(offset) = u32_at(bytes, index * 4) else {
                return;
            };
            let target = table.wrapping_add_signed(i64::from(offset as i32));
            if !object.contains(target) {
                return;
            }
            if range.contains(&target) {
                self.targets.push(target);
            }
        }
    }

    /// The index of the instruction at `address`.
    pub(crate) fn find(&self, address: u64) -> Option<usize> {
        self.instructions
            .binary_search_by_key(&address, Instruction::ip)
            .ok()
    }
}

/// The functions that were decoded last: sites are planned in order, so most functions are used
/// again.
#[derive(Default)]
pub(crate) struct Flows {
    slots: [(Option<usize>, Flow); 4],
    oldest: usize,
}

impl Flows {
    /// The function with this index in the object's bounds, whose code is `range`.
    pub(crate) fn get(&mut self, object: &Object<'_>, index: usize, range: Range<u64>) -> &Flow {
        let slot = self.slots.iter().position(|(at, _)| *at == Some(index));
        let slot = slot.unwrap_or_else(|| {
            let slot = self.oldest;
            self.oldest = (slot + 1) % self.slots.len();
            self.slots[slot].0 = Some(index);
            self.slots[slot].1.decode(object, range);
            slot
        });
        &self.slots[slot].1
    }
}

/// Returns true if the instruction jumps or calls by a displacement.
pub(crate) fn is_direct(instruction: &Instruction) -> bool {
    instruction.op_count() > 0 && instruction.op0_kind() == OpKind::NearBranch64
}
