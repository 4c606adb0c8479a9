// SPDX-License-Identifier: MIT OR Apache-2.0
//! WAIT's time limits are times of the caller's time namespace.

use std::fs;
use std::time::{Duration, Instant};

use nix::errno::Errno;

use crate::check::{Check, skip};
use crate::kit::abi::Policy;
use crate::kit::child::{in_child, spawn};
use crate::kit::engine::Engine;
use crate::kit::files::{BlockedReads, pipe};
use crate::kit::{patience, sys};

tests! { "wait":
    time_namespace => "in a time namespace WAIT's timeout is a time of that namespace";
}

const CLONE_NEWTIME: i32 = 0x80;

/// Waits for a result that does not come, until a time in the future and until one in the past.
fn time_out() -> Check {
    let engine = Engine::open()?;
    let mut ring = engine.ring(1)?;
    let (from, to) = pipe()?;
    let reads = BlockedReads::new(&from, 1);
    let slots = ring.post_all(&reads.calls());
    for ms in [0, 300] {
        let limit = Duration::from_millis(ms);
        let begin = Instant::now();
        check_eq!(
            format!("WAIT for {limit:?}"),
            ring.wait_for(Policy::Any, 0, limit),
            Err(Errno::ETIME)
        );
        let took = begin.elapsed();
        check!(
            took >= limit && took < patience(),
            "{took:?}, not {limit:?}"
        );
    }
    reads.release(&to)?;
    check_eq!("WAIT", ring.wait(Policy::All), Ok(1));
    check_ret!("read", ring.reap(slots[0]).result, 2);
    Ok(())
}

fn time_namespace() -> Check {
    let uptime = sys::monotonic_ns() / 1_000_000_000;
    let ahead = 100_000_000;
    // Behind and ahead of the host's clock, which must not become negative.
    for offset in [-(uptime as i64 / 2), ahead] {
        check!(offset != 0, "the machine has just been started");
        in_child(|| {
            if plain!(SYS_unshare, CLONE_NEWTIME) != 0 {
                return skip("needs a time namespace");
            }
            let line = format!("monotonic {offset} 0");
            ok!("offset", fs::write("/proc/self/timens_offsets", line));
            // Only children enter the new time namespace.
            spawn(|_| {
                let now = sys::monotonic_ns() / 1_000_000_000;
                let shown = now as i64 - uptime as i64;
                check!(
                    (offset..offset + 100).contains(&shown),
                    "{shown} for {offset}"
                );
                time_out()
            })?
            .join()
        })
        .map_err(|failure| failure.within(format_args!("offset {offset} s")))?;
    }
    Ok(())
}
