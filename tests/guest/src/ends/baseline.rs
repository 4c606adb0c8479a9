// SPDX-License-Identifier: MIT OR Apache-2.0
//! Compares the kernel's allocations before and after many endings.
//!
//! Exact: the module's reference count, and the memory areas of registrations. With a tolerance:
//! threads and slab objects of the whole machine, because other processes begin and end meanwhile,
//! and the kernel keeps some for later. One forgotten object for each life would show as many of
//! them as there were lives; the tolerance is half of that, and at least [`NOISE`].

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::check::Check;
use crate::kit::limits::slow_kernel;
use crate::kit::{patience, process, rounds};

/// The number of objects that come and go by themselves.
const NOISE: i64 = 6;

/// Caches for the parts of a syscall thread, an engine or a registration.
const CACHES: [&str; 17] = [
    "task_struct",
    "signal_cache",
    "sighand_cache",
    "files_cache",
    "fs_cache",
    "mm_struct",
    "vm_area_struct",
    "filp",
    "pid",
    "cred_jar",
    "kmalloc-64",
    "kmalloc-cg-64",
    "kmalloc-cg-96",
    "kmalloc-cg-128",
    "kmalloc-cg-512",
    "kmalloc-cg-1k",
    "kmalloc-cg-4k",
];

/// A cache, whose files stay open: opening one after shrinking would take an object from it, and a
/// slab from which a CPU takes objects counts as full.
#[derive(Debug)]
struct Cache {
    name: &'static str,
    shrink: File,
    objects: File,
}

impl Cache {
    fn open(name: &'static str) -> Option<Cache> {
        let dir = Path::new("/sys/kernel/slab").join(name);
        Some(Cache {
            name,
            shrink: File::options().write(true).open(dir.join("shrink")).ok()?,
            objects: File::open(dir.join("objects")).ok()?,
        })
    }

    /// Objects in use, after CPUs and KASAN's quarantine have given up the ones that they keep.
    fn count(&self) -> Option<i64> {
        let mut text = [0u8; 64];
        self.shrink.write_at(b"1", 0).ok()?;
        let len = self.objects.read_at(&mut text, 0).ok()?;
        let text = std::str::from_utf8(text.get(..len)?).ok()?;
        text.split_whitespace().next()?.parse().ok()
    }
}

/// All threads of the machine, from /proc/loadavg.
fn threads() -> Option<i64> {
    let text = fs::read_to_string("/proc/loadavg").ok()?;
    let (_, all) = text.split_whitespace().nth(3)?.split_once('/')?;
    all.parse().ok()
}

/// The state to compare with.
#[derive(Debug)]
pub struct Baseline {
    refcnt: Option<i64>,
    areas: usize,
    caches: Vec<Cache>,
    counts: Vec<(&'static str, i64)>,
}

fn counts(caches: &[Cache]) -> Vec<(&'static str, i64)> {
    let counted = caches
        .iter()
        .filter_map(|cache| Some((cache.name, cache.count()?)));
    counted
        .chain(threads().map(|count| ("threads", count)))
        .collect()
}

impl Baseline {
    /// Only the exact counts.
    pub fn exact() -> Baseline {
        Baseline {
            refcnt: process::refcnt(),
            areas: process::areas(),
            caches: Vec::new(),
            counts: Vec::new(),
        }
    }

    pub fn take() -> Check<Baseline> {
        // On the debug kernel, shrinking a cache means going through all of KASAN's quarantine. So
        // each test looks at a third of the caches there, chosen by its process ID.
        let (parts, part) = match slow_kernel() && rounds(1) == 1 {
            true => (3, std::process::id() as usize % 3),
            false => (1, 0),
        };
        let names = CACHES.into_iter().skip(part).step_by(parts);
        let caches: Vec<Cache> = names.filter_map(Cache::open).collect();
        let baseline = Baseline {
            counts: counts(&caches),
            caches,
            ..Baseline::exact()
        };
        check!(
            baseline.counts.len() > 8 / parts,
            "too few of the kernel's caches can be counted: {:?}",
            baseline.counts
        );
        Ok(baseline)
    }

    /// Checks, while an engine is in use, that the counts show it.
    pub fn check_in_use(&self) -> Check {
        check!(
            process::areas() > self.areas && process::refcnt() > self.refcnt,
            "with an engine in use: {} areas, reference count {:?}, before: {self:?}",
            process::areas(),
            process::refcnt()
        );
        Ok(())
    }

    /// Waits until the exact counts are as before.
    pub fn until_exact(&self) -> Check {
        process::until_refcnt(self.refcnt)?;
        crate::kit::until("the memory of all registrations freed", || {
            process::areas() <= self.areas
        })
    }

    /// Waits until everything is as it was before these `lives` lives.
    pub fn until_restored(&self, lives: u32) -> Check {
        self.until_exact()?;
        let tolerance = NOISE.max(i64::from(lives) / 2);
        let end = Instant::now() + patience();
        loop {
            // RCU and the freeing of task structures take their time.
            let now = counts(&self.caches);
            let more = |name: &str, was: i64| {
                let now = now.iter().find(|(other, _)| *other == name);
                now.map_or(0, |(_, count)| count - was)
            };
            let mut above = self.counts.iter().filter_map(|&(name, was)| {
                let more = more(name, was);
                (more > tolerance).then(|| format!("{name}: {more} more than the {was} before"))
            });
            match above.next() {
                None => return Ok(()),
                Some(text) if Instant::now() > end => {
                    fail!("after {lives} lives, tolerance {tolerance}: {text}")
                }
                Some(_) => std::thread::sleep(Duration::from_millis(50)),
            }
        }
    }
}
