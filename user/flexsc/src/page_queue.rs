// SPDX-License-Identifier: MIT OR Apache-2.0
//! The pages of one registration as one queue: finds the entry for the next call and the
//! next result. Knows the memory, not the device.

use std::sync::atomic::Ordering::Relaxed;

use crate::call::{Call, Slot};
use crate::chain::{Chain, Slots};
use crate::doorbell::{self, ENTRIES, Poster, Reaper, Word};
use crate::memory::{Answer, Cursors, Memory, Place};
use crate::sys::abi::FLEXSC_MAX_PAGES;
use crate::sys::region::Region;

/// One bit for each page.
type PageSet = u64;

const MAX: usize = FLEXSC_MAX_PAGES as usize;
const _: () = assert!(MAX == PageSet::BITS as usize);

/// # Invariants
///
/// `fill` and `reap` have the fill page and the reap page of the region, and the region's
/// cursors belong to them. The copies of their halves in `rest` are stale. Only the fill page
/// has a run, and only the reap page has results that are known and not taken. For pages
/// other than the reap page, the kernel knows of all results taken.
#[derive(Debug)]
pub(crate) struct PageQueue<M = Region> {
    /// The fill page.
    fill: Current<Poster>,
    /// The reap page.
    reap: Current<Reaper>,
    region: M,
    /// Pages with an entry that was posted but not reaped. May include others.
    active: PageSet,
    /// Pages other than the fill page that have a staged entry.
    touched: PageSet,
    /// The last stored `reaped` of the reap page.
    last_reaped: u64,
    /// As many as there can be pages, so that every index is within bounds.
    rest: Box<[Halves; MAX]>,
}

/// The page that is being filled or reaped.
#[derive(Debug)]
struct Current<H> {
    half: H,
    page: usize,
    /// `page` as a set.
    set: PageSet,
    /// Index of the page's first entry.
    base: u16,
}

impl<H> Current<H> {
    fn new(page: usize, half: H) -> Self {
        Current {
            half,
            page,
            set: only(page),
            base: Slot::base(page),
        }
    }
}

/// The halves of a page that is neither the fill page nor the reap page.
#[derive(Clone, Copy, Debug)]
struct Halves {
    poster: Poster,
    reaper: Reaper,
}

/// A set of one page.
const fn only(page: usize) -> PageSet {
    (1 as PageSet).wrapping_shl(page as u32)
}

/// The pages of a set in ascending order.
fn each(mut set: PageSet) -> impl Iterator<Item = usize> {
    std::iter::from_fn(move || {
        let page = (set != 0).then(|| set.trailing_zeros() as usize)?;
        set &= set - 1;
        Some(page)
    })
}

/// The pages of a set in ascending order, starting after `page` and ending with `page`
/// itself.
fn each_after(page: usize, set: PageSet) -> impl Iterator<Item = usize> {
    let later = (PageSet::MAX << page) << 1;
    each(set & later).chain(each(set & !later))
}

impl<M: Memory> PageQueue<M> {
    /// Makes a queue of fresh pages.
    pub(crate) fn new(region: M) -> Self {
        let pages = region.pages();
        assert!((1..=MAX).contains(&pages));
        let fresh = Halves {
            poster: Poster::new(0),
            reaper: Reaper::new(0),
        };
        PageQueue {
            fill: Current::new(0, fresh.poster),
            reap: Current::new(0, fresh.reaper),
            region,
            active: 0,
            touched: 0,
            last_reaped: 0,
            rest: Box::new([fresh; MAX]),
        }
    }

    pub(crate) fn capacity(&self) -> usize {
        self.region.pages() * ENTRIES as usize
    }

    pub(crate) fn in_flight(&self) -> usize {
        let here = |page| doorbell::in_flight(self.next(page), self.reaped(page));
        each(self.active | self.touched | self.fill.set)
            .map(|page| here(page).count_ones() as usize)
            .sum()
    }

    fn poster(&self, page: usize) -> &Poster {
        if page == self.fill.page {
            &self.fill.half
        } else {
            &self.rest[page].poster
        }
    }

    /// The value of `posted` as of the next ring.
    fn next(&self, page: usize) -> u64 {
        self.poster(page).next(self.unstaged(page))
    }

    fn unstaged(&self, page: usize) -> u64 {
        if page == self.fill.page {
            self.cursors().unstaged()
        } else {
            0
        }
    }

    fn reaped(&self, page: usize) -> u64 {
        self.reaper(page).reaped(self.ready(page))
    }

    fn ready(&self, page: usize) -> u64 {
        if page == self.reap.page {
            self.cursors().ready.get()
        } else {
            0
        }
    }

    #[inline(always)]
    fn cursors(&self) -> &Cursors {
        self.region.cursors()
    }

    fn reaper(&self, page: usize) -> &Reaper {
        if page == self.reap.page {
            &self.reap.half
        } else {
            &self.rest[page].reaper
        }
    }

    /// Writes the call into a free entry. Returns `None` if there is none, or in a forked
    /// child.
    #[inline(always)]
    pub(crate) fn stage(&mut self, call: &Call) -> Option<Slot> {
        let place = match self.cursors().stage() {
            Some(place) => place,
            None => self.stage_anew()?,
        };
        self.region.write(place, call.request());
        Some(Slot::new(self.fill.base, place.bit()))
    }

    /// Starts the next run of the round, or another round on the fill page, or goes to
    /// another page.
    #[cold]
    #[inline(never)]
    fn stage_anew(&mut self) -> Option<Place> {
        if !self.region.in_same_process() {
            return None;
        }
        let run = match self.fill.half.take_run() {
            Some(run) => run,
            None => self.refill(Poster::take_run)?,
        };
        self.cursors().start(run);
        self.cursors().stage()
    }

    /// Writes the calls of a chain into adjacent entries of one page.
    pub(crate) fn stage_chain(&mut self, chain: &Chain) -> Option<Slots> {
        let len = chain.len() as u32;
        let unstaged = self.cursors().stop();
        self.fill.half.put_back(unstaged);
        let first = match self.fill.half.stage_run(len) {
            Some(first) => first,
            None => self.refill(|fill| fill.stage_run(len))?,
        };
        for (bit, call) in (first..).zip(chain.calls()) {
            self.region.write(Place::new(bit), call.request());
        }
        Some(Slots::new(Slot::new(self.fill.base, first), chain.len()))
    }

    /// Starts another round on a page, preferably the fill page, until `stage` succeeds.
    /// There must be no run.
    fn refill<T>(&mut self, stage: impl Fn(&mut Poster) -> Option<T>) -> Option<T> {
        let all = PageSet::MAX >> (MAX - self.region.pages());
        let here = self.fill.page;
        for page in std::iter::once(here).chain(each_after(here, all & !self.fill.set)) {
            let reaped = self.reaped(page);
            if doorbell::free(self.next(page), reaped) == 0 {
                continue;
            }
            self.set_fill_page(page);
            if page == self.reap.page {
                self.publish_reaped();
            }
            self.fill.half.refill(reaped);
            let staged = stage(&mut self.fill.half);
            if staged.is_some() {
                return staged;
            }
        }
        None
    }

    fn set_fill_page(&mut self, page: usize) {
        if page == self.fill.page {
            return;
        }
        self.rest[self.fill.page].poster = self.fill.half;
        if self.fill.half.staged(0) != 0 {
            self.touched |= self.fill.set;
        }
        self.fill = Current::new(page, self.rest[page].poster);
        self.region.set_fill_page(page);
    }

    /// All known results must be taken.
    fn set_reap_page(&mut self, page: usize) {
        self.publish_reaped();
        self.rest[self.reap.page].reaper = self.reap.half;
        self.reap = Current::new(page, self.rest[page].reaper);
        self.last_reaped = self.reap.half.reaped(0);
        self.region.set_reap_page(page);
    }

    /// Posts staged calls, with one store for each page touched. Returns true if there
    /// were any.
    #[inline(always)]
    pub(crate) fn ring(&mut self) -> bool {
        let unstaged = self.cursors().unstaged();
        let posted = self.region.fill_ctrl().posted;
        let posted_some = self.fill.half.ring(posted, unstaged);
        self.active |= self.fill.set;
        if self.touched == 0 {
            return posted_some;
        }
        self.post_others();
        true
    }

    #[cold]
    #[inline(never)]
    fn post_others(&mut self) {
        for page in each(self.touched & !self.fill.set) {
            let ctrl = self.region.ctrl(page);
            self.rest[page].poster.ring(ctrl.posted, 0);
        }
        self.active |= self.touched;
        self.touched = 0;
    }

    /// Takes the next result. Returns `None` if there is none, or in a forked child.
    #[inline(always)]
    pub(crate) fn poll(&mut self) -> Option<(Slot, Answer)> {
        if let Some(done) = self.poll_seen() {
            return Some(done);
        }
        if !self.region.in_same_process() {
            return None;
        }
        let mut set = self.active;
        if !self.look_on(&mut set) {
            return None;
        }
        self.poll_seen()
    }

    /// Takes the next result that the last look has found. There is none in a forked child.
    #[inline(always)]
    pub(crate) fn poll_seen(&mut self) -> Option<(Slot, Answer)> {
        let ready = &self.cursors().ready;
        let (bit, rest) = doorbell::take_lowest(ready.get())?;
        ready.set(rest);
        let place = Place::new(bit);
        let answer = self.region.take(place);
        Some((Slot::new(self.reap.base, place.bit()), answer))
    }

    /// Looks for results on the reap page. Returns the other pages that may have results.
    #[inline(always)]
    pub(crate) fn look_here(&mut self) -> PageSet {
        let last_posted = if self.reap.page == self.fill.page {
            self.fill.half.last_posted()
        } else {
            self.reap_last_posted()
        };
        self.look_at_reap_page(last_posted);
        self.active & !self.reap.set
    }

    #[inline(always)]
    fn look_at_reap_page(&mut self, last_posted: u64) {
        let done = self.region.reap_ctrl().done;
        let ready = &self.region.cursors().ready;
        ready.set(self.reap.half.look(done, last_posted, ready.get()));
    }

    #[cold]
    #[inline(never)]
    fn reap_last_posted(&self) -> u64 {
        self.poster(self.reap.page).last_posted()
    }

    /// Looks for more results when all known ones are taken. Visits the pages of the
    /// set, starting after the reap page so that none starves, and removes the visited
    /// pages from the set. Returns true if it has found results.
    #[cold]
    #[inline(never)]
    pub(crate) fn look_on(&mut self, set: &mut PageSet) -> bool {
        self.publish_reaped();
        for page in each_after(self.reap.page, *set) {
            *set &= !only(page);
            let last_posted = self.poster(page).last_posted();
            if self.results(page) != 0 {
                if page != self.reap.page {
                    self.set_reap_page(page);
                }
                self.look_at_reap_page(last_posted);
                return true;
            }
            if last_posted == self.reaped(page) {
                self.active &= !only(page);
            }
        }
        false
    }

    /// Tells the kernel which results were taken.
    #[inline(always)]
    pub(crate) fn publish_reaped(&mut self) {
        let reaped = self.reap.half.reaped(self.cursors().ready.get());
        if reaped != self.last_reaped {
            // ORDERING: relaxed: see the head of `doorbell`.
            self.region.reap_ctrl().reaped.store(reaped, Relaxed);
            self.last_reaped = reaped;
        }
    }

    /// Returns true if there is a result.
    pub(crate) fn has_result(&self) -> bool {
        each(self.active).any(|page| self.results(page) != 0)
    }

    fn results(&self, page: usize) -> u64 {
        let last_posted = self.poster(page).last_posted();
        let done = self.region.ctrl(page).done;
        self.reaper(page)
            .results(done, last_posted, self.ready(page))
    }

    /// Counts the results, and checks whether they are all and whether the kernel has yet
    /// to accept an entry.
    pub(crate) fn look(&self) -> Look {
        let mut look = Look::default();
        let mut in_flight = 0;
        for page in each(self.active) {
            let last_posted = self.poster(page).last_posted();
            let taken = self.region.ctrl(page).taken.load(Relaxed);
            look.finished += self.results(page).count_ones() as usize;
            in_flight += doorbell::in_flight(last_posted, self.reaped(page)).count_ones() as usize;
            look.pending |= doorbell::pending(last_posted, taken) != 0;
        }
        look.all = look.finished == in_flight;
        look
    }

    /// Returns true if the kernel may be asleep although entries are posted.
    pub(crate) fn needs_kick(&self) -> bool {
        each(self.active).any(|page| {
            let ctrl = self.region.ctrl(page);
            doorbell::needs_kick(self.poster(page).last_posted(), ctrl.taken, ctrl.flags)
        })
    }
}

impl PageQueue {
    pub(crate) fn region(&self) -> &Region {
        &self.region
    }

    pub(crate) fn status(&self, slot: Slot) -> u8 {
        self.region.status(slot.index())
    }

    /// Returns the answer in this entry, if there is one that was not taken.
    pub(crate) fn peek(&self, slot: Slot) -> Option<Answer> {
        let there = self.results(slot.page()) & (1 << slot.entry()) != 0;
        there.then(|| self.region.answer(slot.index()))
    }

    /// Returns the call in this entry, unless the entry was changed.
    pub(crate) fn call(&self, slot: Slot) -> Call {
        Call::from_request(self.region.request(slot.index()))
    }
}

/// The result of [`PageQueue::look`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Look {
    pub(crate) finished: usize,
    pub(crate) all: bool,
    pub(crate) pending: bool,
}

#[cfg(test)]
mod model;
#[cfg(test)]
mod tests;
