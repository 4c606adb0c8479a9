// SPDX-License-Identifier: GPL-2.0

//! Iterates over the set bits of a word: entries of a page, or CPUs. Pure logic, shared
//! with the tests of the host.

/// Yields the number of each set bit, lowest first. At most 64 steps.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bits(pub(crate) u64);

impl Bits {
    /// Returns the bits for whose number `f` returns true.
    pub(crate) fn only(self, f: impl Fn(u32) -> bool) -> u64 {
        self.filter(|bit| f(*bit))
            .fold(0, |all, bit| all | (1 << bit))
    }
}

impl Iterator for Bits {
    type Item = u32;

    #[inline(always)]
    fn next(&mut self) -> Option<u32> {
        if self.0 == 0 {
            return None;
        }
        let bit = self.0.trailing_zeros();
        self.0 &= self.0.wrapping_sub(1);
        Some(bit)
    }
}
