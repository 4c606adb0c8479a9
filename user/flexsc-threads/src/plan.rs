// SPDX-License-Identifier: MIT OR Apache-2.0
//! Plans the replacement of each `syscall` instruction of an object.

use alloc::vec::Vec;
use core::fmt;
use core::ops::Range;

use iced_x86::Mnemonic;

use crate::elf::Bounds;
use crate::flow::{Flow, Flows, is_direct};
use crate::scan::{self, Zones};
use crate::window::{REACH, Window};

/// The farthest that a jump with an 8-bit displacement reaches.
const SHORT: u64 = 128;

/// An object's code and its known properties. All addresses are those in the process.
pub(crate) struct Object<'a> {
    /// The address of the executable segment.
    pub(crate) address: u64,
    pub(crate) code: &'a [u8],
    pub(crate) bounds: Option<Bounds<'a>>,
    /// Constant data, which may contain jump tables.
    pub(crate) constants: Vec<(u64, &'a [u8])>,
}

impl<'a> Object<'a> {
    pub(crate) fn end(&self) -> u64 {
        self.address + self.code.len() as u64
    }

    pub(crate) fn contains(&self, address: u64) -> bool {
        (self.address..self.end()).contains(&address)
    }

    pub(crate) fn code(&self, range: Range<u64>) -> Option<&'a [u8]> {
        let start = range.start.checked_sub(self.address)?;
        let end = range.end.checked_sub(self.address)?;
        self.code.get(start as usize..end as usize)
    }

    /// The constant data from `address` on.
    pub(crate) fn constants(&self, address: u64) -> Option<&'a [u8]> {
        self.constants
            .iter()
            .find_map(|(start, bytes)| bytes.get(address.checked_sub(*start)? as usize..))
    }
}

/// Why a site stays as it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reason {
    NoBounds,
    Undecodable,
    NoWindow,
    TooLong,
    TooFar,
    NoRoom,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Reason::NoBounds => "no table says where its function begins",
            Reason::Undecodable => "its function contains bytes that are no instruction",
            Reason::NoWindow => "too few bytes around it can be replaced",
            Reason::TooLong => "its instructions are too long for a stub",
            Reason::TooFar => "it is more than 2 GB away from the stubs",
            Reason::NoRoom => "there is no room for more stubs",
        })
    }
}

/// A `syscall` instruction.
#[derive(Clone, Debug)]
pub(crate) struct Site {
    pub(crate) address: u64,
    pub(crate) fate: Result<Window, Reason>,
}

/// The sites that a plan covers.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Which {
    /// The sites of `clone` and `clone3`.
    Clones,
    /// All sites.
    All,
    /// All sites, in code that has just been mapped.
    New,
}

/// Plans the sites of an object, in order. `is_ours` returns true if an address is in a stub:
/// sites that already have one are left out.
pub(crate) fn plan(object: &Object<'_>, which: Which, is_ours: impl Fn(u64) -> bool) -> Vec<Site> {
    let mut found = scan::syscalls(object.code);
    if which == Which::Clones {
        found.retain(|at| is_clone(object.code, *at));
    }
    // A window of one instruction needs no check of jumps from other functions, and the windows of
    // clones are such.
    let far = if which == Which::Clones || found.is_empty() {
        Vec::new()
    } else {
        let zones = Zones::new(object.code.len(), &found, REACH);
        scan::far_targets(object.code, &zones)
    };
    let mut planner = Planner {
        object,
        flows: Flows::default(),
        far,
        near: Vec::new(),
        free: object.address,
    };
    let sites = found.into_iter();
    sites
        .filter_map(|at| planner.site(object.address + at as u64, &is_ours))
        .collect()
}

/// Returns true if the instruction before the `syscall` at `at` loads the number of `clone` or
/// `clone3`.
fn is_clone(code: &[u8], at: usize) -> bool {
    const CLONE: &[u8] = &[0xb8, 56, 0, 0, 0];
    const CLONE3: &[u8] = &[0xb8, 0xb3, 1, 0, 0];
    let before = &code[..at];
    before.ends_with(CLONE) || before.ends_with(CLONE3)
}

struct Planner<'a> {
    object: &'a Object<'a>,
    flows: Flows,
    /// Offsets that jumps with 32-bit displacements may lead to, sorted.
    far: Vec<usize>,
    /// Addresses that jumps of this function and of its neighbours lead to.
    near: Vec<u64>,
    /// The end of the last window.
    free: u64,
}

impl Planner<'_> {
    /// The site at `address`; None if the bytes there are not a `syscall` instruction, or if it has
    /// a stub.
    fn site(&mut self, address: u64, is_ours: &impl Fn(u64) -> bool) -> Option<Site> {
        let plain = |reason| {
            Some(Site {
                address,
                fate: Err(reason),
            })
        };
        let found = |bounds: &Bounds<'_>| {
            let index = bounds.find(address)?;
            Some((index, bounds.range(index, self.object.end())?))
        };
        let Some((index, range)) = self.object.bounds.as_ref().and_then(found) else {
            return plain(Reason::NoBounds);
        };
        self.near.clear();
        // A short jump of the previous or the next function may lead here.
        if address - range.start < SHORT + REACH as u64 && index > 0 {
            self.add_near(index - 1);
        }
        if range.end - address < SHORT + REACH as u64 {
            self.add_near(index + 1);
        }
        let flow = self.flows.get(self.object, index, range);
        self.near.extend_from_slice(&flow.targets);
        let Some(at) = flow.find(address) else {
            return match flow.stopped {
                Some(stopped) if stopped <= address => plain(Reason::Undecodable),
                _ => None,
            };
        };
        if flow.instructions[at].mnemonic() != Mnemonic::Syscall {
            return None;
        }
        if has_stub(flow, at, is_ours) {
            self.free = address;
            return None;
        }
        let (near, far, start) = (&self.near, &self.far, self.object.address);
        let is_target = |address: u64| {
            near.contains(&address) || far.binary_search(&((address - start) as usize)).is_ok()
        };
        let window = Window::choose(&flow.instructions, at, self.free, is_target);
        if let Some(window) = &window {
            self.free = window.end().max(address);
        }
        Some(Site {
            address,
            fate: window.ok_or(Reason::NoWindow),
        })
    }

    fn add_near(&mut self, index: usize) {
        let bounds = self.object.bounds.as_ref();
        let range = bounds.and_then(|bounds| bounds.range(index, self.object.end()));
        if let Some(range) = range {
            let flow = self.flows.get(self.object, index, range);
            self.near.extend_from_slice(&flow.targets);
        }
    }
}

/// Returns true if there is a jump to a stub before the instruction at `index`.
fn has_stub(flow: &Flow, index: usize, is_ours: &impl Fn(u64) -> bool) -> bool {
    let before = index.checked_sub(1).map(|at| &flow.instructions[at]);
    before.is_some_and(|before| is_direct(before) && is_ours(before.near_branch_target()))
}
