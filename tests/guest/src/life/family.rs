// SPDX-License-Identifier: MIT OR Apache-2.0
//! Several processes, engines and threads at once; children.

use std::sync::Barrier;

use nix::errno::Errno;

use super::Busy;
use crate::check::Check;
use crate::entries::states::{check_echoes, echo};
use crate::kit::abi::{self, Policy, Wait};
use crate::kit::child::{End, in_child, reap, spawn};
use crate::kit::clone::in_vm_child;
use crate::kit::engine::{self, Engine};
use crate::kit::files::{memory_file, pipe, read_byte, write_all};
use crate::kit::memory;
use crate::kit::mode::{Mode, in_modes};
use crate::kit::ring::{Call, Ring};
use crate::kit::{process, rounds, sys, until};

tests! { "life":
    two_processes => "two processes at once, each with its own engine and results";
    two_engines => "two engines in one process do not disturb each other";
    threads_with_own_pages => "8 threads, each with pages of its own in one engine, in every mode";
    threads_with_own_engines => "8 threads, each with an engine of its own, work side by side";
    fork_isolation => "a forked child has no pages: an access is SIGSEGV";
    fork_in_flight => "fork with calls in flight: the parent's calls go on, the child has none";
    fork_many => "forking and ending again and again beside calls in flight";
    vfork_child => "a child that shares the address space is another process: EPERM";
    inherited_descriptor => "a child's inherited descriptor keeps nothing of its parent alive";
}

fn echo_rounds(ring: &mut Ring, base: u64, count: u32) -> Check {
    let file = memory_file()?;
    for round in 0..u64::from(count) {
        let calls: Vec<Call> = (0..64)
            .map(|n| echo(&file, base + round * 64 + n))
            .collect();
        check_echoes(&ring.run_all(&calls)?, |n| base + round * 64 + n as u64)?;
    }
    check_ret!(
        "getpid",
        ring.result(call!(SYS_getpid))?,
        std::process::id()
    );
    Ok(())
}

fn two_processes() -> Check {
    for mode in [Mode::Inline, Mode::Async, Mode::Kick] {
        let work = |base: u64| {
            spawn(move |link| {
                let (_engine, mut ring) = mode.start(1)?;
                link.ready();
                link.wait_go()?;
                echo_rounds(&mut ring, base, rounds(40))
            })
        };
        let (mut one, mut two) = (work(1)?, work(1 << 32)?);
        one.wait_ready()?;
        two.wait_ready()?;
        one.go();
        two.go();
        one.join()?;
        two.join()?;
    }
    Ok(())
}

fn two_engines() -> Check {
    in_modes(1, |_, one| {
        let (engine, mut two) = one.mode.start(1)?;
        let file = memory_file()?;
        for round in 0..u64::from(rounds(20)) {
            let calls = |base: u64| (0..32).map(|n| echo(&file, base + n)).collect::<Vec<_>>();
            let first = one.post_all(&calls(round + 1));
            let second = two.post_all(&calls(round + 1000));
            check_echoes(&two.finish(&second)?, |n| round + 1000 + n as u64)?;
            check_echoes(&one.finish(&first)?, |n| round + 1 + n as u64)?;
        }
        drop(two);
        drop(engine);
        check_ret!("getpid", one.result(call!(SYS_getpid))?, std::process::id());
        Ok(())
    })
}

/// Runs eight threads that start together.
fn eight_threads(work: impl Fn(u64) -> Check + Sync) -> Check {
    let barrier = Barrier::new(8);
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..8)
            .map(|number| {
                let (work, barrier) = (&work, &barrier);
                scope.spawn(move || {
                    barrier.wait();
                    work(number)
                })
            })
            .collect();
        threads
            .into_iter()
            .try_for_each(|thread| thread.join().expect("no panic"))
    })
}

fn threads_with_own_pages() -> Check {
    for mode in Mode::ALL {
        let (engine, _ring) = mode.start(1)?;
        eight_threads(|number| {
            let mut ring = engine.ring(1 + number as u32 % 3)?;
            ring.mode = mode;
            echo_rounds(&mut ring, 1 + (number << 32), rounds(10))?;
            check_eq!("UNREGISTER", ring.unregister(), Ok(0));
            Ok(())
        })
        .map_err(|failure| failure.within(format_args!("mode {mode:?}")))?;
        check_eq!("pages", engine.stats()?.pages, 1);
    }
    Ok(())
}

fn threads_with_own_engines() -> Check {
    let base = process::refcnt();
    for _ in 0..rounds(3) {
        eight_threads(|number| {
            let (_engine, mut ring) = Mode::ALL[number as usize % 4].start(1)?;
            echo_rounds(&mut ring, 1 + (number << 32), 4)
        })?;
    }
    process::until_tasks(1)?;
    process::until_refcnt(base)
}

fn fork_isolation() -> Check {
    let engine = Engine::open()?;
    let mut ring = engine.ring(1)?;
    let (at, len) = ring.base();
    for place in [at, at.wrapping_add(len - 1)] {
        let mut child = spawn(|_| {
            crate::kit::signals::default_action(libc::SIGSEGV)?;
            let byte = memory::peek(place);
            fail!("the child reads {byte:#x} in its parent's pages");
        })?;
        match child.end()? {
            End::Signal {
                signal: libc::SIGSEGV,
                ..
            } => {}
            end => fail!("the child that reads its parent's pages: {end:?}"),
        }
    }
    check_ret!(
        "getpid",
        ring.result(call!(SYS_getpid))?,
        std::process::id()
    );
    Ok(())
}

fn fork_in_flight() -> Check {
    for mode in Mode::ALL {
        let mut busy = Busy::start(mode)?;
        let reads_in_child = &busy.reads;
        in_child(|| {
            process::until_tasks(1)?;
            // The child's copy of the buffers does not change.
            let untouched = |word: &std::sync::atomic::AtomicU16| {
                word.load(std::sync::atomic::Ordering::Relaxed) == u16::MAX
            };
            check!(
                reads_in_child.words.iter().all(untouched),
                "words changed in the child"
            );
            let (_engine, mut ring) = mode.start(1)?;
            check_ret!(
                "getpid",
                ring.result(call!(SYS_getpid))?,
                std::process::id()
            );
            Ok(())
        })?;
        busy.call()?;
        busy.end()?;
    }
    Ok(())
}

fn fork_many() -> Check {
    let mut busy = Busy::start(Mode::Kick)?;
    for _ in 0..rounds(30) {
        let slot = busy.ring.post(call!(SYS_getpid));
        busy.ring.kicked()?;
        in_child(|| Ok(()))?;
        busy.ring.poll_until_done(&[slot])?;
        check_ret!("getpid", busy.ring.reap(slot).result, std::process::id());
    }
    busy.end()
}

fn vfork_child() -> Check {
    let busy = Busy::start(Mode::Inline)?;
    let (fd, id) = (busy.engine.fd(), busy.ring.id);
    let results = in_vm_child(|| {
        let mut wait = Wait::new(id, Policy::None);
        [
            engine::query(fd).map(|_| 0),
            engine::register(fd, 1).map(|_| 0),
            sys::ioctl_with(fd, abi::IOC_WAIT, &mut wait),
            sys::ioctl(fd, abi::IOC_KICK, u64::from(id)),
            sys::ioctl(fd, abi::IOC_UNREGISTER, u64::from(id)),
        ]
    })?;
    check_eq!("ioctls by a vfork child", results, [Err(Errno::EPERM); 5]);
    busy.end()
}

fn inherited_descriptor() -> Check {
    let base = process::refcnt();
    plain!(SYS_prctl, libc::PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0);
    let (from, to) = pipe()?;
    let mut owner = spawn(|link| {
        let mut busy = Busy::start(Mode::Inline)?;
        busy.call()?;
        let mut heir = spawn(|link| {
            plain!(SYS_prctl, libc::PR_SET_PDEATHSIG, 0, 0, 0, 0);
            link.ready();
            check!(read_byte(&from).is_some(), "the test is gone");
            Ok(())
        })?;
        heir.wait_ready()?;
        // The heir outlives this process.
        std::mem::forget(heir);
        link.ready();
        link.wait_go()
    })?;
    owner.wait_ready()?;
    owner.kill()?;
    // The heir's descriptor is all that is left.
    process::until_refcnt(base.map(|count| count + 1))?;
    write_all(&to, b"x")?;
    let mut end = None;
    until("the end of the heir", || {
        end = reap(-1, 0);
        end.is_some()
    })?;
    check_eq!("end of the heir", end, Some(End::Exit(0)));
    process::until_refcnt(base)
}
