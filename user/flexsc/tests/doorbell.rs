// SPDX-License-Identifier: MIT OR Apache-2.0
//! Any sequence of posts, executions and reaps leaves doorbell and entries
//! in agreement with a model that knows each entry's state by name.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};

use flexsc::doorbell::{self, ENTRIES, NEED_WAKEUP, Producer};
use proptest::prelude::*;

/// Where an entry is, and who may touch it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Free,
    Staged,
    Posted,
    Taken,
    Done,
    /// Done, and the program has looked.
    Seen,
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Stage(u8),
    /// So many side by side.
    Run(u32),
    Ring,
    /// The kernel accepts these, of those that are posted.
    Take(u64),
    /// The kernel finishes these, of those that it has accepted.
    Finish(u64),
    Look,
    Reap(u8),
    Tell,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        (1..80_u8).prop_map(Step::Stage),
        (1..=64_u32).prop_map(Step::Run),
        Just(Step::Ring),
        any::<u64>().prop_map(Step::Take),
        any::<u64>().prop_map(Step::Finish),
        Just(Step::Look),
        (1..80_u8).prop_map(Step::Reap),
        Just(Step::Tell),
    ]
}

struct Page {
    producer: Producer,
    posted: AtomicU64,
    reaped: AtomicU64,
    taken: AtomicU64,
    done: AtomicU64,
    model: [State; ENTRIES as usize],
}

impl Page {
    fn new(word: u64) -> Self {
        Page {
            producer: Producer::new(word),
            posted: AtomicU64::new(word),
            reaped: AtomicU64::new(word),
            taken: AtomicU64::new(word),
            done: AtomicU64::new(word),
            model: [State::Free; ENTRIES as usize],
        }
    }

    fn set(&self, states: &[State]) -> u64 {
        let in_set = |&bit: &usize| states.contains(&self.model[bit]);
        (0..self.model.len())
            .filter(in_set)
            .fold(0, |set, bit| set | (1 << bit))
    }

    fn change(&mut self, set: u64, to: State) {
        for (bit, state) in self.model.iter_mut().enumerate() {
            if set & (1 << bit) != 0 {
                *state = to;
            }
        }
    }

    fn apply(&mut self, step: Step) {
        match step {
            Step::Stage(times) => {
                for _ in 0..times {
                    let free = self.set(&[State::Free]);
                    let bit = self.producer.stage(&self.reaped);
                    assert_eq!(bit.is_none(), free == 0);
                    let Some(bit) = bit else { break };
                    assert_eq!(self.model[bit as usize], State::Free);
                    self.change(1 << bit, State::Staged);
                }
            }
            Step::Run(len) => {
                let free = self.set(&[State::Free]);
                let run = u64::MAX >> (ENTRIES - len);
                let fits = |first| free.checked_shr(first).unwrap_or(0) & run == run;
                let first = self.producer.stage_run(len, &self.reaped);
                assert_eq!(first.is_some(), (0..=ENTRIES - len).any(fits));
                if let Some(first) = first {
                    assert!(fits(first));
                    self.change(run << first, State::Staged);
                }
            }
            Step::Ring => {
                let staged = self.set(&[State::Staged]);
                let rang = self.producer.poster.ring(&self.posted);
                assert_eq!(rang, staged != 0);
                self.change(staged, State::Posted);
            }
            Step::Take(wish) => {
                let pending =
                    doorbell::pending(self.posted.load(Relaxed), self.taken.load(Relaxed));
                assert_eq!(pending, self.set(&[State::Posted]));
                self.taken.fetch_xor(wish & pending, Relaxed);
                self.change(wish & pending, State::Taken);
            }
            Step::Finish(wish) => {
                let set = wish & self.set(&[State::Taken]);
                self.done.fetch_xor(set, Relaxed);
                self.change(set, State::Done);
            }
            Step::Look => {
                let there = self.set(&[State::Done, State::Seen]);
                let rung = self.producer.poster.rung();
                assert_eq!(self.producer.reaper.look(&self.done, rung), there);
                self.change(there, State::Seen);
            }
            Step::Reap(times) => {
                for _ in 0..times {
                    let seen = self.set(&[State::Seen]);
                    let bit = self.producer.reaper.reap();
                    assert_eq!(bit.is_none(), seen == 0);
                    let Some(bit) = bit else { break };
                    assert_eq!(self.model[bit as usize], State::Seen);
                    self.change(1 << bit, State::Free);
                }
            }
            Step::Tell => self.producer.tell(&self.reaped),
        }
    }

    /// What must hold between any two steps.
    fn check(&self) {
        let (posted, reaped) = (self.posted.load(Relaxed), self.reaped.load(Relaxed));
        let there = self.set(&[State::Done, State::Seen]);
        assert_eq!(self.producer.free(), self.set(&[State::Free]));
        let rung = self.producer.poster.rung();
        assert_eq!(rung, posted);
        assert_eq!(self.producer.poster.staged(), self.set(&[State::Staged]));
        assert_eq!(self.producer.reaper.results(&self.done, rung), there);
        assert_eq!(
            doorbell::pending(rung, self.taken.load(Relaxed)),
            self.set(&[State::Posted])
        );
        // The kernel may hear of reaped entries later, and never too early.
        let known_free = doorbell::free(posted, reaped);
        let untouched = self.set(&[State::Free, State::Staged]);
        assert_eq!(known_free & !untouched, 0);
        assert_eq!(
            there & !doorbell::finished(self.done.load(Relaxed), reaped),
            0
        );
        for flags in [0, NEED_WAKEUP] {
            let wanted = flags != 0 && self.set(&[State::Posted]) != 0;
            let kick = doorbell::needs_kick(rung, &self.taken, &AtomicU32::new(flags));
            assert_eq!(kick, wanted);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(512) })]

    #[test]
    fn doorbell_and_entries_agree(word: u64, steps in prop::collection::vec(step(), 1..200)) {
        let mut page = Page::new(word);
        page.check();
        for step in steps {
            page.apply(step);
            page.check();
        }
    }

    #[test]
    fn every_entry_is_in_one_state(posted: u64, reaped: u64) {
        let (free, in_flight) = (doorbell::free(posted, reaped), doorbell::in_flight(posted, reaped));
        prop_assert_eq!(free & in_flight, 0);
        prop_assert_eq!(free | in_flight, u64::MAX);
    }

    #[test]
    fn a_kernel_that_lies_gives_no_entry_away(word: u64, staged in 0..=64_u32, lie: u64) {
        let (posted, reaped) = (AtomicU64::new(word), AtomicU64::new(word));
        let mut page = Producer::new(word);
        let ours = (0..staged)
            .filter_map(|_| page.stage(&reaped))
            .fold(0, |set, bit| set | (1_u64 << bit));
        page.poster.ring(&posted);
        page.reaper.look(&AtomicU64::new(lie), page.poster.rung());
        while let Some(bit) = page.reaper.reap() {
            prop_assert!(ours & (1 << bit) != 0);
        }
        prop_assert_eq!(page.free() & page.in_flight(), 0);
    }
}
