// SPDX-License-Identifier: MIT OR Apache-2.0
//! Puts a plan into effect: writes the stubs, then the jumps to them.

use alloc::vec::Vec;
use core::ops::AddAssign;

use crate::plan::{self, Object, Reason, Which};
use crate::stub;
use crate::sys::entry::{self, Page, STUB_PAGES, STUBS_OF_PAGE};
use crate::sys::raw::Errno;
use crate::sys::text::Writable;

/// The numbers of patched and plain sites of an object.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Patched {
    pub(crate) sites: usize,
    pub(crate) stubs: usize,
}

impl AddAssign for Patched {
    fn add_assign(&mut self, other: Self) {
        self.sites += other.sites;
        self.stubs += other.stubs;
    }
}

/// Which pages of stubs belong to which code.
pub(crate) struct Stubs {
    owners: [Owner; STUB_PAGES],
    used: usize,
}

#[derive(Clone, Copy)]
struct Owner {
    code: u64,
    end: u64,
    /// The number of pages, at the first of them.
    pages: usize,
}

/// A jump that has not been written yet.
struct Jump {
    address: u64,
    bytes: [u8; 48],
    len: usize,
}

impl Stubs {
    pub(crate) const fn new() -> Self {
        const NOBODY: Owner = Owner {
            code: 0,
            end: 0,
            pages: 0,
        };
        Stubs {
            owners: [NOBODY; STUB_PAGES],
            used: 0,
        }
    }

    /// Patches the sites of an object. Calls `plain` for each site, relative to `base`, that stays
    /// as it is.
    pub(crate) fn patch(
        &mut self,
        object: Object<'_>,
        base: u64,
        which: Which,
        mut plain: impl FnMut(u64, Reason),
    ) -> Result<Patched, Errno> {
        let sites = plan::plan(&object, which, entry::is_stub);
        let mut patched = Patched {
            sites: sites.len(),
            stubs: 0,
        };
        let count = sites.iter().filter(|site| site.fate.is_ok()).count();
        let pages = count.div_ceil(STUBS_OF_PAGE);
        let page = if count == 0 {
            None
        } else {
            self.find(&object, pages, which)
        };
        let mut page = page.map(|index| Page::new(index, pages)).transpose()?;
        let mut jumps = Vec::with_capacity(count);
        for site in sites {
            let made = site.fate.and_then(|window| {
                let page = page.as_mut().ok_or(Reason::NoRoom)?;
                let address = page.address(jumps.len());
                let (code, start) = stub::stub(&object, &window, address, entry::entry())?;
                let (bytes, len) = stub::jump(&window, start)?;
                page.write(jumps.len(), &code);
                Ok(Jump {
                    address: window.start(),
                    bytes,
                    len,
                })
            });
            match made {
                Ok(jump) => jumps.push(jump),
                Err(reason) => plain(site.address.wrapping_sub(base), reason),
            }
        }
        let Some(page) = page else {
            return Ok(patched);
        };
        page.finish()?;
        if jumps.is_empty() {
            return Ok(patched);
        }
        // From here on nothing refers to the code.
        let (address, len) = (object.address, object.code.len());
        drop(object);
        let text = Writable::new(address, len)?;
        for jump in &jumps {
            text.write(jump.address, &jump.bytes[..jump.len]);
        }
        patched.stubs = jumps.len();
        Ok(patched)
    }

    /// Pages for the stubs of an object: pages of code that was at this address and is gone, or new
    /// ones.
    fn find(&mut self, object: &Object<'_>, pages: usize, which: Which) -> Option<usize> {
        let owner = |pages| Owner {
            code: object.address,
            end: object.end(),
            pages,
        };
        if which == Which::New {
            let is_gone = |owner: &Owner| {
                owner.code < object.end() && object.address < owner.end && owner.pages >= pages
            };
            if let Some(index) = self.owners.iter().position(is_gone) {
                self.owners[index] = owner(self.owners[index].pages);
                return Some(index);
            }
        }
        if self.used + pages > STUB_PAGES {
            return None;
        }
        let index = self.used;
        self.used += pages;
        self.owners[index] = owner(pages);
        Some(index)
    }
}
