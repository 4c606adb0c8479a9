// SPDX-License-Identifier: GPL-2.0

//! The model: the thread that all other threads of the engine must match, see `pools/alike.rs`.

use super::{
    table::{Inner, NONE},
    Pool,
};
use crate::sys::process::Thread;

impl Pool {
    /// Returns the model if it is a thread of this pool.
    pub(crate) fn model(&self) -> Option<Thread> {
        let inner = self.lock();
        let slot = inner.slots.get(inner.model as usize)?;
        slot.thread.clone()
    }

    /// Notes that thread `i` exists. The engine's first thread becomes the model.
    pub(super) fn note_created(&self, inner: &mut Inner, i: u32) {
        if self.lockless.total().set_model_pool(self.number) {
            inner.model = i;
        }
    }
}

impl Inner {
    /// Notes that idle thread `i` retires. If it was the model, an idle thread takes its place.
    pub(super) fn note_retired(&mut self, i: u32) {
        if self.model == i {
            self.model = self.idle;
            debug_assert!(self.model != NONE);
        }
    }
}
