// SPDX-License-Identifier: MIT OR Apache-2.0
//! Syscall pages as the page queue sees them, in any kind of memory.

use std::sync::atomic::{AtomicU32, AtomicU64};

use crate::doorbell::{Flags, Word};

/// Syscall pages in memory, with one fill page and one reap page: a
/// [`Region`](crate::sys::region::Region), or the loom model's replacement.
pub(crate) trait Memory {
    /// A doorbell word.
    type Word: Word;
    /// The flags of a control block.
    type Flags: Flags;

    /// The number of pages.
    fn pages(&self) -> usize;
    /// Makes this page the fill page, which [`Memory::write`] writes to.
    fn set_fill_page(&mut self, page: usize);
    /// Makes this page the reap page, which [`Memory::take`] reads from.
    fn set_reap_page(&mut self, page: usize);
    /// The control block of a page.
    fn ctrl(&self, page: usize) -> Ctrl<'_, Self::Word, Self::Flags>;
    /// The control block of the fill page.
    fn fill_ctrl(&self) -> Ctrl<'_, Self::Word, Self::Flags>;
    /// The control block of the reap page.
    fn reap_ctrl(&self) -> Ctrl<'_, Self::Word, Self::Flags>;
    /// Writes an entry of the fill page.
    fn write(&self, bit: u32, request: &Request);
    /// Reads the answer of an entry of the reap page.
    fn take(&self, bit: u32) -> Answer;
}

/// The words of one control block.
pub(crate) struct Ctrl<'a, W = AtomicU64, F = AtomicU32> {
    pub(crate) posted: &'a W,
    pub(crate) reaped: &'a W,
    pub(crate) taken: &'a W,
    pub(crate) done: &'a W,
    pub(crate) flags: &'a F,
}

/// The part of an entry that the program writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Request {
    pub(crate) nr: u16,
    pub(crate) flags: u8,
    pub(crate) pool: u8,
    pub(crate) take: [u8; 2],
    /// How many arguments the call has. The others are not written.
    pub(crate) used: u8,
    pub(crate) args: [u64; 6],
}

/// The part of an entry that the kernel has written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) result: i64,
    pub(crate) reason: u8,
}
