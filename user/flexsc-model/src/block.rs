// SPDX-License-Identifier: MIT OR Apache-2.0
//! A straight run of instructions, of which only the last can pass on control.

use crate::counts::{Count, Counts};
use crate::decode::{Decoded, Flow, Special, decode};
use crate::tlb::is_kernel;

/// Bits in the number of a byte in a cache line.
pub const LINE: u32 = 6;

/// An instruction as the emulator translates it.
#[derive(Clone, Debug)]
pub struct Instruction {
    /// The virtual address.
    pub virt: u64,
    /// A number for the physical address: equal for equal bytes of memory, in the same order within a
    /// page.
    pub phys: u64,
    /// Its bytes.
    pub bytes: Vec<u8>,
}

/// A straight run of instructions. It ends before a marker, or where the emulator ends it.
#[derive(Clone, Debug)]
pub struct Block {
    /// The virtual address of the first instruction.
    pub start: u64,
    /// The virtual address of the last instruction.
    pub last: u64,
    /// The virtual address after the last instruction.
    pub end: u64,
    /// How the last instruction passes on control.
    pub flow: Flow,
    /// The last instruction is a string instruction, which the emulator executes step by step, each
    /// time as a block of its own.
    pub string: bool,
    /// The cache lines: virtual and physical addresses of the first byte used in each.
    pub lines: Vec<(u64, u64)>,
    /// What executing the block adds to the counts.
    pub counts: Counts,
}

impl Block {
    /// Makes a block. Returns `None` if there is no instruction.
    #[must_use]
    pub fn new(instructions: &[Instruction]) -> Option<Block> {
        let (first, last) = (instructions.first()?, instructions.last()?);
        let mut counts = Counts::default();
        let mut lines: Vec<(u64, u64)> = Vec::new();
        for instruction in instructions {
            counts.add(Count::Instructions, 1);
            count(&decode(&instruction.bytes), &mut counts);
            let Instruction { virt, phys, bytes } = instruction;
            let end = virt + bytes.len().max(1) as u64 - 1;
            // An instruction can reach into the next line. If that is in the next page, its physical
            // address is not known; the block after this one will touch it.
            for (virt, phys) in [(*virt, *phys), (end, phys + (end - virt))] {
                let same = |(other, _): &(u64, u64)| other >> LINE == virt >> LINE;
                let known = virt == instruction.virt || virt >> 12 == instruction.virt >> 12;
                if known && !lines.last().is_some_and(same) {
                    lines.push((virt, phys));
                }
            }
        }
        let decoded = decode(&last.bytes);
        Some(Block {
            start: first.virt,
            last: last.virt,
            end: last.virt + last.bytes.len() as u64,
            flow: decoded.flow,
            string: decoded.special == Special::String,
            lines,
            counts,
        })
    }

    /// Returns true if the kernel executes the block.
    #[must_use]
    pub fn is_kernel(&self) -> bool {
        is_kernel(self.start)
    }
}

fn count(decoded: &Decoded, counts: &mut Counts) {
    let flow = match decoded.flow {
        Flow::Conditional => Some(Count::Conditionals),
        Flow::IndirectCall | Flow::IndirectJump => Some(Count::Indirects),
        Flow::Return => Some(Count::Returns),
        Flow::Sysret => Some(Count::Sysrets),
        Flow::Iret => Some(Count::Irets),
        // The tracer counts `syscall` for the kernel.
        Flow::Syscall | Flow::Next | Flow::Jump | Flow::Call => None,
    };
    let special = match decoded.special {
        Special::None => None,
        Special::Locked => Some(Count::Locked),
        Special::String => Some(Count::Strings),
        Special::WriteCr3 => Some(Count::Cr3Writes),
        Special::WriteMsr => Some(Count::MsrWrites),
        Special::Serialise => Some(Count::Serialising),
    };
    for found in flow.into_iter().chain(special) {
        counts.add(found, 1);
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A block of these instructions, one after the other.
    pub(crate) fn block(start: u64, instructions: &[&[u8]]) -> Block {
        let mut virt = start;
        let mut all = Vec::new();
        for bytes in instructions {
            all.push(Instruction {
                virt,
                phys: virt & 0xffff_ffff,
                bytes: bytes.to_vec(),
            });
            virt += bytes.len() as u64;
        }
        Block::new(&all).expect("there is an instruction")
    }

    #[test]
    fn a_block_knows_its_lines_and_its_end() {
        // Bytes 60 to 69, then a return.
        let block = block(60, &[&[0x90; 10], &[0xf0, 0x90], &[0xc3]]);
        assert_eq!((block.start, block.last, block.end), (60, 72, 73));
        assert_eq!(block.lines, [(60, 60), (69, 69)]);
        assert_eq!(block.flow, Flow::Return);
        assert_eq!(block.counts.get(Count::Instructions), 3);
        assert_eq!(block.counts.get(Count::Locked), 1);
        assert_eq!(block.counts.get(Count::Returns), 1);
        assert!(!block.is_kernel());
        assert!(Block::new(&[]).is_none());
    }

    #[test]
    fn the_next_page_is_left_to_the_next_block() {
        assert_eq!(block(4094, &[&[0x90; 4]]).lines, [(4094, 4094)]);
    }
}
