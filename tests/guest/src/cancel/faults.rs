// SPDX-License-Identifier: MIT OR Apache-2.0
//! CANCEL of a call that waits for a page of the program's memory.

use std::time::Duration;

use crate::check::Check;
use crate::kit::abi::REASON_NONE;
use crate::kit::child::in_child;
use crate::kit::mode::Mode;
use crate::kit::ring::check_done;
use crate::kit::uffd::Slow;
use crate::kit::{in_some_try, memory, patience, sys};

tests! { "cancel":
    waits_for_page => "a cancelled call that waits for a page sleeps on until the page comes";
}

/// CPU time of this process, its syscall threads included, in milliseconds.
fn cpu_ms() -> i64 {
    let mut time = [0i64; 2];
    let clock = libc::CLOCK_PROCESS_CPUTIME_ID;
    plain!(SYS_clock_gettime, clock, time.as_mut_ptr());
    time[0] * 1000 + time[1] / 1_000_000
}

fn waits_for_page() -> Check {
    for mode in [Mode::Async, Mode::Kick] {
        in_child(|| {
            let (_engine, mut ring) = mode.start(1)?;
            let page = Slow::page()?;
            let slots = ring.post_all(&[call!(SYS_uname, page.at).asynchronous()]);
            ring.kicked()?;
            check!(page.is_wanted(patience()), "nobody waits for the page");
            ok!("CANCEL", ring.cancel(slots[0]));
            // The process uses next to no CPU time meanwhile. A thread that spins would use all the
            // time; a task that runs as the machine stands still also uses it.
            in_some_try("a call that waits for a page without CPU time", |_| {
                let (before, begun) = (cpu_ms(), sys::monotonic_ns());
                std::thread::sleep(Duration::from_millis(600));
                let used = cpu_ms() - before;
                let passed = (sys::monotonic_ns() - begun) / 1_000_000;
                println!("# {used} ms of CPU time in {passed} ms");
                Ok(used * 4 < passed as i64)
            })?;
            check!(
                !ring.is_done(slots[0]),
                "the call has ended without its page"
            );
            page.provide()?;
            let done = ring.finish(&slots)?[0];
            check_done("uname", done, 0, REASON_NONE)?;
            check_eq!("system's name", memory::peek(page.at as *const u8), b'L');
            Ok(())
        })
        .map_err(|failure| failure.within(format_args!("{mode:?}")))?;
    }
    Ok(())
}
