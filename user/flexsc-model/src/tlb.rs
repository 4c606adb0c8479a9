// SPDX-License-Identifier: MIT OR Apache-2.0
//! Translation look-aside buffers: one for each of code and data, for small and for large pages,
//! and a second level that both share.

use crate::cache::Cache;
use crate::params::Sizes;

/// Where the kernel maps all memory, in pages of two megabytes. 64 TiB, without KASLR.
const DIRECT_MAP: std::ops::Range<u64> = 0xffff_8880_0000_0000..0xffff_c880_0000_0000;
/// Where the kernel's image is, in pages of two megabytes.
const IMAGE: std::ops::Range<u64> = 0xffff_ffff_8000_0000..0xffff_ffff_a000_0000;

/// Bits in the number of a byte in a page.
const SMALL: u32 = 12;
const LARGE: u32 = 21;

/// Marks the tag of a translation that survives a switch of page tables.
const GLOBAL: u64 = 1 << 62;

/// Returns true if the kernel owns this address.
#[must_use]
pub fn is_kernel(address: u64) -> bool {
    address >> 63 != 0
}

/// The result of a look-up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    /// In the first level.
    First,
    /// In the second level.
    Second,
    /// Nowhere: the page table is walked.
    Walk,
}

/// What is accessed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// An instruction.
    Code = 0,
    /// Anything else.
    Data = 1,
}

/// The TLBs of a processor.
#[derive(Clone, Debug)]
pub struct Tlbs {
    small: [Cache; 2],
    large: [Cache; 2],
    second: Cache,
    /// Large pages have entries in the second level.
    second_holds_large: bool,
    /// A switch of page tables leaves the entries of other address spaces in place.
    pcid: bool,
}

impl Tlbs {
    /// Makes empty ones.
    #[must_use]
    pub fn new(sizes: &Sizes) -> Tlbs {
        let make = |size: &crate::params::Entries| Cache::new(size.sets(), size.ways);
        Tlbs {
            small: [make(&sizes.itlb), make(&sizes.dtlb)],
            large: [make(&sizes.itlb_large), make(&sizes.dtlb_large)],
            second: make(&sizes.stlb),
            second_holds_large: sizes.stlb_holds_large.value,
            pcid: sizes.pcid.value,
        }
    }

    /// Looks up the translation of a virtual address to a physical one.
    ///
    /// The trace does not say which page table is in use. An entry is the pair of both pages
    /// instead: if another process has another page at the address, its entry is another one.
    pub fn look_up(&mut self, kind: Kind, virt: u64, phys: u64) -> Found {
        let large = DIRECT_MAP.contains(&virt) || IMAGE.contains(&virt);
        let bits = if large { LARGE } else { SMALL };
        let page = virt >> bits;
        // Mixes both pages; the top bits are taken.
        let mixed = (page ^ (phys >> bits).rotate_left(32)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let mut tag = (mixed >> 2) & (GLOBAL - 1);
        if is_kernel(virt) {
            tag |= GLOBAL;
        }
        let first = if large {
            &mut self.large
        } else {
            &mut self.small
        };
        if first[kind as usize].touch_tagged(page, tag) {
            return Found::First;
        }
        if large && !self.second_holds_large {
            return Found::Walk;
        }
        if self.second.touch_tagged(page, tag) {
            Found::Second
        } else {
            Found::Walk
        }
    }

    /// The processor switches to another page table.
    pub fn switch(&mut self) {
        if self.pcid {
            return;
        }
        let global = |tag: u64| tag & GLOBAL != 0;
        for tlb in self.small.iter_mut().chain(&mut self.large) {
            tlb.retain(global);
        }
        self.second.retain(global);
    }

    /// Fills all with entries of another program.
    pub fn prime(&mut self) {
        for tlb in self.small.iter_mut().chain(&mut self.large) {
            tlb.prime();
        }
        self.second.prime();
    }

    /// Returns how many primed entries of the first level have been replaced.
    #[must_use]
    pub fn evicted(&self, kind: Kind) -> u64 {
        self.small[kind as usize].evicted() + self.large[kind as usize].evicted()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::params::tests::sizes;

    const PAGE: u64 = 4096;

    fn tlbs(pcid: bool) -> Tlbs {
        let mut sizes = sizes();
        sizes.pcid.value = pcid;
        Tlbs::new(&sizes)
    }

    /// Looks up pages with the same physical address; returns how many were found where.
    fn found(tlbs: &mut Tlbs, pages: std::ops::Range<u64>) -> [usize; 3] {
        let mut counts = [0; 3];
        for page in pages {
            counts[tlbs.look_up(Kind::Data, page * PAGE, page * PAGE) as usize] += 1;
        }
        counts
    }

    #[test]
    fn the_second_level_catches_what_the_first_cannot_hold() {
        let mut tlbs = tlbs(false);
        assert_eq!(found(&mut tlbs, 0..64), [0, 0, 64]);
        assert_eq!(found(&mut tlbs, 0..64), [64, 0, 0]);
        assert_eq!(found(&mut tlbs, 0..128), [64, 0, 64]);
        // A loop over twice the entries of four ways: nothing is in the first level in time.
        assert_eq!(found(&mut tlbs, 0..128), [0, 128, 0]);
    }

    #[test]
    fn a_large_page_is_one_entry() {
        let mut tlbs = tlbs(false);
        let base = 0xffff_8880_0000_0000;
        assert_eq!(tlbs.look_up(Kind::Data, base, 0), Found::Walk);
        assert_eq!(
            tlbs.look_up(Kind::Data, base + 511 * PAGE, 511 * PAGE),
            Found::First
        );
        assert_eq!(
            tlbs.look_up(Kind::Data, base + 512 * PAGE, 512 * PAGE),
            Found::Walk
        );
        // Code has its own.
        assert_eq!(tlbs.look_up(Kind::Code, base, 0), Found::Walk);
    }

    #[test]
    fn a_switch_keeps_the_kernel_and_with_pcid_everything() {
        for pcid in [false, true] {
            let mut tlbs = tlbs(pcid);
            let kernel = 0xffff_c900_0000_0000;
            for virt in [PAGE, kernel] {
                assert_eq!(tlbs.look_up(Kind::Data, virt, PAGE), Found::Walk);
            }
            tlbs.switch();
            assert_eq!(tlbs.look_up(Kind::Data, kernel, PAGE), Found::First);
            let expected = if pcid { Found::First } else { Found::Walk };
            assert_eq!(tlbs.look_up(Kind::Data, PAGE, PAGE), expected);
        }
    }

    #[test]
    fn another_page_at_the_same_address_is_another_entry() {
        let mut tlbs = tlbs(true);
        assert_eq!(tlbs.look_up(Kind::Data, PAGE, PAGE), Found::Walk);
        tlbs.switch();
        assert_eq!(tlbs.look_up(Kind::Data, PAGE, 7 * PAGE), Found::Walk);
        tlbs.switch();
        assert_eq!(tlbs.look_up(Kind::Data, PAGE, PAGE), Found::First);
    }

    #[test]
    fn evicted_entries_of_the_first_level_are_counted() {
        let mut tlbs = tlbs(true);
        tlbs.prime();
        found(&mut tlbs, 0..5);
        tlbs.look_up(Kind::Data, 0xffff_8880_0000_0000, 0);
        assert_eq!((tlbs.evicted(Kind::Data), tlbs.evicted(Kind::Code)), (6, 0));
    }
}
