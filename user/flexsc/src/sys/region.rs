// SPDX-License-Identifier: MIT OR Apache-2.0
//! Syscall pages in memory: the control blocks, then the entries.
//!
//! Kernel and other threads may change any word at any time, so every access
//! is atomic and every value is read once. The orderings are those of
//! [`doorbell`](crate::doorbell); entries themselves are accessed relaxed.

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

const PER_PAGE: usize = FLEXSC_PAGE_ENTRIES as usize;
const ARGS: usize = offset_of!(flexsc_entry, args);
const STATUS: usize = offset_of!(flexsc_entry, status);

/// The mapping of one registration.
///
/// # Invariants
///
/// `pages` control blocks lie at the base of `map`, `count` entries (64 for each
/// page) at `entries`, all inside the mapping and aligned.
#[derive(Debug)]
pub(crate) struct Region {
    map: Map,
    entries: NonNull<flexsc_entry>,
    pages: usize,
    count: usize,
}

/// The words of one control block.
pub(crate) struct Ctrl<'a> {
    pub(crate) posted: &'a AtomicU64,
    pub(crate) reaped: &'a AtomicU64,
    pub(crate) taken: &'a AtomicU64,
    pub(crate) done: &'a AtomicU64,
    pub(crate) flags: &'a AtomicU32,
}

/// What the program writes into an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Request {
    pub(crate) nr: u16,
    pub(crate) flags: u8,
    pub(crate) pool: u8,
    pub(crate) take: [u8; 2],
    pub(crate) args: [u64; 6],
}

/// What the kernel wrote into an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) result: i64,
    pub(crate) reason: u8,
}

impl Region {
    /// Maps what REGISTER made.
    pub(crate) fn map(fd: BorrowedFd<'_>, made: &flexsc_register) -> Result<Self, Errno> {
        let len = usize::try_from(made.mmap_len).map_err(|_| Errno::EOVERFLOW)?;
        let len = NonZeroUsize::new(len).ok_or(Errno::EINVAL)?;
        let offset = i64::try_from(made.mmap_offset).map_err(|_| Errno::EOVERFLOW)?;
        let map = Map::of_device(fd, len, offset)?;
        Region::new(map, made.ctrl_len as usize, made.pages as usize).ok_or(Errno::EPROTO)
    }

    /// Pages without a kernel behind them.
    #[cfg(test)]
    pub(crate) fn anonymous(pages: usize) -> Self {
        let page = super::abi::FLEXSC_PAGE_SIZE as usize;
        let ctrl_len = (pages * size_of::<flexsc_ctrl>()).next_multiple_of(page);
        let len = NonZeroUsize::new(ctrl_len + pages * page).unwrap();
        Region::new(Map::anonymous(len).unwrap(), ctrl_len, pages).unwrap()
    }

    /// Checks that all of it lies inside the mapping.
    fn new(map: Map, ctrl_len: usize, pages: usize) -> Option<Self> {
        let page = size_of::<flexsc_entry>().checked_mul(PER_PAGE)?;
        let ctrl = size_of::<flexsc_ctrl>().checked_mul(pages)?;
        let end = ctrl_len.checked_add(page.checked_mul(pages)?)?;
        if pages == 0 || ctrl > ctrl_len || end > map.len() || ctrl_len % page != 0 {
            return None;
        }
        // SAFETY: `ctrl_len` lies within the mapping.
        let entries = unsafe { map.base().byte_add(ctrl_len) }.cast();
        // INVARIANT: just checked; the base is aligned to a memory page.
        Some(Region {
            map,
            entries,
            pages,
            count: pages * PER_PAGE,
        })
    }

    pub(crate) fn pages(&self) -> usize {
        self.pages
    }

    pub(crate) fn map_ref(&self) -> &Map {
        &self.map
    }

    pub(crate) fn ctrl_ptr(&self) -> NonNull<flexsc_ctrl> {
        self.map.base().cast()
    }

    pub(crate) fn entries_ptr(&self) -> NonNull<flexsc_entry> {
        self.entries
    }

    /// The control block of a page.
    #[inline]
    pub(crate) fn ctrl(&self, page: usize) -> Ctrl<'_> {
        assert!(page < self.pages);
        // SAFETY: by the invariant there is a control block at that index.
        let ctrl = unsafe { self.ctrl_ptr().add(page) }.as_ptr();
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
    #[inline]
    fn word<T>(&self, base: *mut T, offset: usize) -> &AtomicU64 {
        assert!(offset % 8 == 0 && offset < size_of::<T>());
        let word = base.wrapping_byte_add(offset).cast();
        // SAFETY: `base` comes from `ctrl` or `entry`, so that the word is in
        // the mapping and aligned; all accesses are atomic, and it is mapped
        // as long as `self` is borrowed.
        unsafe { AtomicU64::from_ptr(word) }
    }

    #[inline]
    fn byte(&self, entry: *mut flexsc_entry, offset: usize) -> &AtomicU8 {
        assert!(offset < size_of::<flexsc_entry>());
        // SAFETY: as in `word`.
        unsafe { AtomicU8::from_ptr(entry.wrapping_byte_add(offset).cast()) }
    }

    #[inline]
    fn entry(&self, index: usize) -> *mut flexsc_entry {
        assert!(index < self.count);
        // SAFETY: by the invariant there is an entry at that index.
        unsafe { self.entries.add(index) }.as_ptr()
    }

    /// Writes an entry; the caller rings its doorbell later.
    #[inline]
    pub(crate) fn write(&self, index: usize, request: &Request) {
        let entry = self.entry(index);
        // The first eight bytes at once, as they lie in memory.
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
            self.word(entry, ARGS + arg * size_of::<u64>())
                .store(value, Ordering::Relaxed);
        }
    }

    /// What the program wrote, as far as nobody changed it since.
    pub(crate) fn request(&self, index: usize) -> Request {
        let entry = self.entry(index);
        let head = self.word(entry, 0).load(Ordering::Relaxed).to_ne_bytes();
        Request {
            nr: u16::from_ne_bytes([head[0], head[1]]),
            flags: head[2],
            pool: head[3],
            take: [head[4], head[5]],
            args: std::array::from_fn(|arg| {
                self.word(entry, ARGS + arg * size_of::<u64>())
                    .load(Ordering::Relaxed)
            }),
        }
    }

    /// Reads the answer of a finished entry and marks the entry free.
    #[inline]
    pub(crate) fn take(&self, index: usize) -> Answer {
        let entry = self.entry(index);
        let result = self.word(entry, offset_of!(flexsc_entry, result));
        let reason = self.byte(entry, offset_of!(flexsc_entry, reason));
        let answer = Answer {
            result: result.load(Ordering::Relaxed) as i64,
            reason: reason.load(Ordering::Relaxed),
        };
        self.byte(entry, STATUS)
            .store(FLEXSC_FREE as u8, Ordering::Relaxed);
        answer
    }

    /// The status byte of an entry.
    pub(crate) fn status(&self, index: usize) -> u8 {
        self.byte(self.entry(index), STATUS).load(Ordering::Relaxed)
    }
}
