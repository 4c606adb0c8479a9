// SPDX-License-Identifier: MIT OR Apache-2.0
//! Signals that the owner of a posted call has pending: which of them the call may take, and what
//! happens to the call when the owner ends.

use std::sync::atomic::{AtomicU32, Ordering};

use crate::check::{Check, Ret};
use crate::kit::abi::{self, Ctrl, Param};
use crate::kit::child::in_child;
use crate::kit::clone::in_vm_child;
use crate::kit::engine::Engine;
use crate::kit::mode::Mode;
use crate::kit::ring::{Call, Ring};
use crate::kit::{memory, signals, sys, until};

tests! { "guard":
    signals_not_blocked => "a posted read or poll ignores signals that the owner does not block";
    signalfd_owner_ends => "a read of a signalfd whose owner has ended takes a timer's signals";
    stale_restart => "a call whose result looks like a restart code restarts no other call";
}

const SIGNAL: i32 = 41;

/// Blocks or unblocks the signal in the calling thread.
fn mask(how: i32) -> Check {
    let set = 1u64 << (SIGNAL - 1);
    let set = std::ptr::from_ref(&set);
    check_ret!(
        "rt_sigprocmask",
        plain!(SYS_rt_sigprocmask, how, set, 0, 8),
        0
    );
    Ok(())
}

fn signal_file(flags: i32) -> Check<i64> {
    let set = 1u64 << (SIGNAL - 1);
    let fd = plain!(SYS_signalfd4, -1, std::ptr::from_ref(&set), 8, flags);
    check!(fd >= 0, "signalfd4: {}", Ret(fd));
    Ok(fd)
}

/// Returns the answers of a posted read and a posted poll of the signalfd, while the owner sleeps
/// until a process that shares its memory ends. In this sleep the owner handles no signal.
fn posted_while_deaf(engine: &Engine, ring: &mut Ring, fd: i64) -> Check<[i64; 2]> {
    let (owner, process) = (sys::gettid(), std::process::id());
    let (kick, id) = (engine.fd(), ring.id);
    let posted = AtomicU32::new(0);
    let (mut info, mut list) = ([0u8; 128], [fd as u32, 1]);
    std::thread::scope(|scope| {
        // Another process may not kick.
        let helper = scope.spawn(|| {
            until("the posted calls", || posted.load(Ordering::Acquire) != 0)?;
            ok!("KICK", sys::ioctl(kick, abi::IOC_KICK, u64::from(id)));
            Ok(())
        });
        let results = in_vm_child(|| {
            plain!(SYS_tgkill, process, owner, SIGNAL);
            let slots = ring.post_all(&[
                call!(SYS_read, fd, info.as_mut_ptr(), 128).asynchronous(),
                call!(SYS_poll, list.as_mut_ptr(), 1, 0).asynchronous(),
            ]);
            posted.store(1, Ordering::Release);
            ring.poll_until_done(&slots)?;
            Ok([ring.reap(slots[0]).result, ring.reap(slots[1]).result])
        })?;
        helper.join().expect("no panic")?;
        results
    })
}

fn signals_not_blocked() -> Check {
    in_child(|| {
        signals::count_signal(SIGNAL, 0)?;
        let (engine, mut ring) = Mode::Kick.start(1)?;
        let fd = signal_file(libc::SFD_NONBLOCK)?;
        let seen = posted_while_deaf(&engine, &mut ring, fd)?;
        check_eq!("read and poll", seen, [-i64::from(libc::EAGAIN), 0]);
        check_eq!("signals handled", signals::counted(), 1);
        Ok(())
    })
}

/// A timer that sends the signal to the process again and again.
fn periodic_timer() -> Check {
    // struct sigevent: value, signal, SIGEV_SIGNAL
    let mut event = [0u64; 8];
    event[1] = SIGNAL as u64;
    let mut id = 0i32;
    let made = plain!(
        SYS_timer_create,
        libc::CLOCK_MONOTONIC,
        event.as_ptr(),
        std::ptr::from_mut(&mut id)
    );
    check_ret!("timer_create", made, 0);
    let times = [0i64, 2_000_000, 0, 2_000_000];
    let set = plain!(SYS_timer_settime, id, 0, times.as_ptr(), 0);
    check_ret!("timer_settime", set, 0);
    Ok(())
}

const READS: usize = 4;

/// Registers pages, posts these reads, waits until all are asleep, and ends. The mapping stays.
fn post_and_end(engine: &Engine, calls: &[Call]) -> Check<(i32, usize)> {
    let mut ring = engine.ring(1)?;
    ring.post_blocked(calls)?;
    engine.until_stats("blocked reads", |stats| stats.peak_blocked >= READS as u64)?;
    Ok((sys::gettid(), ring.leak().0 as usize))
}

fn signalfd_owner_ends() -> Check {
    in_child(|| {
        mask(libc::SIG_BLOCK)?;
        let engine = Engine::open()?;
        let fd = signal_file(0)?;
        let mut info = [[0u32; 32]; READS];
        let calls = info
            .each_mut()
            .map(|to| call!(SYS_read, fd, to.as_mut_ptr(), 128));
        let (owner, pages) = std::thread::scope(|scope| {
            let owner = scope.spawn(|| post_and_end(&engine, &calls));
            owner.join().expect("no panic")
        })?;
        let gone = format!("/proc/self/task/{owner}");
        until("the owner's end", || !std::path::Path::new(&gone).exists())?;
        periodic_timer()?;
        // The first page's control block.
        let ctrl = memory::at(pages as *const Ctrl, 0);
        until("the results", || {
            ctrl.done.load(Ordering::Acquire).count_ones() as usize == READS
        })?;
        for to in &info {
            check_eq!("signal", to[0], SIGNAL as u32);
            check_eq!("code SI_TIMER", to[2] as i32, -2);
        }
        Ok(())
    })
}

fn stale_restart() -> Check {
    in_child(|| {
        let memory = ok!("memory", sys::open(c"/proc/self/mem", libc::O_RDONLY, 0));
        // 40 s, far longer than the test waits.
        let time = [40i64, 0];
        for _ in 0..4 {
            let (engine, mut ring) = Mode::Async.start(1)?;
            engine.set(Param::MaxThreads, 2)?;
            let nap = ring.post_blocked(&[call!(SYS_nanosleep, time.as_ptr(), 0)])?;
            until("a call that sleeps", || {
                engine.stats().is_ok_and(|stats| stats.peak_blocked >= 1)
            })?;
            ok!("CANCEL", ring.cancel(nap[0]));
            let ended = ring.finish(&nap)?[0].result;
            check_ret!("cancelled", ended, -libc::EINTR);
            // -ERESTART_RESTARTBLOCK
            let started = std::time::Instant::now();
            let slots = ring.post_all(&[call!(SYS_lseek, &memory, -516, 0)]);
            ring.kicked()?;
            ring.poll_until_done(&slots)?;
            let result = ring.finish(&slots)?[0].result;
            check!(
                result == -516 || result == -i64::from(libc::EINTR),
                "lseek: {}",
                Ret(result)
            );
            let took = started.elapsed().as_secs();
            check!(took < 30, "lseek has slept for {took} s");
        }
        Ok(())
    })
}
