// SPDX-License-Identifier: MIT OR Apache-2.0
//! The memory of engines and threads, besides that of pages, is charged to the memory cgroup.

use super::charges::kernel_memory;
use crate::check::Check;
use crate::kit::cgroup::Cgroup;
use crate::kit::child::in_child;
use crate::kit::engine::Engine;
use crate::kit::files::{BlockedReads, pipe};
use crate::kit::{process, until};

tests! { "charges":
    cgroup_pays_for_engines => "engines' tables and pools are charged to the memory cgroup";
    cgroup_pays_for_threads => "an engine's threads, with their stacks, are charged to it too";
}

/// Waits until the kernel memory of a group is at least `bytes`.
fn until_kernel_memory(group: &Cgroup, what: &str, bytes: u64) -> Check {
    let mut now = 0;
    // The sum is updated at least every two seconds.
    until(what, || {
        now = kernel_memory(group).unwrap_or(0);
        now >= bytes
    })
    .map_err(|failure| failure.within(format_args!("{now} bytes, expected {bytes}")))
}

/// Waits until the kernel memory of a group is at most `bytes`.
fn until_given_back(group: &Cgroup, bytes: u64) -> Check {
    let mut now = 0;
    until("the charge given back", || {
        now = kernel_memory(group).unwrap_or(u64::MAX);
        now <= bytes
    })
    .map_err(|failure| failure.within(format_args!("{now} bytes, expected {bytes}")))
}

/// Memory that an engine keeps once it has had a registration: its table and a pool's queue.
const ENGINE: u64 = 6 << 10;

fn cgroup_pays_for_engines() -> Check {
    let group = Cgroup::new(Some("memory"))?;
    in_child(|| {
        group.enter()?;
        // The first engine also allocates the memory that all engines share.
        let first = Engine::open()?;
        ok!("REGISTER", first.register(1));
        let before = kernel_memory(&group)?;
        let mut engines = Vec::new();
        for _ in 0..100 {
            let engine = Engine::open()?;
            let id = ok!("REGISTER", engine.register(1)).id;
            check_eq!("UNREGISTER", engine.unregister(id), Ok(0));
            engines.push(engine);
        }
        until_kernel_memory(&group, "100 engines charged", before + 100 * ENGINE)?;
        let with = kernel_memory(&group)?;
        println!("# {} bytes an engine", (with - before) / 100);
        drop(engines);
        until_given_back(&group, before + 20 * ENGINE)?;
        drop(first);
        Ok(())
    })
}

/// A thread's stack.
const STACK: u64 = 16 << 10;

fn cgroup_pays_for_threads() -> Check {
    let group = Cgroup::new(Some("memory"))?;
    in_child(|| {
        group.enter()?;
        let engine = Engine::open()?;
        let mut ring = engine.ring(1)?;
        // Afterwards one thread exists, and the table of threads has its memory.
        let (from, to) = pipe()?;
        let one = BlockedReads::new(&from, 1);
        let first = ring.post_blocked(&one.calls())?;
        one.release(&to)?;
        ring.finish(&first)?;
        let before = kernel_memory(&group)?;
        let count = 50;
        let reads = BlockedReads::new(&from, count);
        // With ASYNC each of the calls has a thread.
        let calls: Vec<_> = reads.calls().iter().map(|c| c.asynchronous()).collect();
        let slots = ring.post_blocked(&calls)?;
        engine.until_stats("50 blocked calls", |stats| {
            stats.peak_blocked >= count as u64
        })?;
        until_kernel_memory(&group, "50 stacks charged", before + count as u64 * STACK)?;
        let with = kernel_memory(&group)?;
        println!("# {} bytes a thread", (with - before) / count as u64);
        reads.release(&to)?;
        for done in ring.finish(&slots)? {
            check_ret!("read", done.result, 2);
        }
        drop(ring);
        drop(engine);
        process::until_tasks(1)?;
        until_given_back(&group, before + 10 * STACK)
    })
}
