// SPDX-License-Identifier: MIT OR Apache-2.0
//! The `flexsc` crate on the real device.
#![expect(unsafe_code, reason = "posting is a promise about memory")]

pub mod requests;
pub mod rings;

use std::path::Path;
use std::time::{Duration, Instant};

use flexsc::{Call, Completion, CpuSet, Engine, Error, Pages, Param, Reason, Slot, Wait, calls};

use crate::check::Check;
use crate::kit::child::in_child;
use crate::kit::files::{BlockedReads, pipe};
use crate::kit::limits::{NOBODY, drop_rights, many, need_root, poller_cpu, set_limit};
use crate::kit::{patience, process, rounds, seccomp, sys, until};

tests! { "library":
    batch => "64 calls staged and one wait give 64 right results";
    many_pages => "4,096 calls in flight: each slot has its own result";
    poll_only => "with a poller, results come without any call to the device";
    policies => "waits for any, some with linger, all and none keep their promises and timeouts";
    errors => "typed errors: nothing to wait for, page count, bad value, no device";
    busy => "unregister with calls in flight gives the pages back";
    dropped_in_flight => "dropping pages and engine with calls in flight leaves nothing behind";
    fallback => "refused calls are made plainly and counted, if the program wants it";
    refused => "without the fallback, a refused call shows its reason";
    after_fork => "a forked child gets NotTheOwner and harms nobody";
    limits => "LockedMemory and NoThreads say what is missing";
    threads => "threads with pages of their own use one engine";
}

/// Posts a call whose buffers the test keeps.
fn stage(pages: &mut Pages, call: Call) -> Slot {
    // SAFETY: the tests keep what their calls point to until the results are
    // taken, or the process ends.
    unsafe { pages.stage(call) }.expect("a free entry")
}

fn from_kit(call: &crate::kit::ring::Call) -> Call {
    Call::new(call.nr.into(), call.args)
}

fn reads_of(reads: &BlockedReads) -> Vec<Call> {
    reads.calls().iter().map(from_kit).collect()
}

fn open() -> Check<Engine> {
    Ok(ok!("Engine::open", Engine::open()))
}

fn register(engine: &Engine, pages: u32) -> Check<Pages> {
    Ok(ok!("Engine::register", engine.register(pages)))
}

fn drain(pages: &mut Pages) -> Vec<Completion> {
    std::iter::from_fn(|| pages.poll()).collect()
}

/// One call, executed by wait.
fn one(pages: &mut Pages, call: Call) -> Check<Completion> {
    let slot = stage(pages, call);
    ok!("wait", pages.wait(Wait::all().timeout(patience())));
    match drain(pages)[..] {
        [done] if done.slot == slot => Ok(done),
        ref other => fail!("results of one call in {slot:?}: {other:?}"),
    }
}

fn batch() -> Check {
    let engine = open()?;
    let mut pages = register(&engine, 1)?;
    let parent = plain!(SYS_getppid);
    for _ in 0..rounds(30) {
        for _ in 0..64 {
            stage(&mut pages, calls::getppid());
        }
        check_eq!("free entries", pages.free(), 0);
        check_eq!("wait", pages.wait(Wait::all()), Ok(64));
        for done in drain(&mut pages) {
            check_ret!("getppid", done.result, parent);
            check_eq!("reason", done.reason, Reason::None);
        }
        check_eq!("in flight", pages.in_flight(), 0);
    }
    check_eq!(
        "inline_done",
        ok!("stats", engine.stats()).inline_done,
        64 * u64::from(rounds(30))
    );
    Ok(())
}

fn many_pages() -> Check {
    let engine = open()?;
    let mut pages = register(&engine, 64)?;
    let file = crate::kit::files::memory_file()?;
    let fd = std::os::fd::AsRawFd::as_raw_fd(&file);
    check_eq!("capacity", pages.capacity(), 4096);
    let mut want = vec![0; 4096];
    for value in 0..4096 {
        let slot = stage(&mut pages, calls::lseek(fd, value, libc::SEEK_SET));
        want[slot.index()] = value;
    }
    check_eq!("wait", pages.wait(Wait::all()), Ok(4096));
    let all = drain(&mut pages);
    check_eq!("results", all.len(), 4096);
    for done in all {
        check_ret!("lseek", done.result, want[done.slot.index()]);
    }
    Ok(())
}

fn poll_only() -> Check {
    crate::kit::limits::need_two_cpus()?;
    let engine = open()?;
    let mut pages = register(&engine, 1)?;
    ok!("set", engine.set(Param::IdleNs, 5_000_000_000));
    let cpus = CpuSet::from_iter([poller_cpu() as u16]);
    ok!("set", engine.set_poll_cpus(&cpus));
    check_eq!("POLL_CPUS", engine.poll_cpus(), Ok(cpus.clone()));
    until("the CPU is polled", || {
        engine.polled_cpus().is_ok_and(|polled| polled == cpus)
    })?;
    until("a poller that is awake", || !pages.needs_kick())?;
    for _ in 0..rounds(50) {
        for _ in 0..10 {
            stage(&mut pages, calls::getpid());
        }
        pages.ring();
        let end = Instant::now() + patience();
        let mut left = 10;
        while left > 0 {
            match pages.poll() {
                Some(done) => {
                    check_ret!("getpid", done.result, std::process::id());
                    left -= 1;
                }
                None => {
                    check!(Instant::now() < end, "{left} results are missing");
                    sys::yield_now();
                }
            }
        }
    }
    let stats = ok!("stats", engine.stats());
    check_eq!("kicks and waits", (stats.kicks, stats.waits), (0, 0));
    Ok(())
}

fn policies() -> Check {
    let engine = open()?;
    let mut pages = register(&engine, 1)?;
    let (from, to) = pipe()?;
    let reads = BlockedReads::new(&from, 3);
    for call in reads_of(&reads) {
        stage(&mut pages, call);
    }
    check_eq!("none", pages.wait(Wait::none()), Ok(0));
    let short = Duration::from_millis(40);
    let begin = Instant::now();
    check_eq!(
        "any",
        pages.wait(Wait::any().timeout(short)),
        Err(Error::TimedOut)
    );
    check!(
        begin.elapsed() >= short,
        "timeout after {:?}",
        begin.elapsed()
    );
    stage(&mut pages, calls::getpid());
    check_eq!("any", pages.wait(Wait::any().timeout(patience())), Ok(1));
    let begin = Instant::now();
    check_eq!(
        "some(3)",
        pages.wait(Wait::some(3).linger(short).timeout(patience())),
        Ok(1)
    );
    check!(
        begin.elapsed() >= short,
        "linger ended after {:?}",
        begin.elapsed()
    );
    check_eq!(
        "all",
        pages.wait(Wait::all().timeout(short)),
        Err(Error::TimedOut)
    );
    reads.release(&to)?;
    check_eq!("all", pages.wait(Wait::all().timeout(patience())), Ok(4));
    check_eq!("results", drain(&mut pages).len(), 4);
    reads.check()
}

fn errors() -> Check {
    let nowhere = Path::new("/dev/no-such-device");
    let absent = Engine::open_path(nowhere).map(|_| ());
    check_eq!(
        "no device",
        absent,
        Err(Error::NotLoaded(nowhere.to_owned()))
    );
    let null = ok!("open /dev/null", Engine::open_path(Path::new("/dev/null")));
    check_eq!(
        "another device",
        null.register(1).map(|_| ()),
        Err(Error::NotTheDevice)
    );
    let engine = open()?;
    check_eq!(
        "0 pages",
        engine.register(0).map(|_| ()),
        Err(Error::PageCount(0))
    );
    check_eq!(
        "65 pages",
        engine.register(65).map(|_| ()),
        Err(Error::PageCount(65))
    );
    let (param, value) = (Param::Order, 1 << 63);
    check_eq!(
        "set",
        engine.set(param, value),
        Err(Error::BadValue { param, value })
    );
    for cpu in [63, 64, 8191] {
        let cpus = CpuSet::from_iter([cpu]);
        check_eq!(
            "set",
            engine.set_poll_cpus(&cpus),
            Err(Error::BadCpus(cpus))
        );
    }
    let mut pages = register(&engine, 1)?;
    check_eq!("any", pages.wait(Wait::any()), Err(Error::NothingToWaitFor));
    check_eq!("all", pages.wait(Wait::all()), Ok(0));
    Ok(())
}

fn busy() -> Check {
    let engine = open()?;
    let mut pages = register(&engine, 1)?;
    let (from, to) = pipe()?;
    let reads = BlockedReads::new(&from, 1);
    stage(&mut pages, reads_of(&reads)[0]);
    check_eq!("none", pages.wait(Wait::none()), Ok(0));
    let mut pages = match pages.unregister() {
        Err((pages, Error::Busy)) => pages,
        other => fail!(
            "unregister with a call in flight: {:?}",
            other.map_err(|e| e.1)
        ),
    };
    reads.release(&to)?;
    check_eq!("all", pages.wait(Wait::all().timeout(patience())), Ok(1));
    check_ret!("read", drain(&mut pages)[0].result, 2);
    let left = pages.unregister().map_err(|failure| failure.1);
    check_eq!("unregister", left, Ok(()));
    check_eq!("pages", ok!("stats", engine.stats()).pages, 0);
    Ok(())
}

fn dropped_in_flight() -> Check {
    let base = process::refcnt();
    let (from, _to) = pipe()?;
    for _ in 0..rounds(5) {
        let reads = BlockedReads::new(&from, many(40));
        let engine = open()?;
        let mut pages = register(&engine, 1)?;
        for call in reads_of(&reads) {
            stage(&mut pages, call);
        }
        check_eq!("none", pages.wait(Wait::none()), Ok(0));
        drop(engine);
        drop(pages);
        process::until_tasks(1)?;
        process::until_refcnt(base)?;
    }
    Ok(())
}

fn fallback() -> Check {
    in_child(|| {
        let engine = open()?;
        let mut pages = register(&engine, 1)?;
        pages.set_fallback(true);
        ok!("seccomp", seccomp::refuse(libc::SYS_mkdirat, false));
        for _ in 0..10 {
            let done = one(&mut pages, calls::getppid())?;
            check_ret!("getppid", done.result, plain!(SYS_getppid));
            check_eq!("reason", done.reason, Reason::None);
        }
        // The plain call is subject to the filter, as it should be.
        let mkdir = calls::mkdirat(libc::AT_FDCWD, c"/tmp/filtered".as_ptr(), 0o700);
        check_ret!(
            "mkdirat",
            one(&mut pages, mkdir)?.result,
            -seccomp::FILTERED
        );
        check_eq!("fallbacks", pages.fallbacks(), 1);
        Ok(())
    })
}

fn refused() -> Check {
    let engine = open()?;
    let mut pages = register(&engine, 1)?;
    pages.set_fallback(false);
    let done = one(&mut pages, Call::new(libc::SYS_fork, [0; 6]))?;
    check_ret!("fork", done.result, -libc::EOPNOTSUPP);
    check_eq!("reason", done.reason, Reason::Life);
    let done = one(&mut pages, calls::getpid().pool(9))?;
    check_ret!("pool 9", done.result, -libc::EINVAL);
    check_eq!("reason", done.reason, Reason::Entry);
    let done = one(&mut pages, calls::getpid().raw_flags(1 << 7))?;
    check_ret!("flag 15", done.result, -libc::EINVAL);
    let done = one(&mut pages, calls::getpid().asynchronous())?;
    check_ret!("getpid", done.result, std::process::id());
    check_eq!("fallbacks", pages.fallbacks(), 0);
    Ok(())
}

fn after_fork() -> Check {
    let engine = open()?;
    let mut pages = register(&engine, 1)?;
    let done = one(&mut pages, calls::getpid())?;
    check_ret!("getpid", done.result, std::process::id());
    let raw = pages.raw();
    in_child(|| {
        check_eq!(
            "register",
            engine.register(1).map(|_| ()),
            Err(Error::NotTheOwner)
        );
        check_eq!("stats", engine.stats().map(|_| ()), Err(Error::NotTheOwner));
        check_eq!("kick", pages.kick(), Err(Error::NotTheOwner));
        // First nothing is mapped in the pages' place, then memory of the child itself.
        no_pages(&mut pages)?;
        let (prot, flags) = (
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
        );
        let fixed = flags | libc::MAP_FIXED_NOREPLACE;
        let at = plain!(SYS_mmap, raw.base, raw.len, prot, fixed, -1, 0);
        check_ret!("mmap in the pages' place", at, raw.base as i64);
        no_pages(&mut pages)?;
        // SAFETY: the memory was just mapped, and nothing else uses it.
        let bytes = unsafe { std::slice::from_raw_parts(raw.base.cast::<u8>(), raw.len) };
        check!(
            bytes.iter().all(|&byte| byte == 0),
            "the child's memory was written to"
        );
        Ok(())
    })?;
    // A child that is process 1 of its PID namespace, as this process may be.
    in_child(|| {
        let first = plain!(SYS_unshare, libc::CLONE_NEWPID);
        if first != 0 {
            return crate::check::skip("needs PID namespaces");
        }
        in_child(|| {
            let engine = open()?;
            let mut pages = register(&engine, 1)?;
            check_eq!("pid", std::process::id(), 1);
            check_ret!("unshare", plain!(SYS_unshare, libc::CLONE_NEWPID), 0);
            in_child(|| {
                check_eq!("pid", std::process::id(), 1);
                no_pages(&mut pages)
            })
        })
    })?;
    let done = one(&mut pages, calls::getpid())?;
    check_ret!("getpid", done.result, std::process::id());
    Ok(())
}

/// The state that a child finds after fork.
fn no_pages(pages: &mut Pages) -> Check {
    check_eq!("wait", pages.wait(Wait::all()), Err(Error::NotTheOwner));
    // SAFETY: the call is not staged.
    let slot = unsafe { pages.stage(calls::getpid()) };
    check_eq!("stage", slot, None);
    pages.ring();
    check_eq!("poll", pages.poll(), None);
    check_eq!("drain", pages.drain().count(), 0);
    check!(
        !pages.has_result() && !pages.needs_kick(),
        "the child has pages"
    );
    Ok(())
}

fn limits() -> Check {
    need_root()?;
    in_child(|| {
        ok!("setrlimit", set_limit(libc::RLIMIT_MEMLOCK, 4096));
        ok!("dropping rights", drop_rights());
        let engine = match Engine::open() {
            Err(Error::NoPermission(_) | Error::SwitchedOff) => {
                return crate::check::skip("needs a device that everybody may open");
            }
            other => ok!("Engine::open", other),
        };
        match engine.register(8) {
            Err(Error::LockedMemory {
                needed,
                limit: 4096,
            }) => check_eq!("needed for 8 pages", needed, Engine::locked_bytes(8)),
            other => fail!("register beyond RLIMIT_MEMLOCK: {other:?}"),
        }
        Ok(())
    })?;
    for (missing, wanted) in [(0, true), (1, false)] {
        let limit = Engine::locked_bytes(8) - missing;
        in_child(|| {
            ok!("setrlimit", set_limit(libc::RLIMIT_MEMLOCK, limit));
            ok!("dropping rights", drop_rights());
            match open()?.register(8) {
                Ok(_) if wanted => {}
                Err(Error::LockedMemory { .. }) if !wanted => {}
                other => fail!("register at a limit of {limit} bytes: {other:?}"),
            }
            Ok(())
        })?;
    }
    in_child(|| {
        ok!("setrlimit", set_limit(libc::RLIMIT_NPROC, 1));
        ok!("dropping rights", drop_rights());
        let engine = open()?;
        check_eq!("user", plain!(SYS_geteuid), i64::from(NOBODY));
        check_eq!(
            "register",
            engine.register(1).map(|_| ()),
            Err(Error::NoThreads)
        );
        Ok(())
    })
}

fn threads() -> Check {
    let engine = open()?;
    std::thread::scope(|scope| {
        let work = |call: fn() -> Call, want: i64| -> Check {
            let mut pages = register(&engine, 2)?;
            for _ in 0..rounds(20) {
                for _ in 0..100 {
                    stage(&mut pages, call());
                }
                check_eq!("wait", pages.wait(Wait::all().timeout(patience())), Ok(100));
                for done in drain(&mut pages) {
                    check_ret!("result", done.result, want);
                }
            }
            let left = pages.unregister().map_err(|failure| failure.1);
            check_eq!("unregister", left, Ok(()));
            Ok(())
        };
        let pid = i64::from(std::process::id());
        let all = [
            scope.spawn(move || work(calls::getpid, pid)),
            scope.spawn(move || work(calls::getppid, plain!(SYS_getppid))),
            scope.spawn(move || work(|| calls::getpid().asynchronous(), pid)),
        ];
        all.into_iter()
            .try_for_each(|thread| thread.join().expect("no panic"))
    })
}
