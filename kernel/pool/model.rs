// SPDX-License-Identifier: GPL-2.0

//! The model: the thread that all others of the engine are like, see `pools/alike.rs`.

use super::{
    table::{Inner, NONE},
    Pool,
};
use crate::sys::process::Thread;

impl Pool {
    /// The model, if it is one of this pool's threads.
    pub(crate) fn model(&self) -> Option<Thread> {
        let inner = self.lock();
        let slot = inner.slots.get(inner.model as usize)?;
        slot.thread.clone()
    }

    /// Thread `i` exists. The engine's first thread is the model.
    pub(super) fn note_created(&self, inner: &mut Inner, i: u32) {
        if self.lockless.total().set_model_pool(self.number) {
            inner.model = i;
        }
    }
}

impl Inner {
    /// Idle thread `i` retires, another one stays.
    pub(super) fn note_retired(&mut self, i: u32) {
        if self.model == i {
            self.model = self.idle;
            debug_assert!(self.model != NONE);
        }
    }
}
