// SPDX-License-Identifier: MIT OR Apache-2.0
//! The memory cgroup is charged for the memory that calls in flight hold.

use crate::check::{Check, skip};
use crate::kit::abi::Policy;
use crate::kit::cgroup::Cgroup;
use crate::kit::child::in_child;
use crate::kit::files::{BlockedReads, pipe};
use crate::kit::mode::Mode;
use crate::kit::until;

tests! { "charges":
    cgroup_pays_for_calls => "thread stacks and parked calls are charged to the memory cgroup";
}

/// Memory of this kind that is charged to a group, in bytes.
fn charged(group: &Cgroup, kind: &str) -> Check<u64> {
    let text = group.read("memory.stat");
    let mut lines = text.lines().filter_map(|line| line.split_once(' '));
    let bytes = lines.find_map(|(name, bytes)| (name == kind).then_some(bytes));
    match bytes.and_then(|bytes| bytes.trim().parse().ok()) {
        Some(bytes) => Ok(bytes),
        None => skip(format!("needs {kind:?} in memory.stat")),
    }
}

/// Waits until memory of this kind has grown by `more` since it was `before`.
fn until_charged(group: &Cgroup, kind: &str, before: u64, more: u64) -> Check {
    let mut now = 0;
    until(&format!("{more} bytes more of {kind}"), || {
        now = charged(group, kind).unwrap_or(0);
        now >= before + more
    })
    .map_err(|failure| failure.within(format_args!("{before} bytes before, {now} now")))
}

fn cgroup_pays_for_calls() -> Check {
    const THREADS: usize = 24;
    /// The smallest stack of a thread.
    const STACK: u64 = 16 << 10;
    /// A parked call is larger than this.
    const CALL: u64 = 128;
    let group = Cgroup::new(Some("memory"))?;
    in_child(|| {
        group.enter()?;
        let (engine, mut ring) = Mode::Inline.start(64)?;
        let (from, to) = pipe()?;
        let stacks = charged(&group, "kernel_stack")?;
        let reads = BlockedReads::new(&from, THREADS);
        let slots = ring.post_blocked(&reads.calls())?;
        engine.until_pool(0, "blocked calls", |pool| pool.blocked >= THREADS as u64)?;
        until_charged(&group, "kernel_stack", stacks, (THREADS as u64 - 2) * STACK)?;
        reads.release(&to)?;
        ring.finish(&slots)?;
        let slab = charged(&group, "slab")?;
        let mut byte = 0u8;
        let read = call!(SYS_read, &from, std::ptr::from_mut(&mut byte), 1);
        let count = ring.capacity();
        let slots = ring.post_all(&vec![read; count]);
        ok!("WAIT for nothing", ring.wait(Policy::None));
        check_eq!("parked", engine.stats()?.parked, count as u64);
        until_charged(&group, "slab", slab, count as u64 * CALL)?;
        drop(to);
        for done in ring.finish(&slots)? {
            check_ret!("read", done.result, 0);
        }
        Ok(())
    })
}
