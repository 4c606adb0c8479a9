// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the kernel may block: signals that every thread blocks.
//!
//! The kernel chooses a thread that does not block a signal, or keeps the signal until there is one. It
//! knows one thread only, whose mask is therefore the intersection of all masks.

/// The masks of all threads. There are few different ones, so masks are counted, not signals.
pub(crate) struct Masks {
    /// Masks, and how many threads have each.
    rows: [(u64, u32); Masks::LEN],
    len: usize,
    /// Threads whose mask found no room: nothing is known about what they block.
    others: u32,
}

impl Masks {
    const LEN: usize = 64;

    pub(crate) const fn new() -> Self {
        Masks {
            rows: [(0, 0); Masks::LEN],
            len: 0,
            others: 0,
        }
    }

    pub(crate) fn clear(&mut self) {
        self.len = 0;
        self.others = 0;
    }

    pub(crate) fn add(&mut self, mask: u64) {
        let rows = &mut self.rows[..self.len];
        if let Some(row) = rows.iter_mut().find(|row| row.0 == mask) {
            row.1 += 1;
        } else if self.len < Masks::LEN {
            self.rows[self.len] = (mask, 1);
            self.len += 1;
        } else {
            self.others += 1;
        }
    }

    pub(crate) fn remove(&mut self, mask: u64) {
        let rows = &mut self.rows[..self.len];
        let Some(index) = rows.iter().position(|row| row.0 == mask) else {
            self.others = self.others.saturating_sub(1);
            return;
        };
        rows[index].1 -= 1;
        if rows[index].1 == 0 {
            self.len -= 1;
            self.rows[index] = self.rows[self.len];
        }
    }

    /// What all threads block. If that is not known: nothing, and signals wait in the library.
    pub(crate) fn all_block(&self) -> u64 {
        if self.others > 0 {
            return 0;
        }
        self.rows[..self.len]
            .iter()
            .fold(!0, |all, row| all & row.0)
    }
}
