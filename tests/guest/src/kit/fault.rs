// SPDX-License-Identifier: MIT OR Apache-2.0
//! Failure injection: the nth allocation or copy from and to the program fails.
//!
//! See the kernel's Documentation/fault-injection. Allocations from slabs and of pages can fail,
//! and accesses to the program's memory.

use std::fs;
use std::os::fd::OwnedFd;
use std::path::Path;

use nix::errno::Errno;

use super::limits;
use super::sys;
use crate::check::{Check, Ret, skip};

const DEBUG: &str = "/sys/kernel/debug";

/// The settings while failures are injected: file, value.
const SETTINGS: [(&str, &str); 9] = [
    ("failslab/verbose", "0"),
    ("failslab/task-filter", "Y"),
    ("failslab/ignore-gfp-wait", "N"),
    ("fail_page_alloc/verbose", "0"),
    ("fail_page_alloc/task-filter", "Y"),
    ("fail_page_alloc/ignore-gfp-wait", "N"),
    ("fail_page_alloc/min-order", "0"),
    ("fail_usercopy/verbose", "0"),
    ("fail_usercopy/task-filter", "Y"),
];

/// Permission to inject failures. All settings are restored when it is dropped.
pub struct Faults {
    before: Vec<(&'static str, String)>,
    owner: u32,
}

impl Faults {
    pub fn new() -> Check<Faults> {
        limits::need_root()?;
        if !Path::new("/proc/self/fail-nth").exists() {
            return skip("needs a kernel with failure injection (the debug kernel)");
        }
        let mut faults = Faults {
            before: Vec::new(),
            owner: std::process::id(),
        };
        for (file, value) in SETTINGS {
            faults.set(file, value)?;
        }
        if prone_caches()? {
            faults.set("failslab/cache-filter", "Y")?;
        }
        Ok(faults)
    }

    fn set(&mut self, file: &'static str, value: &str) -> Check {
        let path = format!("{DEBUG}/{file}");
        let Ok(old) = fs::read_to_string(&path) else {
            return skip(format!("needs {path}"));
        };
        self.before.push((file, old.trim().to_owned()));
        ok!("failure injection", fs::write(&path, value));
        Ok(())
    }

    /// Makes this percentage of the allocations of [`Prone`] tasks fail.
    pub fn rain(&mut self, percent: u32) -> Check {
        for file in ["failslab/times", "fail_page_alloc/times"] {
            self.set(file, "-1")?;
        }
        for file in ["failslab/probability", "fail_page_alloc/probability"] {
            self.set(file, &percent.to_string())?;
        }
        Ok(())
    }
}

/// Lets allocations fail from all slabs but those of kmemleak. If one of these failed, kmemleak
/// would print under a lock of its own, which lockdep rightly reports, but which is not a fault of
/// the module. Returns false if the kernel does not show its slabs.
fn prone_caches() -> Check<bool> {
    let Ok(slabs) = fs::read_dir("/sys/kernel/slab") else {
        return Ok(false);
    };
    let mut prone = 0;
    for slab in slabs.flatten() {
        let own = slab.file_name().to_string_lossy().starts_with("kmemleak");
        // Slabs that several users share refuse this.
        if !own && fs::write(slab.path().join("failslab"), "1").is_ok() {
            prone += 1;
        }
    }
    check!(prone > 50, "only {prone} slabs can fail");
    Ok(true)
}

impl Drop for Faults {
    fn drop(&mut self) {
        if self.owner != std::process::id() {
            return;
        }
        for (file, old) in self.before.iter().rev() {
            let _ = fs::write(format!("{DEBUG}/{file}"), old);
        }
    }
}

/// Makes the calling thread, and the threads and processes that it starts, prone to
/// [`Faults::rain`] until this is dropped.
pub struct Prone(OwnedFd);

impl Prone {
    pub fn new() -> Check<Prone> {
        let path = c"/proc/thread-self/make-it-fail";
        let prone = Prone(ok!("make-it-fail", sys::open(path, libc::O_WRONLY, 0)));
        check_ret!("make-it-fail", prone.write(c"1"), 1);
        Ok(prone)
    }

    fn write(&self, value: &std::ffi::CStr) -> i64 {
        plain!(SYS_pwrite64, &self.0, value, 1, 0)
    }
}

impl Drop for Prone {
    fn drop(&mut self) {
        while self.write(c"0") != 1 {}
    }
}

/// One thread's counter.
pub struct Nth(OwnedFd);

impl Nth {
    /// The counter of the calling thread.
    pub fn own() -> Check<Nth> {
        Self::of(sys::gettid())
    }

    /// The counter of a thread of this process.
    pub fn of(tid: i32) -> Check<Nth> {
        let path = format!("/proc/self/task/{tid}/fail-nth");
        let path = std::ffi::CString::new(path).expect("no zero byte");
        let file = ok!("fail-nth", sys::open(&path, libc::O_RDWR, 0));
        Ok(Nth(file))
    }

    fn write(&self, n: u32) -> i64 {
        let mut text = [b'0'; 8];
        for (index, digit) in text.iter_mut().rev().enumerate() {
            *digit += (n / 10u32.pow(index as u32) % 10) as u8;
        }
        // Leading zeros would mean octal.
        let first = text.iter().position(|&d| d != b'0').unwrap_or(7);
        plain!(SYS_pwrite64, &self.0, text[first..].as_ptr(), 8 - first, 0)
    }

    /// Makes the nth operation from now on that can fail do so.
    pub fn arm(&self, n: u32) -> Check {
        let ret = self.write(n);
        check!(ret > 0, "fail-nth: {}", Ret(ret));
        Ok(())
    }

    /// Disarms the counter. Returns true if the failure was injected.
    pub fn disarm(&self) -> Check<bool> {
        let mut text = [0u8; 16];
        let ret = plain!(SYS_pread64, &self.0, text.as_mut_ptr(), text.len(), 0);
        // The copy of the answer itself may fail: then no failure was injected before.
        let injected = match sys::result(ret) {
            Ok(_) => text[0] == b'0',
            Err(Errno::EFAULT) => false,
            // The thread has ended.
            Err(Errno::ESRCH) => return Ok(false),
            Err(error) => fail!("fail-nth: {error:?}"),
        };
        while self.write(0) == -i64::from(libc::EFAULT) {}
        Ok(injected)
    }
}

/// Makes each operation that can fail in `work` fail once: the first one in the first round, and so
/// on, until a round passes without a failure. `prepare` makes the objects of a round; `judge` gets
/// the result of `work`, and whether a failure was injected. Returns the number of failures.
pub fn sweep<S, T>(
    mut prepare: impl FnMut() -> Check<S>,
    mut work: impl FnMut(&mut S) -> T,
    mut judge: impl FnMut(S, T, bool) -> Check,
) -> Check<u32> {
    const MOST: u32 = 3000;
    let nth = Nth::own()?;
    for n in 1..MOST {
        let mut state = prepare()?;
        nth.arm(n)?;
        let outcome = work(&mut state);
        let injected = nth.disarm()?;
        judge(state, outcome, injected)
            .map_err(|failure| failure.within(format_args!("failure {n}")))?;
        if !injected {
            return Ok(n - 1);
        }
    }
    fail!("more than {MOST} chances to fail")
}
