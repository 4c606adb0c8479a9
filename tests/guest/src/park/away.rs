// SPDX-License-Identifier: MIT OR Apache-2.0
//! Parked calls whose owner is not in WAIT when their file is ready.

use super::{Words, park, send};
use crate::check::Check;
use crate::kit::engine::Engine;
use crate::kit::files::{readable, socket_pair};
use crate::kit::mode::Mode;
use crate::kit::ring::Ring;
use crate::kit::{patience, sys, trace, until};

tests! { "park":
    owner_polls => "a program that reads results, polls the device or has an eventfd need not WAIT";
    ready_alone => "if a call becomes ready while its owner is away, a kworker does nothing else";
}

fn start() -> Check<(Engine, Ring)> {
    Mode::Inline.start(1)
}

fn owner_polls() -> Check {
    let (engine, mut ring) = start()?;
    let (from, to) = socket_pair()?;
    let event = sys::own(plain!(SYS_eventfd2, 0, libc::EFD_CLOEXEC) as i32);
    engine.set_eventfd(&event)?;
    let words = Words::new(1);
    for way in 0..3 {
        let slots = park(&engine, &mut ring, &[words.receive(0, &from)])?;
        send(&to, b"x")?;
        let there = match way {
            0 => readable(&event, patience()),
            1 => {
                let fd = sys::own(plain!(SYS_dup, engine.fd()) as i32);
                readable(&fd, patience())
            }
            _ => ring.poll_until_done(&slots).is_ok(),
        };
        check!(there, "way {way}: nothing is reported");
        until("the result", || ring.is_done(slots[0]))?;
        check_ret!("recvfrom", ring.reap(slots[0]).result, 1);
        let mut count = 0u64;
        plain!(SYS_read, &event, std::ptr::from_mut(&mut count), 8);
    }
    Ok(())
}

fn ready_alone() -> Check {
    let (engine, mut ring) = start()?;
    let (from, to) = socket_pair()?;
    let words = Words::new(1);
    let mut receive = || {
        for _ in 0..20 {
            let slots = park(&engine, &mut ring, &[words.receive(0, &from)])?;
            send(&to, b"x")?;
            ring.poll_until_done(&slots)?;
            check_ret!("recvfrom", ring.reap(slots[0]).result, 1);
        }
        Check::Ok(())
    };
    let all = trace::kworker_runs("flexsc_deferred_work", &mut receive)?;
    let ready = trace::kworker_runs("flexsc_deferred_ready", &mut receive)?;
    check!(ready != 0, "no kworker has offloaded anything");
    check!(all < 5, "{all} runs of a kworker that looks at everything");
    Ok(())
}
