// SPDX-License-Identifier: MIT OR Apache-2.0
//! Reclaim of memory slows syscall threads down like the program's own threads.

use std::ffi::CString;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use crate::blocking::mounts::Disk;
use crate::check::{Check, skip};
use crate::kit::cgroup::Cgroup;
use crate::kit::child::in_child;
use crate::kit::files::TempDir;
use crate::kit::limits::need_root;
use crate::kit::mode::Mode;
use crate::kit::sys;
use crate::kit::trace::Trace;

tests! { "faults":
    reclaim_throttles => "a syscall thread that reclaims memory waits if too much is being reclaimed";
}

const DIR: &str = "/sys/kernel/debug/fail_function";
/// Says whether so much is being reclaimed that others wait.
const FUNCTION: &str = "too_many_isolated";
const TIMES: u32 = 3;

/// Makes tasks with `make-it-fail` believe that too much is being reclaimed.
struct TooMuch;

impl TooMuch {
    fn new() -> Check<TooMuch> {
        need_root()?;
        let inject = Path::new(DIR).join("inject");
        if fs::write(inject, FUNCTION).is_err() {
            return skip("needs a kernel with failure injection into reclaim (the debug kernel)");
        }
        let too_much = TooMuch;
        let times = TIMES.to_string();
        for (file, value) in [
            ("task-filter", "Y"),
            ("verbose", "0"),
            ("interval", "1"),
            ("space", "0"),
            ("times", &times),
            ("probability", "100"),
        ] {
            ok!(file, fs::write(Path::new(DIR).join(file), value));
        }
        let retval = format!("{DIR}/{FUNCTION}/retval");
        ok!("retval", fs::write(retval, "1"));
        Ok(too_much)
    }
}

impl Drop for TooMuch {
    fn drop(&mut self) {
        let _ = fs::write(Path::new(DIR).join("probability"), "0");
        let _ = fs::write(Path::new(DIR).join("inject"), format!("!{FUNCTION}"));
    }
}

fn reclaim_throttles() -> Check {
    let _too_much = TooMuch::new()?;
    let group = Cgroup::new(Some("memory"))?;
    let dir = TempDir::new()?;
    let disk = Disk::new(&dir)?;
    let file = disk.mount.path("file");
    in_child(|| {
        group.enter()?;
        // What the group can give back: pages of a file that are on disk.
        let path = Path::new(std::ffi::OsStr::from_bytes(file.to_bytes()));
        ok!("write", fs::write(path, vec![0u8; 1 << 20]));
        plain!(SYS_sync);
        ok!("read", fs::read(path));
        ok!("make-it-fail", fs::write("/proc/self/make-it-fail", "1"));
        let (_engine, mut ring) = Mode::Inline.start(1)?;
        let reclaim = ok!(
            "open",
            sys::open(&group.file("memory.reclaim"), libc::O_WRONLY, 0)
        );
        let trace = Trace::watch(&["vmscan/mm_vmscan_throttled"])?;
        let amount = CString::new("64K").expect("no zero byte");
        let write = call!(SYS_write, &reclaim, amount.as_ptr(), 3).asynchronous();
        let result = ring.result(write)?;
        let known = [3, -i64::from(libc::EAGAIN)];
        check!(known.contains(&result), "memory.reclaim: {result}");
        // The thread is still there, as the log is read by thread.
        let waits = trace.lines("mm_vmscan_throttled")?.len();
        check!(waits > 0, "the thread has not waited");
        Ok(())
    })
}
