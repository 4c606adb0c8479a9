// SPDX-License-Identifier: MIT OR Apache-2.0
//! `flexsc doctor`: prints one line for each thing that a program needs, and what to do if
//! it is missing.

use std::env::consts::ARCH;
use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

use flexsc::{DEVICE, Engine, abi};
use nix::sys::resource::{RLIM_INFINITY, Resource, getrlimit};

use crate::out::Out;
use crate::report::{Finding, Report};
use crate::ways;

const MODULE: &str = "/sys/module/flexsc";

/// Examines the machine. Returns true if FlexSC can be used.
pub fn examine(out: &mut Out) -> bool {
    let mut report = Report {
        out,
        worst: Finding::Good,
    };
    let patched = kernel(&mut report);
    module(&mut report, patched);
    device(&mut report);
    limits(&mut report);
    ways::try_all(&mut report);
    let worst = report.worst;
    out.line(format_args!(
        "{}",
        match worst {
            Finding::Good => "FlexSC can be used here.",
            Finding::Fair => "FlexSC can be used here; see the notes.",
            Finding::Bad => "FlexSC cannot be used here; see FAIL above.",
        }
    ));
    worst != Finding::Bad
}

/// Returns the first line of a small file without surrounding white space.
fn line(path: impl AsRef<Path>) -> Option<String> {
    let text = fs::read_to_string(path).ok()?;
    Some(text.lines().next()?.trim().to_owned())
}

/// Returns true if this kernel can load the module, as far as can be seen.
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
                "{release} without the FlexSC patches: build a kernel with scripts/build-kernel.sh"
            ),
        ),
        Some(true) => report.good(
            "kernel",
            format!("{release} {ARCH}, with the FlexSC patches"),
        ),
        None => report.fair(
            "kernel",
            format!(
                "{release} {ARCH}; without /proc/kallsyms, it is unknown whether it has the patches"
            ),
        ),
    }
    patched != Some(false)
}

/// Returns true if the kernel has the syscall-thread factory.
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
            format!("loaded, enabled only for CAP_SYS_ADMIN: `echo 0 > {MODULE}/parameters/enable` enables it for everyone"),
        ),
        Some("2") => report.bad(
            "module",
            format!("loaded but disabled: run `echo 0 > {MODULE}/parameters/enable` as root"),
        ),
        _ => report.fair("module", "loaded; its parameter `enable` cannot be read"),
    }
}

fn device(report: &mut Report) {
    let meta = match fs::metadata(DEVICE) {
        Ok(meta) => meta,
        Err(why) => {
            let hint = if Path::new(MODULE).exists() {
                "pass the device to this container or service"
            } else {
                "is the module loaded?"
            };
            return report.bad("device", format!("{DEVICE}: {why}: {hint}"));
        }
    };
    if !meta.file_type().is_char_device() {
        return report.bad(
            "device",
            format!("{DEVICE} is not a character device: remove it and load the module again"),
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
    // The most pages that one registration can have.
    let wanted = Engine::locked_bytes(abi::FLEXSC_MAX_PAGES);
    let calls = abi::FLEXSC_MAX_PAGES * abi::FLEXSC_PAGE_ENTRIES;
    match getrlimit(Resource::RLIMIT_MEMLOCK) {
        Ok((RLIM_INFINITY, _)) => report.good("memory", "may be locked without limit"),
        Ok((soft, _)) if soft >= wanted => {
            report.good("memory", format!("{} KiB may be locked", soft >> 10));
        }
        Ok((soft, _)) => report.fair(
            "memory",
            format!(
                "only {} KiB may be locked: `ulimit -l {}` is enough for {calls} calls in flight",
                soft >> 10,
                wanted >> 10
            ),
        ),
        Err(errno) => report.fair("memory", errno.desc()),
    }
    match std::thread::available_parallelism() {
        Ok(one) if one.get() == 1 => report.fair(
            "processors",
            "one: calls are executed when the program waits, because a poller needs a CPU of its own",
        ),
        Ok(more) => report.good("processors", more),
        Err(why) => report.fair("processors", why),
    }
}
