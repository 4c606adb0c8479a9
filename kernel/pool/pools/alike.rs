// SPDX-License-Identifier: GPL-2.0

//! The threads of an engine are all alike.
//!
//! A thread has the tables (files, file system context, namespaces, semaphore undo list) and control
//! groups of whoever makes it, and executes calls only of owners that share these. So that it does
//! not depend on chance whether an owner meets such a thread, all threads are like the engine's
//! first one: no other task makes any. There always is a thread that is like the first one, the
//! model: when a model retires, another idle thread takes its place.

use super::Pools;
use crate::{
    pool::Pool,
    sys::{errno, process::Thread, thread},
};
use kernel::prelude::*;

impl Pools {
    /// A thread that all others are like, if there is a thread.
    fn model(&self) -> Option<Thread> {
        self.get(self.total.model_pool()?).and_then(Pool::model)
    }

    /// May the current task make threads of this engine? `EXDEV` if they would not be like the
    /// others. May sleep.
    pub(crate) fn check_alike(&self) -> Result {
        // Each further round means that another model has retired.
        while let Some(model) = self.model() {
            if thread::is_like(&model) {
                break;
            }
            // One that has retired meanwhile gives up its tables, and proves nothing.
            if self.model().is_some_and(|now| now.is(&model)) {
                return Err(errno::exdev());
            }
        }
        Ok(())
    }
}
