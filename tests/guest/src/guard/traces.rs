// SPDX-License-Identifier: MIT OR Apache-2.0
//! Tracepoints: one at the entry and one at the exit for every call that is made, none otherwise.

use std::fs;
use std::path::PathBuf;

use super::on_each_path;
use crate::check::{Check, skip};
use crate::kit::abi::{Policy, REASON_NONE};
use crate::kit::mode::Mode;
use crate::kit::ring::{Call, Ring};
use crate::kit::trace;

tests! { "guard":
    raw_tracepoints => "raw_syscalls tracepoints fire once for every entry that is executed";
    named_tracepoints => "the call's own tracepoints fire once for every entry that is executed";
    wait_tracepoints => "flexsc_wait(2) has tracepoints of its own, as any call";
}

/// An instance of the tracer, removed when dropped.
struct Tracer(PathBuf);

impl Tracer {
    fn new() -> Check<Tracer> {
        let dir = PathBuf::from("/sys/kernel/tracing/instances/flexsc-tests");
        let _ = fs::remove_dir(&dir);
        if fs::create_dir(&dir).is_err() {
            return skip("needs tracefs at /sys/kernel/tracing");
        }
        Ok(Tracer(dir))
    }

    fn write(&self, file: &str, text: &str) -> Check {
        if let Err(error) = fs::write(self.0.join(file), text) {
            fail!("{text} to {file}: {error}");
        }
        Ok(())
    }

    fn enable(&self, event: &str) -> Check {
        self.write(&format!("events/{event}/enable"), "1")
    }

    fn lines(&self) -> Check<Vec<String>> {
        let text = ok!("trace", fs::read_to_string(self.0.join("trace")));
        let lines = text.lines().filter(|line| !line.starts_with('#'));
        Ok(lines.map(str::to_owned).collect())
    }
}

impl Drop for Tracer {
    fn drop(&mut self) {
        let _ = fs::write(self.0.join("events/enable"), "0");
        let _ = fs::remove_dir(&self.0);
    }
}

const COUNT: usize = 20;

/// Posts getpgrp, which nothing else calls here, and counts the lines with these words.
fn traced(tracer: &Tracer, enter: &str, exit: &str) -> Check {
    let group = plain!(SYS_getpgrp);
    tracer.write("trace", "")?;
    on_each_path(|path| {
        let (_engine, mut ring) = path.start()?;
        tracer.write("trace", "")?;
        let call = call!(SYS_getpgrp);
        let mut made = 0;
        for _ in 0..COUNT {
            for done in path.run(&mut ring, call)? {
                check_eq!("reason", done.reason, REASON_NONE);
                check_ret!("getpgrp", done.result, group);
                made += 1;
            }
        }
        let lines = tracer.lines()?;
        for (what, word) in [("entry", enter), ("exit", exit)] {
            let seen = lines.iter().filter(|line| line.contains(word)).count();
            check_eq!(format!("traces of the {what} of {made} calls"), seen, made);
        }
        refused_leaves_none(tracer, &mut ring)
    })
}

/// A refused call was not made.
fn refused_leaves_none(tracer: &Tracer, ring: &mut Ring) -> Check {
    tracer.write("trace", "")?;
    let mut call = Call::new(libc::SYS_getpgrp as u16, [0; 6]);
    call.flags = 0x80;
    let done = ring.run(call)?;
    check!(done.reason != REASON_NONE, "a bad entry was executed");
    check_eq!(
        "traces of a refused call",
        tracer.lines()?,
        Vec::<String>::new()
    );
    Ok(())
}

fn raw_tracepoints() -> Check {
    let tracer = Tracer::new()?;
    let nr = libc::SYS_getpgrp;
    for event in ["sys_enter", "sys_exit"] {
        tracer.write(
            &format!("events/raw_syscalls/{event}/filter"),
            &format!("id == {nr}"),
        )?;
        tracer.enable(&format!("raw_syscalls/{event}"))?;
    }
    traced(
        &tracer,
        &format!("sys_enter: NR {nr} "),
        &format!("sys_exit: NR {nr} "),
    )
}

fn named_tracepoints() -> Check {
    let tracer = Tracer::new()?;
    tracer.enable("syscalls/sys_enter_getpgrp")?;
    tracer.enable("syscalls/sys_exit_getpgrp")?;
    traced(&tracer, "sys_getpgrp()", "sys_getpgrp -> ")
}

fn wait_tracepoints() -> Check {
    const WAITS: u64 = 7;
    let (_engine, mut ring) = Mode::Inline.start(1)?;
    for event in ["sys_enter_flexsc_wait", "sys_exit_flexsc_wait"] {
        let hits = trace::hits(&format!("syscalls/{event}"), || {
            for _ in 0..WAITS {
                let slot = ring.post(call!(SYS_getppid));
                check_eq!("flexsc_wait", ring.wait_call(Policy::All, 0), Ok(1));
                ring.reap(slot);
            }
            Ok(())
        })?;
        check_eq!(event, hits, WAITS);
    }
    Ok(())
}
