// SPDX-License-Identifier: MIT OR Apache-2.0
//! The work that a plain call does on its way to user space is done after each entry of a row that
//! the owner executes, and not only after the last one.

use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicI32, AtomicU32, Ordering};
use std::time::Instant;

use crate::check::Check;
use crate::kit::abi::Policy;
use crate::kit::cgroup::Cgroup;
use crate::kit::child::in_child;
use crate::kit::clone::in_apart_thread;
use crate::kit::engine::Engine;
use crate::kit::files::memory_file;
use crate::kit::limits::{need_two_cpus, slow_kernel};
use crate::kit::{patience, sys, until};

tests! { "guard":
    throttled_between => "a row of writes over memory.high is throttled between two of them";
    rseq_between => "a row that is moved to another CPU finds its rseq area up to date";
}

const PAGE: usize = 4096;

/// `high` of memory.events.
fn high_events(text: &[u8]) -> Check<u64> {
    let text = String::from_utf8_lossy(text);
    let line = text.lines().find_map(|line| line.strip_prefix("high "));
    match line.and_then(|count| count.parse().ok()) {
        Some(count) => Ok(count),
        None => fail!("no \"high\" in memory.events: {text}"),
    }
}

/// Entries that write pages of new memory, between two that read memory.events. The kernel charges
/// 64 pages at a time, and acts on the limit when the task is on its way to user space.
fn throttled_between() -> Check {
    const WRITES: usize = 32;
    const FILLED: usize = 12_000;
    let group = Cgroup::new(Some("memory"))?;
    in_child(|| {
        group.enter()?;
        let engine = Engine::open()?;
        let mut ring = engine.ring(1)?;
        let file = memory_file()?;
        let events = group.file("memory.events");
        let events = ok!("memory.events", sys::open(&events, libc::O_RDONLY, 0));
        let page = [7u8; PAGE];
        let mut filled = 0;
        let mut next = || {
            filled += 1;
            call!(
                SYS_pwrite64,
                &file,
                page.as_ptr(),
                PAGE,
                (filled - 1) * PAGE
            )
        };
        for _ in 0..FILLED {
            let call = next();
            check_ret!(
                "write",
                sys::syscall(libc::SYS_pwrite64, call.args),
                PAGE as u32
            );
        }
        let current = group.read("memory.current");
        group.write("memory.high", current.trim())?;
        let end = Instant::now() + patience();
        let (mut rounds, mut inside) = (0, 0);
        while inside < 3 {
            check!(
                rounds < 40 && Instant::now() < end,
                "{rounds} rows of writes over memory.high, {inside} of them throttled inside"
            );
            let mut texts = [[0u8; 256]; 2];
            let read =
                |text: &mut [u8; 256]| call!(SYS_pread64, &events, text.as_mut_ptr(), 256, 0);
            let [first, last] = texts.each_mut().map(read);
            let mut calls = vec![first];
            calls.extend((0..WRITES).map(|_| next()));
            calls.push(last);
            for done in &ring.run_all(&calls)?[1..=WRITES] {
                check_ret!("write", done.result, PAGE as u32);
            }
            let [first, last] = [high_events(&texts[0])?, high_events(&texts[1])?];
            inside += u32::from(last > first);
            rounds += 1;
        }
        println!("# {inside} of {rounds} rows were throttled inside");
        Ok(())
    })
}

/// `struct rseq`: the second word is the CPU.
#[repr(C, align(32))]
struct Rseq([AtomicU32; 8]);

const SIGNATURE: u32 = 0x5305_3053;

/// How often the row looks at the CPU in the area.
const LOOKS: usize = 31;

/// Posts entries that write the CPU in this thread's area to a file, and others that take some time
/// between them. Returns false if one of them has slept: then other threads have executed the rest.
fn look_at_cpu(file: &OwnedFd, owner: &AtomicI32) -> Check<bool> {
    let area = Rseq(std::array::from_fn(|_| AtomicU32::new(0)));
    area.0[1].store(u32::MAX, Ordering::Relaxed);
    let at = std::ptr::from_ref(&area);
    let registered = plain!(SYS_rseq, at, size_of::<Rseq>() as u32, 0, SIGNATURE);
    check_ret!("rseq", registered, 0);
    ok!("sched_setaffinity", sys::pin(0));
    let engine = Engine::open()?;
    let mut ring = engine.ring(1)?;
    // Its pages are present.
    let mut buffer = vec![1u8; if slow_kernel() { 1 << 18 } else { 1 << 20 }];
    let mut calls = Vec::new();
    for look in 0..LOOKS {
        let cpu = area.0[1].as_ptr();
        calls.push(call!(SYS_pwrite64, file, cpu, 4, look * 4));
        calls.push(call!(SYS_getrandom, buffer.as_mut_ptr(), buffer.len(), 0));
    }
    owner.store(sys::gettid(), Ordering::Release);
    let slots = ring.post_all(&calls);
    let waited = ring.wait(Policy::All);
    check_eq!("ALL", waited, Ok(calls.len() as u64));
    for slot in slots {
        check!(ring.reap(slot).result >= 4, "a call of the row has failed");
    }
    let inline = engine.stats()?.inline_done;
    let removed = plain!(SYS_rseq, at, size_of::<Rseq>() as u32, 1, SIGNATURE);
    check_ret!("rseq", removed, 0);
    Ok(inline == calls.len() as u64)
}

/// Returns the number of looks so far.
fn looks(file: &OwnedFd) -> usize {
    plain!(SYS_lseek, file, 0, libc::SEEK_END) as usize / 4
}

fn rseq_between() -> Check {
    need_two_cpus()?;
    let end = Instant::now() + patience();
    let mut good = 0;
    while good < 3 {
        check!(Instant::now() < end, "the row is always over too soon");
        let (file, owner) = (memory_file()?, AtomicI32::new(0));
        let (inline, moved) = std::thread::scope(|scope| -> Check<(bool, usize)> {
            let mover = scope.spawn(|| -> Check<usize> {
                ok!("sched_setaffinity", sys::pin(1));
                until("the first look", || looks(&file) > 0)?;
                let mask = 0b10u64;
                let at = std::ptr::from_ref(&mask);
                let owner = owner.load(Ordering::Acquire);
                check_ret!("move", plain!(SYS_sched_setaffinity, owner, 8, at), 0);
                Ok(looks(&file))
            });
            let mut ran = Ok(false);
            let shared = libc::CLONE_FILES | libc::CLONE_FS | libc::CLONE_SYSVSEM;
            let apart = in_apart_thread(shared, || ran = look_at_cpu(&file, &owner));
            let moved = mover.join().expect("no panic");
            apart?;
            Ok((ran?, moved?))
        })?;
        if !inline {
            continue;
        }
        // Of the looks after the move, the first may have begun before it.
        let mut cpus = [0u32; LOOKS];
        let read = plain!(SYS_pread64, &file, cpus.as_mut_ptr(), size_of_val(&cpus), 0);
        check_ret!("pread", read, size_of_val(&cpus) as u32);
        check_eq!("CPU before the move", cpus[0], 0);
        for (look, cpu) in cpus.iter().enumerate().skip(moved + 1) {
            check_eq!(
                format!("CPU, look {look} of a row moved at {moved}"),
                *cpu,
                1
            );
        }
        good += u32::from(moved + 2 < LOOKS);
    }
    Ok(())
}
