// SPDX-License-Identifier: MIT OR Apache-2.0
//! A branch predictor: gshare for directions, a target table for indirect branches, and a stack
//! for returns.
//!
//! Real predictors are better and secret. gshare (McFarling, "Combining Branch Predictors", DEC WRL
//! TN-36, 1993) shows what the model needs: how much code of the kernel and of the program disturb
//! each other's entries.

use crate::decode::Flow;

/// A branch that was executed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Branch {
    /// The address of the branch.
    pub at: u64,
    /// The address of the instruction after it in memory.
    pub next: u64,
    /// The address to which it went.
    pub target: u64,
    /// What kind of branch it is.
    pub flow: Flow,
}

/// A predictor.
#[derive(Clone, Debug)]
pub struct Predictor {
    /// Two-bit counters: 0 and 1 predict that a branch is not taken.
    counters: Vec<u8>,
    /// Address of the branch mixed with the history, and its last target.
    targets: Vec<(u64, u64)>,
    returns: Vec<u64>,
    top: usize,
    history: u64,
}

impl Predictor {
    /// Makes an empty predictor. Tables have 2^`counter_bits` counters and 2^`target_bits` targets.
    #[must_use]
    pub fn new(counter_bits: u32, target_bits: u32, returns: usize) -> Predictor {
        Predictor {
            counters: vec![1; 1 << counter_bits],
            targets: vec![(0, 0); 1 << target_bits],
            returns: vec![0; returns.max(1)],
            top: 0,
            history: 0,
        }
    }

    /// Learns from a branch. Returns true if it was predicted.
    pub fn branch(&mut self, branch: &Branch) -> bool {
        match branch.flow {
            Flow::Conditional => self.direction(branch),
            Flow::Call => {
                self.push(branch.next);
                true
            }
            Flow::IndirectCall => {
                self.push(branch.next);
                self.target(branch)
            }
            Flow::IndirectJump => self.target(branch),
            Flow::Return => {
                let predicted = self.returns[self.top];
                self.top = self.top.checked_sub(1).unwrap_or(self.returns.len() - 1);
                predicted == branch.target
            }
            _ => true,
        }
    }

    fn push(&mut self, address: u64) {
        self.top = (self.top + 1) % self.returns.len();
        self.returns[self.top] = address;
    }

    fn direction(&mut self, branch: &Branch) -> bool {
        let taken = branch.target != branch.next;
        let mask = self.counters.len() as u64 - 1;
        let counter = &mut self.counters[((branch.at ^ self.history) & mask) as usize];
        let predicted = *counter > 1;
        *counter = if taken {
            (*counter + 1).min(3)
        } else {
            counter.saturating_sub(1)
        };
        // As much history as the table has bits of index.
        self.history = ((self.history << 1) | u64::from(taken)) & mask;
        predicted == taken
    }

    fn target(&mut self, branch: &Branch) -> bool {
        let mask = self.targets.len() as u64 - 1;
        let entry = &mut self.targets[((branch.at ^ self.history) & mask) as usize];
        let predicted = *entry == (branch.at, branch.target);
        *entry = (branch.at, branch.target);
        predicted
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn misses(predictor: &mut Predictor, branches: impl IntoIterator<Item = Branch>) -> usize {
        branches
            .into_iter()
            .filter(|branch| !predictor.branch(branch))
            .count()
    }

    fn conditional(at: u64, taken: bool) -> Branch {
        Branch {
            at,
            next: at + 2,
            target: if taken { at + 100 } else { at + 2 },
            flow: Flow::Conditional,
        }
    }

    #[test]
    fn a_constant_direction_is_learnt() {
        let mut predictor = Predictor::new(12, 9, 16);
        // Each step of the growing history finds a new counter, which predicts "not taken".
        assert_eq!(
            misses(&mut predictor, (0..100).map(|_| conditional(64, true))),
            13
        );
        assert_eq!(
            misses(&mut predictor, (0..100).map(|_| conditional(64, true))),
            0
        );
        let mut predictor = Predictor::new(12, 9, 16);
        assert_eq!(
            misses(&mut predictor, (0..100).map(|_| conditional(64, false))),
            0
        );
    }

    #[test]
    fn a_short_pattern_is_learnt_and_chance_is_not() {
        let pattern = |turn: u64| conditional(64, turn % 3 == 0);
        let mut predictor = Predictor::new(12, 9, 16);
        misses(&mut predictor, (0..100).map(pattern));
        assert_eq!(misses(&mut predictor, (100..1000).map(pattern)), 0);
        let mut random = 1_u64;
        let chance = |_| {
            random = random
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            conditional(64, random >> 63 != 0)
        };
        let missed = misses(&mut predictor, (0..10_000).map(chance));
        assert!((4_500..5_500).contains(&missed), "{missed}");
    }

    #[test]
    fn returns_go_to_their_calls_as_deep_as_the_stack_is() {
        for (depth, missed) in [(16, 0), (17, 1), (20, 4)] {
            let mut predictor = Predictor::new(4, 4, 16);
            let call = |level: u64| Branch {
                at: level * 16,
                next: level * 16 + 5,
                target: (level + 1) * 16,
                flow: Flow::Call,
            };
            assert_eq!(misses(&mut predictor, (0..depth).map(call)), 0);
            let back = |level: u64| Branch {
                at: 1000,
                next: 1001,
                target: level * 16 + 5,
                flow: Flow::Return,
            };
            assert_eq!(misses(&mut predictor, (0..depth).rev().map(back)), missed);
        }
    }

    #[test]
    fn an_indirect_branch_goes_where_it_went() {
        let mut predictor = Predictor::new(4, 9, 16);
        let jump = |target| Branch {
            at: 64,
            next: 66,
            target,
            flow: Flow::IndirectJump,
        };
        assert_eq!(
            misses(
                &mut predictor,
                [jump(1), jump(1), jump(2), jump(2), jump(1)]
            ),
            3
        );
    }
}
