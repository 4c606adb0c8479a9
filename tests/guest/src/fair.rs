// SPDX-License-Identifier: MIT OR Apache-2.0
//! An entry is executed in time even if other registrations always have more entries.

use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::chains::flagged;
use crate::check::Check;
use crate::kit::abi::{ENTRY_LOOP, MAX_IDLE_NS, MAX_ROUNDS, PAGE_ENTRIES, Param, Policy};
use crate::kit::engine::Engine;
use crate::kit::files::{memory_file, write_all};
use crate::kit::limits::{self, need_two_cpus, poller_cpu};
use crate::kit::ring::{Call, Ring};
use crate::kit::{patience, rounds, speed, sys, until};

tests! { "fair":
    loop_on_poller => "a loop that a poller takes from the queue strands no entry of other pages";
    order_of_queue => "an entry comes before all but the first page of another registration";
    order_for_poller => "a poller looks at the doorbells after each page of the queue";
    refilled => "a registration that is always refilled does not hold up another one's entries";
    refilled_for_poller => "nor do such a registration's entries hold up a poller's doorbells";
    pages_by_turns => "a page that is always refilled does not hold up the other pages";
    loop_gives_way => "an endless loop lets other entries have the only running thread of its pool";
}

fn loop_on_poller() -> Check {
    need_two_cpus()?;
    for _ in 0..rounds(5) {
        let engine = Engine::open()?;
        engine.set(Param::IdleNs, 0)?;
        engine.set(Param::LoopMax, 2000)?;
        let mut ring = engine.ring(3)?;
        engine.set(Param::PollCpus, 1 << poller_cpu())?;
        engine.until_stats("a poller that sleeps", |s| s.poller_sleeps != 0)?;
        until("NEED_WAKEUP", || ring.needs_kick())?;
        ring.post_at(0, &flagged(call!(SYS_getppid), ENTRY_LOOP));
        for page in 1..3 {
            ring.post_at(page * PAGE_ENTRIES, &call!(SYS_getpid).asynchronous());
        }
        // The owner offloads all pages; the poller takes them from the queue.
        check_eq!("WAIT", ring.wait(Policy::All), Ok(3));
        check_ret!("getppid", ring.reap(0).result, plain!(SYS_getppid));
        for page in 1..3 {
            let done = ring.reap(page * PAGE_ENTRIES);
            check_ret!("getpid", done.result, std::process::id());
        }
    }
    Ok(())
}

/// A page of calls that take their time without sleeping.
fn busy(buffer: &mut [u8], pool: u8) -> Vec<Call> {
    let call = call!(SYS_getrandom, buffer.as_mut_ptr(), buffer.len(), 0);
    vec![call.in_pool(pool).asynchronous(); PAGE_ENTRIES]
}

/// How many pages are kept filled. While one is executed the others wait, for longer than the
/// thread that refills them may be away from its CPU.
const REFILLED: usize = 8;

/// Keeps pages filled until `stop` is set, so that some always wait. `tell` makes other threads
/// execute the posted entries.
fn refill(engine: &Engine, pool: u8, stop: &AtomicBool, tell: fn(&Ring) -> Check) -> Check {
    let mut buffer = vec![0u8; 4000];
    let mut ring = engine.ring(REFILLED as u32)?;
    let calls = busy(&mut buffer, pool);
    let mut posted = vec![Vec::new(); REFILLED];
    let mut page = 0;
    while !stop.load(Ordering::Relaxed) {
        let slots: Vec<usize> = std::mem::take(&mut posted[page]);
        ring.poll_until_done(&slots)?;
        for slot in slots {
            check_ret!("getrandom", ring.reap(slot).result, 4000);
        }
        posted[page] = ring.post_all(&calls);
        tell(&ring)?;
        page = (page + 1) % REFILLED;
    }
    for slots in posted {
        ring.poll_until_done(&slots)?;
    }
    Ok(())
}

/// How many pages of others may be executed before an entry that waits. In fact it is one or two,
/// but on a busy machine this thread sees the result late.
const TURNS: u64 = 40;

/// Runs `work`, which executes `waits` entries, while another registration is kept filled.
fn beside_refills(
    engine: &Engine,
    pool: u8,
    tell: fn(&Ring) -> Check,
    waits: u32,
    mut work: impl FnMut() -> Check,
) -> Check {
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let other = scope.spawn(|| refill(engine, pool, &stop, tell));
        let begun = engine.until_stats("entries executed", |s| s.thread_done > 100);
        let worked = begun.and_then(|_| {
            let mut turns = Vec::new();
            for _ in 0..waits {
                let before = engine.stats()?.thread_done;
                work()?;
                turns.push((engine.stats()?.thread_done - before) / PAGE_ENTRIES as u64);
            }
            // The median: while this thread stands still, many pages may be executed.
            turns.sort_unstable();
            println!("# {turns:?} pages executed before the entries");
            let most = TURNS * u64::from(speed::slow()) / 100;
            let turns = turns[turns.len() / 2];
            check!(turns < most, "{turns} pages executed before an entry");
            Ok(())
        });
        stop.store(true, Ordering::Relaxed);
        let other = other.join().unwrap_or_else(|_| fail!("a panic"));
        worked.and(other)
    })
}

/// A file from which each read of a word takes the next number: it shows the order of calls.
fn numbers(count: u64) -> Check<OwnedFd> {
    let file = memory_file()?;
    let bytes: Vec<u8> = (0..count).flat_map(u64::to_ne_bytes).collect();
    write_all(&file, &bytes)?;
    check_ret!("lseek", plain!(SYS_lseek, &file, 0, libc::SEEK_SET), 0);
    Ok(file)
}

/// Posts full pages, and an entry of another registration while they are executed. Returns how many
/// pages were over at that time, and how many are before it in the order of execution.
fn order_of(
    engine: &Engine,
    pages: impl Fn(Call) -> Call,
    entry: impl Fn(Call) -> Call,
    tell: [fn(&Ring) -> Check; 2],
) -> Check<(u64, u64)> {
    let mut many = engine.ring(REFILLED as u32)?;
    let mut one = engine.ring(1)?;
    let file = numbers(REFILLED as u64 + 1)?;
    let mut found = [u64::MAX; REFILLED + 1];
    let reads = found
        .each_mut()
        .map(|at| call!(SYS_read, &file, std::ptr::from_mut(at), 8));
    let mut buffer = vec![0u8; if limits::slow_kernel() { 4_000 } else { 16_000 }];
    let fill = call!(SYS_getrandom, buffer.as_mut_ptr(), buffer.len(), 0);
    let mut calls = Vec::new();
    for read in &reads[..REFILLED] {
        calls.extend(vec![pages(fill); PAGE_ENTRIES - 1]);
        calls.push(pages(*read));
    }
    let slots = many.post_all(&calls);
    tell[0](&many)?;
    let slot = one.post(entry(reads[REFILLED]));
    tell[1](&one)?;
    let over = slots.chunks(PAGE_ENTRIES);
    let over = over.filter(|page| page.iter().all(|&slot| many.is_done(slot)));
    let over = over.count() as u64;
    one.poll_until_done(&[slot])?;
    many.poll_until_done(&slots)?;
    check_ret!("read", one.reap(slot).result, 8);
    for ring in [one, many] {
        let id = ring.id;
        ok!("munmap", ring.unmap());
        check_eq!("UNREGISTER", engine.unregister(id), Ok(0));
    }
    Ok((over, found[REFILLED]))
}

/// The page that is being executed when the entry comes, and one that has waited longer.
const BEFORE: u64 = 2;

/// Calls `order` until it has given five answers. `order` gives none if the pages have ended before
/// the entry was posted, because this thread was away from its CPU.
fn check_order(mut order: impl FnMut() -> Check<(u64, u64)>) -> Check {
    let mut seen = 0;
    let end = Instant::now() + patience();
    while seen < 5 {
        let (over, before) = order()?;
        println!("# {over} pages over, {before} before the entry");
        check!(
            before <= over + BEFORE,
            "{before} pages executed before the entry, of which {over} were over when it was posted"
        );
        seen += u32::from(over + BEFORE < REFILLED as u64 - 1);
        check!(Instant::now() < end, "no entry was posted in time");
    }
    Ok(())
}

fn order_of_queue() -> Check {
    need_two_cpus()?;
    let engine = Engine::open()?;
    engine.set_pool(1, Param::PoolConcurrency, 1)?;
    let in_pool = |call: Call| call.in_pool(1);
    check_order(|| order_of(&engine, in_pool, in_pool, [Ring::kicked; 2]))
}

fn order_for_poller() -> Check {
    need_two_cpus()?;
    let engine = Engine::open()?;
    engine.set(Param::IdleNs, MAX_IDLE_NS)?;
    engine.set_pool(0, Param::PoolConcurrency, 1)?;
    let ring = engine.ring(1)?;
    engine.set(Param::PollCpus, 1 << poller_cpu())?;
    until("a poller that is awake", || !ring.needs_kick())?;
    // WAIT offloads the entries that the poller would otherwise find at the doorbells, where it
    // finds the other registration's entry.
    let offload = |ring: &Ring| {
        ok!("WAIT", ring.wait(Policy::None));
        Ok(())
    };
    let nobody = |_: &Ring| Ok(());
    let tell: [fn(&Ring) -> Check; 2] = [offload, nobody];
    check_order(|| order_of(&engine, Call::asynchronous, |call| call, tell))
}

fn refilled() -> Check {
    need_two_cpus()?;
    let engine = Engine::open()?;
    engine.set_pool(1, Param::PoolConcurrency, 1)?;
    let mut ring = engine.ring(1)?;
    beside_refills(&engine, 1, Ring::kicked, rounds(10), || {
        let slot = ring.post(call!(SYS_getpid).in_pool(1));
        ring.kicked()?;
        // Sleeps: the other two threads need the CPUs.
        until("getpid", || ring.is_done(slot))?;
        check_ret!("getpid", ring.reap(slot).result, std::process::id());
        Ok(())
    })
}

fn refilled_for_poller() -> Check {
    need_two_cpus()?;
    let engine = Engine::open()?;
    engine.set(Param::IdleNs, MAX_IDLE_NS)?;
    let mut ring = engine.ring(1)?;
    engine.set(Param::PollCpus, 1 << poller_cpu())?;
    until("a poller that is awake", || !ring.needs_kick())?;
    // WAIT offloads the entries that the poller would otherwise find at the doorbells.
    let offload = |ring: &Ring| {
        ok!("WAIT", ring.wait(Policy::None));
        Ok(())
    };
    beside_refills(&engine, 0, offload, rounds(10), || {
        let slot = ring.post(call!(SYS_getpid));
        until("getpid", || ring.is_done(slot))?;
        check_ret!("getpid", ring.reap(slot).result, std::process::id());
        Ok(())
    })
}

fn pages_by_turns() -> Check {
    need_two_cpus()?;
    let engine = Engine::open()?;
    engine.set_pool(1, Param::PoolConcurrency, 1)?;
    let mut ring = engine.ring(3)?;
    let mut buffer = vec![0u8; 16_000];
    let calls = busy(&mut buffer, 1);
    // Two pages before the one that waits; one of them always waits too.
    let fill = |ring: &mut Ring, page: usize| {
        for (n, call) in calls.iter().enumerate() {
            ring.stage(page * PAGE_ENTRIES + n, call);
        }
        ring.ring_bell(page, u64::MAX);
        ring.kicked()
    };
    for page in 0..2 {
        fill(&mut ring, page)?;
    }
    let last = 2 * PAGE_ENTRIES;
    ring.post_at(last, &call!(SYS_getpid).in_pool(1));
    ring.kicked()?;
    let mut refills = 0;
    for page in [0, 1].into_iter().cycle() {
        let slots: Vec<usize> = (page * PAGE_ENTRIES..(page + 1) * PAGE_ENTRIES).collect();
        ring.poll_until_done(&slots)?;
        for slot in slots {
            ring.reap(slot);
        }
        if ring.is_done(last) {
            break;
        }
        refills += 1;
        check!(refills < 5, "not executed in {refills} rounds");
        fill(&mut ring, page)?;
    }
    check_ret!("getpid", ring.reap(last).result, std::process::id());
    Ok(())
}

/// Measures how long an endless loop keeps another entry of its pool waiting.
fn wait_for_loop() -> Check<Duration> {
    let engine = Engine::open()?;
    engine.set_pool(1, Param::PoolConcurrency, 1)?;
    // A thread that is alone on its CPU is never told to reschedule.
    engine.set_pool(1, Param::PoolCpus, 1 << poller_cpu())?;
    engine.set(Param::LoopMax, MAX_ROUNDS)?;
    let mut looping = engine.ring(1)?;
    let mut ring = engine.ring(1)?;
    let endless = looping.post(flagged(call!(SYS_getppid), ENTRY_LOOP).in_pool(1));
    looping.kicked()?;
    engine.until_pool(1, "a running thread", |s| s.running == 1)?;
    let begin = Instant::now();
    let slot = ring.post(call!(SYS_getpid).in_pool(1));
    ring.kicked()?;
    ring.poll_until_done(&[slot])?;
    let took = begin.elapsed();
    check_ret!("getpid", ring.reap(slot).result, std::process::id());
    check!(!looping.is_done(endless), "the loop has ended");
    ok!("CANCEL", looping.cancel(endless));
    looping.poll_until_done(&[endless])?;
    check!(engine.stats()?.loop_rounds > 0, "there were no rounds");
    Ok(took)
}

fn loop_gives_way() -> Check {
    need_two_cpus()?;
    ok!("sched_setaffinity", sys::pin(1 - poller_cpu()));
    const TIMES: usize = 11;
    let mut times = Vec::new();
    for _ in 0..TIMES {
        times.push(wait_for_loop()?);
    }
    // A loop's turn is four milliseconds. Without this limit, only other work on its CPU would end
    // the turn, after a hundred or so. The machine may stand still in some of these times.
    times.sort_unstable();
    println!("# {times:?}");
    let most = if limits::slow_kernel() { 400 } else { 40 };
    let most = Duration::from_millis(most);
    let median = times[TIMES / 2];
    let good = speed::is_within(median, most);
    check!(good, "another entry waited {median:?}, not {most:?}");
    Ok(())
}
