// SPDX-License-Identifier: MIT OR Apache-2.0
//! The board against a kernel that is played.

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

fn slot_of(page: usize, entry: u32) -> Slot {
    Slot::new(Slot::base(page), entry)
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
    assert_eq!(slot, slot_of(1, 5));
    assert_eq!(board.stage(&calls::getpid()), Some(slot));
    assert_eq!(board.stage(&calls::getpid()), None);
    // The kernel learns of the freed entry before it is posted again.
    assert!(board.ring());
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
        steps in prop::collection::vec((0..7_u8, any::<u64>(), 0..150_usize), 1..100),
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
                2 => {
                    let words = |page| {
                        let ctrl = board.region.ctrl(page);
                        (ctrl.posted.load(Ordering::Relaxed), ctrl.reaped.load(Ordering::Relaxed))
                    };
                    let before: Vec<_> = (0..pages).map(words).collect();
                    board.ring();
                    for (page, (posted, reaped)) in before.into_iter().enumerate() {
                        let now = board.region.ctrl(page).posted.load(Ordering::Relaxed);
                        // The kernel was told that what is posted now was free.
                        prop_assert_eq!((now ^ posted) & !doorbell::free(posted, reaped), 0);
                    }
                },
                3 => for page in 0..pages {
                    let ctrl = board.region.ctrl(page);
                    let posted = ctrl.posted.load(Ordering::Relaxed);
                    ctrl.taken.store(posted, Ordering::Relaxed);
                    let unfinished = posted ^ ctrl.done.load(Ordering::Relaxed);
                    ctrl.done.fetch_xor(unfinished & wish.rotate_left(page as u32), Ordering::Relaxed);
                },
                4 => {
                    let len = times % 64 + 1;
                    let chain = (0..len).fold(Chain::new(), |chain, _| chain.then(calls::getpid()));
                    if let Some(slots) = board.stage_chain(&chain) {
                        prop_assert_eq!((slots.len(), slots.first().page()), (len, slots.last().page()));
                        for slot in slots.iter() {
                            prop_assert!(used.insert(slot));
                            let last = slot == slots.last();
                            prop_assert_eq!(board.call(slot).has_link(), !last);
                        }
                    }
                },
                5 => {
                    let there = board.look().finished;
                    let mut rest = board.look_here();
                    let mut taken = 0;
                    loop {
                        while let Some((slot, _)) = board.poll_seen() {
                            prop_assert!(used.remove(&slot));
                            taken += 1;
                        }
                        if !board.look_on(&mut rest) {
                            break;
                        }
                    }
                    prop_assert_eq!(taken, there);
                }
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

#[test]
fn what_a_call_does_not_have_is_not_written() {
    let mut board = board(1);
    let full = Call::new(1, [9; 6]);
    for _ in 0..64 {
        board.stage(&full);
    }
    board.ring();
    execute(&board, 0, u64::MAX);
    while board.poll().is_some() {}
    let slot = board.stage(&Call::with_args(2, [5, 6])).unwrap();
    let call = board.call(slot);
    assert_eq!((call.nr(), call.args()), (2, [5, 6, 9, 9, 9, 9]));
}

#[test]
fn a_chain_lies_on_one_page() {
    let mut board = board(2);
    let chain = (0..40).fold(Chain::new(), |chain, _| chain.then(calls::getppid()));
    let first = board.stage_chain(&chain).unwrap();
    let second = board.stage_chain(&chain).unwrap();
    assert_eq!(first.first(), slot_of(0, 0));
    assert_eq!(second.first(), slot_of(1, 0));
    assert_eq!(board.stage_chain(&chain), None);
    assert!(board.call(first.first()).is_linked());
    assert!(board.ring());
    assert_eq!(
        board
            .region
            .ctrl(0)
            .posted
            .load(Ordering::Relaxed)
            .count_ones(),
        40
    );
    assert_eq!(
        board
            .region
            .ctrl(1)
            .posted
            .load(Ordering::Relaxed)
            .count_ones(),
        40
    );
    // Their entries are those of single calls again, once they are free.
    execute(&board, 0, u64::MAX);
    while board.poll().is_some() {}
    let mut slot = None;
    while let Some(staged) = board.stage(&calls::getpid()) {
        slot = (staged.page() == 0).then_some(staged).or(slot);
    }
    assert!(!board.call(slot.unwrap()).is_linked());
}

#[test]
fn a_look_on_every_page_takes_all_that_is_there() {
    let mut board = board(3);
    while board.stage(&calls::getppid()).is_some() {}
    board.ring();
    for page in 0..3 {
        execute(&board, page, 0b111 << page);
    }
    let mut rest = board.look_here();
    let mut taken = 0;
    loop {
        while board.poll_seen().is_some() {
            taken += 1;
        }
        if !board.look_on(&mut rest) {
            break;
        }
    }
    assert_eq!((taken, rest, board.in_flight()), (9, 0, 3 * 64 - 9));
    for page in 0..3 {
        let reaped = board.region.ctrl(page).reaped.load(Ordering::Relaxed);
        assert_eq!(reaped, 0b111 << page);
    }
}
