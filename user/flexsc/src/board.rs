// SPDX-License-Identifier: MIT OR Apache-2.0
//! All pages of one registration taken together: where the next call goes, and
//! where the next result comes from. Knows the memory, not the device.

use crate::call::{Call, Slot};
use crate::doorbell::{self, ENTRIES, Producer};
use crate::sys::abi::FLEXSC_MAX_PAGES;
use crate::sys::region::{Answer, Region};

/// One bit for each page.
type PageSet = u64;

const MAX: usize = FLEXSC_MAX_PAGES as usize;
const _: () = assert!(MAX == PageSet::BITS as usize);

#[derive(Debug)]
pub(crate) struct Board {
    region: Region,
    /// One for each page that there can be, so that an index cannot be wrong.
    producers: Box<[Producer; MAX]>,
    /// Pages with a free entry; `filling` and `reaping` may differ from it.
    open: PageSet,
    /// Pages with an entry that was posted and not reaped, and `reaping`.
    active: PageSet,
    /// Pages with a staged entry.
    touched: PageSet,
    /// The page that is being filled.
    filling: usize,
    /// The page that is being reaped.
    reaping: usize,
    in_flight: usize,
}

/// The set of one page.
const fn only(page: usize) -> PageSet {
    (1 as PageSet).wrapping_shl(page as u32)
}

/// The pages of a set, in ascending order.
fn each(mut set: PageSet) -> impl Iterator<Item = usize> {
    std::iter::from_fn(move || {
        let page = (set != 0).then(|| set.trailing_zeros() as usize)?;
        set &= set - 1;
        Some(page)
    })
}

impl Board {
    /// For fresh pages.
    pub(crate) fn new(region: Region) -> Self {
        let pages = region.pages();
        assert!((1..=PageSet::BITS as usize).contains(&pages));
        Board {
            region,
            producers: Box::new([Producer::new(0); MAX]),
            open: PageSet::MAX >> (PageSet::BITS as usize - pages),
            active: 0,
            touched: 0,
            filling: 0,
            reaping: 0,
            in_flight: 0,
        }
    }

    pub(crate) fn region(&self) -> &Region {
        &self.region
    }

    pub(crate) fn capacity(&self) -> usize {
        self.region.pages() * ENTRIES as usize
    }

    pub(crate) fn in_flight(&self) -> usize {
        self.in_flight
    }

    /// Writes the call into a free entry.
    #[inline]
    pub(crate) fn stage(&mut self, call: &Call) -> Option<Slot> {
        if self.producers[self.filling % MAX].free() == 0 && !self.fill_another() {
            return None;
        }
        let page = self.filling;
        let slot = Slot::new(page, self.producers[page % MAX].stage()?);
        self.region.write(slot.index(), call.request());
        self.touched |= only(page);
        self.in_flight += 1;
        Some(slot)
    }

    /// The page that was being filled is full: goes to the next one with a
    /// free entry, if there is one.
    #[cold]
    fn fill_another(&mut self) -> bool {
        self.open &= !only(self.filling);
        if self.producers[self.reaping % MAX].free() != 0 {
            self.open |= only(self.reaping);
        }
        self.filling = (self.open.trailing_zeros() as usize) % MAX;
        self.open != 0
    }

    /// Posts what is staged: one store for each page touched.
    #[inline]
    pub(crate) fn ring(&mut self) {
        for page in each(self.touched) {
            let ctrl = self.region.ctrl(page);
            self.producers[page].ring(ctrl.posted, ctrl.reaped);
        }
        self.active |= self.touched;
        self.touched = 0;
    }

    /// Takes the next result, if there is one.
    #[inline]
    pub(crate) fn poll(&mut self) -> Option<(Slot, Answer)> {
        if self.producers[self.reaping % MAX].is_reaped() && !self.reap_another() {
            return None;
        }
        let page = self.reaping;
        let producer = &mut self.producers[page % MAX];
        let slot = Slot::new(page, producer.reap()?);
        let answer = self.region.take(slot.index());
        self.in_flight -= 1;
        if producer.is_reaped() {
            self.page_reaped(page);
        }
        Some((slot, answer))
    }

    /// All results that were seen are taken: looks for more, from the page
    /// after the last one on, so that none starves. Says whether there are.
    #[cold]
    fn reap_another(&mut self) -> bool {
        let later = (PageSet::MAX << self.reaping) << 1;
        let order = each(self.active & later).chain(each(self.active & !later));
        for page in order {
            if self.producers[page].look(self.region.ctrl(page).done) > 0 {
                self.reaping = page;
                return true;
            }
        }
        false
    }

    /// All results of a page that were seen are taken.
    #[cold]
    fn page_reaped(&mut self, page: usize) {
        let producer = &mut self.producers[page];
        producer.tell(self.region.ctrl(page).reaped);
        self.open |= only(page);
        if producer.posted() == 0 {
            self.active &= !only(page);
        }
    }

    /// Tells the kernel of all results that were taken.
    pub(crate) fn tell(&mut self) {
        let page = self.reaping;
        self.producers[page].tell(self.region.ctrl(page).reaped);
    }

    /// Whether a result is there.
    pub(crate) fn has_result(&self) -> bool {
        each(self.active).any(|page| {
            let done = self.region.ctrl(page).done;
            self.producers[page].results(done) != 0
        })
    }

    /// How many results are there; whether those are all; whether the kernel
    /// has still to accept an entry.
    pub(crate) fn look(&mut self) -> Look {
        let mut look = Look::default();
        for page in each(self.active) {
            let ctrl = self.region.ctrl(page);
            let producer = &mut self.producers[page];
            look.finished += producer.look(ctrl.done) as usize;
            look.pending |= producer.pending(ctrl.taken) != 0;
        }
        look.all = look.finished == self.in_flight;
        look
    }

    /// Whether the kernel may be asleep although entries are posted.
    pub(crate) fn needs_kick(&self) -> bool {
        each(self.active).any(|page| {
            let ctrl = self.region.ctrl(page);
            doorbell::needs_kick(&self.producers[page], ctrl.taken, ctrl.flags)
        })
    }

    pub(crate) fn status(&self, slot: Slot) -> u8 {
        self.region.status(slot.index())
    }

    /// The call in that entry, as far as nobody changed it since.
    pub(crate) fn call(&self, slot: Slot) -> Call {
        let request = self.region.request(slot.index());
        Call::new(request.nr, request.args)
            .pool(request.pool)
            .raw_flags(request.flags)
    }
}

/// What [`Board::look`] saw.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Look {
    pub(crate) finished: usize,
    pub(crate) all: bool,
    pub(crate) pending: bool,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::calls;
    use crate::sys::abi::FLEXSC_SUBMITTED;
    use proptest::prelude::*;
    use std::collections::HashSet;
    use std::sync::atomic::Ordering;

    /// Plays the kernel: accepts what is posted and finishes `which` of it.
    fn execute(board: &Board, page: usize, which: u64) {
        let ctrl = board.region.ctrl(page);
        ctrl.taken
            .store(ctrl.posted.load(Ordering::Acquire), Ordering::Relaxed);
        ctrl.done.fetch_xor(which, Ordering::Release);
    }

    fn board(pages: usize) -> Board {
        Board::new(Region::anonymous(pages))
    }

    #[test]
    fn a_call_goes_there_and_back() {
        let mut board = board(1);
        let call = Call::new(7, [1, 2, 3, 4, 5, u64::MAX])
            .asynchronous()
            .pool(3);
        let slot = board.stage(&call).unwrap();
        assert_eq!(board.call(slot), call);
        assert_eq!(board.status(slot), FLEXSC_SUBMITTED as u8);
        assert_eq!(board.poll(), None);
        board.ring();
        assert!(board.look().pending);
        execute(&board, 0, 1);
        let look = board.look();
        assert_eq!((look.finished, look.all, look.pending), (1, true, false));
        let (done, answer) = board.poll().unwrap();
        assert_eq!((done, answer.result, answer.reason), (slot, 0, 0));
        assert_eq!((board.status(slot), board.in_flight()), (0, 0));
        assert_eq!(board.poll(), None);
    }

    #[test]
    fn all_entries_of_all_pages_are_used_once() {
        for pages in [1, 2, 63, 64] {
            let mut board = board(pages);
            let slots: Vec<_> = std::iter::from_fn(|| board.stage(&calls::getppid())).collect();
            assert_eq!(slots.len(), pages * 64);
            assert!(
                slots
                    .iter()
                    .enumerate()
                    .all(|(at, slot)| slot.index() == at)
            );
            board.ring();
            for page in 0..pages {
                execute(&board, page, u64::MAX);
            }
            let mut back: Vec<_> = std::iter::from_fn(|| board.poll())
                .map(|(slot, _)| slot)
                .collect();
            back.sort();
            assert_eq!(back, slots);
            assert_eq!((board.in_flight(), board.active), (0, 0));
        }
    }

    #[test]
    fn a_freed_entry_is_used_again() {
        let mut board = board(2);
        while board.stage(&calls::getppid()).is_some() {}
        board.ring();
        execute(&board, 1, 1 << 5);
        let slot = board.poll().unwrap().0;
        assert_eq!(slot, Slot::new(1, 5));
        assert_eq!(board.stage(&calls::getpid()), Some(slot));
        assert_eq!(board.stage(&calls::getpid()), None);
        // The kernel learns of the freed entry before it is posted again.
        board.ring();
        let ctrl = board.region.ctrl(1);
        assert_eq!(ctrl.reaped.load(Ordering::Relaxed), 1 << 5);
        assert_eq!(ctrl.posted.load(Ordering::Relaxed), !(1 << 5));
    }

    #[test]
    fn no_page_starves_another() {
        let mut board = board(2);
        while board.stage(&calls::getppid()).is_some() {}
        board.ring();
        execute(&board, 0, 0b11);
        execute(&board, 1, 0b01);
        let order: Vec<_> = std::iter::from_fn(|| board.poll())
            .map(|(slot, _)| slot.page())
            .collect();
        assert_eq!(order, [1, 0, 0]);
    }

    #[test]
    fn the_kernel_is_told_of_results_taken_in_part() {
        let mut board = board(1);
        board.stage(&calls::getppid());
        board.stage(&calls::getppid());
        board.ring();
        execute(&board, 0, 0b11);
        board.poll();
        board.tell();
        assert_eq!(board.region.ctrl(0).reaped.load(Ordering::Relaxed), 1);
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(64) })]

        #[test]
        fn slots_are_handed_out_once(
            pages in 1..5_usize,
            steps in prop::collection::vec((0..5_u8, any::<u64>(), 0..150_usize), 1..100),
        ) {
            let mut board = board(pages);
            let mut used = HashSet::new();
            for (step, wish, times) in steps {
                match step {
                    0 | 1 => for _ in 0..times {
                        let full = used.len() == board.capacity();
                        let slot = board.stage(&calls::getppid());
                        prop_assert_eq!(slot.is_none(), full);
                        let Some(slot) = slot else { break };
                        prop_assert!(used.insert(slot));
                    },
                    2 => board.ring(),
                    3 => for page in 0..pages {
                        let ctrl = board.region.ctrl(page);
                        let posted = ctrl.posted.load(Ordering::Relaxed);
                        ctrl.taken.store(posted, Ordering::Relaxed);
                        let unfinished = posted ^ ctrl.done.load(Ordering::Relaxed);
                        ctrl.done.fetch_xor(unfinished & wish.rotate_left(page as u32), Ordering::Relaxed);
                    },
                    _ => {
                        let there = board.look().finished;
                        prop_assert_eq!(board.has_result(), there > 0);
                        for nth in 0..times {
                            let done = board.poll();
                            prop_assert_eq!(done.is_some(), nth < there);
                            let Some((slot, _)) = done else { break };
                            prop_assert!(used.remove(&slot));
                        }
                    }
                }
                prop_assert_eq!(board.in_flight(), used.len());
            }
        }
    }
}
