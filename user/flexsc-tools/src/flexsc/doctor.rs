// SPDX-License-Identifier: MIT OR Apache-2.0
//! `flexsc doctor`: one line for each thing that a program needs, and what to do
//! where it is missing.

#![expect(unsafe_code, reason = "posts a call")]

use std::env::consts::ARCH;
use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;
use std::time::Duration;

use flexsc::{DEVICE, Engine, Error, Pages, Reason, Wait, calls};
use nix::sys::resource::{RLIM_INFINITY, Resource, getrlimit};

const MODULE: &str = "/sys/module/flexsc";
const PATIENCE: Duration = Duration::from_secs(5);

/// What was found out about one thing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Finding {
    Good,
    /// Works, but not as well as it could.
    Fair,
    Bad,
}

/// Prints the findings and remembers the worst.
struct Report {
    worst: Finding,
}

impl Report {
    fn say(&mut self, finding: Finding, what: &str, text: impl std::fmt::Display) {
        let mark = match finding {
            Finding::Good => "ok",
            Finding::Fair => "note",
            Finding::Bad => "FAIL",
        };
        println!("{mark:<5}{what:<11}{text}");
        if finding == Finding::Bad || self.worst == Finding::Good {
            self.worst = finding;
        }
    }

    fn good(&mut self, what: &str, text: impl std::fmt::Display) {
        self.say(Finding::Good, what, text);
    }

    fn fair(&mut self, what: &str, text: impl std::fmt::Display) {
        self.say(Finding::Fair, what, text);
    }

    fn bad(&mut self, what: &str, text: impl std::fmt::Display) {
        self.say(Finding::Bad, what, text);
    }
}

/// Examines the machine; says whether FlexSC can be used.
pub fn examine() -> bool {
    let mut report = Report {
        worst: Finding::Good,
    };
    let patched = kernel(&mut report);
    module(&mut report, patched);
    device(&mut report);
    limits(&mut report);
    engine(&mut report);
    match report.worst {
        Finding::Good => println!("FlexSC can be used here."),
        Finding::Fair => println!("FlexSC can be used here; see the notes."),
        Finding::Bad => println!("FlexSC cannot be used here; see FAIL above."),
    }
    report.worst != Finding::Bad
}

/// The first line of a small file, without white space around it.
fn line(path: impl AsRef<Path>) -> Option<String> {
    let text = fs::read_to_string(path).ok()?;
    Some(text.lines().next()?.trim().to_owned())
}

/// Says whether the module can be loaded into this kernel, as far as one can see.
fn kernel(report: &mut Report) -> bool {
    let release = line("/proc/sys/kernel/osrelease").unwrap_or_else(|| "unknown".to_owned());
    if ARCH != "x86_64" {
        let text = format!("{release} on {ARCH}: only x86_64 is supported so far");
        report.bad("kernel", text);
        return false;
    }
    let patched = has_patches();
    match patched {
        Some(false) => report.bad(
            "kernel",
            format!(
                "{release} is without the FlexSC patches: build one with scripts/build-kernel.sh"
            ),
        ),
        Some(true) => report.good(
            "kernel",
            format!("{release} {ARCH}, with the FlexSC patches"),
        ),
        None => report.fair(
            "kernel",
            format!("{release} {ARCH}; no /proc/kallsyms to see whether it has the patches"),
        ),
    }
    patched != Some(false)
}

/// Whether the kernel has the syscall-thread factory.
fn has_patches() -> Option<bool> {
    let symbols = BufReader::new(File::open("/proc/kallsyms").ok()?);
    let mut names = symbols.lines().map_while(Result::ok);
    Some(names.any(|line| line.ends_with(" syscall_thread_create")))
}

fn module(report: &mut Report, patched: bool) {
    if !Path::new(MODULE).exists() {
        return report.bad(
            "module",
            if patched {
                "not loaded: load it with `insmod flexsc.ko`"
            } else {
                "not loaded: this kernel refuses it"
            },
        );
    }
    let enable = line(format!("{MODULE}/parameters/enable"));
    match enable.as_deref() {
        Some("0") => report.good("module", "loaded, enabled for everyone"),
        Some("1") => report.fair(
            "module",
            format!("loaded, enabled for CAP_SYS_ADMIN only: `echo 0 > {MODULE}/parameters/enable` lets others in"),
        ),
        Some("2") => report.bad(
            "module",
            format!("loaded but switched off: `echo 0 > {MODULE}/parameters/enable` as root"),
        ),
        _ => report.fair("module", "loaded; its parameter `enable` cannot be read"),
    }
}

fn device(report: &mut Report) {
    let meta = match fs::metadata(DEVICE) {
        Ok(meta) => meta,
        Err(why) => return report.bad("device", format!("{DEVICE}: {why}: is the module loaded?")),
    };
    if !meta.file_type().is_char_device() {
        return report.bad(
            "device",
            format!("{DEVICE} is no character device: remove it and load the module again"),
        );
    }
    report.good(
        "device",
        format!(
            "{DEVICE}, mode {:04o}, owner {}:{}",
            meta.mode() & 0o7777,
            meta.uid(),
            meta.gid()
        ),
    );
}

fn limits(report: &mut Report) {
    // One thread with all the pages that it can have at once.
    let wanted = u64::from(flexsc::abi::FLEXSC_MAX_PAGES * flexsc::abi::FLEXSC_PAGE_SIZE);
    match getrlimit(Resource::RLIMIT_MEMLOCK) {
        Ok((RLIM_INFINITY, _)) => report.good("memory", "may be locked without limit"),
        Ok((soft, _)) if soft >= wanted => {
            report.good("memory", format!("{} KiB may be locked", soft >> 10));
        }
        Ok((soft, _)) => report.fair(
            "memory",
            format!(
                "only {} KiB may be locked: `ulimit -l {}` is enough for 4096 calls in flight",
                soft >> 10,
                wanted >> 10
            ),
        ),
        Err(errno) => report.fair("memory", errno.desc()),
    }
    match std::thread::available_parallelism() {
        Ok(one) if one.get() == 1 => report.fair(
            "processors",
            "one: calls are executed when the program waits, polling has no core of its own",
        ),
        Ok(more) => report.good("processors", more),
        Err(why) => report.fair("processors", why),
    }
}

fn engine(report: &mut Report) {
    let engine = match Engine::open() {
        Ok(engine) => engine,
        Err(error) => return report.bad("open", error),
    };
    match engine.register(1) {
        Ok(mut pages) => {
            report.good(
                "register",
                format!("ABI version {}", flexsc::abi::FLEXSC_ABI_VERSION),
            );
            call(report, &mut pages);
        }
        Err(error) => report.bad("register", error),
    }
}

/// Makes one call through a page.
fn call(report: &mut Report, pages: &mut Pages) {
    // SAFETY: getpid() touches no memory.
    unsafe { pages.post(calls::getpid()) };
    let answer = pages
        .wait(Wait::all().timeout(PATIENCE))
        .map(|_| pages.poll());
    match answer {
        Ok(Some(done)) if done.result == i64::from(std::process::id()) => {
            report.good(
                "call",
                "getpid() through a syscall page gives the right answer",
            );
        }
        Ok(Some(done)) if done.reason == Reason::Guarded => report.fair(
            "call",
            "refused: seccomp, ptrace or user dispatch decide over this program's calls; \
             such programs make plain calls",
        ),
        Ok(Some(done)) => report.bad(
            "call",
            format!(
                "getpid() through a syscall page gave {} ({}): please report this",
                done.result, done.reason
            ),
        ),
        Err(Error::TimedOut) => report.bad(
            "call",
            format!(
                "no answer within {} s: see the kernel log with `dmesg`",
                PATIENCE.as_secs()
            ),
        ),
        Err(error) => report.bad("call", error),
        Ok(None) => report.bad(
            "call",
            "no result where one was announced: please report this",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_worst_finding_counts() {
        let mut report = Report {
            worst: Finding::Good,
        };
        report.fair("test", "fair");
        report.good("test", "good");
        assert_eq!(report.worst, Finding::Fair);
        report.bad("test", "bad");
        report.fair("test", "fair");
        report.good("test", "good");
        assert_eq!(report.worst, Finding::Bad);
    }
}
