// SPDX-License-Identifier: MIT OR Apache-2.0
//! The page queue against a simulated kernel.

use super::*;
use crate::calls;
use crate::sys::abi::FLEXSC_SUBMITTED;
use proptest::prelude::*;
use std::collections::HashSet;
use std::sync::atomic::Ordering;

/// Simulates the kernel: accepts the posted entries and finishes `which` of them.
fn execute(queue: &PageQueue, page: usize, which: u64) {
    let ctrl = queue.region.ctrl(page);
    ctrl.taken
        .store(ctrl.posted.load(Ordering::Acquire), Ordering::Relaxed);
    ctrl.done.fetch_xor(which, Ordering::Release);
}

fn slot_of(page: usize, entry: u32) -> Slot {
    Slot::new(Slot::base(page), entry)
}

fn queue(pages: usize) -> PageQueue {
    PageQueue::new(Region::anonymous(pages))
}

#[test]
fn a_call_goes_there_and_back() {
    let mut queue = queue(1);
    let call = Call::new(7, [1, 2, 3, 4, 5, u64::MAX])
        .asynchronous()
        .pool(3);
    let slot = queue.stage(&call).unwrap();
    assert_eq!(queue.call(slot), call);
    assert_eq!(queue.status(slot), FLEXSC_SUBMITTED as u8);
    assert_eq!(queue.poll(), None);
    queue.ring();
    assert!(queue.look().pending);
    execute(&queue, 0, 1);
    let look = queue.look();
    assert_eq!((look.finished, look.all, look.pending), (1, true, false));
    let (done, answer) = queue.poll().unwrap();
    assert_eq!((done, answer.result, answer.reason), (slot, 0, 0));
    assert_eq!((queue.status(slot), queue.in_flight()), (0, 0));
    assert_eq!(queue.poll(), None);
}

#[test]
fn all_entries_of_all_pages_are_used_once() {
    for pages in [1, 2, 63, 64] {
        let mut queue = queue(pages);
        let slots: Vec<_> = std::iter::from_fn(|| queue.stage(&calls::getppid())).collect();
        assert_eq!(slots.len(), pages * 64);
        assert!(
            slots
                .iter()
                .enumerate()
                .all(|(at, slot)| slot.index() == at)
        );
        queue.ring();
        for page in 0..pages {
            execute(&queue, page, u64::MAX);
        }
        let mut back: Vec<_> = std::iter::from_fn(|| queue.poll())
            .map(|(slot, _)| slot)
            .collect();
        back.sort();
        assert_eq!(back, slots);
        assert_eq!((queue.in_flight(), queue.active), (0, 0));
    }
}

#[test]
fn a_freed_entry_is_used_again() {
    let mut queue = queue(2);
    while queue.stage(&calls::getppid()).is_some() {}
    queue.ring();
    execute(&queue, 1, 1 << 5);
    let slot = queue.poll().unwrap().0;
    assert_eq!(slot, slot_of(1, 5));
    assert_eq!(queue.stage(&calls::getpid()), Some(slot));
    assert_eq!(queue.stage(&calls::getpid()), None);
    // The kernel learns that the entry is free before it is posted again.
    assert!(queue.ring());
    let ctrl = queue.region.ctrl(1);
    assert_eq!(ctrl.reaped.load(Ordering::Relaxed), 1 << 5);
    assert_eq!(ctrl.posted.load(Ordering::Relaxed), !(1 << 5));
}

#[test]
fn no_page_starves_another() {
    let mut queue = queue(2);
    while queue.stage(&calls::getppid()).is_some() {}
    queue.ring();
    execute(&queue, 0, 0b11);
    execute(&queue, 1, 0b01);
    let order: Vec<_> = std::iter::from_fn(|| queue.poll())
        .map(|(slot, _)| slot.page())
        .collect();
    assert_eq!(order, [1, 0, 0]);
}

#[test]
fn the_kernel_is_told_of_results_taken_in_part() {
    let mut queue = queue(1);
    queue.stage(&calls::getppid());
    queue.stage(&calls::getppid());
    queue.ring();
    execute(&queue, 0, 0b11);
    queue.poll();
    queue.publish_reaped();
    assert_eq!(queue.region.ctrl(0).reaped.load(Ordering::Relaxed), 1);
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(64) })]

    #[test]
    fn slots_are_handed_out_once(
        pages in 1..5_usize,
        steps in prop::collection::vec((0..7_u8, any::<u64>(), 0..150_usize), 1..100),
    ) {
        let mut queue = queue(pages);
        let mut used = HashSet::new();
        for (step, wish, times) in steps {
            match step {
                0 | 1 => for _ in 0..times {
                    let full = used.len() == queue.capacity();
                    let slot = queue.stage(&calls::getppid());
                    prop_assert_eq!(slot.is_none(), full);
                    let Some(slot) = slot else { break };
                    prop_assert!(used.insert(slot));
                },
                2 => {
                    let words = |page| {
                        let ctrl = queue.region.ctrl(page);
                        (ctrl.posted.load(Ordering::Relaxed), ctrl.reaped.load(Ordering::Relaxed))
                    };
                    let before: Vec<_> = (0..pages).map(words).collect();
                    queue.ring();
                    for (page, (posted, reaped)) in before.into_iter().enumerate() {
                        let now = queue.region.ctrl(page).posted.load(Ordering::Relaxed);
                        // The kernel was told that the entries that are posted now were free.
                        prop_assert_eq!((now ^ posted) & !doorbell::free(posted, reaped), 0);
                    }
                },
                3 => for page in 0..pages {
                    let ctrl = queue.region.ctrl(page);
                    let posted = ctrl.posted.load(Ordering::Relaxed);
                    ctrl.taken.store(posted, Ordering::Relaxed);
                    let unfinished = posted ^ ctrl.done.load(Ordering::Relaxed);
                    ctrl.done.fetch_xor(unfinished & wish.rotate_left(page as u32), Ordering::Relaxed);
                },
                4 => {
                    let len = times % 64 + 1;
                    let chain = (0..len).fold(Chain::new(), |chain, _| chain.then(calls::getpid()));
                    if let Some(slots) = queue.stage_chain(&chain) {
                        prop_assert_eq!((slots.len(), slots.first().page()), (len, slots.last().page()));
                        for slot in slots.iter() {
                            prop_assert!(used.insert(slot));
                            let last = slot == slots.last();
                            prop_assert_eq!(queue.call(slot).has_link(), !last);
                        }
                    }
                },
                5 => {
                    let there = queue.look().finished;
                    let mut rest = queue.look_here();
                    let mut taken = 0;
                    loop {
                        while let Some((slot, _)) = queue.poll_seen() {
                            prop_assert!(used.remove(&slot));
                            taken += 1;
                        }
                        if !queue.look_on(&mut rest) {
                            break;
                        }
                    }
                    prop_assert_eq!(taken, there);
                }
                _ => {
                    let there = queue.look().finished;
                    prop_assert_eq!(queue.has_result(), there > 0);
                    for nth in 0..times {
                        let done = queue.poll();
                        prop_assert_eq!(done.is_some(), nth < there);
                        let Some((slot, _)) = done else { break };
                        prop_assert!(used.remove(&slot));
                    }
                }
            }
            prop_assert_eq!(queue.in_flight(), used.len());
        }
    }
}

#[test]
fn what_a_call_does_not_have_is_not_written() {
    let mut queue = queue(1);
    let full = Call::new(1, [9; 6]);
    for _ in 0..64 {
        queue.stage(&full);
    }
    queue.ring();
    execute(&queue, 0, u64::MAX);
    while queue.poll().is_some() {}
    let slot = queue.stage(&Call::with_args(2, [5, 6])).unwrap();
    let call = queue.call(slot);
    assert_eq!((call.nr(), call.args()), (2, [5, 6, 9, 9, 9, 9]));
}

#[test]
fn a_chain_lies_on_one_page() {
    let mut queue = queue(2);
    let chain = (0..40).fold(Chain::new(), |chain, _| chain.then(calls::getppid()));
    let first = queue.stage_chain(&chain).unwrap();
    let second = queue.stage_chain(&chain).unwrap();
    assert_eq!(first.first(), slot_of(0, 0));
    assert_eq!(second.first(), slot_of(1, 0));
    assert_eq!(queue.stage_chain(&chain), None);
    assert!(queue.call(first.first()).is_linked());
    assert!(queue.ring());
    assert_eq!(
        queue
            .region
            .ctrl(0)
            .posted
            .load(Ordering::Relaxed)
            .count_ones(),
        40
    );
    assert_eq!(
        queue
            .region
            .ctrl(1)
            .posted
            .load(Ordering::Relaxed)
            .count_ones(),
        40
    );
    // Once they are free, their entries serve single calls again.
    execute(&queue, 0, u64::MAX);
    while queue.poll().is_some() {}
    let mut slot = None;
    while let Some(staged) = queue.stage(&calls::getpid()) {
        slot = (staged.page() == 0).then_some(staged).or(slot);
    }
    assert!(!queue.call(slot.unwrap()).is_linked());
}

#[test]
fn a_look_on_every_page_takes_all_that_is_there() {
    let mut queue = queue(3);
    while queue.stage(&calls::getppid()).is_some() {}
    queue.ring();
    for page in 0..3 {
        execute(&queue, page, 0b111 << page);
    }
    let mut rest = queue.look_here();
    let mut taken = 0;
    loop {
        while queue.poll_seen().is_some() {
            taken += 1;
        }
        if !queue.look_on(&mut rest) {
            break;
        }
    }
    assert_eq!((taken, rest, queue.in_flight()), (9, 0, 3 * 64 - 9));
    for page in 0..3 {
        let reaped = queue.region.ctrl(page).reaped.load(Ordering::Relaxed);
        assert_eq!(reaped, 0b111 << page);
    }
}
