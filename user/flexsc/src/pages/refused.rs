// SPDX-License-Identifier: MIT OR Apache-2.0
//! Plain calls in place of refused ones, as their results are taken.

#![expect(unsafe_code, reason = "makes posted calls plainly")]

use super::Pages;
use crate::call::{Call, Completion, Reason, Slot};
use crate::chain::Chain;
use crate::doorbell::ENTRIES;
use crate::fallback;

impl Pages {
    /// Makes a plain call in place of a refused one, if that is wanted.
    #[cold]
    #[inline(never)]
    pub(super) fn refused(&mut self, slot: Slot, mut result: i64, reason: u8) -> Completion {
        let reason = Reason::from_raw(reason);
        if let Some(at) = self.made.iter().position(|&(made, _)| made == slot) {
            // A link of a chain that was made when its first result was taken.
            result = self.made.swap_remove(at).1;
        } else if self.fallback && fallback::applies(result, reason) {
            let call = self.queue.call(slot);
            if !call.is_linked() {
                self.fallbacks += 1;
                // SAFETY: whoever posted it has promised that it is good until
                // its completion is taken, which is now.
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

    /// Makes the chain plainly that begins in that slot; nothing of it was
    /// executed. Returns the result of its first call, and keeps the others for
    /// when they are taken. `None` if that cannot be done: it depends on calls
    /// before it, one of its calls was executed after all, or it has a loop, which
    /// may have gone round already.
    fn make_chain(&mut self, first: Slot) -> Option<i64> {
        let chain = self.chain_from(first)?;
        let mut results = vec![0; chain.len()];
        // SAFETY: whoever posted the calls has promised that they are good until
        // their completions are taken, of which this is the first.
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

    /// The chain of which nothing but what is from that slot on is left.
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
            // Whatever else lies there is no link of this chain.
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
