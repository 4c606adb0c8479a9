// SPDX-License-Identifier: MIT OR Apache-2.0
//! The `flexsc` crate on the real device: chains, pools, cancelling, both ways
//! to wait.
#![expect(unsafe_code, reason = "posting is a promise about memory")]

use std::ffi::CStr;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::time::Duration;

use flexsc::{
    Chain, Completion, CpuSet, Engine, Error, Order, Pages, Param, PoolParam, Reason, Slots, Wait,
    abi, calls,
};

use super::{drain, one, open, register, stage};
use crate::check::Check;
use crate::kit::child::in_child;
use crate::kit::files::{memory_file, pipe, readable, write_all};
use crate::kit::limits::need_root;
use crate::kit::{patience, rounds, seccomp, until};

tests! { "library":
    chain => "open, read and close work as one chain, inline and by a syscall thread";
    chain_fails => "a failed call cancels the calls behind it, and their reasons say so";
    chain_closes => "a chain closes the file that it has opened, whatever fails in between";
    chain_loop => "a loop ends with a 0 or after LOOP_MAX rounds, and adds up results";
    chain_refused => "wrong chains are refused by crate and kernel alike";
    cancel => "a cancelled read ends with EINTR if it is blocked, with ECANCELED if not begun";
    cancel_stale => "a canceller of pages that are gone reaches no other call";
    cancel_by_another => "another thread cancels the call that the owner waits for";
    pools => "pools have parameters and counters, and execute the calls that name them";
    orders => "every order gives the same results";
    both_waits => "flexsc_wait(2) and the ioctl do the same";
    filtered_wait => "if a filter refuses flexsc_wait(2), the ioctl is used";
    eventfd => "an eventfd of pages is signalled for their results only";
    adaptive => "an adaptive wait returns with a result";
    drain_all => "drain takes each result once, from all pages";
}

const ECANCELED: i64 = -(libc::ECANCELED as i64);
const TEXT: &[u8] = b"a few bytes\n";

/// Stages a chain whose buffers the test keeps.
fn stage_chain(pages: &mut Pages, chain: &Chain) -> Check<Slots> {
    // SAFETY: the tests keep what their calls point to until the results are
    // taken, or the process ends.
    Ok(ok!("stage_chain", unsafe { pages.stage_chain(chain) }))
}

/// The results of a chain, in the order of its calls.
fn results(slots: Slots, done: &[Completion]) -> Vec<(i64, Reason)> {
    let mut all = vec![(i64::MIN, Reason::None); slots.len()];
    for done in done {
        if let Some(nth) = slots.position(done.slot) {
            all[nth] = (done.result, done.reason);
        }
    }
    all
}

/// Executes one chain.
fn execute(pages: &mut Pages, chain: &Chain) -> Check<Vec<(i64, Reason)>> {
    let slots = stage_chain(pages, chain)?;
    ok!("wait", pages.wait(Wait::all().timeout(patience())));
    let done = drain(pages);
    check_eq!("results", done.len(), chain.len());
    Ok(results(slots, &done))
}

fn read_file(path: &CStr, buf: &mut [u8], asynchronous: bool) -> Chain {
    let mut open = calls::openat(libc::AT_FDCWD, path.as_ptr(), libc::O_RDONLY, 0);
    if asynchronous {
        open = open.asynchronous();
    }
    Chain::new()
        .then(open)
        .then(calls::read(-1, buf.as_mut_ptr().cast(), buf.len()).take(0, 1))
        .then(calls::close(-1).take(0, 2))
}

fn chain() -> Check {
    let engine = open()?;
    let mut pages = register(&engine, 1)?;
    for asynchronous in [false, true] {
        for round in 0..rounds(10) {
            let mut bufs = [[0_u8; 64]; 20];
            let mut slots = Vec::new();
            for buf in &mut bufs {
                let chain = read_file(c"/proc/self/comm", buf, asynchronous);
                slots.push(stage_chain(&mut pages, &chain)?);
            }
            ok!("wait", pages.wait(Wait::all().timeout(patience())));
            let done = drain(&mut pages);
            check_eq!("results", done.len(), 60);
            for (slots, buf) in slots.into_iter().zip(&bufs) {
                let got = results(slots, &done);
                check!(
                    got[0].0 >= 0 && got[1].0 > 1 && got[2].0 == 0,
                    "round {round}, asynchronous {asynchronous}: {got:?}"
                );
                let len = got[1].0 as usize;
                check_eq!("last byte", buf[len - 1], b'\n');
            }
        }
    }
    check!(
        ok!("stats", engine.stats()).chains >= 40,
        "chains are not counted"
    );
    Ok(())
}

fn chain_fails() -> Check {
    let engine = open()?;
    let mut pages = register(&engine, 1)?;
    let mut buf = [0_u8; 8];
    for asynchronous in [false, true] {
        let chain = read_file(c"/no/such/file", &mut buf, asynchronous);
        let cancelled = (ECANCELED, Reason::Chain);
        let failed = (-i64::from(libc::ENOENT), Reason::None);
        check_eq!(
            "results",
            execute(&mut pages, &chain)?,
            [failed, cancelled, cancelled]
        );
    }
    // A call behind it that is not part of a chain is executed as usual.
    let chain = read_file(c"/no/such/file", &mut buf, false);
    stage_chain(&mut pages, &chain)?;
    let alone = stage(&mut pages, calls::getpid());
    ok!("wait", pages.wait(Wait::all().timeout(patience())));
    let done = drain(&mut pages);
    let pid = done.iter().find(|done| done.slot == alone);
    check_eq!(
        "getpid",
        pid.map(|done| done.result),
        Some(i64::from(std::process::id()))
    );
    Ok(())
}

fn chain_closes() -> Check {
    let engine = open()?;
    let mut pages = register(&engine, 1)?;
    let path = c"/dev/zero".as_ptr();
    for asynchronous in [false, true] {
        let mut first = calls::openat(libc::AT_FDCWD, path, libc::O_RDONLY, 0);
        if asynchronous {
            first = first.asynchronous();
        }
        let chain = Chain::new()
            .then(first)
            .then(calls::fsync(-1))
            .then(calls::getpid())
            .then(calls::close(-1).take(0, 3));
        let results = execute(&mut pages, &chain)?;
        let fd = results[0].0;
        check!(fd > 2, "open: {fd}");
        let bad = (-i64::from(libc::EBADF), Reason::None);
        let cancelled = (ECANCELED, Reason::Chain);
        check_eq!("results", results[1..], [bad, cancelled, (0, Reason::None)]);
        check_ret!(
            "the descriptor",
            plain!(SYS_fcntl, fd, libc::F_GETFD),
            -libc::EBADF
        );
    }
    Ok(())
}

fn chain_loop() -> Check {
    let engine = open()?;
    let mut pages = register(&engine, 1)?;
    let file = memory_file()?;
    write_all(&file, TEXT)?;
    let mut byte = 0_u8;
    let read = calls::read(file.as_raw_fd(), (&raw mut byte).cast(), 1);
    let rewind = calls::lseek(file.as_raw_fd(), 0, libc::SEEK_SET);
    let size = TEXT.len() as i64;
    let sums = Chain::new().then(rewind).repeat(read.sum());
    check_eq!(
        "to the end",
        execute(&mut pages, &sums)?,
        [(0, Reason::None), (size, Reason::None)]
    );
    let mut plain = [0; 2];
    // SAFETY: the byte is there.
    ok!("make", unsafe { sums.make(&mut plain, u64::MAX) });
    check_eq!("plainly", plain, [0, size]);
    ok!("set", engine.set(Param::LoopMax, 5));
    check_eq!("LoopMax", engine.get(Param::LoopMax), Ok(5));
    check_eq!(
        "to its bound",
        execute(&mut pages, &sums)?,
        [(0, Reason::None), (5, Reason::Bound)]
    );
    // Without a sum the last result counts.
    let last = Chain::new().then(rewind).repeat(read);
    check_eq!(
        "without a sum",
        execute(&mut pages, &last)?,
        [(0, Reason::None), (1, Reason::Bound)]
    );
    let param = Param::LoopMax;
    check_eq!(
        "0 rounds",
        engine.set(param, 0),
        Err(Error::BadValue { param, value: 0 })
    );
    Ok(())
}

fn chain_refused() -> Check {
    let engine = open()?;
    let mut pages = register(&engine, 1)?;
    let wrong = Chain::new().then(calls::close(-1).take(0, 1));
    // SAFETY: the chain is refused.
    let refused = unsafe { pages.stage_chain(&wrong) };
    check!(
        matches!(refused, Err(Error::BadChain(_))),
        "stage_chain: {refused:?}"
    );
    // The kernel's own answer, to a program without the crate's check.
    let done = one(&mut pages, calls::close(-1).take(0, 1))?;
    check_eq!(
        "a result from nowhere",
        (done.result, done.reason),
        (-i64::from(libc::EINVAL), Reason::Entry)
    );
    let long = (0..40).fold(Chain::new(), |chain, _| chain.then(calls::getpid()));
    stage_chain(&mut pages, &long)?;
    // SAFETY: getpid() touches no memory.
    let second = unsafe { pages.stage_chain(&long) };
    check_eq!("no room", second, Err(Error::NoRoom(40)));
    ok!("wait", pages.wait(Wait::all().timeout(patience())));
    check_eq!("results", drain(&mut pages).len(), 40);
    stage_chain(&mut pages, &long)?;
    Ok(())
}

/// Waits until `count` calls wait for their files, with or without a thread.
fn blocked(engine: &Engine, count: u64) -> Check {
    until("blocked calls", || {
        engine
            .stats()
            .is_ok_and(|stats| stats.peak_blocked + stats.parked >= count)
    })
}

fn cancel() -> Check {
    let engine = open()?;
    let mut pages = register(&engine, 1)?;
    let (from, _to) = pipe()?;
    let mut byte = 0_u8;
    let read = calls::read(from.as_raw_fd(), (&raw mut byte).cast(), 1);
    let slot = stage(&mut pages, read);
    check_eq!("none", pages.wait(Wait::none()), Ok(0));
    blocked(&engine, 1)?;
    check_eq!("cancel", pages.cancel(slot), Ok(true));
    check_eq!("any", pages.wait(Wait::any().timeout(patience())), Ok(1));
    let done = drain(&mut pages);
    check_ret!("read", done[0].result, -libc::EINTR);
    check_eq!("too late", pages.cancel(slot), Ok(false));
    // The call is posted but not executed: without WAIT no thread executes it.
    let slot = stage(&mut pages, read);
    pages.ring();
    check_eq!("cancel", pages.cancel(slot), Ok(true));
    check_eq!("all", pages.wait(Wait::all().timeout(patience())), Ok(1));
    let done = drain(&mut pages);
    check_eq!(
        "not begun",
        (done[0].result, done[0].reason),
        (ECANCELED, Reason::Cancelled)
    );
    check_eq!("cancels", ok!("stats", engine.stats()).cancels, 2);
    Ok(())
}

fn cancel_stale() -> Check {
    let engine = open()?;
    let gone = register(&engine, 1)?;
    let (id, canceller) = (gone.id(), gone.canceller());
    let mut others = register(&engine, 1)?;
    let slot = stage(&mut others, calls::getpid());
    drain(&mut others);
    drop(others);
    let left = gone.unregister().map_err(|failure| failure.1);
    check_eq!("unregister", left, Ok(()));
    // The number is used again.
    let (from, to) = pipe()?;
    let mut pages = register(&engine, 1)?;
    check_eq!("id", pages.id(), id);
    let mut byte = 0_u8;
    let read = calls::read(from.as_raw_fd(), (&raw mut byte).cast(), 1);
    check_eq!("slot", stage(&mut pages, read), slot);
    check_eq!("none", pages.wait(Wait::none()), Ok(0));
    blocked(&engine, 1)?;
    check_eq!("cancel", canceller.cancel(slot), Ok(false));
    write_all(&to, b"x")?;
    check_eq!("all", pages.wait(Wait::all().timeout(patience())), Ok(1));
    check_ret!("read", drain(&mut pages)[0].result, 1);
    Ok(())
}

fn cancel_by_another() -> Check {
    let engine = open()?;
    let mut pages = register(&engine, 1)?;
    let (from, _to) = pipe()?;
    let mut byte = 0_u8;
    let read = calls::read(from.as_raw_fd(), (&raw mut byte).cast(), 1);
    let slot = stage(&mut pages, read);
    let canceller = pages.canceller();
    std::thread::scope(|scope| {
        let other = scope.spawn(|| -> Check {
            blocked(&engine, 1)?;
            check_eq!("cancel", canceller.cancel(slot), Ok(true));
            Ok(())
        });
        check_eq!("all", pages.wait(Wait::all().timeout(patience())), Ok(1));
        other.join().expect("no panic")
    })?;
    check_ret!("read", drain(&mut pages)[0].result, -libc::EINTR);
    Ok(())
}

fn pools() -> Check {
    need_root()?;
    let engine = open()?;
    let mut pages = register(&engine, 1)?;
    check_eq!(
        "no pool",
        engine.pool(3, PoolParam::Nice),
        Err(Error::NoPool(3))
    );
    check_eq!(
        "no counters",
        engine.pool_stats(3).map(|_| ()),
        Err(Error::NoPool(3))
    );
    ok!("nice", engine.set_pool(3, PoolParam::Nice, 5));
    ok!("concurrency", engine.set_pool(3, PoolParam::Concurrency, 1));
    check_eq!("nice", engine.pool(3, PoolParam::Nice), Ok(5));
    check_eq!("concurrency", engine.pool(3, PoolParam::Concurrency), Ok(1));
    let one = CpuSet::from_iter([0]);
    ok!("CPUs", engine.set_pool_cpus(3, &one));
    check_eq!("CPUs", engine.pool_cpus(3), Ok(one));
    check_eq!(
        "CPUs of no pool",
        engine.pool_cpus(4),
        Err(Error::NoPool(4))
    );
    let value = -21_i64 as u64;
    check_eq!(
        "nice -21",
        engine.set_pool(3, PoolParam::Nice, value),
        Err(Error::BadPool {
            pool: 3,
            param: PoolParam::Nice,
            value
        })
    );
    for _ in 0..10 {
        stage(&mut pages, calls::getpid().pool(3));
    }
    ok!("wait", pages.wait(Wait::all().timeout(patience())));
    for done in drain(&mut pages) {
        check_ret!("getpid", done.result, std::process::id());
    }
    let stats = ok!("pool_stats", engine.pool_stats(3));
    check_eq!("executed", stats.executed, 10);
    check_eq!("nice", stats.nice as i64, 5);
    check_eq!("concurrency limit", stats.concurrency, 1);
    check!(
        ok!("stats", engine.stats()).pools >= 2,
        "pools are not counted"
    );
    Ok(())
}

fn orders() -> Check {
    let engine = open()?;
    let mut pages = register(&engine, 2)?;
    let pid = i64::from(std::process::id());
    let parent = plain!(SYS_getppid);
    for order in [Order::Number, Order::IoFirst, Order::Posted] {
        ok!("set_order", engine.set_order(order));
        check_eq!("order", engine.get(Param::Order), Ok(order as u64));
        let mut want = vec![0; pages.capacity()];
        for nth in 0..pages.capacity() {
            let (call, result) = match nth % 3 {
                0 => (calls::getpid(), pid),
                1 => (calls::getppid().asynchronous(), parent),
                _ => (calls::close(-1), -i64::from(libc::EBADF)),
            };
            want[stage(&mut pages, call).index()] = result;
        }
        ok!("wait", pages.wait(Wait::all().timeout(patience())));
        for done in drain(&mut pages) {
            check_ret!("result", done.result, want[done.slot.index()]);
        }
    }
    Ok(())
}

fn both_waits() -> Check {
    let engine = open()?;
    let mut pages = register(&engine, 2)?;
    let before = ok!("stats", engine.stats()).waits;
    for by_ioctl in [false, true, false] {
        pages.set_wait_by_ioctl(by_ioctl);
        for wait in [Wait::all(), Wait::some(100), Wait::any(), Wait::none()] {
            while pages.free() > 0 {
                stage(&mut pages, calls::getppid());
            }
            check_eq!("wait", pages.wait(wait), Ok(128));
            check_eq!("results", drain(&mut pages).len(), 128);
            let empty = Err(Error::NothingToWaitFor);
            check_eq!("any, with nothing posted", pages.wait(Wait::any()), empty);
        }
    }
    let waits = ok!("stats", engine.stats()).waits - before;
    check_eq!("waits", waits, 24);
    Ok(())
}

fn filtered_wait() -> Check {
    for errno in [libc::ENOSYS, libc::EPERM] {
        in_child(|| {
            let engine = open()?;
            let mut pages = register(&engine, 1)?;
            pages.set_fallback(true);
            let nr = abi::FLEXSC_NR_WAIT.into();
            ok!("seccomp", seccomp::refuse_with(nr, errno, false));
            let before = ok!("stats", engine.stats()).waits;
            for _ in 0..3 {
                stage(&mut pages, calls::getppid());
                check_eq!("all", pages.wait(Wait::all()), Ok(1));
                let done = drain(&mut pages);
                check_ret!("getppid", done[0].result, plain!(SYS_getppid));
            }
            // A later waiter knows that the filter refuses the call.
            let mut others = register(&engine, 1)?;
            stage(&mut others, calls::getppid());
            check_eq!("all", others.wait(Wait::all()), Ok(1));
            check_eq!("waits", ok!("stats", engine.stats()).waits - before, 4);
            Ok(())
        })?;
    }
    Ok(())
}

fn eventfd() -> Check {
    let engine = open()?;
    let mut pages = register(&engine, 1)?;
    let mut others = register(&engine, 1)?;
    let fd = plain!(SYS_eventfd2, 0, libc::EFD_NONBLOCK | libc::EFD_CLOEXEC) as i32;
    check!(fd >= 0, "eventfd: {fd}");
    // SAFETY: the descriptor was just made.
    let fd = unsafe { <OwnedFd as std::os::fd::FromRawFd>::from_raw_fd(fd) };
    ok!("set_eventfd", pages.set_eventfd(Some(fd.as_fd())));
    let (from, _to) = pipe()?;
    check_eq!(
        "a pipe",
        pages.set_eventfd(Some(from.as_fd())),
        Err(Error::BadEventFd)
    );
    stage(&mut others, calls::getpid().asynchronous());
    ok!("all", others.wait(Wait::all().timeout(patience())));
    check!(!readable(&fd, Duration::ZERO), "told of others' results");
    stage(&mut pages, calls::getpid().asynchronous());
    ok!("all", pages.wait(Wait::all().timeout(patience())));
    check!(readable(&fd, patience()), "not told of a result");
    ok!("none", pages.set_eventfd(None));
    Ok(())
}

fn adaptive() -> Check {
    let engine = open()?;
    let mut pages = register(&engine, 1)?;
    let (from, to) = pipe()?;
    for _ in 0..rounds(50) {
        let mut bytes = [0_u8; 16];
        for byte in &mut bytes {
            let read = calls::read(from.as_raw_fd(), (&raw mut *byte).cast(), 1);
            stage(&mut pages, read);
        }
        write_all(&to, &[1; 16])?;
        let mut left = 16;
        while left > 0 {
            let there = ok!("wait", pages.wait(Wait::adaptive().timeout(patience())));
            check!((1..=left).contains(&there), "{there} results of {left}");
            let done = drain(&mut pages);
            check!(done.iter().all(|done| done.result == 1), "{done:?}");
            left -= done.len();
        }
    }
    Ok(())
}

fn drain_all() -> Check {
    let engine = open()?;
    let mut pages = register(&engine, 3)?;
    let parent = plain!(SYS_getppid);
    for count in [1, 64, 65, 192, 10] {
        for _ in 0..count {
            stage(&mut pages, calls::getppid());
        }
        check_eq!("wait", pages.wait(Wait::all()), Ok(count));
        let half: Vec<_> = pages.drain().take(count / 2).collect();
        check_eq!("half", half.len(), count / 2);
        let rest = count - half.len();
        check_eq!("those that are left", pages.wait(Wait::none()), Ok(rest));
        let rest: Vec<_> = pages.drain().collect();
        check_eq!("results", half.len() + rest.len(), count);
        for done in half.iter().chain(&rest) {
            check_ret!("getppid", done.result, parent);
        }
        check_eq!("none left", pages.drain().count(), 0);
        check_eq!("in flight", pages.in_flight(), 0);
    }
    Ok(())
}
