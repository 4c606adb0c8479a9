// SPDX-License-Identifier: MIT OR Apache-2.0
//! Unit tests of both halves, and a property test: any sequence of posts, executions and
//! reaps agrees with a model that tracks each entry's state.

use std::sync::atomic::Ordering::Relaxed;

use proptest::prelude::*;

use super::*;

/// Both halves of one page, combined as in the page queue.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Producer {
    /// Tracks staged and posted entries.
    pub poster: Poster,
    /// The run that was handed out, as far as it is not staged.
    pub run: Option<(u32, u32)>,
    /// Tracks finished and reaped entries.
    pub reaper: Reaper,
    /// The results that were seen and not taken.
    pub ready: u64,
}

impl Producer {
    /// For a page whose words are all `word` (zero in a fresh page).
    #[must_use]
    pub const fn new(word: u64) -> Self {
        Producer {
            poster: Poster::new(word),
            run: None,
            reaper: Reaper::new(word),
            ready: 0,
        }
    }

    /// Entries that may be staged.
    #[must_use]
    pub fn free(&self) -> u64 {
        free(self.poster.next(self.unstaged()), self.reaped())
    }

    /// Entries that are staged or posted, and not reaped.
    #[must_use]
    pub fn in_flight(&self) -> u64 {
        in_flight(self.poster.next(self.unstaged()), self.reaped())
    }

    fn unstaged(&self) -> u64 {
        let (from, to) = self.run.unwrap_or_default();
        (from..to).fold(0, |set, bit| set | (1 << bit))
    }

    fn reaped(&self) -> u64 {
        self.reaper.reaped(self.ready)
    }

    /// Entries that are staged but not posted.
    #[must_use]
    pub fn staged(&self) -> u64 {
        self.poster.staged(self.unstaged())
    }

    /// Posts staged entries.
    pub fn ring(&mut self, posted: &impl Word) -> bool {
        self.poster.ring(posted, self.unstaged())
    }

    /// Looks for results.
    pub fn look(&mut self, done: &impl Word) -> u64 {
        let last_posted = self.poster.last_posted();
        self.ready = self.reaper.look(done, last_posted, self.ready);
        self.ready
    }

    /// Takes the next result.
    pub fn reap(&mut self) -> Option<u32> {
        let (bit, rest) = take_lowest(self.ready)?;
        self.ready = rest;
        Some(bit)
    }

    fn next_of_run(&mut self) -> Option<u32> {
        let (next, end) = self.run?;
        self.run = Some((next + 1, end)).filter(|_| next + 1 < end);
        Some(next)
    }

    /// Stages a free entry. Starts another round if necessary.
    pub fn stage(&mut self, reaped: &impl Word) -> Option<u32> {
        if self.run.is_none() {
            self.run = self.poster.take_run();
        }
        if self.run.is_none() {
            self.refill(reaped);
            self.run = self.poster.take_run();
        }
        self.next_of_run()
    }

    /// Stages `len` adjacent free entries, like [`Producer::stage`].
    pub fn stage_run(&mut self, len: u32, reaped: &impl Word) -> Option<u32> {
        self.poster.put_back(self.unstaged());
        self.run = None;
        if let Some(first) = self.poster.stage_run(len) {
            return Some(first);
        }
        self.refill(reaped);
        self.poster.stage_run(len)
    }

    fn refill(&mut self, reaped: &impl Word) {
        self.publish_reaped(reaped);
        self.poster.refill(self.reaped());
    }

    /// Stores `reaped` for the kernel.
    pub fn publish_reaped(&self, reaped: &impl Word) {
        // ORDERING: relaxed: see the head of this file.
        reaped.store(self.reaped(), Ordering::Relaxed);
    }
}

/// The state of an entry, which says which side may touch it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Free,
    Staged,
    Posted,
    Taken,
    Done,
    /// Done, and the program has seen it.
    Seen,
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Stage(u8),
    /// This many adjacent entries.
    Run(u32),
    Ring,
    /// The kernel accepts the posted ones of these entries.
    Take(u64),
    /// The kernel finishes the accepted ones of these entries.
    Finish(u64),
    Look,
    Reap(u8),
    PublishReaped,
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
        Just(Step::PublishReaped),
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
                let posted_some = self.producer.ring(&self.posted);
                assert_eq!(posted_some, staged != 0);
                self.change(staged, State::Posted);
            }
            Step::Take(wish) => {
                let pending = pending(self.posted.load(Relaxed), self.taken.load(Relaxed));
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
                assert_eq!(self.producer.look(&self.done), there);
                self.change(there, State::Seen);
            }
            Step::Reap(times) => {
                for _ in 0..times {
                    let seen = self.set(&[State::Seen]);
                    let bit = self.producer.reap();
                    assert_eq!(bit.is_none(), seen == 0);
                    let Some(bit) = bit else { break };
                    assert_eq!(self.model[bit as usize], State::Seen);
                    self.change(1 << bit, State::Free);
                }
            }
            Step::PublishReaped => self.producer.publish_reaped(&self.reaped),
        }
    }

    /// Checks the conditions that must hold between any two steps.
    fn check(&self) {
        let (posted, reaped) = (self.posted.load(Relaxed), self.reaped.load(Relaxed));
        let there = self.set(&[State::Done, State::Seen]);
        assert_eq!(self.producer.free(), self.set(&[State::Free]));
        let last_posted = self.producer.poster.last_posted();
        assert_eq!(last_posted, posted);
        assert_eq!(self.producer.staged(), self.set(&[State::Staged]));
        let (reaper, ready) = (self.producer.reaper, self.producer.ready);
        assert_eq!(reaper.results(&self.done, last_posted, ready), there);
        assert_eq!(
            pending(last_posted, self.taken.load(Relaxed)),
            self.set(&[State::Posted])
        );
        // The kernel may learn of reaped entries late, but never too early.
        let known_free = free(posted, reaped);
        let untouched = self.set(&[State::Free, State::Staged]);
        assert_eq!(known_free & !untouched, 0);
        assert_eq!(there & !finished(self.done.load(Relaxed), reaped), 0);
        for flags in [0, NEED_WAKEUP] {
            let wanted = flags != 0 && self.set(&[State::Posted]) != 0;
            let kick = needs_kick(last_posted, &self.taken, &AtomicU32::new(flags));
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
        let (free, in_flight) = (free(posted, reaped), in_flight(posted, reaped));
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
        page.ring(&posted);
        page.look(&AtomicU64::new(lie));
        while let Some(bit) = page.reap() {
            prop_assert!(ours & (1 << bit) != 0);
        }
        prop_assert_eq!(page.free() & page.in_flight(), 0);
    }
}

fn words() -> (AtomicU64, AtomicU64, AtomicU64) {
    (AtomicU64::new(0), AtomicU64::new(0), AtomicU64::new(0))
}

#[test]
fn a_fresh_page_is_free() {
    let page = Producer::new(0);
    assert_eq!(page.free(), u64::MAX);
    assert_eq!(page.in_flight(), 0);
}

#[test]
fn staging_is_invisible_until_the_ring() {
    let (posted, reaped, _) = words();
    let mut page = Producer::new(0);
    assert_eq!(page.stage(&reaped), Some(0));
    assert_eq!(page.stage(&reaped), Some(1));
    assert_eq!((page.staged(), page.poster.last_posted()), (3, 0));
    assert_eq!(posted.load(Ordering::Relaxed), 0);
    assert!(page.ring(&posted));
    assert_eq!(posted.load(Ordering::Relaxed), 3);
    assert_eq!((page.staged(), page.poster.last_posted()), (0, 3));
    assert!(!page.ring(&posted));
}

#[test]
fn a_page_holds_64_entries() {
    let (_, reaped, _) = words();
    let mut page = Producer::new(0);
    for bit in 0..ENTRIES {
        assert_eq!(page.stage(&reaped), Some(bit));
    }
    assert_eq!(page.stage(&reaped), None);
    assert_eq!(page.free(), 0);
}

#[test]
fn results_are_reaped_once_and_the_kernel_told_when_asked() {
    let (posted, reaped, done) = words();
    let mut page = Producer::new(0);
    for _ in 0..3 {
        page.stage(&reaped);
    }
    page.ring(&posted);
    done.store(0b101, Ordering::Relaxed);
    assert_eq!(page.look(&done), 0b101);
    assert_eq!(page.reap(), Some(0));
    assert_eq!(page.reap(), Some(2));
    assert_eq!(page.reap(), None);
    assert_eq!(reaped.load(Ordering::Relaxed), 0);
    page.publish_reaped(&reaped);
    assert_eq!(reaped.load(Ordering::Relaxed), 0b101);
    assert_eq!(page.look(&done), 0);
    assert_eq!(page.in_flight(), 0b010);
}

#[test]
fn an_entry_comes_again_only_when_the_kernel_was_told() {
    let (posted, reaped, done) = words();
    let mut page = Producer::new(0);
    while page.stage(&reaped).is_some() {}
    page.ring(&posted);
    done.store(1 << 5, Ordering::Relaxed);
    page.look(&done);
    assert_eq!(page.reap(), Some(5));
    assert_eq!(reaped.load(Ordering::Relaxed), 0);
    assert_eq!(page.stage(&reaped), Some(5));
    assert_eq!(reaped.load(Ordering::Relaxed), 1 << 5);
    page.ring(&posted);
    assert_eq!(posted.load(Ordering::Relaxed), !(1 << 5));
}

#[test]
fn results_of_entries_that_were_not_posted_are_ignored() {
    let (posted, reaped, done) = words();
    let mut page = Producer::new(0);
    page.stage(&reaped);
    done.store(u64::MAX, Ordering::Relaxed);
    assert_eq!(page.look(&done), 0);
    page.ring(&posted);
    assert_eq!(page.look(&done), 1);
}

#[test]
fn runs_lie_side_by_side() {
    let (posted, reaped, done) = words();
    let mut page = Producer::new(0);
    assert_eq!(page.stage(&reaped), Some(0));
    assert_eq!(page.stage_run(3, &reaped), Some(1));
    assert_eq!(page.stage_run(60, &reaped), Some(4));
    assert_eq!(page.stage_run(1, &reaped), None);
    page.ring(&posted);
    assert_eq!(posted.load(Ordering::Relaxed), u64::MAX);
    done.store(0b1110_1011, Ordering::Relaxed);
    page.look(&done);
    while page.reap().is_some() {}
    assert_eq!(page.stage_run(4, &reaped), None);
    // The lower ones are skipped in this round, and follow in the next.
    assert_eq!(page.stage_run(3, &reaped), Some(5));
    assert_eq!(page.staged(), 0b1110_0000);
    assert_eq!(page.stage(&reaped), Some(0));
    assert_eq!(page.stage_run(64, &reaped), None);
}

#[test]
fn a_whole_page_is_a_run() {
    let (_, reaped, _) = words();
    let mut page = Producer::new(7);
    assert_eq!(page.stage_run(64, &reaped), Some(0));
    assert_eq!(page.stage(&reaped), None);
}

#[test]
fn kick_only_while_entries_are_pending() {
    let (posted, reaped, taken) = words();
    let flags = AtomicU32::new(NEED_WAKEUP);
    let mut page = Producer::new(0);
    page.stage(&reaped);
    assert!(!needs_kick(page.poster.last_posted(), &taken, &flags));
    page.ring(&posted);
    assert!(needs_kick(page.poster.last_posted(), &taken, &flags));
    taken.store(1, Ordering::Relaxed);
    assert!(!needs_kick(page.poster.last_posted(), &taken, &flags));
    page.stage(&reaped);
    page.ring(&posted);
    flags.store(0, Ordering::Relaxed);
    assert!(!needs_kick(page.poster.last_posted(), &taken, &flags));
}

#[test]
fn a_run_ends_at_the_first_entry_that_is_not_free() {
    let (posted, reaped, done) = words();
    let mut page = Producer::new(0);
    while page.stage(&reaped).is_some() {}
    page.ring(&posted);
    done.store(0b1011 | (3 << 62), Ordering::Relaxed);
    page.look(&done);
    while page.reap().is_some() {}
    page.poster.refill(page.reaped());
    assert_eq!(page.poster.take_run(), Some((0, 2)));
    assert_eq!(page.poster.take_run(), Some((3, 4)));
    assert_eq!(page.poster.take_run(), Some((62, 64)));
    assert_eq!(page.poster.take_run(), None);
}
