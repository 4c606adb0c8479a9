// SPDX-License-Identifier: MIT OR Apache-2.0
//! The adaptive wait policy.

use std::time::Duration;

use nix::errno::Errno;

use crate::check::Check;
use crate::kit::abi::{Policy, Wait};
use crate::kit::engine::Engine;
use crate::kit::files::{BlockedReads, pipe, write_all};
use crate::kit::rounds;

tests! { "wait":
    adaptive_gives_all => "ADAPTIVE never waits for more results than can come, and loses none";
    adaptive_slow => "if results come slowly, ADAPTIVE returns for each of them";
    adaptive_bad => "ADAPTIVE: min or linger is EINVAL, nothing posted EDEADLK, no result ETIME";
}

fn adaptive_gives_all() -> Check {
    let engine = Engine::open()?;
    let mut ring = engine.ring(2)?;
    for round in 0..rounds(50) {
        let count = 1 + (round as usize * 7) % 128;
        let calls: Vec<_> = (0..count)
            .map(|n| match n % 3 {
                0 => call!(SYS_getpid).asynchronous(),
                _ => call!(SYS_getpid),
            })
            .collect();
        ring.post_all(&calls);
        let mut left = count;
        while left > 0 {
            let ready = ok!("WAIT", ring.wait(Policy::Adaptive));
            check!(ready > 0, "WAIT returned without a result");
            while let Some(done) = ring.poll() {
                check_ret!("getpid", done.result, std::process::id());
                left -= 1;
            }
        }
    }
    Ok(())
}

fn adaptive_slow() -> Check {
    let engine = Engine::open()?;
    let mut ring = engine.ring(1)?;
    let (from, to) = pipe()?;
    let reads = BlockedReads::new(&from, 20);
    ring.post_blocked(&reads.calls())?;
    for n in 0..20u16 {
        // No other result comes before the program has taken this one.
        write_all(&to, &n.to_ne_bytes())?;
        let ready = ok!("WAIT", ring.wait(Policy::Adaptive));
        check_eq!("results", ready, 1);
        let Some(done) = ring.poll() else {
            fail!("WAIT has counted a result that is not there");
        };
        check_ret!("read", done.result, 2);
    }
    reads.check()
}

fn adaptive_bad() -> Check {
    let engine = Engine::open()?;
    let mut ring = engine.ring(1)?;
    let good = Wait::new(ring.id, Policy::Adaptive);
    for mut bad in [
        Wait { min: 1, ..good },
        Wait {
            linger_ns: 1,
            ..good
        },
    ] {
        check_eq!("WAIT", ring.wait_raw(&mut bad), Err(Errno::EINVAL));
    }
    check_eq!(
        "with nothing posted",
        ring.wait(Policy::Adaptive),
        Err(Errno::EDEADLK)
    );
    let (from, to) = pipe()?;
    let reads = BlockedReads::new(&from, 1);
    let slots = ring.post_blocked(&reads.calls())?;
    let late = ring.wait_for(Policy::Adaptive, 0, Duration::from_millis(20));
    check_eq!("at the time limit", late, Err(Errno::ETIME));
    reads.release(&to)?;
    check_ret!("read", ring.finish(&slots)?[0].result, 2);
    reads.check()
}
