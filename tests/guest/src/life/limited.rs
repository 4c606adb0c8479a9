// SPDX-License-Identifier: MIT OR Apache-2.0
//! Limits on processes, locked memory and descriptors.

use nix::errno::Errno;

use crate::check::{Check, Ret, skip};
use crate::kit::abi::{Policy, REASON_NONE, REASON_STARVED};
use crate::kit::cgroup::Cgroup;
use crate::kit::child::in_child;
use crate::kit::engine::{Engine, try_open};
use crate::kit::files::{BlockedReads, pipe};
use crate::kit::ring::Done;
use crate::kit::{limits, memory, rounds, sys};

tests! { "life":
    few_processes => "RLIMIT_NPROC reached: progress with fewer threads, or EAGAIN, never a hang";
    no_process => "REGISTER is EAGAIN if not a single thread can be created, and works later";
    few_in_cgroup => "pids.max reached: progress with fewer threads, or EAGAIN, never a hang";
    none_in_cgroup => "REGISTER is EAGAIN in a full pids cgroup, and works later";
    locked_memory => "RLIMIT_MEMLOCK: REGISTER is ENOMEM beyond it; UNREGISTER and close give back";
    no_locked_memory => "RLIMIT_MEMLOCK 0: REGISTER is ENOMEM";
    locked_memory_mapped => "RLIMIT_MEMLOCK: pages that UNREGISTER left mapped count until munmap";
    no_descriptors => "calls that need a descriptor give EMFILE, and the engine goes on";
}

/// Sets limits, and drops all privileges, without which the limits hold.
fn without_rights(set: &[(u32, u64)]) -> Check<Engine> {
    limits::need_root()?;
    for &(resource, value) in set {
        ok!("setrlimit", limits::set_limit(resource, value));
    }
    ok!("dropping rights", limits::drop_rights());
    match try_open() {
        Ok(engine) => Ok(engine),
        Err(Errno::EACCES | Errno::EPERM) => skip("needs a device that everybody may open"),
        Err(error) => fail!("open: {error:?}"),
    }
}

fn check_or_starved(done: Done, want: i64) -> Check<bool> {
    match (done.result, done.reason) {
        (result, REASON_NONE) if result == want => Ok(true),
        (result, REASON_STARVED) if result == -i64::from(libc::EAGAIN) => Ok(false),
        (result, reason) => fail!(
            "{} reason {reason}, expected {want} or {} reason {REASON_STARVED}",
            Ret(result),
            Ret(-i64::from(libc::EAGAIN))
        ),
    }
}

/// Makes 60 reads that block and other calls, with too few threads for all.
fn progress(engine: &Engine, at_least: usize) -> Check {
    let mut ring = engine.ring(2)?;
    let pid = i64::from(std::process::id());
    for _ in 0..rounds(3) {
        let (from, to) = pipe()?;
        let reads = BlockedReads::new(&from, 60);
        let slots = ring.post_all(&reads.calls());
        check!(ring.wait(Policy::None).is_ok(), "WAIT failed");
        // The owner executes calls that cannot block in any case.
        for done in ring.run_all(&[call!(SYS_getpid); 60])? {
            check_ret!("getpid", done.result, pid);
        }
        // ASYNC needs a thread: the call has its answer or a clear error, and does not hang.
        for done in ring.run_all(&[call!(SYS_getpid).asynchronous(); 10])? {
            check_or_starved(done, pid)?;
        }
        reads.release(&to)?;
        let mut right = 0;
        for done in ring.finish(&slots)? {
            right += usize::from(check_or_starved(done, 2)?);
        }
        check!(
            right >= at_least,
            "{right} reads were made, expected {at_least} or more"
        );
    }
    // Once threads are free again, everything works.
    for done in ring.run_all(&[call!(SYS_getpid).asynchronous(); 64])? {
        check_ret!("getpid", done.result, pid);
    }
    Ok(())
}

fn few_processes() -> Check {
    for most in [2, 3, 4, 10] {
        in_child(|| {
            let engine = without_rights(&[(libc::RLIMIT_NPROC, most)])?;
            progress(&engine, 1)
        })
        .map_err(|failure| failure.within(format_args!("RLIMIT_NPROC {most}")))?;
    }
    Ok(())
}

fn no_process() -> Check {
    in_child(|| {
        limits::need_root()?;
        let limit = |soft: u64| {
            let words = [soft, 100];
            plain!(SYS_prlimit64, 0, libc::RLIMIT_NPROC, words.as_ptr(), 0)
        };
        check_ret!("setrlimit", limit(1), 0);
        let engine = without_rights(&[])?;
        for _ in 0..20 {
            let ret = engine.register(1).map(|r| r.id);
            check_eq!("REGISTER without any thread", ret, Err(Errno::EAGAIN));
        }
        let stats = engine.stats()?;
        check_eq!("pages and threads", (stats.pages, stats.threads), (0, 0));
        check_ret!("setrlimit", limit(100), 0);
        progress(&engine, 60)
    })
}

fn few_in_cgroup() -> Check {
    let group = Cgroup::new(Some("pids"))?;
    for most in [2, 3, 10] {
        group.write("pids.max", most)?;
        in_child(|| {
            group.enter()?;
            progress(&Engine::open()?, 1)
        })
        .map_err(|failure| failure.within(format_args!("pids.max {most}")))?;
    }
    Ok(())
}

fn none_in_cgroup() -> Check {
    let group = Cgroup::new(Some("pids"))?;
    group.write("pids.max", 1)?;
    in_child(|| {
        group.enter()?;
        let engine = Engine::open()?;
        let ret = engine.register(1).map(|r| r.id);
        check_eq!("REGISTER without any thread", ret, Err(Errno::EAGAIN));
        group.write("pids.max", 100)?;
        progress(&engine, 60)
    })
}

fn locked_memory() -> Check {
    in_child(|| {
        let engine = without_rights(&[(libc::RLIMIT_MEMLOCK, 64 * 1024)])?;
        let ret = engine.register(64).map(|r| r.id);
        check_eq!("REGISTER of 256 KiB", ret, Err(Errno::ENOMEM));
        for _ in 0..20 {
            let mut ids = Vec::new();
            let last = loop {
                match engine.register(1) {
                    Ok(given) => ids.push(given.id),
                    Err(error) => break error,
                }
            };
            check_eq!("error at the limit", last, Errno::ENOMEM);
            let given = ids.len();
            check!(
                (4..=16).contains(&given),
                "{given} registrations within 64 KiB"
            );
            check_eq!("pages", engine.stats()?.pages, given as u64);
            check_eq!("UNREGISTER", engine.unregister(ids.remove(0)), Ok(0));
            ids.push(ok!("REGISTER after UNREGISTER", engine.register(1)).id);
            for id in ids {
                check_eq!("UNREGISTER", engine.unregister(id), Ok(0));
            }
        }
        drop(engine);
        // An engine that ends gives back its memory at once.
        for _ in 0..rounds(20) {
            let engine = Engine::open()?;
            ok!("REGISTER in the next engine", engine.register(7));
        }
        Ok(())
    })
}

fn locked_memory_mapped() -> Check {
    in_child(|| {
        let engine = without_rights(&[(libc::RLIMIT_MEMLOCK, 64 * 1024)])?;
        for _ in 0..rounds(20) {
            // Each mapping has seven syscall pages and one page of control blocks.
            let mut left = Vec::new();
            let last = loop {
                match engine.leave_mapped(7) {
                    Ok(mapping) => left.push(mapping),
                    Err(error) => break error,
                }
            };
            check_eq!("error at the limit", last, Errno::ENOMEM);
            check_eq!("registrations within 64 KiB", left.len(), 2);
            check_eq!("pages", engine.stats()?.pages, 0);
            // The mapping is moved and then split: the charge ends with the last part.
            let (at, len) = left.remove(0);
            let (half, to) = (len / 2, memory::pages(len)?);
            let flags = libc::MREMAP_MAYMOVE | libc::MREMAP_FIXED;
            let moved = plain!(SYS_mremap, at, half, half, flags, to);
            check_ret!("mremap", moved, to as i64);
            check_eq!(
                "munmap",
                sys::munmap(at.wrapping_add(half), len - half),
                Ok(0)
            );
            let ret = engine.register(1).map(|r| r.id);
            check_eq!("REGISTER with a part mapped", ret, Err(Errno::ENOMEM));
            check_eq!("munmap", sys::munmap(to, len), Ok(0));
            let id = ok!("REGISTER", engine.register(7)).id;
            check_eq!("UNREGISTER", engine.unregister(id), Ok(0));
            for (at, len) in left {
                check_eq!("munmap", sys::munmap(at, len), Ok(0));
            }
        }
        Ok(())
    })
}

fn no_locked_memory() -> Check {
    in_child(|| {
        let engine = without_rights(&[(libc::RLIMIT_MEMLOCK, 0)])?;
        for pages in [1, 64] {
            let ret = engine.register(pages).map(|r| r.id);
            check_eq!("REGISTER", ret, Err(Errno::ENOMEM));
        }
        check_eq!("pages", engine.stats()?.pages, 0);
        Ok(())
    })
}

fn no_descriptors() -> Check {
    in_child(|| {
        let engine = Engine::open()?;
        let mut ring = engine.ring(1)?;
        let most = plain!(SYS_dup, engine.fd()) as u64 + 1;
        ok!("setrlimit", limits::set_limit(libc::RLIMIT_NOFILE, most));
        let open = call!(SYS_openat, libc::AT_FDCWD, c"/dev/zero", libc::O_RDONLY);
        for call in [open, open.asynchronous()] {
            for done in ring.run_all(&[call; 20])? {
                check_ret!("openat", done.result, -libc::EMFILE);
            }
        }
        check_eq!("open", try_open().map(|_| ()), Err(Errno::EMFILE));
        check_ret!(
            "getpid",
            ring.result(call!(SYS_getpid))?,
            std::process::id()
        );
        Ok(())
    })
}
