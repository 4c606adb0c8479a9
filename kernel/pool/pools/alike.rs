// SPDX-License-Identifier: GPL-2.0

//! All threads of an engine are alike.
//!
//! A thread has the tables (files, file system context, namespaces, semaphore undo list) and
//! control groups of the task that creates it, and executes calls only for owners that share these.
//! It must not depend on chance whether an owner gets such a thread. So all threads are like the
//! engine's first one: a task that does not share its tables creates none. One thread is the model
//! that new threads are compared with: initially the first thread; when the model retires, an idle
//! thread takes its place.

use super::Pools;
use crate::{
    pool::Pool,
    sys::{errno, process::Thread, thread},
};
use kernel::prelude::*;

impl Pools {
    /// Returns the thread that all others must match, if there is one.
    fn model(&self) -> Option<Thread> {
        self.get(self.total.model_pool()?).and_then(Pool::model)
    }

    /// Returns `EXDEV` if threads that the current task creates would not be like the engine's
    /// other threads. May sleep.
    pub(crate) fn check_alike(&self) -> Result {
        // Each further round means that another model has retired.
        while let Some(model) = self.model() {
            if thread::is_like(&model) {
                break;
            }
            // A model that retired in the meantime has given up its tables: the comparison is void.
            if self.model().is_some_and(|now| now.is(&model)) {
                return Err(errno::exdev());
            }
        }
        Ok(())
    }
}
