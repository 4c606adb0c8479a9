// SPDX-License-Identifier: GPL-2.0

//! The memory that a program and the kernel share: control blocks and syscall pages.
//!
//! All of it may change at any time. So each word is read once into a copy, and words that the
//! kernel wrote are never read back. The ordering of the doorbells is described at
//! "Ordering" in docs/abi.md; this file has the kernel's halves of the pairs.

use super::c;
use core::{
    marker::PhantomData,
    mem::size_of,
    ptr::NonNull,
    sync::atomic::{AtomicI64, AtomicU16, AtomicU32, AtomicU64, AtomicU8, Ordering},
};
use kernel::prelude::*;
use kernel::uapi::{
    flexsc_ctrl, flexsc_entry, flexsc_status_FLEXSC_BUSY, flexsc_status_FLEXSC_DONE,
    FLEXSC_ENTRY_ALWAYS, FLEXSC_ENTRY_ASYNC, FLEXSC_ENTRY_FLAGS, FLEXSC_ENTRY_LINK,
    FLEXSC_ENTRY_LOOP, FLEXSC_ENTRY_SUM, FLEXSC_MAX_PAGES, FLEXSC_PAGE_SIZE,
};

const PAGE: usize = FLEXSC_PAGE_SIZE as usize;

/// A flag that no program may set: CANCEL found the entry in flight.
const CANCEL_MARK: u8 = 1 << 7;

static_assert!(CANCEL_MARK as u32 & FLEXSC_ENTRY_FLAGS == 0);

static_assert!(size_of::<flexsc_entry>() == 64);
static_assert!(size_of::<flexsc_ctrl>() == 128);

/// A copy of what a program wrote into an entry.
#[derive(Clone, Copy)]
pub(crate) struct Entry {
    pub(crate) nr: u16,
    pub(crate) flags: u8,
    pub(crate) pool: u8,
    pub(crate) take: [u8; 2],
    pub(crate) args: [u64; 6],
}

impl Entry {
    /// Returns true if a program may set all flags of the entry.
    pub(crate) fn has_known_flags(&self) -> bool {
        u32::from(self.flags) & !FLEXSC_ENTRY_FLAGS == 0
    }

    /// Returns true if the only unknown flag is the one of [`EntryRef::mark_cancelled`].
    pub(crate) fn is_marked(&self) -> bool {
        u32::from(self.flags & !CANCEL_MARK) & !FLEXSC_ENTRY_FLAGS == 0
    }
}

/// A copy of the first eight bytes of an entry.
#[derive(Clone, Copy)]
pub(crate) struct Head([u8; 8]);

impl Head {
    pub(crate) fn nr(self) -> u16 {
        u16::from_ne_bytes([self.0[0], self.0[1]])
    }

    fn flags(self) -> u8 {
        self.0[2]
    }

    pub(crate) fn pool(self) -> u8 {
        self.0[3]
    }

    fn take(self) -> [u8; 2] {
        [self.0[4], self.0[5]]
    }

    /// The number, if it is below 1024 and the entry has no flags but `harmless` ones, no pool and
    /// takes no result: one comparison.
    #[inline(always)]
    fn plain_nr_but(self, harmless: u8) -> Option<u16> {
        const HIGH: [u8; 2] = (!0x3ffu16).to_ne_bytes();
        let special = [HIGH[0], HIGH[1], !harmless, 0xff, 0xff, 0xff, 0, 0];
        let is_plain = u64::from_ne_bytes(self.0) & u64::from_ne_bytes(special) == 0;
        is_plain.then_some(self.nr() & 0x3ff)
    }

    /// The number, if it is below 1024 and there is nothing special about the entry.
    #[inline(always)]
    pub(crate) fn plain_nr(self) -> Option<u16> {
        self.plain_nr_but(0)
    }

    /// As [`Self::plain_nr`], for a syscall thread: FLEXSC_ENTRY_ASYNC has sent the entry there.
    #[inline(always)]
    pub(crate) fn plain_nr_in_thread(self) -> Option<u16> {
        self.plain_nr_but(FLEXSC_ENTRY_ASYNC as u8)
    }

    /// Returns true if the program has sent the entry to syscall threads.
    pub(crate) fn is_async(self) -> bool {
        u32::from(self.flags()) & FLEXSC_ENTRY_ASYNC != 0
    }

    /// Returns true if the next entry is linked to this one.
    pub(crate) fn is_linked(self) -> bool {
        u32::from(self.flags()) & FLEXSC_ENTRY_LINK != 0
    }

    /// Returns true if the entry is part of a loop.
    pub(crate) fn is_looped(self) -> bool {
        u32::from(self.flags()) & FLEXSC_ENTRY_LOOP != 0
    }

    /// Returns true if the entry is executed even if an earlier one in its chain has failed.
    pub(crate) fn is_always(self) -> bool {
        u32::from(self.flags()) & FLEXSC_ENTRY_ALWAYS != 0
    }

    /// Returns true if [`EntryRef::mark_cancelled`] was called and the program has not rewritten
    /// the entry since.
    pub(crate) fn is_marked(self) -> bool {
        self.flags() & CANCEL_MARK != 0
    }

    /// Returns true if the entry is or may be part of a chain.
    pub(crate) fn is_chained(self) -> bool {
        const CHAIN: u32 = FLEXSC_ENTRY_LINK | FLEXSC_ENTRY_LOOP | FLEXSC_ENTRY_SUM;
        u32::from(self.flags()) & CHAIN != 0 || self.take() != [0; 2]
    }
}

/// Control blocks and syscall pages of one registration.
///
/// # Invariants
///
/// `base` points to `len` bytes from `flexsc_area_alloc`, page aligned: first `ctrl_len` bytes for
/// one control block a page, then `pages` syscall pages.
pub(crate) struct Area {
    base: NonNull<u8>,
    pages: u32,
    ctrl_len: usize,
    len: usize,
}

// SAFETY: The memory is not bound to a thread, and all access to it is by atomics.
unsafe impl Send for Area {}
// SAFETY: As above.
unsafe impl Sync for Area {}

impl Area {
    /// Returns the length of `pages` syscall pages and their control blocks, a multiple of the page
    /// size. Fails with `EINVAL` if no registration may have so many pages.
    pub(crate) fn size(pages: u32) -> Result<usize> {
        if pages == 0 || pages > FLEXSC_MAX_PAGES {
            return Err(EINVAL);
        }
        let pages = pages as usize;
        Ok((pages * size_of::<flexsc_ctrl>()).next_multiple_of(PAGE) + pages * PAGE)
    }

    /// Allocates zeroed memory for `pages` syscall pages.
    pub(crate) fn new(pages: u32) -> Result<Self> {
        let len = Self::size(pages)?;
        let ctrl_len = len.wrapping_sub(pages as usize * PAGE);
        // SAFETY: Allocation has no preconditions.
        let base = NonNull::new(unsafe { c::flexsc_area_alloc(len) }).ok_or(ENOMEM)?;
        // INVARIANT: Just allocated with this length.
        Ok(Area {
            base: base.cast(),
            pages,
            ctrl_len,
            len,
        })
    }

    pub(crate) fn pages(&self) -> u32 {
        self.pages
    }

    /// Length of the control blocks' part in bytes.
    pub(crate) fn ctrl_len(&self) -> usize {
        self.ctrl_len
    }

    /// Length of the whole in bytes, a multiple of the page size.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// The memory, for mapping it to user space.
    pub(super) fn as_ptr(&self) -> *mut core::ffi::c_void {
        self.base.as_ptr().cast()
    }

    /// The doorbell of `page`.
    #[inline(always)]
    pub(crate) fn doorbell(&self, page: u32) -> Doorbell<'_> {
        let page = core::cmp::min(page, self.pages.wrapping_sub(1)) as usize;
        // INVARIANT: See below.
        Doorbell {
            // SAFETY: `page < pages`, and by the invariant there is a control block for each.
            ctrl: unsafe { self.base.as_ptr().cast::<flexsc_ctrl>().add(page) },
            _area: PhantomData,
        }
    }

    /// The doorbells of all pages from `first` on.
    #[inline(always)]
    pub(crate) fn doorbells(&self, first: u32) -> impl Iterator<Item = Doorbell<'_>> {
        // SAFETY: By the invariant there is a control block for each page.
        let ctrl =
            |page: u32| unsafe { self.base.as_ptr().cast::<flexsc_ctrl>().add(page as usize) };
        // INVARIANT: See below.
        (first..self.pages).map(move |page| Doorbell {
            ctrl: ctrl(page),
            _area: PhantomData,
        })
    }

    /// The entries of `page`.
    #[inline(always)]
    pub(crate) fn page(&self, page: u32) -> PageRef<'_> {
        let page = core::cmp::min(page, self.pages.wrapping_sub(1)) as usize;
        // SAFETY: By the invariant there are `pages` pages from here on, at least one.
        let first = unsafe {
            self.base
                .as_ptr()
                .add(self.ctrl_len.wrapping_add(page * PAGE))
        };
        // INVARIANT: See above.
        PageRef {
            first: first.cast(),
            _area: PhantomData,
        }
    }

    /// Entry `index` of `page`.
    pub(crate) fn entry(&self, page: u32, index: u32) -> EntryRef<'_> {
        self.page(page).entry(index)
    }
}

/// The control block of one page.
///
/// # Invariants
///
/// `ctrl` is a valid, aligned pointer as long as the area lives.
pub(crate) struct Doorbell<'a> {
    ctrl: *mut flexsc_ctrl,
    _area: PhantomData<&'a Area>,
}

impl Doorbell<'_> {
    /// Returns the posted entries. Once its bit is seen toggled, an entry may be read.
    #[inline(always)]
    pub(crate) fn posted(&self) -> u64 {
        // SAFETY: By the invariant.
        let word = unsafe { AtomicU64::from_ptr(&raw mut (*self.ctrl).posted) };
        // ORDERING: Pairs with the program's release store after writing the entry.
        word.load(Ordering::Acquire)
    }

    /// Returns the entries whose results the program has taken.
    #[inline(always)]
    pub(crate) fn reaped(&self) -> u64 {
        // SAFETY: By the invariant.
        let word = unsafe { AtomicU64::from_ptr(&raw mut (*self.ctrl).reaped) };
        word.load(Ordering::Relaxed)
    }

    /// Publishes which entries were accepted.
    #[inline(always)]
    pub(crate) fn set_taken(&self, taken: u64) {
        // SAFETY: By the invariant.
        let word = unsafe { AtomicU64::from_ptr(&raw mut (*self.ctrl).taken) };
        word.store(taken, Ordering::Relaxed);
    }

    /// Publishes which entries have a result.
    #[inline(always)]
    pub(crate) fn set_done(&self, done: u64) {
        // SAFETY: By the invariant.
        let word = unsafe { AtomicU64::from_ptr(&raw mut (*self.ctrl).done) };
        // ORDERING: Pairs with the program's acquire load before reading the result.
        word.store(done, Ordering::Release);
    }

    /// Publishes `FLEXSC_CTRL_*`. A caller that then goes to sleep adds a full barrier and checks
    /// `posted` again.
    pub(crate) fn set_flags(&self, flags: u32) {
        // SAFETY: By the invariant.
        let word = unsafe { AtomicU32::from_ptr(&raw mut (*self.ctrl).flags) };
        word.store(flags, Ordering::Relaxed);
    }
}

/// The entries of one page, in shared memory.
///
/// # Invariants
///
/// `first` is a valid, aligned pointer to a syscall page as long as the area lives.
pub(crate) struct PageRef<'a> {
    first: *mut flexsc_entry,
    _area: PhantomData<&'a Area>,
}

impl<'a> PageRef<'a> {
    /// The entries, for the core.
    pub(super) fn as_ptr(&self) -> *mut flexsc_entry {
        self.first
    }

    /// Entry `index` of the page.
    #[inline(always)]
    pub(crate) fn entry(&self, index: u32) -> EntryRef<'a> {
        // INVARIANT: By the invariant the page has 64 entries.
        EntryRef {
            // SAFETY: As above.
            entry: unsafe { self.first.add((index % 64) as usize) },
            _area: PhantomData,
        }
    }
}

/// An entry in shared memory.
///
/// # Invariants
///
/// `entry` is a valid, aligned pointer as long as the area lives.
pub(crate) struct EntryRef<'a> {
    entry: *mut flexsc_entry,
    _area: PhantomData<&'a Area>,
}

impl EntryRef<'_> {
    /// The first eight bytes, read as one word.
    #[inline(always)]
    pub(crate) fn head(&self) -> Head {
        // SAFETY: By the invariant; the fields lie in the word in the order of the header.
        let head = unsafe { AtomicU64::from_ptr(self.entry.cast::<u64>()) };
        // ORDERING: See `mark_cancelled`.
        Head(head.load(Ordering::Acquire).to_ne_bytes())
    }

    /// The arguments, each read once.
    #[inline(always)]
    pub(crate) fn args(&self) -> [u64; 6] {
        let mut args = [0; 6];
        for (i, arg) in args.iter_mut().enumerate() {
            // SAFETY: By the invariant, and `i < 6`.
            let word = unsafe { AtomicU64::from_ptr(&raw mut (*self.entry).args[i]) };
            *arg = word.load(Ordering::Relaxed);
        }
        args
    }

    /// Reads the entry, each field once.
    pub(crate) fn copy(&self) -> Entry {
        let head = self.head();
        Entry {
            nr: head.nr(),
            flags: head.flags(),
            pool: head.pool(),
            take: head.take(),
            args: self.args(),
        }
    }

    /// Reads the entry, each field once, and marks it as busy.
    pub(crate) fn take(&self) -> Entry {
        let entry = self.copy();
        self.set_busy();
        entry
    }

    /// Makes the task that is about to execute the entry check for CANCEL: an entry with any flag
    /// is not a plain one. CANCEL was noted elsewhere before; only both together count: a
    /// program that withdraws its posting and rewrites the entry removes the mark.
    pub(crate) fn mark_cancelled(&self) {
        // ORDERING: Pairs with the acquire load in `head`: a task that sees the mark sees what was
        // noted.
        self.flags().fetch_or(CANCEL_MARK, Ordering::Release);
    }

    /// Undoes [`Self::mark_cancelled`] before the program gets the entry back.
    pub(crate) fn unmark_cancelled(&self) {
        // ORDERING: None needed: the done bit is stored afterwards with release.
        self.flags().fetch_and(!CANCEL_MARK, Ordering::Relaxed);
    }

    fn flags(&self) -> &AtomicU8 {
        // SAFETY: By the invariant.
        unsafe { AtomicU8::from_ptr(&raw mut (*self.entry).flags) }
    }

    /// Shows the program that the call is being executed.
    pub(crate) fn set_busy(&self) {
        // SAFETY: By the invariant.
        let byte = unsafe { AtomicU8::from_ptr(&raw mut (*self.entry).status) };
        byte.store(flexsc_status_FLEXSC_BUSY as u8, Ordering::Relaxed);
    }

    /// Returns the result as it is in memory. The program may have changed it, so use it only as an
    /// argument of that program's calls.
    pub(crate) fn result(&self) -> i64 {
        // SAFETY: By the invariant.
        unsafe { AtomicI64::from_ptr(&raw mut (*self.entry).result) }.load(Ordering::Relaxed)
    }

    /// Writes the result. The result counts once its bit is in [`Doorbell::set_done`].
    #[inline(always)]
    pub(crate) fn put_result(&self, result: i64, reason: u8) {
        let e = self.entry;
        // SAFETY: By the invariant.
        unsafe { AtomicI64::from_ptr(&raw mut (*e).result) }.store(result, Ordering::Relaxed);
        let last = u16::from_ne_bytes([reason, flexsc_status_FLEXSC_DONE as u8]);
        // SAFETY: By the invariant; `reason` is aligned to two bytes, and `status` follows it.
        let both = unsafe { AtomicU16::from_ptr((&raw mut (*e).reason).cast::<u16>()) };
        // ORDERING: A program that looks only at the status then finds the result too.
        both.store(last, Ordering::Release);
    }
}

impl Drop for Area {
    fn drop(&mut self) {
        // SAFETY: From `flexsc_area_alloc`; the kernel has no other pointer to it. Pages that are
        // still mapped to user space have references of their own.
        unsafe { c::flexsc_area_free(self.base.as_ptr().cast()) };
    }
}
