// SPDX-License-Identifier: MIT OR Apache-2.0
//! Makes plain calls in place of refused ones when their results are taken.

#![expect(unsafe_code, reason = "makes posted calls plainly")]

use super::Pages;
use crate::call::{Call, Completion, Reason, Slot};
use crate::chain::Chain;
use crate::doorbell::ENTRIES;
use crate::fallback;

impl Pages {
    /// Makes a plain call in place of a refused one, if enabled.
    #[cold]
    #[inline(never)]
    pub(super) fn refused(&mut self, slot: Slot, mut result: i64, reason: u8) -> Completion {
        let reason = Reason::from_raw(reason);
        if let Some(at) = self.made.iter().position(|&(made, _)| made == slot) {
            // A link of a chain whose calls were made when the chain's first result was taken.
            result = self.made.swap_remove(at).1;
        } else if self.fallback && fallback::applies(result, reason) {
            let call = self.queue.call(slot);
            if !call.is_linked() {
                self.fallbacks += 1;
                // SAFETY: the poster has promised that the call is valid until its
                // completion is taken, which happens now.
                result = unsafe { fallback::make(&call) };
            } else if let Some(made) = self.make_chain(slot) {
                result = made;
            }
        }
        Completion {
            slot,
            result,
            reason,
        }
    }

    /// Makes plain calls of the chain that begins in this slot, none of which was
    /// executed. Returns the result of the first call and keeps the others until they are
    /// taken. Returns `None` if this is impossible: the calls depend on earlier ones, one
    /// of them was executed, or there is a loop, which may already have run some rounds.
    fn make_chain(&mut self, first: Slot) -> Option<i64> {
        let chain = self.chain_from(first)?;
        let mut results = vec![0; chain.len()];
        // SAFETY: the poster has promised that the calls are valid until their completions
        // are taken. This is the first of them.
        unsafe { chain.make(&mut results, 1) }.ok()?;
        let executed = results
            .iter()
            .filter(|&&result| result != -i64::from(libc::ECANCELED));
        self.fallbacks += executed.count() as u64;
        let rest = results.iter().enumerate().skip(1);
        self.made
            .extend(rest.map(|(nth, &result)| (first.plus(nth), result)));
        results.first().copied()
    }

    /// Returns the chain whose remaining calls begin in this slot.
    fn chain_from(&self, first: Slot) -> Option<Chain> {
        let mut chain = Chain::new();
        let on_page = (ENTRIES - first.entry()) as usize;
        for nth in 0..on_page {
            let slot = first.plus(nth);
            let call: Call = self.queue.call(slot);
            let skipped = || {
                let answer = self.queue.peek(slot)?;
                let reason = Reason::from_raw(answer.reason);
                Some(reason == Reason::Chain || fallback::applies(answer.result, reason))
            };
            // An entry with any other answer is not a link of this chain.
            if call.is_repeated() || nth > 0 && skipped() != Some(true) {
                return None;
            }
            let last = !call.has_link();
            chain = chain.then_unchanged(call);
            if last {
                return chain.check().is_ok().then_some(chain);
            }
        }
        None
    }
}
