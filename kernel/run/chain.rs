// SPDX-License-Identifier: GPL-2.0

//! Chains: entries side by side of which each starts when the one before it has succeeded, with
//! results passed on and loops. What they mean is said in the UAPI header.
//!
//! The task that has begun a chain goes on with it even after it has blocked. Only where an entry
//! has to be executed by somebody else, the rest of the chain goes to that one, and what was
//! executed is *held*: all results of a chain are published together at its end, so that no entry
//! is used again while others may take its result.

use super::Batch;
use crate::{
    dispatch::{self, Outcome, Start, Verdict},
    sys::{arch, area::Entry, errno, invoke::Frame, process, thread},
};
use kernel::prelude::*;
use kernel::uapi;

/// Entries of a page.
const ENTRIES: u32 = uapi::FLEXSC_PAGE_ENTRIES;

/// Where a chain lies.
struct Chain {
    /// Its first entry, executed already where that is before `next`.
    first: u32,
    /// The entry to begin with.
    next: u32,
    last: u32,
    /// First and last entry of its loop.
    looped: Option<(u32, u32)>,
}

/// Entries of a loop between two looks at the clock.
const ENTRIES_PER_LOOK: u32 = 16;

/// How long a loop goes on until it lets others have a look: about what the scheduler gives to a
/// task. By time, as a task that is alone on its CPU is never told to reschedule, and one that is
/// preempted does not see that it was.
const TURN_NS: u64 = 4_000_000;

/// The time that a loop takes.
struct Turn {
    entries: u32,
    since: u64,
}

impl Turn {
    fn new() -> Self {
        Turn {
            entries: 0,
            since: process::now_ns(),
        }
    }

    /// One entry more was executed. Is the time over? If so, the next turn begins.
    fn is_over(&mut self) -> bool {
        self.entries += 1;
        if self.entries < ENTRIES_PER_LOOK {
            return false;
        }
        self.entries = 0;
        let now = process::now_ns();
        let over = now.saturating_sub(self.since) >= TURN_NS;
        if over {
            self.since = now;
        }
        over
    }
}

/// The entries from `first` to `last`.
fn span(first: u32, last: u32) -> u64 {
    (u64::MAX << first) & (u64::MAX >> (ENTRIES - 1 - last))
}

/// What comes after an entry.
enum Then {
    /// The entry behind it.
    Next,
    /// This entry.
    Goto(u32),
    /// The chain has failed.
    Fail,
}

fn cancelled(reason: uapi::flexsc_reason) -> Verdict {
    (errno::ecanceled().to_errno().into(), reason)
}

fn has(e: &Entry, flag: u32) -> bool {
    u32::from(e.flags) & flag != 0
}

/// Does entry `at` of a chain that has failed start all the same? Not with the result of an entry
/// that has none.
fn starts_after_failure(at: u32, e: &Entry, results: &[i64; ENTRIES as usize]) -> bool {
    let missing = |take: u8| {
        let back = u32::from(take >> 3) + 1;
        let from = at
            .checked_sub(back)
            .and_then(|from| results.get(from as usize));
        take != 0 && from.is_some_and(|result| dispatch::is_failure(*result))
    };
    has(e, uapi::FLEXSC_ENTRY_ALWAYS) && !e.take.into_iter().any(missing)
}

impl Batch<'_> {
    /// Has the chain that goes on with entry `index` been begun by somebody else?
    pub(super) fn is_continued(&self, index: u32) -> bool {
        index != 0 && self.pages.held(self.page.get()) & (1 << (index - 1)) != 0
    }

    /// The chain that begins or goes on with `index`, which is no more in `todo`.
    fn find_chain(&self, index: u32) -> Chain {
        let page = self.page.get();
        let held = self.pages.held(page);
        let todo = self.left();
        let head = |index| self.pages.area().entry(page, index).head();
        let mut first = index;
        while first != 0 && held & (1 << (first - 1)) != 0 {
            first -= 1;
        }
        let mut last = index;
        while last + 1 < ENTRIES && head(last).is_linked() && todo & (1 << (last + 1)) != 0 {
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

    /// Executes the chain that begins or goes on with entry `index`.
    pub(super) fn execute_chain(&self, frame: &Frame, index: u32) {
        let chain = self.find_chain(index);
        let rest = span(chain.next, chain.last);
        self.begin(rest);
        self.open.set(rest);
        if self.by_owner && chain.looped.is_some() {
            // A loop may take its time, and the owner has others to serve. Nothing of it comes back.
            return self.give_rest(&chain, chain.next, 0, false);
        }
        if chain.looped.is_some() {
            // Nor shall those wait for its end that were claimed together with it.
            let mut left = self.leave(self.take_left());
            left.extend(self.given.take());
            self.engine.pools.push(left, self.pages);
            // And a kernel core has to go on polling.
            self.step_down();
        }
        self.run_chain(frame, &chain);
    }

    /// Holds what is executed of a chain, of which somebody else executes the rest.
    fn hold(&self, chain: &Chain, next: u32) {
        let executed = span(chain.first, chain.last) & !span(next, chain.last);
        self.batch.set(self.batch.get() & !executed);
        self.pages.hold(self.page.get(), executed);
    }

    /// Leaves what is not executed of a chain to the owner.
    fn give_back_rest(&self, chain: &Chain, next: u32) {
        self.hold(chain, next);
        self.give_back(span(next, chain.last));
    }

    /// Leaves what is not executed of a chain to a pool.
    fn give_rest(&self, chain: &Chain, next: u32, pool: u8, by_chance: bool) {
        let page = self.page.get();
        let head = self.pages.area().entry(page, chain.first).head().pool();
        let pool = if next == chain.first && self.has_pool(head) {
            head
        } else {
            pool
        };
        self.hold(chain, next);
        self.give(pool, span(next, chain.last), by_chance);
    }

    fn run_chain(&self, frame: &Frame, chain: &Chain) {
        let page = self.page.get();
        let place = |index| self.pages.area().entry(page, index);
        // What each entry returned last.
        let mut results = [0; ENTRIES as usize];
        for at in chain.first..chain.next {
            results[at as usize] = place(at).result();
        }
        let mut rounds: u64 = 0;
        let mut turn = chain.looped.is_some().then(Turn::new);
        let mut at = chain.next;
        // The entries before this one have results.
        let mut reached = chain.next;
        let mut sums = 0u64;
        // An entry has failed, here or where the chain was begun.
        let mut failed =
            (chain.first..chain.next).any(|at| dispatch::is_failure(results[at as usize]));
        while at <= chain.last {
            let mut e = place(at).take();
            if failed && !starts_after_failure(at, &e, &results) {
                // In a loop it may have a result of an earlier round.
                if at >= reached {
                    self.skip(at, at);
                    results[at as usize] = errno::ecanceled().to_errno().into();
                    reached = at + 1;
                }
                at += 1;
                continue;
            }
            let start = if at == chain.first {
                Start::First
            } else {
                Start::Follows
            };
            let outcome = if self.is_cancelled(at) {
                Outcome::Done(cancelled(uapi::flexsc_reason_FLEXSC_REASON_CANCELLED))
            } else if self.take_results(chain, at, &mut e, &results).is_err() {
                Outcome::Done(dispatch::bad_entry())
            } else {
                dispatch::execute(self, frame, at, &e, start)
            };
            let verdict = match outcome {
                Outcome::Done(verdict) => verdict,
                Outcome::Offload(pool) => return self.give_rest(chain, at, pool, self.by_owner),
                Outcome::Interrupted => return self.give_rest(chain, at, 0, true),
                Outcome::Return => return self.give_back_rest(chain, at),
            };
            if self.dying.get() {
                return self.abandon(chain);
            }
            results[at as usize] = verdict.0;
            self.put_in_chain(at, &e, verdict, &mut sums);
            reached = core::cmp::max(reached, at + 1);
            let then = if failed {
                Then::Next
            } else {
                self.after(chain, at, verdict, &mut rounds)
            };
            at = match then {
                Then::Next => at + 1,
                Then::Goto(at) => at,
                Then::Fail => {
                    failed = true;
                    at + 1
                }
            };
            if at > reached {
                // The loop has ended before it came to these for the first time.
                self.skip(reached, at - 1);
                reached = at;
            }
            let over = turn.as_mut().is_some_and(Turn::is_over);
            if over {
                self.give_way();
            }
            if over || self.attention.is_needed() {
                if process::breathe() && at <= chain.last {
                    if self.by_owner {
                        return self.give_rest(chain, at, 0, true);
                    }
                    if thread::signal() {
                        self.set_dying();
                    }
                }
            }
            if !self.by_owner && (self.dying.get() || self.must_stop()) {
                return self.abandon(chain);
            }
            // A loop is ended by whoever began it.
            if at <= chain.last && chain.looped.is_none() && !self.may_go_on() {
                return self.give_rest(chain, at, self.pool().unwrap_or(0), false);
            }
        }
        if reached <= chain.last {
            self.skip(reached, chain.last);
        }
        self.pages.count_chain(rounds);
        // What was held by others is published with the rest.
        let all = span(chain.first, chain.last);
        self.batch.set(self.batch.get() | all);
    }

    /// The thread ends in the middle of a chain, and so does its engine or process.
    fn abandon(&self, chain: &Chain) {
        let all = span(chain.first, chain.last);
        self.batch.set(self.batch.get() & !all);
    }

    /// The entries from `first` to `last` are not executed.
    fn skip(&self, first: u32, last: u32) {
        for at in first..=last {
            let nr = self.pages.area().entry(self.page.get(), at).head().nr();
            self.complete(at, nr, cancelled(uapi::flexsc_reason_FLEXSC_REASON_CHAIN));
        }
    }

    /// Puts the results that `e` takes into its arguments.
    fn take_results(
        &self,
        chain: &Chain,
        at: u32,
        e: &mut Entry,
        results: &[i64; ENTRIES as usize],
    ) -> Result {
        for take in e.take {
            if take == 0 {
                continue;
            }
            let back = u32::from(take >> 3) + 1;
            let from = at.checked_sub(back).ok_or(EINVAL)?;
            let arg = usize::from(take & 7).checked_sub(1).ok_or(EINVAL)?;
            if from < chain.first {
                return Err(EINVAL);
            }
            let result = arch::get(results, from as usize).ok_or(EINVAL)?;
            *arch::get_mut(&mut e.args, arg).ok_or(EINVAL)? = *result as u64;
        }
        Ok(())
    }

    /// Writes a result, which in a loop may be added to those of earlier rounds.
    fn put_in_chain(&self, at: u32, e: &Entry, (result, reason): Verdict, sums: &mut u64) {
        let bit = 1 << at;
        let place = self.pages.area().entry(self.page.get(), at);
        let mut shown = result;
        if has(e, uapi::FLEXSC_ENTRY_SUM) && !dispatch::is_failure(result) {
            if *sums & bit != 0 {
                shown = shown.wrapping_add(place.result());
            }
            *sums |= bit;
        }
        self.complete(at, e.nr, (shown, reason));
    }

    fn after(&self, chain: &Chain, at: u32, verdict: Verdict, rounds: &mut u64) -> Then {
        let (result, reason) = verdict;
        if dispatch::is_failure(result) || dispatch::is_refusal(reason) {
            return Then::Fail;
        }
        let Some((begin, end)) = chain.looped else {
            return Then::Next;
        };
        if at < begin || at > end {
            return Then::Next;
        }
        if result == 0 {
            return Then::Goto(end + 1);
        }
        if at < end {
            return Then::Next;
        }
        *rounds += 1;
        if *rounds >= self.engine.loop_max() {
            let place = self.pages.area().entry(self.page.get(), at);
            let shown = place.result();
            place.put_result(shown, uapi::flexsc_reason_FLEXSC_REASON_BOUND as u8);
            return Then::Next;
        }
        Then::Goto(begin)
    }
}
