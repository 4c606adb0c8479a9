// SPDX-License-Identifier: MIT OR Apache-2.0
//! Properties of the machine, and limits of processes.

use std::fs;
use std::path::Path;
use std::sync::OnceLock;

use nix::errno::Errno;

use super::{rounds, sys};
use crate::check::{Check, skip};

/// A user without privileges ("nobody" nearly everywhere).
pub const NOBODY: u32 = 65534;

/// Returns true if the kernel has checks built in that make it many times slower.
pub fn slow_kernel() -> bool {
    static SLOW: OnceLock<bool> = OnceLock::new();
    *SLOW.get_or_init(|| {
        let signs = ["/proc/lockdep_stats", "/sys/kernel/debug/kmemleak"];
        signs.iter().any(|sign| Path::new(sign).exists())
    })
}

/// Returns a number for tests that need many threads, but no certain number: `usual`, or a fifth of
/// that on a slow kernel, which takes 15 ms to make a thread. In a soak the number is always
/// `usual`.
pub fn many(usual: usize) -> usize {
    if slow_kernel() && rounds(1) == 1 {
        usual.div_ceil(5)
    } else {
        usual
    }
}

/// CPUs that this process may use.
pub fn cpus() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// The CPU to be polled: the second one if there is one.
pub fn poller_cpu() -> usize {
    usize::from(cpus() > 1)
}

/// Skips the test on a machine with one CPU.
pub fn need_two_cpus() -> Check {
    if cpus() < 2 {
        return skip("needs two processors");
    }
    Ok(())
}

/// Skips the test unless root runs it.
pub fn need_root() -> Check {
    if plain!(SYS_geteuid) != 0 {
        return skip("needs root");
    }
    Ok(())
}

/// Sets soft and hard limit.
pub fn set_limit(resource: u32, value: u64) -> Result<u64, Errno> {
    let limit = libc::rlimit {
        rlim_cur: value,
        rlim_max: value,
    };
    sys::result(plain!(
        SYS_prlimit64,
        0,
        resource,
        std::ptr::from_ref(&limit),
        0
    ))
}

/// Drops the privileges of the calling thread, and of no other.
pub fn drop_rights() -> Result<u64, Errno> {
    sys::result(plain!(SYS_setgroups, 0, 0))?;
    sys::result(plain!(SYS_setresgid, NOBODY, NOBODY, NOBODY))?;
    sys::result(plain!(SYS_setresuid, NOBODY, NOBODY, NOBODY))
}

/// A parameter of the loaded module.
pub fn module_param(name: &str) -> Option<u64> {
    let path = format!("/sys/module/flexsc/parameters/{name}");
    fs::read_to_string(path).ok()?.trim().parse().ok()
}
