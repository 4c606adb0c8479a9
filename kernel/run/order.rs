// SPDX-License-Identifier: GPL-2.0

//! The order in which the entries of a batch are started: FLEXSC_PARAM_ORDER.

use crate::{
    defs::{Bits, OrderKind},
    pages::Pages,
    policy::{self, Class},
};
use core::cell::Cell;
use kernel::uapi;

/// The order within one batch.
pub(super) struct Order {
    kind: OrderKind,
    /// The first entry by index.
    start: Cell<u32>,
    /// Entries that come before all others.
    group: Cell<u64>,
}

impl Order {
    pub(super) fn new(kind: OrderKind) -> Self {
        Order {
            kind,
            start: Cell::new(0),
            group: Cell::new(0),
        }
    }

    /// Prepares for the entries `bits` of `page`.
    pub(super) fn begin(&self, pages: &Pages, page: u32, bits: u64) {
        self.start.set(first(pages, page, bits));
        self.group.set(0);
        if self.kind == OrderKind::IoFirst {
            let io = Bits(bits).only(|index| goes_to_threads(pages, page, index));
            self.group.set(io & !members(pages, page, bits));
        }
    }

    /// Returns the entry of `todo`, which is not empty, to start now.
    pub(super) fn next(&self, pages: &Pages, page: u32, todo: u64) -> u32 {
        if self.kind != OrderKind::Posted {
            let group = self.group(pages, page, todo);
            if group != 0 {
                return group.trailing_zeros();
            }
        }
        let start = self.start.get();
        (todo.rotate_right(start).trailing_zeros() + start) % u64::BITS
    }

    #[inline(never)]
    fn group(&self, pages: &Pages, page: u32, todo: u64) -> u64 {
        let group = self.group.get() & todo;
        if group != 0 || self.kind == OrderKind::IoFirst {
            return group;
        }
        // The next entry by index, and all entries with its number.
        let start = self.start.get();
        let index = (todo.rotate_right(start).trailing_zeros() + start) % u64::BITS;
        let nr = pages.area().entry(page, index).head().nr();
        let same = Bits(todo).only(|index| pages.area().entry(page, index).head().nr() == nr);
        let group = (same & !members(pages, page, todo)) | (1 << index);
        self.group.set(group);
        group
    }
}

/// Returns the first of `bits` by index, wrapping around at the end of the page.
#[inline(always)]
pub(super) fn first(pages: &Pages, page: u32, bits: u64) -> u32 {
    const BOTH: u64 = 1 | (1 << (u64::BITS - 1));
    let start = pages.start(page);
    // The wrap-around can cut a chain only if the entries on both sides are in the batch.
    if bits.rotate_right(start) & BOTH == BOTH && start != 0 {
        return not_within_a_chain(pages, page, bits, start);
    }
    start
}

/// Moves `start` back to the first entry of its chain.
#[cold]
fn not_within_a_chain(pages: &Pages, page: u32, bits: u64, mut start: u32) -> u32 {
    while start != 0 && bits & (1 << (start - 1)) != 0 && linked(pages, page, start - 1) {
        start -= 1;
    }
    start
}

fn linked(pages: &Pages, page: u32, index: u32) -> bool {
    pages.area().entry(page, index).head().is_linked()
}

/// Returns the entries of `bits` that follow another entry in a chain.
fn members(pages: &Pages, page: u32, bits: u64) -> u64 {
    (Bits(bits).only(|index| linked(pages, page, index)) << 1) & bits
}

/// Returns true if the entry's number and flags say that it is for a syscall thread.
fn goes_to_threads(pages: &Pages, page: u32, index: u32) -> bool {
    let e = pages.area().entry(page, index).copy();
    let asynchronous = u32::from(e.flags) & uapi::FLEXSC_ENTRY_ASYNC != 0;
    asynchronous || e.pool != 0 || policy::classify(e.nr, &e.args) == Class::MayBlock
}
