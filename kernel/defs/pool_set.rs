// SPDX-License-Identifier: GPL-2.0

//! A set of an engine's pools, by their numbers.

use kernel::prelude::*;
use kernel::uapi;

/// The largest number of pools of an engine.
pub(crate) const POOLS: usize = uapi::FLEXSC_POOLS as usize;

static_assert!(POOLS <= u16::BITS as usize);

/// See the module's documentation.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct PoolSet(u16);

impl PoolSet {
    pub(crate) const EMPTY: Self = PoolSet(0);

    /// Returns the set of `pool` alone.
    pub(crate) fn of(pool: u8) -> Self {
        let mut set = Self::EMPTY;
        set.add(pool);
        set
    }

    /// The inverse of [`Self::to_raw`].
    pub(crate) fn from_raw(bits: u16) -> Self {
        PoolSet(bits)
    }

    /// Returns one bit for each pool.
    pub(crate) fn to_raw(self) -> u16 {
        self.0
    }

    pub(crate) fn has(self, pool: u8) -> bool {
        usize::from(pool) < POOLS && self.0 & (1 << pool) != 0
    }

    pub(crate) fn add(&mut self, pool: u8) {
        if usize::from(pool) < POOLS {
            self.0 |= 1 << pool;
        }
    }

    pub(crate) fn extend(&mut self, other: Self) {
        self.0 |= other.0;
    }

    /// Returns this set without `pool`.
    pub(crate) fn without(self, pool: u8) -> Self {
        PoolSet(self.0 & !Self::of(pool).0)
    }

    pub(crate) fn len(self) -> u32 {
        self.0.count_ones()
    }

    pub(crate) fn iter(self) -> impl Iterator<Item = u8> {
        (0..POOLS as u8).filter(move |pool| self.has(*pool))
    }
}
