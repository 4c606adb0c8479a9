// SPDX-License-Identifier: MIT OR Apache-2.0
//! Syscall pages in memory: first the control blocks, then the entries.
//!
//! The kernel and other threads may change any word at any time, so every access is atomic
//! and every value is read once. The orderings are those of [`doorbell`](crate::doorbell).
//! Accesses to entries are relaxed.

#![expect(unsafe_code, reason = "shared memory")]

use std::mem::offset_of;
use std::num::NonZeroUsize;
use std::os::fd::BorrowedFd;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering};

use nix::errno::Errno;

use super::abi::{
    FLEXSC_FREE, FLEXSC_PAGE_ENTRIES, FLEXSC_SUBMITTED, flexsc_ctrl, flexsc_entry, flexsc_register,
};
use super::map::Map;
use crate::memory::{Answer, Ctrl, Cursors, Memory, Place, Request};

const PER_PAGE: usize = FLEXSC_PAGE_ENTRIES as usize;
const ARGS: usize = offset_of!(flexsc_entry, args);
const RESULT: usize = offset_of!(flexsc_entry, result);
const REASON: usize = offset_of!(flexsc_entry, reason);
const STATUS: usize = offset_of!(flexsc_entry, status);
const _: () = assert!(size_of::<flexsc_entry>() == Place::SIZE);

/// The mapping of one registration.
///
/// # Invariants
///
/// `pages` control blocks are at the base of `map`, and 64 entries for each page at
/// `entries`. All are inside the mapping and aligned. `fill` and `reap` are pages of the
/// region.
#[derive(Debug)]
pub(crate) struct Region {
    map: Map,
    entries: NonNull<flexsc_entry>,
    pages: usize,
    /// The page that [`Memory::write`] writes to.
    fill: Window,
    /// The page that [`Memory::take`] reads from.
    reap: Window,
}

/// The addresses of one page of a region.
#[derive(Clone, Copy, Debug)]
struct Window {
    ctrl: NonNull<flexsc_ctrl>,
    entries: NonNull<flexsc_entry>,
}

impl Region {
    /// Maps the pages that REGISTER has made.
    pub(crate) fn map(fd: BorrowedFd<'_>, made: &flexsc_register) -> Result<Self, Errno> {
        let len = usize::try_from(made.mmap_len).map_err(|_| Errno::EOVERFLOW)?;
        let len = NonZeroUsize::new(len).ok_or(Errno::EINVAL)?;
        let offset = i64::try_from(made.mmap_offset).map_err(|_| Errno::EOVERFLOW)?;
        let map = Map::of_device(fd, len, offset)?;
        Region::new(map, made.ctrl_len as usize, made.pages as usize).ok_or(Errno::EPROTO)
    }

    /// Pages without a kernel, for tests.
    #[cfg(test)]
    pub(crate) fn anonymous(pages: usize) -> Self {
        let page = super::abi::FLEXSC_PAGE_SIZE as usize;
        let ctrl_len = (pages * size_of::<flexsc_ctrl>()).next_multiple_of(page);
        let len = NonZeroUsize::new(ctrl_len + pages * page).unwrap();
        Region::new(Map::anonymous(len).unwrap(), ctrl_len, pages).unwrap()
    }

    /// Checks that everything is inside the mapping.
    fn new(map: Map, ctrl_len: usize, pages: usize) -> Option<Self> {
        let page = size_of::<flexsc_entry>().checked_mul(PER_PAGE)?;
        let ctrl = size_of::<flexsc_ctrl>().checked_mul(pages)?;
        let end = ctrl_len.checked_add(page.checked_mul(pages)?)?;
        if pages == 0 || ctrl > ctrl_len || end > map.len() || ctrl_len % page != 0 {
            return None;
        }
        // SAFETY: `ctrl_len` lies within the mapping.
        let entries = unsafe { map.base().byte_add(ctrl_len) }.cast();
        let first = Window {
            ctrl: map.base().cast(),
            entries,
        };
        // INVARIANT: just checked; the base is aligned to a memory page.
        Some(Region {
            map,
            entries,
            pages,
            fill: first,
            reap: first,
        })
    }

    #[cfg(feature = "abi")]
    pub(crate) fn map_ref(&self) -> &Map {
        &self.map
    }

    pub(crate) fn ctrl_ptr(&self) -> NonNull<flexsc_ctrl> {
        self.map.base().cast()
    }

    #[cfg(feature = "abi")]
    pub(crate) fn entries_ptr(&self) -> NonNull<flexsc_entry> {
        self.entries
    }

    fn window(&self, page: usize) -> Window {
        assert!(page < self.pages);
        Window {
            // SAFETY: by the invariant there is a control block at that index.
            ctrl: unsafe { self.ctrl_ptr().add(page) },
            // SAFETY: by the invariant there are entries at that index.
            entries: unsafe { self.entries.add(page * PER_PAGE) },
        }
    }

    #[inline(always)]
    fn words(&self, page: Window) -> Ctrl<'_, AtomicU64, AtomicU32> {
        let ctrl = page.ctrl.as_ptr();
        let flags = ctrl.wrapping_byte_add(offset_of!(flexsc_ctrl, flags));
        Ctrl {
            posted: self.word(ctrl, offset_of!(flexsc_ctrl, posted)),
            reaped: self.word(ctrl, offset_of!(flexsc_ctrl, reaped)),
            taken: self.word(ctrl, offset_of!(flexsc_ctrl, taken)),
            done: self.word(ctrl, offset_of!(flexsc_ctrl, done)),
            // SAFETY: inside the control block, aligned, atomic on both
            // sides, and mapped as long as `self` is borrowed.
            flags: unsafe { AtomicU32::from_ptr(flags.cast()) },
        }
    }

    /// A word of a structure that lies inside the mapping.
    #[inline(always)]
    fn word<T>(&self, base: *mut T, offset: usize) -> &AtomicU64 {
        debug_assert!(offset % 8 == 0 && offset < size_of::<T>());
        let word = base.wrapping_byte_add(offset).cast();
        // SAFETY: all callers pass a control block or an entry of a window and the offset
        // of one of its words, so the word is inside the mapping and aligned. All accesses
        // are atomic, and the mapping exists as long as `self` is borrowed.
        unsafe { AtomicU64::from_ptr(word) }
    }

    #[inline(always)]
    fn byte(&self, entry: *mut flexsc_entry, offset: usize) -> &AtomicU8 {
        debug_assert!(offset < size_of::<flexsc_entry>());
        // SAFETY: as in `word`.
        unsafe { AtomicU8::from_ptr(entry.wrapping_byte_add(offset).cast()) }
    }

    #[inline(always)]
    fn entry(&self, page: Window, place: Place) -> *mut flexsc_entry {
        // SAFETY: by its invariant, a place is one of the 64 entries of a window.
        unsafe { page.entries.byte_add(place.bytes()) }.as_ptr()
    }

    /// The entry with this index, counted over all pages.
    fn at(&self, index: usize) -> *mut flexsc_entry {
        self.entry(self.window(index / PER_PAGE), Place::new(index as u32))
    }

    /// Returns the call that the program has written, unless the entry was changed.
    pub(crate) fn request(&self, index: usize) -> Request {
        let entry = self.at(index);
        let head = self.word(entry, 0).load(Ordering::Relaxed).to_ne_bytes();
        let arg = |arg| self.word(entry, ARGS + arg * size_of::<u64>());
        Request {
            nr: u16::from_ne_bytes([head[0], head[1]]),
            flags: head[2],
            pool: head[3],
            take: [head[4], head[5]],
            used: 6,
            args: std::array::from_fn(|nth| arg(nth).load(Ordering::Relaxed)),
        }
    }

    /// The answer in an entry.
    pub(crate) fn answer(&self, index: usize) -> Answer {
        let entry = self.at(index);
        Answer {
            result: self.word(entry, RESULT).load(Ordering::Relaxed) as i64,
            reason: self.byte(entry, REASON).load(Ordering::Relaxed),
        }
    }

    /// Simulates the kernel: finishes this entry.
    #[cfg(test)]
    pub(crate) fn finish(&self, index: usize, answer: Answer) {
        let entry = self.at(index);
        let result = answer.result as u64;
        self.word(entry, RESULT).store(result, Ordering::Relaxed);
        self.byte(entry, REASON)
            .store(answer.reason, Ordering::Relaxed);
        let done = self.ctrl(index / PER_PAGE).done;
        done.fetch_xor(1 << (index % PER_PAGE), Ordering::Release);
    }

    /// The status byte of an entry.
    pub(crate) fn status(&self, index: usize) -> u8 {
        self.byte(self.at(index), STATUS).load(Ordering::Relaxed)
    }
}

impl Memory for Region {
    type Word = AtomicU64;
    type Flags = AtomicU32;

    #[inline(always)]
    fn in_same_process(&self) -> bool {
        self.map.in_same_process()
    }

    #[inline(always)]
    fn cursors(&self) -> &Cursors {
        self.map.cursors()
    }

    fn pages(&self) -> usize {
        self.pages
    }

    fn set_fill_page(&mut self, page: usize) {
        self.fill = self.window(page);
    }

    fn set_reap_page(&mut self, page: usize) {
        self.reap = self.window(page);
    }

    fn ctrl(&self, page: usize) -> Ctrl<'_> {
        self.words(self.window(page))
    }

    #[inline(always)]
    fn fill_ctrl(&self) -> Ctrl<'_> {
        self.words(self.fill)
    }

    #[inline(always)]
    fn reap_ctrl(&self) -> Ctrl<'_> {
        self.words(self.reap)
    }

    /// The caller rings the page's doorbell later. Arguments that the call does not have
    /// are left unchanged.
    #[inline(always)]
    fn write(&self, place: Place, request: &Request) {
        let entry = self.entry(self.fill, place);
        // The first eight bytes in one store, in memory order.
        let [nr0, nr1] = request.nr.to_ne_bytes();
        let head = [
            nr0,
            nr1,
            request.flags,
            request.pool,
            request.take[0],
            request.take[1],
            0,
            FLEXSC_SUBMITTED as u8,
        ];
        self.word(entry, 0)
            .store(u64::from_ne_bytes(head), Ordering::Relaxed);
        for (arg, &value) in request.args.iter().enumerate() {
            if arg >= request.used as usize {
                break;
            }
            self.word(entry, ARGS + arg * size_of::<u64>())
                .store(value, Ordering::Relaxed);
        }
    }

    /// Marks the entry free, too.
    #[inline(always)]
    fn take(&self, place: Place) -> Answer {
        let entry = self.entry(self.reap, place);
        let answer = Answer {
            result: self.word(entry, RESULT).load(Ordering::Relaxed) as i64,
            reason: self.byte(entry, REASON).load(Ordering::Relaxed),
        };
        self.byte(entry, STATUS)
            .store(FLEXSC_FREE as u8, Ordering::Relaxed);
        answer
    }
}
