// SPDX-License-Identifier: GPL-2.0

//! The tracepoints off the path of a single call; the others are in `invoke`.

use super::{c, process::Thread};

/// Fires `flexsc:flexsc_post`: entries `bits` of `page` were seen and accepted.
pub(crate) fn post(owner: &Thread, id: u32, page: u32, bits: u64) {
    // SAFETY: `owner` holds a reference to the task.
    unsafe { c::flexsc_trace_post(owner.as_ptr(), id, page, bits) }
}

/// Fires `flexsc:flexsc_handoff`: the current task blocks, `queued` registrations wait in `pool`.
pub(crate) fn handoff(pool: u8, queued: u32) {
    // SAFETY: No preconditions.
    unsafe { c::flexsc_trace_handoff(pool.into(), queued) }
}

/// Fires `flexsc:flexsc_wait`: the current task, an owner, sleeps until `missing` more results of
/// its registration are ready.
pub(crate) fn wait(id: u32, missing: u32) {
    // SAFETY: No preconditions.
    unsafe { c::flexsc_trace_wait(id, missing) }
}

/// Fires `flexsc:flexsc_kick`.
pub(crate) fn kick(owner: &Thread, id: u32) {
    // SAFETY: `owner` holds a reference to the task.
    unsafe { c::flexsc_trace_kick(owner.as_ptr(), id) }
}
