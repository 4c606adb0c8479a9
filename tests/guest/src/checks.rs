// SPDX-License-Identifier: MIT OR Apache-2.0
//! The checks with which other tests show that something is absent find it if it is there.

use std::fs::File;
use std::os::unix::fs::FileExt;

use crate::check::{Check, Failure};
use crate::kit::abi::PAGE_SIZE;
use crate::kit::child::{in_child, reap};
use crate::kit::engine::Engine;
use crate::kit::files::memory_file;
use crate::kit::kernel::Watch;
use crate::kit::trace::Trace;
use crate::kit::{process, until};
use crate::registry::Test;
use crate::supervise::supervise;

tests! { "checks":
    process_left => "a process that a test leaves behind is found";
    test_that_fails => "a test that fails, panics or is killed is reported";
    engine_in_use => "an engine in use shows in the reference count and in the module's memory";
    kernel_fault => "a fault that the kernel has reported is found";
    lost_events => "a log that has lost events is an error";
}

/// Returns what the supervisor prints about a test.
fn verdict(run: fn() -> Check) -> Check<String> {
    let about = "planted";
    match supervise(&Test {
        name: about,
        about,
        run,
    }) {
        Ok(()) => Ok("passed".to_owned()),
        Err(Failure::Failed(text) | Failure::Skip(text)) => Ok(text),
    }
}

/// Leaves a process behind that does not end by itself.
fn leaves_process() -> Check {
    let pid = plain!(SYS_fork);
    check!(pid >= 0, "fork: {}", crate::check::Ret(pid));
    if pid == 0 {
        loop {
            plain!(SYS_pause);
        }
    }
    Ok(())
}

fn process_left() -> Check {
    in_child(|| {
        check_eq!("a good test", verdict(|| Ok(()))?, "passed");
        let text = verdict(leaves_process)?;
        check!(text.contains("processes left behind: ["), "{text}");
        let me = std::process::id() as i32;
        until("the end of what was left", || {
            while reap(-1, 0).is_some() {}
            process::children(me).is_empty()
        })
    })
}

fn test_that_fails() -> Check {
    in_child(|| {
        let text = verdict(|| fail!("as planted"))?;
        check!(text == "planted failed", "{text}");
        let text = verdict(|| {
            // The message is not needed.
            std::panic::set_hook(Box::new(|_| {}));
            panic!("as planted")
        })?;
        check!(text.contains("Exit(101)"), "{text}");
        let text = verdict(|| {
            plain!(SYS_kill, std::process::id(), libc::SIGKILL);
            Ok(())
        })?;
        check!(text.contains("Signal"), "{text}");
        Ok(())
    })
}

fn engine_in_use() -> Check {
    let before = (process::refcnt(), process::areas());
    let watch = Watch::new()?;
    check_eq!("pages held before", watch.held(), 0);
    let engine = Engine::open()?;
    let ring = engine.ring(16)?;
    let now = (process::refcnt(), process::areas());
    check!(now.0 > before.0 && now.1 > before.1, "{now:?}, {before:?}");
    check!(watch.held() >= 16, "{} pages held", watch.held());
    let kib = 16 * PAGE_SIZE as u64 / 1024;
    let pinned = process::pinned_kib();
    check!(pinned.is_some_and(|pinned| pinned >= kib), "{pinned:?}");
    drop((ring, engine));
    process::until_refcnt(before.0)
}

fn kernel_fault() -> Check {
    let file = File::from(memory_file()?);
    let write = |text: &str| {
        ok!("write", file.set_len(0));
        ok!("write", file.write_all_at(text.as_bytes(), 0));
        Ok(())
    };
    // 4096: a module that is not part of the kernel is loaded.
    write("4096\n")?;
    let watch = Watch::of(ok!("clone", file.try_clone()))?;
    check_eq!("before", watch.fault(), None);
    for (word, wanted) in [
        ("4608\n", "a warning"),
        ("4224\n", "an oops"),
        ("4128\n", "a bad access to memory"),
        ("20480\n", "a soft lockup"),
        ("", "no taint word"),
    ] {
        write(word)?;
        check_eq!(word, watch.fault(), Some(wanted));
    }
    check!(
        Watch::of(file).is_err(),
        "a word that is not a number is accepted"
    );
    Ok(())
}

fn lost_events() -> Check {
    let trace = Trace::start(&["flexsc_invoke"])?;
    let engine = Engine::open()?;
    let mut ring = engine.ring(1)?;
    ring.run_all(&[call!(SYS_getpid); 64])?;
    check_eq!("events", trace.events()?.len(), 64);
    trace.set_size(4)?;
    for _ in 0..20 {
        ring.run_all(&[call!(SYS_getpid); 64])?;
    }
    match trace.events() {
        Err(Failure::Failed(text)) if text.contains("the log has lost events") => Ok(()),
        other => fail!("{:?} events", other.map(|events| events.len())),
    }
}
