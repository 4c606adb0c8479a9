// SPDX-License-Identifier: MIT OR Apache-2.0
//! A CPU goes away and comes back.

use super::Busy;
use crate::check::Check;
use crate::kit::cpu::Cpu1;
use crate::kit::mode::Mode;
use crate::kit::{rounds, sys};

tests! { "life":
    cpu_unplug => "CPU 1 is unplugged and plugged in again under load, in all modes";
    owner_on_unplugged_cpu => "the owner's own CPU goes away while its calls are in flight";
}

fn cpu_unplug() -> Check {
    let cpu = Cpu1::get()?;
    for mode in Mode::ALL {
        let mut busy = Busy::start(mode)?;
        for round in 0..rounds(3) {
            busy.call()?;
            // Threads are busy meanwhile, not only idle.
            let slots = busy.ring.post_all(&[call!(SYS_getpid); 4]);
            cpu.set(round % 2 == 1)?;
            for done in busy.ring.finish(&slots)? {
                check_ret!("getpid", done.result, std::process::id());
            }
            for _ in 0..20 {
                busy.call()?;
            }
        }
        cpu.set(true)?;
        busy.call()?;
        busy.end()
            .map_err(|failure| failure.within(format_args!("mode {mode:?}")))?;
    }
    Ok(())
}

fn owner_on_unplugged_cpu() -> Check {
    let cpu = Cpu1::get()?;
    for mode in [Mode::Inline, Mode::Kick] {
        let mut busy = Busy::start(mode)?;
        ok!("sched_setaffinity", sys::pin(1));
        busy.call()?;
        cpu.set(false)?;
        busy.call()?;
        cpu.set(true)?;
        busy.call()?;
        busy.end()?;
        // The kernel has moved this thread. It may run on any CPU again.
        let all = [u64::MAX; 2];
        plain!(SYS_sched_setaffinity, 0, size_of_val(&all), all.as_ptr());
    }
    Ok(())
}
