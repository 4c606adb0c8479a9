// SPDX-License-Identifier: MIT OR Apache-2.0
//! Facts about the machine: processors, memory, context switches.

use std::fs;
use std::io;
use std::thread;
use std::time::Duration;

use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::unistd::Pid;

/// Returns the processors that this thread may use.
///
/// # Errors
///
/// Those of the system call.
pub fn cpus() -> io::Result<Vec<usize>> {
    let set = sched_getaffinity(Pid::from_raw(0))?;
    Ok((0..CpuSet::count())
        .filter(|&cpu| set.is_set(cpu).unwrap_or(false))
        .collect())
}

/// Binds this thread to these processors.
///
/// # Errors
///
/// Those of the system call.
pub fn bind(cpus: &[usize]) -> io::Result<()> {
    let mut set = CpuSet::new();
    for &cpu in cpus {
        set.set(cpu)?;
    }
    Ok(sched_setaffinity(Pid::from_raw(0), &set)?)
}

/// Raises the limit on descriptors to this many.
///
/// # Errors
///
/// The hard limit is lower.
pub fn want_files(files: u64) -> io::Result<()> {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    if soft < files {
        setrlimit(Resource::RLIMIT_NOFILE, files, hard.max(files))?;
    }
    Ok(())
}

/// Returns the number after `key` in a file of `/proc`.
fn number(file: &str, key: &str) -> io::Result<u64> {
    fs::read_to_string(file)?
        .lines()
        .find_map(|line| {
            line.strip_prefix(key)?
                .split_whitespace()
                .next()?
                .parse()
                .ok()
        })
        .ok_or_else(|| io::Error::other(format!("{file} has no {key}")))
}

/// Returns the context switches of the whole machine since boot.
///
/// # Errors
///
/// `/proc` is not mounted.
pub fn switches() -> io::Result<u64> {
    number("/proc/stat", "ctxt ")
}

/// Returns how many threads of this process sleep.
///
/// # Errors
///
/// `/proc` is not mounted.
pub fn sleeping_threads() -> io::Result<usize> {
    let mut sleeping = 0;
    for task in fs::read_dir("/proc/self/task")? {
        // The state comes after the name, which ends with the last bracket.
        let stat = fs::read_to_string(task?.path().join("stat"))?;
        let state = stat.rsplit(')').next().unwrap_or_default();
        sleeping += usize::from(state.trim_start().starts_with('S'));
    }
    Ok(sleeping)
}

/// Memory of the whole machine, in bytes.
#[derive(Clone, Copy, Debug)]
pub struct Memory {
    /// Memory that a program could still allocate.
    pub available: u64,
    /// The kernel's objects.
    pub slab: u64,
    /// Stacks of threads in the kernel.
    pub stacks: u64,
}

impl Memory {
    /// Reads the current values.
    ///
    /// # Errors
    ///
    /// `/proc` is not mounted.
    pub fn now() -> io::Result<Memory> {
        let kib = |key| Ok::<_, io::Error>(number("/proc/meminfo", key)? * 1024);
        Ok(Memory {
            available: kib("MemAvailable:")?,
            slab: kib("Slab:")?,
            stacks: kib("KernelStack:")?,
        })
    }
}

/// Returns the idle jiffies of all processors, and all jiffies.
fn idle_and_all() -> io::Result<(u64, u64)> {
    let stat = fs::read_to_string("/proc/stat")?;
    let line = stat.lines().next().unwrap_or_default();
    let jiffies: Vec<u64> = line
        .split_whitespace()
        .skip(1)
        .filter_map(|field| field.parse().ok())
        .collect();
    // user, nice, system, idle, iowait, and more.
    let idle = jiffies.iter().skip(3).take(2).sum();
    Ok((idle, jiffies.iter().sum()))
}

/// Sleeps until the processors are idle, since the kernel is busy for a while after boot.
/// Returns true if they have become idle.
///
/// # Errors
///
/// `/proc` is not mounted.
pub fn wait_until_idle() -> io::Result<bool> {
    let (mut idle, mut all) = idle_and_all()?;
    let mut quiet = 0;
    for _ in 0..40 {
        thread::sleep(Duration::from_millis(250));
        let (idle_now, all_now) = idle_and_all()?;
        let busy = (all_now - all).saturating_sub(idle_now - idle);
        quiet = if busy * 20 <= all_now - all {
            quiet + 1
        } else {
            0
        };
        if quiet == 4 {
            return Ok(true);
        }
        (idle, all) = (idle_now, all_now);
    }
    Ok(false)
}

/// Sleeps until there are few context switches: everything that was started has blocked.
///
/// # Errors
///
/// `/proc` is not mounted, or the machine is never quiet.
pub fn settle() -> io::Result<()> {
    const QUIET: u64 = 40;
    let mut before = switches()?;
    let mut quiet = 0;
    for _ in 0..500 {
        thread::sleep(Duration::from_millis(20));
        let now = switches()?;
        quiet = if now - before < QUIET { quiet + 1 } else { 0 };
        if quiet == 3 {
            return Ok(());
        }
        before = now;
    }
    Err(io::Error::other("the machine does not become quiet"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn proc_is_understood() {
        let memory = Memory::now().unwrap();
        assert!(memory.available > memory.stacks && memory.stacks > 0);
        assert!(switches().unwrap() > 0);
        assert!(!cpus().unwrap().is_empty());
    }
}
