// SPDX-License-Identifier: MIT OR Apache-2.0
//! CPUs: unplugging one, and the CPUs and nice values of threads.

use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use super::{sys, until};
use crate::check::{Check, skip};

const ONLINE: &str = "/sys/devices/system/cpu/cpu1/online";

/// CPU 1, plugged in again when dropped.
pub struct Cpu1;

impl Cpu1 {
    pub fn get() -> Check<Cpu1> {
        if !Path::new(ONLINE).exists() {
            return skip("needs a CPU 1 that can be taken away");
        }
        match fs::write(ONLINE, "1") {
            Ok(()) => Ok(Cpu1),
            Err(error) => skip(format!("may not switch CPU 1: {error}")),
        }
    }

    /// Plugs the CPU in or unplugs it.
    pub fn set(&self, online: bool) -> Check {
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

/// Does the work while no other task gets to run on `cpu`; the caller must run on another one. The
/// kernel lets real-time tasks have a CPU to themselves for most of a second only.
pub fn without(cpu: usize, work: impl FnOnce() -> Check) -> Check {
    let (has_cpu, over) = (AtomicBool::new(false), AtomicBool::new(false));
    std::thread::scope(|scope| {
        let busy = scope.spawn(|| -> Check {
            ok!("sched_setaffinity", sys::pin(cpu));
            let priority = 1i32;
            let at = std::ptr::from_ref(&priority);
            let set = plain!(SYS_sched_setscheduler, 0, libc::SCHED_FIFO, at);
            check_ret!("SCHED_FIFO", set, 0);
            has_cpu.store(true, Ordering::Release);
            while !over.load(Ordering::Acquire) {
                std::hint::spin_loop();
            }
            Ok(())
        });
        let done = until("a busy CPU", || {
            has_cpu.load(Ordering::Acquire) || busy.is_finished()
        })
        .and_then(|()| work());
        over.store(true, Ordering::Release);
        busy.join().expect("no panic").and(done)
    })
}

/// A line of `/proc/self/task/TID/status`.
fn status(tid: i32, name: &str) -> Option<String> {
    let text = fs::read_to_string(format!("/proc/self/task/{tid}/status")).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    Some(line.trim_start_matches(':').trim().to_owned())
}

/// The CPUs, of the first 32, on which a thread of this process may run.
pub fn allowed(tid: i32) -> Option<u64> {
    let mask = status(tid, "Cpus_allowed")?;
    u64::from_str_radix(mask.rsplit(',').next()?, 16).ok()
}

/// A field of `/proc/self/task/TID/stat`, as proc(5) counts them.
fn stat(tid: i32, field: usize) -> Option<i64> {
    let stat = fs::read_to_string(format!("/proc/self/task/{tid}/stat")).ok()?;
    let fields = stat.rsplit_once(')')?.1;
    // The first field behind the name is field 3.
    fields.split_whitespace().nth(field - 3)?.parse().ok()
}

/// The nice value of a thread of this process.
pub fn nice(tid: i32) -> Option<i64> {
    stat(tid, 19)
}

/// The CPU on which a thread of this process has last run.
pub fn last(tid: i32) -> Option<i64> {
    stat(tid, 39)
}
