// SPDX-License-Identifier: MIT OR Apache-2.0
//! The parts of an ELF file that the patcher needs: segments, and the beginnings of functions.

use alloc::vec::Vec;
use core::ops::Range;

/// The place of the program headers: words of the header of a 64-bit file.
const PHOFF: usize = 32;
const PHNUM: usize = 56;
const PHDR_LEN: usize = 56;
const PT_LOAD: u32 = 1;
const PT_DYNAMIC: u32 = 2;
const PT_PHDR: u32 = 6;
const PT_GNU_EH_FRAME: u32 = 0x6474_e550;
/// Permissions of a segment.
const EXECUTE: u32 = 1;
const WRITE: u32 = 2;

pub(crate) fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    let word = bytes.get(at..at.checked_add(4)?)?;
    Some(u32::from_le_bytes(word.try_into().ok()?))
}

pub(crate) fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    let word = bytes.get(at..at.checked_add(8)?)?;
    Some(u64::from_le_bytes(word.try_into().ok()?))
}

/// A part of a file that is mapped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Segment {
    pub(crate) address: u64,
    pub(crate) offset: u64,
    pub(crate) len: u64,
    flags: u32,
}

impl Segment {
    pub(crate) fn is_executable(&self) -> bool {
        self.flags & EXECUTE != 0
    }

    pub(crate) fn is_constant(&self) -> bool {
        self.flags & (EXECUTE | WRITE) == 0
    }
}

/// The program headers of a file, with addresses relative to its load address.
#[derive(Default)]
pub(crate) struct Headers {
    pub(crate) segments: Vec<Segment>,
    /// `.eh_frame_hdr`
    pub(crate) bounds: Option<Range<u64>>,
    pub(crate) dynamic: Option<Range<u64>>,
    /// The segment of the headers themselves.
    pub(crate) own: Option<u64>,
}

impl Headers {
    /// The headers of the file that begins with `start`.
    pub(crate) fn of_file(start: &[u8]) -> Option<Self> {
        const MAGIC_64_LITTLE: &[u8] = b"\x7fELF\x02\x01";
        const X86_64: u32 = 62;
        if !start.starts_with(MAGIC_64_LITTLE) || u32_at(start, 18)? & 0xffff != X86_64 {
            return None;
        }
        let offset = u64_at(start, PHOFF)? as usize;
        let count = (u32_at(start, PHNUM)? & 0xffff) as usize;
        let table = start.get(offset..offset.checked_add(count * PHDR_LEN)?)?;
        Some(Self::of_table(table))
    }

    /// The headers of a table.
    pub(crate) fn of_table(table: &[u8]) -> Self {
        let mut headers = Headers::default();
        for row in table.chunks_exact(PHDR_LEN) {
            headers.add(row);
        }
        headers
    }

    fn add(&mut self, row: &[u8]) -> Option<()> {
        let (kind, flags) = (u32_at(row, 0)?, u32_at(row, 4)?);
        let (offset, address) = (u64_at(row, 8)?, u64_at(row, 16)?);
        let (len, memory) = (u64_at(row, 32)?, u64_at(row, 40)?);
        match kind {
            PT_LOAD => self.segments.push(Segment {
                address,
                offset,
                len,
                flags,
            }),
            PT_DYNAMIC => self.dynamic = Some(address..address.checked_add(memory)?),
            PT_PHDR => self.own = Some(address),
            PT_GNU_EH_FRAME => self.bounds = Some(address..address.checked_add(len)?),
            _ => {}
        }
        Some(())
    }
}

/// The beginnings of functions: the sorted table of `.eh_frame_hdr`.
#[derive(Clone, Copy)]
pub(crate) struct Bounds<'a> {
    /// Pairs of 32-bit offsets: a function's beginning and its description.
    table: &'a [u8],
    /// The address to which the offsets are relative.
    base: u64,
}

impl<'a> Bounds<'a> {
    /// Reads a section that is loaded at `address`. Returns None if its format is not the one that
    /// linkers write.
    pub(crate) fn new(section: &'a [u8], address: u64) -> Option<Self> {
        /// Version 1; pointer: relative, 4 bytes; count: 4 bytes; table: relative to the section.
        const FORMAT: &[u8] = &[1, 0x1b, 0x03, 0x3b];
        let count = u32_at(section, 8)? as usize;
        let table = section.get(12..12 + count.checked_mul(8)?)?;
        section.starts_with(FORMAT).then_some(Bounds {
            table,
            base: address,
        })
    }

    fn start(&self, index: usize) -> Option<u64> {
        let offset = u32_at(self.table, index * 8)? as i32;
        Some(self.base.wrapping_add_signed(i64::from(offset)))
    }

    pub(crate) fn len(&self) -> usize {
        self.table.len() / 8
    }

    /// The index of the function that contains `address`, if any function begins before.
    pub(crate) fn find(&self, address: u64) -> Option<usize> {
        let (mut low, mut high) = (0, self.len());
        while low < high {
            let middle = low.midpoint(high);
            if self.start(middle)? <= address {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        low.checked_sub(1)
    }

    /// From the beginning of a function to that of the next one, at most to `end`.
    pub(crate) fn range(&self, index: usize, end: u64) -> Option<Range<u64>> {
        let next = self.start(index + 1).unwrap_or(end);
        Some(self.start(index)?..next.min(end))
    }
}
