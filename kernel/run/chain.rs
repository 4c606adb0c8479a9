// SPDX-License-Identifier: GPL-2.0

//! Chains: adjacent entries, each of which starts when the previous one has succeeded, with
//! results passed on and loops. `docs/abi.md` has their rules.
//!
//! The task that began a chain continues it even after it has blocked. If another task must
//! execute an entry, it executes the rest of the chain too, and the entries before it are *held*:
//! all results of a chain are published together at its end, so that no entry is reused while
//! others may take its result.

use super::{
    entry::Outcome,
    turn::Turn,
    verdict::{is_failure, is_refusal, refused, Verdict},
    Batch,
};
use crate::{
    dispatch::{Start, Why},
    sys::{arch, area::Entry, invoke::Frame, process},
};
use kernel::prelude::*;
use kernel::uapi;

/// Number of entries in a page.
const ENTRIES: u32 = uapi::FLEXSC_PAGE_ENTRIES;

/// The entries of a chain.
struct Chain {
    /// The first entry of the chain; already executed if it is before `next`.
    first: u32,
    /// The entry to begin with.
    next: u32,
    last: u32,
    /// First and last entry of its loop.
    looped: Option<(u32, u32)>,
}

/// The entries from `first` to `last`.
fn span(first: u32, last: u32) -> u64 {
    (u64::MAX << first) & (u64::MAX >> (ENTRIES - 1 - last))
}

fn has(e: &Entry, flag: u32) -> bool {
    u32::from(e.flags) & flag != 0
}

/// Returns true if entry `at` of a failed chain starts nevertheless: never if it takes the
/// result of an entry that has failed.
fn starts_after_failure(at: u32, e: &Entry, results: &[i64; ENTRIES as usize]) -> bool {
    let missing = |take: u8| {
        let back = u32::from(take >> 3) + 1;
        let from = at
            .checked_sub(back)
            .and_then(|from| results.get(from as usize));
        take != 0 && from.is_some_and(|result| is_failure(*result))
    };
    has(e, uapi::FLEXSC_ENTRY_ALWAYS) && !e.take.into_iter().any(missing)
}

/// The results of a chain's entries, by index.
type ChainResults = [i64; ENTRIES as usize];

/// The progress of a task in a chain.
struct Walk<'c> {
    chain: &'c Chain,
    /// The last result of each entry.
    results: ChainResults,
    /// The entries before this one have results.
    reached: u32,
    /// Entries with FLEXSC_ENTRY_SUM that have a result of an earlier round.
    sums: u64,
    rounds: u64,
    /// True if an entry has failed, here or in the task that began the chain.
    failed: bool,
    /// The turn of a loop.
    turn: Option<Turn>,
}

impl<'c> Walk<'c> {
    #[inline(always)]
    fn new(chain: &'c Chain) -> Self {
        Walk {
            chain,
            results: [0; ENTRIES as usize],
            reached: chain.next,
            sums: 0,
            rounds: 0,
            failed: false,
            turn: chain.looped.is_some().then(Turn::new),
        }
    }

    /// Takes over the results of the entries that other tasks have executed.
    #[inline(always)]
    fn take_over(&mut self, result: impl Fn(u32) -> i64) {
        for at in self.chain.first..self.chain.next {
            let result = result(at);
            self.results[at as usize] = result;
            self.failed |= is_failure(result);
        }
    }

    fn is_over(&self, at: u32) -> bool {
        at > self.chain.last
    }

    /// Notes the result of entry `at`.
    fn note(&mut self, at: u32, result: i64) {
        self.results[at as usize] = result;
        self.reached = core::cmp::max(self.reached, at + 1);
    }

    /// Puts the results that entry `at`, copied to `e`, takes into its arguments.
    fn take_results(&self, at: u32, e: &mut Entry) -> Result {
        for take in e.take {
            if take == 0 {
                continue;
            }
            let back = u32::from(take >> 3) + 1;
            let from = at.checked_sub(back).ok_or(EINVAL)?;
            let arg = usize::from(take & 7).checked_sub(1).ok_or(EINVAL)?;
            if from < self.chain.first {
                return Err(EINVAL);
            }
            let result = arch::get(&self.results, from as usize).ok_or(EINVAL)?;
            *arch::get_mut(&mut e.args, arg).ok_or(EINVAL)? = *result as u64;
        }
        Ok(())
    }

    /// Returns true if the turn of a loop is over.
    fn is_turn_over(&mut self) -> bool {
        self.turn.as_mut().is_some_and(Turn::is_over)
    }
}

impl Batch<'_> {
    /// Returns true if entry `index` continues a chain that another task began.
    pub(super) fn is_continued(&self, index: u32) -> bool {
        index != 0 && self.pages.held(self.page.get()) & (1 << (index - 1)) != 0
    }

    /// Finds the chain that begins or continues with `index`, which was started.
    fn find_chain(&self, index: u32) -> Chain {
        let page = self.page.get();
        let held = self.pages.held(page);
        let unstarted = self.entries.unstarted();
        let head = |index| self.pages.area().entry(page, index).head();
        let mut first = index;
        while first != 0 && held & (1 << (first - 1)) != 0 {
            first -= 1;
        }
        let mut last = index;
        while last + 1 < ENTRIES && head(last).is_linked() && unstarted & (1 << (last + 1)) != 0 {
            last += 1;
        }
        let mut looped = None;
        for at in index..=last {
            if head(at).is_looped() {
                looped = match looped {
                    Some((begin, end)) if end + 1 == at => Some((begin, at)),
                    None => Some((at, at)),
                    other => other,
                };
            }
        }
        Chain {
            first,
            next: index,
            last,
            looped,
        }
    }

    /// Executes the chain that begins or continues with entry `index`.
    #[inline(never)]
    pub(super) fn start_chain(&self, frame: &Frame, index: u32) {
        let chain = self.find_chain(index);
        let rest = span(chain.next, chain.last);
        self.entries.start(rest);
        self.entries.in_chain.set(rest);
        if chain.looped.is_some() {
            if self.is_owner() {
                // A loop may take long, and the owner has other entries to execute. No entry of the
                // loop is returned.
                return self.offload_rest(&chain, chain.next, 0, ENTRIES);
            }
            // The entries that were claimed with the loop must not wait for its end.
            let mut pools = self.offload_unstarted();
            pools.extend(self.pools_to_wake.take());
            self.engine.pools.push(pools, self.pages);
            // Another thread must continue to poll.
            self.step_down();
        }
        self.walk_chain(frame, &chain);
    }

    /// Holds the executed entries of a chain whose rest another thread executes.
    fn hold(&self, chain: &Chain, next: u32) {
        let executed = span(chain.first, chain.last) & !span(next, chain.last);
        self.entries.give_up(executed);
        let refused = self.results.give_up_refused(executed);
        self.pages.hold(self.page.get(), executed, refused);
    }

    /// Returns the entries of a chain, from `next` on, to the owner.
    fn give_back_rest(&self, chain: &Chain, next: u32) {
        self.hold(chain, next);
        self.give_back(span(next, chain.last));
    }

    /// Offloads the entries of a chain, from `next` on, to a pool; the entries from `chance` on
    /// only by chance.
    fn offload_rest(&self, chain: &Chain, next: u32, pool: u8, chance: u32) {
        let page = self.page.get();
        let head = self.pages.area().entry(page, chain.first).head().pool();
        let pool = if next == chain.first && self.has_pool(head) {
            head
        } else {
            pool
        };
        self.hold(chain, next);
        let by_chance = match chance {
            first if first <= chain.last => span(first, chain.last),
            _ => 0,
        };
        self.offload_to(pool, span(next, chain.last), by_chance);
    }

    /// Executes a chain up to its end, or up to an entry that another thread continues from.
    fn walk_chain(&self, frame: &Frame, chain: &Chain) {
        let page = self.page.get();
        let mut walk = Walk::new(chain);
        walk.take_over(|at| self.pages.area().entry(page, at).result());
        if chain.first != chain.next {
            let held = span(chain.first, chain.next - 1);
            self.results
                .own_refused(self.pages.held_refused(page) & held);
        }
        let mut at = chain.next;
        while !walk.is_over(at) {
            let e = self.pages.area().entry(page, at).take();
            if walk.failed && !starts_after_failure(at, &e, &walk.results) {
                // In a loop the entry may have a result of an earlier round.
                if at >= walk.reached {
                    self.skip_to(&mut walk, at + 1);
                    walk.note(at, refused(Why::ChainFailed).0);
                }
                at += 1;
                continue;
            }
            let Some(next) = self.execute_in_chain(frame, &mut walk, at, e) else {
                return;
            };
            at = next;
            // A loop may have ended before its first round reached these entries.
            self.skip_to(&mut walk, at);
            if !self.goes_on_with(frame, &mut walk, at) {
                return;
            }
        }
        self.skip_to(&mut walk, chain.last + 1);
        self.pages.count_chain(walk.rounds);
        // Held results are published with the rest.
        self.entries.own(span(chain.first, chain.last));
    }

    /// Executes entry `at` of a chain, which was copied to `e`. Returns the entry to continue with,
    /// or `None` if this task does not continue the chain.
    fn execute_in_chain(
        &self,
        frame: &Frame,
        walk: &mut Walk<'_>,
        at: u32,
        mut e: Entry,
    ) -> Option<u32> {
        let chain = walk.chain;
        let start = if at == chain.first {
            Start::First
        } else {
            Start::Follows
        };
        let outcome = if self.is_cancelled(at) {
            Outcome::Done(refused(Why::Cancelled))
        } else if walk.take_results(at, &mut e).is_err() {
            Outcome::Done(refused(Why::BadEntry))
        } else {
            self.execute(frame, at, &e, start)
        };
        let Outcome::Done(verdict) = outcome else {
            self.hand_on(chain, at, outcome);
            return None;
        };
        if self.sleep.dying.get() {
            self.abandon(chain);
            return None;
        }
        walk.note(at, verdict.0);
        self.complete_in_chain(walk, at, &e, verdict);
        if walk.failed {
            return Some(at + 1);
        }
        Some(self.next_in_chain(walk, at, verdict))
    }

    /// Gives entry `at` of a chain, which has no result yet, and the rest to other tasks.
    fn hand_on(&self, chain: &Chain, at: u32, outcome: Outcome) {
        match outcome {
            // A thread waits in the call and continues the chain afterwards.
            Outcome::Wait => self.offload_rest(chain, at, 0, at + 1),
            Outcome::Offload(pool) => {
                // The owner itself has decided about this entry.
                let chance = if self.is_owner() { at + 1 } else { ENTRIES };
                self.offload_rest(chain, at, pool, chance);
            }
            Outcome::OffloadByChance => self.offload_rest(chain, at, 0, at),
            Outcome::Return | Outcome::Done(_) => self.give_back_rest(chain, at),
        }
    }

    /// Between two entries of a chain: lets other tasks run, and gives the rest away if it must.
    /// Returns true if this task executes entry `at`.
    fn goes_on_with(&self, frame: &Frame, walk: &mut Walk<'_>, at: u32) -> bool {
        let chain = walk.chain;
        let over = walk.is_turn_over();
        if over {
            self.give_way();
        }
        if over || self.thread_flags.is_needed() {
            if process::resched_and_check_signal() && !walk.is_over(at) {
                let Some(thread) = frame.thread() else {
                    self.offload_rest(chain, at, 0, at);
                    return false;
                };
                if thread.signal() {
                    self.set_dying();
                }
            }
        }
        if !self.is_owner() && (self.sleep.dying.get() || self.must_stop()) {
            self.abandon(chain);
            return false;
        }
        // The task that began a loop ends it.
        if !walk.is_over(at) && chain.looped.is_none() && !self.may_go_on() {
            self.offload_rest(chain, at, self.role.get().pool().unwrap_or(0), ENTRIES);
            return false;
        }
        true
    }

    /// Gives up in the middle of a chain, because the thread ends with its engine or process.
    fn abandon(&self, chain: &Chain) {
        self.entries.give_up(span(chain.first, chain.last));
    }

    /// Skips the entries before `end` that were not reached so far.
    fn skip_to(&self, walk: &mut Walk<'_>, end: u32) {
        for at in walk.reached..end {
            let nr = self.pages.area().entry(self.page.get(), at).head().nr();
            self.complete(at, nr, refused(Why::ChainFailed));
        }
        walk.reached = core::cmp::max(walk.reached, end);
    }

    /// Writes the result of entry `at`. In a loop it may be added to the results of earlier rounds.
    fn complete_in_chain(
        &self,
        walk: &mut Walk<'_>,
        at: u32,
        e: &Entry,
        (result, reason): Verdict,
    ) {
        let mut shown = result;
        if has(e, uapi::FLEXSC_ENTRY_SUM) && !is_failure(result) {
            let bit = 1 << at;
            if walk.sums & bit != 0 {
                let before = self.pages.area().entry(self.page.get(), at).result();
                shown = shown.wrapping_add(before);
            }
            walk.sums |= bit;
        }
        self.complete(at, e.nr, (shown, reason));
    }

    /// Returns the entry to execute after `at`, whose result this is.
    fn next_in_chain(&self, walk: &mut Walk<'_>, at: u32, (result, reason): Verdict) -> u32 {
        if is_failure(result) || is_refusal(reason) {
            walk.failed = true;
            return at + 1;
        }
        let Some((begin, end)) = walk.chain.looped else {
            return at + 1;
        };
        if at < begin || at > end {
            return at + 1;
        }
        if result == 0 {
            return end + 1;
        }
        if at < end {
            return at + 1;
        }
        walk.rounds += 1;
        if walk.rounds >= self.engine.loop_max() {
            let entry = self.pages.area().entry(self.page.get(), at);
            let shown = entry.result();
            entry.put_result(shown, uapi::flexsc_reason_FLEXSC_REASON_BOUND as u8);
            return at + 1;
        }
        begin
    }
}
