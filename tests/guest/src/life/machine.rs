// SPDX-License-Identifier: MIT OR Apache-2.0
//! A CPU goes away and comes back.

use std::fs;
use std::path::Path;

use super::Busy;
use crate::check::{Check, skip};
use crate::kit::mode::Mode;
use crate::kit::{rounds, sys};

tests! { "life":
    cpu_unplug => "taking CPU 1 away and back under load: spinning there, and everywhere";
    owner_on_unplugged_cpu => "the owner's own CPU goes away while its calls are in flight";
}

const ONLINE: &str = "/sys/devices/system/cpu/cpu1/online";

/// CPU 1, brought back when dropped.
struct Cpu1;

impl Cpu1 {
    fn get() -> Check<Cpu1> {
        if !Path::new(ONLINE).exists() {
            return skip("needs a CPU 1 that can be taken away");
        }
        match fs::write(ONLINE, "1") {
            Ok(()) => Ok(Cpu1),
            Err(error) => skip(format!("may not switch CPU 1: {error}")),
        }
    }

    fn set(&self, online: bool) -> Check {
        let value = if online { "1" } else { "0" };
        if let Err(error) = fs::write(ONLINE, value) {
            fail!("{value} to {ONLINE}: {error}");
        }
        Ok(())
    }
}

impl Drop for Cpu1 {
    fn drop(&mut self) {
        let _ = fs::write(ONLINE, "1");
    }
}

fn cpu_unplug() -> Check {
    let cpu = Cpu1::get()?;
    for mode in Mode::ALL {
        let mut busy = Busy::start(mode)?;
        for round in 0..rounds(3) {
            busy.call()?;
            // Not only with idle threads.
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
        // The kernel has moved this thread; any CPU will do again.
        let all = [u64::MAX; 2];
        plain!(SYS_sched_setaffinity, 0, size_of_val(&all), all.as_ptr());
    }
    Ok(())
}
